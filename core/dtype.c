/* SPDX-License-Identifier: Apache-2.0
 * Element types, and what makes an array valid. */
#include "error.h"
#include "utf8.h"
#include "util.h"
#include "wire.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name;
    uint32_t itemsize;
} dtypes[] = {
    [HAUL_BOOL] = {"bool", 1},   [HAUL_I8] = {"i8", 1},     [HAUL_I16] = {"i16", 2},
    [HAUL_I32] = {"i32", 4},     [HAUL_I64] = {"i64", 8},   [HAUL_U8] = {"u8", 1},
    [HAUL_U16] = {"u16", 2},     [HAUL_U32] = {"u32", 4},   [HAUL_U64] = {"u64", 8},
    [HAUL_F16] = {"f16", 2},     [HAUL_BF16] = {"bf16", 2}, [HAUL_F32] = {"f32", 4},
    [HAUL_F64] = {"f64", 8},     [HAUL_C64] = {"c64", 8},   [HAUL_C128] = {"c128", 16},
    [HAUL_OTHER] = {"other", 0},
};

uint32_t haul_dtype_itemsize(uint32_t dtype)
{
    return dtype < HAUL_COUNT_OF(dtypes) ? dtypes[dtype].itemsize : 0;
}

const char *haul_dtype_name(uint32_t dtype)
{
    return dtype < HAUL_COUNT_OF(dtypes) ? dtypes[dtype].name : NULL;
}

uint32_t haul_dtype_parse(const char *name)
{
    for (uint32_t dtype = 1; dtype < HAUL_COUNT_OF(dtypes); dtype++)
        if (strcmp(name, dtypes[dtype].name) == 0)
            return dtype;
    return 0;
}

/* ---- Checks ---------------------------------------------------------------------------------- */

/* Fails with a sentence about the array. */
static int invalid(const struct haul_array *array, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int invalid(const struct haul_array *array, const char *format, ...)
{
    char key[HAUL_KEY_TEXT_BYTES], what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    return haul_fail(HAUL_INVALID, "array '%s': %s", haul_key_format(array->key, key), what);
}

static int check_key(const struct haul_array *array)
{
    if (!array->key || array->key[0] == '\0')
        return haul_fail(HAUL_INVALID, "an array has no key; 1 to %d bytes are needed",
                         HAUL_KEY_MAX);
    size_t bytes = strnlen(array->key, HAUL_KEY_MAX + 1);
    if (bytes > HAUL_KEY_MAX)
        return invalid(array, "its key is longer than %d bytes", HAUL_KEY_MAX);
    if (!haul_utf8_valid(array->key, bytes))
        return invalid(array, "its key is not valid UTF-8");
    return 0;
}

static int check_other(const struct haul_array *array)
{
    if (array->itemsize == 0)
        return invalid(array, "an element of dtype other needs at least 1 byte");
    if (!array->description || array->description[0] == '\0')
        return invalid(array, "dtype other needs a description");
    size_t bytes = strnlen(array->description, HAUL_DESCRIPTION_MAX + 1);
    if (bytes > HAUL_DESCRIPTION_MAX)
        return invalid(array, "its dtype description is longer than %d bytes",
                       HAUL_DESCRIPTION_MAX);
    if (!haul_utf8_printable(array->description, bytes))
        return invalid(array, "its dtype description is not printable UTF-8");
    return 0;
}

static int check_dtype(const struct haul_array *array)
{
    if (array->dtype == HAUL_OTHER)
        return check_other(array);
    if (!haul_dtype_name(array->dtype))
        return invalid(array, "there is no dtype %" PRIu32, array->dtype);
    if (array->itemsize != haul_dtype_itemsize(array->dtype))
        return invalid(array, "an element of dtype %s has %" PRIu32 " bytes, not %" PRIu32,
                       haul_dtype_name(array->dtype), haul_dtype_itemsize(array->dtype),
                       array->itemsize);
    if (array->description)
        return invalid(array, "only dtype other has a description");
    return 0;
}

static int check_shape(const struct haul_array *array)
{
    if (array->ndim > HAUL_NDIM_MAX)
        return invalid(array, "%" PRIu32 " axes are more than %d", array->ndim, HAUL_NDIM_MAX);
    if (array->ndim > 0 && !array->shape)
        return invalid(array, "it has %" PRIu32 " axes, but no shape", array->ndim);
    if (array->flags & ~(uint32_t)(HAUL_FORTRAN | HAUL_SHARED))
        return invalid(array, "its flags 0x%" PRIx32 " are unknown",
                       array->flags & ~(uint32_t)(HAUL_FORTRAN | HAUL_SHARED));
    return 0;
}

static int compute_nbytes(struct haul_array *array)
{
    uint64_t nbytes = array->itemsize;
    bool empty = false;
    for (uint32_t axis = 0; axis < array->ndim; axis++) {
        if (array->shape[axis] == 0)
            empty = true;
        else if (!haul_mul_u64(&nbytes, array->shape[axis]) || nbytes > INT64_MAX)
            return invalid(array, "its extents multiply to more than 2^63 - 1 bytes");
    }
    array->nbytes = empty ? 0 : nbytes;
    return 0;
}

int haul_array_check(struct haul_array *array)
{
    int err = check_key(array);
    if (err == 0)
        err = check_dtype(array);
    if (err == 0)
        err = check_shape(array);
    return err == 0 ? compute_nbytes(array) : err;
}

bool haul_array_same_type(const struct haul_array *a, const struct haul_array *b)
{
    if (a->dtype != b->dtype || a->itemsize != b->itemsize || a->ndim != b->ndim ||
        (a->flags ^ b->flags) & HAUL_FORTRAN)
        return false;
    if (a->dtype == HAUL_OTHER && strcmp(a->description, b->description) != 0)
        return false;
    return a->ndim == 0 || memcmp(a->shape, b->shape, a->ndim * sizeof(a->shape[0])) == 0;
}

/* ---- For sentences --------------------------------------------------------------------------- */

const char *haul_key_format(const char *key, char text[HAUL_KEY_TEXT_BYTES])
{
    /* One byte more than fits shows that the rest is cut. */
    haul_utf8_clean(text, HAUL_KEY_TEXT_BYTES, key, strnlen(key, HAUL_KEY_TEXT_BYTES));
    return text;
}

const char *haul_array_format(const struct haul_array *array, char *text, size_t size)
{
    enum { TYPE_BYTES = 64, EXTENT_BYTES = 21 };
    char whole[TYPE_BYTES + EXTENT_BYTES * HAUL_NDIM_MAX + sizeof("[] in Fortran order")];
    const char *name = haul_dtype_name(array->dtype);
    if (array->dtype == HAUL_OTHER)
        name = array->description;
    size_t used = haul_utf8_clean(whole, TYPE_BYTES, name, strnlen(name, TYPE_BYTES));
    whole[used++] = '[';
    for (uint32_t axis = 0; axis < array->ndim; axis++)
        used += (size_t)snprintf(whole + used, sizeof(whole) - used, "%s%" PRIu64,
                                 axis == 0 ? "" : ",", array->shape[axis]);
    used += (size_t)snprintf(whole + used, sizeof(whole) - used, "]%s",
                             array->flags & HAUL_FORTRAN ? " in Fortran order" : "");
    haul_utf8_clean(text, size, whole, used);
    return text;
}
