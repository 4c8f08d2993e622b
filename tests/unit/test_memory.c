/* SPDX-License-Identifier: Apache-2.0
 * Memory from the system: present pages, sealed files, huge pages as they are wished, NUMA nodes.
 *
 * Tests with reserved huge pages reserve some while they run, if they may. */
#include "memory.h"

#include "log.h"
#include "pages.h"
#include "pool.h"
#include "slab.h"
#include "util.h"

#include <haul/error.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define UNIT ((size_t)HAUL_SLAB_UNIT)

static const struct haul_memory_wish automatic = {.hugepages = HAUL_HUGEPAGES_AUTO};
static const struct haul_memory_wish never = {.hugepages = HAUL_HUGEPAGES_NEVER};
static const struct haul_memory_wish require = {.hugepages = HAUL_HUGEPAGES_REQUIRE};

static struct haul_mapping map(size_t units, bool as_file, const struct haul_memory_wish *wish)
{
    struct haul_mapping mapping;
    if (haul_memory_map(units * UNIT, as_file, wish, &mapping))
        fail_msg("%zu units: %s", units, haul_error_detail());
    assert_int_equal(mapping.bytes, units * UNIT);
    assert_int_equal((uintptr_t)mapping.base % UNIT, 0);
    assert_int_equal(mapping.file >= 0, as_file);
    return mapping;
}

static void assert_refused(size_t units, const char *const sentences[], size_t count)
{
    struct haul_mapping mapping;
    assert_int_equal(haul_memory_map(units * UNIT, false, &require, &mapping), HAUL_NO_MEMORY);
    for (size_t i = 0; i < count; i++)
        if (!strstr(haul_error_detail(), sentences[i]))
            fail_msg("\"%s\" is not in \"%s\"", sentences[i], haul_error_detail());
    assert_null(mapping.base);
    assert_int_equal(mapping.file, -1);
}

/* The line that /proc/self/smaps has of the mapping that an address is in, without its name. */
static void read_smaps(const void *address, const char *name, char *text, size_t size)
{
    char line[512];
    bool found = false;
    size_t length = strlen(name);
    FILE *file = fopen("/proc/self/smaps", "re");
    assert_non_null(file);
    text[0] = '\0';
    while (!*text && fgets(line, sizeof line, file)) {
        uintptr_t start, end;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
            found = start <= (uintptr_t)address && (uintptr_t)address < end;
        else if (found && !strncmp(line, name, length))
            snprintf(text, size, "%s", line + length);
    }
    fclose(file);
}

static unsigned long read_kib(const void *address, const char *name)
{
    char text[512];
    read_smaps(address, name, text, sizeof text);
    return strtoul(text, NULL, 10);
}

static bool has_flag(const void *address, const char *flag)
{
    char text[512];
    read_smaps(address, "VmFlags:", text, sizeof text);
    return strstr(text, flag);
}

/* ---- Mappings -------------------------------------------------------------------------------- */

static void mappings_are_aligned_and_present(void **state)
{
    (void)state;
    static const size_t units[] = {1, 3, 32};
    const struct haul_memory_wish *const wishes[] = {NULL, &automatic, &never};
    for (size_t i = 0; i < HAUL_COUNT_OF(units); i++)
        for (size_t j = 0; j < HAUL_COUNT_OF(wishes); j++)
            for (int as_file = 0; as_file < 2; as_file++) {
                struct haul_mapping mapping = map(units[i], as_file, wishes[j]);
                assert_true(is_present(mapping.base, mapping.bytes));
                memset(mapping.base, 1, mapping.bytes);
                haul_memory_unmap(&mapping);
            }
}

static void very_large_files_only_are_whole(void **state)
{
    (void)state;
    struct haul_mapping mapping = map(33, false, &never);
    assert_false(is_present(mapping.base, mapping.bytes));
    haul_memory_unmap(&mapping);
    mapping = map(33, true, &never);
    assert_true(is_present(mapping.base, mapping.bytes));
    haul_memory_unmap(&mapping);
}

static void what_is_unmapped_is_gone(void **state)
{
    (void)state;
    struct haul_mapping mapping = map(1, true, NULL), old = mapping;
    haul_memory_unmap(&mapping);
    assert_null(mapping.base);
    assert_int_equal(fcntl(old.file, F_GETFD), -1);
    assert_int_equal(msync(old.base, old.bytes, MS_ASYNC), -1);
    haul_memory_unmap(&mapping);
}

