/* SPDX-License-Identifier: Apache-2.0
 * The arrays of a message: where each lies in memory, and the pattern that shows whether a reader
 * has read it. */
#include "fabric.h"

#include <string.h>

enum { ALIGNMENT = 64 };

struct layout layout;

void layout_make(void)
{
    for (unsigned i = 0; i < workload.array_count; i++) {
        layout.places[i] = layout.bytes;
        layout.bytes += (workload.arrays[i] + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
}

static uint64_t pattern(uint64_t client, uint64_t array, uint64_t word)
{
    return (word + 1) * 0x9e3779b97f4a7c15u ^ (client * ARRAYS_MAX + array) * 0xbf58476d1ce4e5b9u;
}

static size_t word_bytes(size_t left)
{
    return left < sizeof(uint64_t) ? left : sizeof(uint64_t);
}

void pattern_fill(unsigned char *memory, uint64_t client)
{
    for (unsigned i = 0; i < workload.array_count; i++)
        for (size_t at = 0; at < workload.arrays[i]; at += sizeof(uint64_t)) {
            uint64_t word = pattern(client, i, at / sizeof word);
            memcpy(memory + layout.places[i] + at, &word, word_bytes(workload.arrays[i] - at));
        }
}

bool pattern_is_there(const unsigned char *memory, uint64_t client)
{
    for (unsigned i = 0; i < workload.array_count; i++)
        for (size_t at = 0; at < workload.arrays[i]; at += sizeof(uint64_t)) {
            uint64_t word = pattern(client, i, at / sizeof word);
            if (memcmp(memory + layout.places[i] + at, &word, word_bytes(workload.arrays[i] - at)))
                return false;
        }
    return true;
}
