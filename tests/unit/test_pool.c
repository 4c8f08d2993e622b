/* SPDX-License-Identifier: Apache-2.0
 * The pool: sizes, the limit, reuse without faults, lifetimes, and many threads at once. */
#include "pool.h"

#include "pages.h"
#include "slab.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined(__has_feature)
#define HAS_ASAN __has_feature(address_sanitizer)
#define HAS_TSAN __has_feature(thread_sanitizer)
#else
#ifdef __SANITIZE_ADDRESS__
#define HAS_ASAN 1
#else
#define HAS_ASAN 0
#endif
#ifdef __SANITIZE_THREAD__
#define HAS_TSAN 1
#else
#define HAS_TSAN 0
#endif
#endif
#if HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { KIB = 1 << 10, MIB = 1 << 20, SLAB = HAUL_SLAB_UNIT };

static struct haul_pool *make_pool(size_t max_bytes, const struct haul_pool_hooks *hooks)
{
    struct haul_pool *pool;
    assert_int_equal(haul_pool_create(max_bytes, hooks, &pool), 0);
    return pool;
}

static struct haul_block *alloc(struct haul_pool *pool, size_t bytes, unsigned flags)
{
    struct haul_block *block = NULL;
    int err = haul_pool_alloc(pool, bytes, flags, &block);
    if (err)
        fail_msg("%zu bytes: %s", bytes, haul_error_detail());
    return block;
}

static void assert_refused(struct haul_pool *pool, size_t bytes, unsigned flags, int err)
{
    struct haul_block *block = NULL;
    assert_int_equal(haul_pool_alloc(pool, bytes, flags, &block), err);
    assert_null(block);
}

static void release_all(struct haul_block **blocks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        haul_block_release(blocks[i]);
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

static void blocks_are_large_enough_and_aligned(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool(64 * MIB, NULL);
    for (size_t bytes = 0; bytes <= 20 * MIB; bytes += bytes / 9 + 1) {
        struct haul_block *block = alloc(pool, bytes, 0);
        size_t most = HAUL_MAX(bytes + bytes / 4, 4 * KIB);
        if (bytes > MIB)
            most = HAUL_MAX(most, haul_align_up(bytes, SLAB));
        assert_in_range(block->bytes, bytes, most);
        assert_int_equal((uintptr_t)block->data % HAUL_POOL_ALIGNMENT, 0);
        memset(block->data, 0xAB, block->bytes);
        char *base = haul_slab_base(block->slab);
        char *end = base + haul_slab_bytes(block->slab);
        assert_int_equal((uintptr_t)base % SLAB, 0);
        assert_true((char *)block->data >= base && (char *)block->data + block->bytes <= end);
        haul_block_release(block);
    }
    haul_pool_release(pool);
}

static void classes_are_a_quarter_of_a_power_of_two_apart(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {
        {0, 4096},
        {1, 4096},
        {4096, 4096},
        {4097, 5120},
        {5120, 5120},
        {8192, 8192},
        {8193, 10240},
        {700 * KIB, 768 * KIB},
        {MIB, MIB},
        {MIB + 1, SLAB},
        {SLAB + 1, 2 * SLAB},
        {31 * SLAB, 31 * SLAB},
        {33 * SLAB, 34 * SLAB},
    };
    struct haul_pool *pool = make_pool(256 * MIB, NULL);
    for (size_t i = 0; i < HAUL_COUNT_OF(sizes); i++) {
        struct haul_block *block = alloc(pool, sizes[i][0], 0);
        assert_int_equal(block->bytes, sizes[i][1]);
        haul_block_release(block);
    }
    haul_pool_release(pool);
}

static void blocks_of_a_slab_do_not_overlap(void **state)
{
    (void)state;
    enum { COUNT = 512 };
    struct haul_block *blocks[COUNT];
    struct haul_pool *pool = make_pool(SLAB, NULL);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = alloc(pool, 4096, 0);
        memset(blocks[i]->data, i % 251, blocks[i]->bytes);
    }
    assert_int_equal(haul_pool_used_bytes(pool), SLAB);
    assert_int_equal(haul_pool_mapped_bytes(pool), SLAB);
    assert_refused(pool, 1, 0, HAUL_NO_MEMORY);
    for (int i = 0; i < COUNT; i++) {
        const unsigned char *bytes = blocks[i]->data;
        for (size_t j = 0; j < blocks[i]->bytes; j++)
            assert_int_equal(bytes[j], i % 251);
    }
    release_all(blocks, COUNT);
    assert_int_equal(haul_pool_used_bytes(pool), 0);
    haul_pool_release(pool);
}

