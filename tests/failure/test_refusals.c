/* SPDX-License-Identifier: Apache-2.0
 * Nothing is where it should be, or not yet: each is a sentence that a person understands. */
#include "fixture.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void test_port_in_use(void **state)
{
    struct pair *pair = *state;
    struct haul_server *second;
    const char *address = haul_server_address(pair->server);
    assert_int_equal(haul_listen(pair->server_context, address, &second), HAUL_ADDRESS);
    assert_non_null(strstr(haul_error_detail(), address)); /* which, and that it is taken */
    assert_true(strstr(haul_error_detail(), "in use") || strstr(haul_error_detail(), "already"));
}

static void test_host_not_found(void **state)
{
    struct pair *pair = *state;
    struct haul_peer *peer;
    struct haul_server *server;
    if (provider_is("loop"))
        skip(); /* all hosts are this process */
    FAILS(HAUL_ADDRESS, "no-such-host.invalid",
          haul_connect(pair->client_context, "no-such-host.invalid:5555", WAIT_NS, &peer));
    FAILS(HAUL_ADDRESS, "no-such-host.invalid",
          haul_listen(pair->server_context, "no-such-host.invalid:5555", &server));
    /* (An address for documentation: it is nobody's.) */
    assert_int_equal(haul_listen(pair->server_context, "192.0.2.1:5555", &server), HAUL_ADDRESS);
}

struct late {
    char address[64];
    struct haul_context *context;
    struct haul_server *server;
    pthread_t thread;
};

static void *listen_late(void *arg)
{
    struct late *late = arg;
    const struct timespec three_seconds = {.tv_sec = 3};
    nanosleep(&three_seconds, NULL); /* being late is what is tested; nothing depends on how late */
    OK(haul_listen(late->context, late->address, &late->server));
    return NULL;
}

/* haul_connect() waits for a server that comes up 3 s later. */
static void test_late_server(void **state)
{
    struct pair *pair = *state;
    struct late late = {.context = pair->server_context};
    struct haul_peer *peer;
    snprintf(late.address, sizeof late.address, "%s", haul_server_address(pair->server));
    haul_peer_release(pair->peer);
    haul_server_close(pair->server);
    FAILS(HAUL_UNREACHABLE, "server listening",
          haul_connect(pair->client_context, late.address, SHORT_NS, &peer));
    assert_int_equal(pthread_create(&late.thread, NULL, listen_late, &late), 0);
    OK(haul_connect(pair->client_context, late.address, WAIT_NS, &pair->peer));
    pthread_join(late.thread, NULL);
    pair->server = late.server;
    assert_true(haul_peer_connected(pair->peer));
}

static void test_message_over_the_limit(void **state)
{
    enum { LIMIT = 1 << 20 };
    struct pair *pair = pair_open("message_max", "1M", NULL);
    char *data = test_malloc(LIMIT + 1);
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, LIMIT + 1, 1);
    struct haul_message *message;
    struct haul_op *op;
    (void)state;
    FAILS(HAUL_TOO_LARGE, "1048577 bytes", haul_send(pair->peer, dict, WAIT_NS));
    FAILS(HAUL_TOO_LARGE, "HAUL_MESSAGE_MAX", haul_call(pair->peer, dict, &message, WAIT_NS));
    put_bytes(dict, "x", data, LIMIT, 2);
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_bytes(message, "x", LIMIT, 2);
    haul_message_release(message);
    FINISH(op);
    haul_dict_destroy(dict);
    test_free(data);
    pair_close(pair);
}

static rlim_t address_space_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* The pool's limit has room, the system has none: its sender hears why, and the next message comes.
 */
static void test_no_memory_from_the_system(void **state)
{
    enum { BYTES = 256 << 20, SPARE = 64 << 20 };
    if (provider_is("zmq"))
        skip(); /* libzmq ends the process when it gets no memory */
    struct pair *pair = pair_open("pool_max", "1G", NULL);
    const uint64_t shape = BYTES;
    struct haul_dict *large, *small;
    struct haul_message *message;
    struct haul_op *ops[2];
    struct rlimit before;
    char data[10];
    (void)state;
    char *zeros = calloc(1, BYTES);
    assert_non_null(zeros);
    OK(haul_dict_create(pair->client_context, &large));
    OK(haul_dict_put(large, "x", HAUL_U8, 1, &shape, zeros));
    small = dict_of(pair->client_context, "x", data, sizeof data, 4);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit tight = {address_space_bytes() + SPARE, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    OK(haul_send_async(pair->peer, large, &ops[0]));
    OK(haul_send_async(pair->peer, small, &ops[1]));
    int received = haul_recv(pair->server, &message, WAIT_NS);
    int ended = haul_op_wait(ops[0], WAIT_NS);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0); /* (cmocka needs memory to fail) */
    OK(received);
    assert_bytes(message, "x", sizeof data, 4);
    haul_message_release(message);
    FAILS(HAUL_NO_MEMORY, "", ended);
    FINISH(ops[1]);
    haul_op_release(ops[0]);
    haul_dict_destroy(large);
    haul_dict_destroy(small);
    free(zeros);
    pair_close(pair);
}

/* Keys of 255 bytes go through, longer ones do not get into a dict. */
static void test_key_length(void **state)
{
    struct pair *pair = *state;
    struct haul_message *message;
    struct haul_op *op;
    char key[HAUL_KEY_MAX + 2], data[10];
    memset(key, 'k', sizeof key);
    key[HAUL_KEY_MAX] = '\0';
    struct haul_dict *dict = dict_of(pair->client_context, key, data, sizeof data, 3);
    key[HAUL_KEY_MAX] = 'k';
    key[HAUL_KEY_MAX + 1] = '\0';
    FAILS(HAUL_INVALID, "255", haul_dict_put(dict, key, HAUL_U8, 0, NULL, data));
    key[HAUL_KEY_MAX] = '\0';
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_bytes(message, key, sizeof data, 3);
    haul_message_release(message);
    FINISH(op);
    haul_dict_destroy(dict);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_port_in_use), TEST(test_host_not_found),
        TEST(test_late_server), cmocka_unit_test(test_message_over_the_limit),
        TEST(test_key_length),  cmocka_unit_test(test_no_memory_from_the_system),
    };
    return cmocka_run_group_tests_name("refusals", tests, NULL, NULL);
}
