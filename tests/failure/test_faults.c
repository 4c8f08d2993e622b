/* SPDX-License-Identifier: Apache-2.0
 * loop's fault knobs drive core through what networks do rarely: frames and reads that are late,
 * short, fail or hang, connections that drop at any byte, allocations that fail. Whatever happens,
 * each op ends once, each message arrives whole or not at all, memory is the sender's own again,
 * and everything can be closed. */
#include "fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum {
    MESSAGES = 6,
    BYTES_MAX = 3000000,
};
/* How long ops get when some cannot succeed. */
#define DROP_PATIENCE_NS (30 * (int64_t)1000000)

/* What is sent: to the server, and by a call's reply back. */
struct item {
    size_t bytes, reply_bytes;
    bool calls;
};

/* Inline and offered, with large and small replies. */
static const struct item large_items[MESSAGES] = {
    {.bytes = 100},
    {.bytes = 70000, .calls = true, .reply_bytes = 10},
    {.bytes = BYTES_MAX},
    {.bytes = 8, .calls = true, .reply_bytes = BYTES_MAX},
    {.bytes = 0, .calls = true},
    {.bytes = 200000},
};
/* Few bytes, so that a connection can be dropped at each of them. */
static const struct item small_items[MESSAGES] = {
    {.bytes = 5}, {.bytes = 20, .calls = true, .reply_bytes = 10}, {.bytes = 40}, {.bytes = 0},
    {.bytes = 1}, {.bytes = 9, .calls = true, .reply_bytes = 0},
};

struct world {
    const struct item *items;
    int64_t connect_ns;  /* after which a connection is not waited for */
    int64_t patience_ns; /* after which ops are cancelled */
    struct haul_context *server_context, *client_context;
    struct haul_server *server;
    struct haul_peer *peer;
    pthread_t receiver;
    atomic_uint received[MESSAGES];
    atomic_uint wrong; /* messages that are not what was sent */
    uint8_t *data[MESSAGES];
    int result[MESSAGES];
    uint64_t bytes_read, reads_failed; /* by rma, of both sides: to see that a knob worked */
};

static uint8_t replies[MESSAGES][BYTES_MAX];

static uint64_t reply_seed(unsigned number)
{
    return 100 + number;
}

/* ---- The server's side ----------------------------------------------------------------------- */

/* Its arrays are static and nothing waits for the op: the reply goes on by itself. */
static void answer(struct world *world, struct haul_message *message, unsigned number)
{
    struct haul_dict *dict;
    struct haul_op *op;
    uint64_t shape = world->items[number].reply_bytes;
    if (haul_dict_create(world->server_context, &dict))
        return; /* the context is being closed */
    if (!haul_dict_put(dict, "reply", HAUL_U8, 1, &shape, replies[number]) &&
        !haul_reply_async(message, dict, &op))
        haul_op_release(op);
    haul_dict_destroy(dict);
}

static void take(struct world *world, struct haul_message *message)
{
    const struct haul_array *number = haul_message_find(message, "number");
    const struct haul_array *data = haul_message_find(message, "data");
    unsigned n = number && number->nbytes == 1 ? *(uint8_t *)number->data : MESSAGES;
    if (n >= MESSAGES || !data || data->nbytes != world->items[n].bytes ||
        !is_filled(data->data, data->nbytes, n)) {
        world->wrong++;
        return;
    }
    world->received[n]++;
    if (haul_message_wants_reply(message))
        answer(world, message, n);
}

static void *receive_until_closed(void *arg)
{
    struct world *world = arg;
    struct haul_message *message;
    while (haul_recv(world->server, &message, HAUL_FOREVER) == 0) {
        take(world, message);
        haul_message_release(message);
    }
    return NULL;
}

/* ---- The client's side ----------------------------------------------------------------------- */

static int open_context(const char *const *settings, struct haul_context **context)
{
    struct haul_options *options;
    OK(haul_options_create(&options));
    OK(haul_options_set(options, "log", "error"));
    for (size_t i = 0; settings[i]; i += 2)
        OK(haul_options_set(options, settings[i], settings[i + 1]));
    int err = haul_open(context, options);
    haul_options_destroy(options);
    return err;
}

static int start_op(struct world *world, unsigned number, uint8_t *tag, struct haul_op **op)
{
    struct haul_dict *dict;
    const struct item *item = &world->items[number];
    const uint64_t one = 1;
    OK(haul_dict_create(world->client_context, &dict));
    OK(haul_dict_put(dict, "number", HAUL_U8, 1, &one, tag));
    put_bytes(dict, "data", world->data[number], item->bytes, number);
    int err = item->calls ? haul_call_async(world->peer, dict, op)
                          : haul_send_async(world->peer, dict, op);
    haul_dict_destroy(dict);
    return err;
}

