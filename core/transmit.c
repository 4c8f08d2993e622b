/* SPDX-License-Identifier: Apache-2.0
 * The sender's side: announcing ops, sending what the receiver fetches, and their ends.
 *
 * Happy path. haul_transmit_start() queues an op on its link; the pump announces it (MESSAGE with
 * the inline arrays) when there is a credit; a FETCH makes it transmit its offered arrays as DATA,
 * in chunks between which control frames and announcements pass; an ACK, or the reply of a call,
 * ends it.
 *
 * A channel takes few frames with payload at a time. When it answers HAUL_BUSY the link waits for
 * sent() or writable(); when a pump's budget is used up it stays in engine->sending and the next
 * pass goes on. */
#include "handles.h"
#include "link.h"
#include "sending.h"

#include <stdio.h>
#include <stdlib.h>

enum { PUMP_BYTES = 4 << 20 };

static const struct haul_channel_ops *channel_of(const struct haul_link *link)
{
    return link->transport->provider->channel;
}

static bool sends(const struct haul_link *link)
{
    return link && haul_link_is_open(link);
}

/* ---- Announcements --------------------------------------------------------------------------- */

static bool needs_credit(const struct haul_op *op)
{
    return op->kind != HAUL_OP_REPLY;
}

static bool has_credit(const struct haul_link *link)
{
    return link->used_messages < link->credit_messages;
}

/* Returns 0, or the error that the op ends with. */
static int encode(struct haul_op *op)
{
    struct haul_manifest *manifest = &op->manifest;
    manifest->flags = op->kind == HAUL_OP_CALL ? HAUL_MESSAGE_WANTS_REPLY : 0;
    if (op->kind == HAUL_OP_SEND || (op->kind == HAUL_OP_REPLY && manifest->offered_bytes > 0))
        manifest->flags = HAUL_MESSAGE_WANTS_ACK;
    manifest->seq = op->link->next_seq;
    size_t bytes = haul_manifest_encoded_bytes(manifest);
    if (bytes > HAUL_PREFIX_BYTES + (size_t)HAUL_WIRE_BODY_MAX)
        return haul_fail(
            HAUL_TOO_LARGE,
            "keys, shapes and descriptions of %u arrays need %zu bytes, more than the %d "
            "of a manifest: send fewer arrays in one dict",
            manifest->count, bytes, HAUL_WIRE_BODY_MAX);
    if (bytes > op->header_capacity) {
        uint8_t *header = realloc(op->header, bytes);
        if (!header)
            return haul_fail(HAUL_NO_MEMORY, "no memory for a manifest of %zu bytes", bytes);
        op->header = header;
        op->header_capacity = bytes;
    }
    haul_manifest_encode(manifest, op->header);
    return 0;
}

static size_t inline_segments(struct haul_op *op)
{
    size_t count = 0;
    for (uint32_t i = 0; i < op->manifest.count; i++) {
        const struct haul_manifest_array *item = &op->manifest.arrays[i];
        if (!item->offered && item->array.nbytes > 0)
            op->segments[count++] = (struct iovec){item->array.data, (size_t)item->array.nbytes};
    }
    return count;
}

/* A frame's payload goes to the channel; until it comes back the link stays. */
static void parcel_leave(struct haul_parcel *parcel, struct haul_link *link)
{
    parcel->in_channel = true;
    link->engine->parcels_out++;
    haul_link_retain(link);
}

void haul_parcel_return(struct haul_parcel *parcel, struct haul_link *link)
{
    parcel->in_channel = false;
    link->engine->parcels_out--;
    haul_link_release(link);
}

/* Hands a frame to the channel; false if it is busy. The parcel counts as in the channel before,
 * because sent() may come from inside send(). */
static bool send_parcel(struct haul_link *link, struct haul_parcel *parcel, const void *header,
                        size_t header_bytes, const struct iovec *segments, size_t count,
                        uint64_t payload_bytes)
{
    if (count > 0)
        parcel_leave(parcel, link);
    int err = channel_of(link)->send(link->conn, header, header_bytes, segments, count, parcel);
    if (err != HAUL_BUSY) {
        HAUL_COUNT(link->peer, bytes_transmitted, payload_bytes);
        return true;
    }
    if (count == 0) { /* this frame is lost, and those behind it must not pass it */
        haul_link_lose(link, HAUL_PROVIDER,
                       "%s: provider %s said that it is busy to a frame without payload, which it "
                       "has to take",
                       link->peer->address, link->transport->name);
        return true;
    }
    haul_parcel_return(parcel, link);
    link->channel_busy = true;
    return false;
}

