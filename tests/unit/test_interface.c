/* SPDX-License-Identifier: Apache-2.0
 * Which interface has an address, and that a connection within this host is one over none. */
#include "interface.h"

#include "handles.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The first address of a family that an interface has which is not loopback; skips without one. */
static void own_address(int family, char address[static HAUL_HOST_MAX],
                        char name[static HAUL_DEVICE_NAME_MAX])
{
    struct ifaddrs *interfaces;
    assert_int_equal(getifaddrs(&interfaces), 0);
    address[0] = '\0';
    for (const struct ifaddrs *at = interfaces; at && !*address; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != family || at->ifa_flags & IFF_LOOPBACK)
            continue;
        const void *bytes =
            family == AF_INET
                ? (const void *)&((struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr
                : (const void *)&((struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr;
        assert_non_null(inet_ntop(family, bytes, address, HAUL_HOST_MAX));
        haul_copy_text(name, HAUL_DEVICE_NAME_MAX, at->ifa_name);
    }
    freeifaddrs(interfaces);
    if (!*address) {
        print_message("there is no interface but loopback with such an address\n");
        skip();
    }
}

static void test_loopback(void **state)
{
    char name[HAUL_DEVICE_NAME_MAX];
    (void)state;
    assert_true(haul_interface_has("127.0.0.1"));
    assert_false(haul_interface_find("127.0.0.1", name));
    assert_false(haul_interface_has("192.0.2.1")); /* for documents */
    assert_false(haul_interface_has("learner"));
    assert_false(haul_interface_has(""));
}

static void check_own(int family)
{
    char address[HAUL_HOST_MAX], own[HAUL_DEVICE_NAME_MAX], name[HAUL_DEVICE_NAME_MAX];
    own_address(family, address, own);
    assert_true(haul_interface_has(address));
    assert_true(haul_interface_find(address, name));
    assert_string_equal(name, own);
    size_t length = strlen(address);
    snprintf(address + length, HAUL_HOST_MAX - length, "%%%.16s", own);
    assert_true(haul_interface_find(address, name));
    assert_string_equal(name, own);
    snprintf(address + length, HAUL_HOST_MAX - length, "%%no_such0");
    assert_false(haul_interface_has(address));
}

static void test_ipv4(void **state)
{
    (void)state;
    check_own(AF_INET);
}

static void test_ipv6_with_zone(void **state)
{
    (void)state;
    check_own(AF_INET6);
}

/* As on a machine of several nodes, where a connection may say where to work. */
static void test_a_connection_within_the_host_settles_nothing(void **state)
{
    char address[HAUL_HOST_MAX], name[HAUL_DEVICE_NAME_MAX], listening[HAUL_HOST_MAX + 8];
    struct haul_options *options;
    struct haul_context *context;
    struct haul_server *server;
    struct haul_peer *peer;
    (void)state;
    own_address(AF_INET, address, name);
    snprintf(listening, sizeof listening, "%s:0", address);
    assert_int_equal(haul_options_create(&options), 0);
    assert_int_equal(haul_options_set(options, "provider", "tcp"), 0);
    assert_int_equal(haul_open(&context, options), 0);
    context->engine->site.settled = false;
    assert_int_equal(haul_site_look(&context->engine->site), 0);
    assert_int_equal(haul_listen(context, listening, &server), 0);
    assert_int_equal(
        haul_connect(context, haul_server_address(server), 20 * (int64_t)HAUL_NS_PER_S, &peer), 0);
    assert_false(context->engine->site.settled);
    haul_peer_release(peer);
    haul_server_close(server);
    haul_close(context);
    haul_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6_with_zone),
        cmocka_unit_test(test_a_connection_within_the_host_settles_nothing),
    };
    return cmocka_run_group_tests_name("interface", tests, NULL, NULL);
}
