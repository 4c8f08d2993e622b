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
    unsigned pause;    /* ... after the next one, if it does not pay */
    bool changed;      /* since the last measurement: the present one does not count */
    double rate;       /* bytes per ns at `step`, smoothed; 0: not measured */
    uint64_t begin_ns; /* of the present measurement; 0: none */
    uint64_t bytes;    /* of it */
    uint64_t idle_ns;  /* when it began, of all time */
};

/* The width to use now. */
unsigned haul_width_now(const struct haul_width *width);
/* While there are bytes to bring. idle_ns: how long the receiver has waited for events, in all. */
void haul_width_measure(struct haul_width *width, uint64_t now_ns, uint64_t idle_ns);
/* There are none, or they wait for something else: what came says nothing about the width. */
void haul_width_pause(struct haul_width *width);

#endif
