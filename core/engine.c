/* SPDX-License-Identifier: Apache-2.0
 * The engine's life, one pass of its work, its timers, and what happens to it in a forked child. */
#include "handles.h"
#include "link.h"
#include "receiving.h"
#include "sending.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- fork ------------------------------------------------------------------------------------ */

/* A child inherits our descriptors, and open ones would keep connections alive that the parent's
 * death should end. The handler closes them and marks the engines, so that each call answers
 * HAUL_FORKED. Messages already received stay readable: the pool's mappings are private memory, and
 * views of a peer's (HAUL_SHARED) are inherited. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct haul_list registry = {&registry, &registry};

static void before_fork(void)
{
    pthread_mutex_lock(&registry_lock);
    HAUL_LIST_EACH(&registry, node)
    pthread_mutex_lock(&HAUL_CONTAINER_OF(node, struct haul_engine, registered)->drive.lock);
    haul_plugins_lock(); /* last: haul_open() takes it under the drive lock */
}

static void after_fork_in_parent(void)
{
    haul_plugins_unlock();
    HAUL_LIST_EACH(&registry, node)
    pthread_mutex_unlock(&HAUL_CONTAINER_OF(node, struct haul_engine, registered)->drive.lock);
    pthread_mutex_unlock(&registry_lock);
}

static void close_levels(struct haul_engine *engine)
{
    haul_level_close(&engine->any_level);
    haul_level_close(&engine->ops_level);
    HAUL_LIST_EACH(&engine->servers, server)
    haul_level_close(&HAUL_CONTAINER_OF(server, struct haul_server, node)->inbox.level);
    HAUL_LIST_EACH(&engine->peers, peer)
    haul_level_close(&HAUL_CONTAINER_OF(peer, struct haul_peer, node)->inbox.level);
}

static void after_fork_in_child(void)
{
    haul_plugins_unlock();
    haul_pools_forked();
    while (!haul_list_empty(&registry)) {
        struct haul_engine *engine =
            HAUL_CONTAINER_OF(haul_list_pop(&registry), struct haul_engine, registered);
        engine->inherited = true;
        haul_drive_forked(&engine->drive);
        close_levels(engine);
        pthread_mutex_unlock(&engine->drive.lock);
    }
    pthread_mutex_unlock(&registry_lock);
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void register_engine(struct haul_engine *engine)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_fork_handlers);
    pthread_mutex_lock(&registry_lock);
    haul_list_append(&registry, &engine->registered);
    pthread_mutex_unlock(&registry_lock);
}

static void unregister_engine(struct haul_engine *engine)
{
    pthread_mutex_lock(&registry_lock);
    haul_list_remove(&engine->registered);
    pthread_mutex_unlock(&registry_lock);
}

/* ---- One pass -------------------------------------------------------------------------------- */

static bool progress_transports(struct haul_engine *engine)
{
    bool worked = false;
    for (unsigned i = 0; i < engine->transport_count; i++) {
        struct haul_transport *transport = &engine->transports[i];
        if (transport->channel && transport->provider->channel->progress)
            worked |= transport->provider->channel->progress(transport->channel);
        if (transport->rma && transport->provider->rma->progress)
            worked |= transport->provider->rma->progress(transport->rma);
    }
    return worked;
}

/* Each link once: one that has more to send is in the list again, at its end. */
static bool pump_links(struct haul_engine *engine)
{
    bool more = false;
    size_t left = 0;
    HAUL_LIST_EACH(&engine->sending, node)
    left++;
    while (left-- > 0 && !haul_list_empty(&engine->sending)) {
        struct haul_list *first = haul_list_pop(&engine->sending);
        struct haul_link *link = HAUL_CONTAINER_OF(first, struct haul_link, sending_node);
        haul_list_append(&engine->sending, first);
        if (!link->channel_busy)
            more |= haul_transmit_pump(link);
    }
    return more;
}

