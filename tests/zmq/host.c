/* SPDX-License-Identifier: Apache-2.0
 * See host.h. */
#include "host.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEADLINE_NS (60 * (uint64_t)1000000000)

static struct haul_link *links;

static struct haul_link *link_create(struct haul_engine *engine)
{
    struct haul_link *link = calloc(1, sizeof *link);
    assert_non_null(link);
    link->engine = engine;
    link->next = links;
    links = link;
    return link;
}

/* ---- Host functions ------------------------------------------------------------------------- */

static void host_wake(struct haul_engine *engine)
{
    uint64_t one = 1;
    (void)!write(engine->wake_fd, &one, sizeof one);
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    const struct setting settings[] = {
        {"zmq_io_threads", engine->io_threads}, {"zmq_keep_memory", engine->keep_memory}, {0}};
    return host_find_setting(settings, name);
}

static int host_watch(struct haul_engine *engine, int fd, uint32_t events,
                      void (*ready)(void *arg, uint32_t events), void *arg,
                      struct haul_watch **watch)
{
    return host_watches_add(&engine->watches, fd, events, ready, arg, watch);
}

static struct haul_link *host_accepted(struct haul_listener *listener, void *conn,
                                       const char *address)
{
    if (listener->refuse)
        return NULL;
    assert_in_range(listener->link_count, 0, LINKS_MAX - 1);
    struct haul_link *link = link_create(listener->engine);
    link->conn = conn;
    link->connected = true;
    snprintf(link->address, sizeof link->address, "%s", address);
    listener->links[listener->link_count++] = link;
    return link;
}

static void host_connected(struct haul_link *link)
{
    assert_false(link->connected || link->lost);
    link->connected = true;
}

static void host_lost(struct haul_link *link, int err, const char *why)
{
    assert_false(link->lost);
    link->lost = true;
    link->lost_err = err;
    snprintf(link->why, sizeof link->why, "%s", why);
}

static int host_check(struct haul_link *link, const uint8_t *prefix)
{
    assert_false(link->lost);
    assert_non_null(prefix);
    return 0;
}

static int host_frame(struct haul_link *link, const void *header, size_t header_bytes)
{
    assert_false(link->lost);
    assert_in_range(link->frame_count, 0, FRAMES_MAX - 1);
    if (link->refuse)
        return HAUL_PROTOCOL;
    struct frame *frame = &link->frames[link->frame_count++];
    frame->header = malloc(header_bytes);
    memcpy(frame->header, header, header_bytes);
    frame->header_bytes = header_bytes;
    return 0;
}

static size_t host_target(struct haul_link *link, struct iovec *segments, size_t max)
{
    (void)link;
    (void)segments;
    (void)max;
    fail_msg("a channel with parts asked for a target");
    return 0;
}

static int host_received(struct haul_link *link, size_t n)
{
    (void)link;
    fail_msg("a channel with parts received %zu bytes", n);
    return 0;
}

static int host_lend(struct haul_link *link, void *data, size_t bytes, void *token)
{
    struct frame *frame = &link->frames[link->frame_count - 1];
    frame->parts = realloc(frame->parts, (frame->part_count + 1) * sizeof *frame->parts);
    frame->parts[frame->part_count++] = (struct part){data, bytes, token};
    frame->payload_bytes += bytes;
    return 0;
}

static void host_sent(struct haul_link *link, void *cookie)
{
    size_t number = (size_t)cookie;
    assert_in_range(number, 0, COOKIES_MAX - 1);
    link->sent[number]++;
}

static void host_writable(struct haul_link *link)
{
    link->writable++;
}

static const struct haul_host host = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof host,
    .log = host_log,
    .fail = host_fail,
    .now_ns = host_real_ns,
    .wake = host_wake,
    .setting = host_setting,
    .watch = host_watch,
    .watch_change = host_watch_change,
    .unwatch = host_unwatch,
    .accepted = host_accepted,
    .connected = host_connected,
    .lost = host_lost,
    .check = host_check,
    .frame = host_frame,
    .target = host_target,
    .received = host_received,
    .lend = host_lend,
    .sent = host_sent,
    .writable = host_writable,
};

/* ---- The loop ------------------------------------------------------------------------------- */

const struct haul_provider *load_provider(void)
{
    static const struct haul_provider *provider;
    if (provider)
        return provider;
    haul_provider_entry_fn *entry = host_load_plugin("zmq");
    assert_non_null(entry);
    provider = entry(&host);
    assert_non_null(provider);
    return provider;
}

static void woken(void *arg, uint32_t events)
{
    const struct haul_engine *engine = arg;
    uint64_t value;
    (void)events;
    (void)!read(engine->wake_fd, &value, sizeof value);
}

static void close_loop(struct haul_engine *engine)
{
    host_unwatch(engine->wake);
    host_watches_close(&engine->watches);
    close(engine->wake_fd);
}

