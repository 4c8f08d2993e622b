/* SPDX-License-Identifier: Apache-2.0
 * The provider tcp: frames of all sizes and splits, back pressure, recall, and ends of
 * all kinds. */
#include "tcp_fake_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* ---- Frames --------------------------------------------------------------------------------- */

/* Sends a frame as soon as the channel takes it. */
static bool try_later(void *arg)
{
    return ((struct haul_link *)arg)->writable > 0;
}

static void send_when_possible(struct fake_pair *pair, struct haul_link *link, size_t body,
                               uint64_t payload, size_t parts)
{
    link->writable = 0;
    while (fake_send(link, body, payload, parts, NULL) == HAUL_BUSY) {
        fake_pair_drive(pair, try_later, link);
        link->writable = 0;
    }
}

static void exchange_sizes(const char *host)
{
    static const size_t bodies[] = {0, 1, 32, 48, 300, 4080, 4096, 5000, 70 * KIB, 3 * MIB};
    static const uint64_t payloads[] = {0, 1, 63, 64, 65, 4096, 10000, 300 * KIB, 2 * MIB};
    struct fake_pair pair;
    fake_pair_open(&pair, host, REFUSE_NOTHING);
    pair.server->segment_max = 30 * KIB;
    for (size_t body = 0; body < sizeof bodies / sizeof *bodies; body++) {
        for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
            size_t parts = i % 3 == 0 ? 1 : payloads[i] > 1000 ? 700 : 3;
            send_when_possible(&pair, pair.client, bodies[body], payloads[i], parts);
            send_when_possible(&pair, pair.server, bodies[body], payloads[i], parts);
        }
    }
    fake_pair_drive_frames(&pair, pair.server, pair.client->next_seq);
    fake_pair_drive_frames(&pair, pair.client, pair.server->next_seq);
    assert_int_equal(pair.client->sent, pair.server->sent);
    fake_pair_close(&pair);
}

static void test_sizes_tcp4(void **state)
{
    (void)state;
    exchange_sizes("127.0.0.1");
}

static void test_sizes_tcp6(void **state)
{
    (void)state;
    if (!fake_has_ipv6())
        skip();
    exchange_sizes("::1");
}

static void test_sizes_unix(void **state)
{
    (void)state;
    exchange_sizes(NULL);
}

/* Small frames in one go: read together, in growing pieces of the scratch buffer. */
static void test_many_small_frames(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    for (int i = 0; i < 20000; i++)
        send_when_possible(&pair, pair.client, (size_t)i % 97, (uint64_t)(i % 5 * 11), 1);
    fake_pair_drive_frames(&pair, pair.server, 20000);
    fake_pair_close(&pair);
}

static void test_huge_payload(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    assert_int_equal(fake_send(pair.client, 100, 96 * MIB + 13, 3, NULL), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fake_send(pair.client, 32, 0, 0, NULL), 0);
    fake_pair_drive_frames(&pair, pair.server, 11);
    fake_pair_close(&pair);
}

/* ---- A peer that writes in pieces ----------------------------------------------------------- */

/* A listener and one raw connection to it. */
struct raw {
    struct haul_engine engine;
    struct haul_listener listener;
    struct haul_link *link;
    int fd;
    char path[FAKE_TEXT_BYTES]; /* of a Unix socket, or "" */
};

static bool is_accepted(void *arg)
{
    return ((const struct haul_engine *)arg)->accepted_count > 0;
}

static void raw_open(struct raw *raw, bool over_unix, enum refusal refusal)
{
    *raw = (struct raw){0};
    fake_open(&raw->engine);
    raw->engine.refusal = refusal;
    if (over_unix)
        fake_path_make(raw->path);
    assert_int_equal(fake_listen(&raw->engine, &raw->listener, over_unix ? NULL : "127.0.0.1",
                                 over_unix ? raw->path : "0"),
                     0);
    raw->fd = fake_raw_connect(&raw->listener);
    fake_drive(&raw->engine, NULL, is_accepted, &raw->engine);
    raw->link = raw->engine.accepted[0];
}

static void raw_close(struct raw *raw)
{
    if (raw->fd >= 0)
        close(raw->fd);
    fake_unlisten(&raw->listener);
    fake_close(&raw->engine);
    if (raw->path[0] != '\0')
        fake_path_remove();
}

static bool all_is_read(void *arg)
{
    int bytes = 0;
    assert_int_equal(ioctl(*(int *)arg, TIOCOUTQ, &bytes), 0);
    return bytes == 0;
}

static void raw_write(struct raw *raw, const void *data, size_t bytes)
{
    assert_int_equal(send(raw->fd, data, bytes, MSG_NOSIGNAL), bytes);
    /* Only a Unix socket knows what the other end has read. */
    if (raw->path[0] != '\0')
        fake_drive(&raw->engine, NULL, all_is_read, &raw->fd);
}

