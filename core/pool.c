/* SPDX-License-Identifier: Apache-2.0
 * The pool: which slab a block comes from, what is mapped and unmapped within the limit, and how
 * long everything lives. */
#include "pool.h"

#include "error.h"
#include "slab.h"

#include <pthread.h>
#include <stdlib.h>

/* Sizes lie on scales with 2^k steps to each power of two: 0, 1, ... 2^k, then 2^k more up to
 * 2^(k+1), and so on. Blocks are KiB on the scale with 4 steps; slabs are units on that with 16, so
 * that slabs of about one size are of exactly one size, and an idle one is found at once. */
enum {
    BLOCK_STEPS_LOG2 = 2,
    BLOCK_UNIT = HAUL_BLOCK_MIN >> BLOCK_STEPS_LOG2,
    BLOCK_MAX = 1 << 20,            /* of those that share a slab */
    CLASS_COUNT = 37,               /* step_of(BLOCK_MAX / BLOCK_UNIT) + 1 */
    CLASS_WHOLE_SLAB = CLASS_COUNT, /* the block is a slab */
    SLAB_STEPS_LOG2 = 4,
    SLAB_SIZE_COUNT = 641, /* step_of(2^64 / HAUL_SLAB_UNIT) + 1 */
};

/* Grows in each child of fork(). */
static unsigned fork_generation;

struct haul_pool {
    unsigned generation; /* of the process that made it */

    /* The creator's, and one for each block in use. */
    atomic_size_t references;

    /* Held while slabs are mapped, unmapped, walked, and while hooks run; taken before `lock`. */
    pthread_mutex_t growth;
    struct haul_list all;
    struct haul_pool_hooks hooks;
    size_t max_bytes;

    /* Held for a few instructions. */
    pthread_mutex_t lock;
    size_t mapped_bytes, idle_bytes, used_bytes;
    bool released; /* by its creator: slabs are unmapped as soon as they are idle */
    struct haul_list roomy[2][CLASS_COUNT]; /* slabs with used and free blocks; [1]: excess */
    struct haul_list idle_of_size[SLAB_SIZE_COUNT];
    struct haul_list idle; /* all of those, longest idle first */

    /* Held, shared, while the callback runs: once it was changed the old one is not running. */
    pthread_rwlock_t notify_lock;
    void (*notify)(void *arg);
    void *notify_arg;
};

/* What an alloc asks for. */
struct request {
    unsigned class;
    size_t block_bytes;
    size_t slab_bytes; /* of the slab to cut the block from */
    bool reserved;
};

/* ---- Sizes ----------------------------------------------------------------------------------- */

/* The first step that is not below units. */
static unsigned step_of(size_t units, unsigned steps_log2)
{
    unsigned exponent = 0;
    if (units >> steps_log2)
        exponent = 63 - (unsigned)__builtin_clzll(units) - steps_log2;
    size_t mantissa = (units >> exponent) + ((units & (((size_t)1 << exponent) - 1)) != 0);
    return (exponent << steps_log2) + (unsigned)mantissa;
}

static size_t units_of(unsigned step, unsigned steps_log2)
{
    unsigned steps = 1u << steps_log2;
    if (step < steps)
        return step;
    return (size_t)(steps + step % steps) << (step / steps - 1);
}

static unsigned slab_step(size_t slab_bytes)
{
    return step_of(slab_bytes / HAUL_SLAB_UNIT, SLAB_STEPS_LOG2);
}

static struct request request_of(const struct haul_pool *pool, size_t bytes, unsigned flags)
{
    struct request want = {.reserved = flags & HAUL_POOL_RESERVED, .slab_bytes = HAUL_SLAB_UNIT};
    if (bytes <= BLOCK_MAX) {
        size_t units = (HAUL_MAX(bytes, HAUL_BLOCK_MIN) + BLOCK_UNIT - 1) / BLOCK_UNIT;
        want.class = step_of(units, BLOCK_STEPS_LOG2);
        want.block_bytes = units_of(want.class, BLOCK_STEPS_LOG2) * BLOCK_UNIT;
        return want;
    }
    want.class = CLASS_WHOLE_SLAB;
    size_t exact = haul_align_up(bytes, HAUL_SLAB_UNIT);
    want.slab_bytes = units_of(slab_step(exact), SLAB_STEPS_LOG2) * HAUL_SLAB_UNIT;
    /* Rounding must not make too large what is not. */
    if (exact <= pool->max_bytes && want.slab_bytes > pool->max_bytes)
        want.slab_bytes = pool->max_bytes;
    want.block_bytes = want.slab_bytes;
    return want;
}