static void check_reply(struct haul_op *op, const struct item *item, unsigned number)
{
    struct haul_message *reply;
    OK(haul_op_reply(op, &reply));
    assert_bytes(reply, "reply", item->reply_bytes, reply_seed(number));
    haul_message_release(reply);
}

/* Waits for its end, if necessary by cancelling. */
static void end_op(struct world *world, unsigned number, struct haul_op *op)
{
    int err = haul_op_wait(op, world->patience_ns);
    if (err == HAUL_TIMEOUT) {
        world->patience_ns = 0; /* it is used up for the others too */
        haul_op_cancel(op);     /* (nothing happens if it ended just now) */
        err = haul_op_wait(op, WAIT_NS);
        assert_int_not_equal(haul_op_test(op), HAUL_BUSY);
    }
    if (err == 0 && world->items[number].calls)
        check_reply(op, &world->items[number], number);
    world->result[number] = err;
    haul_op_release(op);
    /* Ours again: who still reads it reads something else than was sent. */
    memset(world->data[number], 0xee, world->items[number].bytes);
}

static void send_all(struct world *world)
{
    struct haul_op *ops[MESSAGES];
    uint8_t tags[MESSAGES];
    for (unsigned i = 0; i < MESSAGES; i++) {
        tags[i] = (uint8_t)i;
        OK(start_op(world, i, &tags[i], &ops[i]));
    }
    for (unsigned i = 0; i < MESSAGES; i++)
        end_op(world, i, ops[i]);
}

/* ---- The world ------------------------------------------------------------------------------- */

static void check_outcome(struct world *world)
{
    struct haul_stats stats;
    haul_context_stats(world->client_context, &stats);
    assert_int_equal(stats.ops_under_way, 0);
    assert_int_equal(stats.messages_sent + stats.ops_failed, MESSAGES);
    assert_int_equal(world->wrong, 0);
    for (unsigned i = 0; i < MESSAGES; i++) {
        if (world->result[i])
            assert_in_range(world->received[i], 0, 1);
        else
            assert_int_equal(world->received[i], 1);
    }
}

typedef bool reached_fn(const struct haul_stats *stats, uint64_t wanted);

/* Waits until a context's statistics have got so far: nothing announces that they change. */
static void wait_for(struct haul_context *context, reached_fn *reached, uint64_t wanted)
{
    struct haul_stats stats;
    time_t limit = time(NULL) + WAIT_NS / 1000000000;
    do {
        haul_context_stats(context, &stats);
        assert_in_range(time(NULL), 0, limit);
        sched_yield();
    } while (!reached(&stats, wanted));
}

static bool is_released(const struct haul_stats *stats, uint64_t left)
{
    return stats->messages_unreleased <= left;
}

static bool has_read(const struct haul_stats *stats, uint64_t bytes)
{
    return stats->bytes_read_rma >= bytes;
}

static bool has_transmitted(const struct haul_stats *stats, uint64_t bytes)
{
    return stats->bytes_transmitted >= bytes;
}

static bool has_lost(const struct haul_stats *stats, uint64_t peers)
{
    return stats->disconnects >= peers;
}

static bool uses_no_more(const struct haul_stats *stats, uint64_t bytes)
{
    return stats->pool_used_bytes <= bytes;
}

static void note_reads(struct world *world)
{
    struct haul_context *contexts[] = {world->server_context, world->client_context};
    for (int i = 0; i < 2; i++) {
        struct haul_stats stats;
        haul_context_stats(contexts[i], &stats);
        world->bytes_read += stats.bytes_read_rma;
        world->reads_failed += stats.rma_failures;
    }
}

static int connect_world(struct world *world)
{
    int err = haul_listen(world->server_context, "127.0.0.1:0", &world->server);
    if (!err)
        err = haul_connect(world->client_context, haul_server_address(world->server),
                           world->connect_ns, &world->peer);
    return err;
}

static int build(struct world *world, const char *const *settings)
{
    int err = open_context(settings, &world->server_context);
    if (!err)
        err = open_context(settings, &world->client_context);
    return err ? err : connect_world(world);
}

static void tear_down(struct world *world)
{
    if (world->peer)
        haul_peer_release(world->peer);
    if (world->client_context)
        haul_close(world->client_context);
    if (world->server)
        haul_server_close(world->server);
    if (world->server_context)
        haul_close(world->server_context);
}

static void start_receiver(struct world *world)
{
    assert_int_equal(pthread_create(&world->receiver, NULL, receive_until_closed, world), 0);
}

static void end_receiver(struct world *world)
{
    haul_close(world->server_context);
    world->server_context = NULL;
    assert_int_equal(pthread_join(world->receiver, NULL), 0);
}

