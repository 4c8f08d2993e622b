/* SPDX-License-Identifier: Apache-2.0
 * Reads: copies that this process makes itself, a piece in each pass, so that the connections are
 * looked at in between.
 *
 * A read ends in progress(), and in no other place. One out of a slab whose file has not come yet
 * waits for it. fence() ends those that are not done; none is under way outside of progress().
 *
 * A read that fails mostly does so because the peer has just ended, or has its memory back since
 * its end of the connection was lost: news that our end will soon have too. So it is kept for a
 * while, until that fences it; only when nothing comes was it the peer's fault. */
#include "shm.h"

#include <stdlib.h>

enum {
    READS_PER_PEER = 16,
    PIECE_BYTES = 4 << 20, /* of one pass and thread: about a millisecond */
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
        .peer = peer, .cookie = cookie, .to = to, .way = {way.slab, way.offset + offset, bytes}};
    peer->reads++;
    if (TAILQ_EMPTY(&shm->reads))
        haul_shm_host->wake(shm->engine);
    TAILQ_INSERT_TAIL(&shm->reads, read, node);
    return 0;
}

void haul_shm_fence(void *handle)
{
    struct haul_shm_peer *peer = handle;
    struct haul_shm_read *read;
    TAILQ_FOREACH(read, &peer->shm->reads, node)
    read->fenced |= read->peer == peer;
    haul_shm_host->wake(peer->shm->engine);
}

/* Whether the slab that it reads from may still be told of. */
static bool waits_for_slab(const struct haul_shm_read *read)
{
    const struct haul_shm_peer *peer = read->peer;
    return read->way.slab > peer->last_slab && peer->source >= 0 && !peer->deaf;
}

static uint64_t due_ns(const struct haul_shm_read *read)
{
    if (read->fenced)
        return 0;
    if (read->err)
        return read->ends_at_ns;
    return read->way.slab > 0 && waits_for_slab(read) ? UINT64_MAX : 0;
}

/* Copies the next piece. Returns how the read ends, or HAUL_BUSY: it goes on. */
static int copy_piece(struct haul_shm_read *read, size_t *budget)
{
    struct haul_shm_copier *copier = read->peer->shm->copier;
    struct haul_shm_window *window;
    size_t n = read->way.bytes < *budget ? (size_t)read->way.bytes : *budget;
    int err = 0;
    if (read->way.slab) {
        const char *from = haul_shm_view_find(read->peer, &read->way, &window);
        if (!from)
            return haul_shm_host->fail(HAUL_PROTOCOL, "the peer's way leads to no slab of it");
        haul_shm_copy(copier, read->to, from, n);
    } else {
        err = haul_shm_copy_process(copier, read->to, read->peer, read->way.offset, n);
    }
    read->to += n;
    read->way.offset += n;
    read->way.bytes -= n;
    *budget -= n;
    return !err && read->way.bytes > 0 ? HAUL_BUSY : err;
}

static void end_read(struct haul_shm_read *read, int err)
{
    struct haul_shm *shm = read->peer->shm;
    void *cookie = read->cookie;
    read->peer->reads--;
    TAILQ_REMOVE(&shm->reads, read, node);
    TAILQ_INSERT_TAIL(&shm->unused_reads, read, node);
    haul_shm_host->read_done(cookie, err);
}

/* Does what there is to do for it now. */
static void run(struct haul_shm_read *read, size_t *budget)
{
    if (read->fenced || read->err) {
        end_read(read, read->fenced ? HAUL_CANCELLED : read->err);
        return;
    }
    int err = copy_piece(read, budget);
    if (!err) {
        end_read(read, 0);
    } else if (err != HAUL_BUSY) {
        read->err = err;
        read->ends_at_ns = haul_shm_host->now_ns() + NEWS_NS;
    }
}

uint64_t haul_shm_reads_due_ns(const struct haul_shm *shm)
{
    const struct haul_shm_read *read;
    uint64_t soonest_ns = UINT64_MAX;
    TAILQ_FOREACH(read, &shm->reads, node)
    soonest_ns = due_ns(read) < soonest_ns ? due_ns(read) : soonest_ns;
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

/* read_done() may start reads, and fence: the list is looked at anew after each. */
bool haul_shm_reads_progress(struct haul_shm *shm)
{
    size_t budget = (size_t)PIECE_BYTES * haul_shm_copier_threads(shm->copier);
    struct haul_shm_read *read;
    bool did = false;
    while (budget > 0 && (read = next_read(shm)) != NULL) {
        run(read, &budget);
        did = true;
    }
    return did;
}

void haul_shm_reads_free(struct haul_shm *shm)
{
    struct haul_shm_read *read;
    while ((read = TAILQ_FIRST(&shm->unused_reads)) != NULL) {
        TAILQ_REMOVE(&shm->unused_reads, read, node);
        free(read);
    }
}
