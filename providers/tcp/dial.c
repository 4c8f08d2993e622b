/* SPDX-License-Identifier: Apache-2.0
 * Connecting: the addresses of a route in turn, until one answers.
 *
 * The outcome is always told from an event or a timer, never from inside connect(). An address that
 * does not answer at all would hold up the others for minutes, so they have their turn after
 * NEXT_ADDRESS_NS; the last one has the system's patience, which core cuts short as it likes. */
#include "tcp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define NEXT_ADDRESS_NS ((uint64_t)2000000000)

struct haul_tcp_dial {
    const struct haul_tcp_route *route;
    size_t next;   /* address to be tried */
    char why[400]; /* what became of those that were tried */
};

static const struct haul_tcp_address *current_address(const struct haul_tcp_dial *dial)
{
    return &dial->route->addresses[dial->next - 1];
}

/* A sentence part. Only watching fails with ENOSPC, where the system's words would mislead. */
static const char *explain(int error, char text[HAUL_TCP_ADDRESS_TEXT_BYTES])
{
    return error == ENOSPC ? "no more descriptors can be watched (fs.epoll.max_user_watches)"
                           : haul_tcp_error_format(error, text);
}

/* Core says which address the user named; one that is the same is not repeated. */
static void note_failure(struct haul_tcp_dial *dial, int error)
{
    char address[HAUL_TCP_ADDRESS_TEXT_BYTES], why[HAUL_TCP_ADDRESS_TEXT_BYTES];
    size_t used = strlen(dial->why);
    haul_tcp_address_format(current_address(dial), address);
    bool named = strcmp(address, dial->route->named.text) == 0;
    snprintf(dial->why + used, sizeof dial->why - used, "%s%s%s%s", used > 0 ? "; " : "",
             named ? "" : address, named ? "" : ": ", explain(error, why));
}

/* Starts to connect to the current address; 0 or an errno. */
static int dial_address(struct haul_tcp_conn *conn)
{
    const struct haul_tcp_address *address = current_address(conn->dial);
    int family = address->socket.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    haul_tcp_unpace_dial(conn->channel, fd, address);
    int error = connect(fd, &address->socket.any, address->bytes) ? errno : 0;
    if (error == EINPROGRESS || error == EINTR)
        error = 0;
    int err = error ? 0 : haul_tcp_conn_adopt(conn, fd, EPOLLOUT);
    if (err)
        error = err == HAUL_NO_MEMORY ? ENOMEM : errno;
    if (error)
        close(fd);
    return error;
}

/* Starts to connect to the next address. False if there is none left. */
static bool dial_next(struct haul_tcp_conn *conn)
{
    struct haul_tcp_dial *dial = conn->dial;
    while (dial->next < dial->route->count) {
        dial->next++;
        int error = dial_address(conn);
        if (error) {
            note_failure(dial, error);
            continue;
        }
        if (dial->next < dial->route->count)
            haul_tcp_timer_start(conn->channel, &conn->timer,
                                 haul_tcp_host->now_ns() + NEXT_ADDRESS_NS);
        return true;
    }
    return false;
}

int haul_tcp_connect(void *instance, void *route, struct haul_link *link, void **result)
{
    struct haul_tcp_channel *channel = instance;
    struct haul_tcp_conn *conn = haul_tcp_conn_create(channel, link);
    struct haul_tcp_dial *dial = calloc(1, sizeof *dial);
    if (!conn || !dial) {
        free(dial);
        if (conn)
            haul_tcp_conn_destroy(conn);
        return haul_tcp_host->fail(HAUL_NO_MEMORY, "no memory for a connection");
    }
    dial->route = route;
    conn->dial = dial;
    conn->state = HAUL_TCP_DIALING;
    if (!dial_next(conn))
        haul_tcp_timer_start(channel, &conn->timer, 0);
    *result = conn;
    return 0;
}

static void dial_end(struct haul_tcp_conn *conn)
{
    haul_tcp_timer_stop(conn->channel, &conn->timer);
    free(conn->dial);
    conn->dial = NULL;
}

static void dial_failed(struct haul_tcp_conn *conn)
{
    haul_tcp_conn_lose(conn, HAUL_UNREACHABLE, conn->dial->why);
    dial_end(conn);
}

static void dial_succeeded(struct haul_tcp_conn *conn)
{
    dial_end(conn);
    conn->state = HAUL_TCP_OPEN;
    haul_tcp_socket_tune(conn->channel, conn->fd);
    haul_tcp_conn_rearm(conn);
    haul_tcp_host->connected(conn->link);
}

/* The current address has failed: the next one. */
static void dial_on(struct haul_tcp_conn *conn, int error)
{
    haul_tcp_timer_stop(conn->channel, &conn->timer);
    note_failure(conn->dial, error);
    haul_tcp_conn_close(conn);
    if (!dial_next(conn))
        dial_failed(conn);
}

void haul_tcp_dial_ready(struct haul_tcp_conn *conn)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &bytes))
        error = errno;
    /* Where nobody listens on a local port of the range that clients get theirs from, a client can
     * be given that very port and be connected to itself. */
    if (!error && haul_tcp_compare_ends(conn->fd) == HAUL_TCP_ONE_SOCKET)
        error = ECONNREFUSED;
    if (error)
        dial_on(conn, error);
    else
        dial_succeeded(conn);
}

void haul_tcp_dial_expired(struct haul_tcp_conn *conn)
{
    if (conn->fd < 0)
        dial_failed(conn);
    else
        dial_on(conn, ETIMEDOUT);
}
