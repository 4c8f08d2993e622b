/* SPDX-License-Identifier: Apache-2.0
 * Servers: their life, and reading a ROUTER socket. Its clients are in client.c. */
#include "router.h"

#include <stdlib.h>

enum {
    BACKLOG = 1024,
    /* Messages of one client that libzmq queues before it stops reading that client. haul's own
     * clients have fewer under way; it is plain ones that it holds back. */
    QUEUE_MAX = 256,
    MONITORED =
        ZMQ_EVENT_LISTENING | ZMQ_EVENT_CLOSED | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED,
    FRAME_OPENS_SESSION = 1, /* HELLO in docs/WIRE.md */
};

/* ---- Receiving ------------------------------------------------------------------------------ */

static bool opens_session(const struct haul_zmq_message *message)
{
    return !message->fault &&
           *(const uint8_t *)zmq_msg_data(&message->header->message) == FRAME_OPENS_SESSION;
}

/* Presents a new client to core, which may not want it. */
static void introduce(struct haul_zmq_client *client, struct haul_zmq_message *message)
{
    char name[HAUL_ZMQ_NAME_BYTES];
    haul_zmq_peer_name(client->server->route,
                       zmq_msg_gets(&message->header->message, "Peer-Address"), client->fd, name,
                       sizeof name);
    client->conn.delimited = message->delimited;
    client->conn.link = haul_zmq_host->accepted(client->server->listener, &client->conn, name);
    if (client->conn.link)
        return;
    client->conn.over = client->conn.disconnected = true;
    haul_zmq_client_disconnect(&client->conn, false);
}

static void dispatch(struct haul_zmq_server *server, zmq_msg_t *id,
                     struct haul_zmq_message *message)
{
    int fd = zmq_msg_get(&message->header->message, ZMQ_SRCFD);
    struct haul_zmq_client *client = haul_zmq_client_of(server, id, fd, opens_session(message));
    if (client && !client->conn.link && !client->conn.disconnected)
        introduce(client, message);
    if (client && !client->conn.over)
        haul_zmq_conn_deliver(&client->conn, message);
    else
        haul_zmq_message_drop(message);
}

static bool receive(struct haul_zmq_server *server, uint64_t *bytes)
{
    struct haul_zmq_message message;
    zmq_msg_t id;
    struct haul_zmq_part *first = haul_zmq_part_take(server->channel->parts);
    if (!first)
        return false;
    zmq_msg_init(&id);
    bool received = haul_zmq_receive_part(server->socket.socket, &id) &&
                    haul_zmq_receive_part(server->socket.socket, &first->message);
    if (received) {
        haul_zmq_message_receive(&message, server->channel->parts, server->socket.socket, first);
        *bytes += haul_zmq_message_bytes(&message);
        server->channel->worked = true;
        dispatch(server, &id, &message);
    } else {
        haul_zmq_part_give_back(first);
    }
    zmq_msg_close(&id);
    return received;
}

static bool work(struct haul_zmq_source *source)
{
    struct haul_zmq_server *server = HAUL_ZMQ_OF(source, struct haul_zmq_server, socket);
    uint64_t bytes = 0;
    bool more = true;
    server->references++; /* its last client may go meanwhile */
    for (int n = 0; more && n < HAUL_ZMQ_TURN_MESSAGES && bytes < HAUL_ZMQ_TURN_BYTES; n++)
        more = receive(server, &bytes);
    if (!more)
        haul_zmq_clients_settle(server);
    return !haul_zmq_server_release(server) && more;
}

static void on_event(struct haul_zmq_monitor *monitor, unsigned event, uint32_t value)
{
    struct haul_zmq_server *server = HAUL_ZMQ_OF(monitor, struct haul_zmq_server, monitor);
    switch (event) {
    case ZMQ_EVENT_ACCEPTED:
        haul_zmq_client_accepted(server, (int)value);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        haul_zmq_client_closed(server, (int)value);
        break;
    case ZMQ_EVENT_LISTENING:
        if (server->listening_count < HAUL_ZMQ_ENDPOINTS_MAX)
            server->listening[server->listening_count++] = haul_zmq_descriptor_note((int)value);
        break;
    default: /* what we listened on is closed */
        server->closed_count++;
        break;
    }
}

