/* SPDX-License-Identifier: Apache-2.0
 * The handshake from the inside: reasons of both sides that fill what there is for them. A plugin
 * that has so much to say is needed to get there from the outside. */
#include "handles.h"
#include "link.h"

#include <haul/haul.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { WHY_MAX = HAUL_WIRE_SENTENCE_MAX };

/* A peer whose own reasons have so many bytes takes a WELCOME with as long a reason as there is. */
static void assert_keeps_within(struct haul_engine *engine, size_t own_bytes)
{
    struct haul_wire_hello hello = {.version = HAUL_WIRE_VERSION, .nonce = 7, .credit_messages = 1};
    uint8_t frame[HAUL_WIRE_HELLO_ENCODED_MAX];
    memset(hello.why, 's', WHY_MAX);
    size_t bytes = haul_hello_encode(&hello, HAUL_FRAME_WELCOME, frame);

    struct haul_peer *peer = haul_peer_create(engine, "nowhere");
    struct haul_link *link = haul_link_create(engine, peer, &peer->inbox);
    link->state = HAUL_LINK_GREETING;
    haul_credit_open(link); /* as if a HELLO had been sent */
    memset(peer->why, 'o', own_bytes);
    assert_int_equal(haul_handshake_frame(link, frame, bytes), 0);

    assert_true(haul_link_is_open(link));
    assert_int_equal(strnlen(peer->why, sizeof peer->why), WHY_MAX);
    assert_int_equal(strspn(peer->why, "o"), own_bytes);
    assert_false(peer->dials); /* what lies behind, and ASan does not look at */
    assert_false(peer->closed);
    haul_link_lose(link, HAUL_CLOSED, "the test is over");
    haul_links_reap(engine);
    haul_peer_unreference(peer);
}

static void test_reasons_fill_their_room(void **state)
{
    struct haul_options *options;
    struct haul_context *context;
    (void)state;
    assert_int_equal(haul_options_create(&options), 0);
    assert_int_equal(haul_options_set(options, "provider", "tcp"), 0);
    assert_int_equal(haul_open(&context, options), 0);
    haul_options_destroy(options);
    struct haul_engine *engine = haul_context_engine(context);
    assert_int_equal(haul_engine_enter(engine), 0);
    for (size_t own_bytes = 0; own_bytes <= WHY_MAX; own_bytes++)
        assert_keeps_within(engine, own_bytes);
    haul_engine_leave(engine);
    haul_close(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reasons_fill_their_room)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