static void assert_sealed(const struct haul_mapping *mapping)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    struct stat status;
    assert_int_equal(fcntl(mapping->file, F_GET_SEALS), seals);
    assert_int_equal(fcntl(mapping->file, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(mapping->file, &status), 0);
    assert_int_equal(status.st_size, mapping->bytes);
    assert_int_equal((size_t)status.st_blocks * 512, mapping->bytes);
    assert_int_equal(fallocate(mapping->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                               (off_t)mapping->bytes),
                     -1);
    assert_ptr_equal(mmap(NULL, mapping->bytes, PROT_WRITE, MAP_SHARED, mapping->file, 0),
                     MAP_FAILED);
    char *view = mmap(NULL, mapping->bytes, PROT_READ, MAP_SHARED, mapping->file, 0);
    assert_ptr_not_equal(view, MAP_FAILED);
    mapping->base[mapping->bytes - 1] = 7;
    assert_int_equal(view[mapping->bytes - 1], 7);
    munmap(view, mapping->bytes);
}

static void files_are_sealed(void **state)
{
    (void)state;
    const struct haul_memory_wish *const wishes[] = {NULL, &never};
    for (size_t i = 0; i < HAUL_COUNT_OF(wishes); i++) {
        struct haul_mapping mapping = map(2, true, wishes[i]);
        assert_sealed(&mapping);
        assert_int_equal(lseek(mapping.file, 0, SEEK_HOLE), mapping.bytes);
        haul_memory_unmap(&mapping);
    }
}

/* Of the descriptors half are left to connections. */
static void without_descriptors_it_is_private_memory(void **state)
{
    (void)state;
    struct rlimit limit, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = 2;
    struct haul_mapping mapping;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int err = haul_memory_map(UNIT, true, &automatic, &mapping);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(err, 0);
    assert_int_equal(mapping.file, -1);
    assert_true(is_present(mapping.base, mapping.bytes));
    haul_memory_unmap(&mapping);
}

static void no_memory_is_told_with_advice(void **state)
{
    (void)state;
    struct haul_mapping mapping;
    const size_t bytes = SIZE_MAX / 4 / UNIT * UNIT;
    assert_int_equal(haul_memory_map(bytes, false, NULL, &mapping), HAUL_NO_MEMORY);
    assert_non_null(strstr(haul_error_detail(), "lower HAUL_POOL_MAX"));
    assert_null(mapping.base);
}

/* ---- Huge pages ------------------------------------------------------------------------------ */

static void transparent_huge_pages_are_asked_for_unless_never(void **state)
{
    (void)state;
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK)) {
        print_message("the kernel has no transparent huge pages\n");
        skip();
    }
    struct haul_mapping plain = map(1, false, NULL), small = map(1, false, &never);
    struct haul_mapping file = map(1, true, NULL), small_file = map(1, true, &never);
    assert_true(has_flag(plain.base, " hg"));
    assert_true(has_flag(file.base, " hg"));
    assert_true(has_flag(small.base, " nh"));
    assert_false(has_flag(small_file.base, " hg"));
    assert_int_equal(read_kib(small.base, "AnonHugePages:"), 0);
    haul_memory_unmap(&plain);
    haul_memory_unmap(&small);
    haul_memory_unmap(&file);
    haul_memory_unmap(&small_file);
}

static size_t read_number(const char *path)
{
    size_t number = 0;
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%zu", &number) != 1)
        number = 0;
    if (file)
        fclose(file);
    return number;
}

static size_t reserved_pages_left(void)
{
    return read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages") -
           read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages");
}

/* With overcommit the system makes more pages when they are asked for. */
static bool reserved_pages_are_counted(void)
{
    return !read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages");
}

