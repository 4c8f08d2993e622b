/* SPDX-License-Identifier: Apache-2.0
 * The connections of `loop`: frames from one end to the other.
 *
 * Who owns what. A connection is a pair of ends; an end is the conn that its core knows. The pair
 * is freed by the end that is closed last. A frame owns a copy of its header and of the list of
 * payload segments; the segments' bytes stay the sender's until the receiver has copied them,
 * straight to core's target(). Frames are used again, so that in the steady state nothing is
 * allocated.
 *
 * Which thread. The two ends may belong to two contexts and so to two threads, each under the drive
 * lock of its own context. What both touch is under the pair's lock, all else is touched by the
 * end's own context only. An end never calls the host functions of the other's core: it leaves word
 * in the pair and signals the other's channel, and the other's progress() tells its core. The lock
 * is never held in a callback, because core may call any operation from there. It is held while one
 * bounded piece is copied, so that recall() and close can take memory back between two pieces.
 *
 * How it fails. Whatever ends a connection (a closed end, a fault knob, no memory for a frame) sets
 * the pair's `why` and takes lent payloads back; each end's progress() delivers what came before
 * and then calls lost(). */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_PER_PASS = 16 }; /* headers or pieces of one conn before the next has its turn */

enum payload_state {
    PAYLOAD_LENT,  /* the segments are the sender's memory */
    PAYLOAD_OWNED, /* they are not: there are none, or it was recalled and they are in `copy` */
    PAYLOAD_GONE,  /* the rest is not delivered */
};

struct frame {
    struct frame *next;
    size_t room; /* bytes after this structure */
    uint64_t due_ns;
    uint64_t payload_bytes;
    size_t header_bytes;
    enum payload_state state;
    uint8_t *copy;
    size_t part, part_offset; /* the receiver's place in parts */
    size_t part_count;        /* 0: it has no payload and no sent() */
    struct iovec parts[];     /* and after them the header */
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void haul_loop_signal(struct channel *channel)
{
    if (!atomic_exchange(&channel->signalled, true))
        haul_loop_host->wake(channel->engine);
}

/* The functions from here to "Sending" want the pair locked. */

static void signal_end(struct conn *conn)
{
    if (conn->channel)
        haul_loop_signal(conn->channel);
}

/* ---- Frames --------------------------------------------------------------------------------- */

static uint8_t *frame_header(struct frame *frame)
{
    return (uint8_t *)(frame->parts + frame->part_count);
}

/* A frame with room for its parts and header; NULL if there is no memory. */
static struct frame *frame_take(struct pair *pair, struct channel *channel, size_t room)
{
    struct frame *frame = pair->spare;
    if (frame)
        pair->spare = frame->next;
    if (!frame || frame->room < room) {
        free(frame);
        frame = haul_loop_alloc(&channel->config, sizeof(*frame) + room);
        if (!frame)
            return NULL;
        frame->room = room;
    }
    frame->next = NULL;
    frame->part = frame->part_offset = 0;
    return frame;
}

static void frame_recycle(struct pair *pair, struct frame *frame)
{
    free(frame->copy);
    frame->copy = NULL;
    frame->next = pair->spare;
    pair->spare = frame;
}

static void frames_free(struct frame *frame)
{
    while (frame) {
        struct frame *next = frame->next;
        free(frame->copy);
        free(frame);
        frame = next;
    }
}

/* Gives the sender its memory back in the middle of a frame: the receiver goes on with a copy. */
static bool frame_copy_payload(struct frame *frame, struct haul_loop_config *config)
{
    size_t bytes = 0;
    for (size_t i = frame->part; i < frame->part_count; i++)
        bytes += frame->parts[i].iov_len;
    uint8_t *to = frame->copy = haul_loop_alloc(config, bytes > 0 ? bytes : 1);
    if (!to)
        return false;
    for (size_t i = frame->part; i < frame->part_count; i++) {
        struct iovec *part = &frame->parts[i];
        if (part->iov_len > 0)
            memcpy(to, part->iov_base, part->iov_len);
        part->iov_base = to;
        to += part->iov_len;
    }
    frame->state = PAYLOAD_OWNED;
    return true;
}

static struct frame *inbox_remove(struct conn *to, struct frame **place)
{
    struct frame *frame = *place;
    *place = frame->next;
    if (!frame->next)
        to->inbox_end = place;
    frame->next = NULL;
    return frame;
}

static struct frame **inbox_find_lent(struct conn *to)
{
    struct frame **place = &to->inbox;
    while (*place && (*place)->state != PAYLOAD_LENT)
        place = &(*place)->next;
    return place;
}

static void lend_return(struct conn *from)
{
    if (from->lend != LEND_OUT)
        return;
    from->lend = LEND_RETURNED;
    signal_end(from);
}

/* ---- The end of a connection ---------------------------------------------------------------- */

/* Ends what `to` receives: at once, or before the first payload that is still lent. After it the
 * sender's memory is its own. */
static void stream_cut(struct conn *to, bool at_once)
{
    struct frame *receiving = to->receiving;
    if (receiving && (at_once || receiving->state == PAYLOAD_LENT)) {
        receiving->state = PAYLOAD_GONE;
        at_once = true;
    }
    struct frame **place = at_once ? &to->inbox : inbox_find_lent(to);
    while (*place)
        frame_recycle(to->pair, inbox_remove(to, place));
    lend_return(haul_loop_other_end(to));
}

static void set_why(struct pair *pair, const char *why)
{
    if (pair->why[0] == '\0')
        snprintf(pair->why, sizeof(pair->why), "%s", why);
}

static void pair_break(struct pair *pair, const char *why)
{
    set_why(pair, why);
    for (int i = 0; i < 2; i++) {
        stream_cut(&pair->ends[i], true);
        signal_end(&pair->ends[i]);
    }
}

/* How many of `bytes` pass, and counts them. If not even `least` do, loop_drop_after_bytes ends it.
 */
static size_t pair_count(struct pair *pair, size_t bytes, size_t least)
{
    size_t passed = min_u64(bytes, pair->bytes_max - pair->bytes);
    if (passed < least) {
        pair_break(pair, "loop_drop_after_bytes ended it");
        return 0;
    }
    pair->bytes += passed;
    return passed;
}

struct pair *haul_loop_pair_create(struct channel *channel)
{
    struct pair *pair = haul_loop_alloc(&channel->config, sizeof(*pair));
    if (!pair)
        return NULL;
    pthread_mutex_init(&pair->lock, NULL);
    for (int i = 0; i < 2; i++) {
        pair->ends[i].pair = pair;
        pair->ends[i].inbox_end = &pair->ends[i].inbox;
    }
    pair->bytes_max = UINT64_MAX;
    return pair;
}

static void pair_free(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        frames_free(pair->ends[i].inbox);
        frames_free(pair->ends[i].receiving);
        free(pair->ends[i].part);
    }
    frames_free(pair->spare);
    pthread_mutex_destroy(&pair->lock);
    free(pair);
}

