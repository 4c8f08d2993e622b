/* SPDX-License-Identifier: Apache-2.0
 * Copies, slice by slice, by all threads that have time: those that help take slices whenever there
 * are any, and the driving thread takes one in each pass, between its looks at the connections.
 *
 * The bytes of another process are read together with its cookie, in one system call: the kernel
 * takes the address space of that process number once per call, so that the cookie proves whose
 * memory it was, also if the process has ended meanwhile and its number was given to another.
 *
 * Locks. A copier's lock is never held during a copy; it may be taken under the drive lock, and
 * under it no other is. */
#include "shm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

/* What one thread copies before it looks for what else there is: alone it looks at connections
 * about every millisecond; with others it has less to wait for at a copy's end. */
enum { SLICE_ALONE = 4 << 20, SLICE_SHARED = 512 << 10 };
/* The next large copy mostly follows at once: so long a thread looks for it before it sleeps. */
#define SPIN_NS ((uint64_t)50000)

struct haul_shm_copier {
    struct haul_engine *engine;
    unsigned threads; /* that help */
    struct haul_thread **helpers;
    pthread_mutex_t lock;
    pthread_cond_t work;
    TAILQ_HEAD(, haul_shm_job) jobs; /* of which nobody has taken the last slice */
    bool awaited;                    /* the driver wants to know when one has ended */
    bool spins;
    bool stop;
    atomic_uint added; /* jobs so far; those that spin look at it without the lock */
};

/* ---- One thread ------------------------------------------------------------------------------ */

static int error_of(int number)
{
    if (number == ESRCH)
        return HAUL_CLOSED;
    if (number == EPERM || number == ENOSYS)
        return HAUL_UNSUPPORTED;
    return number == ENOMEM ? HAUL_NO_MEMORY : HAUL_PROTOCOL;
}

/* Copies some of it. Returns how much, or an error. */
static ssize_t copy_some(const struct haul_shm_copy *copy)
{
    uint8_t cookie[HAUL_SHM_COOKIE_BYTES];
    const struct haul_shm_peer *peer = copy->peer;
    const struct iovec here[] = {{cookie, sizeof cookie}, {copy->to, copy->bytes}};
    const struct iovec there[] = {
        {(void *)(uintptr_t)peer->cookie_address, sizeof cookie},
        {(void *)(uintptr_t)copy->address, copy->bytes},
    };
    size_t count = copy->bytes > 0 ? 2 : 1;
    ssize_t got = process_vm_readv(peer->pid, here, count, there, count, 0);
    if (got < 0)
        return error_of(errno);
    if (got < (ssize_t)sizeof cookie || memcmp(cookie, peer->cookie, sizeof cookie) != 0)
        return HAUL_CLOSED; /* another process has its number by now */
    got -= (ssize_t)sizeof cookie;
    return got > 0 || copy->bytes == 0 ? got : HAUL_PROTOCOL;
}

int haul_shm_copy(struct haul_shm_copy copy)
{
    if (copy.from) {
        memcpy(copy.to, copy.from, copy.bytes);
        return 0;
    }
    do {
        ssize_t got = copy_some(&copy);
        if (got < 0)
            return (int)got;
        copy.to += got;
        copy.address += (uint64_t)got;
        copy.bytes -= (size_t)got;
    } while (copy.bytes > 0);
    return 0;
}

/* ---- Slices (under the lock) ----------------------------------------------------------------- */

static void take_out(struct haul_shm_copier *copier, struct haul_shm_job *job)
{
    if (job->listed)
        TAILQ_REMOVE(&copier->jobs, job, node);
    job->listed = false;
}

static struct haul_shm_copy cut_slice(struct haul_shm_copier *copier, struct haul_shm_job *job)
{
    size_t most = copier->threads > 0 ? SLICE_SHARED : SLICE_ALONE;
    struct haul_shm_copy *rest = &job->rest, slice = *rest;
    slice.bytes = rest->bytes < most ? rest->bytes : most;
    rest->to += slice.bytes;
    if (rest->from)
        rest->from += slice.bytes;
    rest->address += slice.bytes;
    rest->bytes -= slice.bytes;
    if (rest->bytes == 0)
        take_out(copier, job);
    return slice;
}

/* Copies the next slice, without the lock. Returns whether there was one. */
static bool copy_slice(struct haul_shm_copier *copier)
{
    struct haul_shm_job *job = TAILQ_FIRST(&copier->jobs);
    if (!job)
        return false;
    struct haul_shm_copy slice = cut_slice(copier, job);
    job->under_way++;
    pthread_mutex_unlock(&copier->lock);
    int err = haul_shm_copy(slice);
    pthread_mutex_lock(&copier->lock);
    job->under_way--;
    if (err) {
        job->err = job->err ? job->err : err;
        take_out(copier, job);
    }
    if (copier->awaited && !job->listed && job->under_way == 0) {
        copier->awaited = false;
        haul_shm_host->wake(copier->engine);
    }
    return true;
}

