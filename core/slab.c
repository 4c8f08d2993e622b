/* SPDX-License-Identifier: Apache-2.0
 * Slabs: mapped memory, cut into blocks, of which AddressSanitizer minds the free ones. */
#include "slab.h"

#include "error.h"

#include <stdlib.h>

/* Under AddressSanitizer free blocks are poisoned, so that a use after release is found. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAUL_POISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAUL_POISON 1
#endif
#ifdef HAUL_POISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

static size_t most_blocks(size_t slab_bytes)
{
    return slab_bytes > HAUL_SLAB_UNIT ? 1 : HAUL_SLAB_UNIT / HAUL_BLOCK_MIN;
}

int haul_slab_map(size_t bytes, bool as_file, const struct haul_memory_wish *wish,
                  struct haul_slab **slab)
{
    size_t blocks = most_blocks(bytes);
    struct haul_slab *made = calloc(1, sizeof *made + blocks * sizeof made->blocks[0]);
    if (!made)
        return haul_fail(HAUL_NO_MEMORY,
                         "the system has no memory for the blocks of %zu MiB more of the pool: "
                         "lower HAUL_POOL_MAX or free memory",
                         bytes >> 20);
    int err = haul_memory_map(bytes, as_file, wish, &made->memory);
    if (err) {
        free(made);
        return err;
    }
    /* Written now, so that the first use of a block does not fault either. */
    for (size_t i = 0; i < blocks; i++)
        made->blocks[i].block.slab = made;
    haul_list_init(&made->all);
    haul_list_init(&made->place);
    haul_list_init(&made->idle);
    ASAN_POISON_MEMORY_REGION(made->memory.base, bytes);
    *slab = made;
    return 0;
}

void haul_slab_share(struct haul_slab *slab)
{
    slab->shared = true;
    ASAN_UNPOISON_MEMORY_REGION(slab->memory.base, slab->memory.bytes);
}

void haul_slab_unmap(struct haul_slab *slab)
{
    ASAN_UNPOISON_MEMORY_REGION(slab->memory.base, slab->memory.bytes);
    haul_memory_unmap(&slab->memory);
    free(slab);
}

void haul_slab_cut(struct haul_slab *slab, size_t block_bytes)
{
    slab->block_bytes = block_bytes;
    slab->capacity = (uint32_t)(slab->memory.bytes / block_bytes);
    slab->untouched = 0;
    slab->free = NULL;
}

struct haul_slab_block *haul_slab_take(struct haul_slab *slab)
{
    struct haul_slab_block *taken = slab->free;
    if (taken) {
        slab->free = taken->next_free;
    } else {
        taken = &slab->blocks[slab->untouched];
        taken->block.data = slab->memory.base + slab->untouched * slab->block_bytes;
        taken->block.bytes = slab->block_bytes;
        slab->untouched++;
    }
    slab->used++;
    ASAN_UNPOISON_MEMORY_REGION(taken->block.data, taken->block.bytes);
    return taken;
}

void haul_slab_put(struct haul_slab_block *block)
{
    struct haul_slab *slab = block->block.slab;
    if (!block->block.slab->shared)
        ASAN_POISON_MEMORY_REGION(block->block.data, block->block.bytes);
    block->next_free = slab->free;
    slab->free = block;
    slab->used--;
}

void *haul_slab_base(const struct haul_slab *slab)
{
    return slab->memory.base;
}

size_t haul_slab_bytes(const struct haul_slab *slab)
{
    return slab->memory.bytes;
}

int haul_slab_file(const struct haul_slab *slab)
{
    return slab->memory.file;
}

void **haul_slab_regions(struct haul_slab *slab)
{
    return slab->regions;
}
