/* SPDX-License-Identifier: Apache-2.0
 * See shm_host.h. */
#include "shm_host.h"

#include "thread.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

extern haul_provider_entry_fn haul_shm_entry;

static const struct haul_rma_ops *ops;

static void host_wake(struct haul_engine *engine)
{
    engine->woken = true;
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    const struct setting settings[] = {
        {"shm", engine->shm}, {"copy_threads", engine->threads}, {0}};
    return host_find_setting(settings, name);
}

static int host_thread_start(struct haul_engine *engine, size_t nic, void (*run)(void *arg),
                             void *arg, struct haul_thread **thread)
{
    (void)engine;
    assert_true(nic == HAUL_NO_NIC);
    return haul_thread_start(run, arg, thread);
}

static int host_watch(struct haul_engine *engine, int fd, uint32_t events,
                      void (*ready)(void *arg, uint32_t events), void *arg,
                      struct haul_watch **watch)
{
    struct haul_watch *free_one = engine->watches;
    while (free_one->ready)
        free_one++;
    *free_one = (struct haul_watch){fd, events, ready, arg};
    *watch = free_one;
    return 0;
}

static int host_watch_change(struct haul_watch *watch, uint32_t events)
{
    watch->events = events;
    return 0;
}

static void host_unwatch(struct haul_watch *watch)
{
    *watch = (struct haul_watch){0};
}

static void host_read_done(void *cookie, int err)
{
    int *result = cookie;
    assert_int_equal(*result, NOT_DONE);
    *result = err;
}

static const struct haul_host host = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof(struct haul_host),
    .log = host_log,
    .fail = host_fail,
    .now_ns = host_still_ns,
    .wake = host_wake,
    .setting = host_setting,
    .thread_start = host_thread_start,
    .thread_join = haul_thread_join,
    .watch = host_watch,
    .watch_change = host_watch_change,
    .unwatch = host_unwatch,
    .read_done = host_read_done,
};

const struct haul_rma_ops *shm_load(void)
{
    ops = haul_shm_entry(&host)->rma;
    return ops;
}

static bool run_descriptors(struct haul_engine *engine)
{
    bool did = false;
    for (struct haul_watch *watch = engine->watches; watch < engine->watches + SHM_WATCHES_MAX;
         watch++) {
        struct pollfd look = {watch->fd, POLLIN, 0};
        if (!watch->ready || !watch->events || poll(&look, 1, 0) != 1)
            continue;
        watch->ready(watch->arg, POLLIN);
        did = true;
    }
    return did;
}

void shm_settle(struct haul_engine *engine, void *rma)
{
    bool due = engine->sleeps_until_ns <= host_still_ns();
    for (;;) {
        due |= atomic_exchange(&engine->woken, false);
        due |= run_descriptors(engine);
        if (!due)
            return;
        due = ops->progress(rma);
        engine->sleeps_until_ns = ops->deadline_ns(rma);
        due |= engine->sleeps_until_ns <= host_still_ns();
    }
}
