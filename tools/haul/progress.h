/* SPDX-License-Identifier: Apache-2.0
 * A progress bar with the rate, on standard error where that is a terminal. */
#ifndef HAUL_TOOL_PROGRESS_H
#define HAUL_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct haul_progress {
    bool shown; /* false: all calls do nothing */
    uint64_t total_bytes;
    double start_s;
    double drawn_s;
};

/* Seconds of the monotonic clock. */
double haul_progress_clock_s(void);

void haul_progress_start(struct haul_progress *progress, bool wanted, uint64_t total_bytes);
/* Draws at most ten times a second. */
void haul_progress_show(struct haul_progress *progress, uint64_t done_bytes);
/* Wipes the bar away. */
void haul_progress_end(struct haul_progress *progress);

#endif