static void raw_write_frame(struct raw *raw, uint64_t seq, size_t body, uint64_t payload_bytes,
                            size_t piece)
{
    uint8_t *payload = NULL;
    uint8_t *header = fake_frame(seq, body, payload_bytes, &payload);
    size_t size = HAUL_PREFIX_BYTES + body + (size_t)payload_bytes;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    memcpy(bytes, header, size - (size_t)payload_bytes);
    if (payload)
        memcpy(bytes + size - payload_bytes, payload, (size_t)payload_bytes);
    for (size_t at = 0; at < size; at += piece)
        raw_write(raw, bytes + at, size - at < piece ? size - at : piece);
    free(bytes);
    free(header);
    free(payload);
}

static void test_dribble(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, true, REFUSE_NOTHING);
    static const size_t pieces[] = {1, 2, 7, 15, 16, 17, 64, 4096};
    uint64_t seq = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        raw_write_frame(&raw, seq++, 0, 0, pieces[i]);
        raw_write_frame(&raw, seq++, 40, 100, pieces[i]);
        raw_write_frame(&raw, seq++, 300, 0, pieces[i]);
        raw_write_frame(&raw, seq++, 5, 1, pieces[i]);
    }
    raw_write_frame(&raw, seq++, 100 * KIB, 100 * KIB, 4097);
    assert_int_equal(raw.link->frames, seq);
    raw_close(&raw);
}

/* ---- Ends ----------------------------------------------------------------------------------- */

static void expect_lost(struct raw *raw, const char *why)
{
    fake_drive(&raw->engine, NULL, fake_link_lost, raw->link);
    assert_int_equal(raw->link->lost_err, HAUL_PEER_LOST);
    assert_string_equal(raw->link->why, why);
    fake_settle(&raw->engine);
}

static void raw_hang_up(struct raw *raw)
{
    close(raw->fd);
    raw->fd = -1;
}

static void test_end_between_frames(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, false, REFUSE_NOTHING);
    raw_write_frame(&raw, 0, 10, 10, SIZE_MAX / 2);
    raw_hang_up(&raw);
    expect_lost(&raw, "the connection was closed");
    /* Sends after it are dropped, and payloads come back at the latest at the end. */
    assert_int_equal(fake_send(raw.link, 10, 0, 0, NULL), 0);
    assert_int_equal(fake_send(raw.link, 10, 10, 1, NULL), 0);
    raw_close(&raw);
}

static void test_end_in_prefix(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, false, REFUSE_NOTHING);
    raw_write(&raw, "\4\0\0", 3);
    raw_hang_up(&raw);
    expect_lost(&raw, "the connection was closed in the middle of a frame");
    raw_close(&raw);
}

static void test_end_in_payload(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, false, REFUSE_NOTHING);
    uint8_t *payload = NULL, *header = fake_frame(0, 8, 100, &payload);
    raw_write(&raw, header, HAUL_PREFIX_BYTES + 8);
    raw_write(&raw, payload, 99);
    raw_hang_up(&raw);
    expect_lost(&raw, "the connection was closed in the middle of a frame");
    assert_int_equal(raw.link->payload_have, 99);
    free(header);
    free(payload);
    raw_close(&raw);
}

static void test_reset(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, false, REFUSE_NOTHING);
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(raw.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    raw_hang_up(&raw);
    expect_lost(&raw, "connection reset by peer");
    raw_close(&raw);
}

/* What the peer said before it hung up is delivered, though writing to it fails meanwhile. */
static void test_last_words(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, false, REFUSE_NOTHING);
    uint8_t *words = fake_frame(0, 50, 0, NULL);
    assert_int_equal(fake_send(raw.link, 10, 0, 0, NULL), 0); /* unread: makes close() a reset */
    assert_int_equal(send(raw.fd, words, HAUL_PREFIX_BYTES + 50, 0), HAUL_PREFIX_BYTES + 50);
    raw_hang_up(&raw);
    for (int i = 0; i < 3; i++)
        fake_send(raw.link, 10, 10, 1, NULL);
    fake_drive(&raw.engine, NULL, fake_link_lost, raw.link);
    assert_int_equal(raw.link->frames, 1);
    free(words);
    raw_close(&raw);
}

static bool is_refused(void *arg)
{
    return ((const struct haul_link *)arg)->refused > 0;
}

/* Nothing more is delivered, but the peer can still be told why. */
static void refused(enum refusal refusal)
{
    struct raw raw;
    raw_open(&raw, false, refusal);
    raw_write_frame(&raw, 0, 10, 1000, SIZE_MAX / 2);
    fake_drive(&raw.engine, NULL, is_refused, raw.link);
    raw_write_frame(&raw, 1, 10, 1000, SIZE_MAX / 2);
    fake_settle(&raw.engine);
    assert_int_equal(raw.link->lost, 0);
    assert_int_equal(fake_send(raw.link, 20, 0, 0, NULL), 0);
    fake_disconnect(raw.link, true);
    uint8_t answer[HAUL_PREFIX_BYTES + 20], *wanted = fake_frame(0, 20, 0, NULL);
    fake_settle(&raw.engine);
    assert_int_equal(recv(raw.fd, answer, sizeof answer, MSG_WAITALL), sizeof answer);
    assert_memory_equal(answer, wanted, sizeof answer);
    assert_int_equal(recv(raw.fd, answer, sizeof answer, 0), 0);
    free(wanted);
    raw_close(&raw);
}

