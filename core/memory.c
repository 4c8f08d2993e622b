/* SPDX-License-Identifier: Apache-2.0
 * Memory from the system, faulted in before anybody sees it.
 *
 * It is bound to its nodes while it has no page yet: a page that is there stays where it is.
 *
 * Huge pages are transparent ones, which the kernel makes where it can. Those that an administrator
 * has reserved are taken only when the user insists on them: in a child of fork() memory made of
 * them ends in SIGBUS when none is left to copy to, and others may have been promised them. Memory
 * files stay ordinary ones even then: peers look into those, and trust no other kind.
 *
 * A very large private mapping of ordinary memory is faulted in as it is used (but a file, which
 * has to be whole): it takes long, under the drive lock, and for a peer's word only. */
#include "memory.h"

#include "error.h"
#include "log.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAULT_IN_MAX ((size_t)64 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

enum { HUGE_2MB = 21 << 26 }; /* the kernel's MAP_HUGE_2MB: the size's logarithm */

/* ---- Wishes ---------------------------------------------------------------------------------- */

int haul_hugepages_parse(const char *text, enum haul_hugepages *hugepages)
{
    static const char *const names[] = {[HAUL_HUGEPAGES_AUTO] = "auto",
                                        [HAUL_HUGEPAGES_NEVER] = "never",
                                        [HAUL_HUGEPAGES_REQUIRE] = "require"};
    for (size_t i = 0; i < HAUL_COUNT_OF(names); i++)
        if (!strcmp(text, names[i])) {
            *hugepages = (enum haul_hugepages)i;
            return 0;
        }
    return haul_fail(HAUL_CONFIG,
                     "HAUL_HUGEPAGES cannot be \"%.100s\": it takes auto, never or require", text);
}

/* ---- Where: NUMA nodes ----------------------------------------------------------------------- */

static void log_unbound(void)
{
    static atomic_flag logged = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&logged))
        haul_log(HAUL_LOG_WARNING, "memory comes from any NUMA node: %s", haul_error_detail());
}

/* Before any page is there. A file's policy is the file's, once it was set through a shared
 * mapping: from then on it is honoured by whatever makes pages of it, also pwrite() and
 * fallocate(), which would else follow the policy of the calling thread. */
static void bind_to_nodes(const struct haul_mapping *mapping, const struct haul_memory_wish *wish)
{
    if (!wish || !wish->topology || haul_set_is_empty(&wish->nodes))
        return;
    if (haul_topology_bind_memory(wish->topology, mapping->base, mapping->bytes, &wish->nodes))
        log_unbound();
}

/* ---- Pages ----------------------------------------------------------------------------------- */

static bool populate(const struct haul_mapping *mapping)
{
    int refused;
    do
        refused = madvise(mapping->base, mapping->bytes, MADV_POPULATE_WRITE);
    while (refused && (errno == EINTR || errno == EAGAIN));
    return !refused;
}

static void touch_pages(const struct haul_mapping *mapping)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t offset = 0; offset < mapping->bytes; offset += page)
        *(volatile char *)(mapping->base + offset) = 0;
}

static bool wants_huge_pages(const struct haul_memory_wish *wish)
{
    return !wish || wish->hugepages != HAUL_HUGEPAGES_NEVER;
}

