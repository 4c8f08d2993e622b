/* SPDX-License-Identifier: Apache-2.0
 * The receiver's side: from a manifest to a delivered message.
 *
 * Happy path. A manifest makes a message; its inline bytes follow on the channel and land where
 * placement.c said; its offered bytes are placed when there is memory and brought by fetch.c. When
 * all bytes are here the message is whole: its sender gets the ACK, and it is delivered as soon as
 * the earlier messages of its peer are.
 *
 * Failure modes. A broken frame costs the connection (the caller sees to it). A message that cannot
 * be taken is refused: its sender gets an ACK with the reason, its payload is read and thrown away,
 * the connection goes on. When the connection is lost, messages that are not whole are dropped; one
 * that an rma read may still write to keeps its memory until the read has ended. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"
#include "sending.h"

#include <stdio.h>

/* Where payload goes that nobody wants any more. Written, never read. */
static uint8_t discard[64 << 10];

/* ---- Answers --------------------------------------------------------------------------------- */

static void answer(struct haul_message *message, int err, const char *sentence)
{
    if (message->answered)
        return;
    message->answered = true;
    struct haul_wire_control ack = {
        .type = HAUL_FRAME_ACK, .seq = message->manifest.seq, .err = err};
    haul_copy_text(ack.sentence, sizeof ack.sentence, sentence);
    haul_link_control(message->link, &ack);
}

void haul_inbound_acknowledge(struct haul_message *message)
{
    if (message->manifest.flags & HAUL_MESSAGE_WANTS_ACK)
        answer(message, 0, "");
}

void haul_inbound_no_reply(struct haul_message *message)
{
    if (message->manifest.flags & HAUL_MESSAGE_WANTS_REPLY)
        answer(message, HAUL_NO_REPLY, haul_error_sentence(HAUL_NO_REPLY));
}

void haul_inbound_release_given(struct haul_message *message)
{
    if (!message->release_due)
        return;
    message->release_due = false;
    const struct haul_wire_control release = {.type = HAUL_FRAME_RELEASE,
                                              .seq = message->manifest.seq};
    haul_link_control(message->link, &release);
}

void haul_inbound_refuse(struct haul_message *message, int err, const char *detail)
{
    if (message->manifest.flags & (HAUL_MESSAGE_WANTS_ACK | HAUL_MESSAGE_WANTS_REPLY))
        answer(message, err, detail);
    if (message->call)
        haul_op_end(message->call, err, detail);
    haul_log(HAUL_LOG_INFO, "a message from %s was refused: %s", message->peer->address, detail);
    HAUL_COUNT(message->peer, messages_refused, 1);
    haul_inbound_drop(message);
}

/* ---- Delivery -------------------------------------------------------------------------------- */

static bool is_whole(const struct haul_message *message)
{
    return message->inline_received == message->manifest.inline_bytes &&
           message->stream_received == message->manifest.offered_bytes && message->reads == 0;
}

static void leave_link(struct haul_message *message)
{
    haul_list_remove(&message->node);
    haul_message_set_state(message, HAUL_MESSAGE_DELIVERED);
    HAUL_COUNT(message->peer, messages_received, 1);
    HAUL_COUNT(message->peer, bytes_received, haul_message_bytes(message));
}

static void deliver_reply(struct haul_message *message)
{
    struct haul_op *call = message->call;
    leave_link(message);
    message->call = NULL;
    haul_inbound_acknowledge(message);
    if (call->state == HAUL_OP_OPEN) {
        call->reply = message;
        haul_op_end(call, 0, "");
    } else {
        haul_message_free(message);
    }
    haul_op_unreference(call);
}

static void deliver(struct haul_message *message)
{
    leave_link(message);
    if (message->destination) {
        haul_destination_filled(message);
        return;
    }
    struct haul_inbox *inbox = message->link->inbox;
    haul_inbox_append(inbox, message);
    if (inbox->placement == HAUL_PLACE_NAMED)
        haul_destination_fill(inbox); /* acknowledged when it has fitted */
    else if (inbox->placement == HAUL_PLACE_POOL || !message->link->server)
        haul_inbound_acknowledge(message); /* else when it is received: it may be refused then */
}

static void deliver_in_order(struct haul_link *link)
{
    bool some = false;
    while (!haul_list_empty(&link->inbound)) {
        struct haul_message *message = HAUL_LIST_FIRST(&link->inbound, struct haul_message, node);
        if (message->state != HAUL_MESSAGE_WHOLE)
            break;
        deliver(message);
        some = true;
    }
    if (some)
        haul_place_inbox(link->inbox); /* those behind may not have passed one in the pool */
}

