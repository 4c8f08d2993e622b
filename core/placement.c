/* SPDX-License-Identifier: Apache-2.0
 * Where received bytes land: in memory that a receive named (destination.c), in place (given arrays
 * on a path that maps), in one pool block for each stream of a message, or in frames that the
 * channel lends (then only a budget is kept here).
 *
 * Inline bytes get their memory at once: it was promised with the credit. Offered ones get theirs
 * when it is their turn to be fetched (fetch.c), so that few blocks are in use and stay in the
 * cache. Nobody waits here: messages wait in lists, and the lists are looked at again when memory
 * is released or a destination is posted. A message that could never fit is refused.
 *
 * While an inbox receives into named memory, large messages stay with their senders
 * (inbox->unplaced) until a destination is posted, so that they land in it without a copy; but one
 * that was taken out of a row comes to the pool (see destination.c). */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"

/* ---- Pool ------------------------------------------------------------------------------------ */

static bool lends(const struct haul_link *link)
{
    return link->transport->provider->channel->flags & HAUL_CHANNEL_PARTS;
}

static bool lacks_memory(const struct haul_manifest_array *item, bool offered)
{
    return item->offered == offered && !item->array.data && item->array.nbytes > 0;
}

/* What the arrays of one stream that have no memory yet take in the pool. */
static size_t bytes_lacking(const struct haul_message *message, bool offered)
{
    const struct haul_manifest *manifest = &message->manifest;
    size_t bytes = 0;
    for (uint32_t i = 0; i < manifest->count; i++)
        if (lacks_memory(&manifest->arrays[i], offered))
            bytes += haul_align_up((size_t)manifest->arrays[i].array.nbytes, HAUL_POOL_ALIGNMENT);
    return bytes;
}

/* One pool block for all of them. reserved: promised in advance. */
static int place_in_pool(struct haul_message *message, bool offered, bool reserved)
{
    struct haul_manifest *manifest = &message->manifest;
    struct haul_block *block;
    int err = haul_pool_alloc(message->engine->pool, bytes_lacking(message, offered),
                              reserved ? HAUL_POOL_RESERVED : 0, &block);
    if (err)
        return err;
    char *at = block->data;
    for (uint32_t i = 0; i < manifest->count; i++) {
        struct haul_array *array = &manifest->arrays[i].array;
        if (!lacks_memory(&manifest->arrays[i], offered))
            continue;
        array->data = at;
        at += haul_align_up((size_t)array->nbytes, HAUL_POOL_ALIGNMENT);
    }
    *(offered ? &message->offered_block : &message->inline_block) = block;
    return 0;
}

int haul_place_inline(struct haul_message *message)
{
    return message->manifest.inline_bytes > 0 ? place_in_pool(message, false, true) : 0;
}

static int keep_copy(struct haul_message *message, struct haul_block *block)
{
    struct haul_block **copies =
        haul_grow(message->copies, &message->copy_capacity, message->copy_count, sizeof *copies);
    if (!copies)
        return haul_fail(HAUL_NO_MEMORY, "no memory to keep a part");
    message->copies = copies;
    message->copies[message->copy_count++] = block;
    return 0;
}

int haul_place_copy(struct haul_message *message, struct haul_array *array, const void *data)
{
    struct haul_block *block;
    int err =
        haul_pool_alloc(message->engine->pool, (size_t)array->nbytes, HAUL_POOL_RESERVED, &block);
    if (err)
        return err;
    err = keep_copy(message, block);
    if (err) {
        haul_block_release(block);
        return err;
    }
    array->data = memcpy(block->data, data, (size_t)array->nbytes);
    HAUL_COUNT(message->peer, bytes_copied, array->nbytes);
    return 0;
}

/* Whether its offered bytes will come in frames that the channel lends, and not by rma. */
static bool comes_in_frames(const struct haul_message *message)
{
    if (!lends(message->link))
        return false;
    for (uint32_t i = 0; i < message->manifest.count && haul_link_reads(message->link); i++)
        if (message->manifest.arrays[i].way_bytes > 0)
            return false;
    return true;
}