/* ---- The limit ------------------------------------------------------------------------------- */

static void what_never_fits_is_told_from_what_does_not_fit_now(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool(7 * MIB, NULL); /* whole slabs: 6 MiB */
    assert_refused(pool, 6 * MIB + 1, 0, HAUL_TOO_LARGE);
    assert_refused(pool, SIZE_MAX, 0, HAUL_TOO_LARGE);
    assert_refused(pool, SIZE_MAX, HAUL_POOL_RESERVED, HAUL_TOO_LARGE);
    struct haul_block *block = alloc(pool, 6 * MIB, 0);
    assert_refused(pool, 1, 0, HAUL_NO_MEMORY);
    haul_block_release(block);
    haul_block_release(alloc(pool, 1, 0));
    haul_pool_release(pool);
    assert_int_equal(haul_pool_create(SLAB - 1, NULL, &pool), HAUL_INVALID);
}

static void a_block_may_be_the_whole_pool(void **state)
{
    (void)state;
    /* 35 slabs are between two slab sizes: rounding up must not exceed the pool. */
    struct haul_pool *pool = make_pool((size_t)35 * SLAB, NULL);
    for (int i = 0; i < 2; i++) {
        struct haul_block *block = alloc(pool, (size_t)35 * SLAB, 0);
        assert_int_equal(block->bytes, (size_t)35 * SLAB);
        haul_block_release(block);
        assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)35 * SLAB);
    }
    haul_pool_release(pool);
}

static void idle_slabs_are_cut_anew(void **state)
{
    (void)state;
    static const size_t sizes[] = {4096, MIB, 100 * KIB, SLAB, 4096};
    struct haul_pool *pool = make_pool(SLAB, NULL);
    void *base = NULL;
    for (size_t i = 0; i < HAUL_COUNT_OF(sizes); i++) {
        struct haul_block *block = alloc(pool, sizes[i], 0);
        if (!base)
            base = haul_slab_base(block->slab);
        assert_ptr_equal(haul_slab_base(block->slab), base);
        assert_ptr_equal(block->data, base);
        haul_block_release(block);
    }
    haul_pool_release(pool);
}

static void idle_slabs_serve_what_is_up_to_a_quarter_smaller(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool((size_t)64 * SLAB, NULL);
    haul_block_release(alloc(pool, (size_t)10 * SLAB, 0));
    struct haul_block *fits = alloc(pool, (size_t)8 * SLAB, 0);
    assert_int_equal(fits->bytes, (size_t)10 * SLAB);
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)10 * SLAB);
    haul_block_release(fits);
    struct haul_block *too_small = alloc(pool, (size_t)7 * SLAB, 0);
    assert_int_equal(too_small->bytes, (size_t)7 * SLAB);
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)17 * SLAB);
    struct haul_block *too_large = alloc(pool, (size_t)11 * SLAB, 0);
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)28 * SLAB);
    haul_block_release(too_small);
    haul_block_release(too_large);
    haul_pool_release(pool);
}

/* What the hooks saw. */
struct trace {
    int mapped, unmapping;
    size_t unmapped_bytes[16];
    int answer;
};

static int trace_mapped(struct haul_slab *slab, void *arg)
{
    struct trace *trace = arg;
    trace->mapped++;
    for (int i = 0; i < HAUL_POOL_REGIONS_MAX; i++)
        assert_null(haul_slab_regions(slab)[i]);
    haul_slab_regions(slab)[0] = trace;
    return trace->answer;
}

static void trace_unmapping(struct haul_slab *slab, void *arg)
{
    struct trace *trace = arg;
    assert_ptr_equal(haul_slab_regions(slab)[0], trace);
    trace->unmapped_bytes[trace->unmapping++ % 16] = haul_slab_bytes(slab);
}

static struct haul_pool *make_traced_pool(size_t max_bytes, struct trace *trace)
{
    struct haul_pool_hooks hooks = {
        .mapped = trace_mapped, .unmapping = trace_unmapping, .arg = trace};
    return make_pool(max_bytes, &hooks);
}

