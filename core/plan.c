/* SPDX-License-Identifier: Apache-2.0
 * The plan of a message: which arrays go with the manifest (inline) and which are offered, to be
 * fetched by the receiver when it has memory and it is their turn.
 *
 * All inline if the prepaid credit covers it, which saves a round trip; else the small ones, in
 * order, up to HAUL_INLINE_MAX. With rma the large ones are always offered: the NIC reads them
 * without a copy. */
#include "handles.h"
#include "link.h"
#include "sending.h"

#include <stdlib.h>

/* Memory that is not the pool's is worth a registration from here on, where one costs; smaller
 * arrays go by the channel. */
enum { REGISTER_BYTES = 1 << 20 };

/* Where nothing is registered, reading beats the channel from here on (shm: given 2 times at 64
 * KiB, others 1.2 times; as fast at 16 KiB). */
enum { CHEAP_INLINE_MAX = 32 << 10 };

static bool registers_cheaply(const struct haul_link *link)
{
    return link->rma && link->rma->provider->rma->flags & HAUL_RMA_CHEAP_REG;
}

static uint64_t inline_room(const struct haul_op *op, uint64_t total)
{
    const struct haul_link *link = op->link;
    if (link->state == HAUL_LINK_PLAIN)
        return UINT64_MAX;
    uint64_t room = op->kind == HAUL_OP_REPLY ? (uint64_t)HAUL_INLINE_MAX
                                              : link->credit_bytes - link->used_bytes;
    uint64_t inline_max = registers_cheaply(link) ? CHEAP_INLINE_MAX : HAUL_INLINE_MAX;
    bool all_fit = total <= room && (!link->rma || total <= inline_max);
    return all_fit ? room : HAUL_MIN(room, inline_max);
}

static void *register_array(struct haul_op *op, const struct haul_array *array)
{
    struct haul_transport *transport = op->link->rma;
    void **regions =
        haul_grow(op->regions, &op->region_capacity, op->region_count, sizeof *regions);
    if (!regions)
        return NULL;
    op->regions = regions;
    void *region;
    if (transport->provider->rma->reg(transport->rma, array->data, (size_t)array->nbytes,
                                      HAUL_RMA_OFFER, -1, &region))
        return NULL;
    HAUL_COUNT(op->peer, registrations, 1);
    op->regions[op->region_count++] = region;
    return region;
}

/* A copy in memory that the peer can read, which is given to it. NULL: there is no room for one. */
static struct haul_block *copy_array(struct haul_op *op, struct haul_manifest_array *item)
{
    struct haul_dict_entry *entry = calloc(1, sizeof *entry);
    if (!entry ||
        haul_pool_alloc(op->engine->offers, (size_t)item->array.nbytes, 0, &entry->block)) {
        free(entry);
        return NULL;
    }
    entry->copy = true;
    entry->array.nbytes = item->array.nbytes;
    entry->array.data = memcpy(entry->block->data, item->array.data, (size_t)item->array.nbytes);
    item->array.data = entry->array.data;
    haul_list_append(&op->given, &entry->node);
    HAUL_COUNT(op->peer, bytes_copied, item->array.nbytes);
    return entry->block;
}

/* Of an earlier plan, which was not announced. */
static void drop_copies(struct haul_op *op)
{
    HAUL_LIST_EACH(&op->given, node)
    {
        struct haul_dict_entry *entry = HAUL_CONTAINER_OF(node, struct haul_dict_entry, node);
        if (!entry->copy)
            continue;
        haul_list_remove(node);
        haul_dict_entry_free(entry);
    }
}

static bool peer_reads_all(const struct haul_link *link)
{
    const struct haul_rma_ops *ops = link->rma->provider->rma;
    return !ops->reads_all || ops->reads_all(link->rma_peer);
}

/* A slab that is no file (there was no descriptor for it) can only be read in our process. */
static bool is_reachable(const struct haul_link *link, const struct haul_block *block)
{
    return peer_reads_all(link) || haul_slab_file(block->slab) >= 0;
}

/* The region that an array is read from, or NULL. */
static void *find_region(struct haul_op *op, struct haul_manifest_array *item,
                         struct haul_block *block)
{
    if (!block && !registers_cheaply(op->link) && item->array.nbytes < REGISTER_BYTES)
        return NULL;
    if (!block && peer_reads_all(op->link))
        return register_array(op, &item->array);
    if (!block) {
        block = copy_array(op, item);
        item->given = block != NULL;
    }
    if (!block || !is_reachable(op->link, block))
        return NULL;
    return haul_slab_regions(block->slab)[op->link->rma->slot];
}

/* Adds the way to read an array by rma; without one it is fetched on the channel. */
static void offer(struct haul_op *op, struct haul_manifest_array *item, struct haul_block *block)
{
    struct haul_transport *transport = op->link->rma;
    void *region = find_region(op, item, block);
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
    drop_copies(op);
    op->gives = op->offered_rma = false;
    for (uint32_t i = 0; i < manifest->count; i++) {
        struct haul_manifest_array *item = &manifest->arrays[i];
        item->array.data = op->entries[i]->array.data;
        item->way_bytes = 0;
        item->given = false;
        uint64_t bytes = haul_prepaid_array_bytes(&item->array);
        item->offered = bytes > room - taken;
        taken += item->offered ? 0 : bytes;
        *(item->offered ? &manifest->offered_bytes : &manifest->inline_bytes) += item->array.nbytes;
        if (item->offered && op->link->rma && !op->link->probing)
            offer(op, item, op->entries[i]->block); /* no block: the user's memory */
        item->given = item->way_bytes > 0 && (item->given || op->entries[i]->give);
        op->gives |= item->given;
    }
}

void haul_plan_undo(struct haul_op *op)
{
    while (op->region_count > 0)
        op->link->rma->provider->rma->dereg(op->regions[--op->region_count]);
}
