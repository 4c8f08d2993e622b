/* SPDX-License-Identifier: Apache-2.0
 * Frames out and in: what the connections of ROUTER and DEALER sockets have in common.
 *
 * Payload goes out without a copy: libzmq reads the sender's memory and, when it is done, calls
 * part_freed() on a thread of its own. That only counts down and pushes the loan on a lock-free
 * stack; the driving thread takes the stack in progress() and tells core. Nothing can be called
 * back once libzmq has it, so the loans of a connection are few. */
#include "channel.h"

#include <errno.h>
#include <string.h>

/* Segments up to this size are copied: that costs less than a loan. */
enum { COPY_MAX = 4096 };

void haul_zmq_conn_init(struct haul_zmq_conn *conn, const struct haul_zmq_conn_kind *kind,
                        struct haul_zmq_source *socket)
{
    *conn = (struct haul_zmq_conn){.kind = kind, .channel = socket->channel, .socket = socket};
    for (int i = 0; i < HAUL_ZMQ_LOANS_MAX; i++)
        conn->loans[i].conn = conn;
}

void haul_zmq_conn_lost(struct haul_zmq_conn *conn, int err, const char *why)
{
    if (conn->over)
        return;
    conn->over = true;
    haul_zmq_host->lost(conn->link, err, why);
}

/* ---- Loans ---------------------------------------------------------------------------------- */

static struct haul_zmq_loan *take_loan(struct haul_zmq_conn *conn, void *cookie)
{
    for (int i = 0; i < HAUL_ZMQ_LOANS_MAX; i++) {
        struct haul_zmq_loan *loan = &conn->loans[i];
        if (loan->taken)
            continue;
        loan->taken = true;
        loan->cookie = cookie;
        conn->loans_out++;
        /* Release: part_freed() sees the fields through this counter. */
        atomic_store_explicit(&loan->holders, 1, memory_order_release);
        return loan;
    }
    return NULL;
}

static bool drop_holder(struct haul_zmq_loan *loan)
{
    return atomic_fetch_sub_explicit(&loan->holders, 1, memory_order_acq_rel) == 1;
}

static void end_loan(struct haul_zmq_loan *loan)
{
    struct haul_zmq_conn *conn = loan->conn;
    loan->taken = false;
    conn->loans_out--;
    haul_zmq_host->sent(conn->link, loan->cookie);
    if (conn->disconnected) {
        conn->kind->release(conn);
    } else if (conn->wants_writable && !conn->over) {
        conn->wants_writable = false;
        haul_zmq_host->writable(conn->link);
    }
}

/* Any thread. */
static void part_freed(void *data, void *hint)
{
    struct haul_zmq_loan *loan = hint;
    (void)data;
    if (!drop_holder(loan))
        return;
    struct haul_zmq_channel *channel = loan->conn->channel;
    struct haul_zmq_loan *top = atomic_load_explicit(&channel->returned, memory_order_relaxed);
    do
        loan->next = top;
    while (!atomic_compare_exchange_weak_explicit(&channel->returned, &top, loan,
                                                  memory_order_release, memory_order_relaxed));
    if (!top)
        haul_zmq_host->wake(channel->engine);
}

bool haul_zmq_loans_collect(struct haul_zmq_channel *channel)
{
    if (!atomic_load_explicit(&channel->returned, memory_order_relaxed))
        return false;
    struct haul_zmq_loan *newest =
        atomic_exchange_explicit(&channel->returned, NULL, memory_order_acquire);
    struct haul_zmq_loan *oldest = NULL;
    while (newest) {
        struct haul_zmq_loan *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct haul_zmq_loan *next = oldest->next; /* core may send again from sent() */
        end_loan(oldest);
        oldest = next;
    }
    return true;
}

/* ---- Sending -------------------------------------------------------------------------------- */

