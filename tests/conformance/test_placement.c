/* SPDX-License-Identifier: Apache-2.0
 * Receiving into named memory: destination dicts and batches. */
#include "fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { LARGE = 5000000, SMALL = 1000 };

struct landing {
    struct haul_dict *dict;
    char *large, *small;
};

static struct landing landing_of(struct pair *pair)
{
    const uint64_t large = LARGE, small = SMALL;
    struct landing landing = {.large = calloc(1, LARGE), .small = calloc(1, SMALL)};
    OK(haul_dict_create(pair->server_context, &landing.dict));
    OK(haul_dict_put(landing.dict, "large", HAUL_U8, 1, &large, landing.large));
    OK(haul_dict_put(landing.dict, "small", HAUL_U8, 1, &small, landing.small));
    return landing;
}

static void landing_free(struct landing *landing)
{
    haul_dict_destroy(landing->dict);
    free(landing->large);
    free(landing->small);
}

/* What a client sends to it; keys in the other order. */
struct parcel {
    struct haul_dict *dict;
    char *large, *small;
};

static struct parcel parcel_of(struct pair *pair, uint64_t seed)
{
    struct parcel parcel = {.large = malloc(LARGE), .small = malloc(SMALL)};
    parcel.dict = dict_of(pair->client_context, "small", parcel.small, SMALL, seed);
    put_bytes(parcel.dict, "large", parcel.large, LARGE, seed + 1);
    return parcel;
}

static void parcel_free(struct parcel *parcel)
{
    haul_dict_destroy(parcel->dict);
    free(parcel->large);
    free(parcel->small);
}

static void assert_landed(const struct landing *landing, const struct haul_message *message,
                          uint64_t seed)
{
    assert_ptr_equal(haul_message_find(message, "large")->data, landing->large);
    assert_ptr_equal(haul_message_find(message, "small")->data, landing->small);
    assert_true(is_filled(landing->small, SMALL, seed));
    assert_true(is_filled(landing->large, LARGE, seed + 1));
}

static void test_recv_into(void **state)
{
    struct pair *pair = *state;
    struct landing landing = landing_of(pair);
    for (unsigned i = 0; i < 10; i++) {
        struct haul_op *op;
        struct haul_message *message;
        struct parcel parcel = parcel_of(pair, i);
        OK(haul_send_async(pair->peer, parcel.dict, &op));
        OK(haul_recv_into(pair->server, landing.dict, &message, WAIT_NS));
        assert_landed(&landing, message, i);
        haul_message_release(message);
        FINISH(op);
        parcel_free(&parcel);
    }
    landing_free(&landing);
}

static void expect_refusal(struct pair *pair, struct landing *landing, struct haul_dict *dict,
                           const char *words)
{
    struct haul_op *op;
    struct haul_message *message;
    OK(haul_send_async(pair->peer, dict, &op));
    FAILS(HAUL_TIMEOUT, "", haul_recv_into(pair->server, landing->dict, &message, SHORT_NS));
    /* On a slow machine the message may come after that receive. */
    while (haul_op_test(op) == HAUL_BUSY)
        FAILS(HAUL_TIMEOUT, "", haul_recv_into(pair->server, landing->dict, &message, SHORT_NS));
    FAILS(HAUL_REFUSED, words, haul_op_wait(op, WAIT_NS));
    haul_op_release(op);
}

static void test_misfits_are_refused(void **state)
{
    struct pair *pair = *state;
    struct landing landing = landing_of(pair);
    struct parcel parcel = parcel_of(pair, 5), more = parcel_of(pair, 1);
    struct parcel other = parcel_of(pair, 1);
    struct haul_dict *less = dict_of(pair->client_context, "large", other.large, LARGE, 1);
    const uint64_t shape = SMALL / 4;
    char extra;
    put_bytes(more.dict, "extra", &extra, 1, 1);
    OK(haul_dict_put(other.dict, "small", HAUL_F32, 1, &shape, other.small));
    expect_refusal(pair, &landing, more.dict, "extra: the receiver does not expect");
    expect_refusal(pair, &landing, less, "small: expected");
    expect_refusal(pair, &landing, other.dict, "small: expected u8[1000], got f32[250]");

    struct haul_op *op;
    struct haul_message *message;
    OK(haul_send_async(pair->peer, parcel.dict, &op));
    OK(haul_recv_into(pair->server, landing.dict, &message, WAIT_NS));
    assert_landed(&landing, message, 5);
    haul_message_release(message);
    FINISH(op);
    haul_dict_destroy(less);
    parcel_free(&other);
    parcel_free(&more);
    parcel_free(&parcel);
    landing_free(&landing);
}

