/* SPDX-License-Identifier: Apache-2.0
 * Frames to bytes.
 *
 * Happy path. send() appends the header to `before`, notes the payload where it lies, and writes
 * both with one sendmsg() at once; nothing stays behind and sent() is called before send() returns.
 *
 * When the socket is full the rest waits for EPOLLOUT. Headers are copied (they are small), a
 * payload stays borrowed. There is one payload at a time, so what waits is always: bytes before it,
 * the payload, bytes after it. When the payload is through, the bytes after it become those before
 * the next.
 *
 * Re-entry. Core may call send() from inside sent() and writable(), and that send() may complete
 * its payload at once. haul_tcp_report() is therefore a loop that only the outermost call runs; an
 * inner send() leaves word in the state (WRITTEN, refused), so the depth does not grow with the
 * number of frames. Nor does the time: after SEND_BUDGET bytes in one pass the connection waits for
 * EPOLLOUT like one whose socket is full, and others have their turn.
 *
 * Failure modes. Errors of writing are not told from here (see conn.c). A peer that does not read
 * makes us hold at most one payload of core's and QUEUE_MAX bytes of headers, then it is cut. */
#include "tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEGMENTS_MAX = 256,    /* of one sendmsg() */
    SEND_BUDGET = 4 << 20, /* bytes per connection and pass */
    QUEUE_MAX = 16 << 20,  /* bytes of headers */
    QUEUE_FIRST = 512,     /* bytes of a new buffer */
    QUEUE_KEPT_MAX = 4096, /* a larger buffer is freed when it is empty */
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- Buffers of headers --------------------------------------------------------------------- */

static size_t bytes_size(const struct haul_tcp_bytes *bytes)
{
    return bytes->end - bytes->begin;
}

static bool bytes_grow(struct haul_tcp_bytes *bytes, size_t size)
{
    size_t capacity = bytes->capacity > 0 ? bytes->capacity : QUEUE_FIRST;
    while (capacity < size)
        capacity *= 2;
    uint8_t *data = realloc(bytes->data, capacity);
    if (!data)
        return false;
    bytes->data = data;
    bytes->capacity = capacity;
    return true;
}

static bool bytes_append(struct haul_tcp_bytes *bytes, const void *data, size_t size)
{
    size_t waiting = bytes_size(bytes);
    if (bytes->capacity - bytes->end < size && bytes->begin > 0) {
        memmove(bytes->data, bytes->data + bytes->begin, waiting);
        bytes->begin = 0;
        bytes->end = waiting;
    }
    if (bytes->capacity - bytes->end < size && !bytes_grow(bytes, waiting + size))
        return false;
    memcpy(bytes->data + bytes->end, data, size);
    bytes->end += size;
    return true;
}

static void bytes_free(struct haul_tcp_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct haul_tcp_bytes){0};
}

/* Returns how many of n bytes were its. */
static size_t bytes_consume(struct haul_tcp_bytes *bytes, size_t n)
{
    n = min_size(n, bytes_size(bytes));
    bytes->begin += n;
    if (bytes->begin < bytes->end)
        return n;
    bytes->begin = bytes->end = 0;
    if (bytes->capacity > QUEUE_KEPT_MAX)
        bytes_free(bytes);
    return n;
}

/* ---- The payload ---------------------------------------------------------------------------- */

static void payload_queue(struct haul_tcp_output *out, size_t header_bytes,
                          const struct iovec *segments, size_t count, void *cookie)
{
    out->payload.state = HAUL_TCP_PAYLOAD_QUEUED;
    out->payload.silent = false;
    out->payload.header_bytes = header_bytes;
    out->payload.segments = segments;
    out->payload.count = count;
    out->payload.offset = 0;
    out->payload.cookie = cookie;
    out->payload.left = 0;
    for (size_t i = 0; i < count; i++)
        out->payload.left += segments[i].iov_len;
}

/* Ends it when all of it and of what comes before it is written. */
static void payload_finish(struct haul_tcp_output *out)
{
    if (out->payload.left > 0 || bytes_size(&out->before) > 0)
        return;
    free(out->payload.copy);
    out->payload.copy = NULL;
    out->payload.state = out->payload.silent ? HAUL_TCP_PAYLOAD_NONE : HAUL_TCP_PAYLOAD_WRITTEN;
    struct haul_tcp_bytes drained = out->before;
    out->before = out->after;
    out->after = drained;
}

