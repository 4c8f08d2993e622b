/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the receiving side of the provider tcp: any bytes, written in any pieces. What it delivers
 * must be the bytes that were written, cut into frames as their prefixes say. */
#include "providers/tcp/tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum {
    INPUT_MAX = 96 << 10,    /* less than a socket takes at once */
    BODY_MAX = 64 << 10,     /* larger ones are refused, as core does */
    PAYLOAD_ROOM = 64 << 10, /* named by target() beyond the input's end */
    SEGMENT_COUNT_MAX = 64,
};

extern haul_provider_entry_fn haul_tcp_entry;

struct haul_watch {
    void (*ready)(void *arg, uint32_t events);
    void *arg;
};

static struct haul_watch watched;
static bool is_watched;

struct haul_link {
    const uint8_t *input; /* what is written */
    size_t input_bytes;
    size_t taken;          /* bytes delivered */
    uint64_t payload_left; /* of the present frame */
    bool over;             /* refused or lost: nothing may come any more */
    size_t segment_max;
    uint8_t payload[PAYLOAD_ROOM];
    size_t payload_first; /* where the next payload byte is in it */
};

#define REQUIRE(condition)                                                          \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* ---- The host ------------------------------------------------------------------------------- */

static void host_log(enum haul_log_level level, const char *format, ...)
{
    (void)level;
    (void)format;
}

static int host_fail(int err, const char *format, ...)
{
    (void)format;
    return err;
}

static uint64_t host_now_ns(void)
{
    return 1;
}

static void host_wake(struct haul_engine *engine)
{
    (void)engine;
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    (void)engine;
    (void)name;
    return NULL;
}

static int host_watch(struct haul_engine *engine, int fd, uint32_t events,
                      void (*ready)(void *arg, uint32_t events), void *arg,
                      struct haul_watch **watch)
{
    (void)engine;
    (void)fd;
    (void)events;
    watched = (struct haul_watch){.ready = ready, .arg = arg};
    is_watched = true;
    *watch = &watched;
    return 0;
}

static int host_watch_change(struct haul_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    return 0;
}

static void host_unwatch(struct haul_watch *watch)
{
    (void)watch;
    is_watched = false;
}

static void host_lost(struct haul_link *link, int err, const char *why)
{
    REQUIRE(!link->over);
    REQUIRE(err == HAUL_PEER_LOST);
    REQUIRE(strlen(why) > 0);
    link->over = true;
}

/* The next `bytes` bytes that were written were delivered as `data`. */
static void take(struct haul_link *link, const void *data, size_t bytes)
{
    REQUIRE(bytes <= link->input_bytes - link->taken);
    REQUIRE(memcmp(link->input + link->taken, data, bytes) == 0);
    link->taken += bytes;
}

/* How many bytes of the prefix are those that were written; the rest may be on its way. */
static size_t bytes_that_came(const struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    size_t n = 0, left = link->input_bytes - link->taken;
    while (n < HAUL_PREFIX_BYTES && n < left && prefix[n] == link->input[link->taken + n])
        n++;
    return n;
}

static int host_check(struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    REQUIRE(!link->over);
    REQUIRE(link->payload_left == 0);
    size_t came = bytes_that_came(link, prefix);
    if (prefix[0] > HAUL_PREFIX_TYPE_MAX) { /* a stranger: zeros stand for what has not come */
        REQUIRE(came > 0);
        for (size_t i = came; i < HAUL_PREFIX_BYTES; i++)
            REQUIRE(prefix[i] == 0);
        link->over = true;
    } else {
        REQUIRE(came == HAUL_PREFIX_BYTES);
        link->over = haul_prefix_body_bytes(prefix) > BODY_MAX;
    }
    return link->over ? HAUL_PROTOCOL : 0;
}

