/* SPDX-License-Identifier: Apache-2.0
 * Arrays by their keys. */
#include "keys.h"

#include "util.h"

size_t haul_keys_place(const struct haul_array *const *sorted, size_t count, const char *key,
                       bool *found)
{
    size_t start = 0, end = count;
    *found = false;
    while (start < end) {
        size_t middle = start + (end - start) / 2;
        int order = strcmp(sorted[middle]->key, key);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            start = middle + 1;
        else
            end = middle;
    }
    return start;
}

/* Merges the sorted runs [start, middle) and [middle, end) of `from` into `to`. Returns a key that
 * is in both, or NULL. */
static const char *merge_runs(const struct haul_array *const *from, const struct haul_array **to,
                              size_t start, size_t middle, size_t end)
{
    size_t left = start, right = middle;
    for (size_t i = start; i < end; i++) {
        int order = left == middle ? 1 : -1;
        if (left < middle && right < end)
            order = strcmp(from[left]->key, from[right]->key);
        if (order == 0)
            return from[left]->key;
        to[i] = order < 0 ? from[left++] : from[right++];
    }
    return NULL;
}

static bool ascends(const struct haul_array *const *row, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (strcmp(row[i - 1]->key, row[i]->key) >= 0)
            return false;
    return true;
}

/* A merge sort, because a peer chooses the keys: it takes O(n log n) for any of them, and two equal
 * ones meet in some merge. */
const char *haul_keys_sort(const struct haul_array **row, size_t count)
{
    if (ascends(row, count))
        return NULL;
    const struct haul_array **from = row, **to = row + count;
    for (size_t run = 1; run < count; run *= 2) {
        for (size_t start = 0; start < count; start += 2 * run) {
            size_t middle = HAUL_MIN(start + run, count), end = HAUL_MIN(start + 2 * run, count);
            const char *equal = merge_runs(from, to, start, middle, end);
            if (equal)
                return equal;
        }
        const struct haul_array **sorted = to;
        to = from;
        from = sorted;
    }
    if (from != row)
        memcpy(row, from, count * sizeof(*row));
    return NULL;
}
