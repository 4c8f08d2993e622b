/* SPDX-License-Identifier: Apache-2.0
 * The table of functions that core offers to providers: each hands an event to the file it is for.
 */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "rail.h"
#include "receiving.h"
#include "sending.h"
#include "thread.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void host_log(enum haul_log_level level, const char *format, ...)
{
    char line[HAUL_DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    haul_log(level, "%s", line);
}

static int host_fail(int err, const char *format, ...)
{
    char detail[HAUL_DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return haul_fail_with(err, detail);
}

static uint64_t host_now_ns(void)
{
    return haul_now_ns();
}

static void host_wake(struct haul_engine *engine)
{
    haul_drive_wake(&engine->drive);
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    return haul_options_get(engine->options, name);
}

static int host_watch(struct haul_engine *engine, int fd, uint32_t events,
                      void (*ready)(void *arg, uint32_t events), void *arg,
                      struct haul_watch **watch)
{
    return haul_drive_watch(&engine->drive, fd, events, ready, arg, watch);
}

static struct haul_link *host_accepted(struct haul_listener *listener, void *conn,
                                       const char *address)
{
    struct haul_server *server = listener->server;
    if (!server)
        return NULL;
    struct haul_peer *peer = haul_peer_create(server->engine, address);
    struct haul_link *link = peer ? haul_link_create(server->engine, peer, &server->inbox) : NULL;
    if (peer)
        haul_peer_unreference(peer); /* the link has it */
    if (!link)
        return NULL;
    link->server = server;
    link->conn = conn;
    link->state = HAUL_LINK_GREETING;
    haul_site_connected(link);
    haul_engine_timer(server->engine, link->since_ns);
    return link;
}

static void host_connected(struct haul_link *link)
{
    if (link->state != HAUL_LINK_DIALING)
        return;
    link->state = HAUL_LINK_GREETING;
    link->since_ns = link->heard_ns = haul_now_ns();
    haul_site_connected(link);
    int err = haul_handshake_start(link);
    if (err)
        haul_link_lose(link, err, "%s", haul_error_detail());
}

static void host_lost(struct haul_link *link, int err, const char *why)
{
    haul_link_lose(link, err, "%s: %s", link->peer->address, why);
}

static int host_check(struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    return haul_link_check(link, prefix);
}

static int host_frame(struct haul_link *link, const void *header, size_t header_bytes)
{
    return haul_link_frame(link, header, header_bytes);
}

static const char *host_link_host(struct haul_link *link, char host[HAUL_HOST_MAX])
{
    const struct haul_channel_ops *ops = link->transport->provider->channel;
    host[0] = '\0';
    return ops->host ? ops->host(link->conn, host) : host;
}

static void host_sent(struct haul_link *link, void *cookie)
{
    (void)link;
    haul_op_sent(cookie);
}

static void host_writable(struct haul_link *link)
{
    link->channel_busy = false;
    haul_transmit_pump(link);
}

const struct haul_host haul_host = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof haul_host,
    .log = host_log,
    .fail = host_fail,
    .now_ns = host_now_ns,
    .wake = host_wake,
    .setting = host_setting,
    .choose_nics = haul_rails_choose,
    .near_nics = haul_rails_near,
    .thread_start = haul_rails_thread_start,
    .thread_join = haul_thread_join,
    .watch = host_watch,
    .watch_change = haul_drive_watch_change,
    .unwatch = haul_drive_unwatch,
    .accepted = host_accepted,
    .connected = host_connected,
    .lost = host_lost,
    .check = host_check,
    .frame = host_frame,
    .target = haul_inbound_target,
    .received = haul_inbound_received,
    .lend = haul_inbound_lend,
    .sent = host_sent,
    .writable = host_writable,
    .link_host = host_link_host,
    .read_done = haul_reads_done,
};
