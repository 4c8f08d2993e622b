/* SPDX-License-Identifier: Apache-2.0
 * Error names, sentences and the thread's detail. */
#include "error.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void every_error_has_name_and_sentence(void **state)
{
    (void)state;
#define CHECK(error, value, text)                        \
    assert_int_equal(error, value);                      \
    assert_string_equal(haul_error_name(error), #error); \
    assert_string_equal(haul_error_sentence(error), text);
    HAUL_ERRORS(CHECK)
#undef CHECK
    assert_string_equal(haul_error_name(HAUL_OK), "HAUL_OK");
    assert_true(strlen(haul_error_sentence(HAUL_OK)) > 0);
}

static void unknown_numbers_have_text_too(void **state)
{
    (void)state;
    assert_string_equal(haul_error_name(-1000), "HAUL_UNKNOWN");
    assert_string_equal(haul_error_name(7), "HAUL_UNKNOWN");
    assert_true(strlen(haul_error_sentence(-1000)) > 0);
}

static void fail_sets_detail_and_keeps_errno(void **state)
{
    (void)state;
    errno = ENOENT;
    assert_int_equal(haul_fail(HAUL_ADDRESS, "port %d of %s", 80, "host"), HAUL_ADDRESS);
    assert_string_equal(haul_error_detail(), "port 80 of host");
    assert_int_equal(errno, ENOENT);
}

static void detail_may_be_part_of_the_next(void **state)
{
    (void)state;
    haul_fail(HAUL_SYSTEM, "inner");
    haul_fail(HAUL_PROVIDER, "outer: %s", haul_error_detail());
    assert_string_equal(haul_error_detail(), "outer: inner");
    assert_int_equal(haul_fail_with(HAUL_PROVIDER, haul_error_detail()), HAUL_PROVIDER);
    assert_string_equal(haul_error_detail(), "outer: inner");
}

static void fail_with_nothing_takes_the_sentence(void **state)
{
    (void)state;
    assert_int_equal(haul_fail_with(HAUL_TIMEOUT, NULL), HAUL_TIMEOUT);
    assert_string_equal(haul_error_detail(), haul_error_sentence(HAUL_TIMEOUT));
    assert_int_equal(haul_fail_with(HAUL_BUSY, ""), HAUL_BUSY);
    assert_string_equal(haul_error_detail(), haul_error_sentence(HAUL_BUSY));
    assert_int_equal(haul_fail_with(HAUL_BUSY, "100%s"), HAUL_BUSY);
    assert_string_equal(haul_error_detail(), "100%s");
}

static void long_details_are_cut_between_characters(void **state)
{
    (void)state;
    char text[HAUL_DETAIL_MAX + 1] = "";
    memset(text, 'x', HAUL_DETAIL_MAX - 1);
    haul_fail_with(HAUL_INVALID, text);
    assert_string_equal(haul_error_detail(), text);

    /* With 0 and 1 bytes in front the cut falls on either half of a two-byte character. */
    for (int shift = 0; shift < 2; shift++) {
        char wide[HAUL_DETAIL_MAX + 2] = "x";
        for (int i = shift; i + 2 < (int)sizeof wide; i += 2)
            memcpy(wide + i, "\xC3\xA4", 3);
        haul_fail_with(HAUL_INVALID, wide);
        const char *detail = haul_error_detail();
        size_t length = strlen(detail);
        assert_true(length < HAUL_DETAIL_MAX && length >= HAUL_DETAIL_MAX - 2);
        assert_string_equal(detail + length - 3, "...");
        assert_int_equal((unsigned char)detail[length - 4], 0xA4);
    }
}

static void *fail_elsewhere(void *arg)
{
    (void)arg;
    bool empty = haul_error_detail()[0] == '\0';
    haul_fail(HAUL_INVALID, "of another thread");
    return empty ? NULL : "a new thread has a detail";
}

static void each_thread_has_its_own(void **state)
{
    (void)state;
    pthread_t thread;
    void *complaint;
    haul_fail(HAUL_INVALID, "of this thread");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, &complaint), 0);
    assert_null(complaint);
    assert_string_equal(haul_error_detail(), "of this thread");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_name_and_sentence),
        cmocka_unit_test(unknown_numbers_have_text_too),
        cmocka_unit_test(fail_sets_detail_and_keeps_errno),
        cmocka_unit_test(detail_may_be_part_of_the_next),
        cmocka_unit_test(fail_with_nothing_takes_the_sentence),
        cmocka_unit_test(long_details_are_cut_between_characters),
        cmocka_unit_test(each_thread_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
