/* SPDX-License-Identifier: Apache-2.0
 * Any dict arrives as it was sent: types, shapes, sizes, counts; calls, replies, order. */
#include "fixture.h"

/* Sends by haul_send_async, receives, and hands both to `check`. */
static void exchange(struct pair *pair, struct haul_dict *dict,
                     void (*check)(const struct haul_message *message, void *arg), void *arg)
{
    struct haul_op *op;
    struct haul_message *message;
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    check(message, arg);
    FINISH(op);
    haul_message_release(message);
}

static void assert_same(const struct haul_message *message, void *arg)
{
    const struct haul_dict *dict = arg;
    assert_int_equal(haul_message_count(message), haul_dict_count(dict));
    for (size_t i = 0; i < haul_dict_count(dict); i++) {
        const struct haul_array *sent = haul_dict_at(dict, i);
        const struct haul_array *got = haul_message_at(message, i);
        assert_string_equal(got->key, sent->key);
        assert_int_equal(got->dtype, sent->dtype);
        assert_int_equal(got->itemsize, sent->itemsize);
        assert_int_equal(got->flags, sent->flags);
        assert_int_equal(got->ndim, sent->ndim);
        assert_int_equal(got->nbytes, sent->nbytes);
        if (sent->ndim > 0)
            assert_memory_equal(got->shape, sent->shape, sent->ndim * sizeof *sent->shape);
        if (sent->description)
            assert_string_equal(got->description, sent->description);
        if (sent->nbytes > 0)
            assert_memory_equal(got->data, sent->data, sent->nbytes);
        assert_ptr_equal(haul_message_find(message, sent->key), got);
    }
}

static void test_every_dtype(void **state)
{
    struct pair *pair = *state;
    struct haul_dict *dict;
    static char data[HAUL_OTHER][3 * 16];
    const uint64_t shape[] = {3};
    OK(haul_dict_create(pair->client_context, &dict));
    for (uint32_t dtype = HAUL_BOOL; dtype < HAUL_OTHER; dtype++) {
        fill(data[dtype], sizeof data[dtype], dtype);
        OK(haul_dict_put(dict, haul_dtype_name(dtype), dtype, 1, shape, data[dtype]));
    }
    exchange(pair, dict, assert_same, dict);
    haul_dict_destroy(dict);
}

static void test_other_dtypes_and_order(void **state)
{
    struct pair *pair = *state;
    struct haul_dict *dict;
    const uint64_t shape[] = {5, 7};
    char data[35 * 12];
    fill(data, sizeof data, 1);
    struct haul_array array = {.key = "points",
                               .dtype = HAUL_OTHER,
                               .itemsize = 12,
                               .description = "[('x', '<f4'), ('y', '<f8')]",
                               .ndim = 2,
                               .shape = shape,
                               .data = data};
    OK(haul_dict_create(pair->client_context, &dict));
    OK(haul_dict_put_array(dict, &array));
    array = (struct haul_array){.key = "columns",
                                .dtype = HAUL_F64,
                                .itemsize = 8,
                                .flags = HAUL_FORTRAN,
                                .ndim = 2,
                                .shape = shape,
                                .data = data};
    OK(haul_dict_put_array(dict, &array));
    exchange(pair, dict, assert_same, dict);
    haul_dict_destroy(dict);
}

static void test_empty_scalar_and_zero_size(void **state)
{
    struct pair *pair = *state;
    struct haul_dict *dict;
    double scalar = 42;
    const uint64_t none[] = {4, 0, 3};
    OK(haul_dict_create(pair->client_context, &dict));
    exchange(pair, dict, assert_same, dict);
    OK(haul_dict_put(dict, "none", HAUL_F32, 3, none, NULL));
    exchange(pair, dict, assert_same, dict);
    OK(haul_dict_put(dict, "scalar", HAUL_F64, 0, NULL, &scalar));
    OK(haul_dict_put(dict, "none too", HAUL_U8, 3, none, NULL));
    exchange(pair, dict, assert_same, dict);
    haul_dict_destroy(dict);
}

