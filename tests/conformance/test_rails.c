/* SPDX-License-Identifier: Apache-2.0
 * Several rails: a provider that has them carries a part of each large array over each. Over
 * sockets they are several connections, so any machine has as many as are wished. */
#include "fixture.h"

enum { ARRAY_BYTES = 24 << 20, MESSAGES = 4, RAILS_MAX = 8 };

struct case_of {
    const char *server_rails, *client_rails, *threads;
    size_t used; /* of the server, who reads */
};

static struct pair *open_with_rails(const struct case_of *is)
{
    struct pair *pair = test_calloc(1, sizeof *pair);
    pair->server_context =
        context_open("rails", is->server_rails, "progress_threads", is->threads, NULL);
    pair->client_context =
        context_open("rails", is->client_rails, "progress_threads", is->threads, NULL);
    OK(haul_listen(pair->server_context, "127.0.0.1:0", &pair->server));
    pair->peer = connect_to(pair->client_context, pair->server);
    return pair;
}

static void send_and_check(struct pair *pair, uint8_t *data, uint64_t seed)
{
    struct haul_message *message;
    struct haul_op *op;
    struct haul_dict *dict = dict_of(pair->client_context, "data", data, ARRAY_BYTES, seed);
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_bytes(message, "data", ARRAY_BYTES, seed);
    FINISH(op);
    haul_message_release(message);
    haul_dict_destroy(dict);
}

/* All bytes came over the rails, over each of the first `used` some, over the others none. */
static void check_shares(struct pair *pair, size_t used)
{
    struct haul_rail_stats rails[RAILS_MAX];
    size_t count = haul_context_rails(pair->server_context, rails, RAILS_MAX);
    uint64_t all = 0;
    assert_true(count >= used && count <= RAILS_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_true(rails[i].usable && rails[i].name[0]);
        assert_int_equal(rails[i].bytes_read > 0, i < used);
        all += rails[i].bytes_read;
    }
    assert_true(all >= (uint64_t)MESSAGES * ARRAY_BYTES); /* and some small reads that prove it */
}

static void move(const struct case_of *is)
{
    struct pair *pair = open_with_rails(is);
    uint8_t *data = test_malloc(ARRAY_BYTES);
    for (uint64_t i = 0; i < MESSAGES; i++)
        send_and_check(pair, data, i);
    check_shares(pair, is->used);
    test_free(data);
    pair_close(pair);
}

static void test_each_carries_a_part(void **state)
{
    static const struct case_of cases[] = {
        {"1", "1", "1", 1}, {"2", "2", "1", 2}, {"3", "3", "1", 3}, {"8", "8", "1", 8},
        {"2", "2", "2", 2}, {"3", "3", "2", 3}, {"3", "3", "8", 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        move(&cases[i]);
}

/* Who has more of them reads over several from one. */
static void test_different_numbers(void **state)
{
    static const struct case_of cases[] = {
        {"1", "3", "1", 1},
        {"3", "1", "1", 3},
        {"2", "3", "2", 2},
        {"3", "2", "2", 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        move(&cases[i]);
}

static void test_both_ways(void **state)
{
    static const struct case_of is = {"2", "2", "2", 2};
    struct pair *pair = open_with_rails(&is);
    struct haul_rail_stats rails[RAILS_MAX];
    uint8_t *data = test_malloc(ARRAY_BYTES);
    struct haul_dict *dict = dict_of(pair->client_context, "data", data, ARRAY_BYTES, 7);
    struct haul_op *op;
    struct haul_message *request, *answer;
    (void)state;
    OK(haul_call_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &request, WAIT_NS));
    struct haul_dict *reply;
    OK(haul_dict_create(pair->server_context, &reply));
    const struct haul_array *got = haul_message_find(request, "data");
    OK(haul_dict_put(reply, "data", HAUL_U8, got->ndim, got->shape, got->data));
    OK(haul_reply(request, reply, WAIT_NS));
    OK(haul_op_wait(op, WAIT_NS));
    OK(haul_op_reply(op, &answer));
    assert_bytes(answer, "data", ARRAY_BYTES, 7);
    assert_int_equal(haul_context_rails(pair->client_context, rails, RAILS_MAX), 2);
    assert_true(rails[0].bytes_read > 0 && rails[1].bytes_read > 0);
    haul_message_release(answer);
    haul_message_release(request);
    haul_op_release(op);
    haul_dict_destroy(reply);
    haul_dict_destroy(dict);
    test_free(data);
    pair_close(pair);
}

/* A path of one kind has none to show. */
static void test_none(void **state)
{
    struct pair *pair = *state;
    struct haul_rail_stats rails[RAILS_MAX];
    size_t count = haul_context_rails(pair->server_context, rails, RAILS_MAX);
    assert_int_equal(count, provider_is("ofi") ? 1 : 0);
}

int main(void)
{
    const struct CMUnitTest one[] = {
        cmocka_unit_test_setup_teardown(test_none, pair_setup, pair_teardown)};
    const struct CMUnitTest several[] = {
        cmocka_unit_test(test_each_carries_a_part),
        cmocka_unit_test(test_different_numbers),
        cmocka_unit_test(test_both_ways),
    };
    const char *provider = getenv("HAUL_PROVIDER");
    bool over_sockets = provider && (!strcmp(provider, "ofi:net") || !strcmp(provider, "ofi:tcp"));
    int failures = cmocka_run_group_tests_name("one rail at most", one, NULL, NULL);
    if (over_sockets)
        failures += cmocka_run_group_tests_name("rails", several, NULL, NULL);
    return failures;
}