/* Whether the peer can take it at all; ends the op if not. */
static bool is_acceptable(struct haul_op *op)
{
    struct haul_link *link = op->link;
    char detail[HAUL_DETAIL_MAX];
    uint64_t total = 0;
    for (uint32_t i = 0; i < op->manifest.count; i++)
        total += op->manifest.arrays[i].array.nbytes;
    if (link->state == HAUL_LINK_PLAIN && op->kind != HAUL_OP_REPLY) {
        snprintf(detail, sizeof detail, "%s is a plain client: it can only be replied to",
                 op->peer->address);
        haul_op_end(op, HAUL_UNSUPPORTED, detail);
        return false;
    }
    if (total > link->message_max) {
        snprintf(detail, sizeof detail,
                 "%llu bytes are more than the %llu that %s takes in one message (its "
                 "HAUL_MESSAGE_MAX, at most its HAUL_POOL_MAX)",
                 (unsigned long long)total, (unsigned long long)link->message_max,
                 op->peer->address);
        haul_op_end(op, HAUL_TOO_LARGE, detail);
        return false;
    }
    return true;
}

/* Returns false if the channel is busy. */
static bool announce(struct haul_op *op)
{
    struct haul_link *link = op->link;
    if (link->channel_busy && op->has_payload)
        return false; /* planning it costs */
    if (!is_acceptable(op))
        return true;
    haul_plan(op);
    int err = encode(op);
    if (err) {
        haul_op_end(op, err, haul_error_detail());
        return true;
    }
    size_t header_bytes = haul_manifest_encoded_bytes(&op->manifest);
    size_t count = inline_segments(op);
    bool on_credit = needs_credit(op);
    uint64_t inline_bytes = op->manifest.inline_bytes;
    uint64_t prepaid_bytes = haul_manifest_prepaid_bytes(&op->manifest);
    op->has_payload = count > 0;
    if (op->has_payload && link->channel_busy)
        return false;
    /* From here on the op may end inside send_parcel(). */
    haul_list_remove(&op->node);
    haul_list_append(&link->open, &op->node);
    op->state = HAUL_OP_OPEN;
    op->seq = link->next_seq++;
    op->announced = true;
    link->used_messages += on_credit;
    link->used_bytes += on_credit ? prepaid_bytes : 0;
    if (send_parcel(link, &op->announcement, op->header, header_bytes, op->segments, count,
                    inline_bytes))
        return true;
    link->used_messages -= on_credit;
    link->used_bytes -= on_credit ? prepaid_bytes : 0;
    link->next_seq--;
    op->announced = false;
    op->state = HAUL_OP_WAITING;
    haul_list_remove(&op->node);
    haul_list_prepend(&link->waiting, &op->node);
    return false;
}

/* A small reply without payload has nothing that sent() or an ACK would end. */
static void end_if_nothing_follows(struct haul_op *op)
{
    if (op->kind == HAUL_OP_REPLY && op->state == HAUL_OP_OPEN && !op->announcement.in_channel &&
        !(op->manifest.flags & HAUL_MESSAGE_WANTS_ACK))
        haul_op_end(op, 0, "");
}

/* In order, except that replies pass sends which wait for a credit. */
static void announce_waiting(struct haul_link *link)
{
    bool blocked = false;
    HAUL_LIST_EACH(&link->waiting, node)
    {
        struct haul_op *op = HAUL_CONTAINER_OF(node, struct haul_op, node);
        if (needs_credit(op) && (blocked || !has_credit(link))) {
            if (!op->waits_for_credit)
                HAUL_COUNT(op->peer, credit_waits, 1);
            op->waits_for_credit = true;
            blocked = true;
            continue;
        }
        op->waits_for_credit = false;
        atomic_fetch_add(&op->references, 1);
        bool taken = announce(op);
        if (taken)
            end_if_nothing_follows(op);
        haul_op_unreference(op);
        if (!taken || link->state == HAUL_LINK_LOST)
            return;
    }
}

