/* SPDX-License-Identifier: Apache-2.0
 * See shm_host.h. */
#include "shm_host.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern haul_provider_entry_fn haul_shm_entry;

uint64_t shm_clock_ns = 1000000000;
char shm_detail[512], shm_logged[512];

static const struct haul_rma_ops *ops;

static int host_fail(int err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(shm_detail, sizeof shm_detail, format, arguments);
    va_end(arguments);
    return err;
}

static void host_log(enum haul_log_level level, const char *format, ...)
{
    va_list arguments;
    (void)level;
    va_start(arguments, format);
    vsnprintf(shm_logged, sizeof shm_logged, format, arguments);
    va_end(arguments);
}

static uint64_t host_now_ns(void)
{
    return shm_clock_ns;
}

static void host_wake(struct haul_engine *engine)
{
    (void)engine;
}

static const char *host_setting(struct haul_engine *engine, const char *name)
{
    return strcmp(name, "shm") ? engine->threads : engine->shm;
}

static int host_watch(struct haul_engine *engine, int fd, uint32_t events,
                      void (*ready)(void *arg, uint32_t events), void *arg,
                      struct haul_watch **watch)
{
    struct haul_watch *free_one = engine->watches;
    (void)events;
    while (free_one->ready)
        free_one++;
    *free_one = (struct haul_watch){fd, ready, arg};
    *watch = free_one;
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
    .now_ns = host_now_ns,
    .wake = host_wake,
    .setting = host_setting,
    .watch = host_watch,
    .unwatch = host_unwatch,
    .read_done = host_read_done,
};

const struct haul_rma_ops *shm_load(void)
{
    ops = haul_shm_entry(&host)->rma;
    return ops;
}

void shm_settle(struct haul_engine *engine, void *rma)
{
    bool did = true;
    while (did) {
        did = ops->progress(rma);
        for (struct haul_watch *watch = engine->watches; watch < engine->watches + SHM_WATCHES_MAX;
             watch++) {
            struct pollfd look = {watch->fd, POLLIN, 0};
            if (!watch->ready || poll(&look, 1, 0) != 1)
                continue;
            watch->ready(watch->arg, POLLIN);
            did = true;
        }
    }
}
