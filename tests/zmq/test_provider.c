/* SPDX-License-Identifier: Apache-2.0
 * The zmq plugin on the host of host.h: a server and clients in one process, over loopback, and raw
 * ZeroMQ clients that behave badly. */
#include "host.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

enum { LARGE = 12 << 20, TYPE = 4, TYPE_HELLO = 1 };

struct fixture {
    struct haul_engine engine;
    struct haul_listener listener;
    void *handle, *route;
};

static void open_at(struct fixture *fixture, const char *address)
{
    assert_int_equal(engine_open(&fixture->engine, "1", "on"), 0);
    assert_int_equal(
        listen_at(&fixture->engine, address, &fixture->listener, &fixture->handle, &fixture->route),
        0);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    open_at(fixture, "127.0.0.1:0");
    *state = fixture;
    return 0;
}

static void unlisten(struct fixture *fixture)
{
    if (fixture->handle) {
        fixture->engine.ops->unlisten(fixture->handle);
        fixture->engine.ops->route_free(fixture->route);
    }
    fixture->handle = NULL;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    unlisten(fixture);
    engine_close(&fixture->engine);
    links_free();
    free(fixture);
    return 0;
}

/* ---- Conditions --------------------------------------------------------------------------------
 */

static bool is_lost(void *arg)
{
    return ((struct haul_link *)arg)->lost;
}

static bool is_writable(void *arg)
{
    return ((struct haul_link *)arg)->writable > 0;
}

struct awaited {
    struct haul_link *link;
    size_t frames;
    unsigned sent; /* of cookie 0 */
};

static bool has_come(void *arg)
{
    const struct awaited *awaited = arg;
    return awaited->link->frame_count >= awaited->frames && awaited->link->sent[0] >= awaited->sent;
}

static void await_frames(struct haul_link *link, size_t frames)
{
    struct awaited awaited = {link, frames, 0};
    run_until(link->engine, has_come, &awaited);
}

static void await_sent(struct haul_link *link, unsigned times)
{
    struct awaited awaited = {link, 0, times};
    run_until(link->engine, has_come, &awaited);
}

struct accepting {
    struct haul_listener *listener;
    size_t count;
};

static bool has_accepted(void *arg)
{
    const struct accepting *accepting = arg;
    return accepting->listener->link_count >= accepting->count;
}

static struct haul_link *await_accepted(struct fixture *fixture, size_t count)
{
    struct accepting accepting = {&fixture->listener, count};
    run_until(&fixture->engine, has_accepted, &accepting);
    return fixture->listener.links[count - 1];
}

/* ---- Helpers -----------------------------------------------------------------------------------
 */

/* A client of haul that has said hello, and its link on the server. */
static struct haul_link *join(struct fixture *fixture, struct haul_link **at_server)
{
    size_t before = fixture->listener.link_count;
    struct haul_link *link = dial(&fixture->engine, fixture->engine.bound);
    assert_true(link->connected && !link->lost);
    assert_int_equal(send_frame(link, TYPE_HELLO, 8, 'h', NULL, 0, 0), 0);
    *at_server = await_accepted(fixture, before + 1);
    return link;
}

static uint8_t *pattern(size_t bytes, uint8_t seed)
{
    uint8_t *data = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(seed + i * 7 + (i >> 11));
    return data;
}

/* A raw ZeroMQ client. */
struct raw {
    void *context, *socket;
};

