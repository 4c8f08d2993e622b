/* SPDX-License-Identifier: Apache-2.0
 * Bytes to frames.
 *
 * The stream is HEADER (prefix, then body), PAYLOAD, HEADER, ... A read is planned from where in it
 * we are:
 *   PAYLOAD  straight to where core wants it. Only a read that can reach the end of the payload has
 *            LOOKAHEAD_BYTES of the scratch buffer behind that, enough for most headers: so the
 *            next header costs no system call of its own, and at most a few bytes of the next
 *            payload are copied.
 *   HEADER   into the scratch buffer: many small frames in one read, and little (HEADER_READ_MIN)
 *            of a large payload. While small frames fill it, more of it is used. A body larger than
 *            that is read straight to its place.
 * What is in the scratch buffer after a read is delivered before the next, so that all connections
 * of a channel share it; a connection of its own keeps no more than a header that came in part.
 *
 * Fairness. One event delivers RECEIVE_BUDGET bytes at most; the descriptor stays ready. A short
 * read ends it too: there is nothing more, and asking would cost a call.
 *
 * Failure modes. check() sees a prefix before memory is taken for its body. Once a callback has
 * returned non-zero nothing more is read. The end of the stream, an error, and a write that failed
 * earlier all end in lost(), here and only here once it is open. */
#include "tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECEIVE_BUDGET = 1 << 20, /* and the most that one read asks for: small reads cost more */
    HEADER_READ_MIN = 512,
    LOOKAHEAD_BYTES = 64,
    SEGMENTS_MAX = 16,
    HEADER_KEPT_MAX = 4 << 10, /* a larger header buffer is freed after use */
};

/* Where one read goes: `direct` bytes to their place, `spare` bytes to the scratch buffer. */
struct plan {
    struct iovec parts[SEGMENTS_MAX + 1];
    size_t count;
    size_t direct, spare;
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Asks core for the place of up to `max` bytes of the payload; returns how many there is room for.
 */
static size_t payload_target(struct haul_tcp_conn *conn, struct iovec *parts, size_t *count,
                             size_t max)
{
    size_t room = 0, used = 0;
    size_t offered = haul_tcp_host->target(conn->link, parts, SEGMENTS_MAX);
    while (used < offered && room < max) {
        parts[used].iov_len = min_size(parts[used].iov_len, max - room);
        room += parts[used++].iov_len;
    }
    *count = used;
    return room;
}

static void payload_received(struct haul_tcp_conn *conn, size_t n)
{
    conn->input.payload_left -= n;
    if (haul_tcp_host->received(conn->link, n))
        haul_tcp_conn_give_up(conn);
}

/* ---- Headers -------------------------------------------------------------------------------- */

static size_t whole_header_bytes(const uint8_t *prefix)
{
    return HAUL_PREFIX_BYTES + (size_t)haul_prefix_body_bytes(prefix);
}

/* Bytes until the prefix is whole, or else until the body is. */
static size_t header_missing(const struct haul_tcp_input *input)
{
    if (input->header_have < HAUL_PREFIX_BYTES)
        return HAUL_PREFIX_BYTES - input->header_have;
    return whole_header_bytes(input->header) - input->header_have;
}

static bool header_reserve(struct haul_tcp_conn *conn, size_t bytes)
{
    struct haul_tcp_input *input = &conn->input;
    if (bytes <= input->header_capacity)
        return true;
    uint8_t *header = realloc(input->header, bytes);
    if (!header) {
        haul_tcp_conn_lose(conn, HAUL_PEER_LOST, "no memory to receive a frame from it");
        return false;
    }
    input->header = header;
    input->header_capacity = bytes;
    return true;
}

static void deliver_header(struct haul_tcp_conn *conn, const uint8_t *header, size_t bytes)
{
    struct haul_tcp_input *input = &conn->input;
    input->payload_left = haul_prefix_payload_bytes(header);
    if (input->payload_left > HEADER_READ_MIN)
        input->read_bytes = HEADER_READ_MIN;
    if (haul_tcp_host->frame(conn->link, header, bytes))
        haul_tcp_conn_give_up(conn);
}

/* A stranger may wait for our answer to less than a prefix (ZeroMQ does, after 10 bytes): what
 * cannot be the begin of a frame is refused at once. */
static void refuse_stranger(struct haul_tcp_conn *conn)
{
    struct haul_tcp_input *input = &conn->input;
    uint8_t prefix[HAUL_PREFIX_BYTES] = {0};
    memcpy(prefix, input->header, input->header_have);
    if (prefix[0] > HAUL_PREFIX_TYPE_MAX && haul_tcp_host->check(conn->link, prefix))
        haul_tcp_conn_give_up(conn);
}

/* n bytes were added to the header that came in part. */
static void header_grown(struct haul_tcp_conn *conn, size_t n)
{
    struct haul_tcp_input *input = &conn->input;
    input->header_have += n;
    if (input->header_have < HAUL_PREFIX_BYTES)
        refuse_stranger(conn);
    if (input->header_have == HAUL_PREFIX_BYTES) {
        if (haul_tcp_host->check(conn->link, input->header)) {
            haul_tcp_conn_give_up(conn);
            return;
        }
        if (!header_reserve(conn, whole_header_bytes(input->header)))
            return;
    }
    if (header_missing(input) > 0)
        return;
    size_t bytes = input->header_have;
    input->header_have = 0;
    deliver_header(conn, input->header, bytes);
    if (input->header_capacity > HEADER_KEPT_MAX) {
        free(input->header);
        input->header = NULL;
        input->header_capacity = 0;
    }
}

/* ---- Bytes in the scratch buffer ------------------------------------------------------------ */

static size_t consume_payload(struct haul_tcp_conn *conn, const uint8_t *data, size_t bytes)
{
    struct iovec parts[SEGMENTS_MAX];
    size_t count, copied = 0;
    if (bytes > conn->input.payload_left)
        bytes = (size_t)conn->input.payload_left;
    if (payload_target(conn, parts, &count, bytes) == 0) {
        haul_tcp_conn_lose(conn, HAUL_PEER_LOST, "there is no place for what it sends");
        return bytes;
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].iov_len > 0)
            memcpy(parts[i].iov_base, data + copied, parts[i].iov_len);
        copied += parts[i].iov_len;
    }
    payload_received(conn, copied);
    return copied;
}

