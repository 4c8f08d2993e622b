/* SPDX-License-Identifier: Apache-2.0
 * Threads that empty the queues of rails (HAUL_PROGRESS_THREADS).
 *
 * The first thread is whoever drives haul: of N threads it has the rails 0, N, 2 N, ...; the others
 * are workers. A worker sees to what libfabric does for its rails (which over sockets is to copy
 * the bytes) and hands over which pieces have finished; the driver does the rest. It sleeps on the
 * descriptors of its queues; where there are none it looks now and then. */
#include "ofi.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct haul_ofi_worker {
    struct haul_ofi *ofi;
    struct haul_ofi_rail *rails[HAUL_OFI_RAILS_MAX];
    unsigned rail_count;
    int epoll_fd;
    int wake_fd;      /* eventfd in the epoll set */
    uint64_t poll_ns; /* the last pause between looks at queues without descriptor */
    atomic_bool stop;
    struct haul_thread *thread;
};

/* ---- The thread ----------------------------------------------------------------------------- */

static bool drain(struct haul_ofi_worker *worker)
{
    bool did = false;
    for (unsigned i = 0; i < worker->rail_count; i++)
        did |= haul_ofi_rail_drain(worker->rails[i]);
    return did;
}

/* How long to sleep at most; 0: not at all. */
static uint64_t pause_ns(struct haul_ofi_worker *worker)
{
    bool polled = false, busy = false;
    for (unsigned i = 0; i < worker->rail_count; i++) {
        struct haul_ofi_rail *rail = worker->rails[i];
        if (!haul_ofi_rail_may_sleep(rail))
            return 0;
        haul_ofi_lock(rail);
        bool is_polled = haul_ofi_rail_is_polled(rail);
        haul_ofi_unlock(rail);
        polled |= is_polled;
        busy |= is_polled && atomic_load(&rail->posted_count) > 0;
    }
    return polled ? haul_ofi_next_poll_ns(&worker->poll_ns, busy) : HAUL_OFI_LOOK_ANYWAY_NS;
}

/* (Not by epoll_wait(), which counts in milliseconds. All queues are looked at after each event.)
 */
static void rest(struct haul_ofi_worker *worker, uint64_t ns)
{
    struct pollfd set = {.fd = worker->epoll_fd, .events = POLLIN};
    const struct timespec most = {.tv_nsec = (long)ns};
    struct epoll_event event;
    if (ppoll(&set, 1, &most, NULL) <= 0)
        return;
    epoll_wait(worker->epoll_fd, &event, 1, 0);
    worker->poll_ns = 0;
}

static void run(void *arg)
{
    struct haul_ofi_worker *worker = arg;
    while (!atomic_load(&worker->stop)) {
        uint64_t ns = 0;
        if (drain(worker)) {
            worker->poll_ns = 0;
            haul_ofi_host->wake(worker->ofi->engine);
        } else {
            ns = pause_ns(worker);
        }
        if (ns > 0)
            rest(worker, ns);
    }
}

/* ---- From the driver ------------------------------------------------------------------------ */

void haul_ofi_worker_wake(struct haul_ofi_worker *worker)
{
    if (worker)
        (void)eventfd_write(worker->wake_fd, 1);
}

/* For edges: nothing has to be read. */
bool haul_ofi_worker_watch(struct haul_ofi_worker *worker, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int make(struct haul_ofi_worker *worker)
{
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->epoll_fd >= 0 && worker->wake_fd >= 0 &&
        haul_ofi_worker_watch(worker, worker->wake_fd))
        return 0;
    return haul_ofi_host->fail(HAUL_SYSTEM, "ofi: no descriptors for a thread: is the limit of "
                                            "open files (ulimit -n) too low?");
}

int haul_ofi_workers_make(struct haul_ofi *ofi, size_t rails)
{
    size_t threads = (size_t)strtoul(haul_ofi_setting(ofi, "progress_threads"), NULL, 10);
    if (threads > rails)
        threads = rails;
    if (threads < 2)
        return 0;
    ofi->workers = calloc(threads - 1, sizeof *ofi->workers);
    if (!ofi->workers)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for the threads of ofi");
    ofi->worker_count = (unsigned)threads - 1;
    int err = 0;
    for (unsigned i = 0; i < ofi->worker_count; i++)
        ofi->workers[i] = (struct haul_ofi_worker){.ofi = ofi, .epoll_fd = -1, .wake_fd = -1};
    for (unsigned i = 0; i < ofi->worker_count && !err; i++)
        err = make(&ofi->workers[i]);
    return err;
}

struct haul_ofi_worker *haul_ofi_worker_of(struct haul_ofi *ofi, unsigned rail)
{
    unsigned thread = rail % (ofi->worker_count + 1);
    return thread > 0 ? &ofi->workers[thread - 1] : NULL;
}

int haul_ofi_workers_start(struct haul_ofi *ofi)
{
    int err = 0;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        struct haul_ofi_worker *worker = ofi->rails[i].worker;
        if (worker)
            worker->rails[worker->rail_count++] = &ofi->rails[i];
    }
    for (unsigned i = 0; i < ofi->worker_count && !err; i++)
        if (ofi->workers[i].rail_count > 0)
            err = haul_ofi_host->thread_start(ofi->engine, ofi->workers[i].rails[0]->nic, run,
                                              &ofi->workers[i], &ofi->workers[i].thread);
    return err;
}

static void stop(struct haul_ofi_worker *worker)
{
    if (!worker->thread)
        return;
    atomic_store(&worker->stop, true);
    haul_ofi_worker_wake(worker);
    haul_ofi_host->thread_join(worker->thread);
}

void haul_ofi_workers_stop(void *rma)
{
    struct haul_ofi *ofi = rma;
    for (unsigned i = 0; i < ofi->worker_count; i++) {
        stop(&ofi->workers[i]);
        if (ofi->workers[i].wake_fd >= 0)
            close(ofi->workers[i].wake_fd);
        if (ofi->workers[i].epoll_fd >= 0)
            close(ofi->workers[i].epoll_fd);
    }
    for (unsigned i = 0; i < ofi->rail_count; i++)
        ofi->rails[i].worker = NULL;
    free(ofi->workers);
    ofi->workers = NULL;
    ofi->worker_count = 0;
}