static struct raw raw_connect(struct fixture *fixture, int type, const char *id)
{
    struct raw raw = {.context = zmq_ctx_new()};
    char endpoint[300];
    int no_linger = 0, timeout_ms = 60000;
    raw.socket = zmq_socket(raw.context, type);
    zmq_setsockopt(raw.socket, ZMQ_LINGER, &no_linger, sizeof no_linger);
    zmq_setsockopt(raw.socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    if (id)
        zmq_setsockopt(raw.socket, ZMQ_ROUTING_ID, id, strlen(id));
    snprintf(endpoint, sizeof endpoint, "tcp://%s", fixture->engine.bound);
    assert_int_equal(zmq_connect(raw.socket, endpoint), 0);
    return raw;
}

static void raw_close(struct raw *raw)
{
    zmq_close(raw->socket);
    zmq_ctx_term(raw->context);
}

/* Sends a frame that announces `payload` bytes and carries one part of `bytes` for each of `parts`.
 */
static void raw_send(struct raw *raw, uint64_t payload, size_t parts, size_t bytes)
{
    uint8_t header[HAUL_PREFIX_BYTES + 4];
    uint8_t *data = calloc(1, bytes + 1);
    make_header(header, TYPE, 4, payload, 'r');
    assert_int_equal(zmq_send(raw->socket, header, sizeof header, parts > 0 ? ZMQ_SNDMORE : 0),
                     sizeof header);
    for (size_t i = 0; i < parts; i++)
        assert_int_equal(zmq_send(raw->socket, data, bytes, i + 1 < parts ? ZMQ_SNDMORE : 0),
                         bytes);
    free(data);
}

/* ---- Frames ------------------------------------------------------------------------------------
 */

static void check_payload(const struct frame *frame, const struct iovec *payload, size_t count)
{
    size_t part = 0;
    for (size_t i = 0; i < count; i++) {
        if (payload[i].iov_len == 0)
            continue; /* carries nothing: it is not lent */
        assert_in_range(part, 0, frame->part_count - 1);
        assert_int_equal(frame->parts[part].bytes, payload[i].iov_len);
        assert_memory_equal(frame->parts[part].data, payload[i].iov_base, payload[i].iov_len);
        part++;
    }
    assert_int_equal(frame->part_count, part);
}

static void frames_arrive_whole_in_both_directions(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    uint8_t *large = pattern(LARGE, 1), *small = pattern(100, 2);
    struct iovec payload[] = {
        {large, LARGE}, {NULL, 0}, {small, 100}, {large + 5000, 4 << 20}, {large + 1, 4097}};
    assert_int_equal(send_frame(client, TYPE, 77, 'q', payload, 5, 0), 0);
    await_frames(server, 2);
    await_sent(client, 1);
    const struct frame *frame = &server->frames[1];
    assert_int_equal(frame->header_bytes, HAUL_PREFIX_BYTES + 77);
    assert_int_equal(frame->header[HAUL_PREFIX_BYTES + 76], 'q');
    check_payload(frame, payload, 5);
    assert_int_equal(send_frame(server, TYPE, 3, 'a', payload, 5, 0), 0);
    await_frames(client, 1);
    await_sent(server, 1);
    check_payload(&client->frames[0], payload, 5);
    assert_int_equal(client->sent[0] + server->sent[0], 2);
    free(large);
    free(small);
    hang_up(client, false);
}

static void small_payloads_are_the_senders_again_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    char bytes[100] = "small";
    struct iovec payload = {bytes, sizeof bytes};
    for (int i = 0; i < 20; i++)
        assert_int_equal(send_frame(client, TYPE, 0, 0, &payload, 1, 0), 0);
    assert_int_equal(client->sent[0], 20);
    memset(bytes, 'X', sizeof bytes);
    await_frames(server, 21);
    assert_string_equal(server->frames[20].parts[0].data, "small");
    hang_up(client, false);
}

static void frames_keep_their_order(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(send_frame(client, TYPE, 1, (uint8_t)i, NULL, 0, 0), 0);
    await_frames(server, 2001);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(server->frames[i + 1].header[HAUL_PREFIX_BYTES], (uint8_t)i);
    hang_up(client, false);
}

static void payloads_under_way_are_few(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    uint8_t *large = pattern(LARGE, 3);
    struct iovec payload = {large, LARGE};
    size_t taken = 0;
    /* What libzmq frees is told in progress() only, so nothing comes back meanwhile. */
    while (taken < 32 && send_frame(client, TYPE, 0, 0, &payload, 1, taken) == 0)
        taken++;
    assert_in_range(taken, 1, 8);
    assert_int_equal(client->writable, 0);
    assert_int_equal(send_frame(client, TYPE, 4, 'c', NULL, 0, 0),
                     0); /* control frames always pass */
    run_until(&fixture->engine, is_writable, client);
    assert_int_equal(send_frame(client, TYPE, 0, 0, &payload, 1, taken), 0);
    await_frames(server, taken + 3);
    for (size_t i = 0; i <= taken; i++)
        assert_in_range(client->sent[i], 0, 1);
    free(large);
    hang_up(client, false);
}