static void log_pool_wait(struct haul_engine *engine, uint64_t now_ns)
{
    haul_log(
        HAUL_LOG_WARNING,
        "receive memory is exhausted: %llu messages are not released, %u are being received, and "
        "for %llu ms there was no room for another; release messages sooner or raise HAUL_POOL_MAX "
        "(now %llu MiB)",
        (unsigned long long)engine->stats.messages_unreleased, engine->fetches,
        (unsigned long long)((now_ns - engine->pool_waiting_since_ns) / HAUL_NS_PER_MS),
        (unsigned long long)(engine->config.pool_max >> 20));
    engine->pool_wait_logged = true;
}

static void run_timers(struct haul_engine *engine)
{
    uint64_t now_ns = engine->drive.now_ns;
    if (now_ns < engine->timer_ns)
        return;
    engine->timer_ns = UINT64_MAX;
    HAUL_LIST_EACH(&engine->links, node)
    {
        uint64_t next_ns = UINT64_MAX;
        haul_link_heartbeat(HAUL_CONTAINER_OF(node, struct haul_link, node), now_ns, &next_ns);
        haul_engine_timer(engine, next_ns);
    }
    HAUL_LIST_EACH(&engine->peers, dialing)
    {
        struct haul_peer *peer = HAUL_CONTAINER_OF(dialing, struct haul_peer, node);
        if (peer->link || peer->closed)
            continue;
        if (now_ns >= peer->redial_at_ns)
            haul_link_dial(peer);
        else
            haul_engine_timer(engine, peer->redial_at_ns);
    }
    haul_stall_watch(engine, now_ns);
    haul_given_sweep(engine, false);
    if (!haul_list_empty(&engine->retired))
        haul_engine_timer(engine, now_ns + HAUL_RETIRED_LOOK_MS * (uint64_t)HAUL_NS_PER_MS);
    if (engine->pool_waiting_since_ns && !engine->pool_wait_logged) {
        uint64_t log_ns = engine->pool_waiting_since_ns + HAUL_HELD_LOG_NS;
        if (now_ns >= log_ns)
            log_pool_wait(engine, now_ns);
        else
            haul_engine_timer(engine, log_ns);
    }
}

static bool progress(void *arg)
{
    struct haul_engine *engine = arg;
    bool worked = progress_transports(engine);
    worked |= haul_fetch_schedule(engine);
    worked |= pump_links(engine);
    run_timers(engine);
    haul_links_reap(engine);
    return worked;
}

static uint64_t deadline_ns(void *arg)
{
    struct haul_engine *engine = arg;
    uint64_t until = engine->timer_ns;
    for (unsigned i = 0; i < engine->transport_count; i++) {
        struct haul_transport *transport = &engine->transports[i];
        const struct haul_provider *provider = transport->provider;
        if (transport->channel && provider->channel->deadline_ns)
            until = HAUL_MIN(until, provider->channel->deadline_ns(transport->channel));
        if (transport->rma && provider->rma->deadline_ns)
            until = HAUL_MIN(until, provider->rma->deadline_ns(transport->rma));
    }
    return until;
}

static void settled(void *arg)
{
    struct haul_engine *engine = arg;
    bool ops = engine->finished_ops > 0 || engine->closing;
    haul_level_set(&engine->any_level, engine->queued_messages > 0 || ops);
    haul_level_set(&engine->ops_level, ops);
}

