/* SPDX-License-Identifier: Apache-2.0
 * Listening and accepting.
 *
 * A listener has a socket for each address of its name, all with the same port; port 0 is chosen by
 * the first one and may be taken for the next, so then all begin anew. The address for clients is
 * the host as it was written, with the real port: it names all sockets, and clients may look it up.
 * ":PORT" stands for all interfaces; to connect to that means this host.
 *
 * A Unix socket leaves its file behind when a process is killed. listen() replaces a file only if
 * no socket is bound to it any more; two servers that replace the same old file in the same instant
 * are not told apart. unlisten() removes the file unless it is another's by now.
 *
 * When descriptors run out, accept() fails and the socket stays ready, so accepting pauses for
 * PAUSE_NS; clients wait in the system's queue meanwhile. */
#include "tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ACCEPTS_PER_EVENT = 64, PORT_TRIES = 16 };
#define PAUSE_NS ((uint64_t)100000000)
#define LOG_PAUSE_NS ((uint64_t)10000000000)

struct listener;

struct listening_socket {
    struct listener *listener;
    int fd; /* -1: its address is not available */
    struct haul_watch *watch;
};

struct listener {
    struct haul_tcp_channel *channel;
    struct haul_listener *core;
    const struct haul_tcp_route *route;
    struct haul_tcp_timer timer;                          /* ends a pause */
    uint64_t log_ns;                                      /* the next pause after it is logged */
    char bound[sizeof(((struct haul_address *)0)->text)]; /* the address for clients */
    char unix_path[sizeof(((struct haul_address *)0)->unix_path)]; /* the file to be removed */
    dev_t unix_device;
    ino_t unix_inode;
    size_t count;
    struct listening_socket sockets[];
};

/* ---- Accepting ------------------------------------------------------------------------------ */

static void watch_all(struct listener *listener, uint32_t events)
{
    for (size_t i = 0; i < listener->count; i++)
        if (listener->sockets[i].watch)
            haul_tcp_host->watch_change(listener->sockets[i].watch, events);
}

static void pause_ended(void *arg)
{
    watch_all(arg, EPOLLIN);
}

static void pause_accepting(struct listener *listener, int error)
{
    uint64_t now_ns = haul_tcp_host->now_ns();
    if (now_ns >= listener->log_ns) {
        listener->log_ns = now_ns + LOG_PAUSE_NS;
        haul_tcp_host->log(HAUL_LOG_WARNING,
                           "%s cannot accept connections: %s; they wait until some are closed or "
                           "the limit (ulimit -n) is raised",
                           listener->bound, strerror(error));
    }
    watch_all(listener, 0);
    haul_tcp_timer_start(listener->channel, &listener->timer, now_ns + PAUSE_NS);
}

static void welcome(struct listener *listener, int fd)
{
    char address[HAUL_TCP_ADDRESS_TEXT_BYTES];
    struct haul_tcp_conn *conn = haul_tcp_conn_create(listener->channel, NULL);
    if (!conn || haul_tcp_conn_adopt(conn, fd, EPOLLIN)) {
        close(fd);
        if (conn)
            haul_tcp_conn_destroy(conn);
        return;
    }
    haul_tcp_socket_tune(listener->channel, fd);
    haul_tcp_pace_accepted(listener->channel, fd);
    conn->state = HAUL_TCP_OPEN;
    conn->output.reporting = true; /* nothing can be reported before there is a link */
    conn->link = haul_tcp_host->accepted(listener->core, conn, haul_tcp_peer_format(fd, address));
    conn->output.reporting = false;
    if (conn->link)
        haul_tcp_report(conn);
    else
        haul_tcp_conn_destroy(conn);
}

/* Errors of the connection that was waiting, not of the listener. */
static bool is_of_one_connection(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
        return true;
    default:
        return false;
    }
}