/* A wish: without huge pages it works too. */
static void advise(const struct haul_mapping *mapping, const struct haul_memory_wish *wish)
{
    (void)madvise(mapping->base, mapping->bytes,
                  wants_huge_pages(wish) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static bool fault_in(const struct haul_mapping *mapping)
{
    if (populate(mapping))
        return true;
    if (errno != EINVAL)
        return false;
    touch_pages(mapping); /* a kernel before 5.14 */
    return true;
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* A memory file. -1: no descriptor is left for one; of half of them connections have the use. */
static int open_file(void)
{
    struct rlimit limit;
    int file = memfd_create("haul", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0 || getrlimit(RLIMIT_NOFILE, &limit) || (rlim_t)file < limit.rlim_cur / 2)
        return file;
    close(file);
    return -1;
}

/* What is sealed: its size (and with it that no page can be taken away), and that it is written
 * through the mapping that it has only. */
static bool seal_file(int file)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    return fcntl(file, F_ADD_SEALS, seals) == 0;
}

/* One page in each unit: huge pages are made of units that are not empty. */
static bool start_units(const struct haul_mapping *mapping)
{
    bool done = true;
    for (size_t at = 0; done && at < mapping->bytes; at += HAUL_SLAB_UNIT)
        done = pwrite(mapping->file, "", 1, (off_t)at) == 1;
    return done;
}

/* Huge pages are asked for before the other pages come (a wish, Linux 6.1): that is quicker than to
 * make them of small ones, and than to have those. Without being told files get none, unless
 * shmem_enabled says otherwise. */
static bool start_huge_pages(const struct haul_mapping *mapping)
{
    if (!start_units(mapping))
        return false;
    (void)madvise(mapping->base, mapping->bytes, MADV_COLLAPSE);
    return true;
}

static bool allocate_file(const struct haul_mapping *mapping)
{
    int refused;
    do
        refused = fallocate(mapping->file, 0, 0, (off_t)mapping->bytes);
    while (refused && errno == EINTR);
    return !refused;
}

/* ---- Ordinary memory ------------------------------------------------------------------------- */

/* mmap aligns to pages only: maps more than needed and gives the ends back. */
static char *map_aligned(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t extra = HAUL_SLAB_UNIT - page;
    char *start =
        mmap(NULL, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    size_t head = haul_align_up((size_t)start, HAUL_SLAB_UNIT) - (size_t)start;
    if (head > 0)
        munmap(start, head);
    if (head < extra)
        munmap(start + head + bytes, extra - head);
    return start + head;
}

static bool fill_private(const struct haul_mapping *mapping, const struct haul_memory_wish *wish)
{
    bind_to_nodes(mapping, wish);
    advise(mapping, wish);
    return mapping->bytes > FAULT_IN_MAX || fault_in(mapping);
}

/* Puts the file where the mapping is, with all of its pages. */
static bool fill_file(const struct haul_mapping *mapping, const struct haul_memory_wish *wish)
{
    if (ftruncate(mapping->file, (off_t)mapping->bytes) ||
        mmap(mapping->base, mapping->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             mapping->file, 0) == MAP_FAILED)
        return false;
    bind_to_nodes(mapping, wish);
    if (wants_huge_pages(wish) && !start_huge_pages(mapping))
        return false;
    advise(mapping, wish);
    return allocate_file(mapping) && seal_file(mapping->file) && fault_in(mapping);
}

/* False, with errno: what there is is to be unmapped. */
static bool map_ordinary(size_t bytes, bool as_file, const struct haul_memory_wish *wish,
                         struct haul_mapping *mapping)
{
    *mapping = (struct haul_mapping){.base = map_aligned(bytes), .bytes = bytes, .file = -1};
    if (!mapping->base)
        return false;
    if (as_file)
        mapping->file = open_file();
    return mapping->file < 0 ? fill_private(mapping, wish) : fill_file(mapping, wish);
}

/* ---- Reserved huge pages --------------------------------------------------------------------- */

/* The system has promised all pages when it has mapped them, but not that they can be had: those of
 * the nodes, or of a cgroup, may be too few. Then a touch would be SIGBUS, so they are populated,
 * also very large ones, or not used at all. False, with errno: what there is is to be unmapped. */
static bool map_reserved(size_t bytes, const struct haul_memory_wish *wish,
                         struct haul_mapping *mapping)
{
    *mapping = (struct haul_mapping){.bytes = bytes, .file = -1};
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | HUGE_2MB, -1, 0);
    if (base == MAP_FAILED)
        return false;
    mapping->base = base;
    bind_to_nodes(mapping, wish);
    return populate(mapping);
}

static size_t read_reserved(const char *what)
{
    char path[96];
    size_t pages = 0;
    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-2048kB/%s_hugepages", what);
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%zu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages;
}

static int fail_reserved(size_t bytes, int error)
{
    size_t wanted = bytes / HAUL_SLAB_UNIT;
    size_t unused = read_reserved("free"), promised = read_reserved("resv");
    size_t left = unused - HAUL_MIN(unused, promised);
    if (left < wanted)
        return haul_fail(HAUL_NO_MEMORY,
                         "reserved huge pages of 2 MiB: the pool needs more of them (%zu) than are "
                         "free (%zu): reserve more (vm.nr_hugepages), or set HAUL_HUGEPAGES=auto",
                         wanted, left);
    return haul_fail(
        HAUL_NO_MEMORY,
        "reserved huge pages of 2 MiB: the pool cannot have more of them (%zu), though "
        "enough are free (%zu): %s; reserve more on its NUMA nodes, raise the cgroup's "
        "limit, use Linux 5.14 or newer, or set HAUL_HUGEPAGES=auto",
        wanted, left, strerror(error));
}

/* ---- Public to core -------------------------------------------------------------------------- */

static int fail_map(size_t bytes)
{
    return haul_fail(HAUL_NO_MEMORY,
                     "the system has no memory for %zu MiB more of the pool (%s): lower "
                     "HAUL_POOL_MAX or free memory",
                     bytes >> 20, strerror(errno));
}

int haul_memory_map(size_t bytes, bool as_file, const struct haul_memory_wish *wish,
                    struct haul_mapping *mapping)
{
    if (!as_file && wish && wish->hugepages == HAUL_HUGEPAGES_REQUIRE) {
        if (map_reserved(bytes, wish, mapping))
            return 0;
        int error = errno;
        haul_memory_unmap(mapping);
        return fail_reserved(bytes, error);
    }
    if (map_ordinary(bytes, as_file, wish, mapping))
        return 0;
    int err = fail_map(bytes);
    haul_memory_unmap(mapping);
    return err;
}

void haul_memory_unmap(struct haul_mapping *mapping)
{
    if (mapping->base)
        munmap(mapping->base, mapping->bytes);
    if (mapping->file >= 0)
        close(mapping->file);
    *mapping = (struct haul_mapping){.file = -1};
}

/* Which nodes pages are on. A negative node is an errno: the page is not there. */
static bool ask_nodes(const char *const *addresses, size_t count, int *where)
{
    /* Without nodes to move pages to, it tells where they are. */
    return syscall(SYS_move_pages, 0, count, addresses, NULL, where, 0) == 0;
}

static void count_nodes(const int *where, size_t count, const struct haul_set *nodes,
                        struct haul_page_count *sum)
{
    sum->looked += count;
    for (size_t i = 0; i < count; i++) {
        sum->present += where[i] >= 0;
        sum->on_nodes += where[i] >= 0 && haul_set_has(nodes, (unsigned)where[i]);
    }
}

bool haul_memory_count_pages(const void *base, size_t bytes, const struct haul_set *nodes,
                             size_t samples, struct haul_page_count *count)
{
    enum { AT_ONCE = 64 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = bytes / page;
    size_t all = HAUL_MIN(samples, pages);
    *count = (struct haul_page_count){0};
    for (size_t first = 0; first < all; first += AT_ONCE) {
        const char *addresses[AT_ONCE];
        int where[AT_ONCE];
        size_t some = HAUL_MIN(all - first, (size_t)AT_ONCE);
        for (size_t i = 0; i < some; i++)
            addresses[i] = (const char *)base + (first + i) * pages / all * page;
        if (!ask_nodes(addresses, some, where)) {
            *count = (struct haul_page_count){0};
            return false;
        }
        count_nodes(where, some, nodes, count);
    }
    return true;
}

int haul_memory_node(const void *byte)
{
    const char *address = byte;
    int where;
    return ask_nodes(&address, 1, &where) ? HAUL_MAX(where, -1) : -1;
}
