/* SPDX-License-Identifier: Apache-2.0
 * Clients: a DEALER socket and its monitor for each connection.
 *
 * One try of a connection goes through the addresses of its route in turn. libzmq must not redial:
 * a new connection is a new conn for core. But with ZMQ_RECONNECT_IVL -1 libzmq ends a connection
 * in a way that throws away what was received and not read yet, and does not tell of each failed
 * try; so it is told to redial after longer than any connection is kept. */
#include "channel.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CONNECT_TIMEOUT_MS = 10000,
    MONITORED = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_CONNECT_RETRIED |
                ZMQ_EVENT_DISCONNECTED,
};

struct dealer {
    struct haul_zmq_conn conn;
    struct haul_zmq_source socket;
    struct haul_zmq_monitor monitor;
    struct haul_zmq_list node; /* in channel->dealers */
    struct haul_zmq_descriptor descriptor;
    const struct haul_zmq_route *route;
    size_t tries;   /* addresses of the route dialled so far */
    bool greeted;   /* the handshake of ZeroMQ has succeeded */
    bool connected; /* and core knows it */
    bool no_zmq;    /* what answered does not speak ZeroMQ */
    bool down;      /* the try has failed or the connection has ended */
    const char *why;
};

static struct dealer *of_conn(struct haul_zmq_conn *conn)
{
    return HAUL_ZMQ_OF(conn, struct dealer, conn);
}

static void hang_up(struct dealer *dealer, int linger_ms)
{
    haul_zmq_monitor_close(&dealer->monitor);
    haul_zmq_source_close(&dealer->socket, linger_ms);
}

/* ---- Receiving ------------------------------------------------------------------------------ */

static bool receive(struct dealer *dealer, uint64_t *bytes)
{
    struct haul_zmq_message message;
    struct haul_zmq_part *first = haul_zmq_part_take(dealer->conn.channel->parts);
    if (!first)
        return false;
    if (!haul_zmq_receive_part(dealer->socket.socket, &first->message)) {
        haul_zmq_part_give_back(first);
        return false;
    }
    haul_zmq_message_receive(&message, dealer->conn.channel->parts, dealer->socket.socket, first);
    *bytes += haul_zmq_message_bytes(&message);
    dealer->conn.channel->worked = true;
    haul_zmq_conn_deliver(&dealer->conn, &message);
    return true;
}

static bool work(struct haul_zmq_source *source)
{
    struct dealer *dealer = HAUL_ZMQ_OF(source, struct dealer, socket);
    uint64_t bytes = 0;
    if (!dealer->connected) {
        haul_zmq_source_check(source); /* core hears of the connection before its first frame */
        return false;
    }
    for (int n = 0; n < HAUL_ZMQ_TURN_MESSAGES && bytes < HAUL_ZMQ_TURN_BYTES; n++) {
        if (receive(dealer, &bytes))
            continue;
        if (dealer->down)
            haul_zmq_conn_lost(&dealer->conn, HAUL_PEER_LOST, dealer->why);
        return false;
    }
    return true;
}

/* ---- Connecting ----------------------------------------------------------------------------- */

static void on_event(struct haul_zmq_monitor *monitor, unsigned event, uint32_t value)
{
    struct dealer *dealer = HAUL_ZMQ_OF(monitor, struct dealer, monitor);
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        dealer->descriptor = haul_zmq_descriptor_note((int)value);
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        dealer->greeted = true;
        break;
    case ZMQ_EVENT_CONNECT_RETRIED:
    case ZMQ_EVENT_DISCONNECTED:
        dealer->down = true;
        dealer->why = "the server closed the connection";
        break;
    default:
        dealer->no_zmq = true;
        break;
    }
}

static int set_options(struct dealer *dealer)
{
    struct haul_zmq_source *socket = &dealer->socket;
    int err = haul_zmq_source_set(socket, ZMQ_SNDHWM, HAUL_ZMQ_UNREAD_MAX);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_RCVHWM, 0);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_RECONNECT_IVL, INT_MAX);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS);
    if (!err)
        err = haul_zmq_source_limit_parts(socket);
    return err;
}

