/* SPDX-License-Identifier: Apache-2.0
 * The life of an op.
 *
 *   WAITING --announced--> OPEN --ACK or reply--> FINISHED
 *      |                    |                        ^
 *      +------ error -------+--> ENDING --parcels----+
 *                                         back
 *
 * An op finishes exactly once, with the first result that haul_op_end() is given. If the channel
 * still holds some of its arrays (a parcel), it is ENDING until the channel gives them back,
 * because the user may reuse the arrays from the finish on. */
#include "handles.h"
#include "link.h"
#include "receiving.h"
#include "sending.h"

#include <stdio.h>
#include <stdlib.h>

/* How long a blocking call waits for its arrays after a timeout, until it says HAUL_BORROWED. */
#define RECALL_NS (2 * (int64_t)HAUL_NS_PER_S)

/* ---- Making and ending ----------------------------------------------------------------------- */

static struct haul_op *take_op(struct haul_engine *engine)
{
    if (!haul_list_empty(&engine->free_ops)) {
        engine->free_op_count--;
        return HAUL_CONTAINER_OF(haul_list_pop(&engine->free_ops), struct haul_op, node);
    }
    struct haul_op *op = calloc(1, sizeof *op);
    if (!op)
        return NULL;
    haul_list_init(&op->node);
    haul_list_init(&op->transmit_node);
    haul_list_init(&op->given);
    op->announcement.op = op->chunk.op = op;
    return op;
}

static bool reserve_arrays(struct haul_op *op, size_t count)
{
    if (op->segment_capacity >= HAUL_MAX(count, (size_t)1))
        return true;
    size_t capacity = HAUL_MAX(count, (size_t)8);
    struct haul_manifest_array *arrays =
        realloc(op->manifest.arrays, capacity * sizeof *op->manifest.arrays);
    if (arrays)
        op->manifest.arrays = arrays;
    struct iovec *segments = realloc(op->segments, 2 * capacity * sizeof *op->segments);
    if (segments)
        op->segments = segments;
    struct haul_dict_entry **entries = realloc(op->entries, capacity * sizeof(*op->entries));
    if (entries)
        op->entries = entries;
    if (!arrays || !segments || !entries)
        return false;
    op->manifest.capacity = (uint32_t)capacity;
    op->segment_capacity = capacity;
    return true;
}

static void fill_manifest(struct haul_op *op, const struct haul_dict *dict)
{
    op->manifest.count = (uint32_t)dict->count;
    for (size_t i = 0; i < dict->count; i++) {
        op->entries[i] = dict->entries[i];
        op->manifest.arrays[i].array = dict->entries[i]->array;
        op->manifest.arrays[i].way_bytes = 0;
        op->manifest.arrays[i].offered = false;
    }
}

int haul_op_create(struct haul_peer *peer, struct haul_dict *dict, enum haul_op_kind kind,
                   struct haul_op **made)
{
    struct haul_engine *engine = peer->engine;
    int err = haul_dict_check_sendable(dict, engine);
    if (err)
        return err;
    struct haul_op *op = take_op(engine);
    if (!op || !reserve_arrays(op, dict->count)) {
        if (op)
            haul_op_destroy(op);
        return haul_fail(HAUL_NO_MEMORY, "no memory for an op");
    }
    haul_engine_retain(engine);
    op->engine = engine;
    atomic_store(&op->references, 2);
    op->peer = haul_peer_reference(peer);
    op->kind = kind;
    op->state = HAUL_OP_WAITING;
    op->collected = true;
    op->result = 0;
    op->detail[0] = '\0';
    op->waits_for_credit = op->has_payload = op->offered_rma = op->cancelling = op->announced =
        op->gives = op->released = false;
    op->reply = NULL;
    op->transfer = op->restarts = 0;
    op->send_offset = op->send_end = 0;
    op->manifest.reply_to = 0;
    fill_manifest(op, dict);
    haul_dict_take_given(dict, &op->given);
    op->dict = dict;
    atomic_fetch_add(&dict->references, 1);
    dict->in_flight++;
    HAUL_COUNT(peer, ops_under_way, 1);
    *made = op;
    return 0;
}

