/* SPDX-License-Identifier: Apache-2.0
 * Element types, the checks of an array, UTF-8, and how arrays and keys look in sentences. */
#include "utf8.h"
#include "util.h"
#include "wire.h"
#include <haul/error.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_dtypes(void **state)
{
    (void)state;
    static const struct {
        uint32_t dtype, itemsize;
        const char *name;
    } cases[] = {
        {HAUL_BOOL, 1, "bool"},   {HAUL_I8, 1, "i8"},     {HAUL_I16, 2, "i16"},
        {HAUL_I32, 4, "i32"},     {HAUL_I64, 8, "i64"},   {HAUL_U8, 1, "u8"},
        {HAUL_U16, 2, "u16"},     {HAUL_U32, 4, "u32"},   {HAUL_U64, 8, "u64"},
        {HAUL_F16, 2, "f16"},     {HAUL_BF16, 2, "bf16"}, {HAUL_F32, 4, "f32"},
        {HAUL_F64, 8, "f64"},     {HAUL_C64, 8, "c64"},   {HAUL_C128, 16, "c128"},
        {HAUL_OTHER, 0, "other"},
    };
    for (size_t i = 0; i < HAUL_COUNT_OF(cases); i++) {
        assert_int_equal(cases[i].dtype, i + 1);
        assert_string_equal(haul_dtype_name(cases[i].dtype), cases[i].name);
        assert_int_equal(haul_dtype_itemsize(cases[i].dtype), cases[i].itemsize);
        assert_int_equal(haul_dtype_parse(cases[i].name), cases[i].dtype);
    }
    static const uint32_t none[] = {0, HAUL_OTHER + 1, UINT32_MAX};
    for (size_t i = 0; i < HAUL_COUNT_OF(none); i++) {
        assert_null(haul_dtype_name(none[i]));
        assert_int_equal(haul_dtype_itemsize(none[i]), 0);
    }
    assert_int_equal(haul_dtype_parse("float32"), 0);
    assert_int_equal(haul_dtype_parse(""), 0);
}

/* ---- haul_array_check ------------------------------------------------------------------------ */

#define SHAPE(...) ((const uint64_t[]){__VA_ARGS__})

static void assert_checks(struct haul_array array, uint64_t nbytes)
{
    array.nbytes = 12345; /* computed, not read */
    if (haul_array_check(&array) != 0)
        fail_msg("%s", haul_error_detail());
    assert_int_equal(array.nbytes, nbytes);
}

static void assert_invalid(struct haul_array array, const char *sentence)
{
    assert_int_equal(haul_array_check(&array), HAUL_INVALID);
    if (!strstr(haul_error_detail(), sentence))
        fail_msg("\"%s\" is not in \"%s\"", sentence, haul_error_detail());
}

static struct haul_array f32(uint32_t ndim, const uint64_t *shape)
{
    return (struct haul_array){
        .key = "x", .dtype = HAUL_F32, .itemsize = 4, .ndim = ndim, .shape = shape};
}

static void test_sizes(void **state)
{
    (void)state;
    const uint64_t p31 = UINT64_C(1) << 31, p30 = UINT64_C(1) << 30;
    assert_checks(f32(0, NULL), 4);
    assert_checks(f32(1, SHAPE(0)), 0);
    assert_checks(f32(2, SHAPE(3, 5)), 60);
    /* The largest there may be, and one more. */
    assert_checks(f32(2, SHAPE(p31 - 1, p30)), (p31 - 1) * p30 * 4);
    assert_invalid(f32(2, SHAPE(p31, p30)), "'x': its extents multiply to more than 2^63 - 1");
    /* As in NumPy the extents beside a zero must be possible without it. */
    assert_checks(f32(3, SHAPE(0, p31 - 1, p30)), 0);
    assert_checks(f32(3, SHAPE(p31 - 1, p30, 0)), 0);
    assert_invalid(f32(3, SHAPE(0, p31, p30)), "2^63 - 1");
    assert_invalid(f32(3, SHAPE(p31, p30, 0)), "2^63 - 1");
    assert_invalid(f32(1, SHAPE(UINT64_MAX)), "2^63 - 1");
}

static void test_shapes(void **state)
{
    (void)state;
    uint64_t ones[HAUL_NDIM_MAX + 1];
    for (size_t i = 0; i < HAUL_COUNT_OF(ones); i++)
        ones[i] = 1;
    assert_checks(f32(HAUL_NDIM_MAX, ones), 4);
    assert_invalid(f32(HAUL_NDIM_MAX + 1, ones), "33 axes are more than 32");
    assert_invalid(f32(1, NULL), "no shape");
    struct haul_array array = f32(1, ones);
    array.flags = HAUL_FORTRAN;
    assert_checks(array, 4);
    array.flags = 6;
    assert_invalid(array, "flags 0x4");
}

static void test_keys(void **state)
{
    (void)state;
    char longest[HAUL_KEY_MAX + 2] = {0};
    struct haul_array array = f32(0, NULL);
    array.key = longest;
    assert_invalid(array, "no key");
    memset(longest, 'k', HAUL_KEY_MAX);
    assert_checks(array, 4);
    longest[HAUL_KEY_MAX] = 'k';
    assert_invalid(array, "kkk...': its key is longer than 255 bytes");
    array.key = NULL;
    assert_invalid(array, "no key");
    array.key = "caf\xc3";
    assert_invalid(array, "array 'caf?': its key is not valid UTF-8");
    array.key = "caf\xc3\xa9";
    assert_checks(array, 4);
}

