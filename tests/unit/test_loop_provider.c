/* SPDX-License-Identifier: Apache-2.0
 * The provider `loop` alone: its settings, and its channel with each fault knob. */
#include "loop_host.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Settings and names --------------------------------------------------------------------- */

static void test_settings(void **state)
{
    (void)state;
    static const struct setting wrong[] = {
        {"loop_delay_us", "fast"},    {"loop_delay_us", "-1"},
        {"loop_delay_us", ""},        {"loop_delay_us", "60000001"},
        {"loop_short_writes", "1 "},  {"loop_drop_after_bytes", "99999999999999999999"},
        {"loop_fail_alloc", "0x1"},   {"loop_rma", "yes"},
        {"loop_rma_map", ""},         {"loop_rma_delay_us", "1.5"},
        {"loop_rma_fail_every", "n"}, {"loop_rma_hang_every", "+1"},
        {"loop_parts", "maybe"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct setting settings[2] = {wrong[i]};
        struct haul_engine engine = {.settings = settings};
        assert_int_equal(provider->channel->open(&engine, &engine.channel), HAUL_CONFIG);
        assert_non_null(strstr(host_detail, wrong[i].name));
        assert_int_equal(provider->rma->open(&engine, "", &engine.rma), HAUL_CONFIG);
    }
    struct haul_engine engine = {0};
    struct setting parts[] = {{"loop_parts", "on"}, {0}};
    engine.settings = parts; /* the environment has it off */
    assert_int_equal(provider->channel->open(&engine, &engine.channel), HAUL_CONFIG);
    assert_non_null(strstr(host_detail, "HAUL_LOOP_PARTS"));
}

static void test_names(void **state)
{
    (void)state;
    struct pair pair;
    pair_listen(&pair, NULL, NULL);
    struct haul_listener listener = {.engine = &pair.a};
    void *handle;
    char bound[64];
    assert_int_equal(provider->channel->listen(pair.a.channel, pair.client_route, &listener,
                                               &handle, bound, sizeof(bound)),
                     HAUL_ADDRESS);
    void *other = route_to(&pair.a, "0", true);
    assert_int_equal(
        provider->channel->listen(pair.a.channel, other, &listener, &handle, bound, sizeof(bound)),
        0);
    provider->channel->unlisten(handle);
    provider->channel->route_free(other);
    struct haul_address address = {.text = "localhost:0", .service = "0"};
    assert_int_equal(provider->channel->resolve(pair.a.channel, &address, false, &other),
                     HAUL_ADDRESS);
    struct haul_address path = {.text = "unix:/x", .unix_path = "/x"};
    assert_int_equal(provider->channel->resolve(pair.a.channel, &path, true, &other), 0);
    assert_int_equal(
        provider->channel->listen(pair.a.channel, other, &listener, &handle, bound, sizeof(bound)),
        0);
    assert_string_equal(bound, "unix:/x");
    provider->channel->unlisten(handle);
    provider->channel->route_free(other);
    pair_close(&pair);
}

/* ---- Connections ---------------------------------------------------------------------------- */

static void test_nobody_listens(void **state)
{
    (void)state;
    struct pair pair;
    pair_listen(&pair, NULL, NULL);
    provider->channel->unlisten(pair.listening);
    pair.listening = NULL;
    dial(&pair);
    assert_int_equal(pair.client->lost, 0);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->lost, 1);
    assert_int_equal(pair.client->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(pair.client->why, "nobody listens on localhost:"));
    pair_close(&pair);
}

static void test_server_refuses(void **state)
{
    (void)state;
    struct pair pair;
    pair_listen(&pair, NULL, NULL);
    pair.listener.refuse = true;
    dial(&pair);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->lost_err, HAUL_UNREACHABLE);
    hang_up(&pair.client);
    /* Connected to, and never accepted. */
    dial(&pair);
    provider->channel->unlisten(pair.listening);
    pair.listening = NULL;
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->lost_err, HAUL_UNREACHABLE);
    assert_int_equal(pair.client->connected, 0);
    pair_close(&pair);
}

static void test_client_leaves_before_it_is_accepted(void **state)
{
    (void)state;
    struct pair pair;
    pair_listen(&pair, NULL, NULL);
    dial(&pair);
    hang_up(&pair.client);
    settle(&pair.a, &pair.b);
    pair.server = pair.listener.accepted;
    assert_non_null(pair.server);
    assert_int_equal(pair.server->lost_err, HAUL_PEER_LOST);
    pair_close(&pair);
}

