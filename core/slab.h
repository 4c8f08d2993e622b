/* SPDX-License-Identifier: Apache-2.0
 * Slabs: mappings cut into equal blocks. Internal to the pool (pool.c decides, slab.c does);
 * nothing here locks. */
#ifndef HAUL_CORE_SLAB_H
#define HAUL_CORE_SLAB_H

#include "memory.h"
#include "pool.h"
#include "util.h"

#include <stdatomic.h>

enum { HAUL_BLOCK_MIN = 4 << 10 };

/* A block and what is kept beside it. */
struct haul_slab_block {
    struct haul_block block;
    struct haul_slab_block *next_free;
};

struct haul_slab {
    struct haul_pool *pool;
    struct haul_mapping memory;
    void *regions[HAUL_POOL_REGIONS_MAX];

    /* How it is cut. Blocks from `untouched` on were not handed out since the cut: so a cut costs
     * the same for any number of blocks. */
    size_t block_bytes;
    uint32_t capacity, used, untouched;
    struct haul_slab_block *free;

    /* The pool's: which lists it is in. */
    struct haul_list all;   /* every slab of the pool */
    struct haul_list place; /* the class's slabs with room, or the idle slabs of this size */
    struct haul_list idle;  /* idle slabs, longest idle first */
    unsigned class;
    bool shared; /* see haul_slab_share() */
    bool excess; /* its blocks are for HAUL_POOL_RESERVED only: it exceeds the pool's limit */

    struct haul_slab_block blocks[]; /* as many as the finest cut needs: a cut allocates nothing */
};

/* Maps a slab, as haul_memory_map() does. */
int haul_slab_map(size_t bytes, bool as_file, const struct haul_memory_wish *wish,
                  struct haul_slab **slab);
void haul_slab_unmap(struct haul_slab *slab);

/* Cuts an idle slab anew. One larger than a unit is a single block. */
void haul_slab_cut(struct haul_slab *slab, size_t block_bytes);
/* A free block of a slab that is not full; its memory is the caller's until put. */
struct haul_slab_block *haul_slab_take(struct haul_slab *slab);
void haul_slab_put(struct haul_slab_block *block);

static inline bool haul_slab_full(const struct haul_slab *slab)
{
    return slab->used == slab->capacity;
}

#endif
