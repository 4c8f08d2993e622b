/* SPDX-License-Identifier: Apache-2.0
 * The zmq plugin: how connections, servers and channels end. */
#include "fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Ends ----------------------------------------------------------------------------------- */

static void a_client_that_leaves_is_lost_after_its_last_frame(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    uint8_t *large = pattern(LARGE, 5);
    struct iovec payload = {large, LARGE};
    assert_int_equal(send_frame(client, TYPE, 0, 0, &payload, 1, 0), 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(send_frame(client, TYPE, 1, (uint8_t)i, NULL, 0, 0), 0);
    hang_up(client, true);
    run_until(&fixture->engine, is_lost, server);
    assert_int_equal(server->lost_err, HAUL_PEER_LOST);
    assert_int_equal(server->frame_count, 52);
    assert_int_equal(client->sent[0], 1);
    free(large);
}

static void a_client_gets_the_servers_last_frame(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    assert_int_equal(send_frame(server, 3, 10, 'b', NULL, 0, 0), 0);
    hang_up(server, true);
    run_until(&fixture->engine, is_lost, client);
    assert_int_equal(client->lost_err, HAUL_PEER_LOST);
    assert_int_equal(client->frame_count, 1);
    hang_up(client, false);
}

static void a_client_can_be_cut_alone(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *servers[2], *clients[2];
    for (int i = 0; i < 2; i++)
        clients[i] = join(fixture, &servers[i]);
    hang_up(servers[0], false);
    run_until(&fixture->engine, is_lost, clients[0]);
    assert_int_equal(send_frame(clients[1], TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(servers[1], 2);
    assert_false(clients[1]->lost || servers[1]->lost);
    for (int i = 0; i < 2; i++) {
        hang_up(clients[i], false);
    }
}

static void payloads_come_back_from_a_dead_peer(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    uint8_t *large = pattern(LARGE, 6);
    struct iovec payload = {large, LARGE};
    hang_up(client, false);
    assert_int_equal(send_frame(server, TYPE, 0, 0, &payload, 1, 0), 0);
    await_sent(server, 1);
    run_until(&fixture->engine, is_lost, server);
    assert_int_equal(send_frame(server, TYPE, 0, 0, &payload, 1, 1), 0);
    assert_int_equal(server->sent[1], 1);
    free(large);
}

/* Descriptors are used again and again; no client may be taken for another. */
static void clients_come_and_go(void **state)
{
    struct fixture *fixture = *state;
    enum { ROUNDS = 150, STAYING = 5 };
    struct haul_link *staying[STAYING], *at_server;
    for (int i = 0; i < STAYING; i++)
        staying[i] = join(fixture, &at_server);
    for (int i = 0; i < ROUNDS; i++) {
        struct haul_link *client = join(fixture, &at_server);
        assert_int_equal(send_frame(client, TYPE, 2, (uint8_t)i, NULL, 0, 0), 0);
        hang_up(client, true);
        if (i % 3 == 0)
            run_until(&fixture->engine, is_lost, at_server);
    }
    assert_int_equal(fixture->listener.link_count, ROUNDS + STAYING);
    for (int i = 0; i < ROUNDS; i++) {
        struct haul_link *link = fixture->listener.links[STAYING + i];
        run_until(&fixture->engine, is_lost, link);
        assert_int_equal(link->frame_count, 2);
        assert_int_equal(link->frames[1].header[HAUL_PREFIX_BYTES], (uint8_t)i);
        hang_up(link, false);
    }
    for (int i = 0; i < STAYING; i++) {
        assert_false(staying[i]->lost || fixture->listener.links[i]->lost);
        hang_up(staying[i], false);
    }
}

/* What asks for an answer costs no credit: who sends it and never reads must not be answered for
 * ever.
 */
static void a_client_that_does_not_read_is_cut(void **state)
{
    struct fixture *fixture = *state;
    enum { FRAMES = 1 << 18, BODY = 1024 }; /* more than libzmq and the sockets of two sides hold */
    struct haul_link *server, *client = join(fixture, &server);
    struct raw raw = raw_connect(fixture, ZMQ_DEALER, "unread");
    raw_send(&raw, 0, 0, 0);
    struct haul_link *unread = await_accepted(fixture, 2);
    for (int i = 0; i < FRAMES; i++)
        assert_int_equal(send_frame(unread, TYPE, BODY, 'u', NULL, 0, 0), 0);
    run_until(&fixture->engine, is_lost, unread);
    assert_int_equal(unread->lost_err, HAUL_PEER_LOST);
    assert_non_null(strstr(unread->why, "does not read"));
    assert_int_equal(send_frame(server, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(client, 1);
    raw_close(&raw);
    hang_up(client, false);
}

/* libzmq's I/O thread still has an event to tell when the socket that it is of is closed. */
static void clients_hang_up_as_soon_as_they_are_lost(void **state)
{
    struct fixture *fixture = *state;
    enum { ROUNDS = 20, CLIENTS = 20 };
    struct haul_link *servers[CLIENTS], *clients[CLIENTS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++)
            clients[i] = join(fixture, &servers[i]);
        for (int i = 0; i < CLIENTS; i++)
            hang_up(servers[i], false);
        for (int i = 0; i < CLIENTS; i++) {
            run_until(&fixture->engine, is_lost, clients[i]);
            hang_up(clients[i], false);
        }
    }
}

/* A plain client that sends one message and exits at once. */
static void a_client_that_is_gone_already_is_heard(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < 20; i++) {
        struct raw raw = raw_connect(fixture, ZMQ_DEALER, NULL);
        int linger = -1;
        zmq_setsockopt(raw.socket, ZMQ_LINGER, &linger, sizeof linger);
        raw_send(&raw, 3, 1, 3);
        raw_close(&raw); /* before we look */
        struct haul_link *link = await_accepted(fixture, i + 1);
        run_until(&fixture->engine, is_lost, link);
        assert_int_equal(link->frame_count, 1);
        hang_up(link, false);
    }
}

/* ---- Settings and life ---------------------------------------------------------------------- */

static void settings_are_checked(void **state)
{
    (void)state;
    struct haul_engine engine;
    static const char *const wrong[] = {"0", "65", "two", "", "1 ", "-1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(engine_open(&engine, wrong[i], "on"), HAUL_CONFIG);
        assert_non_null(strstr(host_detail, "zmq_io_threads"));
    }
    assert_int_equal(engine_open(&engine, "1", "maybe"), HAUL_CONFIG);
    assert_non_null(strstr(host_detail, "zmq_keep_memory"));
    assert_int_equal(engine_open(&engine, "2", "off"), 0);
    engine_close(&engine);
    assert_non_null(strstr(load_provider()->description, "ZeroMQ 4."));
}

/* A peer that takes nothing: what is to be flushed to it must not keep us. */
static void closing_is_bounded(void **state)
{
    struct fixture *fixture = *state;
    void *context = zmq_ctx_new(), *router = zmq_socket(context, ZMQ_ROUTER);
    int one = 1, none = 0;
    char endpoint[256];
    size_t size = sizeof endpoint;
    zmq_setsockopt(router, ZMQ_RCVHWM, &one, sizeof one);
    zmq_setsockopt(router, ZMQ_LINGER, &none, sizeof none);
    assert_int_equal(zmq_bind(router, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size);
    struct haul_link *link = dial(&fixture->engine, endpoint + strlen("tcp://"));
    uint8_t *large = pattern(LARGE, 8);
    struct iovec payload = {large, LARGE};
    size_t taken = 0;
    while (taken < 32 && send_frame(link, TYPE, 0, 0, &payload, 1, taken) == 0)
        taken++;
    hang_up(link, true);
    unlisten(fixture);
    engine_close(&fixture->engine); /* without a bound it would never return */
    for (size_t i = 0; i < taken; i++)
        assert_int_equal(link->sent[i], 1);
    assert_int_equal(engine_open(&fixture->engine, "1", "on"), 0); /* for the teardown */
    free(large);
    zmq_close(router);
    zmq_ctx_term(context);
}

static void closing_is_bounded_for_servers(void **state)
{
    struct fixture *fixture = *state;
    struct raw raw = {.context = zmq_ctx_new()};
    int one = 1;
    raw.socket = zmq_socket(raw.context, ZMQ_DEALER);
    zmq_setsockopt(raw.socket, ZMQ_RCVHWM, &one, sizeof one);
    char endpoint[300];
    snprintf(endpoint, sizeof endpoint, "tcp://%s", fixture->engine.bound);
    assert_int_equal(zmq_connect(raw.socket, endpoint), 0);
    raw_send(&raw, 0, 0, 0);
    struct haul_link *link = await_accepted(fixture, 1);
    uint8_t *large = pattern(LARGE, 9);
    struct iovec payload = {large, LARGE};
    size_t taken = 0;
    while (taken < 32 && send_frame(link, TYPE, 0, 0, &payload, 1, taken) == 0)
        taken++;
    hang_up(link, true);
    unlisten(fixture);
    engine_close(&fixture->engine);
    for (size_t i = 0; i < taken; i++)
        assert_int_equal(link->sent[i], 1);
    assert_int_equal(engine_open(&fixture->engine, "1", "on"), 0); /* for the teardown */
    free(large);
    raw_close(&raw);
}

/* The order of messages and monitor events is any with several I/O threads. */
static void several_io_threads(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    enum { ROUNDS = 200 };
    assert_int_equal(engine_open(&fixture.engine, "4", "on"), 0);
    assert_int_equal(listen_at(&fixture.engine, "127.0.0.1:0", &fixture.listener, &fixture.handle,
                               &fixture.route),
                     0);
    struct haul_link *server, *staying = join(&fixture, &server), *at_server;
    for (int i = 0; i < ROUNDS; i++) {
        struct haul_link *client = join(&fixture, &at_server);
        hang_up(client, i % 2 == 0);
        if (i % 5 == 0)
            run_until(&fixture.engine, is_lost, at_server);
    }
    for (int i = 1; i <= ROUNDS; i++) {
        run_until(&fixture.engine, is_lost, fixture.listener.links[i]);
        hang_up(fixture.listener.links[i], false);
    }
    assert_int_equal(fixture.listener.link_count, ROUNDS + 1);
    assert_false(staying->lost || server->lost);
    hang_up(staying, false);
    hang_up(server, false);
    unlisten(&fixture);
    engine_close(&fixture.engine);
    links_free();
}

/* A process that joins, forks a child that does nothing, and ends. The child must not keep the
 * connection alive, nor ours. */
static void join_fork_and_end(const struct fixture *fixture, int to_parent)
{
    struct fixture ours = {0};
    struct haul_link *server;
    open_at(&ours, "127.0.0.1:0");
    join(&ours, &server); /* a server's descriptors too */
    struct haul_link *client = dial(&ours.engine, fixture->engine.bound);
    send_frame(client, TYPE_HELLO, 8, 'h', NULL, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        alarm(300); /* in case that nobody kills it */
        for (;;)
            pause();
    }
    (void)!write(to_parent, &child, sizeof child);
    hang_up(client, true); /* the hello goes out; what is open in the child stays */
    engine_close(&ours.engine);
    _exit(0);
}

static void a_forked_child_keeps_nothing_alive(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    pid_t grandchild = 0;
    const char *sanitizer = getenv("HAULTEST_SANITIZE");
    if (sanitizer && strcmp(sanitizer, "thread") == 0)
        skip(); /* ThreadSanitizer does not let a child start threads */
    assert_return_code(prctl(PR_SET_CHILD_SUBREAPER, 1), errno);
    assert_return_code(pipe(ends), errno);
    pid_t child = fork();
    assert_return_code(child, errno);
    if (child == 0)
        join_fork_and_end(fixture, ends[1]);
    struct haul_link *link = await_accepted(fixture, 1);
    close(ends[1]);
    assert_int_equal(read(ends[0], &grandchild, sizeof grandchild), sizeof grandchild);
    run_until(&fixture->engine, is_lost, link);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_return_code(kill(grandchild, SIGKILL), errno);
    assert_int_equal(waitpid(grandchild, NULL, 0), grandchild);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_client_that_leaves_is_lost_after_its_last_frame),
        TEST(a_client_gets_the_servers_last_frame),
        TEST(a_client_can_be_cut_alone),
        TEST(payloads_come_back_from_a_dead_peer),
        TEST(clients_come_and_go),
        TEST(a_client_that_does_not_read_is_cut),
        TEST(clients_hang_up_as_soon_as_they_are_lost),
        TEST(a_client_that_is_gone_already_is_heard),
        cmocka_unit_test(settings_are_checked),
        TEST(closing_is_bounded),
        TEST(closing_is_bounded_for_servers),
        cmocka_unit_test(several_io_threads),
        TEST(a_forked_child_keeps_nothing_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