struct receive {
    struct haul_server *server;
    struct haul_dict *into;
    struct haul_message *message;
    pthread_t thread;
};

static void *receive_into(void *arg)
{
    struct receive *receive = arg;
    OK(haul_recv_into(receive->server, receive->into, &receive->message, WAIT_NS));
    return NULL;
}

/* Receives in a thread, and has begun to. */
static void receive_start(struct receive *receive, struct pair *pair, struct landing *landing)
{
    const uint64_t shape = SMALL;
    *receive = (struct receive){.server = pair->server, .into = landing->dict};
    assert_int_equal(pthread_create(&receive->thread, NULL, receive_into, receive), 0);
    while (haul_dict_put(landing->dict, "small", HAUL_U8, 1, &shape, landing->small) != HAUL_BUSY)
        sched_yield();
}

/* What bytes are on their way to is not sent, nor changed: it could be given away with them. After
 * that it is. */
static void test_no_send_of_a_destination(void **state)
{
    struct pair *pair = *state;
    struct landing landing = landing_of(pair);
    struct parcel parcel = parcel_of(pair, 3);
    const uint64_t large = LARGE;
    void *given;
    struct haul_message *request, *reply;
    struct haul_op *call, *op;
    free(landing.large);
    OK(haul_dict_alloc(landing.dict, "large", HAUL_U8, 1, &large, &given));
    landing.large = given;
    OK(haul_dict_give(landing.dict, "large"));
    OK(haul_call_async(pair->peer, parcel.dict, &call));
    OK(haul_recv(pair->server, &request, WAIT_NS));
    struct haul_peer *client = haul_message_peer(request);

    struct receive receive;
    receive_start(&receive, pair, &landing);
    FAILS(HAUL_BUSY, "being received into", haul_dict_clear(landing.dict));
    FAILS(HAUL_BUSY, "being received into", haul_dict_give(landing.dict, "large"));
    FAILS(HAUL_BUSY, "being received into", haul_send(client, landing.dict, WAIT_NS));
    FAILS(HAUL_BUSY, "being received into", haul_send_async(client, landing.dict, &op));
    FAILS(HAUL_BUSY, "being received into", haul_reply(request, landing.dict, WAIT_NS));
    OK(haul_send(pair->peer, parcel.dict, WAIT_NS));
    pthread_join(receive.thread, NULL);
    assert_landed(&landing, receive.message, 3);
    haul_message_release(receive.message);

    OK(haul_reply_async(request, landing.dict, &op));
    assert_int_equal(haul_dict_count(landing.dict), 1);
    landing.large = NULL; /* given */
    OK(haul_op_wait(call, WAIT_NS));
    OK(haul_op_reply(call, &reply));
    assert_bytes(reply, "small", SMALL, 3);
    assert_bytes(reply, "large", LARGE, 4);
    haul_message_release(reply);
    FINISH(op);
    haul_op_release(call);
    haul_message_release(request);
    landing_free(&landing);
    parcel_free(&parcel);
}

/* It says types to a batch, but is no place to receive into. */
static void test_dict_of_another_context(void **state)
{
    struct pair *pair = *state;
    char x;
    struct haul_dict *dict = dict_of(pair->client_context, "x", &x, 1, 1);
    struct haul_message *message;
    struct haul_batch *batch;
    FAILS(HAUL_INVALID, "another context",
          haul_recv_into(pair->server, dict, &message, HAUL_FOREVER));
    OK(haul_batch_create(pair->server_context, dict, 1, &batch));
    OK(haul_batch_post(batch, pair->server));
    OK(haul_send(pair->peer, dict, WAIT_NS));
    OK(haul_batch_wait(batch, WAIT_NS));
    assert_true(is_filled(haul_batch_find(batch, "x")->data, 1, 1));
    haul_batch_destroy(batch);
    haul_dict_destroy(dict);
}