static void test_types(void **state)
{
    (void)state;
    struct haul_array array = f32(0, NULL);
    array.itemsize = 8;
    assert_invalid(array, "an element of dtype f32 has 4 bytes, not 8");
    array.dtype = 17;
    assert_invalid(array, "no dtype 17");
    array = f32(0, NULL);
    array.description = "<f4";
    assert_invalid(array, "only dtype other has a description");
    array.dtype = HAUL_OTHER;
    assert_checks(array, 4);
    array.itemsize = 0;
    assert_invalid(array, "at least 1 byte");
    array.itemsize = UINT32_MAX;
    assert_checks(array, UINT32_MAX);
    array.description = NULL;
    assert_invalid(array, "needs a description");
    array.description = "";
    assert_invalid(array, "needs a description");
    array.description = "a\tb";
    assert_invalid(array, "not printable UTF-8");
}

static void test_same_type(void **state)
{
    (void)state;
    struct haul_array a = f32(2, SHAPE(3, 5)), b = f32(2, SHAPE(3, 5));
    b.key = "y";
    assert_true(haul_array_same_type(&a, &b));
    b.flags = HAUL_FORTRAN;
    assert_false(haul_array_same_type(&a, &b));
    b = f32(2, SHAPE(3, 6));
    assert_false(haul_array_same_type(&a, &b));
    b = f32(1, SHAPE(3));
    assert_false(haul_array_same_type(&a, &b));
    b = a;
    b.dtype = HAUL_I32;
    assert_false(haul_array_same_type(&a, &b));
    a.dtype = b.dtype = HAUL_OTHER;
    a.description = "<U1";
    b.description = "<M4";
    assert_false(haul_array_same_type(&a, &b));
    b.description = "<U1";
    assert_true(haul_array_same_type(&a, &b));
    a = b = f32(0, NULL);
    assert_true(haul_array_same_type(&a, &b));
}

/* ---- For sentences --------------------------------------------------------------------------- */

static void assert_format(struct haul_array array, size_t size, const char *expected)
{
    char text[256];
    assert_true(size <= sizeof(text));
    assert_ptr_equal(haul_array_format(&array, text, size), text);
    assert_string_equal(text, expected);
}

static void test_array_format(void **state)
{
    (void)state;
    struct haul_array array = f32(2, SHAPE(1024, 1024));
    assert_format(array, 256, "f32[1024,1024]");
    assert_format(array, 15, "f32[1024,1024]");
    assert_format(array, 14, "f32[1024,1...");
    assert_format(array, 4, "...");
    array.flags = HAUL_FORTRAN;
    assert_format(array, 256, "f32[1024,1024] in Fortran order");
    array = f32(0, NULL);
    array.dtype = HAUL_U8;
    assert_format(array, 256, "u8[]");
    array = f32(1, SHAPE(UINT64_MAX));
    array.dtype = HAUL_OTHER;
    array.description = "<M8[ns]";
    assert_format(array, 256, "<M8[ns][18446744073709551615]");
    uint64_t widest[HAUL_NDIM_MAX];
    memset(widest, 0xff, sizeof(widest));
    array.ndim = HAUL_NDIM_MAX;
    array.shape = widest;
    assert_format(array, 40, "<M8[ns][18446744073709551615,1844674...");
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "plain",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",             /* a continuation byte alone */
        "\xc0\x80",         /* overlong */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong */
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",     /* surrogate */
        "\xed\xbf\xbf",     /* surrogate */
        "\xf4\x90\x80\x80", /* beyond U+10FFFF */
        "\xf5\x80\x80\x80",
        "\xfe",
        "\xff",
        "\xc3",         /* cut */
        "\xe2\x82",     /* cut */
        "\xf0\x9f\x98", /* cut */
        "\xe2\x28\xa1"  /* not continued */
    };
    for (size_t i = 0; i < HAUL_COUNT_OF(good); i++)
        assert_true(haul_utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < HAUL_COUNT_OF(bad); i++) {
        assert_false(haul_utf8_valid(bad[i], strlen(bad[i])));
        assert_false(haul_utf8_printable(bad[i], strlen(bad[i])));
    }
    assert_true(haul_utf8_printable("~\xc2\xa0\xf0\x9f\x98\x80", 7));
    static const char *const controls[] = {"\x01", "\x1f", "\x7f", "\xc2\x80", "\xc2\x9f"};
    for (size_t i = 0; i < HAUL_COUNT_OF(controls); i++)
        assert_false(haul_utf8_printable(controls[i], strlen(controls[i])));
    assert_false(haul_utf8_printable("a\0b", 3));
}

static void assert_cleaned(const char *text, size_t bytes, size_t size, const char *expected)
{
    char to[65];
    memset(to, '~', sizeof to);
    assert_int_equal(haul_utf8_clean(to, size, text, bytes), strlen(expected));
    assert_string_equal(to, expected);
    assert_int_equal(to[size], '~');
}

static void test_clean(void **state)
{
    (void)state;
    assert_cleaned("", 0, 4, "");
    assert_cleaned("abc", 3, 4, "abc");
    assert_cleaned("abcd", 4, 4, "...");
    /* What is left of a full buffer. */
    assert_cleaned("abcd", 4, 3, "..");
    assert_cleaned("abcd", 4, 1, "");
    assert_cleaned("abcdefgh", 8, 8, "abcd...");
    assert_cleaned("a\nb\0c\xff", 6, 64, "a?b?c?");
    /* Two-byte characters are kept whole. */
    assert_cleaned("\xc3\xa9\xc3\xa9\xc3\xa9", 6, 7, "\xc3\xa9\xc3\xa9\xc3\xa9");
    assert_cleaned("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 8, 7, "\xc3\xa9...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),       cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_shapes),       cmocka_unit_test(test_keys),
        cmocka_unit_test(test_types),        cmocka_unit_test(test_same_type),
        cmocka_unit_test(test_array_format), cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests_name("wire: element types", tests, NULL, NULL);
}
