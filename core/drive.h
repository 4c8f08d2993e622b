/* SPDX-License-Identifier: Apache-2.0
 * Who drives: one epoll set, one lock, and exactly one thread at a time that waits for events. */
#ifndef HAUL_CORE_DRIVE_H
#define HAUL_CORE_DRIVE_H

#include "util.h"

#include <haul/provider.h>
#include <pthread.h>
#include <stdatomic.h>

/* What the loop drives; the engine fills it in. All three run under the lock. */
struct haul_drive_work {
    bool (*progress)(void *arg);        /* one pass of everything no descriptor announces */
    uint64_t (*deadline_ns)(void *arg); /* when progress must run at the latest */
    void (*settled)(void *arg); /* after each pass and each public call that changed something */
    void *arg;
};

struct haul_drive {
    pthread_mutex_t lock;
    atomic_uint entering; /* threads on their way to the lock: a spinning driver lets them in */
    int epoll_fd;
    int wake_fd; /* eventfd in the epoll set: ends the driver's sleep */
    struct haul_drive_work work;

    /* The progress thread looks at these two without the lock. */
    atomic_uint_fast64_t driver;  /* the driving turn, 0: nobody drives */
    atomic_uint_fast64_t left_ns; /* when the last driver left */
    uint64_t turns;               /* turns begun so far */
    bool asleep;                  /* the driver is in its sleep, without the lock */
    bool driver_is_thread; /* the progress thread drives: a waiter may take over at any time */
    bool changed; /* something a waiter may wait for has happened since waiters were told */
    bool closed;  /* waits end with HAUL_CLOSED */

    bool (*interrupted)(void *arg); /* asked by threads that wait, see haul_context_interrupt() */
    void *interrupted_arg;

    struct haul_list waiters;      /* threads that sleep while another drives */
    struct haul_list idle_waiters; /* their reusable descriptors */
    struct haul_list watches;
    struct haul_list dead_watches; /* freed after the pass: an event for them may be in hand */

    struct haul_thread *thread; /* drives when nobody has for a while; NULL: it has ended */
    bool thread_asleep;         /* without time limit: a leaving driver sets the timer */
    bool thread_parked;         /* in a turn's sleep: its own, or one that was taken from it */
    atomic_bool thread_stop;
    int thread_fd; /* timerfd */

    bool looks;            /* progress() finds most of what comes next, see look() */
    int crowd;             /* descriptors that were ready when asked last */
    unsigned quick_passes; /* since then */

    uint64_t now_ns;        /* the clock, as the last pass read it */
    uint64_t idle_ns;       /* spent waiting for events, all turns together */
    uint64_t idle_since_ns; /* 0: not waiting */

    /* Spinning before a sleep; see spin() */
    uint64_t spin_max_ns;
    unsigned spin_score;
    unsigned spin_crowding;
    uint64_t spin_not_before_ns;
    uint64_t spin_backoff_ns;
};

/* Errors: HAUL_SYSTEM, HAUL_NO_MEMORY. */
int haul_drive_init(struct haul_drive *drive, const struct haul_drive_work *work,
                    uint64_t spin_max_ns);
/* Ends all waits with HAUL_CLOSED; under the lock. */
void haul_drive_close(struct haul_drive *drive);
/* Ends the progress thread. */
void haul_drive_stop(struct haul_drive *drive);
void haul_drive_destroy(struct haul_drive *drive);
/* In a forked child: closes the inherited descriptors, those watched too. */
void haul_drive_forked(struct haul_drive *drive);

/* Every public call works between these two. */
void haul_drive_enter(struct haul_drive *drive);
void haul_drive_leave(struct haul_drive *drive);

/* Waits, under the lock, until ready(arg), and drives meanwhile unless somebody does. At least one
 * pass is made if it is not ready at once. Returns 0, HAUL_TIMEOUT, HAUL_INTERRUPTED or
 * HAUL_CLOSED. */
int haul_drive_wait(struct haul_drive *drive, bool (*ready)(void *arg), void *arg,
                    uint64_t deadline_ns);
/* ... also when it is interrupted. */
void haul_drive_wait_through(struct haul_drive *drive, bool (*ready)(void *arg), void *arg,
                             uint64_t deadline_ns);
/* ... however long it takes, and whatever fails meanwhile. */
void haul_drive_wait_always(struct haul_drive *drive, bool (*ready)(void *arg), void *arg);
/* Who decides whether a wait is interrupted, see haul_context_interrupt(). Under the lock. */
void haul_drive_interrupt(struct haul_drive *drive, bool (*interrupted)(void *arg), void *arg);
/* Ends the driver's sleep. Any thread, with or without the lock. */
void haul_drive_wake(struct haul_drive *drive);

/* How long drivers have waited for events so far, spinning or asleep. */
uint64_t haul_drive_idle_ns(const struct haul_drive *drive);

int haul_drive_watch(struct haul_drive *drive, int fd, uint32_t events,
                     void (*ready)(void *arg, uint32_t events), void *arg,
                     struct haul_watch **watch);
int haul_drive_watch_change(struct haul_watch *watch, uint32_t events);
void haul_drive_unwatch(struct haul_watch *watch);

#endif
