/* SPDX-License-Identifier: Apache-2.0
 * Rails that fail: which of them are blamed, and how they come back. */
#include "fabric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BYTES = 1 << 16, FENCE_MS = 1001, LOOK_MS = 501, AGAIN_MS = 41 };

/* A reader that could not be closed, and whose reads have ended by themselves since. */
static void test_stuck(void **state)
{
    (void)state;
    struct haul_ofi *ofi = fabric_open(1);
    struct haul_ofi_rail *rail = &ofi->rails[0];
    struct haul_ofi_peer *peer = fabric_attach(ofi, "a");
    fabric_close_error = -FI_EBUSY;
    fabric_read(peer, BYTES);
    haul_ofi_fence(peer);
    fabric_pass(ofi, FENCE_MS);
    assert_false(haul_ofi_rail_reads(rail));
    assert_int_equal(fabric_done_error, -1);
    fabric_end(rail, FI_ECANCELED);
    assert_int_equal(fabric_done_error, HAUL_CANCELLED);
    assert_true(haul_ofi_deadline_ns(ofi) < UINT64_MAX);
    fabric_close_error = 0;
    fabric_pass(ofi, LOOK_MS);
    fabric_pass(ofi, FENCE_MS);
    assert_true(haul_ofi_rail_reads(rail));
    fabric_read(peer, BYTES);
    fabric_end(rail, 0);
    assert_int_equal(fabric_done_error, 0);
    free(peer);
    fabric_close(ofi);
}

/* One piece fails on a rail that brings others: all peers go on over it. */
static void test_one_piece(void **state)
{
    (void)state;
    struct haul_ofi *ofi = fabric_open(2);
    struct haul_ofi_rail *first = &ofi->rails[0], *second = &ofi->rails[1];
    struct haul_ofi_peer *peer = fabric_attach(ofi, "a"), *other = fabric_attach(ofi, "b");
    fabric_read(peer, BYTES);
    fabric_end(first, FI_EIO);
    fabric_pass(ofi, AGAIN_MS); /* alone, */
    fabric_end(first, FI_EIO);
    fabric_pass(ofi, AGAIN_MS); /* then over the other one */
    fabric_read(peer, BYTES);
    fabric_pass(ofi, 1);
    fabric_end(first, 0);
    assert_int_equal(fabric_done_error, 0);
    fabric_end(second, 0);
    assert_true(haul_ofi_is_shunned(peer->paths[0].address, haul_ofi_host->now_ns()));
    assert_false(haul_ofi_is_shunned(other->paths[0].address, haul_ofi_host->now_ns()));
    assert_false(first->failing);
    free(peer);
    free(other);
    fabric_close(ofi);
}

/* ... and one that brings nothing: nobody is read over it. */
static void test_no_piece(void **state)
{
    (void)state;
    struct haul_ofi *ofi = fabric_open(2);
    struct haul_ofi_rail *first = &ofi->rails[0], *second = &ofi->rails[1];
    struct haul_ofi_peer *peer = fabric_attach(ofi, "a"), *other = fabric_attach(ofi, "b");
    fabric_read(other, BYTES);
    fabric_end(first, 0);
    fabric_pass(ofi, 1);
    fabric_read(peer, BYTES);
    fabric_end(first, FI_EIO);
    fabric_pass(ofi, AGAIN_MS);
    fabric_end(first, FI_EIO);
    fabric_pass(ofi, AGAIN_MS);
    fabric_end(second, 0);
    assert_true(haul_ofi_is_shunned(other->paths[0].address, haul_ofi_host->now_ns()));
    assert_true(first->failing);
    free(peer);
    free(other);
    fabric_close(ofi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_one_piece),
        cmocka_unit_test(test_no_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
