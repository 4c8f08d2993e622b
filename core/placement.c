/* SPDX-License-Identifier: Apache-2.0
 * Where received bytes land: in memory that a receive named (a destination), in place (given arrays
 * on a path that maps), in one pool block for each stream of a message, or in frames that the
 * channel lends (then only a budget is kept here).
 *
 * Inline bytes get their memory at once: it was promised with the credit. Offered ones get theirs
 * when it is their turn to be fetched (fetch.c), so that few blocks are in use and stay in the
 * cache. Nobody waits here: messages wait in lists, and the lists are looked at again when memory
 * is released or a destination is posted. A message that could never fit is refused.
 *
 * While an inbox receives into named memory, large messages stay with their senders
 * (inbox->unplaced) until a destination is posted, so that they land in it without a copy. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Pool ------------------------------------------------------------------------------------ */

static bool lends(const struct haul_link *link)
{
    return link->transport->provider->channel->flags & HAUL_CHANNEL_PARTS;
}

static bool lacks_memory(const struct haul_manifest_array *item, bool offered)
{
    return item->offered == offered && !item->array.data && item->array.nbytes > 0;
}

/* One pool block for the arrays of one stream that have no memory yet. reserved: promised in
 * advance. */
static int place_in_pool(struct haul_message *message, bool offered, bool reserved)
{
    struct haul_manifest *manifest = &message->manifest;
    struct haul_block *block;
    size_t bytes = 0;
    for (uint32_t i = 0; i < manifest->count; i++)
        if (lacks_memory(&manifest->arrays[i], offered))
            bytes += haul_align_up((size_t)manifest->arrays[i].array.nbytes, HAUL_POOL_ALIGNMENT);
    int err =
        haul_pool_alloc(message->engine->pool, bytes, reserved ? HAUL_POOL_RESERVED : 0, &block);
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

static int keep_copy(struct haul_message *message, struct haul_block *block)
{
    if (message->copy_count == message->copy_capacity) {
        size_t capacity = message->copy_capacity + 8;
        struct haul_block **copies = realloc(message->copies, capacity * sizeof *copies);
        if (!copies)
            return haul_fail(HAUL_NO_MEMORY, "no memory to keep a part");
        message->copies = copies;
        message->copy_capacity = capacity;
    }
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
    if (message->mapping_count == message->mapping_capacity) {
        size_t capacity = message->mapping_capacity + 8;
        void **mappings = realloc(message->mappings, capacity * sizeof *mappings);
        if (!mappings)
            return false;
        message->mappings = mappings;
        message->mapping_capacity = capacity;
    }
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
        HAUL_COUNT(message->peer, bytes_mapped, item->array.nbytes);
    }
}

bool haul_place_has_memory(const struct haul_message *message)
{
    return message->destination || message->offered_block || message->lent_bytes > 0;
}

int haul_place_offered(struct haul_message *message)
{
    if (haul_place_has_memory(message))
        return 0;
    return comes_in_frames(message) ? reserve_lent(message) : place_in_pool(message, true, false);
}

void haul_place_wait(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    if (!message->pool_wait_counted)
        HAUL_COUNT(message->peer, pool_waits, 1);
    message->pool_wait_counted = true;
    message->waits_for_pool = true;
    engine->pool_blocked = true;
    if (engine->pool_waiting_since_ns)
        return;
    engine->pool_waiting_since_ns = haul_now_ns();
    engine->pool_wait_logged = false;
    haul_engine_timer(engine, engine->pool_waiting_since_ns + HAUL_HELD_LOG_NS);
}

/* ---- Messages -------------------------------------------------------------------------------- */

static struct haul_destination *free_destination(struct haul_inbox *inbox)
{
    HAUL_LIST_EACH(&inbox->destinations, node)
    {
        struct haul_destination *destination =
            HAUL_CONTAINER_OF(node, struct haul_destination, node);
        if (destination->claimed < destination->rows)
            return destination;
    }
    return NULL;
}