/* Returns how many of n bytes were its. */
static size_t payload_consume(struct haul_tcp_output *out, size_t n)
{
    size_t consumed = min_size(n, out->payload.left);
    out->payload.left -= consumed;
    size_t skip = out->payload.offset + consumed;
    while (out->payload.count > 0 && skip >= out->payload.segments->iov_len) {
        skip -= out->payload.segments->iov_len;
        out->payload.segments++;
        out->payload.count--;
    }
    out->payload.offset = skip;
    return consumed;
}

/* Whether a byte of its frame has left; the header is the end of `before`. */
static bool payload_begun(const struct haul_tcp_output *out)
{
    return bytes_size(&out->before) < out->payload.header_bytes;
}

/* Takes a frame back that has not begun. What follows it waits in `after` as before. */
static void payload_drop(struct haul_tcp_output *out)
{
    out->before.end -= out->payload.header_bytes;
    out->payload.header_bytes = 0;
    out->payload.count = 0;
    out->payload.left = 0;
    out->payload.silent = true;
    payload_finish(out);
}

/* Goes on from a copy of what is left. */
static bool payload_copy(struct haul_tcp_output *out)
{
    uint8_t *copy = malloc(out->payload.left > 0 ? out->payload.left : 1);
    if (!copy)
        return false;
    size_t copied = 0, offset = out->payload.offset;
    for (size_t i = 0; i < out->payload.count; i++) {
        const struct iovec *segment = &out->payload.segments[i];
        if (segment->iov_len > offset) /* an empty one may have no address */
            memcpy(copy + copied, (const uint8_t *)segment->iov_base + offset,
                   segment->iov_len - offset);
        copied += segment->iov_len - offset;
        offset = 0;
    }
    out->payload.copy = copy;
    out->payload.copy_segment = (struct iovec){.iov_base = copy, .iov_len = copied};
    out->payload.segments = &out->payload.copy_segment;
    out->payload.count = 1;
    out->payload.offset = 0;
    out->payload.silent = true;
    return true;
}

/* ---- Writing -------------------------------------------------------------------------------- */

struct gathered {
    struct iovec parts[SEGMENTS_MAX];
    size_t count;
    size_t bytes;
};

static void gather(struct gathered *gathered, void *data, size_t bytes)
{
    if (bytes == 0)
        return;
    gathered->parts[gathered->count++] = (struct iovec){.iov_base = data, .iov_len = bytes};
    gathered->bytes += bytes;
}

static void gather_bytes(struct gathered *gathered, const struct haul_tcp_bytes *bytes)
{
    if (bytes->data)
        gather(gathered, bytes->data + bytes->begin, bytes_size(bytes));
}

static void gather_output(const struct haul_tcp_output *out, struct gathered *gathered)
{
    gathered->count = gathered->bytes = 0;
    gather_bytes(gathered, &out->before);
    if (out->payload.state != HAUL_TCP_PAYLOAD_QUEUED)
        return;
    size_t i = 0, offset = out->payload.offset;
    for (; i < out->payload.count && gathered->count < SEGMENTS_MAX - 1; i++) {
        const struct iovec *segment = &out->payload.segments[i];
        gather(gathered, (uint8_t *)segment->iov_base + offset, segment->iov_len - offset);
        offset = 0;
    }
    if (i == out->payload.count)
        gather_bytes(gathered, &out->after);
}

static void consume_output(struct haul_tcp_output *out, size_t n)
{
    n -= bytes_consume(&out->before, n);
    if (out->payload.state != HAUL_TCP_PAYLOAD_QUEUED)
        return;
    n -= payload_consume(out, n);
    payload_finish(out);
    bytes_consume(&out->before, n); /* the bytes that were behind the payload */
}

static bool has_budget(struct haul_tcp_conn *conn)
{
    struct haul_tcp_output *out = &conn->output;
    if (out->pass != conn->channel->pass) {
        out->pass = conn->channel->pass;
        out->pass_bytes = 0;
    }
    return out->pass_bytes < SEND_BUDGET;
}

bool haul_tcp_output_empty(const struct haul_tcp_output *out)
{
    return bytes_size(&out->before) == 0 && out->payload.state != HAUL_TCP_PAYLOAD_QUEUED;
}