static void lent_parts_outlive_the_channel(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    uint8_t *large = pattern(LARGE, 4);
    struct iovec payload = {large, LARGE};
    assert_int_equal(send_frame(client, TYPE, 0, 0, &payload, 1, 0), 0);
    await_frames(server, 2);
    hang_up(client, false);
    hang_up(server, false);
    unlisten(fixture);
    engine_close(&fixture->engine);
    assert_memory_equal(server->frames[1].parts[0].data, large, LARGE);
    give_back_all(server);
    assert_int_equal(engine_open(&fixture->engine, "1", "on"), 0); /* for the teardown */
    free(large);
}

/* ---- Ends --------------------------------------------------------------------------------------
 */

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

/* ---- Clients that break the framing ------------------------------------------------------------
 */

static void expect_broken(struct fixture *fixture, void (*misbehave)(struct raw *raw))
{
    struct haul_link *server, *client = join(fixture, &server);
    size_t before = fixture->listener.link_count;
    struct raw raw = raw_connect(fixture, ZMQ_DEALER, NULL);
    raw_send(&raw, 0, 0, 0);
    struct haul_link *broken = await_accepted(fixture, before + 1);
    misbehave(&raw);
    run_until(&fixture->engine, is_lost, broken);
    assert_int_equal(broken->lost_err, HAUL_PROTOCOL);
    assert_int_equal(broken->frame_count, 1);
    hang_up(broken, false);
    /* The others are not touched. */
    assert_int_equal(send_frame(client, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(server, 2);
    raw_close(&raw);
    hang_up(client, false);
}

static void short_header(struct raw *raw)
{
    zmq_send(raw->socket, "short", 5, 0);
}

static void long_header(struct raw *raw)
{
    uint8_t header[HAUL_PREFIX_BYTES + 9];
    make_header(header, TYPE, 8, 0, 'l');
    zmq_send(raw->socket, header, sizeof header, 0);
}

static void missing_part(struct raw *raw)
{
    raw_send(raw, 3 * 10, 2, 10);
}

static void extra_part(struct raw *raw)
{
    raw_send(raw, 3 * 10, 4, 10);
}

static void huge_announcement(struct raw *raw)
{
    raw_send(raw, UINT64_MAX, 3, 1000);
}

static void endless_empty_parts(struct raw *raw)
{
    raw_send(raw, 10, 70000, 0);
}

static void broken_frames_end_their_client_alone(void **state)
{
    struct fixture *fixture = *state;
    expect_broken(fixture, short_header);
    expect_broken(fixture, long_header);
    expect_broken(fixture, missing_part);
    expect_broken(fixture, extra_part);
    expect_broken(fixture, huge_announcement);
    expect_broken(fixture, endless_empty_parts);
}

/* What core refuses is not delivered further, and the connection is cut: the raw client can tell,
 * because its socket connects again. */
static void a_refused_client_is_cut(void **state)
{
    struct fixture *fixture = *state;
    struct raw raw = raw_connect(fixture, ZMQ_DEALER, NULL);
    void *monitor = zmq_socket(raw.context, ZMQ_PAIR);
    zmq_socket_monitor(raw.socket, "inproc://events", ZMQ_EVENT_DISCONNECTED);
    zmq_connect(monitor, "inproc://events");
    raw_send(&raw, 0, 0, 0);
    struct haul_link *link = await_accepted(fixture, 1);
    link->refuse = true;
    await_frames(link, 0);
    raw_send(&raw, 5, 1, 5);
    raw_send(&raw, 0, 0, 0);
    hang_up(link, false);
    zmq_pollitem_t item = {.socket = monitor, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&item, 1, 60000), 1);
    assert_false(link->lost);
    zmq_close(monitor);
    raw_close(&raw);
}

static void what_is_no_zeromq_is_ignored(void **state)
{
    struct fixture *fixture = *state;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(strrchr(fixture->engine.bound, ':') + 1)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof address), errno);
    const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_int_equal(send(fd, request, sizeof request, MSG_NOSIGNAL), sizeof request);
    struct haul_link *server, *client = join(fixture, &server);
    assert_int_equal(fixture->listener.link_count, 1);
    close(fd);
    hang_up(client, false);
}

/* ---- Plain clients -----------------------------------------------------------------------------
 */