void haul_loop_end_open(struct conn *conn, struct channel *channel)
{
    pthread_mutex_lock(&conn->pair->lock);
    conn->channel = channel;
    conn->pair->bytes_max = min_u64(conn->pair->bytes_max, channel->config.drop_after_bytes);
    pthread_mutex_unlock(&conn->pair->lock);
}

void haul_loop_pair_accept(struct pair *pair)
{
    pthread_mutex_lock(&pair->lock);
    pair->accepted = true;
    signal_end(&pair->ends[0]);
    pthread_mutex_unlock(&pair->lock);
}

void haul_loop_end_close(struct conn *conn, const char *why)
{
    struct pair *pair = conn->pair;
    struct conn *other = haul_loop_other_end(conn);
    pthread_mutex_lock(&pair->lock);
    set_why(pair, why);
    stream_cut(other, false);
    stream_cut(conn, true);
    signal_end(other);
    bool returned = conn->lend == LEND_RETURNED;
    conn->lend = LEND_NONE;
    conn->channel = NULL;
    conn->closed = true;
    bool last = other->closed;
    struct haul_link *link = conn->link;
    void *cookie = conn->cookie;
    pthread_mutex_unlock(&pair->lock);
    if (last)
        pair_free(pair);
    if (returned)
        haul_loop_host->sent(link, cookie);
}

/* ---- Sending -------------------------------------------------------------------------------- */

