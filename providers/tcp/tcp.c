/* SPDX-License-Identifier: Apache-2.0
 * The provider `tcp`: frames over stream sockets, TCP or Unix, with nothing but the system's calls.
 *
 * This file: the descriptor, the instance and its timers. Timers are few (connects under way,
 * connections being drained, listeners that pause), so a list and a lower bound of their times do.
 */
#include "tcp.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

const struct haul_host *haul_tcp_host;

/* ---- Timers --------------------------------------------------------------------------------- */

void haul_tcp_timer_init(struct haul_tcp_timer *timer, void (*expired)(void *arg), void *arg)
{
    *timer = (struct haul_tcp_timer){.at_ns = HAUL_TCP_TIMER_OFF, .expired = expired, .arg = arg};
}

void haul_tcp_timer_start(struct haul_tcp_channel *channel, struct haul_tcp_timer *timer,
                          uint64_t at_ns)
{
    haul_tcp_timer_stop(channel, timer);
    timer->at_ns = at_ns;
    TAILQ_INSERT_TAIL(&channel->timers, timer, node);
    if (at_ns < channel->timer_ns) {
        channel->timer_ns = at_ns;
        haul_tcp_host->wake(channel->engine); /* the driver may sleep until a later time */
    }
}

void haul_tcp_timer_stop(struct haul_tcp_channel *channel, struct haul_tcp_timer *timer)
{
    if (timer->at_ns == HAUL_TCP_TIMER_OFF)
        return;
    timer->at_ns = HAUL_TCP_TIMER_OFF;
    TAILQ_REMOVE(&channel->timers, timer, node);
    if (TAILQ_EMPTY(&channel->timers))
        channel->timer_ns = HAUL_TCP_TIMER_OFF;
}

static struct haul_tcp_timer *find_expired(struct haul_tcp_channel *channel, uint64_t now_ns)
{
    struct haul_tcp_timer *timer;
    channel->timer_ns = HAUL_TCP_TIMER_OFF;
    TAILQ_FOREACH(timer, &channel->timers, node)
    {
        if (timer->at_ns <= now_ns)
            return timer;
        if (timer->at_ns < channel->timer_ns)
            channel->timer_ns = timer->at_ns;
    }
    return NULL;
}

/* Returns whether any had expired. */
static bool run_timers(struct haul_tcp_channel *channel)
{
    if (channel->timer_ns == HAUL_TCP_TIMER_OFF)
        return false;
    uint64_t now_ns = haul_tcp_host->now_ns();
    if (now_ns < channel->timer_ns)
        return false;
    bool expired = false;
    struct haul_tcp_timer *timer;
    while ((timer = find_expired(channel, now_ns)) != NULL) {
        haul_tcp_timer_stop(channel, timer);
        timer->expired(timer->arg);
        expired = true;
    }
    return expired;
}

static bool progress(void *instance)
{
    struct haul_tcp_channel *channel = instance;
    bool worked = haul_tcp_conn_try_recent(channel);
    channel->pass++;
    return run_timers(channel) || worked;
}

static uint64_t deadline_ns(void *instance)
{
    return ((struct haul_tcp_channel *)instance)->timer_ns;
}

/* ---- The instance --------------------------------------------------------------------------- */

/* A link that was cut is noticed by core's heartbeats after two periods of silence; bytes on their
 * way to it are given up by the system after the same time. */
static unsigned read_user_timeout_ms(struct haul_engine *engine)
{
    const char *text = haul_tcp_host->setting(engine, "heartbeat");
    double ms = text ? strtod(text, NULL) * 2 * 1000 : 0;
    if (!isfinite(ms) || ms <= 0)
        return 0;
    return ms < INT_MAX ? (unsigned)ms : INT_MAX;
}

static int open_channel(struct haul_engine *engine, void **result)
{
    struct haul_tcp_channel *channel = calloc(1, sizeof *channel);
    uint8_t *scratch = malloc(HAUL_TCP_SCRATCH_BYTES);
    if (!channel || !scratch) {
        free(channel);
        free(scratch);
        return haul_tcp_host->fail(HAUL_NO_MEMORY, "no memory for the provider tcp");
    }
    channel->engine = engine;
    channel->user_timeout_ms = read_user_timeout_ms(engine);
    channel->sets_local_send_buffer = haul_tcp_may_set_local_send_buffer();
    haul_tcp_find_pacing(channel);
    channel->scratch = scratch;
    channel->timer_ns = HAUL_TCP_TIMER_OFF;
    TAILQ_INIT(&channel->timers);
    TAILQ_INIT(&channel->draining);
    *result = channel;
    return 0;
}

static void close_channel(void *instance)
{
    struct haul_tcp_channel *channel = instance;
    struct haul_tcp_conn *conn;
    while ((conn = TAILQ_FIRST(&channel->draining)) != NULL)
        haul_tcp_drain_end(conn);
    free(channel->scratch);
    free(channel);
}

/* ---- The descriptor ------------------------------------------------------------------------- */

static const struct haul_channel_ops channel_ops = {
    .flags = HAUL_CHANNEL_LOOKS,
    .open = open_channel,
    .close = close_channel,
    .resolve = haul_tcp_resolve,
    .route_free = haul_tcp_route_free,
    .listen = haul_tcp_listen,
    .unlisten = haul_tcp_unlisten,
    .connect = haul_tcp_connect,
    .disconnect = haul_tcp_disconnect,
    .send = haul_tcp_send,
    .recall = haul_tcp_recall,
    .host = haul_tcp_own_host,
    .progress = progress,
    .deadline_ns = deadline_ns,
};

static const struct haul_provider provider = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof(struct haul_provider),
    .name = "tcp",
    .description = "stream sockets: TCP over IPv4 and IPv6, and Unix sockets",
    .channel = &channel_ops,
};

/* Part of the library, where the build gives the entry a name of its own, or else a plugin. */
#ifndef HAUL_PROVIDER_ENTRY_NAME
#define HAUL_PROVIDER_ENTRY_NAME HAUL_PROVIDER_ENTRY
#endif
HAUL_API haul_provider_entry_fn HAUL_PROVIDER_ENTRY_NAME;
HAUL_API const struct haul_provider *HAUL_PROVIDER_ENTRY_NAME(const struct haul_host *host)
{
    haul_tcp_host = host;
    return &provider;
}