/* Messages of one peer go to destinations in order: none passes an earlier one that is elsewhere.
 */
static bool may_claim(const struct haul_message *message)
{
    const struct haul_list *earlier = message->node.previous;
    if (message->inline_received < message->manifest.inline_bytes &&
        (message->inline_block || message->inline_received > 0))
        return false; /* its inline bytes are on their way to the pool */
    return earlier == &message->link->inbound ||
           HAUL_CONTAINER_OF(earlier, const struct haul_message, node)->destination;
}

static const struct haul_array *find_row(const struct haul_destination *destination, size_t guess,
                                         const char *key)
{
    if (guess < destination->array_count && !strcmp(destination->row[guess].key, key))
        return &destination->row[guess];
    for (size_t i = 0; i < destination->array_count; i++)
        if (!strcmp(destination->row[i].key, key))
            return &destination->row[i];
    return NULL;
}

static int check_fit(const struct haul_destination *destination, const struct haul_message *message)
{
    const struct haul_manifest *manifest = &message->manifest;
    char wanted[128], got[128];
    for (uint32_t i = 0; i < manifest->count; i++) {
        const struct haul_array *array = &manifest->arrays[i].array;
        const struct haul_array *row = find_row(destination, i, array->key);
        if (!row)
            return haul_fail(HAUL_REFUSED, "%s: the receiver does not expect an array of that name",
                             array->key);
        if (!haul_array_same_type(row, array))
            return haul_fail(HAUL_REFUSED, "%s: expected %s, got %s", array->key,
                             haul_array_format(row, wanted, sizeof wanted),
                             haul_array_format(array, got, sizeof got));
    }
    for (size_t i = 0; i < destination->array_count; i++)
        if (manifest->count != destination->array_count &&
            !haul_message_find(message, destination->row[i].key))
            return haul_fail(HAUL_REFUSED, "%s: expected, but the message does not have it",
                             destination->row[i].key);
    return 0;
}

static size_t free_row(const struct haul_destination *destination)
{
    size_t row = 0;
    while (destination->message[row])
        row++;
    return row;
}

static void release_block(struct haul_block **block)
{
    if (*block)
        haul_block_release(*block);
    *block = NULL;
}

/* Gives the message a row; what it has received already is copied there. */
static void occupy(struct haul_destination *destination, struct haul_message *message)
{
    struct haul_manifest *manifest = &message->manifest;
    size_t row = free_row(destination);
    for (uint32_t i = 0; i < manifest->count; i++) {
        struct haul_array *array = &manifest->arrays[i].array;
        const struct haul_array *type = find_row(destination, i, array->key);
        char *to = type->data ? (char *)type->data + row * type->nbytes : NULL;
        if (array->data && array->nbytes > 0) {
            memcpy(to, array->data, (size_t)array->nbytes);
            HAUL_COUNT(message->peer, bytes_copied, array->nbytes);
        }
        array->data = to;
        array->flags &= ~(uint32_t)HAUL_SHARED;
    }
    release_block(&message->inline_block);
    release_block(&message->offered_block);
    while (message->copy_count > 0)
        haul_block_release(message->copies[--message->copy_count]);
    haul_message_give_back(message);
    destination->message[row] = message;
    destination->claimed++;
    message->destination = destination;
    message->row = row;
}

/* Places a message in a destination, or refuses it. */
static void claim(struct haul_destination *destination, struct haul_message *message)
{
    if (check_fit(destination, message)) {
        haul_inbound_refuse(message, HAUL_REFUSED, haul_error_detail());
        return;
    }
    occupy(destination, message);
    haul_list_remove(&message->place_node);
    haul_fetch_queue(message);
}

/* The destination that a message may go to now, or NULL. */
static struct haul_destination *destination_for(const struct haul_message *message)
{
    struct haul_inbox *inbox = message->link->inbox;
    if (message->call || inbox->placement != HAUL_PLACE_NAMED || !may_claim(message))
        return NULL;
    return free_destination(inbox);
}

