/* SPDX-License-Identifier: Apache-2.0
 * The channel of `loop`: who listens, who connects to whom, and the instance's progress.
 *
 * Who owns what. Core owns instance, routes, listeners and conns by the calls that end them. The
 * registry, one for the process, only refers to the listeners. A connection that nobody accepted
 * yet waits in its listener's queue, which holds one end of the pair.
 *
 * Which thread. The registry and the queues of the listeners are under the registry's lock, because
 * connect() runs in the thread of another context than the listener. It is taken before a pair's
 * lock, never after, and never held in a callback.
 *
 * How it fails. connect() to a name that nobody listens on makes a pair whose other end is closed
 * already: then progress() reports it lost like any other, so that core redials. */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 272, PORT_FIRST = 49152, PORT_LAST = 65535 /* names for "port 0" */ };

struct route {
    char name[NAME_BYTES];
    bool any_port;
};

struct listener {
    LIST_ENTRY(listener) node;
    struct channel *channel;
    struct haul_listener *core;
    char name[NAME_BYTES];
    STAILQ_HEAD(, pair) pending; /* not accepted yet, oldest first */
};

static struct {
    pthread_mutex_t lock;
    LIST_HEAD(, listener) listeners;
    unsigned last_port;
    unsigned connections; /* numbers them for log lines */
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .last_port = PORT_LAST};

void haul_loop_channel_forked(void)
{
    pthread_mutex_init(&registry.lock, NULL);
    LIST_INIT(&registry.listeners);
}

/* ---- Names ---------------------------------------------------------------------------------- */

/* All hosts are this process: a port, a Unix path or else the whole text is the name. */
static int resolve(void *instance, const struct haul_address *address, bool listening,
                   void **result)
{
    struct channel *channel = instance;
    bool any_port = strcmp(address->service, "0") == 0;
    if (any_port && !listening)
        return haul_loop_host->fail(HAUL_ADDRESS,
                                    "%s: port 0 is for listening; connect to the address that the "
                                    "server reports",
                                    address->text);
    struct route *route = haul_loop_alloc(&channel->config, sizeof(*route));
    if (!route)
        return HAUL_NO_MEMORY;
    route->any_port = any_port;
    if (address->unix_path[0] != '\0')
        snprintf(route->name, sizeof(route->name), "unix:%s", address->unix_path);
    else if (address->service[0] != '\0')
        snprintf(route->name, sizeof(route->name), "localhost:%s", address->service);
    else
        snprintf(route->name, sizeof(route->name), "%s", address->text);
    *result = route;
    return 0;
}

static void route_free(void *route)
{
    free(route);
}

/* The registry is locked. */
static struct listener *find_listener(const char *name)
{
    struct listener *listener;
    LIST_FOREACH(listener, &registry.listeners, node)
    if (strcmp(listener->name, name) == 0)
        return listener;
    return NULL;
}

/* Writes the name to listen on; false if it is taken. The registry is locked. */
static bool choose_name(const struct route *route, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s", route->name);
    for (int port = PORT_FIRST; route->any_port && port <= PORT_LAST; port++) {
        registry.last_port = registry.last_port < PORT_LAST ? registry.last_port + 1 : PORT_FIRST;
        snprintf(name, NAME_BYTES, "localhost:%u", registry.last_port);
        if (!find_listener(name))
            return true;
    }
    return !find_listener(name);
}

/* ---- Servers -------------------------------------------------------------------------------- */

static int start_listening(void *instance, void *where, struct haul_listener *core, void **handle,
                           char *bound, size_t bound_size)
{
    struct channel *channel = instance;
    const struct route *route = where;
    struct listener *listener = haul_loop_alloc(&channel->config, sizeof(*listener));
    if (!listener)
        return HAUL_NO_MEMORY;
    listener->channel = channel;
    listener->core = core;
    STAILQ_INIT(&listener->pending);
    pthread_mutex_lock(&registry.lock);
    bool chosen = choose_name(route, listener->name);
    if (chosen)
        LIST_INSERT_HEAD(&registry.listeners, listener, node);
    pthread_mutex_unlock(&registry.lock);
    if (!chosen) {
        free(listener);
        return haul_loop_host->fail(HAUL_ADDRESS, "somebody listens on %s in this process already",
                                    route->name);
    }
    snprintf(bound, bound_size, "%s", listener->name);
    *handle = listener;
    return 0;
}

/* The oldest connection that waits in a queue, or NULL. The registry is locked. */
static struct pair *pop_pending(struct listener *listener)
{
    struct pair *pair = STAILQ_FIRST(&listener->pending);
    if (pair)
        STAILQ_REMOVE_HEAD(&listener->pending, pending);
    return pair;
}

static void unlisten(void *handle)
{
    struct listener *listener = handle;
    pthread_mutex_lock(&registry.lock);
    LIST_REMOVE(listener, node);
    pthread_mutex_unlock(&registry.lock);
    for (struct pair *pair; (pair = pop_pending(listener)) != NULL;)
        haul_loop_end_close(&pair->ends[1], "the server has closed");
    free(listener);
}

