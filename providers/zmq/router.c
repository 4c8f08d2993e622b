/* SPDX-License-Identifier: Apache-2.0
 * Servers: listening, and reading a ROUTER socket. Its clients are in client.c. */
#include "router.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BACKLOG = 1024,
    /* Messages of one client that libzmq queues before it stops reading that client. haul's own
     * clients have fewer under way; it is plain ones that it holds back. */
    QUEUE_MAX = 256,
    MONITORED = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED,
    FRAME_OPENS_SESSION = 1, /* HELLO in docs/WIRE.md */
};

/* ---- Receiving ---------------------------------------------------------------------------------
 */

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
    if (event == ZMQ_EVENT_ACCEPTED)
        haul_zmq_client_accepted(server, (int)value);
    else if (event == ZMQ_EVENT_DISCONNECTED)
        haul_zmq_client_closed(server, (int)value);
    else
        server->closed++; /* an endpoint that we listened on */
}

static void after_events(struct haul_zmq_monitor *monitor)
{
    (void)monitor; /* the clients that ended have made the socket ready */
}

/* ---- Listening ---------------------------------------------------------------------------------
 */

/* libzmq removes whatever lies in the way of a Unix socket; only what nobody listens on may go. */
static int check_unix_path(const struct haul_zmq_route *route)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", route->unix_path);
    if (lstat(address.sun_path, &status))
        return 0;
    if (!S_ISSOCK(status.st_mode))
        return haul_zmq_host->fail(HAUL_ADDRESS,
                                   "%s: there is a file of that name, and it is no "
                                   "socket; choose another path",
                                   route->text);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return haul_zmq_host->fail(HAUL_SYSTEM, "socket: %s", strerror(errno));
    bool lives = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(fd);
    if (lives)
        return haul_zmq_host->fail(
            HAUL_ADDRESS, "%s is in use by another process; choose another path", route->text);
    return 0;
}

static int bind_failed(const struct haul_zmq_route *route, int reason)
{
    const char *text = route->text;
    switch (reason) {
    case EADDRINUSE:
        return haul_zmq_host->fail(
            HAUL_ADDRESS, "%s is in use by another process; choose another port or :0", text);
    case EADDRNOTAVAIL:
    case ENODEV:
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s is no address of this host", text);
    case EACCES:
        return haul_zmq_host->fail(
            HAUL_ADDRESS, "%s: no permission; choose a port from 1024 on or another path", text);
    default:
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s: %s", text, zmq_strerror(reason));
    }
}

static struct stat file_status(const struct haul_zmq_route *route)
{
    struct stat status;
    if (route->unix_path[0] == '\0' || lstat(route->unix_path, &status))
        status = (struct stat){0};
    return status;
}

/* Binds to one endpoint; a port of 0 becomes that of the first endpoint bound. */
static int bind_endpoint(struct haul_zmq_server *server, const char *endpoint)
{
    struct haul_zmq_route *bound = &server->bound;
    char wanted[HAUL_ZMQ_ENDPOINT_BYTES], *to = bound->endpoints[bound->endpoint_count];
    size_t size = HAUL_ZMQ_ENDPOINT_BYTES;
    snprintf(wanted, sizeof wanted, "%s", endpoint);
    char *port = strrchr(wanted, ':');
    if (port && strcmp(port, ":0") == 0 && bound->endpoint_count > 0)
        snprintf(port, (size_t)(wanted + sizeof wanted - port), "%s",
                 strrchr(bound->endpoints[0], ':'));
    if (haul_zmq_endpoint_prepare(&server->socket, wanted) ||
        zmq_bind(server->socket.socket, wanted) ||
        zmq_getsockopt(server->socket.socket, ZMQ_LAST_ENDPOINT, to, &size))
        return errno;
    bound->endpoint_count++;
    return 0;
}

/* Until libzmq's I/O thread has closed what we listen on, so that the address is free for the next
 * who listens: some microseconds. libzmq closes the connections that were accepted there too. */