void haul_place_message(struct haul_message *message)
{
    struct haul_inbox *inbox = message->link->inbox;
    struct haul_destination *destination = destination_for(message);
    if (destination) {
        claim(destination, message);
        return;
    }
    int err = 0;
    if (message->manifest.inline_bytes > 0 && !lends(message->link))
        err = place_in_pool(message, false, true);
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

/* The first of those that wait for a destination that may have one now. */
static struct haul_message *next_unplaced(struct haul_inbox *inbox)
{
    HAUL_LIST_EACH(&inbox->unplaced, node)
    {
        struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, place_node);
        if (destination_for(message))
            return message;
    }
    return NULL;
}

void haul_place_inbox(struct haul_inbox *inbox)
{
    struct haul_message *message;
    while (inbox->placement == HAUL_PLACE_POOL && !haul_list_empty(&inbox->unplaced)) {
        message =
            HAUL_CONTAINER_OF(haul_list_pop(&inbox->unplaced), struct haul_message, place_node);
        map_given(message);
        haul_fetch_queue(message);
    }
    /* Placing one may deliver, refuse or place others: the search begins anew each time. */
    while ((message = next_unplaced(inbox)))
        claim(free_destination(inbox), message);
}

void haul_place_by(struct haul_inbox *inbox, enum haul_placement placement)
{
    if (inbox->placement == placement)
        return;
    inbox->placement = placement;
    haul_place_inbox(inbox);
}

/* ---- Destinations ---------------------------------------------------------------------------- */

void haul_destination_post(struct haul_engine *engine, struct haul_inbox *inbox,
                           struct haul_destination *destination)
{
    destination->inbox = inbox;
    haul_list_append(&inbox->destinations, &destination->node);
    inbox->placement = HAUL_PLACE_NAMED;
    haul_destination_fill(engine, inbox);
    haul_place_inbox(inbox);
}

void haul_destination_filled(struct haul_message *message)
{
    haul_inbound_acknowledge(message);
    haul_credit_return(message); /* what it holds is the user's memory */
    message->destination->whole++;
    haul_engine_changed(message->engine);
}

void haul_destination_fill(struct haul_engine *engine, struct haul_inbox *inbox)
{
    struct haul_destination *destination;
    while (!haul_list_empty(&inbox->messages) && (destination = free_destination(inbox))) {
        struct haul_message *message = haul_inbox_pop(engine, inbox);
        if (check_fit(destination, message)) {
            haul_inbound_refuse(message, HAUL_REFUSED, haul_error_detail());
        } else {
            occupy(destination, message);
            haul_destination_filled(message);
        }
    }
}

void haul_destination_vacate(struct haul_message *message)
{
    struct haul_destination *destination = message->destination;
    destination->message[message->row] = NULL;
    destination->claimed--;
    destination->whole -= message->state == HAUL_MESSAGE_DELIVERED;
    message->destination = NULL;
    if (!haul_list_empty(&destination->node))
        haul_place_inbox(destination->inbox);
}

/* A row of a posted destination, looked at anew after each wait: its message may be freed
 * meanwhile. */
struct row {
    const struct haul_destination *destination;
    size_t index;
};

static bool has_no_reads(void *arg)
{
    const struct row *row = arg;
    const struct haul_message *message = row->destination->message[row->index];
    return !message || message->reads == 0;
}

/* Ends what an rma peer may still write into a row. */
static void end_reads(struct haul_engine *engine, struct haul_destination *destination,
                      size_t index)
{
    struct row row = {destination, index};
    struct haul_message *message = destination->message[index];
    if (message->reads == 0)
        return;
    if (message->state != HAUL_MESSAGE_DROPPED)
        message->state = HAUL_MESSAGE_PLACING; /* no further read is issued */
    message->link->rma->provider->rma->fence(message->link->rma_peer);
    /* No signal may end this: after it the memory is the user's. */
    while (haul_drive_wait(&engine->drive, has_no_reads, &row, UINT64_MAX) == HAUL_INTERRUPTED)
        ;
}