/* ---- Blocks from slabs (under `lock`) -------------------------------------------------------- */

static void make_idle(struct haul_pool *pool, struct haul_slab *slab)
{
    haul_list_remove(&slab->place);
    haul_list_prepend(&pool->idle_of_size[slab_step(slab->memory.bytes)], &slab->place);
    haul_list_append(&pool->idle, &slab->idle);
    pool->idle_bytes += slab->memory.bytes;
}

static void leave_idle(struct haul_pool *pool, struct haul_slab *slab)
{
    haul_list_remove(&slab->place);
    haul_list_remove(&slab->idle);
    pool->idle_bytes -= slab->memory.bytes;
}

static struct haul_slab *pop_longest_idle(struct haul_pool *pool)
{
    if (haul_list_empty(&pool->idle))
        return NULL;
    struct haul_slab *slab = HAUL_LIST_FIRST(&pool->idle, struct haul_slab, idle);
    leave_idle(pool, slab);
    return slab;
}

static struct haul_slab *roomy_slab(struct haul_pool *pool, unsigned class, bool excess)
{
    struct haul_list *slabs = &pool->roomy[excess][class];
    return haul_list_empty(slabs) ? NULL : HAUL_LIST_FIRST(slabs, struct haul_slab, place);
}

/* An idle slab that is large enough and not more than a quarter larger. */
static struct haul_slab *idle_slab(struct haul_pool *pool, size_t bytes)
{
    size_t most_units = (bytes + bytes / 4) / HAUL_SLAB_UNIT;
    for (unsigned step = slab_step(bytes); units_of(step, SLAB_STEPS_LOG2) <= most_units; step++)
        HAUL_LIST_EACH(&pool->idle_of_size[step], node)
        {
            struct haul_slab *slab = HAUL_CONTAINER_OF(node, struct haul_slab, place);
            if (slab->memory.bytes >= bytes)
                return slab;
        }
    return NULL;
}

/* Cuts an idle slab for a request. While the pool exceeds its limit only reserved requests get one,
 * and the slab stays theirs: else the memory of each excess would be filled by others, and the next
 * would come on top. */
static struct haul_slab *cut_idle_slab(struct haul_pool *pool, const struct request *want)
{
    bool excess = pool->mapped_bytes > pool->max_bytes;
    struct haul_slab *slab = excess && !want->reserved ? NULL : idle_slab(pool, want->slab_bytes);
    if (!slab)
        return NULL;
    leave_idle(pool, slab);
    slab->class = want->class;
    slab->excess = excess;
    bool whole = want->class == CLASS_WHOLE_SLAB;
    haul_slab_cut(slab, whole ? slab->memory.bytes : want->block_bytes);
    if (!whole)
        haul_list_prepend(&pool->roomy[excess][want->class], &slab->place);
    return slab;
}

static struct haul_slab_block *take_block(struct haul_pool *pool, const struct request *want)
{
    struct haul_slab *slab = NULL;
    if (want->class != CLASS_WHOLE_SLAB) {
        if (want->reserved)
            slab = roomy_slab(pool, want->class, true);
        if (!slab)
            slab = roomy_slab(pool, want->class, false);
    }
    if (!slab)
        slab = cut_idle_slab(pool, want);
    if (!slab)
        return NULL;
    struct haul_slab_block *taken = haul_slab_take(slab);
    if (haul_slab_full(slab))
        haul_list_remove(&slab->place);
    pool->used_bytes += taken->block.bytes;
    return taken;
}

/* Returns the slab if nobody needs it any more: it is to be unmapped. */
static struct haul_slab *put_block(struct haul_pool *pool, struct haul_slab_block *block)
{
    struct haul_slab *slab = block->block.slab;
    bool was_full = haul_slab_full(slab);
    pool->used_bytes -= block->block.bytes;
    haul_slab_put(block);
    if (slab->used > 0) {
        /* At the end: slabs in front fill up, those behind have time to become idle. */
        if (was_full)
            haul_list_append(&pool->roomy[slab->excess][slab->class], &slab->place);
        return NULL;
    }
    if (!pool->released) {
        make_idle(pool, slab);
        return NULL;
    }
    haul_list_remove(&slab->place);
    pool->mapped_bytes -= slab->memory.bytes;
    return slab;
}

/* ---- Growing within the limit (under `growth`) ----------------------------------------------- */