static void test_destroyed_meanwhile(void **state)
{
    struct pair *pair = *state;
    struct landing landing = landing_of(pair);
    struct parcel parcel = parcel_of(pair, 3);
    struct receive receive;
    receive_start(&receive, pair, &landing);
    haul_dict_destroy(landing.dict);
    landing.dict = NULL;
    OK(haul_send(pair->peer, parcel.dict, WAIT_NS));
    pthread_join(receive.thread, NULL);
    assert_landed(&landing, receive.message, 3);
    haul_message_release(receive.message);
    landing_free(&landing);
    parcel_free(&parcel);
}

/* One that was whole waits for the one before it, which is taken back, or does not fit: then it is
 * the next. */
static void test_behind_one_that_goes(void **state)
{
    struct pair *pair = *state;
    char *large = malloc(LARGE), x;
    struct haul_dict *first = dict_of(pair->client_context, "large", large, LARGE, 1);
    struct haul_dict *second = dict_of(pair->client_context, "x", &x, 1, 2);
    struct haul_dict *into;
    const uint64_t one = 1;
    char landed = 0;
    struct haul_message *message;
    struct haul_op *gone, *op;
    OK(haul_dict_create(pair->server_context, &into));
    OK(haul_dict_put(into, "x", HAUL_U8, 1, &one, &landed));
    for (int i = 0; i < 3; i++) { /* nobody receives the large one: it stays with its sender */
        OK(haul_send_async(pair->peer, first, &gone));
        OK(haul_send_async(pair->peer, second, &op));
        if (i == 0) /* (a moment for both to come) */
            assert_int_equal(haul_op_wait(op, SHORT_NS) == 0, false);
        if (i < 2) {
            haul_op_cancel(gone);
            FAILS(HAUL_CANCELLED, "", haul_op_wait(gone, WAIT_NS));
        }
        OK(haul_recv_into(pair->server, into, &message, WAIT_NS));
        assert_bytes(message, "x", 1, 2);
        haul_message_release(message);
        OK(haul_op_wait(op, WAIT_NS));
        if (i == 2)
            FAILS(HAUL_REFUSED, "does not expect", haul_op_wait(gone, WAIT_NS));
        haul_op_release(op);
        haul_op_release(gone);
    }
    haul_dict_destroy(first);
    haul_dict_destroy(second);
    haul_dict_destroy(into);
    free(large);
}

/* Messages that came before anybody named memory, and receives of both kinds in turn. */
static void test_mixed_receives(void **state)
{
    enum { MESSAGES = 12 };
    struct pair *pair = *state;
    struct landing landing = landing_of(pair);
    struct haul_op *ops[MESSAGES];
    struct parcel parcels[MESSAGES];
    for (unsigned i = 0; i < MESSAGES; i++) {
        parcels[i] = parcel_of(pair, 10 * i);
        OK(haul_send_async(pair->peer, parcels[i].dict, &ops[i]));
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct haul_message *message;
        if (i % 3 == 0) {
            OK(haul_recv(pair->server, &message, WAIT_NS));
            assert_bytes(message, "large", LARGE, 10 * i + 1);
        } else {
            OK(haul_recv_into(pair->server, landing.dict, &message, WAIT_NS));
            assert_landed(&landing, message, 10 * i);
        }
        haul_message_release(message);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        FINISH(ops[i]);
        parcel_free(&parcels[i]);
    }
    landing_free(&landing);
}

