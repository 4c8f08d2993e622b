/* SPDX-License-Identifier: Apache-2.0
 * The handshake: what each side tells the other on the control connection, and the life of peers.
 *
 *   version             u32: of this, of ways, and of records (talk.h)
 *   pid, uid            u32 each
 *   boot id             16 bytes
 *   namespaces          u64 each: inodes of PID, user, network
 *   cookie              u64 its address in the process, 16 bytes
 *   ticket              16 bytes: shows whose Unix socket it is that connects
 *   name                32 characters: of the abstract socket, behind "haul-" */
#include "shm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { VERSION = 2, BLOB_BYTES = 12 + 16 + 24 + 8 + 16 + 16 + HAUL_SHM_NAME_BYTES };

/* ---- Life ----------------------------------------------------------------------------------- */

static struct haul_shm_peer *find_peer(struct haul_shm *shm, const struct haul_link *link)
{
    struct haul_shm_peer *peer;
    TAILQ_FOREACH(peer, &shm->peers, node)
    if (peer->link == link)
        return peer;
    return NULL;
}

/* The peer of a link, made at the first call. Errors: NULL. */
static struct haul_shm_peer *get_peer(struct haul_shm *shm, struct haul_link *link)
{
    struct haul_shm_peer *peer = find_peer(shm, link);
    if (peer)
        return peer;
    peer = calloc(1, sizeof *peer);
    if (!peer) {
        haul_shm_host->fail(HAUL_NO_MEMORY, "no memory for a peer");
        return NULL;
    }
    peer->shm = shm;
    peer->link = link;
    peer->viewer = peer->source = -1;
    TAILQ_INSERT_TAIL(&shm->peers, peer, node);
    return peer;
}

void haul_shm_peer_settle(struct haul_shm_peer *peer)
{
    if (peer->link)
        return;
    haul_shm_view_end(peer); /* (which keeps what is looked at) */
    if (peer->attached || peer->views > 0 || peer->viewer >= 0)
        return;
    TAILQ_REMOVE(&peer->shm->peers, peer, node);
    free(peer->windows);
    free(peer);
}

void haul_shm_lost(void *rma, struct haul_link *link)
{
    struct haul_shm_peer *peer = find_peer(rma, link);
    if (!peer)
        return;
    peer->was = link;
    peer->link = NULL;
    haul_shm_peer_settle(peer);
}

void haul_shm_detach(void *handle)
{
    struct haul_shm_peer *peer = handle;
    peer->attached = false;
    haul_shm_view_end(peer); /* (its link may go on by the channel) */
    haul_shm_peer_settle(peer);
}

void haul_shm_peers_end(struct haul_shm *shm)
{
    struct haul_shm_peer *peer;
    while ((peer = TAILQ_FIRST(&shm->peers)) != NULL) {
        haul_shm_end_viewer(peer);
        haul_shm_peer_settle(peer);
    }
}

/* ---- The handshake -------------------------------------------------------------------------- */

int haul_shm_address(void *rma, struct haul_link *link, void *blob, size_t *bytes)
{
    struct haul_shm *shm = rma;
    const struct haul_shm_place *place = &shm->place;
    uint8_t *to = blob;
    if (*bytes < BLOB_BYTES)
        return haul_shm_host->fail(HAUL_INVALID, "shm's address takes %d bytes", BLOB_BYTES);
    struct haul_shm_peer *peer = get_peer(shm, link);
    if (!peer)
        return HAUL_NO_MEMORY;
    if (getrandom(peer->ticket, sizeof peer->ticket, 0) != sizeof peer->ticket)
        return haul_shm_host->fail(HAUL_SYSTEM, "getrandom: %s", strerror(errno));
    peer->has_ticket = true;
    haul_put_u32(to, VERSION);
    haul_put_u32(to + 4, place->pid);
    haul_put_u32(to + 8, place->uid);
    memcpy(to + 12, place->boot, sizeof place->boot);
    haul_put_u64(to + 28, place->pid_namespace);
    haul_put_u64(to + 36, place->user_namespace);
    haul_put_u64(to + 44, place->net_namespace);
    haul_put_u64(to + 52, (uintptr_t)shm->cookie);
    memcpy(to + 60, shm->cookie, sizeof shm->cookie);
    memcpy(to + 76, peer->ticket, sizeof peer->ticket);
    memcpy(to + 92, shm->name, sizeof shm->name);
    *bytes = BLOB_BYTES;
    return 0;
}

static int parse(const uint8_t *from, size_t bytes, struct haul_shm_place *place)
{
    if (bytes < 4 || haul_get_u32(from) != VERSION)
        return haul_shm_host->fail(HAUL_UNSUPPORTED,
                                   "the other side speaks another version of shm");
    if (bytes != BLOB_BYTES)
        return haul_shm_host->fail(HAUL_PROTOCOL, "an address of %zu bytes, shm's have %d", bytes,
                                   BLOB_BYTES);
    *place = (struct haul_shm_place){
        .pid = haul_get_u32(from + 4),
        .uid = haul_get_u32(from + 8),
        .pid_namespace = haul_get_u64(from + 28),
        .user_namespace = haul_get_u64(from + 36),
        .net_namespace = haul_get_u64(from + 44),
    };
    memcpy(place->boot, from + 12, sizeof place->boot);
    return 0;
}

/* Whether we may copy out of the peer's process: tried with its cookie. */
static bool may_copy(const struct haul_shm_peer *peer)
{
    char nothing;
    if (!haul_shm_copy((struct haul_shm_copy){.peer = peer, .to = &nothing}))
        return true;
    haul_shm_host->log(HAUL_LOG_INFO,
                       "shm: process %d copies what it sends to us into memory that both see, "
                       "because its own cannot be read from here (kernel.yama.ptrace_scope, or "
                       "a sandbox); arrays of haul's pool that are given need no copy",
                       (int)peer->pid);
    return false;
}

int haul_shm_attach(void *rma, const void *blob, size_t bytes, struct haul_link *link,
                    void **result)
{
    struct haul_shm *shm = rma;
    const uint8_t *from = blob;
    struct haul_shm_place place;
    int err = parse(from, bytes, &place);
    if (!err)
        err = haul_shm_place_compare(&shm->place, &place);
    if (err)
        return err;
    struct haul_shm_peer *peer = get_peer(shm, link);
    if (!peer)
        return HAUL_NO_MEMORY;
    if (peer->has_ticket && memcmp(peer->ticket, from + 76, sizeof peer->ticket) == 0)
        return haul_shm_host->fail(HAUL_UNSUPPORTED, "its address is the one that we sent to it");
    peer->pid = (pid_t)place.pid;
    peer->cookie_address = haul_get_u64(from + 52);
    memcpy(peer->cookie, from + 60, sizeof peer->cookie);
    err = haul_shm_view_connect(peer, (const char *)from + 92, place.pid, place.uid);
    if (err)
        return err;
    peer->copies = may_copy(peer);
    err = haul_shm_view_begin(peer, from + 76);
    if (err)
        return err;
    peer->attached = true;
    haul_shm_accept(shm); /* it may have connected to us already: what it can do is known then */
    *result = peer;
    return 0;
}
