/* SPDX-License-Identifier: Apache-2.0
 * Our memory for peers: regions, ways to them, and who may look.
 *
 * Slabs are told to each peer that has shown its ticket, in the order of their ids: their files
 * first, and each new one before any manifest that names it can leave. All peers of a context see
 * all of its slabs; they are of the same user and could read this process anyway. What they cannot
 * do is write: the files are sealed.
 *
 * A viewer that is slow to take what it is told is told the rest later. Until then its arrays come
 * by other ways. */
#include "shm.h"
#include "talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WAY_BYTES = 24, BACKLOG = 4096 };
#define PUSH_AGAIN_NS ((uint64_t)1000000)

/* ---- Regions -------------------------------------------------------------------------------- */

static bool tell(struct haul_shm_peer *peer, uint32_t type, const struct haul_shm_region *slab)
{
    const struct haul_shm_talk talk = {.type = type, .slab = slab->slab, .bytes = slab->bytes};
    int file = type == HAUL_SHM_TALK_SLAB ? slab->file : -1;
    int err = haul_shm_talk_send(peer->viewer, &talk, file);
    if (!err)
        return true;
    if (err == EAGAIN)
        peer->shm->push_again_ns = haul_shm_host->now_ns() + PUSH_AGAIN_NS;
    else
        haul_shm_end_viewer(peer);
    return false;
}

/* Tells it of the slabs that it has not heard of. Returns whether it was told of any. */
static bool push(struct haul_shm_peer *peer)
{
    bool did = false;
    struct haul_shm_region *slab;
    TAILQ_FOREACH(slab, &peer->shm->slabs, node)
    {
        if (slab->slab <= peer->told)
            continue;
        if (!tell(peer, HAUL_SHM_TALK_SLAB, slab))
            break;
        peer->told = slab->slab;
        did = true;
    }
    return did;
}

bool haul_shm_push(struct haul_shm *shm)
{
    struct haul_shm_peer *peer, *next;
    bool did = false;
    if (shm->push_again_ns > haul_shm_host->now_ns())
        return false;
    shm->push_again_ns = UINT64_MAX;
    for (peer = TAILQ_FIRST(&shm->peers); peer; peer = next) {
        next = TAILQ_NEXT(peer, node);
        if (peer->viewer >= 0)
            did |= push(peer);
        haul_shm_peer_settle(peer);
    }
    return did;
}

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
    region->slab = ++shm->last_slab;
    TAILQ_INSERT_TAIL(&shm->slabs, region, node);
    shm->push_again_ns = 0;
    haul_shm_push(shm);
    return 0;
}

void haul_shm_dereg(void *handle)
{
    struct haul_shm_region *region = handle;
    struct haul_shm *shm = region->shm;
    struct haul_shm_peer *peer, *next;
    if (region->slab) {
        TAILQ_REMOVE(&shm->slabs, region, node);
        for (peer = TAILQ_FIRST(&shm->peers); peer; peer = next) {
            next = TAILQ_NEXT(peer, node);
            /* (One that cannot be told keeps its mapping until it leaves.) */
            if (peer->viewer >= 0 && region->slab <= peer->told)
                tell(peer, HAUL_SHM_TALK_GONE, region);
            haul_shm_peer_settle(peer);
        }
    }
    LIST_INSERT_HEAD(&shm->unused, region, unused);
}

int haul_shm_offer(void *handle, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes)
{
    const struct haul_shm_region *region = handle;
    uint64_t offset = (uint64_t)((const char *)start - region->base);
    if (*way_bytes < WAY_BYTES)
        return haul_shm_host->fail(HAUL_INVALID, "a way takes %d bytes", WAY_BYTES);
    haul_put_u64(way, region->slab);
    haul_put_u64(way + 8, region->slab ? offset : (uint64_t)(uintptr_t)start);
    haul_put_u64(way + 16, bytes);
    *way_bytes = WAY_BYTES;
    return 0;
}

int haul_shm_way_parse(const uint8_t *way, size_t way_bytes, struct haul_shm_way *parsed)
{
    if (way_bytes != WAY_BYTES)
        return haul_shm_host->fail(HAUL_PROTOCOL, "the peer's way has %zu bytes, shm's have %d",
                                   way_bytes, WAY_BYTES);
    *parsed =
        (struct haul_shm_way){haul_get_u64(way), haul_get_u64(way + 8), haul_get_u64(way + 16)};
    return 0;
}

bool haul_shm_reads_all(void *handle)
{
    const struct haul_shm_peer *peer = handle;
    return peer->viewer >= 0 && peer->copies_ours;
}

/* A view is of the file: that our mapping ends harms nobody. Which of our blocks a peer looks at is
 * not known; while one whose link was lost keeps its socket, it may be any. */