static void test_disconnect(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, NULL, NULL);
    uint8_t bytes[100] = {0};
    struct iovec payload = {bytes, sizeof(bytes)};
    send_control(pair.client, 1);
    assert_int_equal(send_frame(pair.client, 2, &payload, 1, bytes), 0);
    send_control(pair.client, 3);
    assert_int_equal(pair.client->sent, 0);
    provider->channel->disconnect(pair.client->conn, true);
    pair.client->conn = NULL;
    assert_int_equal(pair.client->sent, 1); /* before it returned */
    memset(bytes, 0xff, sizeof(bytes));
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 1); /* what came before the payload */
    assert_int_equal(pair.server->headers[0][0], 1);
    assert_int_equal(pair.server->lost, 1);
    assert_int_equal(pair.server->lost_err, HAUL_PEER_LOST);
    /* Sends to a peer that has gone are dropped, and their payload comes back. */
    assert_int_equal(send_frame(pair.server, 4, &payload, 1, bytes), 0);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->sent, 1);
    assert_int_equal(pair.server->lost, 1);
    pair_close(&pair);
}

static void test_core_gives_up(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, NULL, NULL);
    pair.server->refuse_frames = true;
    uint8_t bytes[8] = {0};
    struct iovec payload = {bytes, sizeof(bytes)};
    assert_int_equal(send_frame(pair.client, 1, &payload, 1, bytes), 0);
    send_control(pair.client, 2);
    settle(&pair.a, &pair.b);
    pair.server->refuse_frames = false;
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames + (size_t)pair.server->lost, 0);
    hang_up(&pair.server);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->sent, 1);
    assert_int_equal(pair.client->lost_err, HAUL_PEER_LOST);
    pair_close(&pair);
}

/* What the parent listens on and offers is not there for a child, which can start anew. */
static bool child_is_alone(struct pair *pair, const uint8_t *blob, size_t blob_bytes)
{
    struct haul_engine engine;
    engine_open(&engine, NULL);
    struct haul_link *link = link_create(&engine);
    if (provider->channel->connect(engine.channel, pair->client_route, link, &link->conn))
        return false;
    settle(&engine, &engine);
    void *peer, *handle;
    char bound[64];
    return link->lost_err == HAUL_UNREACHABLE &&
           provider->rma->attach(engine.rma, blob, blob_bytes, NULL, &peer) == HAUL_UNSUPPORTED &&
           provider->channel->listen(engine.channel, pair->client_route, &pair->listener, &handle,
                                     bound, sizeof(bound)) == 0;
}

static void test_fork(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, NULL, NULL);
    uint8_t blob[HAUL_RMA_ADDRESS_MAX];
    size_t blob_bytes = sizeof(blob);
    assert_int_equal(provider->rma->address(pair.b.rma, NULL, blob, &blob_bytes), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(child_is_alone(&pair, blob, blob_bytes) ? 0 : 1);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    send_control(pair.client, 1);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 1);
    pair_close(&pair);
}

/* ---- Frames --------------------------------------------------------------------------------- */

static void test_frames(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, NULL, NULL);
    char hello[] = "hello, ", world[] = "world of frames";
    struct iovec payload[] = {{hello, 7}, {NULL, 0}, {world, 15}, {NULL, 0}};
    send_control(pair.client, 1);
    assert_int_equal(send_frame(pair.client, 2, payload, 4, hello), 0);
    assert_int_equal(send_frame(pair.client, 3, payload, 4, world), HAUL_BUSY);
    send_control(pair.client, 4);
    send_control(pair.server, 5);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 3);
    assert_int_equal(pair.server->headers[0][0], 1);
    assert_int_equal(pair.server->headers[1][0], 2);
    assert_int_equal(pair.server->headers[2][0], 4);
    assert_memory_equal(pair.server->headers[2] + HAUL_PREFIX_BYTES, "body", 4);
    assert_int_equal(pair.server->received, 22);
    assert_memory_equal(pair.server->memory, "hello, world of frames", 22);
    assert_int_equal(pair.client->frames, 1);
    assert_int_equal(pair.client->sent, 1);
    assert_ptr_equal(pair.client->cookie, hello);
    assert_int_equal(pair.client->writable, 1);
    /* Segments that hold no bytes come back too. */
    assert_int_equal(send_frame(pair.client, 6, payload + 3, 1, world), 0);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->sent, 2);
    assert_int_equal(pair.server->frames, 4);
    assert_int_equal(pair.client->lost + pair.server->lost, 0);
    pair_close(&pair);
}