void haul_inbound_progress(struct haul_message *message)
{
    struct haul_link *link = message->link;
    if (message->state == HAUL_MESSAGE_DROPPED) {
        if (message->reads == 0)
            haul_message_free(message);
        return;
    }
    if (message->state < HAUL_MESSAGE_WHOLE) {
        if (!is_whole(message) || link->receiving == message) {
            if (message->state == HAUL_MESSAGE_PLACING)
                haul_place_inbox(link->inbox); /* it may have waited for its inline bytes */
            return;
        }
        if (haul_reads_prove(message))
            return;
        haul_fetch_end(message);
        haul_list_remove(&message->place_node);
        haul_message_set_state(message, HAUL_MESSAGE_WHOLE);
        if (message->mapping_count == 0)
            haul_inbound_release_given(message);
        if (message->call) {
            deliver_reply(message);
            return;
        }
    }
    deliver_in_order(link);
}

/* ---- Leaving --------------------------------------------------------------------------------- */

/* Bytes of it that are on their way on the channel are thrown away. */
static void stop_receiving(struct haul_message *message)
{
    struct haul_link *link = message->link;
    if (link->receiving == message)
        link->receiving = NULL;
}

void haul_inbound_drop(struct haul_message *message)
{
    struct haul_op *call = message->call;
    struct haul_link *link = message->link;
    bool was_in_order = message->state < HAUL_MESSAGE_DELIVERED && !message->manifest.reply_to;
    haul_link_retain(link);
    stop_receiving(message);
    haul_list_remove(&message->node);
    haul_list_remove(&message->place_node);
    haul_fetch_end(message);
    haul_message_set_state(message, HAUL_MESSAGE_DROPPED);
    message->cancelled = false; /* its last read frees it, and answers nobody */
    message->call = NULL;
    if (message->reads == 0) {
        haul_message_free(message); /* else the last read does; its memory is in use until then */
        message = NULL;
    }
    if (call) {
        haul_op_end(call, HAUL_NO_REPLY, "the peer took its reply back");
        haul_op_unreference(call);
    }
    if (was_in_order)
        deliver_in_order(link); /* those behind it may have waited for nothing else */
    haul_link_release(link);
}

/* ---- Manifests ------------------------------------------------------------------------------- */

static void expect_payload(struct haul_link *link, struct haul_message *message, bool stream,
                           uint64_t bytes)
{
    link->payload_left = bytes;
    link->receiving = bytes > 0 ? message : NULL;
    link->receiving_stream = stream;
}

/* Joins a reply with the call that waits for it; if there is none, the reply is refused (and gone).
 */
static int match_call(struct haul_message *message, bool *matched)
{
    struct haul_link *link = message->link;
    *matched = false;
    if (message->manifest.inline_bytes > HAUL_INLINE_MAX)
        return haul_fail(HAUL_PROTOCOL, "a reply with more inline bytes than a call sets aside");
    struct haul_op *call = haul_transmit_find(link, message->manifest.reply_to);
    haul_list_append(&link->replies, &message->node);
    if (!call || call->kind != HAUL_OP_CALL || call->reply) {
        haul_inbound_refuse(message, HAUL_CANCELLED, "the caller does not wait for it any more");
        return 0;
    }
    HAUL_LIST_EACH(&link->replies, node)
    if (HAUL_CONTAINER_OF(node, struct haul_message, node)->call == call)
        return haul_fail(HAUL_PROTOCOL, "a second reply to the same call");
    message->call = call;
    atomic_fetch_add(&call->references, 1);
    *matched = true;
    return 0;
}

static int accept_manifest(struct haul_link *link, struct haul_message *message, int err)
{
    struct haul_manifest *manifest = &message->manifest;
    char detail[HAUL_DETAIL_MAX];
    haul_copy_text(detail, sizeof detail, err ? haul_error_detail() : "");
    expect_payload(link, message, false, manifest->inline_bytes);
    for (uint32_t i = 0; i < manifest->count; i++)
        message->release_due |= manifest->arrays[i].given;
    if (link->state != HAUL_LINK_PLAIN) {
        if (manifest->seq <= link->last_seq)
            return haul_fail(HAUL_PROTOCOL, "a message out of sequence");
        link->last_seq = manifest->seq;
    } else if (manifest->offered_bytes > 0) {
        return haul_fail(HAUL_PROTOCOL,
                         "an offered array from a client that cannot be asked for it");
    }
    if (manifest->reply_to) {
        bool matched;
        int wrong = match_call(message, &matched);
        if (!matched)
            return wrong;
        if (err) {
            haul_inbound_refuse(message, err, detail);
            return 0;
        }
    } else {
        haul_list_append(&link->inbound, &message->node);
        if (link->state != HAUL_LINK_PLAIN && haul_credit_take(link, message))
            return HAUL_PROTOCOL;
        if (!err && link->inbox->closed) {
            err = HAUL_CLOSED;
            snprintf(detail, sizeof detail, "the server is closed");
        }
        if (err) {
            haul_inbound_refuse(message, err, detail);
            return 0;
        }
    }
    HAUL_COUNT(link->peer, bytes_inline, manifest->inline_bytes);
    haul_place_message(message);
    return 0;
}