/* Around every limit that changes the way: inline, prepaid, chunk, rma read. */
static void test_sizes(void **state)
{
    struct pair *pair = *state;
    static const size_t sizes[] = {1,       2,           63,           64,           65,
                                   4095,    4096,        65535,        65536,        65537,
                                   1000003, 1048576,     1048577,      4194304,      4194305,
                                   5000011, 8388608 + 1, 16777216 + 3, 33554432 + 1, 12345};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *data = malloc(sizes[i]);
        struct haul_dict *dict = dict_of(pair->client_context, "data", data, sizes[i], i);
        exchange(pair, dict, assert_same, dict);
        haul_dict_destroy(dict);
        free(data);
    }
}

static void test_many_arrays(void **state)
{
    enum { ARRAYS = 4096 };
    struct pair *pair = *state;
    struct haul_dict *dict;
    char *data = malloc(ARRAYS * 100);
    OK(haul_dict_create(pair->client_context, &dict));
    for (unsigned i = 0; i < ARRAYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "array %u", i);
        put_bytes(dict, key, data + 100 * i, i % 100, i);
    }
    exchange(pair, dict, assert_same, dict);
    haul_dict_destroy(dict);
    free(data);
}

/* Those of a dict that keep their places, while others are given away and replaced. */
static void test_some_given(void **state)
{
    static const char *const keys[] = {"d", "b", "e", "a", "c"};
    enum { KEYS = sizeof keys / sizeof *keys };
    struct pair *pair = *state;
    const uint64_t shape[] = {10};
    struct haul_dict *dict;
    void *data;
    OK(haul_dict_create(pair->client_context, &dict));
    for (int round = 0; round < 2; round++) { /* the second puts "b" and "a" behind the others */
        for (int i = 0; i < KEYS; i++) {
            OK(haul_dict_alloc(dict, keys[i], HAUL_U8, 1, shape, &data));
            fill(data, shape[0], (uint64_t)i);
        }
        assert_int_equal(haul_dict_count(dict), KEYS);
        OK(haul_dict_give(dict, "b"));
        OK(haul_dict_give(dict, "a"));
        struct haul_op *op;
        struct haul_message *message;
        OK(haul_send_async(pair->peer, dict, &op));
        OK(haul_recv(pair->server, &message, WAIT_NS));
        for (int i = 0; i < KEYS; i++)
            assert_bytes(message, keys[i], shape[0], (uint64_t)i);
        haul_message_release(message);
        FINISH(op);
        assert_int_equal(haul_dict_count(dict), KEYS - 2);
        FAILS(HAUL_NOT_FOUND, "a", haul_dict_give(dict, "a"));
    }
    assert_string_equal(haul_dict_at(dict, 0)->key, "d");
    assert_string_equal(haul_dict_at(dict, 1)->key, "e");
    assert_string_equal(haul_dict_at(dict, 2)->key, "c");
    haul_dict_destroy(dict);
}

/* Large and small arrays in one dict, so that some are inline and some offered. */
static void test_mixed_sizes(void **state)
{
    struct pair *pair = *state;
    static const size_t sizes[] = {10, 9000000, 0, 70000, 1, 3000000, 65536, 17};
    struct haul_dict *dict;
    void *data[sizeof sizes / sizeof *sizes];
    OK(haul_dict_create(pair->client_context, &dict));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char key[2] = {(char)('a' + (int)i), 0};
        data[i] = malloc(sizes[i] + 1);
        put_bytes(dict, key, data[i], sizes[i], i);
    }
    for (int round = 0; round < 20; round++)
        exchange(pair, dict, assert_same, dict);
    haul_dict_destroy(dict);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        free(data[i]);
}

static void test_alignment(void **state)
{
    struct pair *pair = *state;
    struct haul_dict *dict;
    struct haul_op *op;
    struct haul_message *message;
    char odd[3] = "abc";
    static double large[100000];
    const uint64_t three[] = {3}, many[] = {100000};
    OK(haul_dict_create(pair->client_context, &dict));
    OK(haul_dict_put(dict, "odd", HAUL_U8, 1, three, odd));
    OK(haul_dict_put(dict, "one", HAUL_F64, 1, three, large));
    OK(haul_dict_put(dict, "large", HAUL_F64, 1, many, large));
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    for (size_t i = 0; i < 3; i++) {
        const struct haul_array *array = haul_message_at(message, i);
        assert_int_equal((uintptr_t)array->data % array->itemsize, 0);
    }
    FINISH(op);
    haul_message_release(message);
    haul_dict_destroy(dict);
}

