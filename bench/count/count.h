/* SPDX-License-Identifier: Apache-2.0
 * What libhaul_count.so counts in the process that it is preloaded into, all libraries and threads.
 */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#include <stdint.h>

struct haul_counts {
    uint64_t mallocs;       /* malloc, calloc, realloc, aligned_alloc and their like */
    uint64_t large_mallocs; /* those of more than 4 KiB: no object or name, but data */
    uint64_t copied_bytes;  /* memcpy, memmove, mempcpy and their checked forms. A copy of constant
                               size that the compiler wrote out as instructions is not seen: those
                               are of a few dozen bytes, never of arrays. */
};

/* The one symbol: found with dlsym(RTLD_DEFAULT, HAUL_COUNT_SYMBOL). Any thread. */
#define HAUL_COUNT_SYMBOL "haul_count_read"
typedef void haul_count_read_fn(struct haul_counts *counts);

#endif