static void test_check_refuses(void **state)
{
    (void)state;
    refused(REFUSE_CHECK);
}

static void test_frame_refuses(void **state)
{
    (void)state;
    refused(REFUSE_FRAME);
}

static void test_received_refuses(void **state)
{
    (void)state;
    refused(REFUSE_RECEIVED);
}

static void test_no_target(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, false, REFUSE_TARGET);
    raw_write_frame(&raw, 0, 10, 10, SIZE_MAX / 2);
    expect_lost(&raw, "there is no place for what it sends");
    raw_close(&raw);
}

/* A peer that hangs up while core has not disconnected yet costs no CPU. */
static void test_hang_up_after_refusal(void **state)
{
    (void)state;
    struct raw raw;
    raw_open(&raw, true, REFUSE_CHECK);
    raw_write_frame(&raw, 0, 10, 0, SIZE_MAX / 2);
    fake_drive(&raw.engine, NULL, is_refused, raw.link);
    raw_hang_up(&raw);
    fake_settle(&raw.engine);
    assert_int_equal(raw.link->lost, 0);
    raw_close(&raw);
}

/* ---- Many ----------------------------------------------------------------------------------- */

enum { MANY = 200, FRAMES_EACH = 5 };

struct many {
    struct haul_engine a, b;
    struct haul_listener listener;
    struct haul_link *links[MANY];
};

static bool all_are_done(void *arg)
{
    const struct many *many = arg;
    bool done = many->b.accepted_count == MANY;
    for (unsigned i = 0; done && i < MANY; i++)
        done = many->links[i]->connected && many->links[i]->frames == many->links[i]->next_seq &&
               many->b.accepted[i]->frames == FRAMES_EACH;
    return done;
}

static void answer(struct haul_link *link)
{
    assert_int_equal(fake_send(link, 20, 0, 0, NULL), 0);
}

static bool all_are_connected(void *arg)
{
    const struct many *many = arg;
    bool done = many->b.accepted_count == MANY;
    for (unsigned i = 0; done && i < MANY; i++)
        done = many->links[i]->connected;
    return done;
}

static void test_many_connections(void **state)
{
    (void)state;
    struct many *many = calloc(1, sizeof *many);
    assert_non_null(many);
    fake_open(&many->a);
    fake_open(&many->b);
    assert_int_equal(fake_listen(&many->b, &many->listener, "127.0.0.1", "0"), 0);
    for (unsigned i = 0; i < MANY; i++)
        many->links[i] = fake_connect(&many->a, "127.0.0.1", fake_port(&many->listener));
    fake_drive(&many->a, &many->b, all_are_connected, many);
    for (unsigned i = 0; i < MANY; i++)
        many->b.accepted[i]->on_frame = answer;
    for (unsigned i = 0; i < MANY * FRAMES_EACH; i++)
        assert_int_equal(fake_send(many->links[i % MANY], 48, i * 10, 2, NULL), 0);
    fake_drive(&many->a, &many->b, all_are_done, many);
    for (unsigned i = 0; i < MANY; i++)
        fake_disconnect(many->links[i], i % 2 == 0);
    fake_unlisten(&many->listener);
    fake_close(&many->a);
    fake_close(&many->b);
    free(many);
}

/* Two contexts in two threads. */
static void *serve(void *arg)
{
    struct fake_pair *pair = arg;
    fake_drive(&pair->b, NULL, fake_has_frames, &(struct fake_frames){pair->server, 1000});
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    struct fake_pair pair;
    pthread_t thread;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    pair.server->on_frame = answer;
    assert_int_equal(pthread_create(&thread, NULL, serve, &pair), 0);
    for (size_t i = 0; i < 1000; i++) {
        pair.client->writable = 0;
        while (fake_send(pair.client, 48, i * 100, 2, NULL) == HAUL_BUSY) {
            fake_drive(&pair.a, NULL, try_later, pair.client);
            pair.client->writable = 0;
        }
    }
    fake_drive(&pair.a, NULL, fake_has_frames, &(struct fake_frames){pair.client, 1000});
    assert_int_equal(pthread_join(thread, NULL), 0);
    fake_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_tcp4),         cmocka_unit_test(test_sizes_tcp6),
        cmocka_unit_test(test_sizes_unix),         cmocka_unit_test(test_many_small_frames),
        cmocka_unit_test(test_huge_payload),       cmocka_unit_test(test_dribble),
        cmocka_unit_test(test_end_between_frames), cmocka_unit_test(test_end_in_prefix),
        cmocka_unit_test(test_end_in_payload),     cmocka_unit_test(test_reset),
        cmocka_unit_test(test_last_words),         cmocka_unit_test(test_check_refuses),
        cmocka_unit_test(test_frame_refuses),      cmocka_unit_test(test_received_refuses),
        cmocka_unit_test(test_no_target),          cmocka_unit_test(test_hang_up_after_refusal),
        cmocka_unit_test(test_many_connections),   cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