/* One life of a pair of contexts with these settings, in a world that says only what is sent and
 * how patiently. Returns why it could not be connected, or 0. */
static int live_in(struct world *world, const char *const *settings)
{
    int err = build(world, settings);
    if (!err) {
        for (unsigned i = 0; i < MESSAGES; i++)
            world->data[i] = test_malloc(world->items[i].bytes + 1);
        start_receiver(world);
        send_all(world);
        wait_for(world->server_context, is_released, 0);
        note_reads(world);
        end_receiver(world);
        check_outcome(world);
        for (unsigned i = 0; i < MESSAGES; i++)
            test_free(world->data[i]);
    }
    tear_down(world);
    return err;
}

static int live(struct world *world, const struct item *items, int64_t patience_ns,
                const char *const *settings)
{
    *world = (struct world){.items = items, .connect_ns = patience_ns, .patience_ns = patience_ns};
    return live_in(world, settings);
}

static struct world succeeds(const struct item *items, const char *const *settings)
{
    struct world world;
    OK(live(&world, items, WAIT_NS, settings));
    for (unsigned i = 0; i < MESSAGES; i++)
        OK(world.result[i]);
    return world;
}

#define SETTINGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- What only delays ------------------------------------------------------------------------ */

static void test_nothing_fails(void **state)
{
    (void)state;
    succeeds(large_items, SETTINGS("loop_delay_us", "0"));
    succeeds(small_items, SETTINGS("prepaid_max", "0"));
}

static void test_late_frames(void **state)
{
    (void)state;
    succeeds(large_items, SETTINGS("loop_delay_us", "3000"));
    succeeds(large_items, SETTINGS("loop_delay_us", "3000", "loop_rma", "off"));
}

static void test_short_writes(void **state)
{
    static const char *const pieces[] = {"1", "7", "4097", "65535"};
    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        succeeds(i == 0 ? small_items : large_items,
                 SETTINGS("loop_short_writes", pieces[i], "loop_rma", "off"));
}

static void test_late_reads(void **state)
{
    (void)state;
    struct world world = succeeds(large_items, SETTINGS("loop_rma_delay_us", "20000"));
    assert_int_equal(world.bytes_read, 2 * BYTES_MAX); /* the others are inline */
    succeeds(large_items, SETTINGS("loop_rma_delay_us", "5000", "loop_delay_us", "5000"));
}

/* Their ends are told before the call that starts them returns, the proof's too. */
static void test_reads_that_end_at_once(void **state)
{
    (void)state;
    struct world world = succeeds(large_items, SETTINGS("loop_rma_inside", "on"));
    assert_int_equal(world.bytes_read, 2 * BYTES_MAX);
    for (int i = 1; i <= 2; i++) { /* the proof, and the first of a message */
        const char every[] = {(char)('0' + i), '\0'};
        world =
            succeeds(large_items, SETTINGS("loop_rma_inside", "on", "loop_rma_fail_every", every));
        assert_int_equal(world.reads_failed > 0, i == 2);
        assert_int_equal(world.bytes_read, 0);
    }
}

/* The peer of the server's one client, once there is one: nothing announces it. */
static struct haul_peer *wait_for_client(struct haul_server *server)
{
    struct haul_peer *client;
    time_t limit = time(NULL) + WAIT_NS / 1000000000;
    while (haul_server_peers(server, &client, 1) == 0) {
        assert_in_range(time(NULL), 0, limit);
        sched_yield();
    }
    return client;
}

/* A server may ask as soon as it has welcomed its client. What that one answers while it still
 * proves the path leaves when it has. (It redials: before, there is no peer to receive from. Where
 * 0.3 s are too short for the question, the path is proven already.) */
static void test_replies_while_proving(void **state)
{
    struct world world = {.connect_ns = WAIT_NS};
    struct haul_message *message, *reply;
    struct haul_dict *question, *answer;
    struct haul_op *op;
    char address[64];
    (void)state;
    OK(open_context(SETTINGS(NULL), &world.server_context));
    OK(open_context(SETTINGS("loop_rma_delay_us", "300000"), &world.client_context));
    OK(connect_world(&world));
    snprintf(address, sizeof address, "%s", haul_server_address(world.server));
    haul_server_close(world.server);
    OK(haul_listen(world.server_context, address, &world.server));
    struct haul_peer *client = wait_for_client(world.server);
    OK(haul_dict_create(world.server_context, &question));
    OK(haul_dict_create(world.client_context, &answer));
    put_bytes(answer, "reply", replies[0], 1000, reply_seed(0));
    OK(haul_call_async(client, question, &op));
    OK(haul_peer_recv(world.peer, &message, WAIT_NS));
    OK(haul_reply(message, answer, WAIT_NS));
    OK(haul_op_wait(op, WAIT_NS));
    OK(haul_op_reply(op, &reply));
    assert_bytes(reply, "reply", 1000, reply_seed(0));
    haul_message_release(reply);
    haul_message_release(message);
    haul_op_release(op);
    haul_dict_destroy(question);
    haul_dict_destroy(answer);
    haul_peer_release(client);
    tear_down(&world);
}

