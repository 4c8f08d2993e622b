/* SPDX-License-Identifier: Apache-2.0
 * Reads: copies that this process makes itself (copy.c).
 *
 * A read ends in progress(), and in no other place. One waits for the file of its slab if that has
 * not come yet. A small one is copied as soon as it starts; large ones slice by slice, in the order
 * in which they came, by whoever has time. fence() stops those that are not done; such a read ends
 * when the slices that are under way have.
 *
 * A read that fails mostly does so because the peer has just ended, or has its memory back since
 * its end of the connection was lost: news that our end will soon have too. So it is kept for a
 * while, until that fences it; only when nothing comes was it the peer's fault. */
#include "shm.h"

#include <stdlib.h>

enum {
    READS_PER_PEER = 16,
    LARGE_BYTES = 1 << 20, /* less is not worth another thread's wake-up */
    /* Twice in each pass, then the connections are looked at: */
    STEPS = 64,
    SMALL_BYTES = 2 << 20,
};
#define NEWS_NS ((uint64_t)200000000)

static struct haul_shm_read *take_read(struct haul_shm *shm)
{
    struct haul_shm_read *read = TAILQ_FIRST(&shm->unused_reads);
    if (read)
        TAILQ_REMOVE(&shm->unused_reads, read, node);
    else
        read = malloc(sizeof *read);
    return read;
}

int haul_shm_read(void *handle, const uint8_t *way_bytes, size_t way_count, uint64_t offset,
                  void *to, void *region, size_t bytes, void *cookie)
{
    struct haul_shm_peer *peer = handle;
    struct haul_shm *shm = peer->shm;
    struct haul_shm_way way;
    (void)region;
    if (haul_shm_way_parse(way_bytes, way_count, &way))
        return HAUL_PROTOCOL;
    if (offset > way.bytes || bytes > way.bytes - offset)
        return haul_shm_host->fail(HAUL_PROTOCOL, "the peer offers fewer bytes than are read");
    if (peer->reads == READS_PER_PEER)
        return HAUL_BUSY;
    struct haul_shm_read *read = take_read(shm);
    if (!read)
        return haul_shm_host->fail(HAUL_NO_MEMORY, "no memory for a read");
    *read = (struct haul_shm_read){
        .peer = peer,
        .cookie = cookie,
        .way = {way.slab, way.offset + offset, bytes, way.address + offset},
        .job = {.rest = {.to = to, .bytes = bytes}},
    };
    peer->reads++;
    TAILQ_INSERT_TAIL(&shm->reads, read, node);
    haul_shm_due(shm, 0);
    return 0;
}

void haul_shm_fence(void *handle)
{
    struct haul_shm_peer *peer = handle;
    struct haul_shm_read *read;
    TAILQ_FOREACH(read, &peer->shm->reads, node)
    {
        if (read->peer != peer)
            continue;
        read->fenced = true;
        haul_shm_copier_stop(peer->shm->copier, &read->job);
    }
    haul_shm_due(peer->shm, 0);
}

/* ---- Steps of a read ------------------------------------------------------------------------- */

/* Where a slab cannot be looked into, its bytes are read where they are in the process. */
static int find(struct haul_shm_read *read)
{
    struct haul_shm_copy *copy = &read->job.rest;
    struct haul_shm_peer *peer = read->peer;
    if (read->way.slab)
        copy->from = haul_shm_view_open(peer, &read->way, &read->window);
    copy->peer = peer;
    copy->address = read->way.address;
    if (copy->from)
        return 0;
    return !peer->welcome ? HAUL_PROTOCOL : peer->copies ? 0 : HAUL_UNSUPPORTED;
}

/* Returns the bytes that it has copied. */
static size_t start(struct haul_shm_read *read)
{
    struct haul_shm_job *job = &read->job;
    size_t bytes = job->rest.bytes;
    read->started = true;
    job->err = find(read);
    if (job->err)
        return 0;
    if (bytes >= LARGE_BYTES) {
        haul_shm_copier_add(read->peer->shm->copier, job);
        return 0;
    }
    job->err = haul_shm_copy(job->rest);
    return bytes;
}

