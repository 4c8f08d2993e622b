/* SPDX-License-Identifier: Apache-2.0
 * The addresses that a server listens on. */
#include "router.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- The files of Unix sockets -------------------------------------------------------------- */

/* Zeros: there is none. */
static struct stat file_status(const char *path)
{
    struct stat status;
    if (path[0] == '\0' || lstat(path, &status))
        status = (struct stat){0};
    return status;
}

/* libzmq replaces whatever lies in the way; only a socket that nobody listens on may go. The probe
 * is of another type than a server's socket: one that is alive refuses it for that, and never sees
 * a connection. */
static int check_file(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status = file_status(path);
    if (status.st_ino == 0)
        return 0;
    if (!S_ISSOCK(status.st_mode))
        return EEXIST;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    memcpy(address.sun_path, path, strlen(path));
    bool lives =
        connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno != ECONNREFUSED;
    close(fd);
    return lives ? EADDRINUSE : 0;
}

/* libzmq leaves the file behind. It may be another server's by now. */
static void remove_file(struct haul_zmq_server *server)
{
    struct stat status = file_status(server->unix_path);
    if (status.st_ino != 0 && status.st_ino == server->file_inode &&
        status.st_dev == server->file_device)
        unlink(server->unix_path);
}

enum { PORT_TRIES = 8 };

/* ---- Binding -------------------------------------------------------------------------------- */

/* A port of 0 becomes that of the first endpoint bound. Returns 0 or why not, as errno has it. */
static int bind_endpoint(struct haul_zmq_server *server, const char *endpoint)
{
    char wanted[HAUL_ZMQ_ENDPOINT_BYTES], *bound = server->bound[server->bound_count];
    size_t size = HAUL_ZMQ_ENDPOINT_BYTES;
    snprintf(wanted, sizeof wanted, "%s", endpoint);
    char *port = strrchr(wanted, ':');
    if (strcmp(port, ":0") == 0 && server->bound_count > 0)
        snprintf(port, (size_t)(wanted + sizeof wanted - port), "%s",
                 strrchr(server->bound[0], ':'));
    if (haul_zmq_endpoint_prepare(&server->socket, wanted))
        return EINVAL;
    if (zmq_bind(server->socket.socket, wanted))
        return errno;
    if (zmq_getsockopt(server->socket.socket, ZMQ_LAST_ENDPOINT, bound, &size))
        return errno;
    server->bound_count++;
    return 0;
}

/* Every address that the name stands for and this host has. */
static int bind_all(struct haul_zmq_server *server)
{
    const struct haul_zmq_route *route = server->route;
    int reason = check_file(route->unix_path);
    if (reason)
        return reason;
    for (size_t i = 0; i < route->endpoint_count && reason != EADDRINUSE; i++) {
        int failed = bind_endpoint(server, route->endpoints[i]);
        if (failed)
            reason = failed;
    }
    if (server->bound_count > 0 && reason != EADDRINUSE)
        return 0;
    haul_zmq_server_unbind(server);
    return reason;
}

/* libzmq closes the connections that were accepted there too. Returns when its I/O thread has
 * closed what we listen on, so that the address is free for the next who listens: after
 * microseconds, and after HAUL_ZMQ_FLUSH_MS at the latest, should that thread get no CPU. */
void haul_zmq_server_unbind(struct haul_zmq_server *server)
{
    if (server->bound_count == 0)
        return;
    haul_zmq_monitor_drain(&server->monitor); /* a failed zmq_bind() posts events too */
    server->closed_count = 0;
    for (size_t i = 0; i < server->bound_count; i++)
        if (zmq_unbind(server->socket.socket, server->bound[i]))
            server->closed_count++;
    uint64_t end_ns = haul_zmq_host->now_ns() + HAUL_ZMQ_FLUSH_MS * (uint64_t)HAUL_ZMQ_NS_PER_MS;
    haul_zmq_monitor_drain(&server->monitor);
    while (server->closed_count < server->bound_count && haul_zmq_host->now_ns() < end_ns) {
        zmq_pollitem_t item = {.socket = server->monitor.source.socket, .events = ZMQ_POLLIN};
        zmq_poll(&item, 1, HAUL_ZMQ_FLUSH_MS);
        haul_zmq_monitor_drain(&server->monitor);
    }
    server->bound_count = server->listening_count = 0;
    remove_file(server);
    haul_zmq_clients_end(server);
}

/* Closed servers keep their address while they hand over last frames, unless it is wanted. */
static bool make_way(struct haul_zmq_channel *channel)
{
    bool made = false;
    for (struct haul_zmq_list *node = channel->servers.next; node != &channel->servers;
         node = node->next) {
        struct haul_zmq_server *server = HAUL_ZMQ_OF(node, struct haul_zmq_server, node);
        if (server->listener || server->bound_count == 0)
            continue;
        haul_zmq_server_unbind(server);
        made = true;
    }
    return made;
}

static int bind_failed(const struct haul_zmq_route *route, int reason)
{
    const char *text = route->text;
    bool file = route->unix_path[0] != '\0';
    switch (reason) {
    case EADDRINUSE:
        return haul_zmq_host->fail(HAUL_ADDRESS,
                                   "%s is in use by another process; choose another %s", text,
                                   file ? "path" : "port or :0");
    case EEXIST:
        return haul_zmq_host->fail(
            HAUL_ADDRESS,
            "%s: there is a file of that name, and it is no socket; choose another path", text);
    case EADDRNOTAVAIL:
    case ENODEV:
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s is no address of this host", text);
    case EACCES:
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s: no permission; choose %s", text,
                                   file ? "another path" : "a port from 1024 on");
    default:
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s: %s", text, zmq_strerror(reason));
    }
}

/* Whether it is the system that chooses a port, for the first of several addresses: at another one
 * it may be in use. */
static bool is_port_found(const struct haul_zmq_route *route)
{
    return route->endpoint_count > 1 && !strcmp(strrchr(route->endpoints[0], ':'), ":0");
}

int haul_zmq_server_bind(struct haul_zmq_server *server)
{
    int reason = bind_all(server);
    if (reason == EADDRINUSE && make_way(server->channel))
        reason = bind_all(server);
    for (int i = 0; i < PORT_TRIES && reason == EADDRINUSE && is_port_found(server->route); i++)
        reason = bind_all(server);
    if (reason)
        return bind_failed(server->route, reason);
    struct stat status = file_status(server->route->unix_path);
    memcpy(server->unix_path, server->route->unix_path, sizeof server->unix_path);
    server->file_device = status.st_dev;
    server->file_inode = status.st_ino;
    return 0;
}