static void unmap_slab(struct haul_pool *pool, struct haul_slab *slab)
{
    if (pool->hooks.unmapping)
        pool->hooks.unmapping(slab, pool->hooks.arg);
    haul_list_remove(&slab->all);
    haul_slab_unmap(slab);
}

static int map_slab(struct haul_pool *pool, size_t bytes)
{
    struct haul_slab *slab;
    int err = haul_slab_map(bytes, pool->hooks.files, pool->hooks.wish, &slab);
    if (err)
        return err;
    slab->pool = pool;
    err = pool->hooks.mapped ? pool->hooks.mapped(slab, pool->hooks.arg) : 0;
    if (err) {
        unmap_slab(pool, slab);
        return err;
    }
    haul_list_append(&pool->all, &slab->all);
    pthread_mutex_lock(&pool->lock);
    pool->mapped_bytes += bytes;
    make_idle(pool, slab);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

/* Unmaps an idle slab that was taken out of the lists. */
static void unmap_victim(struct haul_pool *pool, struct haul_slab *slab)
{
    size_t bytes = slab->memory.bytes;
    unmap_slab(pool, slab);
    pthread_mutex_lock(&pool->lock);
    pool->mapped_bytes -= bytes;
    pthread_mutex_unlock(&pool->lock);
}

enum way { WAY_NONE, WAY_TAKEN, WAY_MAP, WAY_UNMAP };

/* The next thing to do for a request: the block, or what makes room for it. */
static enum way next_way(struct haul_pool *pool, const struct request *want,
                         struct haul_slab_block **taken, struct haul_slab **victim)
{
    *taken = take_block(pool, want);
    if (*taken)
        return WAY_TAKEN;
    if (pool->mapped_bytes + want->slab_bytes <= pool->max_bytes)
        return WAY_MAP;
    size_t needed = pool->mapped_bytes - pool->idle_bytes + want->slab_bytes;
    if (needed > pool->max_bytes && !want->reserved)
        return WAY_NONE;
    *victim = pop_longest_idle(pool);
    return *victim ? WAY_UNMAP : WAY_MAP;
}

static int fail_in_use(struct haul_pool *pool, const struct request *want)
{
    return haul_fail(
        HAUL_NO_MEMORY,
        "the pool has no room for %zu KiB: messages that were not released hold %zu of "
        "its %zu MiB; release them, or raise HAUL_POOL_MAX",
        want->block_bytes >> 10, haul_pool_used_bytes(pool) >> 20, pool->max_bytes >> 20);
}

static int grow(struct haul_pool *pool, const struct request *want, struct haul_slab_block **taken)
{
    for (;;) {
        struct haul_slab *victim = NULL;
        pthread_mutex_lock(&pool->lock);
        enum way way = next_way(pool, want, taken, &victim);
        pthread_mutex_unlock(&pool->lock);
        int err = 0;
        if (way == WAY_TAKEN)
            return 0;
        if (way == WAY_NONE)
            return fail_in_use(pool, want);
        if (way == WAY_UNMAP)
            unmap_victim(pool, victim);
        else
            err = map_slab(pool, want->slab_bytes);
        if (err)
            return err;
    }
}

/* ---- Public to core -------------------------------------------------------------------------- */

static void release_reference(struct haul_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) > 1)
        return;
    pthread_mutex_destroy(&pool->growth);
    pthread_mutex_destroy(&pool->lock);
    pthread_rwlock_destroy(&pool->notify_lock);
    free(pool);
}

int haul_pool_create(size_t max_bytes, const struct haul_pool_hooks *hooks, struct haul_pool **pool)
{
    if (max_bytes < HAUL_SLAB_UNIT)
        return haul_fail(HAUL_INVALID, "a pool of %zu bytes is too small: it needs %d", max_bytes,
                         HAUL_SLAB_UNIT);
    struct haul_pool *made = calloc(1, sizeof *made);
    if (!made)
        return haul_fail(HAUL_NO_MEMORY, "there is no memory for a pool");
    made->generation = fork_generation;
    made->max_bytes = max_bytes - max_bytes % HAUL_SLAB_UNIT;
    if (hooks)
        made->hooks = *hooks;
    atomic_init(&made->references, 1);
    pthread_mutex_init(&made->growth, NULL);
    pthread_mutex_init(&made->lock, NULL);
    pthread_rwlock_init(&made->notify_lock, NULL);
    haul_list_init(&made->all);
    haul_list_init(&made->idle);
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        haul_list_init(&made->roomy[false][i]);
        haul_list_init(&made->roomy[true][i]);
    }
    for (unsigned i = 0; i < SLAB_SIZE_COUNT; i++)
        haul_list_init(&made->idle_of_size[i]);
    *pool = made;
    return 0;
}

