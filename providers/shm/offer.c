/* SPDX-License-Identifier: Apache-2.0
 * Our memory for peers: regions, ways to them, and who may look.
 *
 * News is that a slab is offered, and that it is no more. Each peer that has shown its ticket is
 * told the news in their order: of a slab with its file, before any manifest that names it can
 * leave. All peers of a context see all of its slabs; they are of the same user and could read this
 * process anyway. What they cannot do is write: the files are sealed.
 *
 * A peer that is slow to take what it is told is told the rest later. What it cannot look at it
 * copies out of this process, if it may: a way says both places. */
#include "shm.h"
#include "talk.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { WAY_BYTES = 32 };
#define PUSH_PAUSE_MIN_NS ((uint64_t)1000000)
#define PUSH_PAUSE_MAX_NS ((uint64_t)50000000)

/* ---- News ----------------------------------------------------------------------------------- */

/* Returns whether it was told. */
static bool tell(struct haul_shm_peer *peer, const struct haul_shm_region *slab)
{
    bool gone = slab->file < 0;
    const struct haul_shm_talk talk = {.type = gone ? HAUL_SHM_TALK_GONE : HAUL_SHM_TALK_SLAB,
                                       .slab = slab->slab,
                                       .bytes = slab->bytes};
    int err = haul_shm_talk_send(peer->viewer, &talk, slab->file);
    if (!err)
        peer->told = slab->news;
    else if (err != EAGAIN)
        haul_shm_end_viewer(peer);
    return !err;
}

/* Tells a peer what it has not heard. Returns whether there is more, for later. */
static bool push(struct haul_shm_peer *peer, bool *did)
{
    struct haul_shm_region *slab;
    TAILQ_FOREACH(slab, &peer->shm->slabs, node)
    {
        if (slab->news <= peer->told)
            continue;
        if (!tell(peer, slab))
            return peer->viewer >= 0;
        *did = true;
    }
    return false;
}

/* (To one whose link is lost nothing new is offered.) */
static bool hears(const struct haul_shm_peer *peer)
{
    return peer->link && peer->viewer >= 0;
}

/* Slabs that are gone are kept until all know. */
static void forget_gone(struct haul_shm *shm)
{
    struct haul_shm_region *slab, *next;
    const struct haul_shm_peer *peer;
    uint64_t told = UINT64_MAX;
    TAILQ_FOREACH(peer, &shm->peers, node)
    if (hears(peer) && peer->told < told)
        told = peer->told;
    for (slab = TAILQ_FIRST(&shm->slabs); slab && slab->news <= told; slab = next) {
        next = TAILQ_NEXT(slab, node);
        if (slab->file >= 0)
            continue;
        TAILQ_REMOVE(&shm->slabs, slab, node);
        LIST_INSERT_HEAD(&shm->unused, slab, unused);
    }
}

/* Returns whether any was told anything. */
static bool push_all(struct haul_shm *shm)
{
    struct haul_shm_peer *peer, *next;
    bool more = false, did = false;
    for (peer = TAILQ_FIRST(&shm->peers); peer; peer = next) {
        next = TAILQ_NEXT(peer, node);
        if (hears(peer))
            more |= push(peer, &did);
        haul_shm_peer_settle(peer);
    }
    forget_gone(shm);
    if (!more || did)
        shm->push_pause_ns = 0;
    uint64_t pause_ns = 2 * shm->push_pause_ns;
    pause_ns = pause_ns < PUSH_PAUSE_MIN_NS ? PUSH_PAUSE_MIN_NS : pause_ns;
    shm->push_pause_ns = pause_ns < PUSH_PAUSE_MAX_NS ? pause_ns : PUSH_PAUSE_MAX_NS;
    shm->push_again_ns = more ? haul_shm_host->now_ns() + shm->push_pause_ns : UINT64_MAX;
    haul_shm_due(shm, shm->push_again_ns);
    return did;
}

bool haul_shm_push(struct haul_shm *shm)
{
    return shm->push_again_ns != UINT64_MAX && shm->push_again_ns <= haul_shm_host->now_ns() &&
           push_all(shm);
}

/* ---- Regions -------------------------------------------------------------------------------- */

static struct haul_shm_region *take_region(struct haul_shm *shm)
{
    struct haul_shm_region *region = LIST_FIRST(&shm->unused);
    if (region)
        LIST_REMOVE(region, unused);
    else
        region = malloc(sizeof *region);
    return region;
}