/* ---- Connections ---------------------------------------------------------------------------- */

static void add_conn(struct channel *channel, struct conn *conn)
{
    haul_loop_end_open(conn, channel);
    LIST_INSERT_HEAD(&channel->conns, conn, node);
}

/* Maybe from a callback for another conn in progress(), whose cursor must not stay on this one. */
static void remove_conn(struct channel *channel, struct conn *conn)
{
    if (channel->cursor == conn)
        channel->cursor = LIST_NEXT(conn, node);
    LIST_REMOVE(conn, node);
}

static int start_connecting(void *instance, void *where, struct haul_link *link, void **result)
{
    struct channel *channel = instance;
    const struct route *route = where;
    struct pair *pair = haul_loop_pair_create(channel);
    if (!pair)
        return HAUL_NO_MEMORY;
    struct conn *conn = &pair->ends[0];
    conn->link = link;
    add_conn(channel, conn);
    pthread_mutex_lock(&registry.lock);
    struct listener *listener = find_listener(route->name);
    if (listener) {
        STAILQ_INSERT_TAIL(&listener->pending, pair, pending);
        haul_loop_signal(listener->channel);
    }
    pthread_mutex_unlock(&registry.lock);
    if (!listener) {
        char why[NAME_BYTES + 40];
        snprintf(why, sizeof(why), "nobody listens on %s in this process", route->name);
        haul_loop_end_close(&pair->ends[1], why);
    }
    *result = conn;
    return 0;
}

/* Takes the next connection that waits for a listener of this channel; false if there is none. */
static bool accept_next(struct channel *channel)
{
    pthread_mutex_lock(&registry.lock);
    struct listener *listener;
    LIST_FOREACH(listener, &registry.listeners, node)
    if (listener->channel == channel && !STAILQ_EMPTY(&listener->pending))
        break;
    struct pair *pair = listener ? pop_pending(listener) : NULL;
    unsigned number = registry.connections += pair != NULL;
    pthread_mutex_unlock(&registry.lock);
    if (!pair)
        return false;
    struct conn *conn = &pair->ends[1];
    conn->connected = true;
    add_conn(channel, conn);
    char address[32];
    snprintf(address, sizeof(address), "loop:%u", number);
    /* The listener is ours, and unlisten() runs under the same drive lock as we do. */
    conn->link = haul_loop_host->accepted(listener->core, conn, address);
    if (conn->link) {
        haul_loop_pair_accept(pair);
    } else {
        remove_conn(channel, conn);
        haul_loop_end_close(conn, "the server takes no more connections");
    }
    return true;
}

/* Nothing to flush: what was sent before is in the other end's inbox, which outlives this end. */
static void disconnect(void *handle, bool flush)
{
    (void)flush;
    struct conn *conn = handle;
    remove_conn(conn->channel, conn);
    haul_loop_end_close(conn, "the peer closed the connection");
}

/* ---- The instance --------------------------------------------------------------------------- */

static int open_channel(struct haul_engine *engine, void **instance)
{
    struct haul_loop_config config = {0};
    int err = haul_loop_configure(engine, &config);
    if (err)
        return err;
    struct channel *channel = haul_loop_alloc(&config, sizeof(*channel));
    if (!channel)
        return HAUL_NO_MEMORY;
    channel->engine = engine;
    channel->config = config;
    channel->deadline_ns = UINT64_MAX;
    *instance = channel;
    return 0;
}

static void close_channel(void *channel)
{
    free(channel);
}

/* Tokens of loop_parts are plain allocations; they may come back when the conn is gone. */
static void give_back(void *channel, void *token)
{
    (void)channel;
    free(token);
}

static bool progress(void *instance)
{
    struct channel *channel = instance;
    bool signalled = atomic_exchange(&channel->signalled, false);
    bool due =
        channel->deadline_ns != UINT64_MAX && haul_loop_host->now_ns() >= channel->deadline_ns;
    if (!signalled && !due)
        return false;
    channel->deadline_ns = UINT64_MAX;
    bool did = false;
    while (accept_next(channel))
        did = true;
    for (struct conn *conn = LIST_FIRST(&channel->conns); conn; conn = channel->cursor) {
        channel->cursor = LIST_NEXT(conn, node);
        did |= haul_loop_conn_progress(conn);
    }
    return did;
}

static uint64_t deadline_ns(void *instance)
{
    struct channel *channel = instance;
    return atomic_load(&channel->signalled) ? 0 : channel->deadline_ns;
}

const struct haul_channel_ops haul_loop_channel = {
    .open = open_channel,
    .close = close_channel,
    .resolve = resolve,
    .route_free = route_free,
    .listen = start_listening,
    .unlisten = unlisten,
    .connect = start_connecting,
    .disconnect = disconnect,
    .send = haul_loop_send,
    .recall = haul_loop_recall,
    .give_back = give_back,
    .progress = progress,
    .deadline_ns = deadline_ns,
};