/* ---- For the driving thread ------------------------------------------------------------------ */

void haul_shm_copier_add(struct haul_shm_copier *copier, struct haul_shm_job *job)
{
    pthread_mutex_lock(&copier->lock);
    job->listed = true;
    TAILQ_INSERT_TAIL(&copier->jobs, job, node);
    copier->added++;
    pthread_cond_broadcast(&copier->work);
    pthread_mutex_unlock(&copier->lock);
}

void haul_shm_copier_stop(struct haul_shm_copier *copier, struct haul_shm_job *job)
{
    pthread_mutex_lock(&copier->lock);
    take_out(copier, job);
    pthread_mutex_unlock(&copier->lock);
}

bool haul_shm_copier_await(struct haul_shm_copier *copier, const struct haul_shm_job *job)
{
    pthread_mutex_lock(&copier->lock);
    bool ended = !job->listed && job->under_way == 0;
    copier->awaited |= !ended;
    pthread_mutex_unlock(&copier->lock);
    return ended;
}

bool haul_shm_copier_work(struct haul_shm_copier *copier)
{
    pthread_mutex_lock(&copier->lock);
    bool did = copy_slice(copier);
    pthread_mutex_unlock(&copier->lock);
    return did;
}

bool haul_shm_copier_has_work(struct haul_shm_copier *copier)
{
    pthread_mutex_lock(&copier->lock);
    bool has = !TAILQ_EMPTY(&copier->jobs);
    pthread_mutex_unlock(&copier->lock);
    return has;
}

/* ---- Threads that help ----------------------------------------------------------------------- */

/* Waits for a short time for another job than the last one. Under the lock, which it leaves
 * meanwhile. */
static void spin(struct haul_shm_copier *copier)
{
    unsigned seen = copier->added;
    uint64_t end_ns = haul_shm_host->now_ns() + SPIN_NS;
    pthread_mutex_unlock(&copier->lock);
    while (copier->added == seen && haul_shm_host->now_ns() < end_ns)
        ;
    pthread_mutex_lock(&copier->lock);
}

static void help(void *arg)
{
    struct haul_shm_copier *copier = arg;
    pthread_setname_np(pthread_self(), "haul-copy");
    pthread_mutex_lock(&copier->lock);
    while (!copier->stop) {
        while (copy_slice(copier))
            ;
        if (copier->spins)
            spin(copier);
        if (TAILQ_EMPTY(&copier->jobs) && !copier->stop)
            pthread_cond_wait(&copier->work, &copier->lock);
    }
    pthread_mutex_unlock(&copier->lock);
}

static int start_thread(struct haul_shm_copier *copier)
{
    int err = haul_shm_host->thread_start(copier->engine, HAUL_NO_NIC, help, copier,
                                          &copier->helpers[copier->threads]);
    if (err)
        return err;
    pthread_mutex_lock(&copier->lock);
    copier->threads++;
    pthread_mutex_unlock(&copier->lock);
    return 0;
}

/* With one, who spins keeps those from running for whom it waits. */
static bool has_cpus(void)
{
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) || CPU_COUNT(&cpus) > 1;
}

int haul_shm_copier_create(struct haul_engine *engine, unsigned threads,
                           struct haul_shm_copier **copier)
{
    struct haul_shm_copier *made = calloc(1, sizeof *made);
    if (made)
        made->helpers = calloc(threads, sizeof *made->helpers);
    if (!made || !made->helpers) {
        free(made);
        return haul_shm_host->fail(HAUL_NO_MEMORY, "no memory for %u threads", threads);
    }
    made->engine = engine;
    made->spins = has_cpus();
    TAILQ_INIT(&made->jobs);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->work, NULL);
    int err = 0;
    while (!err && made->threads + 1 < threads)
        err = start_thread(made);
    if (err) {
        haul_shm_copier_destroy(made);
        return err;
    }
    *copier = made;
    return 0;
}

void haul_shm_copier_end_threads(struct haul_shm_copier *copier)
{
    pthread_mutex_lock(&copier->lock);
    copier->stop = true;
    copier->added++; /* those that spin see it */
    pthread_cond_broadcast(&copier->work);
    pthread_mutex_unlock(&copier->lock);
    for (unsigned i = 0; i < copier->threads; i++)
        haul_shm_host->thread_join(copier->helpers[i]);
    copier->threads = 0;
}

void haul_shm_copier_destroy(struct haul_shm_copier *copier)
{
    haul_shm_copier_end_threads(copier);
    pthread_cond_destroy(&copier->work);
    pthread_mutex_destroy(&copier->lock);
    free(copier->helpers);
    free(copier);
}