/* ---- What fails ------------------------------------------------------------------------------ */

/* With 1 the read that should prove the path fails, with 2 the first one of a message. */
static const char *const each_read[] = {"1", "2"};

/* A failed read is asked for on the channel. */
static void test_failing_reads(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world world = succeeds(large_items, SETTINGS("loop_rma_fail_every", each_read[i]));
        assert_int_equal(world.reads_failed > 0, i == 1);
        assert_int_equal(world.bytes_read, 0);
    }
}

/* Beside an array that is looked at in place, which has to come on the channel then, too: the read
 * of the other array fails, or the proof of both. */
static void test_failing_reads_beside_a_view(void **state)
{
    static const char *const reads[] = {"2", "3"}; /* the first proves the path */
    const uint64_t bytes = BYTES_MAX;
    (void)state;
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        struct world world = {.connect_ns = WAIT_NS};
        struct haul_message *message;
        struct haul_stats stats;
        struct haul_dict *dict;
        struct haul_op *op;
        void *given;
        OK(build(&world, SETTINGS("loop_rma_fail_every", reads[i])));
        OK(haul_dict_create(world.client_context, &dict));
        OK(haul_dict_alloc(dict, "given", HAUL_U8, 1, &bytes, &given));
        fill(given, bytes, 7);
        OK(haul_dict_give(dict, "given"));
        put_bytes(dict, "own", replies[0], bytes, reply_seed(0));
        OK(haul_send_async(world.peer, dict, &op));
        haul_dict_destroy(dict);
        OK(haul_recv(world.server, &message, WAIT_NS));
        FINISH(op);
        assert_bytes(message, "given", bytes, 7);
        assert_bytes(message, "own", bytes, reply_seed(0));
        haul_message_release(message);
        haul_context_stats(world.server_context, &stats);
        assert_int_equal(stats.rma_failures, 1);
        tear_down(&world);
    }
}

/* Reads that never complete are ended after a while, and asked for on the channel. */
static void test_hanging_reads_are_given_up(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct world world = succeeds(large_items, SETTINGS("loop_rma_hang_every", each_read[i]));
        assert_int_equal(world.reads_failed > 0, i == 1);
        assert_int_equal(world.bytes_read, 0);
    }
}

/* Ops are cancelled while their memory is being read by reads that hang or are late. */
static void test_cancelled_during_reads(void **state)
{
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = SHORT_NS};
    (void)state;
    OK(live_in(&world, SETTINGS("loop_rma_hang_every", "2")));
    for (int patience_ms = 0; patience_ms < 40; patience_ms += 4) {
        int err = live(&world, large_items, patience_ms * (int64_t)1000000,
                       SETTINGS("loop_rma_delay_us", "10000"));
        assert_true(err == 0 || err == HAUL_UNREACHABLE);
    }
}

/* Sends `count` arrays of `bytes` zeros each, and one that goes inline. */
static struct haul_op *start_arrays(struct world *world, unsigned count, uint64_t bytes)
{
    static uint8_t zeros[BYTES_MAX];
    struct haul_dict *dict;
    struct haul_op *op;
    OK(haul_dict_create(world->client_context, &dict));
    OK(haul_dict_put(dict, "inline", HAUL_F64, 0, NULL, zeros));
    for (unsigned i = 0; i < count; i++) {
        const char key[] = {(char)('a' + i), '\0'};
        OK(haul_dict_put(dict, key, HAUL_U8, 1, &bytes, zeros));
    }
    OK(haul_send_async(world->peer, dict, &op));
    haul_dict_destroy(dict);
    return op;
}

/* The sender takes its message back and leaves at once: what the reads hold is freed when they have
 * ended, though nobody is left to be answered. */
static void test_gone_after_cancelling(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
        OK(build(&world, SETTINGS("loop_rma_hang_every", "3"))); /* (the first read is the proof) */
        start_receiver(&world);
        struct haul_op *op = start_arrays(&world, 2, 2 << 20);
        wait_for(world.server_context, has_read, 2 << 20);
        haul_op_cancel(op);
        haul_op_release(op);
        haul_peer_release(world.peer);
        haul_close(world.client_context);
        world.peer = NULL;
        world.client_context = NULL;
        end_receiver(&world);
        assert_int_equal(world.wrong, 0);
        tear_down(&world);
    }
}