static void what_is_required_and_missing_is_an_error(void **state)
{
    (void)state;
    if (!reserved_pages_are_counted()) {
        print_message("the system overcommits huge pages\n");
        skip();
    }
    char wanted[64];
    size_t left = reserved_pages_left(), units = left + 3;
    snprintf(wanted, sizeof wanted, "needs more of them (%zu) than are free (%zu)", units, left);
    const char *const sentences[] = {"reserved huge pages of 2 MiB", wanted, "vm.nr_hugepages",
                                     "HAUL_HUGEPAGES=auto"};
    assert_refused(units, sentences, HAUL_COUNT_OF(sentences));
}

/* ---- Reserved huge pages --------------------------------------------------------------------- */

enum { RESERVED = 4 };

static const char reserved_file[] = "/proc/sys/vm/nr_hugepages";
static size_t reserved_before;
static bool has_raised;

static bool write_reserved(size_t pages)
{
    FILE *file = fopen(reserved_file, "we");
    bool done = file && fprintf(file, "%zu\n", pages) > 0;
    if (file && fclose(file))
        done = false;
    return done;
}

/* Raises their number for a test; restore_reserved() undoes it, whatever became of the test. */
static int reserve(void **state)
{
    (void)state;
    reserved_before = read_number(reserved_file);
    has_raised = write_reserved(reserved_before + RESERVED);
    return 0;
}

static int restore_reserved(void **state)
{
    (void)state;
    if (has_raised && !write_reserved(reserved_before))
        return -1;
    has_raised = false;
    return read_number(reserved_file) == reserved_before ? 0 : -1;
}

static void skip_without_reserved(void)
{
    if (has_raised && reserved_pages_left() >= RESERVED)
        return;
    print_message("no huge pages can be reserved: %s\n",
                  has_raised ? "the system has no memory for them, or none of 2 MiB"
                             : "it takes root and a writable /proc/sys");
    skip();
}

static bool is_reserved(const char *base)
{
    return read_kib(base, "KernelPageSize:") == 2048;
}

static void reserved_pages_are_taken_when_required(void **state)
{
    (void)state;
    skip_without_reserved();
    size_t left = reserved_pages_left();
    struct haul_mapping mapping = map(RESERVED, false, &require);
    assert_true(is_reserved(mapping.base));
    assert_true(is_present(mapping.base, mapping.bytes));
    assert_int_equal(reserved_pages_left(), left - RESERVED);
    memset(mapping.base, 1, mapping.bytes);
    haul_memory_unmap(&mapping);
    assert_int_equal(reserved_pages_left(), left);
}

/* Files neither: peers that look into them trust ordinary ones only. */
static void else_reserved_pages_are_left_alone(void **state)
{
    const struct haul_memory_wish *const wishes[] = {NULL, &automatic, &never, &require};
    (void)state;
    skip_without_reserved();
    size_t left = reserved_pages_left();
    for (size_t i = 0; i < HAUL_COUNT_OF(wishes); i++) {
        for (int as_file = wishes[i] == &require; as_file < 2; as_file++) {
            struct haul_mapping mapping = map(1, as_file, wishes[i]);
            assert_false(is_reserved(mapping.base));
            assert_int_equal(reserved_pages_left(), left);
            if (as_file)
                assert_sealed(&mapping);
            haul_memory_unmap(&mapping);
        }
    }
}

static void with_too_few_left_it_fails(void **state)
{
    (void)state;
    skip_without_reserved();
    if (!reserved_pages_are_counted()) {
        print_message("the system overcommits huge pages\n");
        skip();
    }
    const char *const sentences[] = {"needs more of them (2) than are free (1)"};
    struct haul_mapping most = map(reserved_pages_left() - 1, false, &require);
    assert_refused(2, sentences, HAUL_COUNT_OF(sentences));
    assert_int_equal(reserved_pages_left(), 1);
    haul_memory_unmap(&most);
}

static int map_without_populate(void)
{
    struct haul_mapping mapping;
    if (haul_memory_map(2 * UNIT, false, &automatic, &mapping))
        return 1;
    if (!is_present(mapping.base, mapping.bytes))
        return 2;
    haul_memory_unmap(&mapping);
    if (haul_memory_map(2 * UNIT, false, &require, &mapping) != HAUL_NO_MEMORY)
        return 3;
    return strstr(haul_error_detail(), "5.14") ? 0 : 4;
}

static void old_kernels_leave_reserved_pages_alone(void **state)
{
    (void)state;
    skip_without_reserved();
    run_without_populate(map_without_populate);
}

