/* SPDX-License-Identifier: Apache-2.0
 * The plan of a message: which arrays go with the manifest (inline) and which are offered, to be
 * fetched by the receiver when it has memory and it is their turn.
 *
 * All inline if the prepaid credit covers it, which saves a round trip; else the small ones, in
 * order, up to HAUL_INLINE_MAX. With rma the large ones are always offered: the NIC reads them
 * without a copy. */
#include "engine.h"

#include <stdlib.h>

/* Memory that is not the pool's is worth a registration from here on; smaller arrays go by the
 * channel. */
enum { REGISTER_BYTES = 1 << 20 };

static uint64_t inline_room(const struct haul_op *op, uint64_t total)
{
    const struct haul_link *link = op->link;
    if (link->state == HAUL_LINK_PLAIN)
        return UINT64_MAX;
    uint64_t room = op->kind == HAUL_OP_REPLY ? (uint64_t)HAUL_INLINE_MAX
                                              : link->credit_bytes - link->used_bytes;
    bool all_fit = total <= room && (!link->rma || total <= HAUL_INLINE_MAX);
    return all_fit ? room : HAUL_MIN(room, (uint64_t)HAUL_INLINE_MAX);
}

static void *register_array(struct haul_op *op, const struct haul_array *array)
{
    struct haul_transport *transport = op->link->rma;
    if (op->region_count == op->region_capacity) {
        size_t capacity = op->region_capacity + 8;
        void **regions = realloc(op->regions, capacity * sizeof *regions);
        if (!regions)
            return NULL;
        op->regions = regions;
        op->region_capacity = capacity;
    }
    void *region;
    if (transport->provider->rma->reg(transport->rma, array->data, (size_t)array->nbytes,
                                      HAUL_RMA_OFFER, &region))
        return NULL;
    HAUL_COUNT(op->peer, registrations, 1);
    op->regions[op->region_count++] = region;
    return region;
}

/* Adds the way to read an array by rma; without one it is fetched on the channel. */
static void offer(struct haul_op *op, struct haul_manifest_array *item, struct haul_block *block)
{
    struct haul_transport *transport = op->link->rma;
    void *region = NULL;
    if (block)
        region = haul_slab_regions(block->slab)[transport->slot];
    else if (item->array.nbytes >= REGISTER_BYTES)
        region = register_array(op, &item->array);
    size_t way_bytes = sizeof item->way;
    if (!region || transport->provider->rma->offer(
                       region, item->array.data, (size_t)item->array.nbytes, item->way, &way_bytes))
        return;
    item->way_bytes = (uint8_t)way_bytes;
    op->offered_rma = true;
}

void haul_plan(struct haul_op *op)
{
    struct haul_manifest *manifest = &op->manifest;
    uint64_t total = 0, taken = 0;
    for (uint32_t i = 0; i < manifest->count; i++)
        total += haul_prepaid_array_bytes(&manifest->arrays[i].array);
    uint64_t room = inline_room(op, total);
    manifest->inline_bytes = manifest->offered_bytes = 0;
    haul_plan_undo(op);
    op->gives = op->offered_rma = false;
    for (uint32_t i = 0; i < manifest->count; i++) {
        struct haul_manifest_array *item = &manifest->arrays[i];
        item->way_bytes = 0;
        item->given = false;
        uint64_t bytes = haul_prepaid_array_bytes(&item->array);
        item->offered = bytes > room - taken;
        taken += item->offered ? 0 : bytes;
        *(item->offered ? &manifest->offered_bytes : &manifest->inline_bytes) += item->array.nbytes;
        if (item->offered && op->link->rma && !op->link->probing)
            offer(op, item, op->entries[i]->block); /* no block: the user's memory */
        item->given = item->way_bytes > 0 && op->entries[i]->give;
        op->gives |= item->given;
    }
}

void haul_plan_undo(struct haul_op *op)
{
    while (op->region_count > 0)
        op->link->rma->provider->rma->dereg(op->regions[--op->region_count]);
}