static void at_the_limit_the_longest_idle_slabs_go(void **state)
{
    (void)state;
    struct trace trace = {0};
    struct haul_pool *pool = make_traced_pool((size_t)10 * SLAB, &trace);
    struct haul_block *five = alloc(pool, (size_t)5 * SLAB, 0);
    struct haul_block *three = alloc(pool, (size_t)3 * SLAB, 0);
    struct haul_block *two = alloc(pool, (size_t)2 * SLAB, 0);
    assert_refused(pool, 1, 0, HAUL_NO_MEMORY);
    haul_block_release(three);
    haul_block_release(five);
    /* 9 slabs would not fit even if all idle slabs went: so none goes. */
    assert_refused(pool, (size_t)9 * SLAB, 0, HAUL_NO_MEMORY);
    assert_int_equal(trace.unmapping, 0);
    struct haul_block *one = alloc(pool, 1, 0);
    assert_int_equal(trace.unmapping, 1);
    assert_int_equal(trace.unmapped_bytes[0], (size_t)3 * SLAB);
    struct haul_block *seven = alloc(pool, (size_t)7 * SLAB, 0);
    assert_int_equal(trace.unmapping, 2);
    assert_int_equal(trace.unmapped_bytes[1], (size_t)5 * SLAB);
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)10 * SLAB);
    release_all((struct haul_block *[]){one, two, seven}, 3);
    haul_pool_release(pool);
    assert_int_equal(trace.mapped, 5);
    assert_int_equal(trace.unmapping, 5);
}

static void reserved_memory_exceeds_the_limit(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool((size_t)2 * SLAB, NULL);
    struct haul_block *all = alloc(pool, (size_t)2 * SLAB, 0);
    struct haul_block *reserved = alloc(pool, 4096, HAUL_POOL_RESERVED);
    struct haul_block *beside = alloc(pool, 4096, HAUL_POOL_RESERVED);
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)3 * SLAB);
    /* There is room in the slab in excess, but not for everybody. */
    assert_refused(pool, 4096, 0, HAUL_NO_MEMORY);
    haul_block_release(reserved);
    haul_block_release(beside);
    assert_refused(pool, 4096, 0, HAUL_NO_MEMORY);
    haul_block_release(alloc(pool, 4096, HAUL_POOL_RESERVED));
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)3 * SLAB);
    haul_block_release(all);
    haul_block_release(alloc(pool, 4096, 0));
    assert_true(haul_pool_mapped_bytes(pool) <= (size_t)2 * SLAB);
    haul_pool_release(pool);
}

static size_t fill_up(struct haul_pool *pool, struct haul_block **blocks, size_t count, size_t most)
{
    while (count < most && !haul_pool_alloc(pool, 8192, 0, &blocks[count]))
        count++;
    return count;
}

static void reserved_memory_does_not_creep(void **state)
{
    (void)state;
    enum { MOST = 4096 };
    static struct haul_block *blocks[MOST];
    struct haul_pool *pool = make_pool((size_t)2 * SLAB, NULL);
    size_t count = fill_up(pool, blocks, 0, MOST);
    for (int round = 0; round < 10; round++) {
        struct haul_block *reserved = alloc(pool, 8192, HAUL_POOL_RESERVED);
        count = fill_up(pool, blocks, count, MOST);
        haul_block_release(reserved);
        count = fill_up(pool, blocks, count, MOST);
    }
    assert_int_equal(count, (size_t)2 * SLAB / 8192);
    assert_int_equal(haul_pool_mapped_bytes(pool), (size_t)3 * SLAB);
    release_all(blocks, count);
    haul_pool_release(pool);
}

/* ---- Hooks ----------------------------------------------------------------------------------- */

static void a_failing_hook_fails_the_alloc(void **state)
{
    (void)state;
    struct trace trace = {.answer = HAUL_SYSTEM};
    struct haul_pool *pool = make_traced_pool(SLAB, &trace);
    assert_refused(pool, 1, 0, HAUL_SYSTEM);
    assert_int_equal(trace.unmapping, 1);
    assert_int_equal(haul_pool_mapped_bytes(pool), 0);
    trace.answer = 0;
    haul_block_release(alloc(pool, 1, 0));
    haul_pool_release(pool);
    assert_int_equal(trace.mapped, 2);
    assert_int_equal(trace.unmapping, 2);
}

static void count_release(void *arg)
{
    ++*(int *)arg;
}