int haul_shm_reg(void *rma, void *base, size_t bytes, unsigned access, int file, void **result)
{
    struct haul_shm *shm = rma;
    struct haul_shm_region *region = take_region(shm);
    if (!region)
        return haul_shm_host->fail(HAUL_NO_MEMORY, "no memory for a region");
    *region = (struct haul_shm_region){.shm = shm, .base = base, .bytes = bytes, .file = file};
    *result = region;
    if (!(access & HAUL_RMA_OFFER) || file < 0)
        return 0;
    region->slab = region->news = ++shm->last_news;
    TAILQ_INSERT_TAIL(&shm->slabs, region, node);
    push_all(shm);
    return 0;
}

void haul_shm_dereg(void *handle)
{
    struct haul_shm_region *region = handle;
    struct haul_shm *shm = region->shm;
    if (!region->slab) {
        LIST_INSERT_HEAD(&shm->unused, region, unused);
        return;
    }
    TAILQ_REMOVE(&shm->slabs, region, node);
    region->file = -1;
    region->news = ++shm->last_news;
    TAILQ_INSERT_TAIL(&shm->slabs, region, node);
    push_all(shm);
}

void haul_shm_regions_free(struct haul_shm *shm)
{
    struct haul_shm_region *region;
    while ((region = TAILQ_FIRST(&shm->slabs)) != NULL) {
        TAILQ_REMOVE(&shm->slabs, region, node);
        free(region);
    }
    while ((region = LIST_FIRST(&shm->unused)) != NULL) {
        LIST_REMOVE(region, unused);
        free(region);
    }
}

int haul_shm_offer(void *handle, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes)
{
    const struct haul_shm_region *region = handle;
    uint64_t offset = (uint64_t)((const char *)start - region->base);
    if (*way_bytes < WAY_BYTES)
        return haul_shm_host->fail(HAUL_INVALID, "a way takes %d bytes", WAY_BYTES);
    haul_put_u64(way, region->slab);
    haul_put_u64(way + 8, offset);
    haul_put_u64(way + 16, bytes);
    haul_put_u64(way + 24, (uintptr_t)start);
    *way_bytes = WAY_BYTES;
    return 0;
}

int haul_shm_way_parse(const uint8_t *way, size_t way_bytes, struct haul_shm_way *parsed)
{
    if (way_bytes != WAY_BYTES)
        return haul_shm_host->fail(HAUL_PROTOCOL, "the peer's way has %zu bytes, shm's have %d",
                                   way_bytes, WAY_BYTES);
    *parsed = (struct haul_shm_way){haul_get_u64(way), haul_get_u64(way + 8),
                                    haul_get_u64(way + 16), haul_get_u64(way + 24)};
    return 0;
}

bool haul_shm_reads_all(void *handle)
{
    const struct haul_shm_peer *peer = handle;
    return peer->copies_ours;
}

/* A view is of the file: that our mapping ends harms nobody. Which of our blocks a peer looks at is
 * not known; while one whose link was lost keeps its socket, it may be any that it was offered. */
bool haul_shm_viewed(void *handle, const void *start, size_t bytes, const void *link,
                     bool unmapping)
{
    const struct haul_shm_region *region = handle;
    const struct haul_shm_peer *peer;
    (void)start;
    (void)bytes;
    if (unmapping || !region->slab)
        return false;
    TAILQ_FOREACH(peer, &region->shm->peers, node)
    if (!peer->link && peer->was == link && peer->viewer >= 0)
        return true;
    return false;
}

/* ---- Viewers -------------------------------------------------------------------------------- */

void haul_shm_end_viewer(struct haul_shm_peer *peer)
{
    if (peer->viewer < 0)
        return;
    haul_shm_host->unwatch(peer->viewer_watch);
    close(peer->viewer);
    peer->viewer = -1;
}

/* It says nothing after its ticket: this is its end. */
static void viewer_ready(void *arg, uint32_t events)
{
    struct haul_shm_peer *peer = arg;
    (void)events;
    haul_shm_end_viewer(peer);
    haul_shm_peer_settle(peer);
}

void haul_shm_begin_viewer(struct haul_shm_peer *peer, int socket, bool copies)
{
    if (haul_shm_host->watch(peer->shm->engine, socket, EPOLLIN, viewer_ready, peer,
                             &peer->viewer_watch)) {
        close(socket);
        return;
    }
    peer->has_ticket = false; /* it is used up */
    peer->viewer = socket;
    peer->copies_ours = copies;
    peer->told = 0;
    const struct haul_shm_talk talk = {.type = HAUL_SHM_TALK_WELCOME};
    if (haul_shm_talk_send(socket, &talk, -1))
        haul_shm_end_viewer(peer);
    push_all(peer->shm);
}
