/* SPDX-License-Identifier: Apache-2.0
 * NumPy's dtype descriptions: a strict recursive reader that computes item sizes. */
#include "descr.h"

#include <string.h>

enum {
    DEPTH_MAX = 16,           /* of fields within fields */
    ITEMSIZE_MAX = INT32_MAX, /* what NumPy itself can hold */
};

static const char NO_DESCR[] = "its dtype is not written as NumPy writes it";
static const char TOO_LARGE[] = "its dtype has elements of more than 2 GiB";
static const char OBJECTS[] = "it holds Python objects, which only Python can read; save it with a "
                              "dtype of fixed size";
static const char UNORDERED[] =
    "its dtype has fields that overlap or are out of order, which no .npy "
    "file can hold";
static const char EMPTY[] = "its elements have 0 bytes";

static const struct {
    char kind;
    uint8_t itemsize;
    uint8_t dtype;
    char numpy[5];
} own_dtypes[] = {
    {'b', 1, HAUL_BOOL, "|b1"}, {'i', 1, HAUL_I8, "|i1"},     {'i', 2, HAUL_I16, "<i2"},
    {'i', 4, HAUL_I32, "<i4"},  {'i', 8, HAUL_I64, "<i8"},    {'u', 1, HAUL_U8, "|u1"},
    {'u', 2, HAUL_U16, "<u2"},  {'u', 4, HAUL_U32, "<u4"},    {'u', 8, HAUL_U64, "<u8"},
    {'f', 2, HAUL_F16, "<f2"},  {'f', 4, HAUL_F32, "<f4"},    {'f', 8, HAUL_F64, "<f8"},
    {'c', 8, HAUL_C64, "<c8"},  {'c', 16, HAUL_C128, "<c16"},
};

static uint32_t own_dtype(char kind, uint64_t itemsize)
{
    for (size_t i = 0; i < sizeof(own_dtypes) / sizeof(own_dtypes[0]); i++) {
        if (own_dtypes[i].kind == kind && own_dtypes[i].itemsize == itemsize)
            return own_dtypes[i].dtype;
    }
    return HAUL_OTHER;
}

const char *haul_descr_of(uint32_t dtype)
{
    if (dtype == HAUL_BF16)
        return "<V2";
    for (size_t i = 0; i < sizeof(own_dtypes) / sizeof(own_dtypes[0]); i++) {
        if (own_dtypes[i].dtype == dtype)
            return own_dtypes[i].numpy;
    }
    return NULL;
}

/* Whether NumPy has a number of this kind and size that is not among haul's own. */
static bool long_double(char kind, uint64_t itemsize)
{
    return (kind == 'f' && (itemsize == 12 || itemsize == 16)) ||
           (kind == 'c' && (itemsize == 24 || itemsize == 32));
}

/* "[25s]" behind a date or a time span; there may be none. */
static bool take_unit(struct haul_literal *cursor)
{
    if (!haul_literal_take(cursor, '['))
        return true;
    const char *start = cursor->at;
    while (cursor->at < cursor->end && ((*cursor->at >= '0' && *cursor->at <= '9') ||
                                        (*cursor->at >= 'a' && *cursor->at <= 'z') ||
                                        (*cursor->at >= 'A' && *cursor->at <= 'Z')))
        cursor->at++;
    return cursor->at > start && haul_literal_take(cursor, ']');
}

/* The whole text of a type without fields: "<f4", "|S12", "<M8[ns]". */
static const char *read_basic(const char *text, size_t bytes, uint64_t *itemsize, uint32_t *dtype)
{
    if (bytes < 2 || !strchr("<>|", text[0]) || memchr(text, ' ', bytes))
        return NO_DESCR;
    char order = text[0], kind = text[1];
    if (kind == 'O')
        return OBJECTS;
    struct haul_literal cursor = {text + 2, text + bytes};
    if (!haul_literal_integer(&cursor, itemsize))
        return NO_DESCR;
    if (*itemsize > ITEMSIZE_MAX)
        return TOO_LARGE;
    if (kind == 'U')
        *itemsize *= 4; /* UCS-4 */
    *dtype = own_dtype(kind, *itemsize);
    if ((kind == 'M' || kind == 'm') && (*itemsize != 8 || !take_unit(&cursor)))
        return NO_DESCR;
    if (!strchr("MmSUV", kind) && *dtype == HAUL_OTHER && !long_double(kind, *itemsize))
        return NO_DESCR;
    if (order == '>' && *itemsize > 1)
        *dtype = HAUL_OTHER;
    return cursor.at == cursor.end ? NULL : NO_DESCR;
}

static const char *take_fields(struct haul_literal *cursor, unsigned depth, uint64_t *itemsize);