void haul_op_destroy(struct haul_op *op)
{
    haul_manifest_clear(&op->manifest);
    free(op->segments);
    free(op->entries);
    free(op->header);
    free(op->regions);
    free(op);
}

void haul_op_unreference(struct haul_op *op)
{
    struct haul_engine *engine = op->engine;
    if (atomic_fetch_sub(&op->references, 1) != 1)
        return;
    if (op->reply)
        haul_message_free(op->reply);
    op->reply = NULL;
    haul_peer_unreference(op->peer);
    if (engine->free_op_count < HAUL_FREE_OBJECTS_MAX &&
        haul_manifest_memory(&op->manifest) <= HAUL_FREE_BYTES_MAX) {
        engine->free_op_count++;
        haul_list_append(&engine->free_ops, &op->node);
    } else {
        haul_op_destroy(op);
    }
    haul_engine_release(engine);
}

static uint64_t array_bytes(const struct haul_op *op)
{
    return op->manifest.inline_bytes + op->manifest.offered_bytes;
}

/* Given arrays that the peer may still look at stay with the link until RELEASE or its end. */
static bool keep_given(struct haul_op *op)
{
    if (!op->announced || !op->gives || op->released || !op->link ||
        op->link->state != HAUL_LINK_OPEN)
        return false;
    haul_list_append(&op->link->kept, &op->node);
    return true;
}

static void finish(struct haul_op *op)
{
    struct haul_engine *engine = op->engine;
    struct haul_peer *peer = op->peer;
    op->state = HAUL_OP_FINISHED;
    haul_list_remove(&op->node);
    haul_plan_undo(op);
    op->dict->in_flight--;
    haul_dict_unreference(op->dict);
    op->dict = NULL;
    bool kept = keep_given(op);
    if (!kept && op->gives && !op->released)
        haul_given_retire(op, op->link);
    else if (!kept)
        haul_given_free(op);
    HAUL_COUNT(peer, ops_under_way, UINT64_MAX); /* less one */
    if (op->result)
        HAUL_COUNT(peer, ops_failed, 1);
    else {
        HAUL_COUNT(peer, messages_sent, 1);
        HAUL_COUNT(peer, bytes_sent, array_bytes(op));
    }
    if (!op->collected)
        engine->finished_ops++;
    if (op->link)
        haul_link_release(op->link);
    op->link = NULL;
    haul_engine_changed(engine);
    if (!kept)
        haul_op_unreference(op);
}

static bool in_channel(const struct haul_op *op)
{
    return op->announcement.in_channel || op->chunk.in_channel;
}

/* The channel has given its memory back: what waited for that goes on in the next pass. (If the
 * channel is busy with another one, it says so again.) */
static void parcel_is_back(struct haul_parcel *parcel, struct haul_link *link)
{
    haul_parcel_return(parcel, link);
    link->channel_busy = false;
    if (link->state != HAUL_LINK_LOST && haul_list_empty(&link->sending_node))
        haul_list_append(&link->engine->sending, &link->sending_node);
}

static void recall(struct haul_op *op, struct haul_parcel *parcel)
{
    struct haul_link *link = op->link;
    if (!parcel->in_channel || !link->conn)
        return;
    enum haul_recall recalled = link->transport->provider->channel->recall(link->conn, parcel);
    if (recalled == HAUL_RECALL_NOT)
        return;
    if (recalled == HAUL_RECALL_DROPPED && parcel == &op->announcement)
        haul_transmit_unannounce(op);
    parcel_is_back(parcel, link);
    haul_engine_timer(op->engine, haul_now_ns());
}