static size_t consume_header(struct haul_tcp_conn *conn, const uint8_t *data, size_t bytes)
{
    struct haul_tcp_input *input = &conn->input;
    bool prefix_here = input->header_have == 0 && bytes >= HAUL_PREFIX_BYTES;
    if (prefix_here && bytes >= whole_header_bytes(data)) {
        size_t whole = whole_header_bytes(data);
        if (haul_tcp_host->check(conn->link, data))
            haul_tcp_conn_give_up(conn);
        else
            deliver_header(conn, data, whole);
        return whole;
    }
    size_t n = min_size(bytes, header_missing(input));
    if (!header_reserve(conn, input->header_have + n))
        return n;
    memcpy(input->header + input->header_have, data, n);
    header_grown(conn, n);
    return n;
}

static void consume(struct haul_tcp_conn *conn, const uint8_t *data, size_t bytes)
{
    while (bytes > 0 && conn->state == HAUL_TCP_OPEN) {
        size_t n = conn->input.payload_left > 0 ? consume_payload(conn, data, bytes)
                                                : consume_header(conn, data, bytes);
        data += n;
        bytes -= n;
    }
}

/* ---- Reads ---------------------------------------------------------------------------------- */

static bool plan_payload(struct haul_tcp_conn *conn, struct plan *plan)
{
    uint64_t left = conn->input.payload_left;
    size_t max = left < RECEIVE_BUDGET ? (size_t)left : RECEIVE_BUDGET;
    plan->direct = payload_target(conn, plan->parts, &plan->count, max);
    plan->spare = plan->direct == left ? LOOKAHEAD_BYTES : 0;
    if (plan->direct > 0)
        return true;
    haul_tcp_conn_lose(conn, HAUL_PEER_LOST, "there is no place for what it sends");
    return false;
}

static void plan_header(struct haul_tcp_conn *conn, struct plan *plan)
{
    struct haul_tcp_input *input = &conn->input;
    if (input->read_bytes == 0)
        input->read_bytes = HEADER_READ_MIN;
    size_t missing = header_missing(input);
    plan->count = plan->direct = 0;
    plan->spare = input->read_bytes;
    if (missing <= input->read_bytes)
        return;
    plan->parts[plan->count++] =
        (struct iovec){.iov_base = input->header + input->header_have, .iov_len = missing};
    plan->direct = missing;
    plan->spare = LOOKAHEAD_BYTES;
}

static bool plan_read(struct haul_tcp_conn *conn, struct plan *plan)
{
    if (conn->input.payload_left == 0)
        plan_header(conn, plan);
    else if (!plan_payload(conn, plan))
        return false;
    if (plan->spare > 0)
        plan->parts[plan->count++] =
            (struct iovec){.iov_base = conn->channel->scratch, .iov_len = plan->spare};
    return true;
}

static void deliver_read(struct haul_tcp_conn *conn, const struct plan *plan, size_t n)
{
    struct haul_tcp_input *input = &conn->input;
    size_t direct = min_size(n, plan->direct);
    bool small_frames = plan->direct == 0 && n == plan->spare;
    if (direct > 0 && input->payload_left > 0)
        payload_received(conn, direct);
    else if (direct > 0)
        header_grown(conn, direct);
    consume(conn, conn->channel->scratch, n - direct);
    if (small_frames && input->payload_left == 0)
        input->read_bytes = min_size(input->read_bytes * 2, HAUL_TCP_SCRATCH_BYTES);
}

/* The stream has ended, or `error` (errno). */
static void stream_ended(struct haul_tcp_conn *conn, int error)
{
    char text[HAUL_TCP_ADDRESS_TEXT_BYTES];
    bool midway = conn->input.header_have > 0 || conn->input.payload_left > 0;
    const char *why =
        midway ? "the connection was closed in the middle of a frame" : "the connection was closed";
    if (conn->output.failed && conn->why)
        why = conn->why;
    else if (conn->output.failed && error == 0)
        why = haul_tcp_error_format(conn->error, text);
    else if (error != 0)
        why = haul_tcp_error_format(error, text);
    haul_tcp_conn_lose(conn, HAUL_PEER_LOST, why);
}

bool haul_tcp_receive(struct haul_tcp_conn *conn)
{
    struct plan plan;
    size_t taken = 0;
    while (taken < RECEIVE_BUDGET && conn->state == HAUL_TCP_OPEN) {
        if (!plan_read(conn, &plan))
            return true;
        ssize_t n = readv(conn->fd, plan.parts, (int)plan.count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            stream_ended(conn, n < 0 ? errno : 0);
            return true;
        }
        taken += (size_t)n;
        deliver_read(conn, &plan, (size_t)n);
        /* A short read has emptied the socket; but in a payload its sender is filling it meanwhile,
         * and looking again costs less than a turn through the event loop. */
        if ((size_t)n < plan.direct + plan.spare && conn->input.payload_left == 0)
            break;
    }
    return taken > 0;
}
