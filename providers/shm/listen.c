/* SPDX-License-Identifier: Apache-2.0
 * Who connects to us, and shows whose peer it is. An honest guest has its ticket ready: it sends it
 * before it goes on, so that the others can be few and need not be waited for long. */
#include "shm.h"
#include "talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,
    ACCEPTS_PER_LOOK = 64, /* then others have their turn */
    GUESTS_MAX = 64,
};
#define GUEST_NS ((uint64_t)5000000000)
/* Until there may be a descriptor again. */
#define PAUSE_NS ((uint64_t)100000000)

/* ---- Guests --------------------------------------------------------------------------------- */

static void end_guest(struct haul_shm_guest *guest)
{
    TAILQ_REMOVE(&guest->shm->guests, guest, node);
    guest->shm->guest_count--;
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
    int file, socket = guest->socket;
    (void)events;
    int err = haul_shm_talk_receive(socket, &talk, &file);
    if (err == EAGAIN)
        return;
    if (file >= 0)
        close(file);
    struct haul_shm_peer *peer =
        err || talk.type != HAUL_SHM_TALK_TICKET ? NULL : find_ticket(shm, talk.ticket);
    if (peer)
        guest->socket = -1; /* the peer's from now on */
    end_guest(guest);
    if (peer)
        haul_shm_begin_viewer(peer, socket, talk.copies);
}

static bool is_same_user(const struct haul_shm *shm, int socket)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    return !getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) &&
           credentials.uid == shm->place.uid;
}

/* The oldest has had its time to speak. */
static void make_room(struct haul_shm *shm)
{
    guest_ready(TAILQ_FIRST(&shm->guests), EPOLLIN);
    if (shm->guest_count == GUESTS_MAX)
        end_guest(TAILQ_FIRST(&shm->guests));
}

static void take_in(struct haul_shm *shm, int socket)
{
    struct haul_shm_guest *guest = NULL;
    if (is_same_user(shm, socket) && haul_shm_talk_leaves_room(socket))
        guest = calloc(1, sizeof *guest);
    if (!guest) {
        close(socket);
        return;
    }
    guest->shm = shm;
    guest->socket = socket;
    guest->leaves_at_ns = haul_shm_host->now_ns() + GUEST_NS;
    haul_shm_due(shm, guest->leaves_at_ns);
    if (haul_shm_host->watch(shm->engine, socket, EPOLLIN, guest_ready, guest, &guest->watch)) {
        close(socket);
        free(guest);
        return;
    }
    if (shm->guest_count == GUESTS_MAX)
        make_room(shm);
    TAILQ_INSERT_TAIL(&shm->guests, guest, node);
    shm->guest_count++;
}

/* ---- The listener --------------------------------------------------------------------------- */

static void pause_listener(struct haul_shm *shm)
{
    haul_shm_host->log(HAUL_LOG_WARNING, "shm: a peer's Unix socket cannot be accepted: %s",
                       strerror(errno));
    haul_shm_host->watch_change(shm->listener_watch, 0);
    shm->listen_again_ns = haul_shm_host->now_ns() + PAUSE_NS;
    haul_shm_due(shm, shm->listen_again_ns);
}

void haul_shm_accept(struct haul_shm *shm)
{
    struct haul_shm_guest *guest, *next;
    for (int i = 0; i < ACCEPTS_PER_LOOK && !shm->listen_again_ns; i++) {
        int socket = accept4(shm->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket >= 0)
            take_in(shm, socket);
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR && errno != ECONNABORTED)
            pause_listener(shm);
    }
    for (guest = TAILQ_FIRST(&shm->guests); guest; guest = next) {
        next = TAILQ_NEXT(guest, node);
        guest_ready(guest, EPOLLIN);
    }
}

static void listener_ready(void *arg, uint32_t events)
{
    (void)events;
    haul_shm_accept(arg);
}

void haul_shm_listen_progress(struct haul_shm *shm)
{
    uint64_t now_ns = haul_shm_listen_due_ns(shm) == UINT64_MAX ? 0 : haul_shm_host->now_ns();
    struct haul_shm_guest *guest;
    while ((guest = TAILQ_FIRST(&shm->guests)) != NULL && guest->leaves_at_ns <= now_ns)
        end_guest(guest);
    if (!shm->listen_again_ns || shm->listen_again_ns > now_ns)
        return;
    shm->listen_again_ns = 0;
    haul_shm_host->watch_change(shm->listener_watch, EPOLLIN);
}

uint64_t haul_shm_listen_due_ns(const struct haul_shm *shm)
{
    const struct haul_shm_guest *guest = TAILQ_FIRST(&shm->guests);
    uint64_t due_ns = guest ? guest->leaves_at_ns : UINT64_MAX;
    if (shm->listen_again_ns && shm->listen_again_ns < due_ns)
        due_ns = shm->listen_again_ns;
    return due_ns;
}

/* An abstract name: it is gone with the socket, and belongs to the network namespace. */
int haul_shm_listen(struct haul_shm *shm)
{
    struct sockaddr_un address;
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
                                &shm->listener_watch);
}

void haul_shm_unlisten(struct haul_shm *shm)
{
    struct haul_shm_guest *guest;
    while ((guest = TAILQ_FIRST(&shm->guests)) != NULL)
        end_guest(guest);
    if (shm->listener_watch)
        haul_shm_host->unwatch(shm->listener_watch);
    if (shm->listener >= 0)
        close(shm->listener);
    shm->listener_watch = NULL;
    shm->listener = -1;
}