/* Large manifests are memory that no credit stands for: a peer gets so much of it, and one message
 * in any case. */
static int count_manifest(struct haul_message *message)
{
    struct haul_link *link = message->link;
    size_t bytes = haul_manifest_memory(&message->manifest);
    if (bytes <= HAUL_FREE_BYTES_MAX)
        return 0;
    if (link->manifest_bytes > 0 && link->manifest_bytes + bytes > HAUL_MANIFESTS_MAX)
        return haul_fail(
            HAUL_TOO_LARGE,
            "its keys and shapes take %zu KiB, those of the sender's messages that are "
            "not released yet %zu KiB: more than %d MiB in all; send fewer arrays in a "
            "message, or fewer messages at a time",
            bytes >> 10, link->manifest_bytes >> 10, HAUL_MANIFESTS_MAX >> 20);
    message->manifest_bytes = bytes;
    link->manifest_bytes += bytes;
    return 0;
}

void haul_inbound_discount_manifest(struct haul_message *message)
{
    message->link->manifest_bytes -= message->manifest_bytes;
    message->manifest_bytes = 0;
}

int haul_inbound_manifest(struct haul_link *link, const uint8_t *header, size_t header_bytes)
{
    struct haul_message *message = haul_message_create(link);
    if (!message)
        return haul_fail(HAUL_NO_MEMORY, "no memory for a manifest");
    int err = haul_manifest_decode(&message->manifest, header, header_bytes,
                                   link->engine->config.message_max);
    if (err && err != HAUL_TOO_LARGE) {
        haul_message_free(message);
        return err;
    }
    if (!err)
        err = count_manifest(message);
    err = accept_manifest(link, message, err);
    if (err) { /* the connection ends: what is in link->inbound goes with it */
        link->receiving = NULL;
        if (haul_list_empty(&message->node))
            haul_message_free(message);
    }
    return err;
}

/* ---- Payload --------------------------------------------------------------------------------- */

static struct haul_message *find_inbound(struct haul_link *link, uint64_t seq)
{
    struct haul_list *lists[] = {&link->inbound, &link->replies};
    for (size_t i = 0; i < HAUL_COUNT_OF(lists); i++) {
        HAUL_LIST_EACH(lists[i], node)
        {
            struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, node);
            if (message->manifest.seq == seq)
                return message;
        }
    }
    return NULL;
}

int haul_inbound_data(struct haul_link *link, const struct haul_wire_control *data)
{
    struct haul_message *message = find_inbound(link, data->seq);
    if (!message || message->state != HAUL_MESSAGE_FETCHING ||
        message->transfer != data->transfer) {
        if (message)
            message->stalled = false;                  /* late, but it sends */
        expect_payload(link, NULL, true, data->bytes); /* of a message or fetch that was given up */
        return 0;
    }
    if (data->offset != message->fetch_next || data->bytes > message->fetch_end - data->offset)
        return haul_fail(HAUL_PROTOCOL, "data that was not asked for");
    expect_payload(link, message, true, data->bytes);
    return 0;
}

struct haul_manifest_array *haul_cursor_array(struct haul_manifest *manifest,
                                              struct haul_cursor *cursor, bool offered)
{
    while (cursor->index < manifest->count) {
        struct haul_manifest_array *item = &manifest->arrays[cursor->index];
        if (item->offered == offered && cursor->offset < item->array.nbytes)
            return item;
        cursor->index++;
        cursor->offset = 0;
    }
    return NULL;
}

static struct haul_cursor *cursor_of(struct haul_link *link)
{
    return link->receiving_stream ? &link->receiving->stream_cursor
                                  : &link->receiving->inline_cursor;
}

size_t haul_inbound_target(struct haul_link *link, struct iovec *segments, size_t max)
{
    uint64_t left = link->payload_left;
    size_t count = 0;
    if (!link->receiving) {
        segments[0] = (struct iovec){discard, (size_t)HAUL_MIN(left, sizeof discard)};
        return left > 0;
    }
    struct haul_cursor cursor = *cursor_of(link);
    while (left > 0 && count < max) {
        struct haul_manifest_array *item =
            haul_cursor_array(&link->receiving->manifest, &cursor, link->receiving_stream);
        if (!item)
            break;
        uint64_t n = HAUL_MIN(item->array.nbytes - cursor.offset, left);
        segments[count++] = (struct iovec){(char *)item->array.data + cursor.offset, (size_t)n};
        left -= n;
        cursor.offset += n;
    }
    return count;
}