static void accept_ready(void *arg, uint32_t events)
{
    (void)events;
    struct listening_socket *socket = arg;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = accept4(socket->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(socket->listener, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (!is_of_one_connection(errno)) {
            pause_accepting(socket->listener, errno);
            return;
        }
    }
}

/* ---- Sockets -------------------------------------------------------------------------------- */

static int listen_failed(const struct haul_tcp_address *address, int error)
{
    char text[HAUL_TCP_ADDRESS_TEXT_BYTES];
    haul_tcp_address_format(address, text);
    bool unix_socket = address->socket.any.sa_family == AF_UNIX;
    if (error == EADDRINUSE && unix_socket)
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "%s is in use: a server answers there, or it is no socket; "
                                   "choose another path",
                                   text);
    if (error == EADDRINUSE)
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "%s is in use already; choose another port, or :0 for a free "
                                   "one",
                                   text);
    if (error == EACCES || error == EPERM)
        return haul_tcp_host->fail(HAUL_ADDRESS, "no permission to listen on %s; choose another %s",
                                   text, unix_socket ? "folder" : "port, above 1023");
    if (error == EADDRNOTAVAIL)
        return haul_tcp_host->fail(
            HAUL_ADDRESS, "%s is not an address of this host; choose one of its own, or * for all",
            text);
    if (error == EINVAL && address->socket.any.sa_family == AF_INET6)
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "cannot listen on %s: a link-local address needs its interface, "
                                   "like [fe80::1%%eth0]:5555, and [::ffff:192.0.2.1] is written "
                                   "192.0.2.1",
                                   text);
    return haul_tcp_host->fail(HAUL_ADDRESS, "cannot listen on %s: %s", text, strerror(error));
}

static void set_listening_options(const struct listener *listener, int fd, int family)
{
    const int on = 1;
    haul_tcp_unpace_listen(listener->channel, fd);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* One socket for both families, or else two that do not disturb each other. */
    const int v6_only = !listener->route->everywhere;
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
}

/* Whether the file is a socket that nobody has. The probe is of another type than a server's
 * socket, so that one that is alive refuses it for that and never sees a connection. */
static bool is_stale(const struct haul_tcp_address *address)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct stat status;
    bool stale = lstat(address->socket.un.sun_path, &status) == 0 && S_ISSOCK(status.st_mode) &&
                 connect(fd, &address->socket.any, address->bytes) && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int bind_socket(int fd, const struct haul_tcp_address *address)
{
    if (bind(fd, &address->socket.any, address->bytes) == 0)
        return 0;
    int error = errno;
    bool replace = error == EADDRINUSE && address->socket.any.sa_family == AF_UNIX &&
                   is_stale(address) && unlink(address->socket.un.sun_path) == 0;
    if (!replace)
        return error;
    return bind(fd, &address->socket.any, address->bytes) ? errno : 0;
}

static void remember_file(struct listener *listener, const struct haul_tcp_address *address)
{
    struct stat status;
    const char *path = address->socket.un.sun_path;
    if (address->socket.any.sa_family != AF_UNIX || lstat(path, &status))
        return;
    snprintf(listener->unix_path, sizeof listener->unix_path, "%s", path);
    listener->unix_device = status.st_dev;
    listener->unix_inode = status.st_ino;
}

/* Makes a socket that listens on the address; 0 or an errno. */
static int socket_open(struct listening_socket *made, const struct haul_tcp_address *address)
{
    int family = address->socket.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    set_listening_options(made->listener, fd, family);
    int error = bind_socket(fd, address);
    if (!error)
        remember_file(made->listener, address);
    if (!error && listen(fd, SOMAXCONN))
        error = errno;
    if (error)
        close(fd);
    else
        made->fd = fd;
    return error;
}

static void sockets_close(struct listener *listener)
{
    for (size_t i = 0; i < listener->count; i++) {
        struct listening_socket *socket = &listener->sockets[i];
        if (socket->watch)
            haul_tcp_host->unwatch(socket->watch);
        if (socket->fd >= 0)
            close(socket->fd);
        socket->watch = NULL;
        socket->fd = -1;
    }
}

static uint16_t bound_port(int fd)
{
    struct haul_tcp_address bound = {.bytes = sizeof bound.socket};
    return getsockname(fd, &bound.socket.any, &bound.bytes) ? 0 : haul_tcp_port(&bound);
}