static void test_call_and_reply(void **state)
{
    struct pair *pair = *state;
    static const size_t sizes[] = {4, 65536, 65537, 3000000, 20000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct haul_op *op, *reply_op;
        struct haul_message *message, *reply;
        void *data = malloc(sizes[i]), *answer = malloc(sizes[i]);
        struct haul_dict *dict = dict_of(pair->client_context, "q", data, sizes[i], i);
        struct haul_dict *answers = dict_of(pair->server_context, "a", answer, sizes[i], i + 50);
        OK(haul_call_async(pair->peer, dict, &op));
        OK(haul_recv(pair->server, &message, WAIT_NS));
        assert_bytes(message, "q", sizes[i], i);
        assert_true(haul_message_wants_reply(message));
        assert_int_equal(haul_op_test(op), HAUL_BUSY);
        FAILS(HAUL_BUSY, "under way", haul_op_reply(op, &reply));
        OK(haul_reply_async(message, answers, &reply_op));
        assert_false(haul_message_wants_reply(message));
        FAILS(HAUL_INVALID, "already", haul_reply(message, answers, WAIT_NS));
        OK(haul_op_wait(op, WAIT_NS));
        OK(haul_op_reply(op, &reply));
        FAILS(HAUL_NOT_FOUND, "taken", haul_op_reply(op, &reply));
        OK(haul_op_wait(reply_op, WAIT_NS));
        assert_bytes(reply, "a", sizes[i], i + 50);
        haul_message_release(reply);
        haul_message_release(message);
        haul_op_release(op);
        haul_op_release(reply_op);
        haul_dict_destroy(dict);
        haul_dict_destroy(answers);
        free(data);
        free(answer);
    }
}

static void test_blocking_call(void **state)
{
    struct pair *pair = *state;
    struct echo echo;
    char data[100];
    struct haul_dict *dict = dict_of(pair->client_context, "q", data, sizeof data, 1);
    echo_start(&echo, pair, 300);
    for (int i = 0; i < 100; i++) {
        struct haul_message *reply;
        OK(haul_call(pair->peer, dict, &reply, WAIT_NS));
        assert_int_equal(haul_message_count(reply), 0);
        haul_message_release(reply);
        OK(haul_send(pair->peer, dict, WAIT_NS));
        OK(haul_send(pair->peer, dict, WAIT_NS));
    }
    echo_join(&echo);
    haul_dict_destroy(dict);
}

/* Replies late, and in the reverse order of the calls. */
static void test_replies_out_of_order(void **state)
{
    enum { CALLS = 12 };
    struct pair *pair = *state;
    struct haul_op *ops[CALLS];
    struct haul_dict *dicts[CALLS];
    struct haul_message *messages[CALLS], *reply;
    uint8_t numbers[CALLS], answer;
    for (unsigned i = 0; i < CALLS; i++) {
        dicts[i] = dict_of(pair->client_context, "n", &numbers[i], 1, i);
        OK(haul_call_async(pair->peer, dicts[i], &ops[i]));
    }
    for (unsigned i = 0; i < CALLS; i++) {
        OK(haul_recv(pair->server, &messages[i], WAIT_NS));
        assert_bytes(messages[i], "n", 1, i); /* in order */
    }
    for (unsigned i = CALLS; i-- > 0;) {
        struct haul_dict *answers = dict_of(pair->server_context, "a", &answer, 1, 100 + i);
        OK(haul_reply(messages[i], answers, WAIT_NS));
        haul_message_release(messages[i]);
        haul_dict_destroy(answers);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        OK(haul_op_wait(ops[i], WAIT_NS));
        OK(haul_op_reply(ops[i], &reply));
        assert_bytes(reply, "a", 1, 100 + i);
        haul_message_release(reply);
        haul_op_release(ops[i]);
        haul_dict_destroy(dicts[i]);
    }
}

