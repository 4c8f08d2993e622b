/* SPDX-License-Identifier: Apache-2.0
 * Messages whose arrays come from everywhere at once (given, lent out of the pool, the user's own,
 * of a block that is sent again), as sends and as calls whose replies are given, between threads
 * that hold what they have received, check it twice, and release each other's in any order. What a
 * sender has back it overwrites at once. All in one process, so that a thread sanitizer sees both
 * sides.
 *
 * HAULTEST_MESSAGES: how many (default 6000, with sanitizers 1000). */
#include "programs/letter.h"

#include <time.h>

enum {
    CLIENTS = 3,
    RECEIVERS = 3,
    WINDOW = 4,
    PARTS_MAX = 4,
    BAG = 10, /* less than the credits of a client, which could not send any more otherwise */
    OTHER = 0x5a,
};
enum way { GIVEN, LENT, OWN, BLOCK, WAYS };
#define MOST ((uint64_t)3 << 20)

/* Held messages. */
struct bag {
    struct haul_message *messages[BAG];
    uint64_t put; /* so far */
};

struct slot {
    uint64_t number;
    struct haul_dict *dict;
    struct haul_op *op; /* NULL: free */
    void *theirs[PARTS_MAX];
    struct haul_block *blocks[PARTS_MAX];
    uint8_t *own;
};

struct client {
    pthread_t thread;
    struct haul_context *context;
    struct haul_peer *peer;
    uint64_t first, count;
    struct slot slots[WINDOW];
    struct bag replies;
};

static struct haul_context *context;
static struct haul_server *server;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct bag bag;

/* ---- What a message is, by its number -------------------------------------------------------- */

static uint64_t draw(uint64_t number, unsigned what)
{
    uint64_t drawn;
    fill(&drawn, sizeof drawn, number << 8 ^ what << 4);
    return drawn >> 20;
}

static unsigned part_count(uint64_t number)
{
    return (unsigned)(draw(number, 0) % PARTS_MAX);
}

/* Small ones are as likely as large ones, from 0 to MOST. */
static uint64_t part_bytes(uint64_t number, unsigned part)
{
    uint64_t drawn = draw(number, 1 + part);
    uint64_t span = MOST >> drawn % 24;
    return (drawn >> 5) % (span + 1);
}

static enum way part_way(uint64_t number, unsigned part)
{
    return (enum way)(draw(number, 1 + PARTS_MAX + part) % WAYS);
}

static uint64_t part_seed(uint64_t number, unsigned part)
{
    return draw(number, 1 + 2 * PARTS_MAX + part);
}

static const char *part_key(unsigned part)
{
    static const char *const keys[PARTS_MAX + 1] = {"0", "1", "2", "3", "reply"};
    return keys[part];
}

static bool wants_reply(uint64_t number)
{
    return number % 3 == 0;
}

/* Checks every byte. */
static void check_part(const struct haul_message *message, uint64_t number, unsigned part)
{
    const struct haul_array *array = haul_message_find(message, part_key(part));
    REQUIRE(array && array->nbytes == part_bytes(number, part));
    REQUIRE(is_filled(array->data, array->nbytes, part_seed(number, part)));
}

static uint64_t number_of(const struct haul_message *message)
{
    const struct haul_array *array = haul_message_find(message, "number");
    uint64_t number;
    REQUIRE(array && array->nbytes == sizeof number);
    memcpy(&number, array->data, sizeof number);
    return number;
}

static void check_message(const struct haul_message *message)
{
    uint64_t number = number_of(message);
    REQUIRE(haul_message_count(message) == 1 + part_count(number));
    for (unsigned part = 0; part < part_count(number); part++)
        check_part(message, number, part);
}

static void check_reply(const struct haul_message *reply)
{
    check_part(reply, number_of(reply), PARTS_MAX);
}

/* ---- Bags ------------------------------------------------------------------------------------ */

/* Puts it at a place that nobody foresees. Returns what lay there. */
static struct haul_message *swap(struct bag *held, struct haul_message *message)
{
    size_t place = draw(held->put++, 0) % BAG;
    struct haul_message *old = held->messages[place];
    held->messages[place] = message;
    return old;
}

static void release(struct haul_message *message, void (*check)(const struct haul_message *))
{
    if (!message)
        return;
    check(message); /* as it was */
    haul_message_release(message);
}

static void empty(struct bag *held, void (*check)(const struct haul_message *))
{
    for (size_t i = 0; i < BAG; i++) {
        release(held->messages[i], check);
        held->messages[i] = NULL;
    }
}

/* ---- The server ------------------------------------------------------------------------------ */

static void *alloc_part(struct haul_dict *dict, uint64_t number, unsigned part)
{
    void *data;
    const uint64_t bytes = part_bytes(number, part);
    OK(haul_dict_alloc(dict, part_key(part), HAUL_U8, 1, &bytes, &data));
    fill(data, bytes, part_seed(number, part));
    return data;
}

static void put_number(struct haul_dict *dict, const uint64_t *number)
{
    const uint64_t one = 1;
    OK(haul_dict_put(dict, "number", HAUL_U64, 1, &one, number));
}

