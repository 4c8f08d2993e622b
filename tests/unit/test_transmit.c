/* SPDX-License-Identifier: Apache-2.0
 * Sending on a channel that breaks the contract of haul/provider.h. */
#include "handles.h"
#include "link.h"

#include <haul/haul.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int send_busy(void *conn, const void *header, size_t header_bytes,
                     const struct iovec *payload, size_t payload_count, void *cookie)
{
    (void)conn, (void)header, (void)header_bytes, (void)payload, (void)payload_count, (void)cookie;
    return HAUL_BUSY;
}

/* Only a frame with a payload may be answered so: the connection cannot go on. */
static void test_busy_without_payload(void **state)
{
    struct haul_context *context;
    struct haul_dict *dict;
    (void)state;
    assert_int_equal(haul_open(&context, NULL), 0);
    struct haul_engine *engine = haul_context_engine(context);
    assert_int_equal(haul_engine_enter(engine), 0);
    struct haul_transport *transport = &engine->transports[0];
    const struct haul_provider *before = transport->provider;
    struct haul_channel_ops busy = *before->channel;
    struct haul_provider provider = *before;
    busy.send = send_busy;
    provider.channel = &busy;
    transport->provider = &provider;
    struct haul_peer *peer = haul_peer_create(engine, "nowhere");
    struct haul_link *link = haul_link_create(engine, peer, &peer->inbox);
    link->state = HAUL_LINK_OPEN;
    link->credit_messages = 1;
    haul_credit_open(link);
    haul_link_opened(link);
    haul_engine_leave(engine);

    assert_int_equal(haul_dict_create(context, &dict), 0);
    assert_int_equal(haul_send(peer, dict, HAUL_FOREVER), HAUL_PROVIDER);
    assert_non_null(strstr(haul_error_detail(), "busy to a frame without payload"));
    haul_dict_destroy(dict);

    assert_int_equal(haul_engine_enter(engine), 0);
    assert_int_equal(engine->parcels_out, 0);
    haul_links_reap(engine);
    haul_peer_unreference(peer);
    transport->provider = before;
    haul_engine_leave(engine);
    haul_close(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_busy_without_payload)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
