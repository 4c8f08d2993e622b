/* SPDX-License-Identifier: Apache-2.0
 * Memory that receives name: its rows, who has which, and how it is taken back.
 *
 * A row is claimed when a message's manifest fits it, filled while bytes come, and whole when the
 * message is delivered; the user gets whole rows. Withdrawing ends what still writes to a row (rma
 * reads are fenced and waited for) before the memory is the user's again. Messages that were not
 * whole leave their rows, with those of their peer behind them, so that order is kept. One that had
 * begun to come is fetched anew, into the pool, at once: left with its sender, as others are while
 * no memory is named, or given to the next destination, it would begin from nothing at each
 * receive, and ones that wait for less than a message takes would never get it. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"

#include <stdlib.h>

enum { EVICTIONS_LOGGED = 8 }; /* of one message */

/* ---- Rows ------------------------------------------------------------------------------------ */

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
    if (message->link->state == HAUL_LINK_LOST)
        return false; /* it is about to be dropped */
    if (message->inline_received < message->manifest.inline_bytes &&
        (message->inline_block || message->inline_received > 0))
        return false; /* its inline bytes are on their way to the pool */
    return earlier == &message->link->inbound ||
           HAUL_CONTAINER_OF(earlier, const struct haul_message, node)->destination;
}

static int check_fit(const struct haul_destination *destination, const struct haul_message *message)
{
    const struct haul_manifest *manifest = &message->manifest;
    const struct haul_dict *row0 = destination->row0;
    char wanted[128], got[128];
    for (uint32_t i = 0; i < manifest->count; i++) {
        const struct haul_array *array = &manifest->arrays[i].array;
        const struct haul_dict_entry *expected = haul_dict_entry_find(row0, array->key);
        if (!expected)
            return haul_fail(HAUL_REFUSED, "%s: the receiver does not expect an array of that name",
                             array->key);
        if (!haul_array_same_type(&expected->array, array))
            return haul_fail(HAUL_REFUSED, "%s: expected %s, got %s", array->key,
                             haul_array_format(&expected->array, wanted, sizeof wanted),
                             haul_array_format(array, got, sizeof got));
    }
    for (size_t i = 0; i < row0->count && manifest->count != row0->count; i++)
        if (!haul_message_find(message, row0->entries[i]->array.key))
            return haul_fail(HAUL_REFUSED, "%s: expected, but the message does not have it",
                             row0->entries[i]->array.key);
    return 0;
}

static size_t take_row(struct haul_destination *destination)
{
    size_t row = destination->first_free;
    while (destination->message[row])
        row++;
    destination->first_free = row + 1;
    destination->claimed++;
    return row;
}

