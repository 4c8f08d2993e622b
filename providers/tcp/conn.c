/* SPDX-License-Identifier: Apache-2.0
 * The life of a connection: DIALING (or accepted) -> OPEN -> GIVEN_UP or LOST -> freed or DRAINING.
 *
 * A connection has two ends of life. lost() tells core that the socket is gone; disconnect() tells
 * us that core is done with it. Both come in either order, and only disconnect() frees it, unless
 * drain.c has to bring the last frame out first.
 *
 * Only the receiving side reports a loss, exactly once. When writing fails there may still be
 * frames to read (the peer's reason for hanging up above all), so haul_tcp_conn_fail() notes the
 * reason and shuts the socket down: reading goes on to the end of what has arrived, meets the end
 * of the stream, and reports. That also keeps lost() out of send(). */
#include "tcp.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Between processes of one host the system's own choice grows until it falls out of the CPU's
 * cache. To other hosts it is left alone: it follows the bandwidth and delay of the way. */
enum { LOCAL_SEND_BUFFER_BYTES = 512 << 10 };
/* In the midst of a larger payload each look would find little: bytes had better pile up a while.
 */
enum { RECENT_PAYLOAD_MAX = 64 << 10 };

static void conn_ready(void *arg, uint32_t events)
{
    struct haul_tcp_conn *conn = arg;
    if (conn->state == HAUL_TCP_DIALING) {
        haul_tcp_dial_ready(conn);
        return;
    }
    if (conn->state == HAUL_TCP_DRAINING) {
        haul_tcp_drain_ready(conn);
        return;
    }
    conn->channel->recent = conn;
    conn->channel->recent_pass = conn->channel->pass;
    if (events & EPOLLOUT)
        haul_tcp_flush(conn);
    if (conn->state == HAUL_TCP_OPEN && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        haul_tcp_receive(conn);
    } else if (events & (EPOLLHUP | EPOLLERR) && conn->watch) {
        /* Nobody reads any more, and the system would report it for ever. */
        haul_tcp_host->unwatch(conn->watch);
        conn->watch = NULL;
    }
    haul_tcp_report(conn);
}

bool haul_tcp_conn_try_recent(struct haul_tcp_channel *channel)
{
    struct haul_tcp_conn *conn = channel->recent;
    if (!conn || channel->recent_pass == channel->pass || conn->state != HAUL_TCP_OPEN ||
        conn->input.payload_left > RECENT_PAYLOAD_MAX)
        return false;
    bool read = haul_tcp_receive(conn);
    haul_tcp_report(conn);
    return read;
}

static void conn_expired(void *arg)
{
    struct haul_tcp_conn *conn = arg;
    if (conn->state == HAUL_TCP_DIALING)
        haul_tcp_dial_expired(conn);
    else if (conn->state == HAUL_TCP_DRAINING)
        haul_tcp_drain_end(conn);
    else
        haul_tcp_report(conn);
}

struct haul_tcp_conn *haul_tcp_conn_create(struct haul_tcp_channel *channel, struct haul_link *link)
{
    struct haul_tcp_conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        haul_tcp_host->fail(HAUL_NO_MEMORY, "no memory for a connection");
        return NULL;
    }
    conn->channel = channel;
    conn->link = link;
    conn->fd = -1;
    haul_tcp_timer_init(&conn->timer, conn_expired, conn);
    return conn;
}

void haul_tcp_conn_destroy(struct haul_tcp_conn *conn)
{
    haul_tcp_timer_stop(conn->channel, &conn->timer);
    haul_tcp_conn_close(conn);
    haul_tcp_output_free(&conn->output);
    free(conn->input.header);
    free(conn->dial);
    free(conn);
}

int haul_tcp_conn_adopt(struct haul_tcp_conn *conn, int fd, uint32_t events)
{
    int err =
        haul_tcp_host->watch(conn->channel->engine, fd, events, conn_ready, conn, &conn->watch);
    if (err)
        return err;
    conn->fd = fd;
    conn->events = events;
    return 0;
}

void haul_tcp_conn_close(struct haul_tcp_conn *conn)
{
    if (conn->channel->recent == conn)
        conn->channel->recent = NULL;
    if (conn->watch)
        haul_tcp_host->unwatch(conn->watch);
    conn->watch = NULL;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

static void set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof value); /* without it the connection works as well */
}

bool haul_tcp_may_set_local_send_buffer(void)
{
    int got = 0;
    socklen_t bytes = sizeof got;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    set_option(fd, SOL_SOCKET, SO_SNDBUF, LOCAL_SEND_BUFFER_BYTES);
    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &got, &bytes);
    close(fd);
    return got >= LOCAL_SEND_BUFFER_BYTES * 2; /* the system doubles it, for its own needs */
}

void haul_tcp_socket_tune(const struct haul_tcp_channel *channel, int fd)
{
    if (channel->sets_local_send_buffer && haul_tcp_compare_ends(fd) != HAUL_TCP_TWO_HOSTS)
        set_option(fd, SOL_SOCKET, SO_SNDBUF, LOCAL_SEND_BUFFER_BYTES);
    /* A Unix socket refuses these. */
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (channel->user_timeout_ms > 0)
        set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)channel->user_timeout_ms);
}

void haul_tcp_conn_rearm(struct haul_tcp_conn *conn)
{
    bool reads = conn->state == HAUL_TCP_OPEN || conn->state == HAUL_TCP_DRAINING;
    uint32_t events = reads ? EPOLLIN : 0;
    if (!conn->output.failed && !haul_tcp_output_empty(&conn->output))
        events |= EPOLLOUT;
    if (!conn->watch || events == conn->events)
        return;
    conn->events = events;
    int err = haul_tcp_host->watch_change(conn->watch, events);
    if (err)
        haul_tcp_conn_fail(conn, "its socket could not be watched", 0);
}

void haul_tcp_conn_give_up(struct haul_tcp_conn *conn)
{
    conn->state = HAUL_TCP_GIVEN_UP;
    haul_tcp_conn_rearm(conn);
}

void haul_tcp_conn_lose(struct haul_tcp_conn *conn, int err, const char *why)
{
    conn->state = HAUL_TCP_LOST;
    conn->output.failed = true;
    haul_tcp_conn_close(conn);
    haul_tcp_host->lost(conn->link, err, why);
}

void haul_tcp_conn_fail(struct haul_tcp_conn *conn, const char *why, int error)
{
    if (conn->output.failed)
        return;
    conn->output.failed = true;
    conn->why = why;
    conn->error = error;
    shutdown(conn->fd, SHUT_RDWR);
}

void haul_tcp_disconnect(void *handle, bool flush)
{
    struct haul_tcp_conn *conn = handle;
    bool open = conn->state == HAUL_TCP_OPEN || conn->state == HAUL_TCP_GIVEN_UP;
    bool drain = flush && open && conn->watch && !conn->output.failed;
    conn->state = HAUL_TCP_DRAINING; /* what sent() may send is dropped */
    if (haul_tcp_output_settle(conn, drain) && drain)
        haul_tcp_drain_start(conn);
    else
        haul_tcp_conn_destroy(conn);
}

const char *haul_tcp_error_format(int error, char text[HAUL_TCP_ADDRESS_TEXT_BYTES])
{
    char buffer[HAUL_TCP_ADDRESS_TEXT_BYTES];
    snprintf(text, HAUL_TCP_ADDRESS_TEXT_BYTES, "%s", strerror_r(error, buffer, sizeof buffer));
    bool acronym = isupper((unsigned char)text[0]) && isupper((unsigned char)text[1]);
    if (!acronym)
        text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}
