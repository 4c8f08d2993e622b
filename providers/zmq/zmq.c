/* SPDX-License-Identifier: Apache-2.0
 * The provider `zmq`: a channel over libzmq's ROUTER and DEALER sockets.
 *
 * Happy path. libzmq's I/O threads move bytes between the network and the queues of the sockets. A
 * socket's descriptor wakes the driving thread, progress() reads the sockets that may have
 * something, and each received message is handed to core as one frame.
 *
 * Files: zmq.c (table, life, the pass, timers), source.c (sockets in the event loop), monitor.c
 * (what libzmq says of connections), conn.c (frames out and in), part.c and memory.c (received
 * memory), dealer.c (clients), router.c, listen.c and client.c (servers), address.c, descriptor.c
 * and fork.c (libzmq's network sockets).
 *
 * How it fails. A connection's end comes from its socket's monitor; what had arrived before is
 * delivered first. A peer that breaks the framing is given up alone. What libzmq cannot promise (a
 * frame that never ends is held in its memory) is in docs/PROVIDERS.md. */
#include "channel.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    IO_THREADS_MAX = 64,
    SOCKETS_MAX = 16383, /* three of them for a connection to a server */
};

const struct haul_host *haul_zmq_host;

/* ---- Timers --------------------------------------------------------------------------------- */

void haul_zmq_timer_init(struct haul_zmq_timer *timer, void (*fire)(struct haul_zmq_timer *timer))
{
    haul_zmq_list_init(&timer->node);
    timer->fire = fire;
}

void haul_zmq_timer_stop(struct haul_zmq_timer *timer)
{
    haul_zmq_list_remove(&timer->node);
}

void haul_zmq_timer_set(struct haul_zmq_channel *channel, struct haul_zmq_timer *timer,
                        uint64_t after_ms)
{
    haul_zmq_timer_stop(timer);
    timer->due_ns = haul_zmq_host->now_ns() + after_ms * HAUL_ZMQ_NS_PER_MS;
    /* New timers are mostly the last ones: looks for the place from the end. */
    struct haul_zmq_list *place = channel->timers.previous;
    while (place != &channel->timers &&
           HAUL_ZMQ_OF(place, struct haul_zmq_timer, node)->due_ns > timer->due_ns)
        place = place->previous;
    haul_zmq_list_insert_after(place, &timer->node);
}

static void run_timers(struct haul_zmq_channel *channel)
{
    uint64_t now = haul_zmq_list_empty(&channel->timers) ? 0 : haul_zmq_host->now_ns();
    while (!haul_zmq_list_empty(&channel->timers)) {
        struct haul_zmq_timer *timer =
            HAUL_ZMQ_OF(channel->timers.next, struct haul_zmq_timer, node);
        if (timer->due_ns > now)
            return;
        haul_zmq_timer_stop(timer);
        channel->worked = true;
        timer->fire(timer);
    }
}

static uint64_t deadline_ns(void *handle)
{
    struct haul_zmq_channel *channel = handle;
    if (haul_zmq_list_empty(&channel->timers))
        return UINT64_MAX;
    return HAUL_ZMQ_OF(channel->timers.next, struct haul_zmq_timer, node)->due_ns;
}

/* ---- The pass ------------------------------------------------------------------------------- */

/* Each source that may have something to read gets one turn. */
static void read_sources(struct haul_zmq_channel *channel)
{
    struct haul_zmq_list turn = channel->ready;
    if (haul_zmq_list_empty(&channel->ready))
        return;
    turn.next->previous = turn.previous->next = &turn;
    haul_zmq_list_init(&channel->ready);
    while (!haul_zmq_list_empty(&turn)) {
        struct haul_zmq_source *source = HAUL_ZMQ_OF(turn.next, struct haul_zmq_source, node);
        haul_zmq_list_remove(&source->node);
        if (source->work(source))
            haul_zmq_source_ready(source);
    }
}

static bool progress(void *handle)
{
    struct haul_zmq_channel *channel = handle;
    channel->worked = haul_zmq_loans_collect(channel);
    run_timers(channel);
    read_sources(channel);
    return channel->worked || !haul_zmq_list_empty(&channel->ready);
}

/* ---- Settings ------------------------------------------------------------------------------- */

enum { FIELD_IO_THREADS, FIELD_KEEP_MEMORY };

static const struct haul_provider_field fields[] = {
    [FIELD_IO_THREADS] = {"zmq_io_threads", "1",
                          "I/O threads of libzmq, 1 to 64: about one for each 3 GiB/s."},
    [FIELD_KEEP_MEMORY] =
        {"zmq_keep_memory", "on",
         "Whether malloc() keeps freed memory for the next messages, in a process that listens and "
         "has not tuned it: on, or off (malloc() is left alone)."},
    {NULL, NULL, NULL},
};

