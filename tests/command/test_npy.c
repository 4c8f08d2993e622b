/* SPDX-License-Identifier: Apache-2.0
 * The reader and writer of .npy headers: what NumPy writes is read, all else is refused with the
 * right reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A .npy file in memory. */
struct file {
    unsigned char bytes[16384];
    size_t count;
};

static void put(struct file *file, const void *bytes, size_t count)
{
    assert_true(file->count + count <= sizeof(file->bytes));
    memcpy(file->bytes + file->count, bytes, count);
    file->count += count;
}

/* A file of this format with this header and so many bytes of array. */
static void build(struct file *file, unsigned format, const char *header, size_t array_bytes)
{
    static const unsigned char zeros[4096];
    size_t length = strlen(header);
    unsigned char start[12] = {0x93,
                               'N',
                               'U',
                               'M',
                               'P',
                               'Y',
                               (unsigned char)format,
                               0,
                               (unsigned char)length,
                               (unsigned char)(length >> 8)};
    file->count = 0;
    put(file, start, format == 1 ? 10 : 12);
    put(file, header, length);
    put(file, zeros, array_bytes);
}

static void build_descr(struct file *file, const char *descr, size_t array_bytes)
{
    char header[8192];
    snprintf(header, sizeof(header), "{'descr': %s, 'fortran_order': False, 'shape': (2,), }\n",
             descr);
    build(file, 1, header, array_bytes);
}

static void expect_array(const struct haul_array *array, uint32_t dtype, uint32_t itemsize,
                         const char *description)
{
    assert_int_equal(array->dtype, dtype);
    assert_int_equal(array->itemsize, itemsize);
    if (description)
        assert_string_equal(array->description, description);
    else
        assert_null(array->description);
}

/* Writes the array's header, and reads it back with as many bytes. */
static void expect_round_trip(const struct haul_array *array)
{
    static struct haul_npy again;
    static struct file file;
    size_t header_bytes;
    assert_null(haul_npy_check(array));
    void *header = haul_npy_header(array, &header_bytes);
    assert_non_null(header);
    assert_int_equal(header_bytes % HAUL_NPY_ALIGNMENT, 0);
    file.count = 0;
    put(&file, header, header_bytes);
    free(header);
    put(&file, array->data, (size_t)array->nbytes);
    assert_true(haul_npy_parse(&again, file.bytes, file.count));
    expect_array(&again.array, array->dtype, array->itemsize, array->description);
    assert_int_equal(again.array.ndim, array->ndim);
    assert_memory_equal(again.array.shape, array->shape, array->ndim * sizeof(array->shape[0]));
    assert_int_equal(again.array.flags, array->flags);
}

static void expect_refused(const struct file *file, const char *reason)
{
    static struct haul_npy npy;
    assert_false(haul_npy_parse(&npy, file->bytes, file->count));
    if (!strstr(npy.why, reason))
        fail_msg("\"%s\" does not say \"%s\"", npy.why, reason);
}

static void test_dtypes(void **state)
{
    static const struct {
        const char *descr;
        uint32_t dtype, itemsize;
        const char *description;
    } cases[] = {
        {"'|b1'", HAUL_BOOL, 1, NULL},
        {"'|i1'", HAUL_I8, 1, NULL},
        {"'<i2'", HAUL_I16, 2, NULL},
        {"'<i4'", HAUL_I32, 4, NULL},
        {"'<i8'", HAUL_I64, 8, NULL},
        {"'|u1'", HAUL_U8, 1, NULL},
        {"'<u2'", HAUL_U16, 2, NULL},
        {"'<u4'", HAUL_U32, 4, NULL},
        {"'<u8'", HAUL_U64, 8, NULL},
        {"'<f2'", HAUL_F16, 2, NULL},
        {"\"<f4\"", HAUL_F32, 4, NULL},
        {"'<f8'", HAUL_F64, 8, NULL},
        {"'<c8'", HAUL_C64, 8, NULL},
        {"'<c16'", HAUL_C128, 16, NULL},
        {"'>u1'", HAUL_U8, 1, NULL},
        {"'>f4'", HAUL_OTHER, 4, ">f4"},
        {"'<f16'", HAUL_OTHER, 16, "<f16"},
        {"'<c32'", HAUL_OTHER, 32, "<c32"},
        {"'<U3'", HAUL_OTHER, 12, "<U3"},
        {"'|S7'", HAUL_OTHER, 7, "|S7"},
        {"'|V5'", HAUL_OTHER, 5, "|V5"},
        {"'<V2'", HAUL_OTHER, 2, "<V2"},
        {"'<M8'", HAUL_OTHER, 8, "<M8"},
        {"'<M8[ns]'", HAUL_OTHER, 8, "<M8[ns]"},
        {"'>m8[25s]'", HAUL_OTHER, 8, ">m8[25s]"},
        {"[('a', '<f4')]", HAUL_OTHER, 4, "[('a', '<f4')]"},
        {"[('a', '<f4'), ('', '|V4'), ('b', '<i2', (2, 3))]", HAUL_OTHER, 20,
         "[('a', '<f4'), ('', '|V4'), ('b', '<i2', (2, 3))]"},
        {"[(('a title', 'x'), [('y', '|u1'), ('z', '|S2', (3,))])]", HAUL_OTHER, 7,
         "[(('a title', 'x'), [('y', '|u1'), ('z', '|S2', (3,))])]"},
        {"[('it\\'s \\\\', '|u1'), (\"q'\", '|u1')]", HAUL_OTHER, 2,
         "[('it\\'s \\\\', '|u1'), (\"q'\", '|u1')]"},
    };
    static struct file file;
    static struct haul_npy npy;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        build_descr(&file, cases[i].descr, 2 * cases[i].itemsize);
        if (!haul_npy_parse(&npy, file.bytes, file.count))
            fail_msg("%s: %s", cases[i].descr, npy.why);
        expect_array(&npy.array, cases[i].dtype, cases[i].itemsize, cases[i].description);
        assert_int_equal(npy.array.nbytes, 2 * cases[i].itemsize);
        expect_round_trip(&npy.array);
    }
}

