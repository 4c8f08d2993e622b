/* SPDX-License-Identifier: Apache-2.0
 * The zmq plugin: frames, those of clients that break the framing, and those of plain clients. */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Frames --------------------------------------------------------------------------------- */

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

/* ---- Clients that break the framing --------------------------------------------------------- */

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
    raw_send(&raw, 5, 1, 5);
    raw_send(&raw, 0, 0, 0);
    hang_up(link, false);
    zmq_pollitem_t item = {.socket = monitor, .events = ZMQ_POLLIN};
    assert_int_equal(zmq_poll(&item, 1, 60000), 1);
    assert_false(link->lost);
    zmq_close(monitor);
    raw_close(&raw);
}

static int connect_to(const char *bound)
{
    uint16_t port = (uint16_t)atoi(strrchr(bound, ':') + 1);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(fd, (struct sockaddr *)&address, sizeof address), errno);
    return fd;
}

/* Speaks ZMTP 3 by hand, up to a part that says it has 2^62 bytes. */
static void an_absurd_part_ends_its_connection(void **state)
{
    struct fixture *fixture = *state;
    static const char greeting[64] = "\377\0\0\0\0\0\0\0\1\177\3\0NULL";
    static const char ready[] = "\4\34\5READY\13Socket-Type\0\0\0\6DEALER";
    static const char part[] = {2, 0x40, 0, 0, 0, 0, 0, 0, 0};
    char buffer[4096];
    int fd = connect_to(fixture->engine.bound);
    assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), sizeof greeting);
    assert_int_equal(send(fd, ready, sizeof ready - 1, MSG_NOSIGNAL), sizeof ready - 1);
    assert_int_equal(send(fd, part, sizeof part, MSG_NOSIGNAL), sizeof part);
    while (recv(fd, buffer, sizeof buffer, 0) > 0)
        continue; /* the server's greeting, and then the end */
    close(fd);
    assert_int_equal(fixture->listener.link_count, 0);
}

static void what_is_no_zeromq_is_ignored(void **state)
{
    struct fixture *fixture = *state;
    int fd = connect_to(fixture->engine.bound);
    const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_int_equal(send(fd, request, sizeof request, MSG_NOSIGNAL), sizeof request);
    struct haul_link *server, *client = join(fixture, &server);
    assert_int_equal(fixture->listener.link_count, 1);
    close(fd);
    hang_up(client, false);
}

/* ---- Plain clients -------------------------------------------------------------------------- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_arrive_whole_in_both_directions),
        TEST(small_payloads_are_the_senders_again_at_once),
        TEST(frames_keep_their_order),
        TEST(payloads_under_way_are_few),
        TEST(lent_parts_outlive_the_channel),
        TEST(broken_frames_end_their_client_alone),
        TEST(a_refused_client_is_cut),
        TEST(an_absurd_part_ends_its_connection),
        TEST(what_is_no_zeromq_is_ignored),
        TEST(a_req_client_gets_its_reply),
        TEST(a_named_client_may_come_again),
        TEST(a_second_hello_is_a_new_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
