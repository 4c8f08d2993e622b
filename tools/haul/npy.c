/* SPDX-License-Identifier: Apache-2.0
 * .npy files: a strict reader, and a writer of headers. */
#include "npy.h"

#include "descr.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 6 bytes of magic, 2 of version; then the length of the text, 2 bytes in format 1, else 4. */
#define MAGIC "\x93NUMPY"
enum {
    MAGIC_BYTES = 6,
    PREFIX_BYTES_1 = 10,
    PREFIX_BYTES_2 = 12,
    TEXT_MAX = 1 << 20, /* NumPy writes a few KiB at most */
};

static bool fail(struct haul_npy *npy, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool fail(struct haul_npy *npy, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(npy->why, sizeof(npy->why), format, arguments);
    va_end(arguments);
    return false;
}

/* Product of the extents and the item size; false if it overflows, also where an extent is 0. */
static bool array_bytes(const struct haul_array *array, uint64_t *bytes)
{
    uint64_t product = array->itemsize;
    bool empty = false;
    for (uint32_t i = 0; i < array->ndim; i++) {
        if (array->shape[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(product, array->shape[i], &product))
            return false;
    }
    *bytes = empty ? 0 : product;
    return true;
}

static bool take_descr(struct haul_npy *npy, struct haul_literal *cursor)
{
    struct haul_descr descr;
    const char *why = haul_descr_take(cursor, &descr);
    if (why)
        return fail(npy, "%s", why);
    npy->array.dtype = descr.dtype;
    npy->array.itemsize = descr.itemsize;
    if (descr.text) {
        memcpy(npy->description, descr.text, descr.text_bytes);
        npy->description[descr.text_bytes] = 0;
        npy->array.description = npy->description;
    }
    return true;
}

static bool take_order(struct haul_npy *npy, struct haul_literal *cursor)
{
    if (haul_literal_word(cursor, "True"))
        npy->array.flags = HAUL_FORTRAN;
    else if (!haul_literal_word(cursor, "False"))
        return fail(npy, "its header's fortran_order is neither True nor False");
    return true;
}

static bool take_shape(struct haul_npy *npy, struct haul_literal *cursor)
{
    if (haul_literal_tuple(cursor, npy->shape, HAUL_NDIM_MAX, &npy->array.ndim))
        return true;
    return fail(npy, "its header's shape is no tuple of at most %d whole numbers", HAUL_NDIM_MAX);
}

/* The three entries that a header has, each once, in any order. */
static const struct {
    const char *name;
    bool (*take)(struct haul_npy *npy, struct haul_literal *cursor);
} entries[] = {{"descr", take_descr}, {"fortran_order", take_order}, {"shape", take_shape}};
enum { ENTRIES = sizeof(entries) / sizeof(entries[0]), ALL_ENTRIES = (1 << ENTRIES) - 1 };

static int entry_of(const char *name, size_t bytes)
{
    for (int i = 0; i < ENTRIES; i++) {
        if (strlen(entries[i].name) == bytes && memcmp(entries[i].name, name, bytes) == 0)
            return i;
    }
    return -1;
}

static bool parse_text(struct haul_npy *npy, const char *text, size_t bytes)
{
    struct haul_literal cursor = {text, text + bytes};
    const char *name;
    size_t name_bytes;
    int seen = 0;
    bool comma = true;
    bool good = haul_literal_take(&cursor, '{');
    while (good && !haul_literal_take(&cursor, '}')) {
        int entry = -1;
        if (comma && haul_literal_string(&cursor, &name, &name_bytes))
            entry = entry_of(name, name_bytes);
        good = entry >= 0 && !(seen & 1 << entry) && haul_literal_take(&cursor, ':');
        if (!good)
            break;
        if (!entries[entry].take(npy, &cursor))
            return false;
        seen |= 1 << entry;
        comma = haul_literal_take(&cursor, ',');
    }
    if (!good || seen != ALL_ENTRIES || !haul_literal_at_end(&cursor))
        return fail(npy, "its header is not a dict of descr, fortran_order and shape");
    return true;
}

static size_t latin1_to_utf8(char *to, const uint8_t *from, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (from[i] < 0x80) {
            to[n++] = (char)from[i];
        } else {
            to[n++] = (char)(0xc0 | from[i] >> 6);
            to[n++] = (char)(0x80 | (from[i] & 0x3f));
        }
    }
    return n;
}

/* Formats 1 and 2 are Latin-1, format 3 is UTF-8 (which haul_dict_put_array() checks). */
static bool parse_header(struct haul_npy *npy, const uint8_t *text, size_t bytes, unsigned format)
{
    if (format >= 3)
        return parse_text(npy, (const char *)text, bytes);
    char *utf8 = malloc(2 * bytes + 1);
    if (!utf8)
        return fail(npy, "there is no memory to read its header");
    bool good = parse_text(npy, utf8, latin1_to_utf8(utf8, text, bytes));
    free(utf8);
    return good;
}

/* Finds the text of the header; answers where it starts, or 0. */
static size_t find_text(struct haul_npy *npy, const uint8_t *file, size_t bytes, size_t *text_bytes)
{
    if (bytes < PREFIX_BYTES_1 || memcmp(file, MAGIC, MAGIC_BYTES) != 0)
        return fail(npy, bytes == 0 ? "it is empty" : "it is no .npy file");
    unsigned format = file[MAGIC_BYTES];
    if (format < 1 || format > 3 || file[MAGIC_BYTES + 1] != 0)
        return fail(npy, "it is a .npy file of format %u.%u; haul reads 1.0, 2.0 and 3.0", format,
                    file[MAGIC_BYTES + 1]);
    size_t start = format == 1 ? PREFIX_BYTES_1 : PREFIX_BYTES_2;
    if (bytes < start)
        return fail(npy, "it ends within its header");
    for (size_t i = start; i-- > MAGIC_BYTES + 2;)
        *text_bytes = *text_bytes << 8 | file[i];
    if (*text_bytes > TEXT_MAX)
        return fail(npy, "its header has %zu bytes, more than NumPy writes", *text_bytes);
    if (*text_bytes > bytes - start)
        return fail(npy, "it ends within its header");
    return start;
}

bool haul_npy_parse(struct haul_npy *npy, const void *file, size_t bytes)
{
    const uint8_t *start = file;
    size_t text_bytes = 0;
    npy->array = (struct haul_array){.shape = npy->shape};
    size_t text = find_text(npy, start, bytes, &text_bytes);
    if (text == 0 || !parse_header(npy, start + text, text_bytes, start[MAGIC_BYTES]))
        return false;
    if (!array_bytes(&npy->array, &npy->array.nbytes))
        return fail(npy, "its shape has more elements than memory has addresses");
    uint64_t rest = bytes - text - text_bytes;
    if (rest < npy->array.nbytes)
        return fail(npy, "it is cut off: its array has %" PRIu64 " bytes, the file holds %" PRIu64,
                    npy->array.nbytes, rest);
    if (rest > npy->array.nbytes)
        return fail(npy, "%" PRIu64 " bytes follow its array; haul sends files of one array",
                    rest - npy->array.nbytes);
    /* Sends only read; what they are given points to const bytes. */
    npy->array.data = (void *)(uintptr_t)(start + text + text_bytes);
    return true;
}

const char *haul_npy_check(const struct haul_array *array)
{
    if (array->dtype != HAUL_OTHER)
        return haul_descr_of(array->dtype) ? NULL : "this version of haul does not know its dtype";
    return haul_descr_check(array->description, array->itemsize);
}

static void print_text(FILE *out, const struct haul_array *array)
{
    const char *own = haul_descr_of(array->dtype);
    const char *descr = own ? own : array->description;
    const char *quote = *descr == '[' ? "" : "'";
    fprintf(out, "{'descr': %s%s%s, 'fortran_order': %s, 'shape': (", quote, descr, quote,
            array->flags & HAUL_FORTRAN ? "True" : "False");
    for (uint32_t i = 0; i < array->ndim; i++)
        fprintf(out, i == 0 ? "%" PRIu64 "," : " %" PRIu64 ",", array->shape[i]);
    fputs("), }", out);
}

static bool is_ascii(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] >= 0x80)
            return false;
    }
    return true;
}