/* A receive into memory of its own, by a thread. */
struct landing {
    struct world *world;
    struct haul_batch *batch; /* NULL: into the dict */
    struct haul_dict *dict;
    pthread_t thread;
};

static void *receive_into_landing(void *arg)
{
    struct landing *landing = arg;
    struct haul_message *message;
    if (landing->batch)
        FAILS(HAUL_CLOSED, "0 of 2 rows", haul_batch_wait(landing->batch, WAIT_NS));
    else
        FAILS(HAUL_CLOSED, "",
              haul_recv_into(landing->world->server, landing->dict, &message, WAIT_NS));
    return NULL;
}

/* The server is shut down while reads land in a batch, or in a dict, that another thread waits for:
 * it gets its memory back when nothing writes to it any more, and no row. */
static void shut_down_during_reads(bool batched)
{
    static uint8_t number[8], a[2 << 20], b[2 << 20];
    const uint64_t bytes = sizeof a;
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
    struct landing landing = {.world = &world};
    OK(build(&world, SETTINGS("loop_rma_hang_every", "3"))); /* (the first read is the proof) */
    OK(haul_dict_create(world.server_context, &landing.dict));
    OK(haul_dict_put(landing.dict, "inline", HAUL_F64, 0, NULL, number));
    OK(haul_dict_put(landing.dict, "a", HAUL_U8, 1, &bytes, a));
    OK(haul_dict_put(landing.dict, "b", HAUL_U8, 1, &bytes, b));
    if (batched) {
        OK(haul_batch_create(world.server_context, landing.dict, 2, &landing.batch));
        OK(haul_batch_post(landing.batch, world.server));
    }
    assert_int_equal(pthread_create(&landing.thread, NULL, receive_into_landing, &landing), 0);
    struct haul_op *op = start_arrays(&world, 2, bytes);
    wait_for(world.server_context, has_read, bytes);
    haul_server_shutdown(world.server);
    assert_int_equal(pthread_join(landing.thread, NULL), 0);
    memset(a, 0xee, sizeof a); /* ours again */
    if (batched)
        assert_int_equal(haul_batch_rows(landing.batch), 0);
    haul_batch_destroy(landing.batch);
    haul_dict_destroy(landing.dict);
    haul_op_cancel(op);
    haul_op_release(op);
    tear_down(&world);
}

static void test_shut_down_during_reads(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        shut_down_during_reads(i % 2);
}

/* A world whose channel is busy for a while with the op that is returned: with arrays that are too
 * small to be registered, and so many that their data waits for itself. */
static struct haul_op *build_busy(struct world *world)
{
    OK(open_context(SETTINGS(NULL), &world->server_context));
    OK(open_context(SETTINGS("loop_delay_us", "50000"), &world->client_context));
    OK(connect_world(world));
    start_receiver(world);
    struct haul_op *on_channel = start_arrays(world, 20, 900000);
    wait_for(world->client_context, has_transmitted, 1000000);
    return on_channel;
}

/* The server leaves while a message with registered memory waits for a busy channel: it waits for
 * the next connection, with nothing left of the old one. */
static void test_gone_while_busy(void **state)
{
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
    (void)state;
    struct haul_op *on_channel = build_busy(&world);
    struct haul_op *by_rma = start_arrays(&world, 2, 2 << 20);
    haul_server_close(world.server);
    world.server = NULL;
    assert_int_equal(haul_op_wait(on_channel, WAIT_NS), HAUL_PEER_LOST);
    /* (Unless the channel was free again just before the end.) */
    bool waits = haul_op_test(by_rma) == HAUL_BUSY;
    end_receiver(&world);
    tear_down(&world);
    assert_int_equal(haul_op_test(by_rma), waits ? HAUL_CLOSED : HAUL_PEER_LOST);
    haul_op_release(on_channel);
    haul_op_release(by_rma);
}

/* A given array of a message that was taken back before it had left, because the channel was busy,
 * is the pool's again: no RELEASE will come for it. */
static void test_given_arrays_of_what_never_left(void **state)
{
    const uint64_t bytes = BYTES_MAX;
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
    struct haul_stats before;
    struct haul_dict *dict;
    struct haul_op *op;
    uint8_t number[8];
    void *data;
    (void)state;
    struct haul_op *on_channel = build_busy(&world);
    haul_context_stats(world.client_context, &before);
    OK(haul_dict_create(world.client_context, &dict));
    put_bytes(dict, "inline", number, sizeof number, 0);
    OK(haul_dict_alloc(dict, "given", HAUL_U8, 1, &bytes, &data));
    OK(haul_dict_give(dict, "given"));
    OK(haul_send_async(world.peer, dict, &op));
    haul_op_cancel(op);
    assert_int_equal(haul_op_wait(op, WAIT_NS), HAUL_CANCELLED);
    haul_op_release(op);
    haul_dict_destroy(dict);
    wait_for(world.client_context, uses_no_more, before.pool_used_bytes);
    haul_op_cancel(on_channel);
    haul_op_release(on_channel);
    end_receiver(&world);
    tear_down(&world);
}