/* With an array that is given. */
static void answer(struct haul_message *message)
{
    struct haul_dict *dict;
    const uint64_t number = number_of(message);
    REQUIRE(haul_message_wants_reply(message) == wants_reply(number));
    if (!wants_reply(number))
        return;
    OK(haul_dict_create(context, &dict));
    put_number(dict, &number);
    alloc_part(dict, number, PARTS_MAX);
    OK(haul_dict_give(dict, part_key(PARTS_MAX)));
    OK(haul_reply(message, dict, WAIT_NS));
    haul_dict_destroy(dict);
}

static void *receive(void *arg)
{
    struct haul_message *message;
    (void)arg;
    while (haul_recv(server, &message, HAUL_FOREVER) == 0) {
        check_message(message);
        answer(message);
        pthread_mutex_lock(&lock);
        message = swap(&bag, message);
        pthread_cond_signal(&more);
        pthread_mutex_unlock(&lock);
        release(message, check_message);
    }
    return NULL;
}

/* A reply has ended only some time after its receiver has it. */
static void wait_for_answers(uint64_t count)
{
    pthread_mutex_lock(&lock);
    while (bag.put < count)
        pthread_cond_wait(&more, &lock);
    pthread_mutex_unlock(&lock);
}

/* ---- Clients --------------------------------------------------------------------------------- */

static void put_own(struct slot *slot, unsigned part)
{
    slot->theirs[part] = slot->own + part * MOST;
    put_bytes(slot->dict, part_key(part), slot->theirs[part], part_bytes(slot->number, part),
              part_seed(slot->number, part));
}

static void put_block(struct client *client, struct slot *slot, unsigned part)
{
    const uint64_t bytes = part_bytes(slot->number, part);
    OK(haul_block_alloc(client->context, bytes > 0 ? bytes : 1, &slot->blocks[part]));
    slot->theirs[part] = haul_block_data(slot->blocks[part]);
    fill(slot->theirs[part], bytes, part_seed(slot->number, part));
    const struct haul_array array = {.key = part_key(part),
                                     .shape = &bytes,
                                     .data = slot->theirs[part],
                                     .dtype = HAUL_U8,
                                     .itemsize = 1,
                                     .ndim = 1};
    OK(haul_dict_put_block(slot->dict, &array, slot->blocks[part]));
}

static void put_part(struct client *client, struct slot *slot, unsigned part)
{
    switch (part_way(slot->number, part)) {
    case GIVEN:
        alloc_part(slot->dict, slot->number, part);
        OK(haul_dict_give(slot->dict, part_key(part)));
        break;
    case LENT:
        slot->theirs[part] = alloc_part(slot->dict, slot->number, part);
        break;
    case OWN:
        put_own(slot, part);
        break;
    default:
        put_block(client, slot, part);
    }
}

static void start(struct client *client, struct slot *slot, uint64_t number)
{
    slot->number = number;
    put_number(slot->dict, &slot->number);
    for (unsigned part = 0; part < part_count(number); part++)
        put_part(client, slot, part);
    OK(wants_reply(number) ? haul_call_async(client->peer, slot->dict, &slot->op)
                           : haul_send_async(client->peer, slot->dict, &slot->op));
}

/* What was not given is the sender's again, who uses it for something else. */
static void take_back(struct slot *slot)
{
    for (unsigned part = 0; part < part_count(slot->number); part++) {
        if (slot->theirs[part])
            memset(slot->theirs[part], OTHER, part_bytes(slot->number, part));
        slot->theirs[part] = NULL;
    }
    OK(haul_dict_clear(slot->dict));
    for (unsigned part = 0; part < PARTS_MAX; part++) {
        if (slot->blocks[part])
            haul_block_release(slot->blocks[part]);
        slot->blocks[part] = NULL;
    }
}

static void finish(struct client *client, struct slot *slot)
{
    struct haul_message *reply;
    if (!slot->op)
        return;
    OK(haul_op_wait(slot->op, 10 * WAIT_NS));
    if (wants_reply(slot->number)) {
        OK(haul_op_reply(slot->op, &reply));
        REQUIRE(number_of(reply) == slot->number);
        check_reply(reply);
        release(swap(&client->replies, reply), check_reply);
    }
    haul_op_release(slot->op);
    slot->op = NULL;
    take_back(slot);
}

static void *send_all(void *arg)
{
    struct client *client = arg;
    for (uint64_t i = 0; i < client->count + WINDOW; i++) {
        struct slot *slot = &client->slots[i % WINDOW];
        finish(client, slot);
        if (i < client->count)
            start(client, slot, client->first + i);
    }
    empty(&client->replies, check_reply);
    return NULL;
}

static void open_client(struct client *client, uint64_t first, uint64_t count)
{
    *client = (struct client){.context = context_open(NULL), .first = first, .count = count};
    client->peer = connect_to(client->context, server);
    for (size_t i = 0; i < WINDOW; i++) {
        client->slots[i].own = malloc(PARTS_MAX * MOST);
        assert_non_null(client->slots[i].own);
        OK(haul_dict_create(client->context, &client->slots[i].dict));
    }
}