/* This machine lacks the address (or its family); another one of the name may do. */
static bool is_missing(int error)
{
    return error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
}

/* Opens a socket per address; 0 or the errno of *failed. *port: the real one, in network order. */
static int sockets_open(struct listener *listener, struct haul_tcp_address *failed, uint16_t *port)
{
    const struct haul_tcp_route *route = listener->route;
    int missing = EADDRNOTAVAIL;
    bool opened = false;
    for (size_t i = 0; i < route->count && !(opened && route->everywhere); i++) {
        struct haul_tcp_address address = route->addresses[i];
        if (opened)
            haul_tcp_port_set(&address, *port);
        int error = socket_open(&listener->sockets[i], &address);
        if (error)
            *failed = address;
        if (error && !is_missing(error))
            return error;
        if (error) {
            missing = error;
            continue;
        }
        if (!opened)
            *port = bound_port(listener->sockets[i].fd);
        opened = true;
    }
    return opened ? 0 : missing;
}

static int listen_all(struct listener *listener, uint16_t *port)
{
    struct haul_tcp_address failed = {0};
    bool any_port = haul_tcp_port(&listener->route->addresses[0]) == 0;
    int error = sockets_open(listener, &failed, port);
    for (int tries = 1; error == EADDRINUSE && any_port && tries < PORT_TRIES; tries++) {
        sockets_close(listener);
        error = sockets_open(listener, &failed, port);
    }
    if (error)
        return listen_failed(&failed, error);
    for (size_t i = 0; i < listener->count; i++) {
        struct listening_socket *socket = &listener->sockets[i];
        int err = socket->fd < 0
                      ? 0
                      : haul_tcp_host->watch(listener->channel->engine, socket->fd, EPOLLIN,
                                             accept_ready, socket, &socket->watch);
        if (err)
            return err;
    }
    return 0;
}

/* ---- The operations ------------------------------------------------------------------------- */

static void bound_format(const struct haul_tcp_route *route, uint16_t port, char *text, size_t size)
{
    const struct haul_address *named = &route->named;
    bool v6 = strchr(named->host, ':') != NULL;
    if (named->unix_path[0] != '\0')
        snprintf(text, size, "unix:%s", named->unix_path);
    else if (route->everywhere)
        snprintf(text, size, ":%u", ntohs(port));
    else
        snprintf(text, size, v6 ? "[%s]:%u" : "%s:%u", named->host, ntohs(port));
}

int haul_tcp_listen(void *instance, void *where, struct haul_listener *core, void **handle,
                    char *bound, size_t bound_size)
{
    const struct haul_tcp_route *route = where;
    struct listener *listener =
        calloc(1, sizeof *listener + route->count * sizeof listener->sockets[0]);
    if (!listener)
        return haul_tcp_host->fail(HAUL_NO_MEMORY, "no memory to listen on %s", route->named.text);
    listener->channel = instance;
    listener->core = core;
    listener->route = route;
    listener->count = route->count;
    haul_tcp_timer_init(&listener->timer, pause_ended, listener);
    for (size_t i = 0; i < listener->count; i++)
        listener->sockets[i] = (struct listening_socket){.listener = listener, .fd = -1};
    uint16_t port = 0;
    int err = listen_all(listener, &port);
    if (err) {
        haul_tcp_unlisten(listener);
        return err;
    }
    bound_format(route, port, listener->bound, sizeof listener->bound);
    snprintf(bound, bound_size, "%s", listener->bound);
    *handle = listener;
    return 0;
}

void haul_tcp_unlisten(void *handle)
{
    struct listener *listener = handle;
    struct stat status;
    haul_tcp_timer_stop(listener->channel, &listener->timer);
    /* The file first: a client that finds it finds us. */
    if (listener->unix_path[0] != '\0' && lstat(listener->unix_path, &status) == 0 &&
        status.st_dev == listener->unix_device && status.st_ino == listener->unix_inode)
        unlink(listener->unix_path);
    sockets_close(listener);
    free(listener);
}