void haul_engine_timer(struct haul_engine *engine, uint64_t when_ns)
{
    if (when_ns < engine->timer_ns) {
        engine->timer_ns = when_ns;
        if (engine->drive.asleep)
            haul_drive_wake(&engine->drive);
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void pool_released(void *arg)
{
    struct haul_engine *engine = arg;
    atomic_store(&engine->pool_released, true);
}

static void transport_unregistered(struct haul_transport *transport)
{
    if (!*transport->unregistered)
        haul_log(HAUL_LOG_INFO, "%s: %s", transport->name, haul_error_detail());
    haul_copy_text(transport->unregistered, sizeof transport->unregistered, haul_error_detail());
}

/* A slab that cannot be registered is for the channel only, unless that is not what is wanted. */
static int slab_mapped(struct haul_slab *slab, struct haul_engine *engine, unsigned access)
{
    void **regions = haul_slab_regions(slab);
    for (unsigned i = 0; i < engine->transport_count; i++) {
        struct haul_transport *transport = &engine->transports[i];
        if (!transport->rma)
            continue;
        int err = transport->provider->rma->reg(transport->rma, haul_slab_base(slab),
                                                haul_slab_bytes(slab), access, haul_slab_file(slab),
                                                &regions[transport->slot]);
        if (err && engine->rma_required)
            return err;
        if (err)
            transport_unregistered(transport);
        else
            engine->stats.registrations++;
    }
    return 0;
}

static int receive_slab_mapped(struct haul_slab *slab, void *arg)
{
    haul_site_check(arg, slab);
    return slab_mapped(slab, arg, HAUL_RMA_LAND);
}

static int offer_slab_mapped(struct haul_slab *slab, void *arg)
{
    haul_slab_share(slab);
    haul_site_check(arg, slab);
    return slab_mapped(slab, arg, HAUL_RMA_OFFER);
}

static void slab_unmapping(struct haul_slab *slab, void *arg)
{
    struct haul_engine *engine = arg;
    void **regions = haul_slab_regions(slab);
    for (unsigned i = 0; i < engine->transport_count; i++) {
        struct haul_transport *transport = &engine->transports[i];
        if (transport->rma && regions[transport->slot])
            transport->provider->rma->dereg(regions[transport->slot]);
        regions[transport->slot] = NULL;
    }
}

static bool wants_files(const struct haul_engine *engine)
{
    for (unsigned i = 0; i < engine->transport_count; i++)
        if (engine->transports[i].rma &&
            engine->transports[i].provider->rma->flags & HAUL_RMA_FILES)
            return true;
    return false;
}

static int open_pools(struct haul_engine *engine)
{
    struct haul_pool_hooks receive = {
        .mapped = receive_slab_mapped,
        .unmapping = slab_unmapping,
        .arg = engine,
        .wish = &engine->site.memory,
    };
    struct haul_pool_hooks offer = receive;
    offer.mapped = offer_slab_mapped;
    offer.files = wants_files(engine);
    int err = haul_pool_create(engine->config.pool_max, &receive, &engine->pool);
    if (!err)
        err = haul_pool_create(engine->config.pool_max, &offer, &engine->offers);
    if (!err)
        haul_pool_notify(engine->pool, pool_released, engine);
    return err;
}

static int prove(struct haul_pool *pool)
{
    struct haul_block *block;
    int err = haul_pool_alloc(pool, 1, HAUL_POOL_RESERVED, &block);
    if (!err)
        haul_block_release(block);
    return err;
}

/* Who insists on rma, or on reserved huge pages, hears now that no memory can be registered or had,
 * and not when somebody connects, or only at the sender's. */
static int prove_memory(struct haul_engine *engine)
{
    int err = engine->rma_required ? prove(engine->offers) : 0;
    if (!err && engine->site.memory.hugepages == HAUL_HUGEPAGES_REQUIRE)
        err = prove(engine->pool);
    return err;
}

static void init_lists(struct haul_engine *engine)
{
    struct haul_list *lists[] = {&engine->servers,       &engine->links,      &engine->lost,
                                 &engine->peers,         &engine->sending,    &engine->fetching,
                                 &engine->reading,       &engine->free_reads, &engine->free_ops,
                                 &engine->free_messages, &engine->registered, &engine->retired};
    for (size_t i = 0; i < HAUL_COUNT_OF(lists); i++)
        haul_list_init(lists[i]);
}

/* Who shuts down may be asked whether it is interrupted, and shut down again in its answer. */
static void init_recursive(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void suit_drive_to_channel(struct haul_engine *engine)
{
    enum { CPUS_BESIDE_THREADS = 4 }; /* fewer, and a spin takes those threads' CPU */
    uint32_t flags = engine->transports[0].provider->channel->flags;
    engine->drive.looks = flags & HAUL_CHANNEL_LOOKS;
    if (flags & HAUL_CHANNEL_THREADS && haul_cpu_limit() < CPUS_BESIDE_THREADS)
        engine->drive.spin_max_ns = 0;
}

int haul_engine_create(struct haul_options *options, struct haul_engine **engine)
{
    struct haul_engine *made = calloc(1, sizeof *made);
    if (!made) {
        haul_options_destroy(options);
        return haul_fail(HAUL_NO_MEMORY, "no memory for a context");
    }
    atomic_init(&made->references, 1);
    made->options = options;
    init_recursive(&made->shutdown_lock);
    made->any_level = made->ops_level = haul_level_none();
    made->timer_ns = UINT64_MAX;
    init_lists(made);
    int err = haul_config_from_options(options, &made->config);
    if (!err) {
        haul_log_level_set((enum haul_log_level)made->config.log_level);
        const struct haul_drive_work work = {progress, deadline_ns, settled, made};
        err = haul_drive_init(&made->drive, &work, made->config.spin_us * HAUL_NS_PER_US);
        made->drive_ready = !err;
    }
    if (!err) {
        haul_drive_enter(&made->drive);
        err = haul_site_open(made);
        if (!err)
            err = haul_transports_open(made);
        if (!err)
            err = haul_options_check_names(made->options);
        if (!err)
            err = haul_site_opened(made);
        if (!err)
            err = open_pools(made);
        if (!err)
            err = prove_memory(made);
        if (!err)
            suit_drive_to_channel(made);
        haul_options_warn_environment(made->options);
        haul_drive_leave(&made->drive);
        register_engine(made);
        if (err)
            haul_engine_shutdown(made);
    }
    if (err) {
        haul_engine_release(made);
        return err;
    }
    *engine = made;
    return 0;
}

void haul_engine_retain(struct haul_engine *engine)
{
    atomic_fetch_add(&engine->references, 1);
}

void haul_engine_release(struct haul_engine *engine)
{
    if (atomic_fetch_sub(&engine->references, 1) != 1)
        return;
    unregister_engine(engine); /* not before: a child has none of the threads that providers end */
    while (!haul_list_empty(&engine->free_ops))
        haul_op_destroy(HAUL_CONTAINER_OF(haul_list_pop(&engine->free_ops), struct haul_op, node));
    while (!haul_list_empty(&engine->free_messages))
        haul_message_destroy(
            HAUL_CONTAINER_OF(haul_list_pop(&engine->free_messages), struct haul_message, node));
    haul_reads_free(engine);
    haul_level_close(&engine->any_level);
    haul_level_close(&engine->ops_level);
    haul_transports_close(engine); /* not before the last lent frame is back */
    if (engine->drive_ready)
        haul_drive_destroy(&engine->drive);
    haul_site_close(engine);
    haul_config_clear(&engine->config);
    haul_options_destroy(engine->options);
    pthread_mutex_destroy(&engine->shutdown_lock);
    free(engine);
}

/* Everything is closed and no thread waits; what is left are handles. */
void haul_engine_shutdown(struct haul_engine *engine)
{
    haul_drive_stop(&engine->drive);
    haul_drive_enter(&engine->drive);
    haul_transports_stop(engine);
    if (engine->pool)
        haul_pool_notify(engine->pool, NULL, NULL);
    if (engine->pool)
        haul_pool_release(engine->pool);
    haul_given_sweep(engine, true);
    if (engine->offers)
        haul_pool_release(engine->offers);
    settled(engine); /* readable: collecting says that it is closed */
    haul_drive_leave(&engine->drive);
}

int haul_engine_enter(struct haul_engine *engine)
{
    if (engine->inherited)
        return haul_fail(HAUL_FORKED,
                         "it was made before fork() and belongs to the parent process; "
                         "open a context of its own in the child");
    haul_drive_enter(&engine->drive);
    return 0;
}

int haul_engine_enter_open(struct haul_engine *engine)
{
    int err = haul_engine_enter(engine);
    if (err || !engine->closing)
        return err;
    haul_engine_leave(engine);
    return haul_fail(HAUL_CLOSED, "the context was closed");
}

void haul_engine_leave(struct haul_engine *engine)
{
    haul_drive_leave(&engine->drive);
}

int haul_engine_alloc(struct haul_engine *engine, size_t bytes, struct haul_block **block)
{
    if (engine->drive.closed)
        return haul_fail(HAUL_CLOSED, "the context was closed");
    return haul_pool_alloc(engine->offers, bytes, 0, block);
}