/* n bytes are in their place. */
static void advance(struct haul_link *link, struct haul_message *message, uint64_t n)
{
    struct haul_cursor *cursor = cursor_of(link);
    uint64_t left = n;
    while (left > 0) {
        struct haul_manifest_array *item =
            haul_cursor_array(&message->manifest, cursor, link->receiving_stream);
        uint64_t step = HAUL_MIN(item->array.nbytes - cursor->offset, left);
        cursor->offset += step;
        left -= step;
    }
    if (link->receiving_stream) {
        haul_fetch_received(message, n);
    } else {
        message->inline_received += n;
        haul_stall_moved(message, n);
    }
}

static int payload_arrived(struct haul_link *link, uint64_t n)
{
    struct haul_message *message = link->receiving;
    link->heard_ns = link->engine->drive.now_ns;
    link->asked_ns = 0;
    link->payload_left -= n;
    if (message)
        advance(link, message, n);
    if (link->payload_left > 0)
        return 0;
    link->receiving = NULL;
    if (message)
        haul_inbound_progress(message);
    return link->state == HAUL_LINK_LOST ? HAUL_PEER_LOST : 0;
}

int haul_inbound_received(struct haul_link *link, size_t n)
{
    if (link->state == HAUL_LINK_LOST)
        return HAUL_PEER_LOST;
    return payload_arrived(link, n);
}

/* ---- Lent parts ------------------------------------------------------------------------------ */

static bool is_aligned(const void *data, uint32_t itemsize)
{
    uint32_t needed = itemsize & (~itemsize + 1); /* largest power of two that divides it */
    return (uintptr_t)data % HAUL_MIN(needed, 16u) == 0;
}

static bool keep_lent(struct haul_message *message, void *token)
{
    void **lent =
        haul_grow(message->lent, &message->lent_capacity, message->lent_count, sizeof *lent);
    if (!lent)
        return false;
    message->lent = lent;
    message->lent[message->lent_count++] = token;
    return true;
}

/* Uses a part in place, or copies it where the message already has memory (named, or because the
 * part is not aligned for its type). */
static int take_part(struct haul_link *link, void *data, size_t bytes, bool *kept, void *token)
{
    struct haul_message *message = link->receiving;
    struct haul_manifest_array *item =
        haul_cursor_array(&message->manifest, cursor_of(link), link->receiving_stream);
    if (!item || cursor_of(link)->offset > 0 || item->array.nbytes != bytes)
        return haul_fail(HAUL_PROTOCOL, "a part that is not as long as its array");
    if (!item->array.data && is_aligned(data, item->array.itemsize) && keep_lent(message, token)) {
        item->array.data = data;
        *kept = true;
        HAUL_COUNT(link->peer, bytes_lent, bytes);
        return 0;
    }
    if (!item->array.data)
        return haul_place_copy(message, &item->array, data);
    memcpy(item->array.data, data, bytes);
    HAUL_COUNT(link->peer, bytes_copied, bytes);
    return 0;
}

int haul_inbound_lend(struct haul_link *link, void *data, size_t bytes, void *token)
{
    struct haul_transport *transport = link->transport;
    bool kept = false;
    int err = 0;
    if (link->state == HAUL_LINK_LOST)
        err = HAUL_PEER_LOST;
    else if (bytes > link->payload_left)
        err = haul_fail(HAUL_PROTOCOL, "more bytes than the frame's prefix says");
    else if (bytes > 0 && link->receiving)
        err = take_part(link, data, bytes, &kept, token);
    if (!kept)
        transport->provider->channel->give_back(transport->channel, token);
    if (!err && bytes > 0)
        err = payload_arrived(link, bytes);
    if (err && link->state != HAUL_LINK_LOST)
        haul_link_bye(link, err, haul_error_detail());
    return err;
}

/* ---- Cancel ---------------------------------------------------------------------------------- */

void haul_inbound_cancel(struct haul_link *link, uint64_t seq)
{
    struct haul_message *message = find_inbound(link, seq);
    if (!message) { /* delivered: its memory at the sender is not read any more */
        const struct haul_wire_control ack = {
            .type = HAUL_FRAME_ACK, .seq = seq, .err = HAUL_CANCELLED};
        if (seq <= link->last_seq)
            haul_link_control(link, &ack);
        return;
    }
    if (message->reads > 0) { /* the sender's memory is being read: it hears when that has ended */
        message->cancelled = true;
        haul_reads_take_back(link);
        return;
    }
    answer(message, HAUL_CANCELLED, haul_error_sentence(HAUL_CANCELLED));
    haul_inbound_drop(message);
}
