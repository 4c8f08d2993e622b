/* SPDX-License-Identifier: Apache-2.0
 * A host for the provider `loop`; see loop_host.h. */
#include "loop_host.h"

#include <stdio.h>
#include <time.h>

enum { PASSES_MAX = 1 << 20, PATIENCE_S = 120 };

const struct haul_provider *provider;

static haul_provider_entry_fn *entry;

static void host_wake(struct haul_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->wake_pending = true;
    pthread_cond_signal(&engine->woken);
    pthread_mutex_unlock(&engine->lock);
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    const char *value = host_find_setting(engine->settings, name);
    if (value)
        return value;
    const struct haul_provider_field *field = provider->fields;
    while (field->name && strcmp(field->name, name) != 0)
        field++;
    return field->default_value; /* NULL in the last one */
}

static void count_payload(struct haul_link *link)
{
    link->whole++;
    if (!link->stream)
        return;
    uint8_t seed = link->headers[(link->frames - 1) % FRAMES][0];
    for (size_t i = 0; i < link->received; i++)
        link->corrupt += link->memory[i] != pattern(seed, i);
    link->received = 0;
}

struct haul_link *link_create(struct haul_engine *engine)
{
    struct haul_link *made = calloc(1, sizeof(*made));
    assert_non_null(made);
    made->engine = engine;
    return made;
}

static struct haul_link *host_accepted(struct haul_listener *listener, void *conn,
                                       const char *address)
{
    if (listener->refuse || address[0] == '\0')
        return NULL;
    listener->accepted = link_create(listener->engine);
    listener->accepted->conn = conn;
    return listener->accepted;
}

static void host_connected(struct haul_link *link)
{
    link->connected++;
}

static void host_lost(struct haul_link *link, int err, const char *why)
{
    link->lost++;
    link->lost_err = err;
    snprintf(link->why, sizeof(link->why), "%s", why);
}

static int host_check(struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    (void)link;
    return haul_prefix_body_bytes(prefix) <= 48 ? 0 : HAUL_PROTOCOL;
}

static int host_frame(struct haul_link *link, const void *header, size_t header_bytes)
{
    if (link->refuse_frames || link->expected > 0 || header_bytes > sizeof(link->headers[0]) ||
        header_bytes != HAUL_PREFIX_BYTES + haul_prefix_body_bytes(header))
        return HAUL_PROTOCOL;
    memcpy(link->headers[link->frames % FRAMES], header, header_bytes);
    link->frames++;
    link->expected = haul_prefix_payload_bytes(header);
    return 0;
}

/* Two segments where two are taken, the first of 5 bytes. */
static size_t host_target(struct haul_link *link, struct iovec *segments, size_t max)
{
    size_t bytes = link->expected, first = bytes < 5 ? bytes : 5;
    if (bytes == 0 || link->received + bytes > MEMORY)
        return 0;
    segments[0] = (struct iovec){link->memory + link->received, first};
    if (max < 2 || bytes == first)
        return 1;
    segments[1] = (struct iovec){link->memory + link->received + first, bytes - first};
    return 2;
}

static int host_received(struct haul_link *link, size_t n)
{
    if (n == 0 || n > link->expected)
        return HAUL_PROTOCOL;
    link->received += n;
    link->expected -= n;
    if (link->expected == 0)
        count_payload(link);
    return 0;
}

static int host_lend(struct haul_link *link, void *data, size_t bytes, void *token)
{
    memcpy(link->memory + link->received, data, bytes);
    link->tokens[link->lent++] = token;
    link->received += bytes;
    link->expected -= bytes;
    if (link->expected == 0)
        count_payload(link);
    return 0;
}

static void host_sent(struct haul_link *link, void *cookie)
{
    link->sent++;
    link->cookie = cookie;
}

static void host_writable(struct haul_link *link)
{
    link->writable++;
}

static void host_read_done(void *cookie, int err)
{
    int *result = cookie;
    *result = *result == NOT_DONE ? err : 2; /* twice is wrong as well */
}

static const struct haul_host host = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof(struct haul_host),
    .log = host_log,
    .fail = host_fail,
    .now_ns = host_still_ns,
    .wake = host_wake,
    .setting = host_setting,
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
    .read_done = host_read_done,
};

/* ---- Engines -------------------------------------------------------------------------------- */

void engine_open(struct haul_engine *engine, const struct setting *settings)
{
    *engine = (struct haul_engine){
        .settings = settings, .lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER};
    assert_int_equal(provider->channel->open(engine, &engine->channel), 0);
    assert_int_equal(provider->rma->open(engine, "", &engine->rma), 0);
}