static void close_client(struct client *client)
{
    for (size_t i = 0; i < WINDOW; i++) {
        haul_dict_destroy(client->slots[i].dict);
        free(client->slots[i].own);
    }
    haul_peer_release(client->peer);
    haul_close(client->context);
}

/* ---- The test -------------------------------------------------------------------------------- */

static uint64_t message_count(void)
{
    const char *count = getenv("HAULTEST_MESSAGES"), *sanitizer = getenv("HAULTEST_SANITIZE");
    if (count)
        return strtoull(count, NULL, 10);
    return sanitizer && strcmp(sanitizer, "none") != 0 ? 1000 : 6000;
}

static void assert_path(const struct client *client)
{
    char path[64], why[512];
    haul_peer_path(client->peer, path, sizeof path, why, sizeof why);
    assert_string_equal(path, "tcp+shm");
    assert_string_equal(why, "");
}

/* Nothing announces that it is free again. */
static void wait_for_memory(struct haul_context *of)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    struct haul_stats stats;
    for (int64_t waited_ns = 0;; waited_ns += pause.tv_nsec) {
        haul_context_stats(of, &stats);
        if (stats.pool_used_bytes == 0)
            return;
        assert_in_range(waited_ns, 0, 10 * WAIT_NS);
        nanosleep(&pause, NULL); /* between two looks */
    }
}

/* By each way that shm has: looked at, copied, and with the manifest. */
static void assert_every_way(const struct client *clients, uint64_t count)
{
    struct haul_stats stats;
    haul_context_stats(context, &stats);
    assert_int_equal(stats.messages_received, count);
    assert_int_equal(stats.messages_unreleased, 0);
    assert_int_equal(stats.rma_failures, 0);
    assert_int_not_equal(stats.bytes_mapped, 0);
    assert_int_not_equal(stats.bytes_read_rma, 0);
    assert_int_not_equal(stats.bytes_inline, 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        haul_context_stats(clients[i].context, &stats);
        assert_int_equal(stats.ops_failed, 0);
        assert_int_not_equal(stats.bytes_mapped, 0); /* replies */
    }
}

static void test_mixed_arrays(void **state)
{
    static struct client clients[CLIENTS];
    pthread_t receivers[RECEIVERS];
    const uint64_t each = message_count() / CLIENTS;
    (void)state;
    context = context_open(NULL);
    OK(haul_listen(context, "127.0.0.1:0", &server));
    for (size_t i = 0; i < CLIENTS; i++)
        open_client(&clients[i], i * each, each);
    for (size_t i = 0; i < RECEIVERS; i++)
        assert_int_equal(pthread_create(&receivers[i], NULL, receive, NULL), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&clients[i].thread, NULL, send_all, &clients[i]), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(clients[i].thread, NULL);
    wait_for_answers(CLIENTS * each);
    haul_server_shutdown(server);
    for (size_t i = 0; i < RECEIVERS; i++)
        pthread_join(receivers[i], NULL);
    empty(&bag, check_message);
    assert_every_way(clients, CLIENTS * each);
    wait_for_memory(context);
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_path(&clients[i]);
        wait_for_memory(clients[i].context);
        close_client(&clients[i]);
    }
    haul_server_close(server);
    haul_close(context);
}

/* All memory that the pool has. */
static void overwrite_pool(struct haul_context *of)
{
    static struct haul_block *blocks[64];
    size_t count = 0;
    while (count < 64 && !haul_block_alloc(of, MOST, &blocks[count]))
        memset(haul_block_data(blocks[count++]), OTHER, MOST);
    assert_in_range(count, 1, 63);
    while (count > 0)
        haul_block_release(blocks[--count]);
}

/* The receiver's context is closed: what was received is looked at all the same, and its sender
 * knows. */
static void test_looked_at_after_the_end(void **state)
{
    struct pair *pair = pair_open("pool_max", "48M", NULL);
    const uint64_t bytes = MOST;
    struct haul_message *message;
    struct haul_dict *dict;
    struct haul_op *op;
    void *data;
    (void)state;
    OK(haul_dict_create(pair->client_context, &dict));
    OK(haul_dict_alloc(dict, "x", HAUL_U8, 1, &bytes, &data));
    fill(data, bytes, 1);
    OK(haul_dict_give(dict, "x"));
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    OK(haul_op_wait(op, WAIT_NS));
    assert_true(haul_message_find(message, "x")->flags & HAUL_SHARED);
    haul_server_close(pair->server);
    haul_close(pair->server_context);
    haul_peer_disconnect(pair->peer);
    overwrite_pool(pair->client_context);
    assert_bytes(message, "x", bytes, 1);
    haul_message_release(message);
    wait_for_memory(pair->client_context);
    haul_op_release(op);
    haul_dict_destroy(dict);
    haul_peer_release(pair->peer);
    haul_close(pair->client_context);
    test_free(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_looked_at_after_the_end),
        cmocka_unit_test(test_mixed_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
