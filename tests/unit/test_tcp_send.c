/* SPDX-License-Identifier: Apache-2.0
 * The provider tcp, sending: back pressure, calls inside calls, recall, and the last bytes of a
 * connection. */
#include "tcp_fake_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

enum { MIB = 1 << 20 };

/* ---- Back pressure -------------------------------------------------------------------------- */

enum { MORE_THAN_SOCKETS_TAKE = 64 * MIB };

static void send_one_more(struct haul_link *link)
{
    assert_int_equal(fake_send(link, 48, 1000, 1, NULL), 0);
}

/* The server is not driven, so the client's socket is full and stays so. */
static void fill(struct fake_pair *pair, struct parcel **lent)
{
    fake_pair_open(pair, "127.0.0.1", REFUSE_NOTHING);
    assert_int_equal(fake_send(pair->client, 48, MORE_THAN_SOCKETS_TAKE, 3, lent), 0);
    fake_settle(&pair->a);
    assert_int_equal(pair->client->sent, 0);
}

static void test_busy_then_writable(void **state)
{
    (void)state;
    struct fake_pair pair;
    fill(&pair, NULL);
    for (int i = 0; i < 50; i++)
        assert_int_equal(fake_send(pair.client, (size_t)i * 100, 0, 0, NULL), 0);
    assert_int_equal(fake_send(pair.client, 48, 1000, 1, NULL), HAUL_BUSY);
    assert_int_equal(pair.client->writable, 0);
    pair.client->on_writable = send_one_more;
    fake_pair_drive_frames(&pair, pair.server, 52);
    assert_int_equal(pair.client->writable, 1);
    assert_int_equal(pair.client->sent, 2);
    fake_pair_close(&pair);
}

static void test_peer_that_never_reads(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    for (int i = 0; i < 64; i++)
        assert_int_equal(fake_send(pair.client, MIB, 0, 0, NULL), 0);
    fake_drive(&pair.a, NULL, fake_link_lost, pair.client);
    assert_int_equal(pair.client->lost_err, HAUL_PEER_LOST);
    assert_string_equal(pair.client->why, "it does not read what is sent to it");
    fake_pair_close(&pair);
}

enum { CHAIN = 5000 };

static void send_next_of_chain(struct haul_link *link)
{
    if (link->next_seq < CHAIN)
        assert_int_equal(fake_send(link, 48, 10, 1, NULL), 0);
}

/* sent() sends the next frame, which is written at once: the stack must not grow with each. */
static void test_send_inside_sent(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    pair.client->on_sent = send_next_of_chain;
    assert_int_equal(fake_send(pair.client, 48, 10, 1, NULL), 0);
    fake_pair_drive_frames(&pair, pair.server, CHAIN);
    assert_int_equal(pair.client->sent, CHAIN);
    assert_int_equal(pair.client->depth_max, 1);
    fake_pair_close(&pair);
}

/* ---- Recall --------------------------------------------------------------------------------- */

static bool recall(struct haul_link *link, struct parcel *lent)
{
    return link->engine->ops->recall(link->conn, lent);
}

static void test_recall_begun(void **state)
{
    (void)state;
    struct fake_pair pair;
    struct parcel *lent;
    fill(&pair, &lent);
    assert_int_equal(fake_send(pair.client, 48, 1000, 1, NULL), HAUL_BUSY);
    assert_true(recall(pair.client, lent));
    fake_parcel_free(lent);
    pair.client->on_writable = send_one_more;
    fake_pair_drive_frames(&pair, pair.server, 2);
    assert_int_equal(pair.client->sent, 1);
    fake_pair_close(&pair);
}

static void test_recall_not_begun(void **state)
{
    (void)state;
    struct fake_pair pair;
    struct parcel *lent;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    for (int i = 0; i < 14; i++)
        assert_int_equal(fake_send(pair.client, MIB, 0, 0, NULL), 0);
    assert_int_equal(fake_send(pair.client, 48, 1000, 3, &lent), 0);
    pair.client->next_seq--; /* it will not arrive: the next one has its number */
    assert_int_equal(fake_send(pair.client, 100, 0, 0, NULL), 0);
    assert_int_equal(fake_send(pair.client, 48, 1000, 1, NULL), HAUL_BUSY);
    assert_true(recall(pair.client, lent));
    fake_parcel_free(lent);
    pair.client->on_writable = send_one_more;
    fake_pair_drive_frames(&pair, pair.server, 16);
    assert_int_equal(pair.client->writable, 1);
    assert_int_equal(pair.client->sent, 1);
    fake_pair_close(&pair);
}

static void send_and_recall(struct haul_link *link)
{
    struct parcel *lent;
    link->on_sent = NULL;
    assert_int_equal(fake_send(link, 48, 1000, 1, &lent), 0);
    assert_int_equal(link->sent, 1); /* it is written, and sent() will be called later */
    assert_int_equal(fake_send(link, 48, 1000, 1, NULL), HAUL_BUSY);
    assert_true(recall(link, lent));
    assert_true(recall(link, lent));
    fake_parcel_free(lent);
}