static void after_events(struct haul_zmq_monitor *monitor)
{
    (void)monitor; /* the clients that ended have made the socket ready */
}

/* ---- Life ----------------------------------------------------------------------------------- */

static int set_options(struct haul_zmq_source *socket)
{
    int err = haul_zmq_source_set(socket, ZMQ_ROUTER_MANDATORY, 1);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_SNDHWM, HAUL_ZMQ_UNREAD_MAX);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_RCVHWM, QUEUE_MAX);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_BACKLOG, BACKLOG);
    if (!err) /* also for what zmq_unbind() ends */
        err = haul_zmq_source_set(socket, ZMQ_LINGER, HAUL_ZMQ_FLUSH_MS);
    if (!err)
        err = haul_zmq_source_limit_parts(socket);
    return err;
}

static int open_server(struct haul_zmq_server *server)
{
    int err = haul_zmq_source_open(&server->socket, server->channel, ZMQ_ROUTER, work);
    if (!err)
        err = set_options(&server->socket);
    if (!err)
        err = haul_zmq_monitor_open(&server->monitor, &server->socket, MONITORED);
    return err ? err : haul_zmq_server_bind(server);
}

int haul_zmq_listen(void *channel, void *route, struct haul_listener *listener, void **handle,
                    char *bound, size_t bound_size)
{
    struct haul_zmq_server *server = calloc(1, sizeof *server);
    if (!server)
        return haul_zmq_host->fail(HAUL_NO_MEMORY, "no memory to listen");
    server->channel = channel;
    if (server->channel->keep_memory)
        haul_zmq_memory_keep();
    server->route = route;
    server->listener = listener;
    server->references = 1;
    server->monitor.event = on_event;
    server->monitor.after = after_events;
    haul_zmq_list_init(&server->clients);
    haul_zmq_list_init(&server->ended);
    haul_zmq_list_append(&server->channel->servers, &server->node);
    int err = open_server(server);
    if (err) {
        haul_zmq_server_release(server);
        return err;
    }
    haul_zmq_bound_name(route, server->bound[0], bound, bound_size);
    *handle = server;
    return 0;
}

/* ---- The end -------------------------------------------------------------------------------- */

void haul_zmq_unlisten(void *handle)
{
    struct haul_zmq_server *server = handle;
    server->listener = NULL;
    haul_zmq_server_release(server);
}

void haul_zmq_server_close(struct haul_zmq_list *node)
{
    struct haul_zmq_server *server = HAUL_ZMQ_OF(node, struct haul_zmq_server, node);
    haul_zmq_server_unbind(server);
    haul_zmq_monitor_close(&server->monitor);
    haul_zmq_source_close(&server->socket, HAUL_ZMQ_FLUSH_MS);
}

void haul_zmq_server_free(struct haul_zmq_list *node)
{
    struct haul_zmq_server *server = HAUL_ZMQ_OF(node, struct haul_zmq_server, node);
    haul_zmq_list_remove(node);
    haul_zmq_clients_free(server);
    free(server);
}

bool haul_zmq_server_release(struct haul_zmq_server *server)
{
    if (--server->references > 0)
        return false;
    haul_zmq_server_close(&server->node);
    haul_zmq_server_free(&server->node);
    return true;
}

void haul_zmq_servers_drop(struct haul_zmq_channel *channel)
{
    for (struct haul_zmq_list *node = channel->servers.next; node != &channel->servers;
         node = node->next) {
        struct haul_zmq_server *server = HAUL_ZMQ_OF(node, struct haul_zmq_server, node);
        for (size_t i = 0; i < server->listening_count; i++)
            haul_zmq_descriptor_drop(&server->listening[i]);
        for (size_t i = 0; i < server->slot_count; i++)
            haul_zmq_descriptor_drop(&server->slots[i].descriptor);
    }
}
