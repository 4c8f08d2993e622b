/* SPDX-License-Identifier: Apache-2.0
 * Rails that fail: which of them are blamed, and how they come back. */
#include "fabric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BYTES = 1 << 16, FENCE_MS = 1001, LOOK_MS = 501 };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stuck),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
