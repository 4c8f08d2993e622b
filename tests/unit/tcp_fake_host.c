/* SPDX-License-Identifier: Apache-2.0
 * See tcp_fake_host.h. */
#include "tcp_fake_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern haul_provider_entry_fn haul_tcp_entry;

enum { DRIVE_SECONDS_MAX = 300 };

uint64_t fake_clock_ns, fake_clock_stopped_ns;

/* ---- The host's functions: process ---------------------------------------------------------- */

static uint64_t host_now_ns(void)
{
    return (fake_clock_stopped_ns ? fake_clock_stopped_ns : host_real_ns()) + fake_clock_ns;
}

static void host_wake(struct haul_engine *engine)
{
    engine->woken++;
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    return strcmp(name, "heartbeat") == 0 ? engine->heartbeat : NULL;
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

static int host_watch(struct haul_engine *engine, int fd, uint32_t events,
                      void (*ready)(void *arg, uint32_t events), void *arg,
                      struct haul_watch **watch)
{
    if (engine->watch_errno == 0)
        return host_watches_add(&engine->watches, fd, events, ready, arg, watch);
    errno = engine->watch_errno;
    return host_fail(HAUL_SYSTEM, "no descriptor can be watched");
}

bool fake_pass(struct haul_engine *engine)
{
    bool called = host_watches_run(&engine->watches, 0);
    return engine->ops->progress(engine->channel) || called;
}

/* Until a descriptor is ready or a timer is due; at most 100 ms, for conditions of other kinds. */
static void wait_for_events(struct haul_engine *a, struct haul_engine *b)
{
    struct pollfd fds[] = {{.fd = a->watches.epoll_fd, .events = POLLIN},
                           {.fd = b ? b->watches.epoll_fd : -1, .events = POLLIN}};
    uint64_t due_ns = a->ops->deadline_ns(a->channel);
    uint64_t now_ns = host_now_ns();
    if (b && b->ops->deadline_ns(b->channel) < due_ns)
        due_ns = b->ops->deadline_ns(b->channel);
    uint64_t wait_ms = due_ns > now_ns ? (due_ns - now_ns) / 1000000 + 1 : 0;
    poll(fds, 2, wait_ms < 100 ? (int)wait_ms : 100);
}

void fake_drive(struct haul_engine *a, struct haul_engine *b, bool (*done)(void *arg), void *arg)
{
    uint64_t end_ns = host_real_ns() + DRIVE_SECONDS_MAX * (uint64_t)1000000000;
    while (!done(arg)) {
        bool worked = fake_pass(a);
        worked |= b && fake_pass(b);
        if (!worked && !done(arg))
            wait_for_events(a, b);
        assert_true(host_real_ns() < end_ns);
    }
}

void fake_settle(struct haul_engine *engine)
{
    while (fake_pass(engine))
        continue;
}

/* ---- Connections ---------------------------------------------------------------------------- */

static struct haul_link *host_accepted(struct haul_listener *listener, void *conn,
                                       const char *address)
{
    struct haul_engine *engine = listener->engine;
    if (engine->refuses_links)
        return NULL;
    struct haul_link *link = calloc(1, sizeof *link);
    assert_non_null(link);
    assert_true(engine->accepted_count < FAKE_LINKS_MAX);
    link->engine = engine;
    link->conn = conn;
    link->connected = 1;
    link->refusal = engine->refusal;
    snprintf(link->address, sizeof link->address, "%s", address);
    engine->accepted[engine->accepted_count++] = link;
    return link;
}

static void host_connected(struct haul_link *link)
{
    assert_int_equal(link->lost, 0);
    link->connected++;
}

static void host_lost(struct haul_link *link, int err, const char *why)
{
    link->lost++;
    link->lost_err = err;
    snprintf(link->why, sizeof link->why, "%s", why);
    assert_int_equal(link->lost, 1);
    assert_int_equal(link->refused, 0);
}

/* ---- Receiving ------------------------------------------------------------------------------ */

static uint8_t pattern_byte(uint64_t seq, uint64_t at)
{
    return (uint8_t)(seq * 31 + at * 7 + (at >> 8) * 3);
}

void fake_pattern(uint8_t *to, uint64_t seq, uint64_t offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = pattern_byte(seq, offset + i);
}

static void assert_pattern(const uint8_t *data, uint64_t seq, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != pattern_byte(seq, i))
            fail_msg("frame %llu differs at byte %zu", (unsigned long long)seq, i);
}