int engine_open(struct haul_engine *engine, const char *io_threads, const char *keep_memory)
{
    *engine = (struct haul_engine){.ops = load_provider()->channel,
                                   .io_threads = io_threads,
                                   .keep_memory = keep_memory,
                                   .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    host_watches_open(&engine->watches);
    host_watches_add(&engine->watches, engine->wake_fd, EPOLLIN, woken, engine, &engine->wake);
    int err = engine->ops->open(engine, &engine->channel);
    if (err)
        close_loop(engine);
    return err;
}

void engine_close(struct haul_engine *engine)
{
    for (struct haul_link *link = links; link; link = link->next)
        if (link->engine == engine)
            hang_up(link, false);
    engine->ops->close(engine->channel);
    close_loop(engine);
}

/* One pass, which may sleep for at most `ms`. Returns whether anything happened. */
static bool pass(struct haul_engine *engine, int ms)
{
    bool worked = engine->ops->progress(engine->channel);
    uint64_t due_ns = engine->ops->deadline_ns(engine->channel), now = host_real_ns();
    if (worked)
        ms = 0;
    else if (due_ns != UINT64_MAX && due_ns < now + (uint64_t)ms * 1000000u)
        ms = due_ns <= now ? 0 : (int)((due_ns - now) / 1000000u) + 1;
    return host_watches_run(&engine->watches, ms) || worked;
}

void run_until(struct haul_engine *engine, bool (*condition)(void *arg), void *arg)
{
    uint64_t end_ns = host_real_ns() + DEADLINE_NS;
    while (!condition(arg)) {
        if (host_real_ns() > end_ns)
            fail_msg("what was waited for did not come");
        pass(engine, 1000);
    }
}

/* ---- Addresses and links -------------------------------------------------------------------- */

static struct haul_address parse(const char *text)
{
    struct haul_address address = {0};
    snprintf(address.text, sizeof address.text, "%s", text);
    if (strncmp(text, "unix:", 5) == 0) {
        snprintf(address.unix_path, sizeof address.unix_path, "%s", text + 5);
        return address;
    }
    const char *colon = strrchr(text, ':');
    assert_non_null(colon);
    bool brackets = text[0] == '[';
    snprintf(address.host, sizeof address.host, "%.*s", (int)(colon - text) - (brackets ? 2 : 0),
             text + brackets);
    snprintf(address.service, sizeof address.service, "%s", colon + 1);
    return address;
}

int listen_at(struct haul_engine *engine, const char *text, struct haul_listener *listener,
              void **handle, void **route)
{
    struct haul_address address = parse(text);
    *listener = (struct haul_listener){.engine = engine};
    int err = engine->ops->resolve(engine->channel, &address, true, route);
    if (err)
        return err;
    err = engine->ops->listen(engine->channel, *route, listener, handle, engine->bound,
                              sizeof engine->bound);
    if (err)
        engine->ops->route_free(*route);
    return err;
}

static bool is_decided(void *arg)
{
    const struct haul_link *link = arg;
    return link->connected || link->lost;
}

struct haul_link *dial(struct haul_engine *engine, const char *text)
{
    struct haul_address address = parse(text);
    struct haul_link *link = link_create(engine);
    assert_int_equal(engine->ops->resolve(engine->channel, &address, false, &link->route), 0);
    assert_int_equal(engine->ops->connect(engine->channel, link->route, link, &link->conn), 0);
    run_until(engine, is_decided, link);
    return link;
}

void hang_up(struct haul_link *link, bool flush)
{
    if (link->conn)
        link->engine->ops->disconnect(link->conn, flush);
    link->conn = NULL;
}

void give_back_all(struct haul_link *link)
{
    for (size_t i = 0; i < link->frame_count; i++)
        for (size_t p = 0; p < link->frames[i].part_count; p++) {
            struct part *part = &link->frames[i].parts[p];
            if (part->token)
                load_provider()->channel->give_back(NULL, part->token);
            part->token = NULL;
        }
}

void links_free(void)
{
    while (links) {
        struct haul_link *link = links;
        links = link->next;
        give_back_all(link);
        for (size_t i = 0; i < link->frame_count; i++) {
            free(link->frames[i].header);
            free(link->frames[i].parts);
        }
        load_provider()->channel->route_free(link->route);
        free(link);
    }
}

/* ---- Frames --------------------------------------------------------------------------------- */

void make_header(uint8_t *to, uint8_t type, uint32_t body_bytes, uint64_t payload_bytes,
                 uint8_t tag)
{
    memset(to, 0, HAUL_PREFIX_BYTES);
    to[0] = type;
    for (int i = 0; i < 4; i++)
        to[4 + i] = (uint8_t)(body_bytes >> 8 * i);
    for (int i = 0; i < 8; i++)
        to[8 + i] = (uint8_t)(payload_bytes >> 8 * i);
    memset(to + HAUL_PREFIX_BYTES, tag, body_bytes);
}

int send_frame(struct haul_link *link, uint8_t type, size_t body_bytes, uint8_t tag,
               const struct iovec *payload, size_t count, size_t cookie)
{
    uint8_t header[HAUL_PREFIX_BYTES + 1024];
    uint64_t payload_bytes = 0;
    assert_in_range(body_bytes, 0, 1024);
    for (size_t i = 0; i < count; i++)
        payload_bytes += payload[i].iov_len;
    make_header(header, type, (uint32_t)body_bytes, payload_bytes, tag);
    return link->engine->ops->send(link->conn, header, HAUL_PREFIX_BYTES + body_bytes, payload,
                                   count, (void *)cookie);
}