/* Moves what has come of the inline bytes from a row to the pool. */
static int move_inline(struct haul_message *message)
{
    struct haul_manifest *manifest = &message->manifest;
    void **from = malloc(HAUL_MAX(manifest->count, 1u) * sizeof *from);
    if (!from)
        return haul_fail(HAUL_NO_MEMORY, "no memory to take a message back from a receive");
    for (uint32_t i = 0; i < manifest->count; i++) {
        from[i] = manifest->arrays[i].array.data;
        manifest->arrays[i].array.data = NULL;
    }
    int err = manifest->inline_bytes > 0 ? place_in_pool(message, false, true) : 0;
    struct haul_cursor at = {0, 0};
    for (uint64_t left = err ? 0 : message->inline_received; left > 0;) {
        struct haul_manifest_array *item = haul_cursor_array(manifest, &at, false);
        uint64_t bytes = HAUL_MIN(item->array.nbytes, left);
        memcpy(item->array.data, from[at.index], (size_t)bytes);
        HAUL_COUNT(message->peer, bytes_copied, bytes);
        at.offset += bytes;
        left -= bytes;
    }
    free(from);
    return err;
}

/* Nothing of its offered bytes counts as received: they will be fetched anew. */
static void forget_stream(struct haul_message *message)
{
    struct haul_link *link = message->link;
    haul_fetch_end(message);
    haul_list_remove(&message->place_node);
    if (link->receiving == message && link->receiving_stream)
        link->receiving = NULL;
    message->stream_received = 0;
    message->read_cursor = (struct haul_cursor){0, 0};
    message->reads_failed = false; /* they were fenced, which is no fault of the path */
    message->state = HAUL_MESSAGE_PLACING;
}

/* Takes a message that was not delivered out of its row; it is placed anew, elsewhere. */
static void evict(struct haul_engine *engine, struct haul_message *message)
{
    struct haul_destination *destination = message->destination;
    size_t row = message->row;
    end_reads(engine, destination, row);
    if (!destination->message[row])
        return; /* its peer was lost meanwhile */
    forget_stream(message);
    int err = move_inline(message);
    destination->message[row] = NULL;
    destination->claimed--;
    message->destination = NULL;
    if (err)
        haul_inbound_refuse(message, err, haul_error_detail());
    else if (message->manifest.offered_bytes > 0)
        haul_list_append(&message->link->inbox->unplaced, &message->place_node);
    else
        haul_fetch_queue(message);
}

/* The first message of the link from `seq` on that has a row and was not delivered. */
static struct haul_message *next_in_row(struct haul_link *link, uint64_t seq)
{
    HAUL_LIST_EACH(&link->inbound, node)
    {
        struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, node);
        if (message->manifest.seq >= seq && message->destination)
            return message;
    }
    return NULL;
}

/* With a message go the later ones of its peer: they could not be delivered before it, and it may
 * need their rows. */
static void evict_from(struct haul_engine *engine, struct haul_message *first)
{
    struct haul_link *link = first->link;
    uint64_t seq = first->manifest.seq;
    struct haul_message *message;
    haul_link_retain(link);
    while ((message = next_in_row(link, seq)))
        evict(engine, message);
    haul_link_release(link);
}

void haul_destination_withdraw(struct haul_engine *engine, struct haul_destination *destination)
{
    struct haul_inbox *inbox = destination->inbox;
    haul_list_remove(&destination->node);
    for (size_t row = 0; row < destination->rows; row++) {
        struct haul_message *message = destination->message[row];
        if (!message || message->state == HAUL_MESSAGE_DELIVERED)
            continue;
        if (message->state == HAUL_MESSAGE_DROPPED)
            end_reads(engine, destination, row); /* the last of them frees it */
        else
            evict_from(engine, message);
    }
    haul_place_inbox(inbox); /* other destinations may have room for them */
}
