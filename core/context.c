/* SPDX-License-Identifier: Apache-2.0
 * Contexts. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "sending.h"

#include <stdlib.h>

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *haul_version(void)
{
    return VERSION_TEXT(HAUL_VERSION_MAJOR, HAUL_VERSION_MINOR, HAUL_VERSION_PATCH);
}

int haul_open(struct haul_context **context, const struct haul_options *options)
{
    struct haul_options *copy;
    int err = options ? haul_options_copy(options, &copy) : haul_options_create(&copy);
    if (err)
        return err;
    struct haul_context *made = calloc(1, sizeof *made);
    if (!made) {
        haul_options_destroy(copy);
        return haul_fail(HAUL_NO_MEMORY, "no memory for a context");
    }
    err = haul_engine_create(copy, &made->engine);
    if (err) {
        free(made);
        return err;
    }
    *context = made;
    return 0;
}

int haul_context_enter(const struct haul_context *context)
{
    return haul_engine_enter_open(context->engine);
}

/* How long closing waits for small replies to be handed over, and then for last frames to arrive: a
 * channel tries that for a second, and then lets go of what it was lent. Together the 2 s that
 * context.h promises. */
#define REPLIES_NS (750 * (int64_t)HAUL_NS_PER_MS)
#define FAREWELL_NS (1250 * (int64_t)HAUL_NS_PER_MS)

static bool nothing_is_on_its_way(void *arg)
{
    struct haul_engine *engine = arg;
    HAUL_LIST_EACH(&engine->links, node)
    {
        struct haul_link *link = HAUL_CONTAINER_OF(node, struct haul_link, node);
        HAUL_LIST_EACH(&link->open, op)
        if (HAUL_CONTAINER_OF(op, struct haul_op, node)->announcement.in_channel)
            return false;
    }
    return true;
}

/* All memory lent to channels is back, and no channel has a deadline: as long as it has one, last
 * frames of connections that have ended are on their way. */
static bool channels_are_quiet(void *arg)
{
    struct haul_engine *engine = arg;
    if (engine->parcels_out > 0)
        return false;
    for (unsigned i = 0; i < engine->transport_count; i++) {
        const struct haul_transport *transport = &engine->transports[i];
        if (transport->channel && transport->provider->channel->deadline_ns &&
            transport->provider->channel->deadline_ns(transport->channel) != UINT64_MAX)
            return false;
    }
    return true;
}

static bool reads_have_ended(void *arg)
{
    return ((struct haul_engine *)arg)->reads == 0;
}

static void shut_down(struct haul_engine *engine)
{
    if (haul_engine_enter_open(engine))
        return;
    engine->closing = true;
    haul_drive_wait_through(&engine->drive, nothing_is_on_its_way, engine,
                            haul_deadline_ns(REPLIES_NS));
    while (!haul_list_empty(&engine->servers))
        haul_server_shut(HAUL_LIST_FIRST(&engine->servers, struct haul_server, node));
    while (!haul_list_empty(&engine->peers))
        haul_peer_shut(HAUL_LIST_FIRST(&engine->peers, struct haul_peer, node),
                       "the context was closed");
    while (!haul_list_empty(&engine->links))
        haul_link_bye(HAUL_LIST_FIRST(&engine->links, struct haul_link, node), HAUL_CLOSED,
                      "the context was closed");
    haul_links_reap(engine);
    haul_drive_wait_through(&engine->drive, channels_are_quiet, engine,
                            haul_deadline_ns(FAREWELL_NS));
    /* Their links are fenced, which ends them. Nothing else may: memory would be given back under
     * them. */
    haul_drive_wait_always(&engine->drive, reads_have_ended, engine);
    haul_drive_close(&engine->drive);
    haul_drive_leave(&engine->drive);
    haul_engine_shutdown(engine);
}

/* Who comes second waits for the first: after it memory is back, and the context may be freed. */
void haul_context_shutdown(struct haul_context *context)
{
    struct haul_engine *engine = context->engine;
    if (engine->inherited)
        return;
    haul_engine_retain(engine);
    pthread_mutex_lock(&engine->shutdown_lock);
    shut_down(engine);
    pthread_mutex_unlock(&engine->shutdown_lock);
    haul_engine_release(engine);
}

void haul_close(struct haul_context *context)
{
    if (!context)
        return;
    struct haul_engine *engine = context->engine;
    haul_context_shutdown(context);
    free(context);
    if (!engine->inherited)
        haul_engine_release(engine);
}

static void watch_inboxes(struct haul_engine *engine)
{
    engine->any_level_asked = true;
    HAUL_LIST_EACH(&engine->servers, server)
    haul_inbox_watched(&HAUL_CONTAINER_OF(server, struct haul_server, node)->inbox);
    HAUL_LIST_EACH(&engine->peers, peer)
    haul_inbox_watched(&HAUL_CONTAINER_OF(peer, struct haul_peer, node)->inbox);
}

static int level_fd(struct haul_context *context, struct haul_level *level)
{
    struct haul_engine *engine = context->engine;
    int fd = haul_context_enter(context);
    if (fd)
        return fd;
    fd = haul_level_fd(level, false);
    if (level == &engine->any_level)
        watch_inboxes(engine);
    haul_engine_changed(engine); /* settled() raises it */
    haul_engine_leave(engine);
    return fd;
}

int haul_context_fd(struct haul_context *context)
{
    return level_fd(context, &context->engine->any_level);
}

int haul_context_ops_fd(struct haul_context *context)
{
    return level_fd(context, &context->engine->ops_level);
}

void haul_context_interrupt(struct haul_context *context, bool (*interrupted)(void *arg), void *arg)
{
    struct haul_engine *engine = context->engine;
    if (haul_context_enter(context))
        return;
    haul_drive_interrupt(&engine->drive, interrupted, arg);
    haul_engine_leave(engine);
}

void haul_context_stats(struct haul_context *context, struct haul_stats *stats)
{
    struct haul_engine *engine = context->engine;
    *stats = (struct haul_stats){0};
    if (haul_context_enter(context))
        return;
    *stats = engine->stats;
    stats->pool_bytes =
        haul_pool_mapped_bytes(engine->pool) + haul_pool_mapped_bytes(engine->offers);
    stats->pool_used_bytes =
        haul_pool_used_bytes(engine->pool) + haul_pool_used_bytes(engine->offers);
    haul_engine_leave(engine);
}

size_t haul_context_rails(struct haul_context *context, struct haul_rail_stats *rails, size_t max)
{
    struct haul_engine *engine = context->engine;
    size_t count = 0;
    if (haul_context_enter(context))
        return 0;
    for (unsigned i = 0; i < engine->transport_count; i++) {
        const struct haul_transport *transport = &engine->transports[i];
        size_t left = max - HAUL_MIN(count, max);
        if (transport->rma && transport->provider->rma->rails)
            count += transport->provider->rma->rails(transport->rma, rails + (max - left), left);
    }
    haul_engine_leave(engine);
    return count;
}