/* A receive that ends early gives its memory back; the message comes with the next one. */
static void test_timeouts_lose_nothing(void **state)
{
    struct pair *pair = *state;
    struct landing landing = landing_of(pair);
    struct landing other = landing_of(pair);
    struct haul_message *message;
    for (unsigned i = 0; i < 30; i++) {
        struct haul_op *op;
        struct parcel parcel = parcel_of(pair, i);
        OK(haul_send_async(pair->peer, parcel.dict, &op));
        /* 0 to 1.5 ms: some of them end in the middle of the transfer */
        int err = haul_recv_into(pair->server, landing.dict, &message, i * 50000);
        if (err == 0) {
            assert_landed(&landing, message, i);
        } else {
            assert_int_equal(err, HAUL_TIMEOUT);
            memset(landing.large, 0x5a, LARGE);
            OK(haul_recv_into(pair->server, other.dict, &message, WAIT_NS));
            assert_landed(&other, message, i);
            for (size_t at = 0; at < LARGE; at += 4096)
                assert_int_equal(landing.large[at], 0x5a);
        }
        haul_message_release(message);
        FINISH(op);
        parcel_free(&parcel);
    }
    landing_free(&landing);
    landing_free(&other);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
}

/* Waits that are shorter than a message takes to come: it comes all the same, to the next ones. */
static void test_short_waits_get_on(void **state)
{
    enum { LONG = 48 << 20 };
    struct pair *pair = *state;
    const uint64_t bytes = LONG;
    char *from = malloc(LONG), *to = calloc(1, LONG);
    struct haul_dict *dict = dict_of(pair->client_context, "x", from, LONG, 3), *into;
    struct haul_batch *batch;
    struct haul_message *message;
    struct haul_op *op[2];
    OK(haul_dict_create(pair->server_context, &into));
    OK(haul_dict_put(into, "x", HAUL_U8, 1, &bytes, to));
    OK(haul_batch_create(pair->server_context, into, 2, &batch));
    int64_t end_ns = now_ns() + WAIT_NS;
    int err = HAUL_TIMEOUT;
    OK(haul_send_async(pair->peer, dict, &op[0]));
    while (err == HAUL_TIMEOUT && now_ns() < end_ns)
        err = haul_recv_into(pair->server, into, &message, 100000);
    OK(err);
    assert_true(is_filled(to, LONG, 3));
    haul_message_release(message);
    FINISH(op[0]);

    size_t rows = 0;
    for (int i = 0; i < 2; i++)
        OK(haul_send_async(pair->peer, dict, &op[i]));
    while (rows < 2 && now_ns() < end_ns) {
        OK(haul_batch_post(batch, pair->server));
        err = haul_batch_wait(batch, 100000);
        rows += haul_batch_rows(batch);
        for (size_t i = 0; i < haul_batch_rows(batch); i++)
            assert_true(is_filled((char *)haul_batch_find(batch, "x")->data + i * LONG, LONG, 3));
        assert_true(err == 0 || err == HAUL_TIMEOUT);
    }
    assert_int_equal(rows, 2);
    for (int i = 0; i < 2; i++) {
        FINISH(op[i]);
    }
    haul_batch_destroy(batch);
    haul_dict_destroy(dict);
    haul_dict_destroy(into);
    free(from);
    free(to);
}

/* Several threads receive into memory of their own, which is gone when their short wait is over. */
struct receivers {
    struct pair *pair;
    atomic_uint received; /* a bit for each message */
    atomic_bool stop;
};

static void *receive_shortly(void *arg)
{
    struct receivers *receivers = arg;
    for (int i = 0; !receivers->stop; i++) {
        struct landing landing = landing_of(receivers->pair);
        struct haul_message *message;
        int err =
            haul_recv_into(receivers->pair->server, landing.dict, &message, 300000 + i % 7 * 20000);
        if (err == 0) {
            unsigned seed = 0;
            while (!is_filled(landing.small, SMALL, seed) && seed < 32)
                seed++;
            assert_landed(&landing, message, seed);
            assert_int_equal(atomic_fetch_xor(&receivers->received, 1u << seed) >> seed & 1, 0);
            haul_message_release(message);
        } else {
            assert_int_equal(err, HAUL_TIMEOUT);
        }
        landing_free(&landing);
    }
    return NULL;
}