static void test_recall(void **state)
{
    (void)state;
    struct setting slow[] = {{"loop_short_writes", "1"}, {0}};
    struct pair pair;
    pair_open(&pair, NULL, slow);
    char text[] = "all of these bytes arrive, although the sender changes its memory";
    char wanted[sizeof(text)];
    memcpy(wanted, text, sizeof(text));
    struct iovec payload[] = {{text, 30}, {text + 30, sizeof(text) - 30}};
    /* Not begun: as if it had never been sent. */
    assert_int_equal(send_frame(pair.client, 1, payload, 2, text), 0);
    assert_false(provider->channel->recall(pair.client->conn, wanted));
    assert_true(provider->channel->recall(pair.client->conn, text));
    assert_false(provider->channel->recall(pair.client->conn, text));
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 0);
    /* Begun: some of it is there and the rest follows. */
    assert_int_equal(send_frame(pair.client, 2, payload, 2, text), 0);
    assert_int_equal(send_frame(pair.client, 3, payload, 2, text), HAUL_BUSY);
    engine_pass(&pair.b);
    assert_in_range(pair.server->received, 1, sizeof(text) - 1);
    assert_true(provider->channel->recall(pair.client->conn, text));
    memset(text, '#', sizeof(text));
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->whole, 1);
    assert_memory_equal(pair.server->memory, wanted, sizeof(text));
    assert_int_equal(pair.client->writable, 1);
    assert_int_equal(pair.client->sent, 0);
    pair_close(&pair);
}

static void test_disconnect_within_a_payload(void **state)
{
    (void)state;
    struct setting slow[] = {{"loop_short_writes", "1"}, {0}};
    struct pair pair;
    pair_open(&pair, slow, slow);
    char text[64] = "";
    struct iovec payload = {text, sizeof(text)};
    assert_int_equal(send_frame(pair.client, 1, &payload, 1, text), 0);
    assert_int_equal(send_frame(pair.server, 2, &payload, 1, text), 0);
    engine_pass(&pair.b);
    engine_pass(&pair.a);
    assert_in_range(pair.server->received, 1, sizeof(text) - 1);
    assert_in_range(pair.client->received, 1, sizeof(text) - 1);
    provider->channel->disconnect(pair.client->conn, false);
    pair.client->conn = NULL;
    assert_int_equal(pair.client->sent, 1);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->whole, 0);
    assert_int_equal(pair.server->sent, 1);
    assert_int_equal(pair.server->lost_err, HAUL_PEER_LOST);
    pair_close(&pair);
}

/* ---- Fault knobs of the channel ------------------------------------------------------------- */

static void test_delay(void **state)
{
    (void)state;
    struct setting late[] = {{"loop_delay_us", "500"}, {0}};
    struct pair pair;
    pair_open(&pair, late, NULL);
    uint64_t due_ns = host_clock_ns + 500000;
    send_control(pair.client, 1);
    settle(&pair.a, &pair.b);
    assert_int_equal(provider->channel->deadline_ns(pair.b.channel), due_ns);
    host_clock_ns = due_ns - 1;
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 0);
    host_clock_ns = due_ns;
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 1);
    assert_true(provider->channel->deadline_ns(pair.b.channel) == UINT64_MAX);
    /* The end of a connection does not overtake what was sent before it. */
    send_control(pair.client, 2);
    hang_up(&pair.client);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->lost, 0);
    host_clock_ns += 500000;
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 2);
    assert_int_equal(pair.server->lost, 1);
    pair_close(&pair);
}