static void releases_are_announced(void **state)
{
    (void)state;
    int releases = 0;
    struct haul_pool *pool = make_pool(SLAB, NULL);
    haul_pool_notify(pool, count_release, &releases);
    struct haul_block *block = alloc(pool, 1, 0), *other = alloc(pool, 1, 0);
    haul_block_release(block);
    assert_int_equal(releases, 1);
    haul_pool_notify(pool, NULL, NULL);
    haul_block_release(other);
    assert_int_equal(releases, 1);
    haul_pool_release(pool);
}

/* ---- Lifetimes ------------------------------------------------------------------------------- */

static void *release_elsewhere(void *arg)
{
    haul_block_release(arg);
    return NULL;
}

static void the_pool_outlives_its_creators_release(void **state)
{
    (void)state;
    struct trace trace = {0};
    int releases = 0;
    struct haul_pool *pool = make_traced_pool((size_t)8 * SLAB, &trace);
    haul_pool_notify(pool, count_release, &releases);
    struct haul_block *small = alloc(pool, 4096, 0), *neighbour = alloc(pool, 4096, 0);
    struct haul_block *large = alloc(pool, (size_t)3 * SLAB, 0);
    haul_block_release(alloc(pool, SLAB, 0)); /* an idle slab, and one release */
    haul_pool_release(pool);
    assert_int_equal(trace.unmapping, 3);
    memset(small->data, 1, small->bytes);
    memset(large->data, 2, large->bytes);
    assert_int_equal(haul_pool_mapped_bytes(small->slab->pool), (size_t)4 * SLAB);
    haul_block_release(neighbour);
    haul_block_release(large);
    assert_int_equal(haul_pool_mapped_bytes(small->slab->pool), SLAB);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, release_elsewhere, small), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(trace.unmapping, 3);
    assert_int_equal(releases, 1);
}

static void children_can_read_blocks(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool(SLAB, NULL);
    struct haul_block *block = alloc(pool, 4096, 0);
    memset(block->data, 7, block->bytes);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(((char *)block->data)[4095] == 7 ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    haul_block_release(block);
    haul_pool_release(pool);
}

/* ---- Faults ---------------------------------------------------------------------------------- */

static bool is_resident(const struct haul_slab *slab)
{
    return is_present(haul_slab_base(slab), haul_slab_bytes(slab));
}

static void slabs_are_faulted_in(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool((size_t)4 * SLAB, NULL);
    struct haul_block *small = alloc(pool, 1, 0), *large = alloc(pool, (size_t)3 * SLAB, 0);
    assert_true(is_resident(small->slab));
    assert_true(is_resident(large->slab));
    haul_block_release(small);
    haul_block_release(large);
    haul_pool_release(pool);
}

/* What another process may do with the file of a slab: look at it, and rely on that. */
static void files_are_sealed(void **state)
{
    (void)state;
    const struct haul_pool_hooks hooks = {.files = true};
    struct haul_pool *pool = make_pool((size_t)100 * SLAB, &hooks);
    struct haul_block *large = alloc(pool, (size_t)40 * SLAB, 0); /* too large to be faulted in */
    struct haul_block *small = alloc(pool, 1, 0);
    for (int i = 0; i < 2; i++) {
        struct haul_block *block = i ? small : large;
        int file = haul_slab_file(block->slab);
        size_t bytes = haul_slab_bytes(block->slab);
        size_t offset = (size_t)((char *)block->data - (char *)haul_slab_base(block->slab));
        struct stat status;
        assert_int_equal(fstat(file, &status), 0);
        assert_int_equal(status.st_size, bytes);
        assert_true((size_t)status.st_blocks * 512 >= bytes);
        assert_int_equal(ftruncate(file, 0), -1);
        assert_int_equal(ftruncate(file, (off_t)bytes * 2), -1);
        assert_int_equal(
            fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes), -1);
        assert_int_equal(madvise(haul_slab_base(block->slab), bytes, MADV_REMOVE), -1);
        assert_int_equal(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), -1);
        assert_ptr_equal(mmap(NULL, bytes, PROT_WRITE, MAP_SHARED, file, 0), MAP_FAILED);
        char *view = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
        assert_ptr_not_equal(view, MAP_FAILED);
        memset(block->data, 7 + i, block->bytes);
        assert_int_equal(view[offset], 7 + i);
        munmap(view, bytes);
    }
    release_all((struct haul_block *[]){large, small}, 2);
    haul_pool_release(pool);
}

