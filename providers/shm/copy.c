/* SPDX-License-Identifier: Apache-2.0
 * Copies, by several threads when they are large.
 *
 * The bytes of another process are read together with its cookie, in one system call: the kernel
 * takes the address space of that process number once per call, so that the cookie proves whose
 * memory it was, also if the process has ended meanwhile and its number was given to another. */
#include "shm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum {
    SLICE_BYTES = 512 << 10, /* some 100 us: for so long one may wait for another at the end */
    WORTH_BYTES = 1 << 20,   /* less is not worth a wake-up */
};
/* The next large copy mostly follows at once: so long a thread looks for it before it sleeps. */
#define SPIN_NS ((uint64_t)50000)

/* A copy: of memory of ours (from != NULL), or of a peer's process. */
struct job {
    char *to;
    const char *from;
    const struct haul_shm_peer *peer;
    uint64_t address;
    size_t bytes;
};

struct haul_shm_copier {
    unsigned threads; /* that help */
    pthread_t *ids;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct job job;
    unsigned slices, next; /* of the job; next: to be taken */
    int err;               /* the first one */
    bool stop;
    /* Written under the lock, and looked at without it by those that spin: */
    atomic_uint jobs; /* so far */
    atomic_uint left; /* slices not done yet */
};

/* ---- One slice ------------------------------------------------------------------------------ */

static int process_failed(const struct haul_shm_peer *peer, int error)
{
    if (error == ESRCH)
        return haul_shm_host->fail(HAUL_PEER_LOST, "process %d has ended", (int)peer->pid);
    if (error == EPERM || error == ENOSYS)
        return haul_shm_host->fail(HAUL_UNSUPPORTED,
                                   "the memory of process %d may not be read from here (%s)",
                                   (int)peer->pid, strerror(error));
    if (error == ENOMEM)
        return haul_shm_host->fail(HAUL_NO_MEMORY, "the memory of process %d cannot be read: %s",
                                   (int)peer->pid, strerror(error));
    return haul_shm_host->fail(HAUL_PROTOCOL, "process %d has no memory at an address it offers",
                               (int)peer->pid);
}

/* Copies some of it. Returns how much, or an error. */
static ssize_t copy_some(const struct job *job)
{
    uint8_t cookie[HAUL_SHM_COOKIE_BYTES];
    const struct haul_shm_peer *peer = job->peer;
    const struct iovec here[] = {{cookie, sizeof cookie}, {job->to, job->bytes}};
    const struct iovec there[] = {
        {(void *)(uintptr_t)peer->cookie_address, sizeof cookie},
        {(void *)(uintptr_t)job->address, job->bytes},
    };
    size_t count = job->bytes > 0 ? 2 : 1;
    ssize_t got = process_vm_readv(peer->pid, here, count, there, count, 0);
    if (got < 0)
        return process_failed(peer, errno);
    if (got < (ssize_t)sizeof cookie || memcmp(cookie, peer->cookie, sizeof cookie) != 0)
        return haul_shm_host->fail(HAUL_PEER_LOST, "process %d is another one by now",
                                   (int)peer->pid);
    got -= (ssize_t)sizeof cookie;
    return got > 0 || job->bytes == 0 ? got : process_failed(peer, EFAULT);
}

static int run(struct job job)
{
    if (job.from) {
        memcpy(job.to, job.from, job.bytes);
        return 0;
    }
    do {
        ssize_t got = copy_some(&job);
        if (got < 0)
            return (int)got;
        job.to += got;
        job.address += (uint64_t)got;
        job.bytes -= (size_t)got;
    } while (job.bytes > 0);
    return 0;
}

/* ---- Threads -------------------------------------------------------------------------------- */

static struct job slice_of(const struct job *job, unsigned slice)
{
    size_t from = (size_t)slice * SLICE_BYTES;
    struct job part = *job;
    part.to += from;
    if (part.from)
        part.from += from;
    part.address += from;
    part.bytes = job->bytes - from < SLICE_BYTES ? job->bytes - from : SLICE_BYTES;
    return part;
}

