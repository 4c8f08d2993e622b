/* SPDX-License-Identifier: Apache-2.0
 * Arrays by their keys: rows of pointers, sorted by key, so that the keys that a peer chooses
 * cannot make a search slow. */
#ifndef HAUL_CORE_KEYS_H
#define HAUL_CORE_KEYS_H

#include <haul/dict.h>
#include <stdbool.h>
#include <stddef.h>

/* Where in a sorted row the array of this key is, or would be; *found says which. */
size_t haul_keys_place(const struct haul_array *const *sorted, size_t count, const char *key,
                       bool *found);
/* Sorts a row that has room for 2 * count. Returns a key that two arrays have, or NULL; the row is
 * in no order then. */
const char *haul_keys_sort(const struct haul_array **row, size_t count);

#endif