static int resident_without_populate(void)
{
    struct haul_pool *pool;
    struct haul_block *block;
    if (haul_pool_create(SLAB, NULL, &pool) || haul_pool_alloc(pool, 1, 0, &block))
        return 1;
    bool resident = is_resident(block->slab);
    haul_block_release(block);
    haul_pool_release(pool);
    return resident ? 0 : 2;
}

static void old_kernels_are_faulted_in_too(void **state)
{
    (void)state;
    run_without_populate(resident_without_populate);
}

static long faults_of_this_thread(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
    return usage.ru_minflt + usage.ru_majflt;
}

/* Like messages: blocks of many sizes, released in another order than they were taken. */
static void take_and_release(struct haul_pool *pool)
{
    static const size_t sizes[] = {4096, 300, 17 * MIB, 5000, 70 * KIB, 900 * KIB, 3 * MIB, 4096};
    struct haul_block *blocks[HAUL_COUNT_OF(sizes)];
    for (size_t i = 0; i < HAUL_COUNT_OF(sizes); i++) {
        blocks[i] = alloc(pool, sizes[i], 0);
        memset(blocks[i]->data, 1, HAUL_MIN(sizes[i], (size_t)64 * KIB));
    }
    for (size_t i = 0; i < HAUL_COUNT_OF(sizes); i++)
        haul_block_release(blocks[i * 3 % HAUL_COUNT_OF(sizes)]);
}

static void the_steady_state_neither_maps_nor_faults(void **state)
{
    (void)state;
    struct trace trace = {0};
    struct haul_pool *pool = make_traced_pool((size_t)32 * SLAB, &trace);
    for (int i = 0; i < 3; i++)
        take_and_release(pool);
    int mapped = trace.mapped;
    long faults = faults_of_this_thread();
    for (int i = 0; i < 1000; i++)
        take_and_release(pool);
    /* A few are the test's own; one per round would be 1000. Sanitizers have their own by
     * themselves. */
    if (!HAS_TSAN && !HAS_ASAN)
        assert_in_range(faults_of_this_thread() - faults, 0, 20);
    assert_int_equal(trace.mapped, mapped);
    assert_int_equal(trace.unmapping, 0);
    haul_pool_release(pool);
}

/* ---- Use after release ----------------------------------------------------------------------- */

#if HAS_ASAN
static void free_blocks_are_poisoned(void **state)
{
    (void)state;
    struct haul_pool *pool = make_pool(SLAB, NULL);
    struct haul_block *block = alloc(pool, 8192, 0), *neighbour = alloc(pool, 8192, 0);
    char *data = block->data;
    assert_null(__asan_region_is_poisoned(data, 8192));
    haul_block_release(block);
    assert_true(__asan_address_is_poisoned(data));
    assert_true(__asan_address_is_poisoned(data + 8191));
    assert_null(__asan_region_is_poisoned(neighbour->data, 8192));
    haul_block_release(neighbour);
    haul_pool_release(pool);
}
#endif

/* ---- Threads --------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 3000, SHELF = 16 };

/* Threads put blocks on a shelf and release what others left there. */
struct shelf {
    struct haul_pool *pool;
    _Atomic(struct haul_block *) slots[SHELF];
    atomic_uint seed, allocs, refusals, releases, failures;
};

static void fill(struct haul_block *block, unsigned mark)
{
    unsigned char *bytes = block->data;
    bytes[0] = bytes[block->bytes / 2] = bytes[block->bytes - 1] = (unsigned char)mark;
}

static bool is_whole(const struct haul_block *block)
{
    const unsigned char *bytes = block->data;
    return bytes[0] == bytes[block->bytes / 2] && bytes[0] == bytes[block->bytes - 1];
}

static void release_checked(struct shelf *shelf, struct haul_block *block)
{
    if (!block)
        return;
    if (!is_whole(block))
        atomic_fetch_add(&shelf->failures, 1);
    haul_block_release(block);
}

static size_t random_size(unsigned *seed)
{
    static const size_t limits[] = {4096, 20000, 300 * KIB, 5 * MIB};
    return (size_t)rand_r(seed) % limits[rand_r(seed) % 4];
}