/* ---- Data ------------------------------------------------------------------------------------ */

/* The segments of the stream from op->send_offset on, up to `limit` bytes. */
static size_t stream_segments(struct haul_op *op, uint64_t limit, struct iovec *segments,
                              uint64_t *bytes)
{
    uint64_t skip = op->send_offset;
    size_t count = 0;
    *bytes = 0;
    for (uint32_t i = 0; i < op->manifest.count && *bytes < limit; i++) {
        const struct haul_manifest_array *item = &op->manifest.arrays[i];
        if (!item->offered)
            continue;
        if (skip >= item->array.nbytes) {
            skip -= item->array.nbytes;
            continue;
        }
        uint64_t n = HAUL_MIN(item->array.nbytes - skip, limit - *bytes);
        segments[count++] = (struct iovec){(char *)item->array.data + skip, (size_t)n};
        *bytes += n;
        skip = 0;
    }
    return count;
}

/* Sends the next chunk; false if the channel is busy. */
static bool send_chunk(struct haul_op *op, uint64_t *sent)
{
    struct haul_link *link = op->link;
    uint64_t left = op->send_end - op->send_offset;
    uint64_t limit =
        channel_of(link)->flags & HAUL_CHANNEL_PARTS ? left : HAUL_MIN(left, HAUL_CHUNK_BYTES);
    struct iovec *segments = op->segments + op->segment_capacity;
    uint8_t header[HAUL_WIRE_CONTROL_ENCODED_MAX];
    uint64_t bytes;
    if (op->chunk.in_channel) {
        link->channel_busy = true;
        return false;
    }
    size_t count = stream_segments(op, limit, segments, &bytes);
    const struct haul_wire_control data = {.type = HAUL_FRAME_DATA,
                                           .seq = op->seq,
                                           .transfer = op->transfer,
                                           .offset = op->send_offset,
                                           .bytes = bytes};
    size_t header_bytes = haul_control_encode(&data, header);
    op->send_offset += bytes;
    if (op->send_offset == op->send_end)
        haul_list_remove(&op->transmit_node);
    if (!send_parcel(link, &op->chunk, header, header_bytes, segments, count, bytes)) {
        if (op->send_offset == op->send_end)
            haul_list_prepend(&link->transmitting, &op->transmit_node);
        op->send_offset -= bytes;
        return false;
    }
    *sent += bytes;
    return true;
}

bool haul_transmit_pump(struct haul_link *link)
{
    uint64_t sent = 0;
    if (!sends(link) || link->pumping)
        return false;
    haul_link_retain(link);
    link->pumping = true;
    announce_waiting(link);
    while (!link->channel_busy && link->state != HAUL_LINK_LOST && sent < PUMP_BYTES &&
           !haul_list_empty(&link->transmitting))
        send_chunk(HAUL_LIST_FIRST(&link->transmitting, struct haul_op, transmit_node), &sent);
    link->pumping = false;
    bool more = link->state != HAUL_LINK_LOST && !link->channel_busy &&
                !haul_list_empty(&link->transmitting);
    haul_list_remove(&link->sending_node);
    if (more) {
        haul_list_append(&link->engine->sending, &link->sending_node);
        haul_engine_timer(link->engine, haul_now_ns());
    }
    haul_link_release(link);
    return more;
}

/* ---- Starts and ends ------------------------------------------------------------------------- */

void haul_transmit_start(struct haul_op *op)
{
    struct haul_peer *peer = op->peer;
    struct haul_link *link = op->link ? op->link : peer->link;
    if (sends(link)) {
        if (!op->link) {
            op->link = link;
            haul_link_retain(link);
        }
        haul_list_append(&link->waiting, &op->node);
        haul_transmit_pump(link);
    } else if (op->link && link->state == HAUL_LINK_GREETING) {
        haul_list_append(&link->waiting, &op->node); /* a reply, while the path is still proven */
    } else if (peer->dials && !peer->closed && !op->link) {
        haul_list_append(&peer->waiting, &op->node);
    } else {
        char detail[HAUL_DETAIL_MAX];
        snprintf(detail, sizeof detail, "%.100s is gone: %.300s", peer->address,
                 peer->last_err ? peer->last_why : "it was disconnected");
        haul_op_end(op, HAUL_PEER_LOST, detail);
    }
}