void haul_op_end(struct haul_op *op, int err, const char *detail)
{
    if (op->state == HAUL_OP_ENDING || op->state == HAUL_OP_FINISHED)
        return;
    if (op->state == HAUL_OP_WAITING && op->kind == HAUL_OP_REPLY)
        haul_transmit_no_reply(op);
    op->state = HAUL_OP_ENDING;
    op->result = err;
    if (detail != op->detail)
        haul_copy_text(op->detail, sizeof op->detail, detail);
    haul_list_remove(&op->node);
    haul_list_remove(&op->transmit_node);
    recall(op, &op->announcement);
    recall(op, &op->chunk);
    if (in_channel(op))
        haul_list_append(&op->link->ending, &op->node);
    else
        finish(op);
}

void haul_op_sent(struct haul_parcel *parcel)
{
    struct haul_op *op = parcel->op;
    struct haul_link *link = op->link;
    haul_link_retain(link);
    parcel_is_back(parcel, link);
    if (op->state == HAUL_OP_ENDING) {
        if (!in_channel(op))
            finish(op);
    } else if (op->kind == HAUL_OP_REPLY && !(op->manifest.flags & HAUL_MESSAGE_WANTS_ACK)) {
        haul_op_end(op, 0, "");
    }
    haul_link_release(link);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static bool op_is_finished(void *arg)
{
    return ((struct haul_op *)arg)->state == HAUL_OP_FINISHED;
}

/* What an op that has not finished waits for, as a sentence. */
static void explain(const struct haul_op *op, char *text, size_t size)
{
    const char *who = op->peer->address;
    const struct haul_link *link = op->link;
    if (!link) {
        snprintf(text, size, "%.100s is not connected (%.300s)", who,
                 op->peer->last_err ? op->peer->last_why : "still connecting");
    } else if (op->state == HAUL_OP_WAITING && op->waits_for_credit) {
        snprintf(
            text, size,
            "%s has given no credit: its receiver keeps all %llu messages that it takes from one "
            "peer and has not released them",
            who, (unsigned long long)link->window_messages);
    } else if (op->state == HAUL_OP_WAITING) {
        snprintf(text, size, "the channel to %s is full: the other side is not reading", who);
    } else if (op->offered_rma) {
        snprintf(text, size,
                 "%s has not read all of %llu bytes, or not %s yet: it is not receiving, its "
                 "receives end before they are whole, its receive memory is exhausted by messages "
                 "that are not released, or other peers are ahead",
                 who, (unsigned long long)op->manifest.offered_bytes,
                 op->kind == HAUL_OP_CALL ? "replied" : "acknowledged them");
    } else if (op->restarts > 1) {
        snprintf(text, size,
                 "%s has begun %u times to take the %llu bytes: its receives end before they are "
                 "whole, or this side sends too slowly",
                 who, op->restarts + 1, (unsigned long long)op->manifest.offered_bytes);
    } else if (op->send_offset < op->manifest.offered_bytes) {
        snprintf(text, size,
                 "%s has taken %llu of %llu bytes: it is not receiving, its receive memory is "
                 "exhausted by messages that are not released, or other peers are ahead",
                 who, (unsigned long long)op->send_offset,
                 (unsigned long long)op->manifest.offered_bytes);
    } else {
        snprintf(text, size, "all was sent to %s, which has not %s yet", who,
                 op->kind == HAUL_OP_CALL ? "replied" : "acknowledged it");
    }
}

static int ended_early(struct haul_op *op, int err)
{
    char cause[HAUL_DETAIL_MAX - 64], detail[HAUL_DETAIL_MAX];
    explain(op, cause, sizeof cause);
    snprintf(detail, sizeof detail, "%s: %s", haul_error_sentence(err), cause);
    haul_transmit_cancel(op, err, detail);
    if (op->state != HAUL_OP_FINISHED)
        haul_drive_wait_through(&op->engine->drive, op_is_finished, op,
                                haul_deadline_ns(RECALL_NS));
    if (op->state == HAUL_OP_FINISHED)
        return op->result ? haul_fail_with(op->result, op->detail) : 0;
    return haul_fail(HAUL_BORROWED,
                     "%s, and the provider still holds the arrays: wait with "
                     "haul_dict_wait() before you touch them",
                     detail);
}

int haul_op_complete(struct haul_op *op, int64_t timeout_ns, struct haul_message **reply)
{
    int err = haul_drive_wait(&op->engine->drive, op_is_finished, op, haul_deadline_ns(timeout_ns));
    if (op->state == HAUL_OP_FINISHED)
        err = op->result ? haul_fail_with(op->result, op->detail) : 0;
    else if (err != HAUL_CLOSED)
        err = ended_early(op, err);
    else
        err = haul_fail(HAUL_BORROWED, "the context was closed while the provider still holds the "
                                       "arrays: wait with haul_dict_wait() before you touch them");
    if (!err && reply) {
        *reply = op->reply;
        op->reply = NULL;
    }
    haul_op_unreference(op);
    return err;
}

/* ---- Public ---------------------------------------------------------------------------------- */

static void collect(struct haul_op *op)
{
    if (op->collected || op->state != HAUL_OP_FINISHED)
        return;
    op->collected = true;
    op->engine->finished_ops--;
    haul_engine_changed(op->engine);
}

static int result_of(struct haul_op *op)
{
    collect(op);
    return op->result ? haul_fail_with(op->result, op->detail) : 0;
}

int haul_op_wait(struct haul_op *op, int64_t timeout_ns)
{
    struct haul_engine *engine = op->engine;
    int err = haul_engine_enter(engine);
    if (err)
        return err;
    haul_engine_retain(engine);
    atomic_fetch_add(&op->references, 1); /* it may be released meanwhile */
    err = haul_drive_wait(&engine->drive, op_is_finished, op, haul_deadline_ns(timeout_ns));
    if (op->state == HAUL_OP_FINISHED) {
        err = result_of(op);
    } else if (err == HAUL_TIMEOUT) {
        char cause[HAUL_DETAIL_MAX];
        explain(op, cause, sizeof cause);
        haul_fail_with(err, cause);
    } else {
        haul_fail_with(err, "");
    }
    haul_op_unreference(op);
    haul_engine_leave(engine);
    haul_engine_release(engine);
    return err;
}

int haul_op_test(struct haul_op *op)
{
    int err = haul_engine_enter(op->engine);
    if (err)
        return err;
    err =
        op->state == HAUL_OP_FINISHED ? result_of(op) : haul_fail(HAUL_BUSY, "the op is under way");
    haul_engine_leave(op->engine);
    return err;
}

int haul_op_reply(struct haul_op *op, struct haul_message **reply)
{
    int err = haul_engine_enter(op->engine);
    if (err)
        return err;
    if (op->state != HAUL_OP_FINISHED)
        err = haul_fail(HAUL_BUSY, "the op is under way");
    else if (op->result)
        err = result_of(op);
    else if (!op->reply)
        err = haul_fail(HAUL_NOT_FOUND, op->kind == HAUL_OP_CALL ? "the reply was taken already"
                                                                 : "the op is no call");
    else {
        collect(op);
        *reply = op->reply;
        op->reply = NULL;
    }
    haul_engine_leave(op->engine);
    return err;
}

void haul_op_cancel(struct haul_op *op)
{
    if (haul_engine_enter(op->engine))
        return;
    if (op->state == HAUL_OP_WAITING || op->state == HAUL_OP_OPEN)
        haul_transmit_cancel(op, HAUL_CANCELLED, haul_error_sentence(HAUL_CANCELLED));
    haul_engine_leave(op->engine);
}

void haul_op_release(struct haul_op *op)
{
    struct haul_engine *engine;
    if (!op || op->engine->inherited)
        return;
    engine = op->engine;
    haul_engine_retain(engine);
    haul_drive_enter(&engine->drive);
    collect(op);
    op->collected = true;
    haul_op_unreference(op);
    haul_drive_leave(&engine->drive);
    haul_engine_release(engine);
}