/* Takes slices until there are none. Under the lock. */
static void take_slices(struct haul_shm_copier *copier)
{
    while (copier->next < copier->slices) {
        struct job part = slice_of(&copier->job, copier->next++);
        pthread_mutex_unlock(&copier->lock);
        int err = run(part);
        pthread_mutex_lock(&copier->lock);
        if (err && !copier->err)
            copier->err = err;
        if (atomic_fetch_sub(&copier->left, 1) == 1)
            pthread_cond_signal(&copier->done);
    }
}

/* Waits for a short time until the word is (or is not) `value`. Under the lock, which it leaves
 * meanwhile. Returns whether it came to that. */
static bool spin(struct haul_shm_copier *copier, const atomic_uint *word, unsigned value, bool is)
{
    uint64_t end_ns = haul_shm_host->now_ns() + SPIN_NS;
    pthread_mutex_unlock(&copier->lock);
    while ((atomic_load(word) == value) != is && haul_shm_host->now_ns() < end_ns)
        ;
    pthread_mutex_lock(&copier->lock);
    return (atomic_load(word) == value) == is;
}

static void *help(void *arg)
{
    struct haul_shm_copier *copier = arg;
    pthread_mutex_lock(&copier->lock);
    while (!copier->stop) {
        unsigned seen = copier->jobs;
        take_slices(copier);
        if (!spin(copier, &copier->jobs, seen, false) && !copier->stop)
            pthread_cond_wait(&copier->work, &copier->lock);
    }
    pthread_mutex_unlock(&copier->lock);
    return NULL;
}

static int copy(struct haul_shm_copier *copier, const struct job *job)
{
    if (copier->threads == 0 || job->bytes < WORTH_BYTES)
        return run(*job);
    pthread_mutex_lock(&copier->lock);
    copier->job = *job;
    copier->slices = (unsigned)((job->bytes + SLICE_BYTES - 1) / SLICE_BYTES);
    copier->left = copier->slices;
    copier->next = 0;
    copier->err = 0;
    copier->jobs++;
    pthread_cond_broadcast(&copier->work);
    take_slices(copier);
    if (!spin(copier, &copier->left, 0, true))
        while (copier->left > 0)
            pthread_cond_wait(&copier->done, &copier->lock);
    int err = copier->err;
    pthread_mutex_unlock(&copier->lock);
    return err;
}

unsigned haul_shm_copier_threads(const struct haul_shm_copier *copier)
{
    return copier->threads + 1;
}

void haul_shm_copy(struct haul_shm_copier *copier, char *to, const char *from, size_t bytes)
{
    const struct job job = {.to = to, .from = from, .bytes = bytes};
    copy(copier, &job);
}

int haul_shm_copy_process(struct haul_shm_copier *copier, char *to,
                          const struct haul_shm_peer *peer, uint64_t address, size_t bytes)
{
    const struct job job = {.to = to, .peer = peer, .address = address, .bytes = bytes};
    return copy(copier, &job);
}

/* ---- Life ----------------------------------------------------------------------------------- */

/* Signals are for the program's threads. */
static int start_thread(struct haul_shm_copier *copier)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&copier->ids[copier->threads], NULL, help, copier);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err)
        return haul_shm_host->fail(HAUL_SYSTEM, "cannot start a thread that copies: %s",
                                   strerror(err));
    pthread_setname_np(copier->ids[copier->threads++], "haul-copy");
    return 0;
}

int haul_shm_copier_create(unsigned threads, struct haul_shm_copier **copier)
{
    struct haul_shm_copier *made = calloc(1, sizeof *made);
    if (made)
        made->ids = calloc(threads, sizeof *made->ids);
    if (!made || !made->ids) {
        free(made);
        return haul_shm_host->fail(HAUL_NO_MEMORY, "no memory for %u threads", threads);
    }
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->work, NULL);
    pthread_cond_init(&made->done, NULL);
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

void haul_shm_copier_destroy(struct haul_shm_copier *copier)
{
    pthread_mutex_lock(&copier->lock);
    copier->stop = true;
    copier->jobs++; /* those that spin see it */
    pthread_cond_broadcast(&copier->work);
    pthread_mutex_unlock(&copier->lock);
    for (unsigned i = 0; i < copier->threads; i++)
        pthread_join(copier->ids[i], NULL);
    pthread_cond_destroy(&copier->done);
    pthread_cond_destroy(&copier->work);
    pthread_mutex_destroy(&copier->lock);
    free(copier->ids);
    free(copier);
}