static struct haul_op *find_in(struct haul_list *list, uint64_t seq)
{
    HAUL_LIST_EACH(list, node)
    {
        struct haul_op *op = HAUL_CONTAINER_OF(node, struct haul_op, node);
        if (op->seq == seq)
            return op;
    }
    return NULL;
}

struct haul_op *haul_transmit_find(struct haul_link *link, uint64_t seq)
{
    return find_in(&link->open, seq);
}

int haul_transmit_fetch(struct haul_link *link, const struct haul_wire_control *fetch)
{
    struct haul_op *op = haul_transmit_find(link, fetch->seq);
    if (!op || op->cancelling)
        return 0; /* it was cancelled: the CANCEL is on its way */
    uint64_t end = fetch->offset;
    if (!haul_add_u64(&end, fetch->bytes) || end > op->manifest.offered_bytes || fetch->bytes == 0)
        return haul_fail(HAUL_PROTOCOL, "a fetch of bytes that message %llu does not have",
                         (unsigned long long)fetch->seq);
    op->restarts += fetch->offset < op->send_end;
    op->transfer = fetch->transfer;
    op->send_offset = fetch->offset;
    op->send_end = end;
    haul_list_remove(&op->transmit_node);
    haul_list_append(&link->transmitting, &op->transmit_node);
    haul_transmit_pump(link);
    return 0;
}

void haul_transmit_ack(struct haul_link *link, const struct haul_wire_control *ack)
{
    struct haul_op *op = haul_transmit_find(link, ack->seq);
    if (!op)
        return;
    char detail[HAUL_DETAIL_MAX];
    snprintf(detail, sizeof detail, "%.100s: %.400s", link->peer->address,
             *ack->sentence ? ack->sentence : haul_error_sentence(ack->err));
    if (op->cancelling)
        haul_op_end(op, op->result, op->detail);
    else if (ack->err)
        haul_op_end(op, ack->err < 0 ? ack->err : HAUL_REFUSED, detail);
    else if (op->kind != HAUL_OP_CALL)
        haul_op_end(op, 0, "");
}

void haul_transmit_no_reply(const struct haul_op *reply)
{
    const struct haul_wire_control no_reply = {
        .type = HAUL_FRAME_ACK, .seq = reply->manifest.reply_to, .err = HAUL_NO_REPLY};
    haul_link_control(reply->link, &no_reply);
}

void haul_transmit_unannounce(struct haul_op *op)
{
    op->announced = false;
    if (op->kind == HAUL_OP_REPLY)
        haul_transmit_no_reply(op);
    if (!needs_credit(op))
        return;
    op->link->used_messages--;
    op->link->used_bytes -= haul_manifest_prepaid_bytes(&op->manifest);
}

void haul_transmit_release(struct haul_link *link, uint64_t seq)
{
    struct haul_op *kept = find_in(&link->kept, seq);
    struct haul_op *op = find_in(&link->open, seq); /* it overtook the reply that ends the op */
    if (!op)
        op = find_in(&link->ending, seq);
    if (op)
        op->released = true;
    if (!kept)
        return;
    haul_list_remove(&kept->node);
    haul_given_free(kept);
    haul_op_unreference(kept);
}

void haul_transmit_cancel(struct haul_op *op, int err, const char *detail)
{
    if (op->state == HAUL_OP_OPEN && op->link->state == HAUL_LINK_OPEN) {
        const struct haul_wire_control cancel = {.type = HAUL_FRAME_CANCEL, .seq = op->seq};
        haul_link_control(op->link, &cancel);
        if (op->offered_rma) { /* the peer may be reading: its ACK ends the op */
            haul_list_remove(&op->transmit_node);
            op->cancelling = true;
            op->result = err;
            haul_copy_text(op->detail, sizeof op->detail, detail);
            return;
        }
    }
    haul_op_end(op, err, detail);
}