static void free_row(struct haul_destination *destination, size_t row)
{
    destination->message[row] = NULL;
    destination->claimed--;
    destination->first_free = HAUL_MIN(destination->first_free, row);
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
    size_t row = take_row(destination);
    for (uint32_t i = 0; i < manifest->count; i++) {
        struct haul_array *array = &manifest->arrays[i].array;
        char *rows = haul_dict_entry_find(destination->row0, array->key)->array.data;
        char *to = rows ? rows + row * array->nbytes : NULL;
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
    message->destination = destination;
    message->row = row;
    haul_stall_begin(message);
}

void haul_destination_claim(struct haul_destination *destination, struct haul_message *message)
{
    if (check_fit(destination, message)) {
        haul_inbound_refuse(message, HAUL_REFUSED, haul_error_detail());
        return;
    }
    occupy(destination, message);
    haul_engine_timer(message->engine, message->engine->stall_watch_ns);
    haul_fetch_end(message); /* if it has waited for pool memory, it does not any more */
    haul_list_remove(&message->place_node);
    haul_fetch_queue(message);
}

struct haul_destination *haul_destination_for(const struct haul_message *message)
{
    struct haul_inbox *inbox = message->link->inbox;
    if (message->call || inbox->placement != HAUL_PLACE_NAMED || !may_claim(message))
        return NULL;
    return free_destination(inbox);
}

/* ---- Posting ----------------------------------------------------------------------------------
 */

void haul_destination_post(struct haul_inbox *inbox, struct haul_destination *destination)
{
    destination->inbox = inbox;
    destination->first_free = 0;
    haul_list_append(&inbox->destinations, &destination->node);
    inbox->placement = HAUL_PLACE_NAMED;
    haul_destination_fill(inbox);
    haul_place_inbox(inbox);
}

void haul_destination_filled(struct haul_message *message)
{
    haul_inbound_acknowledge(message);
    haul_credit_return(message); /* what it holds is the user's memory */
    haul_inbound_discount_manifest(message);
    message->destination->whole++;
    haul_engine_changed(message->engine);
}

void haul_destination_fill(struct haul_inbox *inbox)
{
    struct haul_destination *destination;
    while (!haul_list_empty(&inbox->messages) && (destination = free_destination(inbox))) {
        struct haul_message *message = haul_inbox_pop(inbox);
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
    free_row(destination, message->row);
    destination->whole -= message->state == HAUL_MESSAGE_DELIVERED;
    message->destination = NULL;
    if (!haul_list_empty(&destination->node))
        haul_place_inbox(destination->inbox);
}

/* ---- Withdrawing ------------------------------------------------------------------------------
 */

/* A row of a destination that is being withdrawn, looked at anew after each wait: its message may
 * be freed meanwhile. */
struct row {
    const struct haul_destination *destination;
    size_t index;
};

static bool is_vacant(void *arg)
{
    const struct row *row = arg;
    return !row->destination->message[row->index];
}

/* A message that was dropped is freed by the last of its reads, which an rma peer may still write
 * for: then the row is vacant. */
static void await_dropped(struct haul_destination *destination, size_t index)
{
    struct row row = {destination, index};
    struct haul_message *message = destination->message[index];
    haul_reads_take_back(message->link);
    haul_drive_wait_always(&message->engine->drive, is_vacant, &row);
}

/* A message that reads are to end of. It may be freed meanwhile; so may its destination, which may
 * be another thread's, and is not looked at. */
struct awaited {
    struct haul_link *link;
    uint64_t seq;
    uint32_t transfer; /* another one: it was evicted by its destination's owner */
};

static bool has_no_reads(void *arg)
{
    const struct awaited *awaited = arg;
    HAUL_LIST_EACH(&awaited->link->inbound, node)
    {
        const struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, node);
        if (message->manifest.seq == awaited->seq)
            return message->reads == 0 || message->transfer != awaited->transfer;
    }
    return true;
}

/* Ends what an rma peer may still write for it; its link is held. */
static void end_reads(struct haul_message *message)
{
    struct awaited awaited = {message->link, message->manifest.seq, message->transfer};
    haul_message_set_state(message, HAUL_MESSAGE_PLACING); /* no further read is issued */
    haul_reads_take_back(message->link);
    haul_drive_wait_always(&message->engine->drive, has_no_reads, &awaited);
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
    int err = haul_place_inline(message);
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

/* Nothing of its offered bytes counts as received: they are fetched anew, into other memory. */
static void forget_stream(struct haul_message *message)
{
    struct haul_link *link = message->link;
    haul_fetch_end(message);
    haul_list_remove(&message->place_node);
    if (link->receiving == message && link->receiving_stream)
        link->receiving = NULL;
    message->stream_received = 0;
    haul_reads_forget(message);
    message->reads_failed = message->path_failed = false;
    haul_message_set_state(message, HAUL_MESSAGE_PLACING);
}

/* One that has no place between two receives gets nowhere if they are all as short. */
static void warn_of_evictions(const struct haul_message *message)
{
    if (message->evictions != EVICTIONS_LOGGED)
        return;
    haul_log(HAUL_LOG_WARNING,
             "%s: a message of %llu KiB has begun to come %d times, each time to a receive that "
             "ended before it was whole, and the pool (%zu KiB, HAUL_POOL_MAX) has no room for it "
             "between two of them: wait longer, or raise HAUL_POOL_MAX",
             message->peer->address, (unsigned long long)haul_message_bytes(message) >> 10,
             EVICTIONS_LOGGED, message->engine->config.pool_max >> 10);
}

/* Takes a message that has no reads and was not delivered out of its row; haul_place_inbox() finds
 * it other memory. */
static void evict(struct haul_message *message)
{
    struct haul_destination *destination = message->destination;
    if (message->fetch_active || message->stream_received > 0) {
        message->evictions++;
        warn_of_evictions(message);
    }
    forget_stream(message);
    int err = move_inline(message);
    free_row(destination, message->row);
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
 * need their rows. Of those that are read the ends of the reads are waited for, or they stay. */
static void evict_from(struct haul_message *first, bool may_wait)
{
    struct haul_link *link = first->link;
    uint64_t seq = first->manifest.seq;
    struct haul_message *message;
    haul_link_retain(link);
    while ((message = next_in_row(link, seq))) {
        if (message->reads == 0)
            evict(message);
        else if (may_wait)
            end_reads(message); /* then it is looked for anew: much may have happened */
        else
            break;
    }
    haul_link_release(link);
}

bool haul_destination_is_open(const struct haul_inbox *inbox)
{
    HAUL_LIST_EACH(&inbox->destinations, node)
    {
        const struct haul_destination *destination =
            HAUL_CONTAINER_OF(node, struct haul_destination, node);
        if (destination->claimed > destination->whole)
            return true;
    }
    return false;
}

void haul_destination_give_up(struct haul_message *first)
{
    struct haul_inbox *inbox = first->destination->inbox;
    for (struct haul_list *node = &first->node; node != &first->link->inbound; node = node->next)
        if (HAUL_CONTAINER_OF(node, struct haul_message, node)->reads > 0)
            return;
    evict_from(first, false); /* (who drives comes here: it cannot wait) */
    haul_destination_fill(inbox);
    haul_place_inbox(inbox);
}

void haul_destination_withdraw(struct haul_destination *destination)
{
    struct haul_inbox *inbox = destination->inbox;
    haul_list_remove(&destination->node);
    for (size_t row = 0; row < destination->rows; row++) {
        struct haul_message *message;
        while ((message = destination->message[row]) && message->state != HAUL_MESSAGE_DELIVERED) {
            if (message->state == HAUL_MESSAGE_DROPPED)
                await_dropped(destination, row);
            else
                evict_from(message, true);
        }
    }
    haul_place_inbox(inbox);
}