static void test_no_reply(void **state)
{
    struct pair *pair = *state;
    struct haul_op *op;
    struct haul_message *message;
    char data[10];
    struct haul_dict *dict = dict_of(pair->client_context, "q", data, sizeof data, 1);
    OK(haul_call_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    haul_message_release(message);
    FAILS(HAUL_NO_REPLY, "without a reply", haul_op_wait(op, WAIT_NS));
    haul_op_release(op);
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_false(haul_message_wants_reply(message));
    FAILS(HAUL_INVALID, "not sent with haul_call", haul_reply(message, dict, WAIT_NS));
    haul_message_release(message);
    FINISH(op);
    haul_dict_destroy(dict);
}

/* Messages of one peer arrive in order, though large and small ones take different ways. */
static void test_order(void **state)
{
    enum { MESSAGES = 60 };
    struct pair *pair = *state;
    struct haul_op *ops[MESSAGES];
    struct haul_dict *dicts[MESSAGES];
    char *data[MESSAGES];
    size_t sizes[MESSAGES];
    for (unsigned i = 0; i < MESSAGES; i++) {
        sizes[i] = i % 3 == 0 ? 5000000 : i % 3 == 1 ? 100 : 200000;
        data[i] = malloc(sizes[i]);
        dicts[i] = dict_of(pair->client_context, "n", data[i], sizes[i], i);
        OK(haul_send_async(pair->peer, dicts[i], &ops[i]));
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct haul_message *message;
        OK(haul_recv(pair->server, &message, WAIT_NS));
        assert_bytes(message, "n", sizes[i], i);
        haul_message_release(message);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        FINISH(ops[i]);
        haul_dict_destroy(dicts[i]);
        free(data[i]);
    }
}

/* The server sends by itself, to every peer, one dict in flight to all of them at once. */
static void test_server_sends(void **state)
{
    enum { PEERS = 5, BYTES = 3000000 };
    struct pair *pair = *state;
    struct haul_peer *clients[PEERS], *found[PEERS + 1];
    struct haul_op *ops[PEERS + 1];
    static char data[BYTES];
    for (unsigned i = 0; i < PEERS; i++)
        clients[i] = connect_to(pair->client_context, pair->server);
    assert_int_equal(haul_server_peers(pair->server, found, PEERS + 1), PEERS + 1);
    struct haul_dict *dict = dict_of(pair->server_context, "w", data, BYTES, 9);
    for (unsigned i = 0; i < PEERS + 1; i++)
        OK(haul_send_async(found[i], dict, &ops[i]));
    FAILS(HAUL_BUSY, "under way", haul_dict_clear(dict));
    for (unsigned i = 0; i < PEERS + 1; i++) {
        struct haul_message *message;
        OK(haul_peer_recv(i < PEERS ? clients[i] : pair->peer, &message, WAIT_NS));
        assert_bytes(message, "w", BYTES, 9);
        haul_message_release(message);
    }
    for (unsigned i = 0; i < PEERS + 1; i++) {
        FINISH(ops[i]);
        haul_peer_release(found[i]);
    }
    OK(haul_dict_wait(dict, WAIT_NS));
    OK(haul_dict_clear(dict));
    haul_dict_destroy(dict);
    for (unsigned i = 0; i < PEERS; i++)
        haul_peer_release(clients[i]);
}

static void test_given_memory(void **state)
{
    struct pair *pair = *state;
    const uint64_t shape[] = {2000000};
    struct haul_dict *dict;
    struct haul_stats stats;
    OK(haul_dict_create(pair->client_context, &dict));
    for (unsigned i = 0; i < 20; i++) {
        struct haul_op *op;
        struct haul_message *message;
        void *data;
        OK(haul_dict_alloc(dict, "x", HAUL_U8, 1, shape, &data));
        assert_int_equal((uintptr_t)data % 64, 0);
        fill(data, shape[0], i);
        FAILS(HAUL_NOT_FOUND, "y", haul_dict_give(dict, "y"));
        OK(haul_dict_give(dict, "x"));
        OK(haul_send_async(pair->peer, dict, &op));
        assert_int_equal(haul_dict_count(dict), 0);
        OK(haul_recv(pair->server, &message, WAIT_NS));
        assert_bytes(message, "x", shape[0], i);
        haul_message_release(message);
        FINISH(op);
    }
    haul_context_stats(pair->client_context, &stats);
    assert_in_range(stats.pool_bytes, 1, 64 << 20); /* reused, not piled up */
    char path[64], why[512];
    OK(haul_peer_path(pair->peer, path, sizeof path, why, sizeof why));
    haul_context_stats(pair->server_context, &stats);
    if (!strcmp(path, "loop+loop")) /* a path that maps: looked at in place, not moved */
        assert_int_equal(stats.bytes_mapped, 20 * shape[0]);
    haul_dict_destroy(dict);
}

/* One block, several arrays in it, sent again and again, and given while somebody holds it. */
static void test_blocks(void **state)
{
    enum { ROW = 1500000, ROWS = 3, MESSAGES = 10 };
    struct pair *pair = *state;
    const uint64_t shape[] = {ROW};
    struct haul_block *block;
    struct haul_dict *dict;
    struct haul_stats stats;
    uint64_t registered = 0;
    OK(haul_block_alloc(pair->client_context, ROWS * ROW, &block));
    assert_true(haul_block_bytes(block) >= ROWS * ROW);
    uint8_t *data = haul_block_data(block);
    fill(data, ROWS * ROW, 5);
    OK(haul_dict_create(pair->client_context, &dict));
    struct haul_array array = {
        .key = "x", .dtype = HAUL_U8, .itemsize = 1, .ndim = 1, .shape = shape, .data = data + ROW};
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct haul_op *op;
        struct haul_message *message;
        OK(haul_dict_put_block(dict, &array, block));
        if (i == MESSAGES - 1)
            OK(haul_dict_give(dict, "x"));
        OK(haul_send_async(pair->peer, dict, &op));
        OK(haul_recv(pair->server, &message, WAIT_NS));
        const struct haul_array *x = haul_message_find(message, "x");
        assert_memory_equal(x->data, data + ROW, ROW);
        if (i == MESSAGES - 1 && provider_is("loop") && !getenv("HAUL_LOOP_PARTS"))
            assert_true(x->flags & HAUL_SHARED);
        haul_message_release(message);
        FINISH(op);
        haul_context_stats(pair->client_context, &stats);
        registered = i == 0 ? stats.registrations : registered;
        assert_int_equal(stats.registrations, registered); /* with its slab, not with each send */
    }
    assert_int_equal(haul_dict_count(dict), 0);
    assert_true(is_filled(data, ROWS * ROW, 5)); /* given, but this reference holds it */
    array.data = data + 2 * ROW + 1;
    array.shape = &(uint64_t){haul_block_bytes(block)};
    FAILS(HAUL_INVALID, "do not lie in the block", haul_dict_put_block(dict, &array, block));
    struct haul_block *foreign;
    OK(haul_block_alloc(pair->server_context, ROW, &foreign));
    array.data = haul_block_data(foreign);
    array.shape = shape;
    FAILS(HAUL_INVALID, "another context", haul_dict_put_block(dict, &array, foreign));
    haul_block_release(foreign);
    haul_dict_destroy(dict);
    haul_block_release(block);
    haul_context_stats(pair->client_context, &stats);
    assert_in_range(stats.pool_used_bytes, 0, 1 << 20); /* it is back in the pool */
}

static void test_borrowed_memory_is_unchanged(void **state)
{
    struct pair *pair = *state;
    struct echo echo;
    enum { BYTES = 6000000 };
    static char data[BYTES];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, BYTES, 3);
    echo_start(&echo, pair, 3);
    for (int i = 0; i < 3; i++)
        OK(haul_send(pair->peer, dict, WAIT_NS));
    assert_true(is_filled(data, BYTES, 3));
    echo_join(&echo);
    haul_dict_destroy(dict);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_dtype),
        TEST(test_other_dtypes_and_order),
        TEST(test_empty_scalar_and_zero_size),
        TEST(test_sizes),
        TEST(test_many_arrays),
        TEST(test_some_given),
        TEST(test_mixed_sizes),
        TEST(test_alignment),
        TEST(test_call_and_reply),
        TEST(test_blocking_call),
        TEST(test_replies_out_of_order),
        TEST(test_no_reply),
        TEST(test_order),
        TEST(test_server_sends),
        TEST(test_given_memory),
        TEST(test_blocks),
        TEST(test_borrowed_memory_is_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