/* Puts prefix, text, spaces and a line feed together. */
static uint8_t *assemble(const char *text, size_t text_bytes, size_t *bytes)
{
    bool ascii = is_ascii(text, text_bytes);
    size_t prefix = ascii ? PREFIX_BYTES_1 : PREFIX_BYTES_2;
    size_t used = prefix + text_bytes + 1;
    *bytes = (used + HAUL_NPY_ALIGNMENT - 1) / HAUL_NPY_ALIGNMENT * HAUL_NPY_ALIGNMENT;
    uint8_t *header = malloc(*bytes);
    if (!header)
        return NULL;
    memset(header, ' ', *bytes);
    memcpy(header, MAGIC, MAGIC_BYTES);
    header[MAGIC_BYTES] = ascii ? 1 : 3;
    header[MAGIC_BYTES + 1] = 0;
    for (size_t i = MAGIC_BYTES + 2, rest = *bytes - prefix; i < prefix; i++, rest >>= 8)
        header[i] = (uint8_t)rest;
    memcpy(header + prefix, text, text_bytes);
    header[*bytes - 1] = '\n';
    return header;
}

void *haul_npy_header(const struct haul_array *array, size_t *bytes)
{
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *out = open_memstream(&text, &text_bytes);
    if (!out)
        return NULL;
    print_text(out, array);
    bool good = fclose(out) == 0;
    uint8_t *header = good ? assemble(text, text_bytes, bytes) : NULL;
    free(text);
    return header;
}