static void a_req_client_gets_its_reply(void **state)
{
    struct fixture *fixture = *state;
    struct raw raw = raw_connect(fixture, ZMQ_REQ, NULL);
    raw_send(&raw, 6, 2, 3);
    struct haul_link *link = await_accepted(fixture, 1);
    assert_int_equal(link->frames[0].part_count, 2);
    char bytes[] = "pong";
    struct iovec payload = {bytes, 4};
    assert_int_equal(send_frame(link, TYPE, 1, 'p', &payload, 1, 0), 0);
    char buffer[100];
    assert_int_equal(zmq_recv(raw.socket, buffer, sizeof buffer, 0), HAUL_PREFIX_BYTES + 1);
    assert_int_equal(zmq_recv(raw.socket, buffer, sizeof buffer, 0), 4);
    assert_memory_equal(buffer, "pong", 4);
    raw_close(&raw);
}

/* A routing id that a client chose itself comes again with its next connection. */
static void a_named_client_may_come_again(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < 30; i++) {
        struct raw raw = raw_connect(fixture, ZMQ_DEALER, "its own name");
        int linger = -1;
        zmq_setsockopt(raw.socket, ZMQ_LINGER, &linger, sizeof linger);
        raw_send(&raw, 0, 0, 0);
        struct haul_link *link = await_accepted(fixture, i + 1);
        raw_close(&raw);
        run_until(&fixture->engine, is_lost, link);
        assert_int_equal(link->frame_count, 1);
        hang_up(link, false);
    }
}

static void a_second_hello_is_a_new_session(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *first, *client = join(fixture, &first);
    assert_int_equal(send_frame(client, TYPE_HELLO, 8, 'h', NULL, 0, 0), 0);
    struct haul_link *second = await_accepted(fixture, 2);
    assert_true(first->lost);
    hang_up(first, false);
    assert_int_equal(send_frame(client, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(second, 2);
    assert_false(second->lost || client->lost);
    hang_up(client, false);
    run_until(&fixture->engine, is_lost, second);
}

/* ---- Addresses ---------------------------------------------------------------------------------
 */

static void nobody_listens(void **state)
{
    struct fixture *fixture = *state;
    char address[256];
    snprintf(address, sizeof address, "%s", fixture->engine.bound);
    unlisten(fixture);
    struct haul_link *link = dial(&fixture->engine, address);
    assert_true(link->lost && !link->connected);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "nobody answers"));
    hang_up(link, false);
}

/* Accepts one connection, reads its first bytes and closes it: what a server of another kind does.
 */
static void *serve_nonsense(void *arg)
{
    char buffer[64];
    int fd = accept(*(int *)arg, NULL, NULL);
    (void)!read(fd, buffer, sizeof buffer);
    (void)!write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    close(fd);
    return NULL;
}

static void the_server_does_not_speak_zeromq(void **state)
{
    struct fixture *fixture = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&address, size), errno);
    assert_return_code(listen(fd, 1), errno);
    assert_return_code(getsockname(fd, (struct sockaddr *)&address, &size), errno);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve_nonsense, &fd), 0);
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(address.sin_port));
    struct haul_link *link = dial(&fixture->engine, text);
    assert_true(link->lost);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "HAUL_PROVIDER=zmq"));
    pthread_join(thread, NULL);
    close(fd);
    hang_up(link, false);
}

static void expect_listen_error(struct fixture *fixture, const char *address, const char *sentence)
{
    struct haul_listener listener;
    void *handle, *route;
    assert_int_equal(listen_at(&fixture->engine, address, &listener, &handle, &route),
                     HAUL_ADDRESS);
    if (!strstr(last_detail(), sentence))
        fail_msg("\"%s\" lacks \"%s\"", last_detail(), sentence);
}

static void addresses_that_cannot_be_used(void **state)
{
    struct fixture *fixture = *state;
    expect_listen_error(fixture, fixture->engine.bound, "in use by another process");
    expect_listen_error(fixture, "192.0.2.1:0", "no address of this host");
    expect_listen_error(fixture, "no-such-host.invalid:0", "no-such-host.invalid");
    expect_listen_error(fixture, "127.0.0.1:no-such-port", "no such port");
    expect_listen_error(fixture, "unix:/proc/none/socket", "/proc/none/socket");
}