static int refuse(struct haul_link *link, enum refusal refusal)
{
    assert_int_equal(link->refused, 0);
    assert_int_equal(link->lost, 0);
    if (link->refusal != refusal)
        return 0;
    link->refused++;
    return HAUL_PROTOCOL;
}

static int host_check(struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    (void)prefix;
    assert_false(link->in_payload);
    link->checks++;
    return refuse(link, REFUSE_CHECK);
}

static void frame_is_whole(struct haul_link *link)
{
    link->in_payload = false;
    free(link->payload);
    link->payload = NULL;
    link->frames++;
    if (link->on_frame)
        link->on_frame(link);
}

static int host_frame(struct haul_link *link, const void *header, size_t header_bytes)
{
    const uint8_t *bytes = header;
    assert_false(link->in_payload);
    assert_int_equal(header_bytes, HAUL_PREFIX_BYTES + haul_prefix_body_bytes(bytes));
    assert_int_equal(link->checks, ++link->headers);
    assert_pattern(bytes + HAUL_PREFIX_BYTES, link->frames, header_bytes - HAUL_PREFIX_BYTES);
    link->payload_bytes = haul_prefix_payload_bytes(bytes);
    link->payload_have = 0;
    int err = refuse(link, REFUSE_FRAME);
    if (err)
        return err;
    if (link->payload_bytes == 0) {
        frame_is_whole(link);
        return 0;
    }
    link->in_payload = true;
    link->payload = malloc(link->payload_bytes);
    assert_non_null(link->payload);
    return 0;
}

/* Segments of changing sizes, an empty one among them. */
static size_t host_target(struct haul_link *link, struct iovec *segments, size_t max)
{
    assert_true(link->in_payload);
    uint64_t at = link->payload_have;
    size_t count = 0;
    if (link->refusal == REFUSE_TARGET)
        return 0;
    while (count < max && at < link->payload_bytes) {
        size_t rest = (size_t)(link->payload_bytes - at);
        size_t part = link->segment_max == 0 ? rest : (at * 7 + count) % (link->segment_max + 1);
        if (part == 0 && count == 0)
            part = 1;
        part = part < rest ? part : rest;
        segments[count++] = (struct iovec){.iov_base = link->payload + at, .iov_len = part};
        at += part;
    }
    return count;
}

static int host_received(struct haul_link *link, size_t n)
{
    assert_true(link->in_payload);
    assert_true(n > 0 && n <= link->payload_bytes - link->payload_have);
    link->payload_have += n;
    link->payload_total += n;
    int err = refuse(link, REFUSE_RECEIVED);
    if (err || link->payload_have < link->payload_bytes)
        return err;
    assert_pattern(link->payload, link->frames, (size_t)link->payload_bytes);
    frame_is_whole(link);
    return 0;
}

/* ---- Sending -------------------------------------------------------------------------------- */

void fake_parcel_free(struct parcel *parcel)
{
    free(parcel->segments);
    free(parcel->bytes);
    free(parcel);
}

static void enter(struct haul_link *link, void (*on_call)(struct haul_link *link))
{
    link->depth++;
    if (link->depth > link->depth_max)
        link->depth_max = link->depth;
    if (on_call)
        on_call(link);
    link->depth--;
}

static void host_sent(struct haul_link *link, void *cookie)
{
    struct parcel *parcel = cookie;
    assert_ptr_equal(parcel->link, link);
    fake_parcel_free(parcel);
    link->sent++;
    enter(link, link->on_sent);
}

static void host_writable(struct haul_link *link)
{
    assert_int_equal(link->lost, 0);
    link->writable++;
    enter(link, link->on_writable);
}

uint8_t *fake_frame(uint64_t seq, size_t body_bytes, uint64_t payload_bytes, uint8_t **payload)
{
    uint8_t *header = calloc(1, HAUL_PREFIX_BYTES + body_bytes);
    assert_non_null(header);
    header[0] = 4;
    for (int i = 0; i < 4; i++)
        header[4 + i] = (uint8_t)(body_bytes >> 8 * i);
    for (int i = 0; i < 8; i++)
        header[8 + i] = (uint8_t)(payload_bytes >> 8 * i);
    fake_pattern(header + HAUL_PREFIX_BYTES, seq, 0, body_bytes);
    if (payload_bytes == 0)
        return header;
    *payload = malloc(payload_bytes);
    assert_non_null(*payload);
    fake_pattern(*payload, seq, 0, (size_t)payload_bytes);
    return header;
}