/* Lent frames are the channel's memory: only the limit is ours. */
static int reserve_lent(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    uint64_t bytes = message->manifest.offered_bytes;
    uint64_t used = engine->lent_bytes + haul_pool_used_bytes(engine->pool);
    if (bytes > engine->config.pool_max)
        return haul_fail(HAUL_TOO_LARGE, "%llu bytes are more than the receive memory",
                         (unsigned long long)bytes);
    if (used + bytes > engine->config.pool_max)
        return HAUL_NO_MEMORY;
    engine->lent_bytes += bytes;
    message->lent_bytes = bytes;
    return 0;
}

static bool keep_mapping(struct haul_message *message, void *mapping)
{
    void **mappings = haul_grow(message->mappings, &message->mapping_capacity,
                                message->mapping_count, sizeof *mappings);
    if (!mappings)
        return false;
    message->mappings = mappings;
    message->mappings[message->mapping_count++] = mapping;
    return true;
}

/* Given arrays are looked at in place, where the path can: they need no memory and no transfer. */
static void map_given(struct haul_message *message)
{
    struct haul_link *link = message->link;
    if (!haul_link_reads(link) || !link->rma->provider->rma->map)
        return;
    const struct haul_rma_ops *ops = link->rma->provider->rma;
    for (uint32_t i = 0; i < message->manifest.count; i++) {
        struct haul_manifest_array *item = &message->manifest.arrays[i];
        const void *data;
        void *mapping;
        if (!item->given || item->mapped ||
            ops->map(link->rma_peer, item->way, item->way_bytes, (size_t)item->array.nbytes, &data,
                     &mapping))
            continue;
        if (!keep_mapping(message, mapping)) {
            ops->unmap(mapping);
            continue;
        }
        item->array.data = (void *)(uintptr_t)data;
        item->array.flags |= HAUL_SHARED;
        item->mapped = true;
        message->stream_received += item->array.nbytes;
        message->needs_proof = true;
        HAUL_COUNT(message->peer, bytes_mapped, item->array.nbytes);
    }
}

void haul_place_unmap(struct haul_message *message)
{
    if (message->mapping_count == 0)
        return;
    for (uint32_t i = 0; i < message->manifest.count; i++) {
        struct haul_manifest_array *item = &message->manifest.arrays[i];
        if (!item->mapped)
            continue;
        item->array.data = NULL;
        item->array.flags &= ~(uint32_t)HAUL_SHARED;
        item->mapped = false;
    }
    while (message->mapping_count > 0)
        message->link->rma->provider->rma->unmap(message->mappings[--message->mapping_count]);
}

bool haul_place_has_memory(const struct haul_message *message)
{
    return message->destination || message->offered_block || message->lent_bytes > 0;
}

/* A receive has ended before it was whole. Another one may end as early, so it comes to the pool,
 * whatever is posted, if that can ever take it. */
static bool is_for_pool(const struct haul_message *message)
{
    return message->evictions > 0 &&
           bytes_lacking(message, true) <= message->engine->config.pool_max;
}

/* Small blocks of messages that wait keep whole slabs from being used otherwise: in a small pool
 * they can leave no room for any message, although little is in use. Where nothing is under way
 * whose end would give memory back, one that should have room gets it beyond the limit. */
bool haul_place_is_alone(const struct haul_message *message)
{
    const struct haul_engine *engine = message->engine;
    return engine->fetches == 0 && engine->stats.messages_unreleased == 0 &&
           haul_pool_used_bytes(engine->pool) + bytes_lacking(message, true) <=
               engine->config.pool_max;
}

int haul_place_offered(struct haul_message *message)
{
    if (haul_place_has_memory(message))
        return 0;
    if (comes_in_frames(message))
        return reserve_lent(message);
    return place_in_pool(message, true, haul_place_is_alone(message));
}