static const char *reason(int err)
{
    switch (err) {
    case HAUL_CLOSED:
        return "it has ended";
    case HAUL_UNSUPPORTED:
        return "its memory may not be read from here";
    case HAUL_NO_MEMORY:
        return "there is no memory for it";
    default:
        return "it has nothing where it says that an array is";
    }
}

static void end(struct haul_shm_read *read)
{
    struct haul_shm_peer *peer = read->peer;
    struct haul_shm *shm = peer->shm;
    void *cookie = read->cookie;
    int err = read->fenced ? HAUL_CANCELLED : read->job.err;
    if (err && !read->fenced)
        haul_shm_host->log(err == HAUL_CLOSED ? HAUL_LOG_INFO : HAUL_LOG_WARNING,
                           "shm: an array of process %d cannot be read: %s", (int)peer->pid,
                           reason(err));
    if (read->window)
        haul_shm_unmap(read->window);
    peer->reads--;
    TAILQ_REMOVE(&shm->reads, read, node);
    TAILQ_INSERT_TAIL(&shm->unused_reads, read, node);
    haul_shm_host->read_done(cookie, err);
}

/* Whether the peer has still to tell us of the slab, or that it is who we think. */
static bool waits_for_news(const struct haul_shm_read *read)
{
    const struct haul_shm_peer *peer = read->peer;
    bool news = !peer->welcome || read->way.slab > peer->last_slab;
    return news && peer->source >= 0 && !peer->deaf;
}

/* When its next step is due; UINT64_MAX: something will happen before. */
static uint64_t due_ns(const struct haul_shm_read *read)
{
    if (!read->started)
        return !read->fenced && waits_for_news(read) ? UINT64_MAX : 0;
    if (!haul_shm_copier_await(read->peer->shm->copier, &read->job))
        return UINT64_MAX;
    return read->fenced || !read->job.err ? 0 : read->ends_at_ns;
}

/* Returns the bytes that it has copied. */
static size_t take_step(struct haul_shm_read *read)
{
    if (!read->started && !read->fenced)
        return start(read);
    if (read->job.err && !read->fenced && !read->ends_at_ns)
        read->ends_at_ns = haul_shm_host->now_ns() + NEWS_NS;
    else
        end(read);
    return 0;
}

/* ---- Of all reads ---------------------------------------------------------------------------- */

uint64_t haul_shm_reads_due_ns(const struct haul_shm *shm)
{
    const struct haul_shm_read *read;
    uint64_t soonest_ns = haul_shm_copier_has_work(shm->copier) ? 0 : UINT64_MAX;
    TAILQ_FOREACH(read, &shm->reads, node)
    {
        uint64_t read_ns = due_ns(read);
        soonest_ns = read_ns < soonest_ns ? read_ns : soonest_ns;
    }
    return soonest_ns;
}

static struct haul_shm_read *next_read(struct haul_shm *shm)
{
    struct haul_shm_read *read;
    uint64_t now_ns = TAILQ_EMPTY(&shm->reads) ? 0 : haul_shm_host->now_ns();
    TAILQ_FOREACH(read, &shm->reads, node)
    if (due_ns(read) <= now_ns)
        return read;
    return NULL;
}

/* read_done() may start reads, and fence: the list is looked at anew after each step. */
static bool take_steps(struct haul_shm *shm)
{
    struct haul_shm_read *read;
    size_t bytes = 0;
    int steps = 0;
    while (steps < STEPS && bytes < SMALL_BYTES && (read = next_read(shm)) != NULL) {
        bytes += take_step(read);
        steps++;
    }
    return steps > 0;
}

bool haul_shm_reads_progress(struct haul_shm *shm)
{
    bool did = take_steps(shm);
    if (!haul_shm_copier_work(shm->copier))
        return did;
    take_steps(shm);
    return true;
}

void haul_shm_reads_free(struct haul_shm *shm)
{
    struct haul_shm_read *read;
    while ((read = TAILQ_FIRST(&shm->unused_reads)) != NULL) {
        TAILQ_REMOVE(&shm->unused_reads, read, node);
        free(read);
    }
}
