/* SPDX-License-Identifier: Apache-2.0
 * What conformance tests share. */
#include "fixture.h"

void ok_(int err, const char *call, const char *file, int line)
{
    if (err == 0)
        return;
    print_error("%s\n  -> %s: %s\n", call, haul_error_name(err), haul_error_detail());
    _fail(file, line);
}

void fails_(int wanted, const char *words, int err, const char *call, const char *file, int line)
{
    if (err == wanted && strstr(haul_error_detail(), words))
        return;
    print_error("%s\n  -> %s: %s\n  wanted %s with \"%s\"\n", call, haul_error_name(err),
                err ? haul_error_detail() : "", haul_error_name(wanted), words);
    _fail(file, line);
}

void finish_(struct haul_op *op, const char *name, const char *file, int line)
{
    ok_(haul_op_wait(op, WAIT_NS), name, file, line);
    haul_op_release(op);
}

static struct haul_context *open_with(const char *setting, va_list settings)
{
    struct haul_options *options;
    struct haul_context *context;
    OK(haul_options_create(&options));
    for (const char *name = setting; name; name = va_arg(settings, const char *))
        OK(haul_options_set(options, name, va_arg(settings, const char *)));
    OK(haul_open(&context, options));
    haul_options_destroy(options);
    return context;
}

struct haul_context *context_open(const char *setting, ...)
{
    va_list settings;
    va_start(settings, setting);
    struct haul_context *context = open_with(setting, settings);
    va_end(settings);
    return context;
}

struct haul_peer *connect_to(struct haul_context *context, struct haul_server *server)
{
    struct haul_peer *peer;
    OK(haul_connect(context, haul_server_address(server), WAIT_NS, &peer));
    return peer;
}

struct pair *pair_open(const char *setting, ...)
{
    struct pair *pair = test_calloc(1, sizeof *pair);
    va_list settings, again;
    va_start(settings, setting);
    va_copy(again, settings);
    pair->server_context = open_with(setting, settings);
    pair->client_context = open_with(setting, again);
    va_end(again);
    va_end(settings);
    OK(haul_listen(pair->server_context, "127.0.0.1:0", &pair->server));
    pair->peer = connect_to(pair->client_context, pair->server);
    return pair;
}

void pair_close(struct pair *pair)
{
    haul_peer_release(pair->peer);
    haul_server_close(pair->server);
    haul_close(pair->client_context);
    haul_close(pair->server_context);
    test_free(pair);
}

int pair_setup(void **state)
{
    *state = pair_open(NULL);
    return 0;
}

int pair_teardown(void **state)
{
    pair_close(*state);
    return 0;
}

bool provider_is(const char *name)
{
    const char *provider = getenv("HAUL_PROVIDER");
    size_t length = strlen(name);
    return provider && !strncmp(provider, name, length) &&
           (provider[length] == '\0' || provider[length] == ':');
}

static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 31) * 0x9e3779b97f4a7c15u;
    return value ^ value >> 29;
}

void fill(void *data, size_t bytes, uint64_t seed)
{
    uint8_t *to = data;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = mix(seed + at);
        memcpy(to + at, &word, bytes - at < 8 ? bytes - at : 8);
    }
}

bool is_filled(const void *data, size_t bytes, uint64_t seed)
{
    const uint8_t *from = data;
    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = mix(seed + at);
        if (memcmp(from + at, &word, bytes - at < 8 ? bytes - at : 8) != 0)
            return false;
    }
    return true;
}

void put_bytes(struct haul_dict *dict, const char *key, void *data, size_t bytes, uint64_t seed)
{
    uint64_t shape = bytes;
    fill(data, bytes, seed);
    OK(haul_dict_put(dict, key, HAUL_U8, 1, &shape, data));
}

struct haul_dict *dict_of(struct haul_context *context, const char *key, void *data, size_t bytes,
                          uint64_t seed)
{
    struct haul_dict *dict;
    OK(haul_dict_create(context, &dict));
    put_bytes(dict, key, data, bytes, seed);
    return dict;
}

void assert_bytes(const struct haul_message *message, const char *key, size_t bytes, uint64_t seed)
{
    const struct haul_array *array = haul_message_find(message, key);
    assert_non_null(array);
    assert_int_equal(array->nbytes, bytes);
    assert_true(is_filled(array->data, bytes, seed));
}

static void *echo_main(void *arg)
{
    struct echo *echo = arg;
    struct haul_dict *empty;
    OK(haul_dict_create(echo->context, &empty));
    for (unsigned i = 0; i < echo->count; i++) {
        struct haul_message *message;
        OK(haul_recv(echo->server, &message, WAIT_NS));
        if (haul_message_wants_reply(message))
            OK(haul_reply(message, empty, WAIT_NS));
        haul_message_release(message);
    }
    haul_dict_destroy(empty);
    return NULL;
}

void echo_start(struct echo *echo, struct pair *pair, unsigned count)
{
    *echo = (struct echo){.server = pair->server, .context = pair->server_context, .count = count};
    assert_int_equal(pthread_create(&echo->thread, NULL, echo_main, echo), 0);
}

void echo_join(struct echo *echo)
{
    assert_int_equal(pthread_join(echo->thread, NULL), 0);
}