static void stop_listening(struct haul_zmq_server *server)
{
    struct haul_zmq_route *bound = &server->bound;
    for (size_t i = 0; i < bound->endpoint_count; i++)
        if (zmq_unbind(server->socket.socket, bound->endpoints[i]))
            server->closed++;
    uint64_t end_ns = haul_zmq_host->now_ns() + HAUL_ZMQ_FLUSH_MS * (uint64_t)HAUL_ZMQ_NS_PER_MS;
    haul_zmq_monitor_drain(&server->monitor);
    while (server->closed < bound->endpoint_count && haul_zmq_host->now_ns() < end_ns) {
        zmq_pollitem_t item = {.socket = server->monitor.source.socket, .events = ZMQ_POLLIN};
        zmq_poll(&item, 1, HAUL_ZMQ_FLUSH_MS);
        haul_zmq_monitor_drain(&server->monitor);
    }
    bound->endpoint_count = 0;
    struct stat status = file_status(bound);
    if (status.st_ino != 0 && status.st_ino == server->file_inode &&
        status.st_dev == server->file_device)
        unlink(bound->unix_path);
}

/* Servers that are closed stay for as long as their clients are told so. */
static bool make_way(struct haul_zmq_channel *channel)
{
    bool made = false;
    for (struct haul_zmq_list *node = channel->servers.next; node != &channel->servers;
         node = node->next) {
        struct haul_zmq_server *server = HAUL_ZMQ_OF(node, struct haul_zmq_server, node);
        if (server->listener || server->bound.endpoint_count == 0)
            continue;
        stop_listening(server);
        haul_zmq_clients_end(server);
        made = true;
    }
    return made;
}

/* On every address that the name stands for and this host has. */
static int bind_all(struct haul_zmq_server *server)
{
    const struct haul_zmq_route *route = server->route;
    int err = route->unix_path[0] != '\0' ? check_unix_path(route) : 0;
    if (err)
        return err;
    int reason = 0;
    for (size_t i = 0; i < route->endpoint_count && reason != EADDRINUSE; i++) {
        int failed = bind_endpoint(server, route->endpoints[i]);
        if (failed == EADDRINUSE && make_way(server->channel))
            failed = bind_endpoint(server, route->endpoints[i]);
        if (failed)
            reason = failed;
    }
    if (reason == EADDRINUSE || server->bound.endpoint_count == 0)
        return bind_failed(route, reason);
    struct stat status = file_status(route);
    server->file_device = status.st_dev;
    server->file_inode = status.st_ino;
    return 0;
}

static int set_options(struct haul_zmq_source *socket)
{
    int err = haul_zmq_source_set(socket, ZMQ_ROUTER_MANDATORY, 1);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_SNDHWM, 0); /* haul's credits are the limit */
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_RCVHWM, QUEUE_MAX);
    if (!err)
        err = haul_zmq_source_set(socket, ZMQ_BACKLOG, BACKLOG);
    return err;
}

static int open_server(struct haul_zmq_server *server)
{
    int err = haul_zmq_source_open(&server->socket, server->channel, ZMQ_ROUTER, work);
    if (!err)
        err = set_options(&server->socket);
    if (!err)
        err = haul_zmq_monitor_open(&server->monitor, &server->socket, MONITORED);
    return err ? err : bind_all(server);
}

int haul_zmq_listen(void *channel, void *route, struct haul_listener *listener, void **handle,
                    char *bound, size_t bound_size)
{
    struct haul_zmq_server *server = calloc(1, sizeof *server);
    if (!server)
        return haul_zmq_host->fail(HAUL_NO_MEMORY, "no memory to listen");
    server->channel = channel;
    server->route = route;
    memcpy(server->bound.unix_path, server->route->unix_path, sizeof server->bound.unix_path);
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
    haul_zmq_bound_name(route, server->bound.endpoints[0], bound, bound_size);
    *handle = server;
    return 0;
}

/* ---- The end -----------------------------------------------------------------------------------
 */

void haul_zmq_unlisten(void *handle)
{
    struct haul_zmq_server *server = handle;
    server->listener = NULL;
    haul_zmq_server_release(server);
}

void haul_zmq_server_close(struct haul_zmq_list *node)
{
    struct haul_zmq_server *server = HAUL_ZMQ_OF(node, struct haul_zmq_server, node);
    haul_zmq_source_close(&server->monitor.source, 0);
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
    stop_listening(server);
    haul_zmq_server_close(&server->node);
    haul_zmq_server_free(&server->node);
    return true;
}