/* Everything is closed while the read that should prove the path hangs. */
static void test_closed_during_probe(void **state)
{
    struct world world;
    (void)state;
    assert_int_equal(live(&world, large_items, SHORT_NS, SETTINGS("loop_rma_hang_every", "1")),
                     HAUL_UNREACHABLE);
}

/* Returns how many of the ops failed, or MESSAGES if there was not even a connection. */
static unsigned drop_after(const struct item *items, uint64_t bytes, const char *prepaid,
                           const char *rma)
{
    struct world world;
    char text[32];
    unsigned failed = 0;
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    int err =
        live(&world, items, DROP_PATIENCE_NS,
             SETTINGS("loop_drop_after_bytes", text, "prepaid_max", prepaid, "loop_rma", rma));
    if (err) {
        assert_int_equal(err, HAUL_UNREACHABLE);
        return MESSAGES;
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        int result = world.result[i];
        failed += result != 0;
        assert_true(result == 0 || result == HAUL_PEER_LOST || result == HAUL_CANCELLED);
    }
    return failed;
}

/* Every byte takes long with sanitizers; HAULTEST_STRIDE=1 does it there too. */
static uint64_t drop_stride(void)
{
    const char *stride = getenv("HAULTEST_STRIDE"), *sanitizer = getenv("HAULTEST_SANITIZE");
    if (stride)
        return strtoull(stride, NULL, 10);
    return sanitizer && strcmp(sanitizer, "none") != 0 ? 7 : 1;
}

/* From a connection that cannot even greet, to one that nothing happens to. */
static void drop_at_every_byte(const char *prepaid)
{
    uint64_t bytes = 1;
    unsigned whole = 0;
    while (whole < 3) {
        assert_in_range(bytes, 1, 100000);
        whole = drop_after(small_items, bytes, prepaid, "off") == 0 ? whole + 1 : 0;
        bytes += drop_stride();
    }
}

static void test_dropped_at_every_byte(void **state)
{
    (void)state;
    drop_at_every_byte("4M");
    drop_at_every_byte("0");
}

/* Large payloads: at their beginning, at the borders of chunks and in the middle. */
static void test_dropped_in_payloads(void **state)
{
    (void)state;
    for (uint64_t mib = 0; mib < 8; mib++) {
        for (int step = -2; step <= 2; step++) {
            uint64_t bytes = (mib << 20) + 1000 + (uint64_t)(step * 333);
            drop_after(large_items, bytes, "4M", "off");
            drop_after(large_items, bytes, "0", "off");
            drop_after(large_items, 600 + bytes / 1000, "0", "on");
        }
    }
}

/* Whatever cannot be allocated: an error where it matters, no crash, and memory is not lost. */
static void test_failing_allocations(void **state)
{
    struct world world;
    (void)state;
    for (unsigned every = 1; every <= 60; every++) {
        char text[16];
        snprintf(text, sizeof text, "%u", every);
        int err = live(&world, every % 2 ? large_items : small_items, DROP_PATIENCE_NS,
                       SETTINGS("loop_fail_alloc", text));
        assert_true(err == 0 || err == HAUL_NO_MEMORY || err == HAUL_UNREACHABLE);
    }
}

/* Everything at once. */
static void test_all_faults(void **state)
{
    struct world world;
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        char drop[16], delay[16], fail[16], hang[16];
        snprintf(drop, sizeof drop, "%u", 1000 + 77777 * i);
        snprintf(delay, sizeof delay, "%u", i % 5 * 300);
        snprintf(fail, sizeof fail, "%u", i % 7);
        snprintf(hang, sizeof hang, "%u", i % 4);
        int err = live(&world, large_items, DROP_PATIENCE_NS,
                       SETTINGS("loop_drop_after_bytes", drop, "loop_delay_us", delay,
                                "loop_rma_delay_us", delay, "loop_rma_fail_every", fail,
                                "loop_rma_hang_every", hang, "loop_short_writes", "5000"));
        assert_true(err == 0 || err == HAUL_UNREACHABLE);
    }
}

/* ---- Reads into named memory ----------------------------------------------------------------- */

enum { ROWS = 4, ROW_BYTES = 2 << 20 };