static void test_short_waits_of_several_threads(void **state)
{
    enum { THREADS = 3, MESSAGES = 32 };
    struct receivers receivers = {.pair = *state};
    pthread_t threads[THREADS];
    struct haul_op *ops[MESSAGES];
    struct parcel parcels[MESSAGES];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, receive_shortly, &receivers), 0);
    for (unsigned i = 0; i < MESSAGES; i++) {
        parcels[i] = parcel_of(receivers.pair, i);
        OK(haul_send_async(receivers.pair->peer, parcels[i].dict, &ops[i]));
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        FINISH(ops[i]);
    }
    receivers.stop = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(receivers.received, UINT32_MAX);
    for (unsigned i = 0; i < MESSAGES; i++) {
        parcel_free(&parcels[i]);
    }
}

/* Two batches in turn, so that one is always posted: each wait takes messages out of one while the
 * other has room for them. */
static void test_short_waits_of_two_batches(void **state)
{
    enum { LONG = 48 << 20, MESSAGES = 3 };
    struct pair *pair = *state;
    char *from = malloc(LONG);
    struct haul_dict *dict = dict_of(pair->client_context, "x", from, LONG, 3);
    struct haul_batch *batches[2];
    struct haul_op *ops[MESSAGES];
    for (int i = 0; i < 2; i++) {
        OK(haul_batch_create(pair->server_context, dict, 1, &batches[i]));
        OK(haul_batch_post(batches[i], pair->server));
    }
    for (int i = 0; i < MESSAGES; i++)
        OK(haul_send_async(pair->peer, dict, &ops[i]));
    int64_t end_ns = now_ns() + WAIT_NS;
    size_t rows = 0;
    for (int turn = 0; rows < MESSAGES && now_ns() < end_ns; turn ^= 1) {
        int err = haul_batch_wait(batches[turn], 100000);
        assert_true(err == 0 || err == HAUL_TIMEOUT);
        rows += haul_batch_rows(batches[turn]);
        if (haul_batch_rows(batches[turn]) > 0)
            assert_true(is_filled(haul_batch_find(batches[turn], "x")->data, LONG, 3));
        OK(haul_batch_post(batches[turn], pair->server));
    }
    assert_int_equal(rows, MESSAGES);
    for (int i = 0; i < MESSAGES; i++) {
        FINISH(ops[i]);
    }
    for (int i = 0; i < 2; i++)
        haul_batch_destroy(batches[i]);
    haul_dict_destroy(dict);
    free(from);
}

/* A message that is as large as the pool, and takes more there since its arrays are aligned: it
 * waits for the next destination. */
static void test_the_largest_is_taken_back(void **state)
{
    enum { POOL = 8 << 20, MOST = (3 << 20) + 1, REST = POOL - 2 * MOST };
    struct pair *pair = pair_open("pool_max", "8M", NULL);
    const uint64_t most = MOST, rest = REST;
    char *from = malloc(POOL), *to = malloc(POOL);
    struct haul_dict *dict = dict_of(pair->client_context, "a", from, MOST, 1), *into;
    struct haul_message *message;
    struct haul_op *op;
    (void)state;
    put_bytes(dict, "b", from + MOST, MOST, 2);
    put_bytes(dict, "c", from + 2 * MOST, REST, 3);
    OK(haul_dict_create(pair->server_context, &into));
    OK(haul_dict_put(into, "a", HAUL_U8, 1, &most, to));
    OK(haul_dict_put(into, "b", HAUL_U8, 1, &most, to + MOST));
    OK(haul_dict_put(into, "c", HAUL_U8, 1, &rest, to + 2 * MOST));
    for (int i = 0; i < 30; i++) {
        OK(haul_send_async(pair->peer, dict, &op));
        int err = haul_recv_into(pair->server, into, &message, i * 50000);
        if (err == HAUL_TIMEOUT) /* as a rule in the middle */
            err = haul_recv_into(pair->server, into, &message, WAIT_NS);
        OK(err);
        assert_bytes(message, "a", MOST, 1);
        assert_bytes(message, "b", MOST, 2);
        assert_bytes(message, "c", REST, 3);
        haul_message_release(message);
        FINISH(op);
    }
    haul_dict_destroy(dict);
    haul_dict_destroy(into);
    pair_close(pair);
    free(from);
    free(to);
}