void haul_tcp_flush(struct haul_tcp_conn *conn)
{
    struct haul_tcp_output *out = &conn->output;
    struct gathered gathered;
    while (!out->failed && !haul_tcp_output_empty(out) && has_budget(conn)) {
        gather_output(out, &gathered);
        struct msghdr message = {.msg_iov = gathered.parts, .msg_iovlen = gathered.count};
        ssize_t n = sendmsg(conn->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            haul_tcp_conn_fail(conn, NULL, errno);
        if (n < 0)
            break;
        out->pass_bytes += (size_t)n;
        consume_output(out, (size_t)n);
        if ((size_t)n < gathered.bytes)
            break;
    }
    haul_tcp_conn_rearm(conn);
}

/* ---- The operations ------------------------------------------------------------------------- */

static void queue_header(struct haul_tcp_conn *conn, const void *header, size_t bytes)
{
    struct haul_tcp_output *out = &conn->output;
    bool behind = out->payload.state == HAUL_TCP_PAYLOAD_QUEUED;
    if (bytes_size(&out->before) + bytes_size(&out->after) > QUEUE_MAX)
        haul_tcp_conn_fail(conn, "it does not read what is sent to it", 0);
    else if (!bytes_append(behind ? &out->after : &out->before, header, bytes))
        haul_tcp_conn_fail(conn, "no memory to queue a frame for it", 0);
}

int haul_tcp_send(void *handle, const void *header, size_t header_bytes,
                  const struct iovec *payload, size_t payload_count, void *cookie)
{
    struct haul_tcp_conn *conn = handle;
    struct haul_tcp_output *out = &conn->output;
    if (payload_count > 0 && out->payload.state != HAUL_TCP_PAYLOAD_NONE) {
        out->refused = true;
        return HAUL_BUSY;
    }
    bool waiting = !haul_tcp_output_empty(out);
    bool dropped = out->failed || conn->state == HAUL_TCP_DRAINING;
    if (!dropped)
        queue_header(conn, header, header_bytes);
    if (payload_count > 0) /* also when it is dropped: it comes back when core disconnects */
        payload_queue(out, dropped || out->failed ? 0 : header_bytes, payload, payload_count,
                      cookie);
    if (!dropped && !waiting)
        haul_tcp_flush(conn);
    haul_tcp_report(conn);
    return 0;
}

enum haul_recall haul_tcp_recall(void *handle, void *cookie)
{
    struct haul_tcp_conn *conn = handle;
    struct haul_tcp_output *out = &conn->output;
    enum haul_recall recalled = HAUL_RECALL_COPIED;
    if (out->payload.state == HAUL_TCP_PAYLOAD_NONE || out->payload.silent ||
        out->payload.cookie != cookie)
        return recalled; /* it has come back already */
    if (out->failed || out->payload.state == HAUL_TCP_PAYLOAD_WRITTEN) {
        out->payload.state = HAUL_TCP_PAYLOAD_NONE;
    } else if (!payload_begun(out)) {
        payload_drop(out);
        recalled = HAUL_RECALL_DROPPED;
    } else if (!payload_copy(out)) {
        return HAUL_RECALL_NOT;
    }
    haul_tcp_conn_rearm(conn);
    if (out->refused && out->payload.state == HAUL_TCP_PAYLOAD_NONE)
        haul_tcp_timer_start(conn->channel, &conn->timer, 0);
    return recalled;
}

void haul_tcp_report(struct haul_tcp_conn *conn)
{
    struct haul_tcp_output *out = &conn->output;
    if (out->reporting)
        return;
    out->reporting = true;
    for (;;) {
        bool free = out->payload.state == HAUL_TCP_PAYLOAD_NONE;
        if (out->payload.state == HAUL_TCP_PAYLOAD_WRITTEN) {
            out->payload.state = HAUL_TCP_PAYLOAD_NONE;
            haul_tcp_host->sent(conn->link, out->payload.cookie);
        } else if (free && out->refused && !out->failed && conn->state == HAUL_TCP_OPEN) {
            out->refused = false;
            haul_tcp_host->writable(conn->link);
        } else {
            break;
        }
    }
    out->reporting = false;
}

bool haul_tcp_output_settle(struct haul_tcp_conn *conn, bool flush)
{
    struct haul_tcp_output *out = &conn->output;
    bool whole = true;
    out->reporting = true; /* a send() from inside sent() reports nothing */
    while (out->payload.state != HAUL_TCP_PAYLOAD_NONE && !out->payload.silent) {
        void *cookie = out->payload.cookie;
        bool queued = out->payload.state == HAUL_TCP_PAYLOAD_QUEUED;
        if (queued && flush && !payload_begun(out))
            payload_drop(out);
        else if (!queued || !flush || !(whole = payload_copy(out)))
            out->payload.state = HAUL_TCP_PAYLOAD_NONE;
        haul_tcp_host->sent(conn->link, cookie);
    }
    return whole;
}

void haul_tcp_output_free(struct haul_tcp_output *out)
{
    bytes_free(&out->before);
    bytes_free(&out->after);
    free(out->payload.copy);
}
