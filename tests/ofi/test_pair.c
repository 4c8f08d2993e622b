/* SPDX-License-Identifier: Apache-2.0
 * Which of a peer's rails each of ours reads from. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <providers/ofi/ofi.h>

enum { NONE = HAUL_OFI_NO_RAIL };

static in_addr_t address_of(const char *text)
{
    struct in_addr address;
    assert_int_equal(inet_pton(AF_INET, text, &address), 1);
    return address.s_addr;
}

/* Lists of addresses that end with NULL; ours are in networks of 24 bits, "" is one that is not
 * known. */
static void check(const char *const *ours, const char *const *theirs, const unsigned *wanted)
{
    struct haul_ofi *ofi = test_calloc(1, sizeof *ofi);
    struct sockaddr_in addresses[HAUL_OFI_RAILS_MAX];
    unsigned count = 0, pairs[HAUL_OFI_RAILS_MAX];
    for (; ours[ofi->rail_count]; ofi->rail_count++) {
        struct haul_ofi_rail *rail = &ofi->rails[ofi->rail_count];
        if (!*ours[ofi->rail_count])
            continue;
        rail->address = address_of(ours[ofi->rail_count]);
        rail->netmask = address_of("255.255.255.0");
    }
    for (; theirs[count]; count++)
        addresses[count] =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {address_of(theirs[count])}};
    haul_ofi_pair(ofi, (const uint8_t *)addresses, sizeof addresses[0], count, pairs);
    for (unsigned i = 0; i < ofi->rail_count; i++)
        assert_int_equal(pairs[i], wanted[i]);
    test_free(ofi);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define PAIRS(...) ((const unsigned[]){__VA_ARGS__})

static void test_networks(void **state)
{
    (void)state;
    check(LIST("10.0.0.1", "10.0.1.1"), LIST("10.0.0.2", "10.0.1.2"), PAIRS(0, 1));
    check(LIST("10.0.0.1", "10.0.1.1"), LIST("10.0.1.2", "10.0.0.2"), PAIRS(1, 0));
    /* One that shares no network carries nothing. */
    check(LIST("10.0.0.1", "10.0.7.1"), LIST("10.0.0.2", "10.0.1.2"), PAIRS(0, NONE));
    check(LIST("10.0.1.1"), LIST("10.0.0.2", "10.0.1.2"), PAIRS(1));
    check(LIST("", "10.0.1.1"), LIST("10.0.0.2", "10.0.1.2"), PAIRS(NONE, 1));
}

static void test_one_network(void **state)
{
    (void)state;
    check(LIST("10.0.0.1", "10.0.0.2"), LIST("10.0.0.3", "10.0.0.4"), PAIRS(0, 1));
    check(LIST("10.0.0.1", "10.0.0.2", "10.0.0.5"), LIST("10.0.0.3", "10.0.0.4"), PAIRS(0, 1, 0));
    check(LIST("10.0.0.1", "10.0.0.2"), LIST("10.0.0.3"), PAIRS(0, 0));
    /* Two of ours in one network, one in another: each network is counted off by itself. */
    check(LIST("10.0.0.1", "10.0.1.1", "10.0.0.2"), LIST("10.0.0.3", "10.0.1.2", "10.0.0.4"),
          PAIRS(0, 1, 2));
}

static void test_no_network(void **state)
{
    (void)state;
    check(LIST("10.0.0.1", "10.0.1.1"), LIST("10.8.0.2", "10.8.1.2"), PAIRS(0, 1));
    check(LIST("10.0.0.1", "10.0.1.1", "10.0.2.1"), LIST("10.8.0.2", "10.8.1.2"), PAIRS(0, 1, 0));
    check(LIST("", ""), LIST("127.0.0.1", "127.0.0.1", "127.0.0.1"), PAIRS(0, 1));
}

/* Addresses of other formats are not taken for IPv4. */
static void test_other_formats(void **state)
{
    struct haul_ofi *ofi = test_calloc(1, sizeof *ofi);
    const uint8_t addresses[2][8] = {{0}};
    unsigned pairs[HAUL_OFI_RAILS_MAX];
    (void)state;
    ofi->rail_count = 2;
    ofi->rails[0].netmask = ofi->rails[1].netmask = address_of("255.0.0.0");
    haul_ofi_pair(ofi, addresses[0], sizeof addresses[0], 2, pairs);
    assert_int_equal(pairs[0], 0);
    assert_int_equal(pairs[1], 1);
    test_free(ofi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_one_network),
        cmocka_unit_test(test_no_network),
        cmocka_unit_test(test_other_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