bool haul_shm_viewed(void *handle, const void *start, size_t bytes, bool unmapping)
{
    const struct haul_shm_region *region = handle;
    const struct haul_shm_peer *peer;
    (void)start;
    (void)bytes;
    if (unmapping || !region->slab)
        return false;
    TAILQ_FOREACH(peer, &region->shm->peers, node)
    if (!peer->link && peer->viewer >= 0)
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
    peer->copies_ours = false;
}

/* It says nothing after its ticket: this is its end. */
static void viewer_ready(void *arg, uint32_t events)
{
    struct haul_shm_peer *peer = arg;
    (void)events;
    haul_shm_end_viewer(peer);
    haul_shm_peer_settle(peer);
}

static void end_guest(struct haul_shm_guest *guest)
{
    LIST_REMOVE(guest, node);
    haul_shm_host->unwatch(guest->watch);
    if (guest->socket >= 0)
        close(guest->socket);
    free(guest);
}

static struct haul_shm_peer *find_ticket(struct haul_shm *shm, const uint8_t *ticket)
{
    struct haul_shm_peer *peer;
    TAILQ_FOREACH(peer, &shm->peers, node)
    if (peer->link && peer->viewer < 0 && peer->has_ticket &&
        memcmp(peer->ticket, ticket, sizeof peer->ticket) == 0)
        return peer;
    return NULL;
}

/* The guest has said something: its ticket, or it goes. */
static void guest_ready(void *arg, uint32_t events)
{
    struct haul_shm_guest *guest = arg;
    struct haul_shm *shm = guest->shm;
    struct haul_shm_talk talk;
    int file = -1;
    (void)events;
    int err = haul_shm_talk_receive(guest->socket, &talk, &file);
    if (err == EAGAIN)
        return;
    if (file >= 0)
        close(file);
    struct haul_shm_peer *peer =
        err || talk.type != HAUL_SHM_TALK_TICKET ? NULL : find_ticket(shm, talk.ticket);
    if (!peer) {
        end_guest(guest);
        return;
    }
    int socket = guest->socket;
    guest->socket = -1;
    end_guest(guest);
    if (haul_shm_host->watch(shm->engine, socket, EPOLLIN, viewer_ready, peer,
                             &peer->viewer_watch)) {
        close(socket);
        return;
    }
    peer->has_ticket = false; /* it is used up */
    peer->viewer = socket;
    peer->copies_ours = talk.copies;
    peer->told = 0;
    push(peer);
}

static void take_in(struct haul_shm *shm, int socket)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    struct haul_shm_guest *guest = NULL;
    bool same_user = !getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) &&
                     credentials.uid == shm->place.uid;
    if (same_user)
        guest = calloc(1, sizeof *guest);
    if (!guest) {
        close(socket);
        return;
    }
    guest->shm = shm;
    guest->socket = socket;
    if (haul_shm_host->watch(shm->engine, socket, EPOLLIN, guest_ready, guest, &guest->watch)) {
        close(socket);
        free(guest);
        return;
    }
    LIST_INSERT_HEAD(&shm->guests, guest, node);
}

void haul_shm_accept(struct haul_shm *shm)
{
    int socket;
    while ((socket = accept4(shm->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        take_in(shm, socket);
    struct haul_shm_guest *guest, *next;
    for (guest = LIST_FIRST(&shm->guests); guest; guest = next) {
        next = LIST_NEXT(guest, node);
        guest_ready(guest, EPOLLIN);
    }
}

static void listener_ready(void *arg, uint32_t events)
{
    (void)events;
    haul_shm_accept(arg);
}

/* An abstract name: it is gone with the socket, and belongs to the network namespace. */
int haul_shm_listen(struct haul_shm *shm)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t random[HAUL_SHM_NAME_BYTES / 2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return haul_shm_host->fail(HAUL_SYSTEM, "getrandom: %s", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++) {
        shm->name[2 * i] = "0123456789abcdef"[random[i] >> 4];
        shm->name[2 * i + 1] = "0123456789abcdef"[random[i] & 15];
    }
    socklen_t size = haul_shm_talk_address(&address, shm->name);
    shm->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (shm->listener < 0 || bind(shm->listener, (struct sockaddr *)&address, size) ||
        listen(shm->listener, BACKLOG))
        return haul_shm_host->fail(HAUL_SYSTEM, "cannot listen on a Unix socket: %s",
                                   strerror(errno));
    return haul_shm_host->watch(shm->engine, shm->listener, EPOLLIN, listener_ready, shm,
                                &shm->watch);
}

void haul_shm_unlisten(struct haul_shm *shm)
{
    struct haul_shm_guest *guest;
    while ((guest = LIST_FIRST(&shm->guests)) != NULL)
        end_guest(guest);
    if (shm->watch)
        haul_shm_host->unwatch(shm->watch);
    if (shm->listener >= 0)
        close(shm->listener);
    shm->watch = NULL;
    shm->listener = -1;
}