static void test_drop_after_bytes(void **state)
{
    (void)state;
    struct setting drop[] = {{"loop_drop_after_bytes", "75"}, {0}};
    struct pair pair;
    pair_open(&pair, NULL, drop);
    char text[] = "only fifteen bytes of these pass";
    struct iovec payload = {text, sizeof(text)};
    send_control(pair.client, 1); /* 20 bytes each */
    send_control(pair.server, 2);
    assert_int_equal(send_frame(pair.client, 3, &payload, 1, text), 0);
    send_control(pair.client, 4);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.server->frames, 2);
    assert_int_equal(pair.server->received, 15);
    assert_memory_equal(pair.server->memory, text, 15);
    assert_int_equal(pair.client->sent, 1);
    assert_int_equal(pair.client->lost_err, HAUL_PEER_LOST);
    assert_int_equal(pair.server->lost_err, HAUL_PEER_LOST);
    assert_non_null(strstr(pair.client->why, "loop_drop_after_bytes"));
    pair_close(&pair);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct setting first[] = {{"loop_fail_alloc", "1"}, {0}};
    struct haul_engine engine = {.settings = first};
    assert_int_equal(provider->channel->open(&engine, &engine.channel), HAUL_NO_MEMORY);
    assert_int_equal(provider->rma->open(&engine, "", &engine.rma), HAUL_NO_MEMORY);
    assert_non_null(strstr(host_detail, "loop_fail_alloc"));
    struct setting fourth[] = {{"loop_fail_alloc", "4"}, {0}};
    struct pair pair;
    pair_open(&pair, fourth, NULL); /* the client: channel, route, pair */
    char text[] = "never arrives";
    struct iovec payload = {text, sizeof(text)};
    assert_int_equal(send_frame(pair.client, 1, &payload, 1, text), 0);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->sent, 1);
    assert_int_equal(pair.client->lost_err, HAUL_PEER_LOST);
    assert_non_null(strstr(pair.client->why, "memory"));
    assert_int_equal(pair.server->frames, 0);
    assert_int_equal(pair.server->lost, 1);
    pair_close(&pair);
}

static void test_recall_without_memory(void **state)
{
    (void)state;
    struct setting fifth[] = {{"loop_fail_alloc", "5"}, {0}}; /* channel, route, pair, frame */
    struct setting slow[] = {{"loop_short_writes", "1"}, {0}};
    struct pair pair;
    pair_open(&pair, fifth, slow);
    char text[64] = "the rest of this cannot be copied";
    struct iovec payload = {text, sizeof(text)};
    assert_int_equal(send_frame(pair.client, 1, &payload, 1, text), 0);
    engine_pass(&pair.b);
    assert_in_range(pair.server->received, 1, sizeof(text) - 1);
    assert_false(provider->channel->recall(pair.client->conn, text));
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->sent, 1);
    assert_int_equal(pair.server->whole, 1);
    assert_memory_equal(pair.server->memory, text, sizeof(text));
    pair_close(&pair);
}

/* Once there is a frame of each size, the channel allocates nothing: the fifth allocation would
 * fail. */
static void test_steady_state(void **state)
{
    (void)state;
    struct setting fifth[] = {{"loop_fail_alloc", "5"}, {0}}; /* channel, route, pair, frame */
    struct pair pair;
    pair_open(&pair, fifth, NULL);
    char text[] = "the same again";
    struct iovec payload = {text, sizeof(text)};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(send_frame(pair.client, 1, &payload, 1, text), 0);
        settle(&pair.a, &pair.b);
        send_control(pair.client, 2);
        settle(&pair.a, &pair.b);
    }
    assert_int_equal(pair.server->frames, 2000);
    assert_int_equal(pair.client->sent, 1000);
    pair_close(&pair);
}

static void test_parts(void **state)
{
    (void)state;
    ask_loop_again("on");
    assert_int_equal(provider->channel->flags, HAUL_CHANNEL_PARTS);
    struct setting parts[] = {{"loop_parts", "on"}, {"loop_short_writes", "3"}, {0}};
    struct pair pair;
    pair_open(&pair, parts, parts);
    char text[] = "onefour";
    struct iovec payload[] = {{text, 3}, {NULL, 0}, {text + 3, 4}};
    assert_int_equal(send_frame(pair.client, 1, payload, 3, text), 0);
    settle(&pair.a, &pair.b);
    assert_int_equal(pair.client->sent, 1);
    assert_int_equal(pair.server->lent, 3);
    assert_memory_equal(pair.server->memory, "onefour", 7);
    for (size_t i = 0; i < 3; i++)
        provider->channel->give_back(pair.b.channel, pair.server->tokens[i]);
    pair_close(&pair);
    ask_loop_again("off");
    assert_int_equal(provider->channel->flags, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_server_refuses),
        cmocka_unit_test(test_client_leaves_before_it_is_accepted),
        cmocka_unit_test(test_disconnect),
        cmocka_unit_test(test_core_gives_up),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_disconnect_within_a_payload),
        cmocka_unit_test(test_delay),
        cmocka_unit_test(test_drop_after_bytes),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_recall_without_memory),
        cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, load_loop, NULL);
}