static void test_recall_written(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    pair.client->on_sent = send_and_recall;
    pair.client->on_writable = send_one_more;
    assert_int_equal(fake_send(pair.client, 48, 1000, 1, NULL), 0);
    fake_pair_drive_frames(&pair, pair.server, 3);
    assert_int_equal(pair.client->sent, 2);
    fake_pair_close(&pair);
}

static void test_recall_after_loss(void **state)
{
    (void)state;
    struct fake_pair pair;
    struct parcel *lent;
    fill(&pair, &lent);
    fake_disconnect(pair.server, false);
    fake_drive(&pair.a, NULL, fake_link_lost, pair.client);
    assert_true(recall(pair.client, lent));
    fake_parcel_free(lent);
    fake_pair_close(&pair);
}

/* ---- Disconnecting -------------------------------------------------------------------------- */

/* Core lets go of the client; its link lives on to look at. */
static void disconnect_client(struct fake_pair *pair, bool flush)
{
    pair->a.ops->disconnect(pair->client->conn, flush);
    pair->a.ops->route_free(pair->client->route);
}

static void close_after_disconnect(struct fake_pair *pair)
{
    free(pair->client);
    fake_close(&pair->a);
    fake_close(&pair->b);
}

static int stop_clock(void **state)
{
    (void)state;
    fake_clock_stopped_ns = host_real_ns();
    return 0;
}

static int start_clock(void **state)
{
    (void)state;
    fake_clock_stopped_ns = 0;
    return 0;
}

static void test_flush_begun(void **state)
{
    (void)state;
    struct fake_pair pair;
    fill(&pair, NULL);
    assert_int_equal(fake_send(pair.client, 100, 0, 0, NULL), 0);
    disconnect_client(&pair, true);
    assert_int_equal(pair.client->sent, 1);
    fake_pair_drive(&pair, fake_link_lost, pair.server);
    assert_int_equal(pair.server->frames, 2);
    assert_string_equal(pair.server->why, "the connection was closed");
    close_after_disconnect(&pair);
}

static void test_flush_not_begun(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    for (int i = 0; i < 14; i++)
        assert_int_equal(fake_send(pair.client, MIB, 0, 0, NULL), 0);
    assert_int_equal(fake_send(pair.client, 48, 1000, 3, NULL), 0);
    pair.client->next_seq--;
    assert_int_equal(fake_send(pair.client, 100, 0, 0, NULL), 0);
    disconnect_client(&pair, true);
    assert_int_equal(pair.client->sent, 1);
    fake_pair_drive(&pair, fake_link_lost, pair.server);
    assert_int_equal(pair.server->frames, 15);
    close_after_disconnect(&pair);
}

/* Bytes that the client never read do not cost the server the client's last frame. */
static void test_flush_with_unread_bytes(void **state)
{
    (void)state;
    struct fake_pair pair;
    fake_pair_open(&pair, "127.0.0.1", REFUSE_NOTHING);
    assert_int_equal(fake_send(pair.server, 48, MIB, 1, NULL), 0);
    assert_int_equal(fake_send(pair.client, 100, 0, 0, NULL), 0);
    disconnect_client(&pair, true);
    fake_pair_drive(&pair, fake_link_lost, pair.server);
    assert_int_equal(pair.server->frames, 1);
    assert_string_equal(pair.server->why, "the connection was closed");
    close_after_disconnect(&pair);
}

static void test_no_flush(void **state)
{
    (void)state;
    struct fake_pair pair;
    fill(&pair, NULL);
    disconnect_client(&pair, false);
    assert_int_equal(pair.client->sent, 1);
    fake_drive(&pair.b, NULL, fake_link_lost, pair.server);
    assert_int_equal(pair.server->frames, 0);
    close_after_disconnect(&pair);
}

static void test_flush_gives_up_in_time(void **state)
{
    (void)state;
    struct fake_pair pair;
    fill(&pair, NULL);
    disconnect_client(&pair, true);
    fake_settle(&pair.a);
    assert_int_equal(pair.a.watches.count, 1);
    assert_true(pair.a.ops->deadline_ns(pair.a.channel) != UINT64_MAX);
    fake_clock_ns += 1000000000;
    fake_settle(&pair.a);
    assert_int_equal(pair.a.watches.count, 0);
    assert_true(pair.a.ops->deadline_ns(pair.a.channel) == UINT64_MAX);
    close_after_disconnect(&pair);
}

static void test_close_while_flushing(void **state)
{
    (void)state;
    struct fake_pair pair;
    fill(&pair, NULL);
    disconnect_client(&pair, true);
    close_after_disconnect(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy_then_writable),
        cmocka_unit_test(test_peer_that_never_reads),
        cmocka_unit_test(test_send_inside_sent),
        cmocka_unit_test(test_recall_begun),
        cmocka_unit_test(test_recall_not_begun),
        cmocka_unit_test(test_recall_written),
        cmocka_unit_test(test_recall_after_loss),
        cmocka_unit_test_setup_teardown(test_flush_begun, stop_clock, start_clock),
        cmocka_unit_test_setup_teardown(test_flush_not_begun, stop_clock, start_clock),
        cmocka_unit_test_setup_teardown(test_flush_with_unread_bytes, stop_clock, start_clock),
        cmocka_unit_test(test_no_flush),
        cmocka_unit_test(test_flush_gives_up_in_time),
        cmocka_unit_test(test_close_while_flushing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
