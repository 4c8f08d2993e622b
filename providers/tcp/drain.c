/* SPDX-License-Identifier: Apache-2.0
 * The last bytes of a connection that core has given up.
 *
 * close() is not enough for them: where bytes that nobody has read lie in the socket, it makes the
 * system reset the connection, and the peer may never see our last frame, which says why. So what
 * is queued is written, the sending side is shut down, and what the peer still sends is discarded
 * until it hangs up too; all that for DRAIN_NS at most. */
#include "tcp.h"

#include <errno.h>

enum { READS_PER_EVENT = 16 };
#define DRAIN_NS ((uint64_t)1000000000)

/* Discards what has come. Returns whether there may be more later. */
static bool discard(struct haul_tcp_conn *conn)
{
    for (int i = 0; i < READS_PER_EVENT; i++) {
        ssize_t n = recv(conn->fd, conn->channel->scratch, HAUL_TCP_SCRATCH_BYTES, 0);
        if (n == 0)
            return false;
        if (n < 0 && errno != EINTR)
            return errno == EAGAIN;
    }
    return true;
}

static void write_rest(struct haul_tcp_conn *conn)
{
    haul_tcp_flush(conn);
    if (haul_tcp_output_empty(&conn->output))
        shutdown(conn->fd, SHUT_WR);
}

void haul_tcp_drain_ready(struct haul_tcp_conn *conn)
{
    write_rest(conn);
    if (conn->output.failed || !discard(conn))
        haul_tcp_drain_end(conn);
}

void haul_tcp_drain_start(struct haul_tcp_conn *conn)
{
    TAILQ_INSERT_TAIL(&conn->channel->draining, conn, draining);
    haul_tcp_timer_start(conn->channel, &conn->timer, haul_tcp_host->now_ns() + DRAIN_NS);
    /* Nothing is read here: core may be in a callback of another connection, whose bytes are in the
     * scratch buffer. */
    write_rest(conn);
    haul_tcp_conn_rearm(conn);
}

void haul_tcp_drain_end(struct haul_tcp_conn *conn)
{
    discard(conn); /* once more, for a peer that is a little late */
    TAILQ_REMOVE(&conn->channel->draining, conn, draining);
    haul_tcp_conn_destroy(conn);
}