void haul_place_forget_offered(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    if (message->lent_bytes > 0) {
        engine->lent_bytes -= message->lent_bytes;
        message->lent_bytes = 0;
        atomic_store(&engine->pool_released, true);
    }
    if (!message->offered_block)
        return;
    for (uint32_t i = 0; i < message->manifest.count; i++) {
        struct haul_manifest_array *item = &message->manifest.arrays[i];
        if (item->offered && !item->mapped)
            item->array.data = NULL;
    }
    haul_block_release(message->offered_block);
    message->offered_block = NULL;
}

void haul_place_wait(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    if (!message->pool_wait_counted)
        HAUL_COUNT(message->peer, pool_waits, 1);
    message->pool_wait_counted = true;
    message->waits_for_pool = true;
    engine->pool_blocked = true;
    if (!engine->pool_waiting_since_ns) {
        engine->pool_waiting_since_ns = haul_now_ns();
        engine->pool_wait_logged = false;
        haul_engine_timer(engine, engine->pool_waiting_since_ns + HAUL_HELD_LOG_NS);
    }
    haul_place_inbox(message->link->inbox); /* it may have a row instead, or be gone */
}

/* ---- Messages -------------------------------------------------------------------------------- */

void haul_place_message(struct haul_message *message)
{
    struct haul_inbox *inbox = message->link->inbox;
    struct haul_destination *destination = haul_destination_for(message);
    if (destination) {
        haul_destination_claim(destination, message);
        return;
    }
    int err = lends(message->link) ? 0 : haul_place_inline(message);
    if (err) {
        haul_inbound_refuse(message, err, haul_error_detail());
        return;
    }
    if (message->call || inbox->placement == HAUL_PLACE_POOL ||
        message->manifest.offered_bytes == 0) {
        map_given(message);
        haul_fetch_queue(message);
    } else {
        haul_list_append(&inbox->unplaced, &message->place_node);
    }
}

/* Those that a destination may take: they wait for one, or for their turn to come to the pool. One
 * that was evicted only when the pool has no room for it; one whose sender let a turn pass comes
 * last. */
static struct haul_message *next_for_destination(struct haul_inbox *inbox)
{
    struct haul_message *stalled = NULL;
    struct haul_list *lists[] = {&inbox->unplaced, &inbox->engine->fetching};
    if (haul_list_empty(&inbox->destinations))
        return NULL;
    for (size_t i = 0; i < HAUL_COUNT_OF(lists); i++) {
        HAUL_LIST_EACH(lists[i], node)
        {
            struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, place_node);
            if (message->link->inbox == inbox && message->mapping_count == 0 &&
                (message->waits_for_pool || !is_for_pool(message)) &&
                !haul_place_has_memory(message) && haul_destination_for(message)) {
                if (!message->stalled)
                    return message;
                stalled = stalled ? stalled : message;
            }
        }
    }
    return stalled;
}

/* Those that need not wait for a destination. */
static struct haul_message *next_for_pool(struct haul_inbox *inbox)
{
    HAUL_LIST_EACH(&inbox->unplaced, node)
    {
        struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, place_node);
        if (inbox->placement == HAUL_PLACE_POOL || is_for_pool(message))
            return message;
    }
    return NULL;
}

void haul_place_inbox(struct haul_inbox *inbox)
{
    struct haul_message *message;
    if (inbox->placing)
        return; /* who places looks again */
    inbox->placing = true;
    /* Placing one may deliver, refuse or place others: the search begins anew each time. */
    for (;;) {
        if ((message = next_for_destination(inbox))) {
            haul_destination_claim(haul_destination_for(message), message);
        } else if ((message = next_for_pool(inbox))) {
            haul_list_remove(&message->place_node);
            map_given(message);
            haul_fetch_queue(message);
        } else {
            break;
        }
    }
    inbox->placing = false;
}

void haul_place_by(struct haul_inbox *inbox, enum haul_placement placement)
{
    if (inbox->placement == placement)
        return;
    inbox->placement = placement;
    haul_place_inbox(inbox);
}
