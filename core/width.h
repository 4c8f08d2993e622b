/* SPDX-License-Identifier: Apache-2.0
 * How many senders bring their arrays at a time: found by trying. */
#ifndef HAUL_CORE_WIDTH_H
#define HAUL_CORE_WIDTH_H

#include <stdbool.h>
#include <stdint.h>

enum { HAUL_WIDTH_WINDOW_MS = 20 };

/* Zeroed memory is a width of one of which nothing is known. */
struct haul_width {
    unsigned step;     /* of the width that is best as far as we know */
    int trial;         /* what the present measurement adds to it: -1, 0 or 1 */
    int last_trial;    /* -1 or 1 */
    unsigned settled;  /* measurements until the next trial */
    unsigned patience; /* ... after the next one, if it does not pay */
    bool changed;      /* since the last measurement: the present one does not count */
    double rate;       /* bytes per ns at `step`, smoothed; 0: not measured */

    /* The present measurement: of the time in which there were bytes to bring. */
    uint64_t bytes;
    uint64_t took_ns, idle_ns;
    uint64_t seen_ns, seen_idle_ns; /* at the last call; seen_ns 0: stopped */
};

/* The width to use now. */
unsigned haul_width_now(const struct haul_width *width);
/* Counts what came. */
void haul_width_brought(struct haul_width *width, uint64_t bytes);
/* Called again and again while there are bytes to bring. idle_ns: how long the receiver has waited
 * for events, in all. reads: rma reads are under way. waiting: somebody waits for a turn, and would
 * get one if there were more. */
void haul_width_measure(struct haul_width *width, uint64_t now_ns, uint64_t idle_ns, bool reads,
                        bool waiting);
/* There are none: the time until the next call does not count. */
void haul_width_stop(struct haul_width *width);

#endif