static void check_exchange(const char *listen_address, const char *name)
{
    struct fixture fixture = {0};
    open_at(&fixture, listen_address);
    assert_non_null(strstr(fixture.engine.bound, name));
    struct haul_link *server, *client = join(&fixture, &server);
    assert_non_null(strstr(server->address, listen_address[0] == 'u' ? "unix:" : ":"));
    assert_int_equal(send_frame(server, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(client, 1);
    hang_up(client, false);
    run_until(&fixture.engine, is_lost, server);
    hang_up(server, false);
    unlisten(&fixture);
    engine_close(&fixture.engine);
    links_free();
}

static void all_kinds_of_addresses_work(void **state)
{
    (void)state;
    check_exchange("127.0.0.1:0", "127.0.0.1:");
    check_exchange("localhost:0", "localhost:");
    check_exchange(":0", ":");
    check_exchange("*:0", ":");
}

static void ipv6_works(void **state)
{
    (void)state;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    if (!has_ipv6)
        skip();
    check_exchange("[::1]:0", "[::1]:");
}

static void unix_sockets_replace_stale_files_only(void **state)
{
    struct fixture *fixture = *state;
    char folder[] = "/tmp/haul-test-XXXXXX", path[64], address[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    snprintf(address, sizeof address, "unix:%s", path);

    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    snprintf(stale.sun_path, sizeof stale.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&stale, sizeof stale), errno);
    assert_return_code(listen(fd, 1), errno);
    expect_listen_error(fixture, address, "in use by another process");
    close(fd); /* the file stays */
    check_exchange(address, path);

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    expect_listen_error(fixture, address, "it is no socket");
    assert_return_code(unlink(path), errno);
    assert_return_code(rmdir(folder), errno);
}

static void an_address_is_free_when_its_server_has_closed(void **state)
{
    struct fixture *fixture = *state;
    char address[256];
    snprintf(address, sizeof address, "%s", fixture->engine.bound);
    for (int i = 0; i < 20; i++) {
        unlisten(fixture);
        assert_int_equal(listen_at(&fixture->engine, address, &fixture->listener, &fixture->handle,
                                   &fixture->route),
                         0);
    }
}

static void a_server_that_closes_takes_no_new_clients(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    fixture->listener.refuse = true;
    struct haul_link *refused = dial(&fixture->engine, fixture->engine.bound);
    assert_int_equal(send_frame(refused, TYPE_HELLO, 8, 'h', NULL, 0, 0), 0);
    run_until(&fixture->engine, is_lost, refused);
    unlisten(fixture);
    /* Its clients stay until they are disconnected. */
    assert_int_equal(send_frame(client, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(server, 2);
    hang_up(server, false);
    run_until(&fixture->engine, is_lost, client);
    hang_up(refused, false);
    hang_up(client, false);
}

/* ---- Settings and life -------------------------------------------------------------------------
 */

static void settings_are_checked(void **state)
{
    (void)state;
    struct haul_engine engine;
    static const char *const wrong[] = {"0", "65", "two", "", "1 ", "-1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(engine_open(&engine, wrong[i], "on"), HAUL_CONFIG);
        assert_non_null(strstr(last_detail(), "zmq_io_threads"));
    }
    assert_int_equal(engine_open(&engine, "1", "maybe"), HAUL_CONFIG);
    assert_non_null(strstr(last_detail(), "zmq_keep_memory"));
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
    const char *sanitizer = getenv("HAUL_SANITIZE");
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_arrive_whole_in_both_directions),
        TEST(small_payloads_are_the_senders_again_at_once),
        TEST(frames_keep_their_order),
        TEST(payloads_under_way_are_few),
        TEST(lent_parts_outlive_the_channel),
        TEST(a_client_that_leaves_is_lost_after_its_last_frame),
        TEST(a_client_gets_the_servers_last_frame),
        TEST(a_client_can_be_cut_alone),
        TEST(payloads_come_back_from_a_dead_peer),
        TEST(clients_come_and_go),
        TEST(a_client_that_is_gone_already_is_heard),
        TEST(broken_frames_end_their_client_alone),
        TEST(a_refused_client_is_cut),
        TEST(what_is_no_zeromq_is_ignored),
        TEST(a_req_client_gets_its_reply),
        TEST(a_named_client_may_come_again),
        TEST(a_second_hello_is_a_new_session),
        TEST(nobody_listens),
        TEST(the_server_does_not_speak_zeromq),
        TEST(addresses_that_cannot_be_used),
        TEST(unix_sockets_replace_stale_files_only),
        TEST(an_address_is_free_when_its_server_has_closed),
        TEST(a_server_that_closes_takes_no_new_clients),
        TEST(a_forked_child_keeps_nothing_alive),
        TEST(closing_is_bounded),
        TEST(closing_is_bounded_for_servers),
        cmocka_unit_test(all_kinds_of_addresses_work),
        cmocka_unit_test(ipv6_works),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(several_io_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