/* ---- Batches --------------------------------------------------------------------------------- */

static struct haul_batch *batch_of(struct pair *pair, struct landing *row, size_t rows)
{
    struct haul_batch *batch;
    OK(haul_batch_create(pair->server_context, row->dict, rows, &batch));
    return batch;
}

static void test_batch(void **state)
{
    enum { PEERS = 4 };
    struct pair *pair = *state;
    struct landing row = landing_of(pair);
    struct haul_batch *batch = batch_of(pair, &row, PEERS);
    struct haul_peer *peers[PEERS];
    struct haul_op *ops[PEERS];
    struct parcel parcels[PEERS];
    struct haul_dict *answer;
    char yes;
    assert_int_equal(haul_batch_count(batch), 2);
    assert_int_equal(haul_batch_find(batch, "large")->ndim, 2);
    assert_int_equal(haul_batch_find(batch, "large")->shape[0], PEERS);
    assert_int_equal(haul_batch_find(batch, "large")->shape[1], LARGE);
    answer = dict_of(pair->server_context, "yes", &yes, 1, 1);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = connect_to(pair->client_context, pair->server);
        parcels[i] = parcel_of(pair, 10 * i);
    }
    for (int round = 0; round < 5; round++) {
        for (unsigned i = 0; i < PEERS; i++)
            OK(haul_call_async(peers[i], parcels[i].dict, &ops[i]));
        OK(haul_batch_post(batch, pair->server));
        FAILS(HAUL_BUSY, "posted", haul_batch_post(batch, pair->server));
        OK(haul_batch_wait(batch, WAIT_NS));
        assert_int_equal(haul_batch_rows(batch), PEERS);
        unsigned seen = 0;
        for (unsigned r = 0; r < PEERS; r++) {
            const char *data = haul_batch_find(batch, "large")->data;
            const char *text = haul_batch_find(batch, "small")->data;
            for (unsigned i = 0; i < PEERS; i++)
                if (is_filled(data + (size_t)r * LARGE, LARGE, 10 * i + 1) &&
                    is_filled(text + r * SMALL, SMALL, 10 * i))
                    seen |= 1u << i;
            assert_non_null(haul_batch_peer(batch, r));
            OK(haul_batch_reply(batch, r, answer, WAIT_NS));
        }
        assert_int_equal(seen, (1u << PEERS) - 1);
        for (unsigned i = 0; i < PEERS; i++) {
            FINISH(ops[i]);
        }
    }
    haul_batch_destroy(batch);
    for (unsigned i = 0; i < PEERS; i++) {
        haul_peer_release(peers[i]);
        parcel_free(&parcels[i]);
    }
    haul_dict_destroy(answer);
    landing_free(&row);
}

static void test_batch_timeout_hands_out_whole_rows(void **state)
{
    struct pair *pair = *state;
    struct landing row = landing_of(pair);
    struct haul_batch *batch = batch_of(pair, &row, 3);
    struct parcel parcel = parcel_of(pair, 7);
    struct haul_op *op;
    OK(haul_send_async(pair->peer, parcel.dict, &op));
    OK(haul_batch_post(batch, pair->server));
    FINISH(op); /* a row is whole */
    FAILS(HAUL_TIMEOUT, "1 of 3", haul_batch_wait(batch, SHORT_NS));
    assert_int_equal(haul_batch_rows(batch), 1);
    assert_true(is_filled(haul_batch_find(batch, "large")->data, LARGE, 8));
    assert_null(haul_batch_peer(batch, 1));
    OK(haul_send_async(pair->peer, parcel.dict, &op));
    OK(haul_batch_post(batch, pair->server));
    FAILS(HAUL_TIMEOUT, "of 3", haul_batch_wait(batch, SHORT_NS));
    size_t rows = haul_batch_rows(batch);
    if (rows == 0) { /* slow machine: it comes with the next filling */
        OK(haul_batch_post(batch, pair->server));
        OK(haul_op_wait(op, WAIT_NS));
        FAILS(HAUL_TIMEOUT, "1 of 3", haul_batch_wait(batch, SHORT_NS));
    }
    FINISH(op);
    haul_batch_destroy(batch);
    landing_free(&row);
    parcel_free(&parcel);
}