static void end_hooks(struct haul_pool *pool)
{
    HAUL_LIST_EACH(&pool->all, node)
    {
        if (pool->hooks.unmapping)
            pool->hooks.unmapping(HAUL_CONTAINER_OF(node, struct haul_slab, all), pool->hooks.arg);
        haul_list_remove(node);
    }
    pool->hooks = (struct haul_pool_hooks){0};
}

/* An idle slab that is to be unmapped, or NULL. */
static struct haul_slab *withdraw_idle(struct haul_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct haul_slab *slab = pop_longest_idle(pool);
    if (slab)
        pool->mapped_bytes -= slab->memory.bytes;
    pthread_mutex_unlock(&pool->lock);
    return slab;
}

void haul_pool_release(struct haul_pool *pool)
{
    if (!pool)
        return;
    haul_pool_notify(pool, NULL, NULL);
    pthread_mutex_lock(&pool->growth);
    end_hooks(pool);
    pthread_mutex_unlock(&pool->growth);
    pthread_mutex_lock(&pool->lock);
    pool->released = true;
    pthread_mutex_unlock(&pool->lock);
    for (struct haul_slab *slab; (slab = withdraw_idle(pool));)
        haul_slab_unmap(slab);
    release_reference(pool);
}

int haul_pool_alloc(struct haul_pool *pool, size_t bytes, unsigned flags, struct haul_block **block)
{
    bool fits = bytes <= pool->max_bytes;
    if (!fits && (!(flags & HAUL_POOL_RESERVED) || bytes > SIZE_MAX / 2))
        return haul_fail(HAUL_TOO_LARGE,
                         "%zu bytes are more than the whole pool takes, %zu bytes "
                         "(HAUL_POOL_MAX)",
                         bytes, pool->max_bytes);
    struct request want = request_of(pool, bytes, flags);
    pthread_mutex_lock(&pool->lock);
    struct haul_slab_block *taken = take_block(pool, &want);
    pthread_mutex_unlock(&pool->lock);
    if (!taken) {
        pthread_mutex_lock(&pool->growth);
        int err = grow(pool, &want, &taken);
        pthread_mutex_unlock(&pool->growth);
        if (err)
            return err;
    }
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    atomic_init(&taken->block.references, 1);
    *block = &taken->block;
    return 0;
}

static void notify_released(struct haul_pool *pool)
{
    pthread_rwlock_rdlock(&pool->notify_lock);
    if (pool->notify)
        pool->notify(pool->notify_arg);
    pthread_rwlock_unlock(&pool->notify_lock);
}

struct haul_pool *haul_block_pool(const struct haul_block *block)
{
    return block->slab->pool;
}

struct haul_block *haul_block_retain(struct haul_block *block)
{
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
    return block;
}

void haul_block_release(struct haul_block *block)
{
    struct haul_slab_block *held = HAUL_CONTAINER_OF(block, struct haul_slab_block, block);
    struct haul_pool *pool = block->slab->pool;
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) > 1 ||
        pool->generation != fork_generation)
        return;
    pthread_mutex_lock(&pool->lock);
    struct haul_slab *unneeded = put_block(pool, held);
    pthread_mutex_unlock(&pool->lock);
    if (unneeded)
        haul_slab_unmap(unneeded);
    notify_released(pool);
    release_reference(pool);
}

void haul_pool_notify(struct haul_pool *pool, void (*released)(void *arg), void *arg)
{
    pthread_rwlock_wrlock(&pool->notify_lock);
    pool->notify = released;
    pool->notify_arg = arg;
    pthread_rwlock_unlock(&pool->notify_lock);
}

void haul_pools_forked(void)
{
    fork_generation++;
}

static size_t read_locked(struct haul_pool *pool, const size_t *counter)
{
    pthread_mutex_lock(&pool->lock);
    size_t value = *counter;
    pthread_mutex_unlock(&pool->lock);
    return value;
}

size_t haul_pool_mapped_bytes(struct haul_pool *pool)
{
    return read_locked(pool, &pool->mapped_bytes);
}

size_t haul_pool_used_bytes(struct haul_pool *pool)
{
    return read_locked(pool, &pool->used_bytes);
}