static void test_refused_dtypes(void **state)
{
    static const struct {
        const char *descr, *reason;
    } cases[] = {
        {"'|O'", "Python objects"},
        {"'|O8'", "Python objects"},
        {"[('a', '<f4'), ('b', [('c', '|O')])]", "Python objects"},
        {"'|S0'", "0 bytes"},
        {"[]", "0 bytes"},
        {"[('a', '<f4', (0,))]", "0 bytes"},
        {"''", "not written as NumPy"},
        {"'<'", "not written as NumPy"},
        {"'f4'", "not written as NumPy"},
        {"'<f3'", "not written as NumPy"},
        {"'<f4 '", "not written as NumPy"},
        {"'<f4,<f4'", "not written as NumPy"},
        {"'<b2'", "not written as NumPy"},
        {"'<M4'", "not written as NumPy"},
        {"'<M8[]'", "not written as NumPy"},
        {"'<M8[ns'", "not written as NumPy"},
        {"'<f4[ns]'", "not written as NumPy"},
        {"'|T16'", "not written as NumPy"},
        {"numpy.float32", "not written as NumPy"},
        {"('<f4', (2,))", "not written as NumPy"},
        {"[('a', '<f4') ('b', '<f4')]", "not written as NumPy"},
        {"[('a', '<f4', 3)]", "not written as NumPy"},
        {"[('a', '<f4', (3))]", "not written as NumPy"},
        {"[('a',)]", "not written as NumPy"},
        {"[('a\x01', '<f4')]", "not written as NumPy"},
        {"[('a\\\x01', '<f4')]", "not written as NumPy"},
        {"'<f4\\", "not written as NumPy"},
        {"[('a', '<f4'", "not written as NumPy"},
        {"{'names': ['a'], 'formats': ['<f4']}", "overlap or are out of order"},
        {"'|V2147483648'", "2 GiB"},
        {"'<U2147483647'", "2 GiB"},
        {"[('a', '<f8', (4294967296, 4294967296))]", "2 GiB"},
        {"[('a', '|V2147483647'), ('b', '|V2147483647')]", "2 GiB"},
        {"[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a',[('a'"
         ",["
         "('a',[('a','|u1')])])])])])])])])])])])])])])])])]",
         "nests deeper"},
    };
    static struct file file;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        build_descr(&file, cases[i].descr, 8);
        expect_refused(&file, cases[i].reason);
    }
}

static void test_long_description(void **state)
{
    static struct file file;
    char descr[HAUL_DESCRIPTION_MAX + 64];
    (void)state;
    memset(descr, 'a', sizeof(descr));
    memcpy(descr, "[('", 3);
    strcpy(descr + sizeof(descr) - 16, "', '<f4')]");
    build_descr(&file, descr, 8);
    expect_refused(&file, "longer than the 4096 bytes");
}