/* itemsize times the extents of a sub-array. */
static const char *take_subarray(struct haul_literal *cursor, uint64_t *itemsize)
{
    uint64_t shape[HAUL_NDIM_MAX];
    uint32_t ndim;
    if (!haul_literal_tuple(cursor, shape, HAUL_NDIM_MAX, &ndim))
        return NO_DESCR;
    for (uint32_t i = 0; i < ndim; i++) {
        if (__builtin_mul_overflow(*itemsize, shape[i], itemsize))
            return TOO_LARGE;
    }
    return *itemsize > ITEMSIZE_MAX ? TOO_LARGE : NULL;
}

static const char *take_type(struct haul_literal *cursor, unsigned depth, uint64_t *itemsize)
{
    const char *text;
    size_t bytes;
    uint32_t dtype;
    if (haul_literal_peek(cursor) == '[')
        return take_fields(cursor, depth, itemsize);
    if (!haul_literal_string(cursor, &text, &bytes))
        return NO_DESCR;
    return read_basic(text, bytes, itemsize, &dtype);
}

/* 'name', or ('title', 'name'). */
static bool take_name(struct haul_literal *cursor)
{
    const char *text;
    size_t bytes;
    if (!haul_literal_take(cursor, '('))
        return haul_literal_string(cursor, &text, &bytes);
    return haul_literal_string(cursor, &text, &bytes) && haul_literal_take(cursor, ',') &&
           haul_literal_string(cursor, &text, &bytes) && haul_literal_take(cursor, ')');
}

/* ('name', type) or ('name', type, (2, 3)). */
static const char *take_field(struct haul_literal *cursor, unsigned depth, uint64_t *itemsize)
{
    if (!haul_literal_take(cursor, '(') || !take_name(cursor) || !haul_literal_take(cursor, ','))
        return NO_DESCR;
    const char *why = take_type(cursor, depth, itemsize);
    if (!why && haul_literal_take(cursor, ','))
        why = take_subarray(cursor, itemsize);
    if (!why && !haul_literal_take(cursor, ')'))
        why = NO_DESCR;
    return why;
}

/* [field, field, ...] */
static const char *take_fields(struct haul_literal *cursor, unsigned depth, uint64_t *itemsize)
{
    bool comma = true;
    *itemsize = 0;
    if (depth == DEPTH_MAX)
        return "its dtype nests deeper than haul reads";
    if (!haul_literal_take(cursor, '['))
        return NO_DESCR;
    while (!haul_literal_take(cursor, ']')) {
        uint64_t field;
        const char *why = comma ? take_field(cursor, depth + 1, &field) : NO_DESCR;
        if (why)
            return why;
        *itemsize += field;
        if (*itemsize > ITEMSIZE_MAX)
            return TOO_LARGE;
        comma = haul_literal_take(cursor, ',');
    }
    return NULL;
}

static const char *finish(struct haul_descr *descr, const char *text, size_t bytes,
                          uint64_t itemsize)
{
    if (itemsize == 0)
        return EMPTY;
    if (itemsize > ITEMSIZE_MAX)
        return TOO_LARGE;
    descr->itemsize = (uint32_t)itemsize;
    descr->text = descr->dtype == HAUL_OTHER ? text : NULL;
    descr->text_bytes = descr->dtype == HAUL_OTHER ? bytes : 0;
    return descr->text_bytes > HAUL_DESCRIPTION_MAX
               ? "its dtype's description is longer than the 4096 bytes that haul carries"
               : NULL;
}

const char *haul_descr_take(struct haul_literal *literal, struct haul_descr *descr)
{
    const char *text, *why;
    size_t bytes;
    uint64_t itemsize;
    if (haul_literal_peek(literal) == '{')
        return UNORDERED;
    if (haul_literal_peek(literal) == '[') {
        text = literal->at;
        why = take_fields(literal, 0, &itemsize);
        bytes = (size_t)(literal->at - text);
        descr->dtype = HAUL_OTHER;
    } else {
        if (!haul_literal_string(literal, &text, &bytes))
            return NO_DESCR;
        why = read_basic(text, bytes, &itemsize, &descr->dtype);
    }
    return why ? why : finish(descr, text, bytes, itemsize);
}

const char *haul_descr_check(const char *description, uint32_t itemsize)
{
    struct haul_literal cursor = {description, description + strlen(description)};
    uint64_t described;
    uint32_t dtype;
    const char *why;
    if (*description == '{')
        return UNORDERED;
    if (*description == '[') {
        why = take_fields(&cursor, 0, &described);
        if (!why && !haul_literal_at_end(&cursor))
            why = NO_DESCR;
    } else {
        why = read_basic(description, strlen(description), &described, &dtype);
    }
    if (!why && described != itemsize)
        why = "its dtype's description and its item size contradict each other";
    return why;
}