static void after_events(struct haul_zmq_monitor *monitor);

/* Dials the route's next address. */
static int dial(struct dealer *dealer)
{
    const char *endpoint = dealer->route->endpoints[dealer->tries++];
    dealer->down = dealer->no_zmq = false;
    dealer->monitor.event = on_event;
    dealer->monitor.after = after_events;
    int err = haul_zmq_source_open(&dealer->socket, dealer->conn.channel, ZMQ_DEALER, work);
    if (!err)
        err = set_options(dealer);
    if (!err)
        err = haul_zmq_endpoint_prepare(&dealer->socket, endpoint);
    if (!err)
        err = haul_zmq_monitor_open(&dealer->monitor, &dealer->socket, MONITORED);
    if (!err && zmq_connect(dealer->socket.socket, endpoint))
        err = haul_zmq_host->fail(HAUL_UNREACHABLE, "%s: %s", dealer->route->text,
                                  zmq_strerror(errno));
    if (err)
        hang_up(dealer, 0);
    return err;
}

static void try_failed(struct dealer *dealer)
{
    const char *why = dealer->no_zmq ? "the server does not speak ZeroMQ: is HAUL_PROVIDER=zmq set "
                                       "on its side too?"
                                     : "nobody answers there";
    hang_up(dealer, 0);
    while (dealer->tries < dealer->route->endpoint_count)
        if (dial(dealer) == 0)
            return;
    haul_zmq_conn_lost(&dealer->conn, HAUL_UNREACHABLE, why);
}

static void after_events(struct haul_zmq_monitor *monitor)
{
    struct dealer *dealer = HAUL_ZMQ_OF(monitor, struct dealer, monitor);
    if (dealer->conn.over)
        return;
    if (dealer->greeted && !dealer->connected) {
        haul_zmq_descriptor_tune(&dealer->descriptor);
        dealer->connected = true;
        haul_zmq_source_ready(&dealer->socket);
        haul_zmq_host->connected(dealer->conn.link);
    }
    if (dealer->down && !dealer->connected)
        try_failed(dealer);
    else if (dealer->down)
        haul_zmq_source_ready(&dealer->socket); /* what had arrived comes first */
}

/* ---- Life ----------------------------------------------------------------------------------- */

static void release(struct haul_zmq_conn *conn)
{
    if (conn->disconnected && conn->loans_out == 0)
        free(of_conn(conn));
}

static void disconnect(struct haul_zmq_conn *conn, bool flush)
{
    hang_up(of_conn(conn), flush ? HAUL_ZMQ_FLUSH_MS : 0);
    haul_zmq_list_remove(&of_conn(conn)->node);
    release(conn);
}

static void fail(struct haul_zmq_conn *conn, const char *why)
{
    struct dealer *dealer = of_conn(conn);
    dealer->down = true;
    dealer->why = why;
    haul_zmq_source_wake(&dealer->socket);
}

static const struct haul_zmq_conn_kind kind = {
    .disconnect = disconnect,
    .fail = fail,
    .release = release,
};

int haul_zmq_connect(void *handle, void *route, struct haul_link *link, void **conn)
{
    struct dealer *dealer = calloc(1, sizeof *dealer);
    if (!dealer)
        return haul_zmq_host->fail(HAUL_NO_MEMORY, "no memory for a connection");
    dealer->socket.channel = handle;
    haul_zmq_conn_init(&dealer->conn, &kind, &dealer->socket);
    dealer->conn.link = link;
    dealer->route = route;
    int err;
    do
        err = dial(dealer);
    while (err && dealer->tries < dealer->route->endpoint_count);
    if (err) {
        free(dealer);
        return err;
    }
    haul_zmq_list_append(&dealer->conn.channel->dealers, &dealer->node);
    *conn = &dealer->conn;
    return 0;
}

void haul_zmq_dealers_drop(struct haul_zmq_channel *channel)
{
    for (struct haul_zmq_list *node = channel->dealers.next; node != &channel->dealers;
         node = node->next)
        haul_zmq_descriptor_drop(&HAUL_ZMQ_OF(node, struct dealer, node)->descriptor);
}