void engine_close(struct haul_engine *engine)
{
    provider->channel->close(engine->channel);
    provider->rma->close(engine->rma);
}

bool engine_pass(struct haul_engine *engine)
{
    bool did = provider->channel->progress(engine->channel);
    return provider->rma->progress(engine->rma) || did;
}

void settle(struct haul_engine *a, struct haul_engine *b)
{
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        bool did = engine_pass(a);
        if (!engine_pass(b) && !did)
            return;
    }
    fail_msg("progress() never ends");
}

void wait_for(pthread_cond_t *condition, pthread_mutex_t *lock)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    if (pthread_cond_timedwait(condition, lock, &until) != 0)
        abort();
}

void engine_wait(struct haul_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    while (!engine->wake_pending)
        wait_for(&engine->woken, &engine->lock);
    engine->wake_pending = false;
    pthread_mutex_unlock(&engine->lock);
}

int load_loop(void **state)
{
    (void)state;
    entry = host_load_plugin("loop");
    if (!entry)
        return -1;
    unsetenv("HAUL_LOOP_PARTS");
    provider = entry(&host);
    return provider && provider->abi == HAUL_PROVIDER_ABI ? 0 : -1;
}

void ask_loop_again(const char *parts)
{
    setenv("HAUL_LOOP_PARTS", parts, 1);
    provider = entry(&host);
    unsetenv("HAUL_LOOP_PARTS");
}

/* ---- A connection ---------------------------------------------------------------------------- */

void *route_to(struct haul_engine *engine, const char *service, bool listening)
{
    struct haul_address address = {.host = "localhost"};
    snprintf(address.text, sizeof(address.text), "localhost:%s", service);
    snprintf(address.service, sizeof(address.service), "%s", service);
    void *route = NULL;
    assert_int_equal(provider->channel->resolve(engine->channel, &address, listening, &route), 0);
    return route;
}

void dial(struct pair *pair)
{
    pair->client = link_create(&pair->a);
    assert_int_equal(provider->channel->connect(pair->a.channel, pair->client_route, pair->client,
                                                &pair->client->conn),
                     0);
}

void pair_listen(struct pair *pair, const struct setting *client_settings,
                 const struct setting *server_settings)
{
    *pair = (struct pair){0};
    engine_open(&pair->a, client_settings);
    engine_open(&pair->b, server_settings);
    pair->listener.engine = &pair->b;
    pair->server_route = route_to(&pair->b, "0", true);
    char bound[64];
    assert_int_equal(provider->channel->listen(pair->b.channel, pair->server_route, &pair->listener,
                                               &pair->listening, bound, sizeof(bound)),
                     0);
    assert_ptr_equal(strstr(bound, "localhost:"), bound);
    pair->client_route = route_to(&pair->a, bound + strlen("localhost:"), false);
}

void pair_open(struct pair *pair, const struct setting *client_settings,
               const struct setting *server_settings)
{
    pair_listen(pair, client_settings, server_settings);
    dial(pair);
    settle(&pair->a, &pair->b);
    pair->server = pair->listener.accepted;
    assert_non_null(pair->server);
    assert_int_equal(pair->client->connected, 1);
}

void hang_up(struct haul_link **link)
{
    if (*link && (*link)->conn)
        provider->channel->disconnect((*link)->conn, false);
    free(*link);
    *link = NULL;
}

void pair_close(struct pair *pair)
{
    hang_up(&pair->client);
    hang_up(&pair->server);
    if (pair->listening)
        provider->channel->unlisten(pair->listening);
    provider->channel->route_free(pair->client_route);
    provider->channel->route_free(pair->server_route);
    engine_close(&pair->a);
    engine_close(&pair->b);
}

static size_t make_header(uint8_t header[64], uint8_t type, const char *body, uint64_t payload)
{
    size_t body_bytes = strlen(body);
    memset(header, 0, 64);
    header[0] = type;
    header[4] = (uint8_t)body_bytes;
    for (int i = 0; i < 8; i++)
        header[8 + i] = (uint8_t)(payload >> 8 * i);
    memcpy(header + HAUL_PREFIX_BYTES, body, body_bytes);
    return HAUL_PREFIX_BYTES + body_bytes;
}

int send_frame(struct haul_link *link, uint8_t type, const struct iovec *payload, size_t count,
               void *cookie)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += payload[i].iov_len;
    uint8_t header[64];
    size_t header_bytes = make_header(header, type, "body", bytes);
    return provider->channel->send(link->conn, header, header_bytes, payload, count, cookie);
}

void send_control(struct haul_link *link, uint8_t type)
{
    assert_int_equal(send_frame(link, type, NULL, 0, NULL), 0);
}