static bool put(struct haul_zmq_conn *conn, zmq_msg_t *part, bool more)
{
    int rc;
    do
        rc = zmq_msg_send(part, conn->socket->socket, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
    while (rc < 0 && errno == EINTR);
    if (rc >= 0)
        return true;
    int error = errno;
    zmq_msg_close(part);
    errno = error;
    return false;
}

/* Both make an empty part where memory is short: the message must go on to its end. */
static bool copy_part(zmq_msg_t *part, const void *data, size_t bytes)
{
    if (zmq_msg_init_size(part, bytes)) {
        zmq_msg_init(part);
        return false;
    }
    if (bytes > 0)
        memcpy(zmq_msg_data(part), data, bytes);
    return true;
}

static bool segment_part(zmq_msg_t *part, const struct iovec *segment, struct haul_zmq_loan *loan)
{
    if (segment->iov_len <= COPY_MAX)
        return copy_part(part, segment->iov_base, segment->iov_len);
    atomic_fetch_add_explicit(&loan->holders, 1, memory_order_relaxed);
    if (zmq_msg_init_data(part, segment->iov_base, segment->iov_len, part_freed, loan) == 0)
        return true;
    drop_holder(loan);
    zmq_msg_init(part);
    return false;
}

/* Header and payload leave as one multipart message. Once its first part is taken, libzmq completes
 * or drops it as a whole, so what it says of the later ones does not matter. Returns NULL or why
 * the connection cannot go on. */
static const char *send_frame(struct haul_zmq_conn *conn, const void *header, size_t header_bytes,
                              const struct iovec *payload, size_t count, struct haul_zmq_loan *loan)
{
    zmq_msg_t part;
    bool whole = true;
    if (conn->id) {
        whole = copy_part(&part, conn->id, conn->id_bytes);
        if (!put(conn, &part, true))
            return errno == EAGAIN ? "it does not read what is sent to it"
                                   : "the connection has ended";
    }
    if (conn->delimited) {
        zmq_msg_init(&part);
        put(conn, &part, true);
    }
    whole = copy_part(&part, header, header_bytes) && whole;
    if (!put(conn, &part, count > 0) && !conn->id)
        return "the connection has ended, or the other side does not read";
    for (size_t i = 0; i < count; i++) {
        whole = segment_part(&part, &payload[i], loan) && whole;
        put(conn, &part, i + 1 < count);
    }
    return whole ? NULL : "there was no memory for a message to it";
}

int haul_zmq_conn_send(void *handle, const void *header, size_t header_bytes,
                       const struct iovec *payload, size_t payload_count, void *cookie)
{
    struct haul_zmq_conn *conn = handle;
    struct haul_zmq_loan *loan = NULL;
    if (payload_count > 0) {
        loan = take_loan(conn, cookie);
        if (!loan) {
            conn->wants_writable = true;
            return HAUL_BUSY;
        }
    }
    if (!conn->over) {
        const char *why = send_frame(conn, header, header_bytes, payload, payload_count, loan);
        if (why)
            conn->kind->fail(conn, why);
        haul_zmq_source_check(conn->socket);
    }
    if (loan && drop_holder(loan))
        end_loan(loan);
    return 0;
}

enum haul_recall haul_zmq_conn_recall(void *conn, void *cookie)
{
    (void)conn;
    (void)cookie;
    return HAUL_RECALL_NOT; /* libzmq has no way to take a message back */
}

/* ---- Receiving ------------------------------------------------------------------------------ */

static bool deliver_payload(struct haul_zmq_conn *conn, struct haul_zmq_message *message)
{
    while (message->payload) {
        struct haul_zmq_part *part = message->payload;
        message->payload = part->next;
        if (haul_zmq_host->lend(conn->link, zmq_msg_data(&part->message),
                                zmq_msg_size(&part->message), part))
            return false;
    }
    return true;
}

static bool deliver_frame(struct haul_zmq_conn *conn, struct haul_zmq_message *message)
{
    const void *header = zmq_msg_data(&message->header->message);
    return haul_zmq_host->check(conn->link, header) == 0 &&
           haul_zmq_host->frame(conn->link, header, zmq_msg_size(&message->header->message)) == 0 &&
           deliver_payload(conn, message);
}

void haul_zmq_conn_deliver(struct haul_zmq_conn *conn, struct haul_zmq_message *message)
{
    if (message->fault)
        haul_zmq_conn_lost(conn, HAUL_PROTOCOL, message->fault);
    else if (!conn->over && !deliver_frame(conn, message))
        conn->over = true; /* core gave it up */
    haul_zmq_message_drop(message);
}