/* A connection that has ended drops the frame; a payload then comes back as any other does. */
static void queue_frame(struct conn *conn, const void *header, size_t header_bytes,
                        const struct iovec *payload, size_t payload_count)
{
    struct pair *pair = conn->pair;
    struct conn *to = haul_loop_other_end(conn);
    size_t parts_bytes = payload_count * sizeof(*payload);
    struct frame *frame = NULL;
    if (pair->why[0] == '\0') {
        frame = frame_take(pair, conn->channel, parts_bytes + header_bytes);
        if (!frame)
            pair_break(pair, "there was no memory for a frame");
    }
    if (!frame) {
        lend_return(conn);
        return;
    }
    uint64_t delay_ns = conn->channel->config.delay_ns;
    frame->due_ns = delay_ns > 0 ? haul_loop_host->now_ns() + delay_ns : 0;
    frame->payload_bytes = haul_prefix_payload_bytes(header);
    frame->header_bytes = header_bytes;
    frame->state = payload_count > 0 ? PAYLOAD_LENT : PAYLOAD_OWNED;
    frame->part_count = payload_count;
    if (payload_count > 0)
        memcpy(frame->parts, payload, parts_bytes);
    memcpy(frame_header(frame), header, header_bytes);
    *to->inbox_end = frame;
    to->inbox_end = &frame->next;
    signal_end(to);
}

int haul_loop_send(void *handle, const void *header, size_t header_bytes,
                   const struct iovec *payload, size_t payload_count, void *cookie)
{
    struct conn *conn = handle;
    pthread_mutex_lock(&conn->pair->lock);
    bool busy = payload_count > 0 && conn->lend != LEND_NONE;
    if (busy)
        conn->wants_writable = true;
    if (!busy && payload_count > 0) {
        conn->lend = LEND_OUT;
        conn->cookie = cookie;
    }
    if (!busy)
        queue_frame(conn, header, header_bytes, payload, payload_count);
    pthread_mutex_unlock(&conn->pair->lock);
    return busy ? HAUL_BUSY : 0;
}

enum haul_recall haul_loop_recall(void *handle, void *cookie)
{
    struct conn *conn = handle;
    struct conn *to = haul_loop_other_end(conn);
    enum haul_recall recalled = HAUL_RECALL_NOT;
    pthread_mutex_lock(&conn->pair->lock);
    if (conn->lend == LEND_OUT && conn->cookie == cookie) {
        struct frame **place = inbox_find_lent(to);
        if (*place) {
            frame_recycle(conn->pair, inbox_remove(to, place));
            recalled = HAUL_RECALL_DROPPED;
        } else if (frame_copy_payload(to->receiving, &conn->channel->config)) {
            recalled = HAUL_RECALL_COPIED;
        }
    }
    if (recalled != HAUL_RECALL_NOT) {
        conn->lend = LEND_NONE;
        signal_end(conn); /* for writable() */
    }
    pthread_mutex_unlock(&conn->pair->lock);
    return recalled;
}

/* ---- Receiving ------------------------------------------------------------------------------ */

/* The next frame of the inbox, if it may be delivered now; it becomes the one that is received. */
static struct frame *begin_frame(struct conn *conn)
{
    pthread_mutex_lock(&conn->pair->lock);
    struct frame *frame = conn->inbox;
    if (frame && frame->due_ns > 0 && frame->due_ns > haul_loop_host->now_ns()) {
        conn->channel->deadline_ns = min_u64(conn->channel->deadline_ns, frame->due_ns);
        frame = NULL;
    } else if (frame && pair_count(conn->pair, frame->header_bytes, frame->header_bytes) == 0) {
        frame = NULL;
    } else if (frame) {
        conn->receiving = inbox_remove(conn, &conn->inbox);
    }
    pthread_mutex_unlock(&conn->pair->lock);
    return frame;
}

static void end_frame(struct conn *conn)
{
    struct pair *pair = conn->pair;
    pthread_mutex_lock(&pair->lock);
    struct frame *frame = conn->receiving;
    conn->receiving = NULL;
    if (frame->state == PAYLOAD_LENT)
        lend_return(haul_loop_other_end(conn));
    frame_recycle(pair, frame);
    pthread_mutex_unlock(&pair->lock);
}

/* Where the next bytes of the current part go: into core's memory, or with loop_parts into memory
 * of the channel's own. Returns whether there is a place. */
static bool payload_target(struct conn *conn, const struct frame *frame, struct iovec *to)
{
    struct haul_loop_config *config = &conn->channel->config;
    size_t part_bytes = frame->parts[frame->part].iov_len;
    *to = (struct iovec){0};
    if (!config->parts)
        return part_bytes == 0 || haul_loop_host->target(conn->link, to, 1) == 1;
    if (!conn->part)
        conn->part = haul_loop_alloc(config, part_bytes > 0 ? part_bytes : 1);
    if (!conn->part)
        return false;
    to->iov_base = conn->part + frame->part_offset;
    to->iov_len = part_bytes - frame->part_offset;
    return true;
}

