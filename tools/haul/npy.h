/* SPDX-License-Identifier: Apache-2.0
 * .npy files: reading them in memory, and writing their headers. Formats 1.0, 2.0 and 3.0 are read;
 * 1.0 is written, or 3.0 where a field's name is not ASCII. */
#ifndef HAUL_TOOL_NPY_H
#define HAUL_TOOL_NPY_H

#include <haul/dict.h>

enum { HAUL_NPY_WHY_MAX = 192, HAUL_NPY_ALIGNMENT = 64 };

/* A .npy file in memory. Too large for a copy to be right: `array` points into it. */
struct haul_npy {
    struct haul_array array; /* key: NULL; data: inside the file's bytes */
    uint64_t shape[HAUL_NDIM_MAX];
    char description[HAUL_DESCRIPTION_MAX + 1];
    char
        why[HAUL_NPY_WHY_MAX]; /* a sentence part, "it is no .npy file", when parse answers false */
};

/* Reads a whole file: exactly one array, no byte missing and none left over. */
bool haul_npy_parse(struct haul_npy *npy, const void *file, size_t bytes);

/* Whether a .npy file can hold an array that another machine sent: NULL, or why not. */
const char *haul_npy_check(const struct haul_array *array);

/* The header of the file that holds `array`, which haul_npy_check() has passed: everything before
 * array->data. Its length is a multiple of 64. The caller frees it; NULL: no memory. */
void *haul_npy_header(const struct haul_array *array, size_t *bytes);

#endif
