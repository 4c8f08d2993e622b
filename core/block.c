/* SPDX-License-Identifier: Apache-2.0
 * Blocks of pool memory as users hold them; retain and release are the pool's. */
#include "handles.h"

int haul_block_alloc(struct haul_context *context, size_t bytes, struct haul_block **block)
{
    int err = haul_context_enter(context);
    if (err)
        return err;
    err = haul_engine_alloc(context->engine, bytes, block);
    haul_engine_leave(context->engine);
    return err;
}

void *haul_block_data(const struct haul_block *block)
{
    return block->data;
}

size_t haul_block_bytes(const struct haul_block *block)
{
    return block->bytes;
}