static struct haul_dict *row_of(struct haul_context *context, void *data, uint64_t seed)
{
    struct haul_dict *dict;
    OK(haul_dict_create(context, &dict));
    put_bytes(dict, "data", data, ROW_BYTES, seed);
    return dict;
}

/* Starts ROWS sends of rows whose bytes are their number. */
static void start_rows(struct world *world, uint8_t (*data)[ROW_BYTES], struct haul_op **ops)
{
    for (unsigned i = 0; i < ROWS; i++) {
        struct haul_dict *dict = row_of(world->client_context, data[i], i);
        OK(haul_send_async(world->peer, dict, &ops[i]));
        haul_dict_destroy(dict);
    }
}

static void receive_batch(struct world *world, struct haul_dict *row)
{
    struct haul_batch *batch;
    OK(haul_batch_create(world->server_context, row, ROWS, &batch));
    OK(haul_batch_post(batch, world->server));
    OK(haul_batch_wait(batch, WAIT_NS));
    const uint8_t *rows = haul_batch_find(batch, "data")->data;
    for (unsigned i = 0; i < ROWS; i++) /* of one peer: in order */
        assert_true(is_filled(rows + (size_t)i * ROW_BYTES, ROW_BYTES, i));
    haul_batch_destroy(batch);
}

static void receive_dicts(struct world *world, struct haul_dict *destination)
{
    struct haul_message *message;
    for (unsigned i = 0; i < ROWS; i++) {
        OK(haul_recv_into(world->server, destination, &message, WAIT_NS));
        assert_bytes(message, "data", ROW_BYTES, i);
        haul_message_release(message);
    }
}

/* The batch is taken back while its rows are read. */
static void receive_after_a_batch(struct world *world, struct haul_dict *row)
{
    struct haul_batch *batch;
    OK(haul_batch_create(world->server_context, row, ROWS, &batch));
    OK(haul_batch_post(batch, world->server));
    FAILS(HAUL_TIMEOUT, "", haul_batch_wait(batch, SHORT_NS));
    haul_batch_destroy(batch);
    receive_dicts(world, row);
}

/* Returns how many reads failed. */
static uint64_t land_rows(void (*receive)(struct world *, struct haul_dict *),
                          const char *const *settings)
{
    static uint8_t data[ROWS][ROW_BYTES], memory[ROW_BYTES];
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
    struct haul_op *ops[ROWS];
    OK(build(&world, settings));
    struct haul_dict *row = row_of(world.server_context, memory, ROWS);
    start_rows(&world, data, ops);
    receive(&world, row);
    for (unsigned i = 0; i < ROWS; i++) {
        FINISH(ops[i]);
    }
    haul_dict_destroy(row);
    note_reads(&world);
    tear_down(&world);
    return world.reads_failed;
}

/* Rows and destinations are whole, whatever the reads do that fill them. */
static void test_reads_into_named_memory(void **state)
{
    (void)state;
    for (int batched = 0; batched < 2; batched++) {
        void (*receive)(struct world *, struct haul_dict *) =
            batched ? receive_batch : receive_dicts;
        assert_int_equal(land_rows(receive, SETTINGS("loop_rma_delay_us", "5000")), 0);
        assert_int_equal(land_rows(receive, SETTINGS("loop_rma_inside", "on")), 0);
        assert_true(land_rows(receive, SETTINGS("loop_rma_fail_every", "3")) > 0);
    }
    assert_true(land_rows(receive_batch, SETTINGS("loop_rma_hang_every", "4")) > 0);
    assert_int_equal(land_rows(receive_after_a_batch, SETTINGS("loop_rma_delay_us", "300000")), 0);
}

/* A receive that times out while its row is read: with a fence that lets the reads complete, it has
 * the message or the next one has, and no byte of the row changes after it. */
static void test_timeouts_during_reads(void **state)
{
    static uint8_t data[ROW_BYTES], memory[ROW_BYTES];
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
    (void)state;
    OK(build(&world, SETTINGS("loop_rma_delay_us", "3000", "loop_rma_fence_lets", "on")));
    struct haul_dict *row = row_of(world.server_context, memory, ROWS);
    for (unsigned i = 0; i < 40; i++) {
        struct haul_message *message;
        struct haul_op *op;
        struct haul_dict *dict = row_of(world.client_context, data, i);
        OK(haul_send_async(world.peer, dict, &op));
        int err = haul_recv_into(world.server, row, &message, i * (int64_t)100000);
        if (err == HAUL_TIMEOUT) {
            memset(memory, 0xee, sizeof memory); /* ours again */
            err = haul_recv_into(world.server, row, &message, WAIT_NS);
        }
        OK(err);
        assert_bytes(message, "data", ROW_BYTES, i);
        haul_message_release(message);
        FINISH(op);
        haul_dict_destroy(dict);
    }
    haul_dict_destroy(row);
    tear_down(&world);
}

