/* SPDX-License-Identifier: Apache-2.0
 * The pool: reused, pre-faulted, 64-byte aligned blocks cut from slabs.
 *
 * A slab (slab.h) is one 2 MiB-aligned mapping (memory.h), cut into blocks of one size class; when
 * all its blocks are free it is idle and may be cut anew for another class. Classes are a quarter
 * of a power of two apart, from 4 KiB; blocks over 1 MiB have a slab of their own, a multiple of 2
 * MiB. In the steady state alloc and release neither map, fault nor malloc.
 *
 * Threads: all functions from any thread (the pool has a lock of its own), except that hooks run
 * haul_pool_alloc() and haul_pool_release() only, which the engine calls under the drive lock. */
#ifndef HAUL_CORE_POOL_H
#define HAUL_CORE_POOL_H

#include <haul/block.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { HAUL_POOL_ALIGNMENT = 64, HAUL_POOL_REGIONS_MAX = 8 };

struct haul_memory_wish;
struct haul_pool;
struct haul_slab;

/* A block; `data` has room for `bytes` (at least what was asked for). haul/block.h has what users
 * may do with it. */
struct haul_block {
    atomic_uint references;
    void *data;
    size_t bytes;
    struct haul_slab *slab;
};

/* Called when a slab was mapped and before it is unmapped, to register and deregister it. A failing
 * map hook makes the alloc fail with its error. */
struct haul_pool_hooks {
    int (*mapped)(struct haul_slab *slab, void *arg);
    void (*unmapping)(struct haul_slab *slab, void *arg);
    void *arg;
    bool files; /* slabs are memory files, which other processes can map but not write */
    const struct haul_memory_wish *wish; /* looked at when a slab is mapped; NULL: none */
};

/* max_bytes bounds the sum of the mappings. */
int haul_pool_create(size_t max_bytes, const struct haul_pool_hooks *hooks,
                     struct haul_pool **pool);
/* The pool ends when its creator has released it and the last block is released. After this call
 * the hooks are not called any more; `unmapping` runs for every slab inside it. */
void haul_pool_release(struct haul_pool *pool);

enum haul_pool_flags {
    HAUL_POOL_RESERVED = 1, /* memory promised in advance: may exceed max_bytes */
};
/* Errors: HAUL_NO_MEMORY (in use; try after a release), HAUL_TOO_LARGE (would never fit in
 * max_bytes). A size of 0 gives a block of the smallest class. */
int haul_pool_alloc(struct haul_pool *pool, size_t bytes, unsigned flags,
                    struct haul_block **block);
struct haul_pool *haul_block_pool(const struct haul_block *block);
/* In a child of fork(), before anything else of this file: blocks of the parent's pools are not
 * given back any more, because a thread of the parent's may have held a pool's lock. */
void haul_pools_forked(void);
/* Called after each release that made memory free (from the releasing thread, no lock held), so
 * that who waits for memory can try again. NULL: not any more. */
void haul_pool_notify(struct haul_pool *pool, void (*released)(void *arg), void *arg);

size_t haul_pool_mapped_bytes(struct haul_pool *pool);
size_t haul_pool_used_bytes(struct haul_pool *pool);

/* The mapping that a block lies in, and the regions that providers registered for it. */
void *haul_slab_base(const struct haul_slab *slab);
size_t haul_slab_bytes(const struct haul_slab *slab);
void **haul_slab_regions(struct haul_slab *slab); /* HAUL_POOL_REGIONS_MAX slots, NULL at first */
/* The file that it is all of, or -1. */
int haul_slab_file(const struct haul_slab *slab);
/* From a map hook: peers may read the slab at any time, also what is free; AddressSanitizer is not
 * to mind. */
void haul_slab_share(struct haul_slab *slab);

#endif