static struct parcel *make_parcel(struct haul_link *link, uint8_t *bytes, size_t size, size_t parts)
{
    struct parcel *parcel = malloc(sizeof *parcel);
    assert_non_null(parcel);
    *parcel = (struct parcel){.link = link, .count = parts, .bytes = bytes};
    parcel->segments = calloc(parts, sizeof *parcel->segments);
    assert_non_null(parcel->segments);
    for (size_t i = 0; i < parts; i++) {
        size_t from = size * i / parts, to = size * (i + 1) / parts;
        parcel->segments[i] = (struct iovec){.iov_base = bytes + from, .iov_len = to - from};
    }
    return parcel;
}

int fake_send(struct haul_link *link, size_t body_bytes, uint64_t payload_bytes, size_t parts,
              struct parcel **lent)
{
    uint8_t *payload = NULL;
    uint8_t *header = fake_frame(link->next_seq, body_bytes, payload_bytes, &payload);
    struct parcel *parcel =
        payload ? make_parcel(link, payload, (size_t)payload_bytes, parts) : NULL;
    if (lent)
        *lent = parcel;
    link->next_seq++; /* before send(): that may call sent(), and that us */
    int err = link->engine->ops->send(link->conn, header, HAUL_PREFIX_BYTES + body_bytes,
                                      parcel ? parcel->segments : NULL, parcel ? parts : 0, parcel);
    free(header);
    if (!err)
        return 0;
    assert_int_equal(err, HAUL_BUSY);
    assert_non_null(parcel);
    link->next_seq--;
    fake_parcel_free(parcel);
    return err;
}

/* ---- The host ------------------------------------------------------------------------------- */

static const struct haul_host host = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof(struct haul_host),
    .log = host_log,
    .fail = host_fail,
    .now_ns = host_now_ns,
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
    .sent = host_sent,
    .writable = host_writable,
};

void fake_open(struct haul_engine *engine)
{
    const struct haul_provider *provider = haul_tcp_entry(&host);
    assert_non_null(provider);
    *engine = (struct haul_engine){.ops = provider->channel, .heartbeat = "20"};
    host_watches_open(&engine->watches);
    assert_int_equal(engine->ops->open(engine, &engine->channel), 0);
}

void fake_close(struct haul_engine *engine)
{
    while (engine->accepted_count > 0)
        fake_disconnect(engine->accepted[0], false);
    engine->ops->close(engine->channel);
    host_watches_close(&engine->watches);
}

struct haul_address fake_address(const char *host_name, const char *service)
{
    struct haul_address address = {0};
    if (host_name) {
        snprintf(address.text, sizeof address.text, strchr(host_name, ':') ? "[%s]:%s" : "%s:%s",
                 host_name, service);
        snprintf(address.host, sizeof address.host, "%s", host_name);
        snprintf(address.service, sizeof address.service, "%s", service);
    } else {
        snprintf(address.text, sizeof address.text, "unix:%s", service);
        snprintf(address.unix_path, sizeof address.unix_path, "%s", service);
    }
    return address;
}

int fake_listen(struct haul_engine *engine, struct haul_listener *listener, const char *host_name,
                const char *service)
{
    struct haul_address address = fake_address(host_name, service);
    *listener = (struct haul_listener){.engine = engine};
    int err = engine->ops->resolve(engine->channel, &address, true, &listener->route);
    if (err)
        return err;
    err = engine->ops->listen(engine->channel, listener->route, listener, &listener->handle,
                              listener->bound, sizeof listener->bound);
    if (err)
        engine->ops->route_free(listener->route);
    return err;
}

void fake_unlisten(struct haul_listener *listener)
{
    listener->engine->ops->unlisten(listener->handle);
    listener->engine->ops->route_free(listener->route);
}

const char *fake_port(const struct haul_listener *listener)
{
    return strrchr(listener->bound, ':') + 1;
}

