/* SPDX-License-Identifier: Apache-2.0
 * How many senders bring their arrays at a time: found by trying.
 *
 * What is best depends on things that cannot be known: with one local sender at a time its pages
 * stay in the caches, with a few each finds more of its bytes ready and no CPU waits for another;
 * on a network many slow senders together fill the wire. So the rate at the present width is
 * measured, and now and then that at the next wider or narrower one, which is kept if it is better.
 * A receiver that does nothing but wait goes wider without trial: that is quick, and on a way with
 * a long round trip a trial would end before it could show anything. (Not so while a NIC brings the
 * bytes: that keeps the receiver waiting also when there is no more to be had.) */
#include "width.h"

#include "util.h"

#define WINDOW_NS (HAUL_WIDTH_WINDOW_MS * (uint64_t)HAUL_NS_PER_MS)
/* Windows. The first after a change of width is not counted: buffers used for the first time cost
 * page faults. A trial has more than one, to be compared with what is smoothed from many. */
enum { TRIAL_WINDOWS = 3 };
/* Measurements between trials: more and more while trials do not pay. */
enum { SETTLED_FIRST = 2, SETTLED_LAST = 16 };
/* More buffers in use are worth it for a gain; fewer even if nothing is gained. */
static const double wider_gain = 1.04, narrower_gain = 0.99;
/* The weight of the newest measurement. */
static const double smoothing = 0.25;

static const unsigned widths[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
enum { LAST = HAUL_COUNT_OF(widths) - 1 };

unsigned haul_width_now(const struct haul_width *width)
{
    return widths[(int)width->step + width->trial];
}

static bool may_try(const struct haul_width *width, int trial)
{
    return trial > 0 ? width->step < LAST : width->step > 0;
}

/* Goes on at another width, as a trial or for good. */
static void go_to(struct haul_width *width, unsigned step, int trial)
{
    width->step = step;
    width->trial = trial;
    width->changed = true;
}

static void end_trial(struct haul_width *width, double rate)
{
    int trial = width->trial;
    if (rate > width->rate * (trial > 0 ? wider_gain : narrower_gain)) {
        width->rate = rate;
        width->patience = SETTLED_FIRST;
        width->step += (unsigned)trial;
        width->trial = 0; /* this is the width now */
        if (may_try(width, trial))
            go_to(width, width->step, trial); /* still further */
    } else {
        width->patience = HAUL_MIN(width->patience * 2 + SETTLED_FIRST, (unsigned)SETTLED_LAST);
        go_to(width, width->step, 0);
    }
    width->settled = width->patience;
}

static void begin_trial(struct haul_width *width, bool waiting)
{
    int trial = width->last_trial > 0 || !waiting ? -1 : 1;
    if (!may_try(width, trial))
        trial = waiting && may_try(width, -trial) ? -trial : 0;
    if (!trial)
        return;
    width->last_trial = trial;
    go_to(width, width->step, trial);
}

static void go_wider(struct haul_width *width)
{
    go_to(width, width->step + 1, 0);
    width->rate = 0;
    width->settled = width->patience = SETTLED_FIRST;
}

/* A measurement at the width that is best as far as we know. */
static void note_rate(struct haul_width *width, double rate, bool waiting)
{
    width->rate = width->rate > 0 ? width->rate + (rate - width->rate) * smoothing : rate;
    if (width->settled > 0)
        width->settled--;
    else
        begin_trial(width, waiting);
}

static void end_measurement(struct haul_width *width, bool waiting)
{
    double rate = (double)width->bytes / (double)width->took_ns;
    bool idle = width->idle_ns * 4 > width->took_ns * 3;
    bool counts = !width->changed;
    width->changed = false;
    if (idle && waiting && width->step < LAST)
        go_wider(width);
    else if (counts && width->trial)
        end_trial(width, rate);
    else if (counts)
        note_rate(width, rate, waiting);
}

void haul_width_brought(struct haul_width *width, uint64_t bytes)
{
    width->bytes += bytes;
}

void haul_width_measure(struct haul_width *width, uint64_t now_ns, uint64_t idle_ns, bool reads,
                        bool waiting)
{
    uint64_t length_ns = width->trial && !width->changed ? TRIAL_WINDOWS * WINDOW_NS : WINDOW_NS;
    if (width->seen_ns) {
        width->took_ns += now_ns - width->seen_ns;
        width->idle_ns += reads ? 0 : idle_ns - width->seen_idle_ns;
    }
    width->seen_ns = now_ns;
    width->seen_idle_ns = idle_ns;
    if (width->took_ns < length_ns)
        return;
    if (width->took_ns < 2 * length_ns) /* else this process was stopped meanwhile */
        end_measurement(width, waiting);
    width->took_ns = width->idle_ns = width->bytes = 0;
}

void haul_width_stop(struct haul_width *width)
{
    width->seen_ns = 0;
}