/* Messages that come while earlier ones of their peer still go to the pool, for a receive of the
 * other kind: they may not pass those, but must not be forgotten either. */
static void test_batch_after_a_receive(void **state)
{
    enum { ROWS = 4 };
    struct pair *pair = *state;
    struct landing row = landing_of(pair);
    struct haul_batch *batch = batch_of(pair, &row, ROWS);
    struct parcel parcel = parcel_of(pair, 7);
    struct haul_op *ops[ROWS];
    struct haul_message *message;
    for (int i = 0; i < 30; i++) {
        size_t received = 0;
        for (int op = 0; op < ROWS; op++) {
            OK(haul_send_async(pair->peer, parcel.dict, &ops[op]));
            if (op > 0)
                continue;
            int err = haul_recv(pair->server, &message, i * 50000);
            assert_true(err == 0 || err == HAUL_TIMEOUT);
            received += err == 0;
            if (err == 0)
                haul_message_release(message);
            OK(haul_batch_post(batch, pair->server));
        }
        for (size_t left = received; left > 0; left--) { /* a row for each that came before */
            struct haul_op *more;
            OK(haul_send_async(pair->peer, parcel.dict, &more));
            FINISH(more);
        }
        OK(haul_batch_wait(batch, WAIT_NS));
        const char *data = haul_batch_find(batch, "large")->data;
        for (size_t at = 0; at < ROWS; at++)
            assert_true(is_filled(data + at * LARGE, LARGE, 8));
        for (int op = 0; op < ROWS; op++) {
            FINISH(ops[op]);
        }
    }
    haul_batch_destroy(batch);
    landing_free(&row);
    parcel_free(&parcel);
}

/* Rows of peers that left before they were whole go to others. */
static void test_batch_survives_peers_that_leave(void **state)
{
    struct pair *pair = *state;
    struct landing row = landing_of(pair);
    struct haul_batch *batch = batch_of(pair, &row, 4);
    struct parcel parcel = parcel_of(pair, 7);
    struct haul_op *ops[4];
    OK(haul_batch_post(batch, pair->server));
    for (int i = 0; i < 6; i++) {
        struct haul_peer *peer = connect_to(pair->client_context, pair->server);
        struct haul_op *op;
        OK(haul_send_async(peer, parcel.dict, &op));
        haul_peer_release(peer);
        int err = haul_op_wait(op, WAIT_NS);
        assert_true(err == 0 || err == HAUL_CLOSED || err == HAUL_PEER_LOST);
        haul_op_release(op);
    }
    for (int i = 0; i < 4; i++)
        OK(haul_send_async(pair->peer, parcel.dict, &ops[i]));
    OK(haul_batch_wait(batch, WAIT_NS));
    const char *data = haul_batch_find(batch, "large")->data;
    for (size_t i = 0; i < 4; i++)
        assert_true(is_filled(data + i * LARGE, LARGE, 8));
    haul_batch_destroy(batch);
    landing_free(&row);
    for (int i = 0; i < 4; i++) {
        haul_op_cancel(ops[i]);
        haul_op_release(ops[i]);
    }
    haul_peer_disconnect(pair->peer);
    parcel_free(&parcel);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_recv_into),
        TEST(test_misfits_are_refused),
        TEST(test_no_send_of_a_destination),
        TEST(test_dict_of_another_context),
        TEST(test_destroyed_meanwhile),
        TEST(test_behind_one_that_goes),
        TEST(test_mixed_receives),
        TEST(test_timeouts_lose_nothing),
        TEST(test_short_waits_get_on),
        TEST(test_short_waits_of_two_batches),
        TEST(test_short_waits_of_several_threads),
        cmocka_unit_test(test_the_largest_is_taken_back),
        TEST(test_batch),
        TEST(test_batch_timeout_hands_out_whole_rows),
        TEST(test_batch_after_a_receive),
        TEST(test_batch_survives_peers_that_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