struct haul_link *fake_connect(struct haul_engine *engine, const char *host_name,
                               const char *service)
{
    struct haul_address address = fake_address(host_name, service);
    struct haul_link *link = calloc(1, sizeof *link);
    assert_non_null(link);
    link->engine = engine;
    assert_int_equal(engine->ops->resolve(engine->channel, &address, false, &link->route), 0);
    assert_int_equal(engine->ops->connect(engine->channel, link->route, link, &link->conn), 0);
    return link;
}

void fake_disconnect(struct haul_link *link, bool flush)
{
    struct haul_engine *engine = link->engine;
    engine->ops->disconnect(link->conn, flush);
    if (link->route)
        engine->ops->route_free(link->route);
    for (unsigned i = 0; i < engine->accepted_count; i++)
        if (engine->accepted[i] == link)
            engine->accepted[i] = engine->accepted[--engine->accepted_count];
    free(link->payload);
    free(link);
}

bool fake_link_ready(void *arg)
{
    const struct haul_link *link = arg;
    return link->connected || link->lost;
}

bool fake_link_lost(void *arg)
{
    return ((const struct haul_link *)arg)->lost > 0;
}

bool fake_has_frames(void *arg)
{
    const struct fake_frames *wanted = arg;
    return wanted->link->frames >= wanted->frames;
}

/* ---- Pairs, sockets, paths ------------------------------------------------------------------ */

static bool pair_is_open(void *arg)
{
    const struct fake_pair *pair = arg;
    return pair->client->connected && pair->b.accepted_count > 0;
}

void fake_pair_open(struct fake_pair *pair, const char *host_name, enum refusal refusal)
{
    char path[FAKE_TEXT_BYTES] = "";
    *pair = (struct fake_pair){0};
    fake_open(&pair->a);
    fake_open(&pair->b);
    pair->b.refusal = refusal;
    if (!host_name)
        fake_path_make(path);
    const char *service = host_name ? "0" : path;
    assert_int_equal(fake_listen(&pair->b, &pair->listener, host_name, service), 0);
    pair->client = fake_connect(&pair->a, host_name, host_name ? fake_port(&pair->listener) : path);
    fake_pair_drive(pair, pair_is_open, pair);
    pair->server = pair->b.accepted[0];
    fake_unlisten(&pair->listener);
    if (!host_name)
        fake_path_remove();
}

void fake_pair_close(struct fake_pair *pair)
{
    fake_disconnect(pair->client, false);
    fake_close(&pair->a);
    fake_close(&pair->b);
}

void fake_pair_drive(struct fake_pair *pair, bool (*done)(void *arg), void *arg)
{
    fake_drive(&pair->a, &pair->b, done, arg);
}

void fake_pair_drive_frames(struct fake_pair *pair, struct haul_link *link, uint64_t frames)
{
    fake_pair_drive(pair, fake_has_frames, &(struct fake_frames){link, frames});
    assert_int_equal(link->frames, frames);
}

int fake_raw_connect(const struct haul_listener *listener)
{
    const char *bound = listener->bound;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr *address = (const struct sockaddr *)&in;
    socklen_t bytes = sizeof in;
    if (strncmp(bound, "unix:", 5) == 0) {
        snprintf(un.sun_path, sizeof un.sun_path, "%s", bound + 5);
        address = (const struct sockaddr *)&un;
        bytes = sizeof un;
    } else {
        in.sin_port = htons((uint16_t)atoi(fake_port(listener)));
    }
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, address, bytes), 0);
    return fd;
}

int fake_raw_listen(char port[8])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    snprintf(port, 8, "%u", ntohs(address.sin_port));
    return fd;
}

bool fake_has_ipv6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

/* The one path that is in use, for the end of a program whose test failed. */
static char present_path[FAKE_TEXT_BYTES];

static void remove_present_path(void)
{
    if (present_path[0] == '\0')
        return;
    unlink(present_path);
    *strrchr(present_path, '/') = '\0';
    rmdir(present_path);
    present_path[0] = '\0';
}

void fake_path_make(char path[FAKE_TEXT_BYTES])
{
    static bool registered;
    if (!registered)
        assert_int_equal(atexit(remove_present_path), 0);
    registered = true;
    remove_present_path();
    const char *folder = getenv("TMPDIR");
    snprintf(path, FAKE_TEXT_BYTES, "%.60s/haul-tcp-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(path));
    strcat(path, "/s");
    strcpy(present_path, path);
}

void fake_path_remove(void)
{
    remove_present_path();
}