static void *use_pool(void *arg)
{
    struct shelf *shelf = arg;
    unsigned seed = atomic_fetch_add(&shelf->seed, 1);
    for (int i = 0; i < ROUNDS; i++) {
        struct haul_block *block;
        unsigned flags = rand_r(&seed) % 16 == 0 ? HAUL_POOL_RESERVED : 0;
        int err = haul_pool_alloc(shelf->pool, random_size(&seed), flags, &block);
        if (err) {
            bool expected = err == HAUL_NO_MEMORY && !flags;
            atomic_fetch_add(expected ? &shelf->refusals : &shelf->failures, 1);
            block = NULL;
        } else {
            atomic_fetch_add(&shelf->allocs, 1);
            fill(block, seed);
        }
        unsigned slot = (unsigned)rand_r(&seed) % SHELF;
        release_checked(shelf, atomic_exchange(&shelf->slots[slot], block));
    }
    return NULL;
}

static void count_releases(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static void start_threads(pthread_t *threads, struct shelf *shelf)
{
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_pool, shelf), 0);
}

static void join_threads(pthread_t *threads)
{
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void many_threads_share_a_pool(void **state)
{
    (void)state;
    static struct shelf shelf;
    pthread_t threads[THREADS];
    shelf.pool = make_pool((size_t)16 * SLAB, NULL);
    haul_pool_notify(shelf.pool, count_releases, &shelf.releases);
    start_threads(threads, &shelf);
    join_threads(threads);
    for (int i = 0; i < SHELF; i++)
        release_checked(&shelf, atomic_load(&shelf.slots[i]));
    assert_int_equal(atomic_load(&shelf.failures), 0);
    assert_true(atomic_load(&shelf.allocs) > 1000);
    assert_int_equal(atomic_load(&shelf.releases), atomic_load(&shelf.allocs));
    assert_int_equal(haul_pool_used_bytes(shelf.pool), 0);
    haul_pool_release(shelf.pool);
}

struct leftovers {
    struct haul_block **blocks;
    size_t count;
};

static void *release_leftovers(void *arg)
{
    struct leftovers *leftovers = arg;
    release_all(leftovers->blocks, leftovers->count);
    return NULL;
}

/* The creator releases the pool while other threads release their last blocks. */
static void a_pool_ends_amid_releases(void **state)
{
    (void)state;
    enum { EACH = 60 };
    for (int round = 0; round < 30; round++) {
        struct haul_block *blocks[THREADS * EACH];
        struct leftovers leftovers[THREADS];
        pthread_t threads[THREADS];
        struct haul_pool *pool = make_pool((size_t)16 * SLAB, NULL);
        for (int i = 0; i < THREADS * EACH; i++)
            blocks[i] = alloc(pool, i % 40 == 0 ? MIB : 40000, 0);
        for (int i = 0; i < THREADS; i++) {
            leftovers[i] = (struct leftovers){blocks + i * EACH, EACH};
            assert_int_equal(pthread_create(&threads[i], NULL, release_leftovers, &leftovers[i]),
                             0);
        }
        haul_pool_release(pool);
        join_threads(threads);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_large_enough_and_aligned),
        cmocka_unit_test(classes_are_a_quarter_of_a_power_of_two_apart),
        cmocka_unit_test(blocks_of_a_slab_do_not_overlap),
        cmocka_unit_test(what_never_fits_is_told_from_what_does_not_fit_now),
        cmocka_unit_test(a_block_may_be_the_whole_pool),
        cmocka_unit_test(idle_slabs_are_cut_anew),
        cmocka_unit_test(idle_slabs_serve_what_is_up_to_a_quarter_smaller),
        cmocka_unit_test(at_the_limit_the_longest_idle_slabs_go),
        cmocka_unit_test(reserved_memory_exceeds_the_limit),
        cmocka_unit_test(reserved_memory_does_not_creep),
        cmocka_unit_test(a_failing_hook_fails_the_alloc),
        cmocka_unit_test(releases_are_announced),
        cmocka_unit_test(the_pool_outlives_its_creators_release),
        cmocka_unit_test(children_can_read_blocks),
        cmocka_unit_test(slabs_are_faulted_in),
        cmocka_unit_test(files_are_sealed),
        cmocka_unit_test(old_kernels_are_faulted_in_too),
        cmocka_unit_test(the_steady_state_neither_maps_nor_faults),
#if HAS_ASAN
        cmocka_unit_test(free_blocks_are_poisoned),
#endif
        cmocka_unit_test(many_threads_share_a_pool),
        cmocka_unit_test(a_pool_ends_amid_releases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