/* The sender leaves while its memory, which is the pool's, is read, and uses it anew: what the
 * receiver gets is what was sent, or nothing. */
static void test_memory_used_anew_during_reads(void **state)
{
    const uint64_t bytes = BYTES_MAX, one = 1;
    (void)state;
    for (long ms = 0; ms < 150; ms += 10) {
        struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
        uint8_t number = 2; /* of BYTES_MAX bytes */
        struct haul_dict *dict;
        struct haul_op *op;
        void *data;
        OK(build(&world, SETTINGS("loop_delay_us", "60000", "loop_rma_delay_us", "10000",
                                  "loop_rma_map", "off")));
        start_receiver(&world);
        OK(haul_dict_create(world.client_context, &dict));
        OK(haul_dict_put(dict, "number", HAUL_U8, 1, &one, &number));
        OK(haul_dict_alloc(dict, "data", HAUL_U8, 1, &bytes, &data));
        fill(data, bytes, number);
        OK(haul_send_async(world.peer, dict, &op));
        const struct timespec moment = {.tv_nsec = ms * 1000000};
        nanosleep(&moment, NULL); /* the test's input: asserted is what holds at any moment */
        haul_peer_disconnect(world.peer);
        int err = haul_op_wait(op, WAIT_NS);
        memset(data, 0xee, bytes); /* ours again */
        wait_for(world.server_context, has_lost, 1);
        haul_op_release(op);
        haul_dict_destroy(dict);
        end_receiver(&world);
        assert_int_equal(world.wrong, 0);
        assert_true(err == HAUL_CLOSED || world.received[number] == 1);
        tear_down(&world);
    }
}

/* A given array that the receiver looks at in place stays as it is when the sender has left, until
 * it is released; then its memory is the pool's again. */
static void test_given_arrays_outlive_their_connection(void **state)
{
    const uint64_t bytes = BYTES_MAX;
    struct world world = {.items = large_items, .connect_ns = WAIT_NS, .patience_ns = WAIT_NS};
    struct haul_message *message;
    struct haul_stats before;
    struct haul_dict *dict;
    struct haul_op *op;
    void *data;
    (void)state;
    OK(build(&world, SETTINGS("loop_delay_us", "0")));
    OK(haul_dict_create(world.client_context, &dict));
    OK(haul_dict_alloc(dict, "data", HAUL_U8, 1, &bytes, &data));
    fill(data, bytes, 7);
    OK(haul_dict_give(dict, "data"));
    OK(haul_send_async(world.peer, dict, &op));
    OK(haul_recv(world.server, &message, WAIT_NS));
    FINISH(op);
    haul_peer_disconnect(world.peer);
    wait_for(world.server_context, has_lost, 1);
    haul_context_stats(world.client_context, &before);
    OK(haul_dict_alloc(dict, "other", HAUL_U8, 1, &bytes, &data));
    memset(data, 0xee, bytes);
    assert_bytes(message, "data", bytes, 7);
    haul_message_release(message);
    OK(haul_dict_clear(dict));
    wait_for(world.client_context, uses_no_more, before.pool_used_bytes - bytes);
    haul_dict_destroy(dict);
    tear_down(&world);
}

static int fill_replies(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MESSAGES; i++)
        fill(replies[i], sizeof replies[i], reply_seed(i));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_fails),
        cmocka_unit_test(test_late_frames),
        cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_late_reads),
        cmocka_unit_test(test_reads_that_end_at_once),
        cmocka_unit_test(test_replies_while_proving),
        cmocka_unit_test(test_failing_reads),
        cmocka_unit_test(test_failing_reads_beside_a_view),
        cmocka_unit_test(test_hanging_reads_are_given_up),
        cmocka_unit_test(test_cancelled_during_reads),
        cmocka_unit_test(test_gone_after_cancelling),
        cmocka_unit_test(test_shut_down_during_reads),
        cmocka_unit_test(test_reads_into_named_memory),
        cmocka_unit_test(test_timeouts_during_reads),
        cmocka_unit_test(test_memory_used_anew_during_reads),
        cmocka_unit_test(test_given_arrays_outlive_their_connection),
        cmocka_unit_test(test_gone_while_busy),
        cmocka_unit_test(test_given_arrays_of_what_never_left),
        cmocka_unit_test(test_closed_during_probe),
        cmocka_unit_test(test_dropped_at_every_byte),
        cmocka_unit_test(test_dropped_in_payloads),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_all_faults),
    };
    cmocka_set_test_filter(getenv("HAULTEST_FILTER"));
    return cmocka_run_group_tests_name("faults", tests, fill_replies, NULL);
}
