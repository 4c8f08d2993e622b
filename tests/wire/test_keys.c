/* SPDX-License-Identifier: Apache-2.0
 * Arrays found by their keys, in orders that a peer may choose. */
#include "keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS_MAX = 100, KEY_BYTES = 32 };

struct row {
    char keys[KEYS_MAX][KEY_BYTES];
    struct haul_array arrays[KEYS_MAX];
    const struct haul_array *sorted[2 * KEYS_MAX];
    size_t count;
};

/* Keys k, k + step, k + 2 * step ... of `count`, which step has no divisor with. */
static void make_row(struct row *row, size_t count, size_t step)
{
    row->count = count;
    for (size_t i = 0; i < count; i++) {
        snprintf(row->keys[i], KEY_BYTES, "key %zu", i * step % count);
        row->arrays[i] = (struct haul_array){.key = row->keys[i]};
        row->sorted[i] = &row->arrays[i];
    }
}

static void assert_all_are_found(const struct row *row)
{
    for (size_t i = 0; i < row->count; i++) {
        bool found;
        size_t place = haul_keys_place(row->sorted, row->count, row->keys[i], &found);
        assert_true(found);
        assert_ptr_equal(row->sorted[place], &row->arrays[i]);
    }
}

static void test_every_order(void **state)
{
    static const size_t steps[] = {1, 7, 13};
    struct row row;
    (void)state;
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        for (size_t count = 0; count <= KEYS_MAX; count++) {
            if (count % steps[s] == 0 && steps[s] > 1)
                continue;
            make_row(&row, count, count > 1 && s == 0 ? count - 1 : steps[s]); /* or backwards */
            assert_null(haul_keys_sort(row.sorted, count));
            assert_all_are_found(&row);
        }
    }
}

static void test_places_of_others(void **state)
{
    struct row row;
    bool found = true;
    (void)state;
    assert_int_equal(haul_keys_place(NULL, 0, "a", &found), 0);
    assert_false(found);
    make_row(&row, 10, 3);
    assert_null(haul_keys_sort(row.sorted, 10));
    assert_int_equal(haul_keys_place(row.sorted, 10, "", &found), 0);
    assert_false(found);
    assert_int_equal(haul_keys_place(row.sorted, 10, "key 4+", &found), 5);
    assert_false(found);
    assert_int_equal(haul_keys_place(row.sorted, 10, "key \xc3\xa4", &found), 10);
    assert_false(found);
}

static void test_equal_keys(void **state)
{
    struct row row;
    (void)state;
    for (size_t first = 0; first < 20; first++) {
        for (size_t second = first + 1; second < 20; second++) {
            make_row(&row, 20, 7);
            memcpy(row.keys[second], row.keys[first], KEY_BYTES);
            assert_string_equal(haul_keys_sort(row.sorted, 20), row.keys[first]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_order),
        cmocka_unit_test(test_places_of_others),
        cmocka_unit_test(test_equal_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