/* The wish is looked at when a slab is mapped, and may change. */
static void pools_pass_the_wish_on(void **state)
{
    (void)state;
    skip_without_reserved();
    struct haul_memory_wish wish = never;
    struct haul_pool *pool;
    struct haul_block *small, *huge;
    const struct haul_pool_hooks hooks = {.wish = &wish};
    assert_int_equal(haul_pool_create(8 * UNIT, &hooks, &pool), 0);
    assert_int_equal(haul_pool_alloc(pool, UNIT, 0, &small), 0);
    wish = require;
    assert_int_equal(haul_pool_alloc(pool, UNIT, 0, &huge), 0);
    assert_false(is_reserved(small->data));
    assert_true(is_reserved(huge->data));
    haul_block_release(small);
    haul_block_release(huge);
    haul_pool_release(pool);
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

static struct haul_set set_of_all(void)
{
    struct haul_set set;
    memset(&set, 0xFF, sizeof set);
    return set;
}

static void count_or_skip(const struct haul_mapping *mapping, const struct haul_set *nodes,
                          size_t samples, struct haul_page_count *count)
{
    if (haul_memory_count_pages(mapping->base, mapping->bytes, nodes, samples, count))
        return;
    assert_int_equal(count->looked, 0);
    print_message("the kernel does not tell where pages are: %s\n", strerror(errno));
    skip();
}

static void assert_counts(const struct haul_mapping *mapping, size_t samples, size_t looked)
{
    const struct haul_set all = set_of_all(), none = {{0}};
    struct haul_set first = {{0}};
    struct haul_page_count count;
    haul_set_add(&first, 0);
    count_or_skip(mapping, &all, samples, &count);
    assert_int_equal(count.looked, looked);
    assert_int_equal(count.present, looked);
    assert_int_equal(count.on_nodes, looked);
    count_or_skip(mapping, &none, samples, &count);
    assert_int_equal(count.present, looked);
    assert_int_equal(count.on_nodes, 0);
    if (haul_topology_node_count() > 1)
        return;
    count_or_skip(mapping, &first, samples, &count);
    assert_int_equal(count.on_nodes, looked);
}

static void pages_are_counted_by_node(void **state)
{
    (void)state;
    size_t pages = 3 * UNIT / (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 4; i++) {
        struct haul_mapping mapping = map(3, i / 2, i % 2 ? &never : NULL);
        assert_counts(&mapping, SIZE_MAX, pages);
        assert_counts(&mapping, pages, pages);
        assert_counts(&mapping, 100, 100);
        assert_counts(&mapping, 1, 1);
        assert_counts(&mapping, 0, 0);
        haul_memory_unmap(&mapping);
    }
}

static void reserved_pages_are_counted_by_node(void **state)
{
    (void)state;
    skip_without_reserved();
    struct haul_mapping mapping = map(RESERVED, false, &require);
    assert_counts(&mapping, 100, 100);
    haul_memory_unmap(&mapping);
}

/* Samples lie evenly: one of two is in each half. */
static void pages_that_are_not_there_are_not_counted(void **state)
{
    (void)state;
    const struct haul_set all = set_of_all();
    struct haul_page_count count;
    struct haul_mapping mapping = map(40, false, &never);
    count_or_skip(&mapping, &all, 300, &count);
    assert_int_equal(count.looked, 300);
    assert_int_equal(count.present, 0);
    assert_int_equal(count.on_nodes, 0);
    memset(mapping.base + 20 * UNIT, 1, 20 * UNIT);
    count_or_skip(&mapping, &all, 2, &count);
    assert_int_equal(count.present, 1);
    count_or_skip(&mapping, &all, 300, &count);
    assert_int_equal(count.looked, 300);
    assert_int_equal(count.present, 150);
    assert_int_equal(count.on_nodes, 150);
    haul_memory_unmap(&mapping);
}

static void keep_line(enum haul_log_level level, const char *line, void *arg)
{
    int *lines = arg;
    if (level == HAUL_LOG_WARNING && strstr(line, "comes from any NUMA node"))
        ++*lines;
}

static void memory_that_cannot_be_bound_comes_from_anywhere(void **state)
{
    (void)state;
    int lines = 0;
    const struct haul_topology elsewhere = {.origin = "a file"};
    struct haul_memory_wish wish = {.topology = &elsewhere};
    haul_log_set(keep_line, &lines);
    for (int i = 0; i < 6; i++) {
        if (i == 2) /* before that none is chosen */
            haul_set_add(&wish.nodes, 0);
        struct haul_mapping mapping = map(1, i % 2, &wish);
        assert_true(is_present(mapping.base, mapping.bytes));
        haul_memory_unmap(&mapping);
        assert_int_equal(lines, i < 2 ? 0 : 1); /* it is said once */
    }
    haul_log_set(NULL, NULL);
}

/* Returns -1 where the kernel does not tell. */
static int policy_of(const void *address)
{
    int policy = -1;
    unsigned long nodes[HAUL_SET_MAX / 64];
    if (syscall(SYS_get_mempolicy, &policy, nodes, (unsigned long)HAUL_SET_MAX, address,
                2ul /* MPOL_F_ADDR */))
        return -1;
    return policy;
}

static void assert_bound(const struct haul_memory_wish *wish, bool as_file)
{
    struct haul_mapping mapping = map(2, as_file, wish);
    assert_true(is_present(mapping.base, mapping.bytes));
    assert_counts(&mapping, 100, 100);
    assert_int_not_equal(policy_of(mapping.base), 0); /* MPOL_DEFAULT */
    assert_int_not_equal(policy_of(mapping.base + mapping.bytes - 1), 0);
    haul_memory_unmap(&mapping);
}

static int load_topology(void **state)
{
    struct haul_topology *topology;
    if (haul_topology_load(NULL, &topology))
        return -1;
    *state = topology;
    return reserve(state);
}

static int free_topology(void **state)
{
    haul_topology_free(*state);
    return restore_reserved(state);
}

static void memory_is_bound_to_its_nodes(void **state)
{
    const struct haul_topology *topology = *state;
    if (*topology->unknown || !topology->is_this_machine) {
        print_message("the machine is not known: %s\n", topology->unknown);
        skip();
    }
    struct haul_memory_wish wish = {
        .hugepages = HAUL_HUGEPAGES_NEVER, .topology = topology, .nodes = topology->mems};
    struct haul_mapping unbound = map(1, false, &never);
    int policy = policy_of(unbound.base);
    haul_memory_unmap(&unbound);
    if (policy != 0) {
        print_message("the kernel tells no policies, or the process has one\n");
        skip();
    }
    for (int i = 0; i < 4; i++) {
        wish.hugepages = i / 2 ? HAUL_HUGEPAGES_AUTO : HAUL_HUGEPAGES_NEVER;
        assert_bound(&wish, i % 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings_are_aligned_and_present),
        cmocka_unit_test(very_large_files_only_are_whole),
        cmocka_unit_test(what_is_unmapped_is_gone),
        cmocka_unit_test(files_are_sealed),
        cmocka_unit_test(without_descriptors_it_is_private_memory),
        cmocka_unit_test(no_memory_is_told_with_advice),
        cmocka_unit_test(transparent_huge_pages_are_asked_for_unless_never),
        cmocka_unit_test(what_is_required_and_missing_is_an_error),
        cmocka_unit_test_setup_teardown(reserved_pages_are_taken_when_required, reserve,
                                        restore_reserved),
        cmocka_unit_test_setup_teardown(else_reserved_pages_are_left_alone, reserve,
                                        restore_reserved),
        cmocka_unit_test_setup_teardown(with_too_few_left_it_fails, reserve, restore_reserved),
        cmocka_unit_test_setup_teardown(old_kernels_leave_reserved_pages_alone, reserve,
                                        restore_reserved),
        cmocka_unit_test_setup_teardown(pools_pass_the_wish_on, reserve, restore_reserved),
        cmocka_unit_test(pages_are_counted_by_node),
        cmocka_unit_test_setup_teardown(reserved_pages_are_counted_by_node, reserve,
                                        restore_reserved),
        cmocka_unit_test(pages_that_are_not_there_are_not_counted),
        cmocka_unit_test(memory_that_cannot_be_bound_comes_from_anywhere),
        cmocka_unit_test_setup_teardown(memory_is_bound_to_its_nodes, load_topology, free_topology),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