static void test_shapes(void **state)
{
    static const struct {
        const char *header;
        uint32_t ndim;
        uint64_t shape[3];
        uint64_t nbytes;
        uint32_t flags;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 0, {0}, 4, 0},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 2, {2, 3}, 24, HAUL_FORTRAN},
        {"{\"shape\":(0,5,7),\"fortran_order\":False,\"descr\":\"|u1\"}", 3, {0, 5, 7}, 0, 0},
        {" { 'descr' : '<f4' ,\t'fortran_order' : False , 'shape' : ( 2L , ) }  \n", 1, {2}, 8, 0},
    };
    static struct file file;
    static struct haul_npy npy;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        build(&file, 1 + (unsigned)i % 3, cases[i].header, (size_t)cases[i].nbytes);
        if (!haul_npy_parse(&npy, file.bytes, file.count))
            fail_msg("%s: %s", cases[i].header, npy.why);
        assert_int_equal(npy.array.ndim, cases[i].ndim);
        assert_memory_equal(npy.array.shape, cases[i].shape, cases[i].ndim * sizeof(uint64_t));
        assert_int_equal(npy.array.nbytes, cases[i].nbytes);
        assert_int_equal(npy.array.flags, cases[i].flags);
        expect_round_trip(&npy.array);
    }
}

static void test_refused_headers(void **state)
{
    static const struct {
        const char *header, *reason;
    } cases[] = {
        {"", "not a dict"},
        {"{}", "not a dict"},
        {"[]", "not a dict"},
        {"{'descr': '<f4', 'fortran_order': False}", "not a dict"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", "not a dict"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "not a dict"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", "not a dict"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + {}", "not a dict"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", "not a dict"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", "neither True nor False"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2)}", "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': [2]}", "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,)}",
         "shape is no tuple"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': "
         "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
         "1,1,1,1,1,1,1,1,1,1,1,1,1)}",
         "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}",
         "more elements than memory"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
         "more elements than memory"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5, 9223372036854775807)}",
         "more elements than memory"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "cut off: its array has 12"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "4 bytes follow its array"},
    };
    static struct file file;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        build(&file, 1, cases[i].header, 8);
        expect_refused(&file, cases[i].reason);
    }
}

static void test_refused_files(void **state)
{
    static struct file file;
    (void)state;
    build(&file, 4, "{}", 0);
    expect_refused(&file, "format 4.0");
    build(&file, 2, "{}", 0);
    file.bytes[11] = 0x7f; /* the header's length */
    expect_refused(&file, "more than NumPy writes");
    file.count = 11;
    expect_refused(&file, "ends within its header");
    build(&file, 1, "{}", 0);
    file.count--;
    expect_refused(&file, "ends within its header");
    file.count = 9;
    expect_refused(&file, "no .npy file");
    file.count = 0;
    expect_refused(&file, "it is empty");
    build(&file, 1, "{}", 0);
    file.bytes[0] = 'P';
    expect_refused(&file, "no .npy file");
}

/* Format 1.0 is Latin-1, and what haul carries is UTF-8: such a name is written in format 3.0. */
static void test_names_beyond_ascii(void **state)
{
    static struct file file;
    static struct haul_npy npy;
    size_t header_bytes;
    (void)state;
    build_descr(&file, "[('\xe9', '<f4')]", 8);
    assert_true(haul_npy_parse(&npy, file.bytes, file.count));
    assert_string_equal(npy.array.description, "[('\xc3\xa9', '<f4')]");
    unsigned char *header = haul_npy_header(&npy.array, &header_bytes);
    assert_non_null(header);
    assert_int_equal(header[6], 3);
    free(header);
    expect_round_trip(&npy.array);
}

/* The description of an array that another machine sent is checked before it is written. */
static void test_check_of_received(void **state)
{
    uint64_t extent = 1;
    struct haul_array array = {.shape = &extent, .ndim = 1, .dtype = HAUL_OTHER, .itemsize = 4};
    static const char *const bad[] = {"<f4', 'shape': (9,), 'x': '",
                                      "__import__('os')",
                                      "<f8",
                                      "[('a', '<f4')] + []",
                                      "[('a', '<f8')]",
                                      "|O",
                                      "{}"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        array.description = bad[i];
        assert_non_null(haul_npy_check(&array));
    }
    array.description = "[('a', '<f4')]";
    assert_null(haul_npy_check(&array));
}

/* NumPy has no bf16; ml_dtypes saves it as two bytes of void. */
static void test_bf16(void **state)
{
    uint64_t extent = 3;
    struct haul_array array = {.shape = &extent, .ndim = 1, .dtype = HAUL_BF16, .itemsize = 2};
    size_t header_bytes;
    (void)state;
    assert_null(haul_npy_check(&array));
    char *header = haul_npy_header(&array, &header_bytes);
    assert_non_null(header);
    assert_memory_equal(header + 10, "{'descr': '<V2', ", 17);
    free(header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_refused_dtypes),
        cmocka_unit_test(test_long_description),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_refused_headers),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_names_beyond_ascii),
        cmocka_unit_test(test_check_of_received),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
