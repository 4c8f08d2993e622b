/* SPDX-License-Identifier: Apache-2.0
 * haul/block.h: a block is memory of a context's pool, for arrays that are sent more than once. */
#ifndef HAUL_BLOCK_H
#define HAUL_BLOCK_H

#include <haul/context.h>

#ifdef __cplusplus
extern "C" {
#endif

struct haul_block;

/* At least `bytes` of pool memory: 64-byte aligned, not initialised, registered with the NIC where
 * there is one. The caller owns a reference; haul_dict_put_block() puts arrays in it into dicts.
 * Errors: HAUL_NO_MEMORY (in use; see HAUL_POOL_MAX), HAUL_TOO_LARGE, HAUL_CLOSED, HAUL_FORKED. */
HAUL_API int haul_block_alloc(struct haul_context *context, size_t bytes,
                              struct haul_block **block);
/* Its memory, valid as long as the block. */
HAUL_API void *haul_block_data(const struct haul_block *block);
/* As many bytes as were asked for, or more. */
HAUL_API size_t haul_block_bytes(const struct haul_block *block);

/* References: the memory goes back to the pool with the last one. Any thread, also after the
 * context was closed; in a child of fork() release does nothing. */
HAUL_API struct haul_block *haul_block_retain(struct haul_block *block);
HAUL_API void haul_block_release(struct haul_block *block);

#ifdef __cplusplus
}
#endif
#endif