/* Types 62 and 63 are refused. */
static int host_frame(struct haul_link *link, const void *header, size_t header_bytes)
{
    const uint8_t *prefix = header;
    REQUIRE(!link->over);
    REQUIRE(header_bytes == HAUL_PREFIX_BYTES + haul_prefix_body_bytes(prefix));
    take(link, header, header_bytes);
    link->payload_left = haul_prefix_payload_bytes(prefix);
    link->over = prefix[0] >= 62;
    return link->over ? HAUL_PROTOCOL : 0;
}

static size_t host_target(struct haul_link *link, struct iovec *segments, size_t max)
{
    REQUIRE(!link->over && link->payload_left > 0);
    size_t count = 0, at = 0;
    link->payload_first = 0;
    while (count < max && count < SEGMENT_COUNT_MAX && at < sizeof link->payload &&
           at < link->payload_left) {
        size_t part = link->segment_max + count;
        part = part < sizeof link->payload - at ? part : sizeof link->payload - at;
        part = part < link->payload_left - at ? part : (size_t)(link->payload_left - at);
        segments[count++] = (struct iovec){.iov_base = link->payload + at, .iov_len = part};
        at += part;
    }
    return count;
}

static int host_received(struct haul_link *link, size_t n)
{
    REQUIRE(!link->over && n > 0 && n <= link->payload_left);
    take(link, link->payload, n);
    link->payload_left -= n;
    return 0;
}

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
    .lost = host_lost,
    .check = host_check,
    .frame = host_frame,
    .target = host_target,
    .received = host_received,
};

/* ---- One input ------------------------------------------------------------------------------ */

static void *channel;

static void start(void)
{
    const struct haul_provider *provider = haul_tcp_entry(&host);
    REQUIRE(provider->channel->open(NULL, &channel) == 0);
}

static struct haul_tcp_conn *make_conn(struct haul_link *link, int fds[2])
{
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    struct haul_tcp_conn *conn = haul_tcp_conn_create(channel, link);
    REQUIRE(conn != NULL);
    REQUIRE(haul_tcp_conn_adopt(conn, fds[0], EPOLLIN) == 0);
    conn->state = HAUL_TCP_OPEN;
    return conn;
}

static void feed(const struct haul_link *link, int fd, size_t piece)
{
    for (size_t at = 0; at < link->input_bytes && !link->over; at += piece) {
        size_t n = link->input_bytes - at < piece ? link->input_bytes - at : piece;
        REQUIRE(send(fd, link->input + at, n, MSG_NOSIGNAL) == (ssize_t)n);
        watched.ready(watched.arg, EPOLLIN);
    }
}

/* Nothing was kept back but an incomplete header. */
static void check_rest(const struct haul_link *link)
{
    const uint8_t *rest = link->input + link->taken;
    size_t bytes = link->input_bytes - link->taken;
    if (bytes == 0)
        return;
    REQUIRE(link->payload_left == 0);
    if (bytes >= HAUL_PREFIX_BYTES)
        REQUIRE(bytes < HAUL_PREFIX_BYTES + (size_t)haul_prefix_body_bytes(rest));
}

/* The first byte says how large the pieces are, the second how large target()'s segments. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct haul_link link;
    int fds[2];
    if (!channel)
        start();
    if (bytes < 2 || bytes > INPUT_MAX)
        return 0;
    link = (struct haul_link){.input = data + 2, .input_bytes = bytes - 2};
    link.segment_max = data[1] == 255 ? PAYLOAD_ROOM : data[1];
    struct haul_tcp_conn *conn = make_conn(&link, fds);
    feed(&link, fds[1], data[0] == 255 ? INPUT_MAX : (size_t)data[0] * data[0] + 1);
    if (!link.over)
        check_rest(&link);
    close(fds[1]);
    if (is_watched)
        watched.ready(watched.arg, EPOLLIN | EPOLLHUP);
    REQUIRE(link.over); /* refused before, or lost now */
    haul_tcp_disconnect(conn, false);
    return 0;
}
