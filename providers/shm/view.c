/* SPDX-License-Identifier: Apache-2.0
 * The memory of peers, mapped: their slabs come as files on our socket to them.
 *
 * A file is mapped when nothing can happen to us by it: it cannot shrink, no page of it can be
 * taken away again (no holes can be punched into a sealed file), and all its pages exist, so that
 * no look at it ends in SIGBUS or takes memory. What can still happen is that the peer changes the
 * bytes while we look.
 *
 * A window stays while somebody looks through it, whatever becomes of the peer. Our socket stays
 * open as long: by its end the peer knows that we look at nothing any more. */
#include "shm.h"
#include "talk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    /* A process may have some 65,000 mappings. */
    WINDOWS_MAX = 16384, /* of one peer */
    ALL_WINDOWS_MAX = 32768,
    ALIGNMENT = 64,        /* of haul's blocks */
    SLAB_UNIT = 2 << 20,   /* slabs are made of these: of a huge page's size */
    RECORDS_PER_LOOK = 64, /* then others have their turn */
};

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* ---- Windows -------------------------------------------------------------------------------- */

/* Of the first window whose id is not lower. */
static size_t place_of(const struct haul_shm_peer *peer, uint64_t slab)
{
    size_t low = 0, high = peer->window_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (peer->windows[middle]->slab < slab)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct haul_shm_window *find_window(const struct haul_shm_peer *peer, uint64_t slab)
{
    size_t at = place_of(peer, slab);
    bool found = at < peer->window_count && peer->windows[at]->slab == slab;
    return found ? peer->windows[at] : NULL;
}

static void close_window(struct haul_shm_window *window)
{
    struct haul_shm_peer *peer = window->peer;
    size_t at = place_of(peer, window->slab);
    peer->window_count--;
    peer->shm->windows--;
    memmove(peer->windows + at, peer->windows + at + 1,
            (peer->window_count - at) * sizeof(struct haul_shm_window *));
    munmap((void *)(uintptr_t)window->base, window->bytes);
    free(window);
}

/* At an address that suits huge pages. NULL: there is no memory. */
static void *map_file(int file, size_t bytes)
{
    char *room = mmap(NULL, bytes + SLAB_UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return NULL;
    size_t head = SLAB_UNIT - (uintptr_t)room % SLAB_UNIT;
    void *base = mmap(room + head, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    bool mapped = base != MAP_FAILED;
    munmap(room, mapped ? head : bytes + SLAB_UNIT);
    if (mapped && head < SLAB_UNIT)
        munmap(room + head + bytes, SLAB_UNIT - head);
    return mapped ? base : NULL;
}

/* Whether its pages can never go away. Returns NULL, or what is wrong. */
static const char *check_file(int file, uint64_t bytes, struct stat *status)
{
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    struct statfs system;
    int seals = fcntl(file, F_GET_SEALS);
    if (seals < 0 || (seals & wanted) != wanted)
        return "a memory file that is not sealed";
    /* (Files of huge pages of their own, hugetlbfs, do not tell of holes.) */
    if (fstatfs(file, &system) || system.f_type != TMPFS_MAGIC)
        return "a file that is not of ordinary memory";
    if (bytes == 0 || bytes % SLAB_UNIT || fstat(file, status) ||
        (uint64_t)status->st_size != bytes)
        return "a memory file of another size than it says";
    /* (Blocks may also be behind a file's end.) */
    if ((uint64_t)status->st_blocks * 512 < bytes || (uint64_t)lseek(file, 0, SEEK_HOLE) != bytes)
        return "a memory file with holes";
    return NULL;
}

static bool has_file(const struct haul_shm_peer *peer, uint64_t inode)
{
    for (size_t i = 0; i < peer->window_count; i++)
        if (peer->windows[i]->inode == inode)
            return true;
    return false;
}

/* Keeps a copy of it, as the last. */
static bool keep_window(struct haul_shm_peer *peer, const struct haul_shm_window *window)
{
    if (peer->window_count == peer->window_capacity) {
        size_t capacity = peer->window_capacity * 2 + 8;
        struct haul_shm_window **windows =
            realloc(peer->windows, capacity * sizeof(struct haul_shm_window *));
        if (!windows)
            return false;
        peer->windows = windows;
        peer->window_capacity = capacity;
    }
    struct haul_shm_window *made = malloc(sizeof *made);
    if (!made)
        return false;
    *made = *window;
    peer->windows[peer->window_count++] = made;
    peer->shm->windows++;
    return true;
}

/* That we cannot take a slab is not the peer's fault: what is in it is read in its process. */
static void go_without(struct haul_shm_peer *peer, const char *why)
{
    if (!peer->lacks_slabs)
        haul_shm_host->log(HAUL_LOG_WARNING,
                           "shm: memory of process %d cannot be looked at, and is copied: %s",
                           (int)peer->pid, why);
    peer->lacks_slabs = true;
}

static void open_window(struct haul_shm_peer *peer, const struct haul_shm_talk *talk, int file,
                        uint64_t inode)
{
    if (peer->window_count == WINDOWS_MAX || peer->shm->windows == ALL_WINDOWS_MAX) {
        go_without(peer, "too many slabs are mapped");
        return;
    }
    struct haul_shm_window window = {
        .peer = peer, .slab = talk->slab, .bytes = talk->bytes, .inode = inode};
    window.base = map_file(file, talk->bytes);
    if (window.base && keep_window(peer, &window))
        return;
    if (window.base)
        munmap((void *)(uintptr_t)window.base, window.bytes);
    go_without(peer, "there is no memory");
}

/* (These return NULL, or what is wrong.) */

static const char *take_slab(struct haul_shm_peer *peer, const struct haul_shm_talk *talk, int file)
{
    struct stat status;
    if (file < 0 || talk->slab <= peer->last_slab)
        return "a slab that cannot be one";
    const char *wrong = check_file(file, talk->bytes, &status);
    if (!wrong && has_file(peer, status.st_ino))
        wrong = "a memory file again";
    if (wrong)
        return wrong;
    peer->last_slab = talk->slab;
    open_window(peer, talk, file, status.st_ino);
    return NULL;
}

static const char *take_gone(struct haul_shm_peer *peer, uint64_t slab)
{
    struct haul_shm_window *window = find_window(peer, slab);
    if (!window)
        return NULL; /* it was gone before we were told of it */
    window->gone = true;
    if (window->views == 0)
        close_window(window);
    return NULL;
}

static const char *take_talk(struct haul_shm_peer *peer, const struct haul_shm_talk *talk, int file)
{
    switch (talk->type) {
    case HAUL_SHM_TALK_WELCOME:
        peer->welcome = true;
        return NULL;
    case HAUL_SHM_TALK_SLAB:
        return take_slab(peer, talk, file);
    case HAUL_SHM_TALK_GONE:
        return take_gone(peer, talk->slab);
    default:
        return "a record that has no place here";
    }
}

/* ---- The connection ------------------------------------------------------------------------- */

static void hang_up(struct haul_shm_peer *peer)
{
    if (peer->source < 0)
        return;
    haul_shm_host->unwatch(peer->source_watch);
    close(peer->source);
    peer->source = -1;
}

/* Takes nothing from it any more. While we look at what we have, the peer is to know. */
static void turn_away(struct haul_shm_peer *peer, const char *why)
{
    haul_shm_host->log(HAUL_LOG_WARNING,
                       "shm: process %d sent %s: no more of its memory is looked at",
                       (int)peer->pid, why);
    peer->deaf = true;
    if (peer->views == 0)
        hang_up(peer);
}

/* A record whose file found no descriptor here. */
static void take_without_file(struct haul_shm_peer *peer, const struct haul_shm_talk *talk)
{
    if (talk->type == HAUL_SHM_TALK_SLAB && talk->slab > peer->last_slab)
        peer->last_slab = talk->slab;
    go_without(peer, "no descriptor is left for it (ulimit -n)");
}

/* Takes a record. Returns whether there may be another. */
static bool receive_one(struct haul_shm_peer *peer)
{
    const char *wrong = NULL;
    struct haul_shm_talk talk;
    int file, err = haul_shm_talk_receive(peer->source, &talk, &file);
    if (!err && !peer->deaf)
        wrong = take_talk(peer, &talk, file);
    else if (err == EMFILE)
        take_without_file(peer, &talk);
    else if (err == EPROTO)
        wrong = "what is no record";
    else if (err == EPIPE || err == ECONNRESET)
        hang_up(peer);
    if (file >= 0)
        close(file);
    if (wrong && !peer->deaf)
        turn_away(peer, wrong);
    return (!err || err == EMFILE) && !peer->deaf;
}

/* Takes what the peer has sent. */
static void receive(struct haul_shm_peer *peer)
{
    bool more = true;
    for (int i = 0; more && i < RECORDS_PER_LOOK && peer->source >= 0; i++)
        more = receive_one(peer);
    haul_shm_due(peer->shm, 0); /* for reads that have waited for it */
}

static void source_ready(void *arg, uint32_t events)
{
    (void)events;
    receive(arg);
}

void haul_shm_view_end(struct haul_shm_peer *peer)
{
    peer->deaf = true;
    for (size_t i = peer->window_count; i-- > 0;)
        if (peer->windows[i]->views == 0)
            close_window(peer->windows[i]);
    if (peer->views == 0)
        hang_up(peer);
}

static int refuse(int socket, const char *what, const char *why)
{
    int err = haul_shm_host->fail(HAUL_UNSUPPORTED, "%s: %s", what, why);
    if (socket >= 0)
        close(socket);
    return err;
}

int haul_shm_view_connect(struct haul_shm_peer *peer, const char name[HAUL_SHM_NAME_BYTES],
                          uint32_t pid, uint32_t uid)
{
    struct sockaddr_un address;
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    if (peer->source >= 0)
        return refuse(-1, "its Unix socket", "it is connected already");
    int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t length = haul_shm_talk_address(&address, name);
    if (!haul_shm_talk_leaves_room(socket_fd))
        return refuse(socket_fd, "a Unix socket more",
                      "half of the files that this process may open are open (ulimit -n)");
    if (socket_fd < 0 || connect(socket_fd, (struct sockaddr *)&address, length))
        return refuse(socket_fd, "its Unix socket cannot be reached", strerror(errno));
    if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) ||
        credentials.pid != (pid_t)pid || credentials.uid != uid)
        return refuse(socket_fd, "its Unix socket", "it belongs to another process");
    if (haul_shm_host->watch(peer->shm->engine, socket_fd, EPOLLIN, source_ready, peer,
                             &peer->source_watch)) {
        close(socket_fd);
        return HAUL_SYSTEM;
    }
    peer->source = socket_fd;
    return 0;
}

int haul_shm_view_begin(struct haul_shm_peer *peer, const uint8_t ticket[HAUL_SHM_TICKET_BYTES])
{
    struct haul_shm_talk talk = {.type = HAUL_SHM_TALK_TICKET, .copies = peer->copies};
    memcpy(talk.ticket, ticket, sizeof talk.ticket);
    int err = haul_shm_talk_send(peer->source, &talk, -1);
    if (!err)
        return 0;
    hang_up(peer);
    return refuse(-1, "its Unix socket takes no ticket", strerror(err));
}

/* ---- Views ---------------------------------------------------------------------------------- */

/* Its pages in our page table, once: later looks at it do not fault. Whether that can be done;
 * where it is not known how (EINVAL, before Linux 5.14) they come when they are looked at. */
static bool populate(struct haul_shm_window *window)
{
    if (!window->present)
        window->present =
            !madvise((void *)(uintptr_t)window->base, window->bytes, MADV_POPULATE_READ) ||
            errno == EINVAL;
    return window->present;
}

const char *haul_shm_view_open(struct haul_shm_peer *peer, const struct haul_shm_way *way,
                               struct haul_shm_window **opened)
{
    struct haul_shm_window *window = find_window(peer, way->slab);
    if (!window && peer->source >= 0 && !peer->deaf) {
        receive(peer);
        window = find_window(peer, way->slab);
    }
    if (!window || window->gone || way->offset > window->bytes ||
        way->bytes > window->bytes - way->offset || !populate(window))
        return NULL;
    window->views++;
    peer->views++;
    *opened = window;
    return window->base + way->offset;
}

int haul_shm_map(void *handle, const uint8_t *way_bytes, size_t way_count, size_t bytes,
                 const void **data, void **mapping)
{
    struct haul_shm_peer *peer = handle;
    struct haul_shm_window *window;
    struct haul_shm_way way;
    const char *at = NULL;
    if (haul_shm_way_parse(way_bytes, way_count, &way))
        return HAUL_PROTOCOL;
    /* (Without our socket the peer would not know that we look.) */
    if (way.slab && way.bytes >= bytes && way.offset % ALIGNMENT == 0 && peer->source >= 0)
        at = haul_shm_view_open(peer, &way, &window);
    if (!at)
        return haul_shm_host->fail(HAUL_UNSUPPORTED, "this array is in no slab that is known");
    *data = at;
    *mapping = window;
    return 0;
}

void haul_shm_unmap(void *mapping)
{
    struct haul_shm_window *window = mapping;
    struct haul_shm_peer *peer = window->peer;
    window->views--;
    peer->views--;
    if (window->views == 0 && window->gone)
        close_window(window);
    if (peer->views == 0 && peer->deaf)
        hang_up(peer);
    haul_shm_peer_settle(peer);
}