/* Copies the next piece and returns its size. The pair is locked. */
static size_t payload_copy(struct conn *conn, struct frame *frame, const struct iovec *to)
{
    const struct iovec *part = &frame->parts[frame->part];
    size_t offset = frame->part_offset;
    size_t n = min_u64(part->iov_len - offset, to->iov_len);
    n = min_u64(n, conn->channel->config.piece_bytes);
    n = pair_count(conn->pair, n, n > 0);
    if (n > 0)
        memcpy(to->iov_base, (const uint8_t *)part->iov_base + offset, n);
    frame->part_offset += n;
    if (frame->part_offset == part->iov_len) {
        frame->part++;
        frame->part_offset = 0;
    }
    return n;
}

/* Tells core of n bytes that were copied; what core answers. */
static int payload_received(struct conn *conn, const struct frame *frame, size_t n)
{
    if (!conn->channel->config.parts)
        return n > 0 ? haul_loop_host->received(conn->link, n) : 0;
    if (frame->part_offset > 0)
        return 0;
    uint8_t *part = conn->part;
    conn->part = NULL;
    return haul_loop_host->lend(conn->link, part, frame->parts[frame->part - 1].iov_len, part);
}

static void deliver_payload(struct conn *conn, struct frame *frame)
{
    struct iovec to;
    bool placed = payload_target(conn, frame, &to);
    size_t n = 0;
    pthread_mutex_lock(&conn->pair->lock);
    if (!placed)
        pair_break(conn->pair, "the receiver has no place for a payload");
    if (frame->state != PAYLOAD_GONE)
        n = payload_copy(conn, frame, &to);
    bool gone = frame->state == PAYLOAD_GONE;
    pthread_mutex_unlock(&conn->pair->lock);
    if (gone)
        end_frame(conn);
    else if (payload_received(conn, frame, n))
        conn->over = true;
    else if (frame->part == frame->part_count)
        end_frame(conn);
}

static void deliver_header(struct conn *conn, struct frame *frame)
{
    const uint8_t *header = frame_header(frame);
    if (haul_loop_host->check(conn->link, header) ||
        haul_loop_host->frame(conn->link, header, frame->header_bytes))
        conn->over = true;
    else if (frame->payload_bytes == 0)
        end_frame(conn);
}

/* Delivers the next header or piece of payload. Returns whether there was one. */
static bool deliver_next(struct conn *conn)
{
    if (conn->receiving) {
        deliver_payload(conn, conn->receiving);
        return true;
    }
    struct frame *frame = begin_frame(conn);
    if (frame)
        deliver_header(conn, frame);
    return frame != NULL;
}

/* ---- Progress ------------------------------------------------------------------------------- */

/* Reports what the other end has left word of. */
static bool report_sending(struct conn *conn)
{
    pthread_mutex_lock(&conn->pair->lock);
    bool returned = conn->lend == LEND_RETURNED;
    if (returned)
        conn->lend = LEND_NONE;
    bool writable = conn->wants_writable && conn->lend == LEND_NONE && !conn->over;
    bool connected = conn->pair->accepted && !conn->connected && !conn->over;
    void *cookie = conn->cookie;
    pthread_mutex_unlock(&conn->pair->lock);
    if (returned)
        haul_loop_host->sent(conn->link, cookie);
    if (writable) {
        conn->wants_writable = false;
        haul_loop_host->writable(conn->link);
    }
    if (connected) {
        conn->connected = true;
        haul_loop_host->connected(conn->link);
    }
    return returned || writable || connected;
}

/* Reports the end of the connection, after all that came before it. */
static bool report_lost(struct conn *conn)
{
    pthread_mutex_lock(&conn->pair->lock);
    bool ended = conn->pair->why[0] != '\0' && !conn->receiving && !conn->inbox;
    pthread_mutex_unlock(&conn->pair->lock);
    if (!ended)
        return false;
    conn->over = true;
    haul_loop_host->lost(conn->link, conn->connected ? HAUL_PEER_LOST : HAUL_UNREACHABLE,
                         conn->pair->why);
    return true;
}

bool haul_loop_conn_progress(struct conn *conn)
{
    bool did = report_sending(conn);
    int steps = 0;
    while (steps < STEPS_PER_PASS && !conn->over && deliver_next(conn))
        steps++;
    if (steps == STEPS_PER_PASS)
        atomic_store(&conn->channel->signalled, true); /* there may be more */
    else if (!conn->over)
        did |= report_lost(conn);
    return did || steps > 0;
}