static int parse_io_threads(struct haul_engine *engine, int *threads)
{
    const char *text = haul_zmq_host->setting(engine, fields[FIELD_IO_THREADS].name);
    char *end = NULL;
    long value = text ? strtol(text, &end, 10) : 0;
    if (!text || end == text || *end != '\0' || value < 1 || value > IO_THREADS_MAX)
        return haul_zmq_host->fail(HAUL_CONFIG, "zmq_io_threads is \"%s\"; it takes 1 to %d",
                                   text ? text : "", IO_THREADS_MAX);
    *threads = (int)value;
    return 0;
}

static int parse_keep_memory(struct haul_engine *engine, bool *keep)
{
    const char *text = haul_zmq_host->setting(engine, fields[FIELD_KEEP_MEMORY].name);
    *keep = text && strcmp(text, "on") == 0;
    if (*keep || (text && strcmp(text, "off") == 0))
        return 0;
    return haul_zmq_host->fail(HAUL_CONFIG, "zmq_keep_memory is \"%s\"; it takes on or off",
                               text ? text : "");
}

/* ---- Life ----------------------------------------------------------------------------------- */

static int open_context(struct haul_zmq_channel *channel, int io_threads)
{
    channel->context = zmq_ctx_new();
    if (!channel->context)
        return haul_zmq_host->fail(HAUL_SYSTEM, "libzmq cannot make a context: %s",
                                   zmq_strerror(errno));
    zmq_ctx_set(channel->context, ZMQ_IO_THREADS, io_threads);
    zmq_ctx_set(channel->context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    return 0;
}

static int open_channel(struct haul_engine *engine, void **handle)
{
    int io_threads = 0;
    bool keep_memory = false;
    int err = parse_io_threads(engine, &io_threads);
    if (!err)
        err = parse_keep_memory(engine, &keep_memory);
    if (err)
        return err;
    struct haul_zmq_channel *channel = calloc(1, sizeof *channel);
    struct haul_zmq_part_pool *parts = haul_zmq_parts_create();
    if (!channel || !parts)
        err = haul_zmq_host->fail(HAUL_NO_MEMORY, "no memory to open the provider zmq");
    else
        err = open_context(channel, io_threads);
    if (err) {
        if (parts)
            haul_zmq_parts_release(parts);
        free(channel);
        return err;
    }
    channel->engine = engine;
    channel->parts = parts;
    channel->keep_memory = keep_memory;
    haul_zmq_list_init(&channel->ready);
    haul_zmq_list_init(&channel->timers);
    haul_zmq_list_init(&channel->servers);
    haul_zmq_list_init(&channel->dealers);
    haul_zmq_fork_register(channel);
    *handle = channel;
    return 0;
}

/* Waits for what was still to be flushed, HAUL_ZMQ_FLUSH_MS at most. */
static void close_channel(void *handle)
{
    struct haul_zmq_channel *channel = handle;
    for (struct haul_zmq_list *node = channel->servers.next; node != &channel->servers;
         node = node->next)
        haul_zmq_server_close(node);
    while (zmq_ctx_term(channel->context) && errno == EINTR)
        continue;
    haul_zmq_loans_collect(channel);
    while (!haul_zmq_list_empty(&channel->servers))
        haul_zmq_server_free(channel->servers.next);
    haul_zmq_fork_unregister(channel);
    haul_zmq_parts_release(channel->parts);
    free(channel);
}

static void disconnect(void *handle, bool flush)
{
    struct haul_zmq_conn *conn = handle;
    conn->over = conn->disconnected = true;
    conn->kind->disconnect(conn, flush);
}

static void give_back(void *channel, void *token)
{
    (void)channel; /* may be closed */
    haul_zmq_part_give_back(token);
}

/* ---- The descriptor ------------------------------------------------------------------------- */

static const struct haul_channel_ops channel_ops = {
    .flags = HAUL_CHANNEL_PARTS | HAUL_CHANNEL_PLAIN | HAUL_CHANNEL_THREADS,
    .open = open_channel,
    .close = close_channel,
    .resolve = haul_zmq_resolve,
    .route_free = haul_zmq_route_free,
    .listen = haul_zmq_listen,
    .unlisten = haul_zmq_unlisten,
    .connect = haul_zmq_connect,
    .disconnect = disconnect,
    .send = haul_zmq_conn_send,
    .recall = haul_zmq_conn_recall,
    .give_back = give_back,
    .progress = progress,
    .deadline_ns = deadline_ns,
};

__attribute__((visibility("default"))) haul_provider_entry_fn HAUL_PROVIDER_ENTRY;

const struct haul_provider *HAUL_PROVIDER_ENTRY(const struct haul_host *host)
{
    static char description[64];
    static const struct haul_provider provider = {
        .abi = HAUL_PROVIDER_ABI,
        .size = sizeof provider,
        .name = "zmq",
        .description = description,
        .channel = &channel_ops,
        .fields = fields,
    };
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    if (major != 4 || minor < 3) {
        host->fail(HAUL_PROVIDER, "libzmq %d.%d.%d was found; haul needs 4.3 or a later 4.x", major,
                   minor, patch);
        return NULL;
    }
    snprintf(description, sizeof description, "ZeroMQ %d.%d.%d (ROUTER/DEALER)", major, minor,
             patch);
    haul_zmq_host = host;
    return &provider;
}
