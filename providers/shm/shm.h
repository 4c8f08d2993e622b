/* SPDX-License-Identifier: Apache-2.0
 * The provider `shm`: arrays of a process on the same host, read or looked at where they are.
 *
 * Two ways lead to an array. Memory of the pool lies in slabs that are memory files; a peer maps
 * them, once, and looks at what is in them (view.c). All other memory is copied out of the peer's
 * process (read.c). Beside the control connection each pair of contexts has two Unix sockets, one
 * in each direction: who looks connects to who offers, and gets the files of its slabs (offer.c).
 *
 * Who owns what. A peer is made with its link's handshake, and lives until the link is lost, core
 * has detached, the other side looks at nothing of ours any more, and nobody here looks at anything
 * of the other side's. A window (a slab of a peer's, mapped) lives as long as its peer's slab, and
 * as anybody looks through it. The file of a slab of ours is core's.
 *
 * Which thread. All of it runs under the drive lock, but for large copies (copy.c): threads that
 * help with them work without it, meanwhile connections are served. They see the bytes, and of a
 * peer what does not change: it is not freed, and its window not unmapped, before a read has ended.
 *
 * How it fails. What a peer sends is believed in nothing: a file is mapped when its seals and its
 * blocks say that no page of it can go away, and a place in it is looked up for each use. A peer
 * that breaks the rules loses its Unix sockets, so that its arrays come by the channel; that by
 * which it knows that we look at something only when we do not. */
#ifndef HAUL_PROVIDERS_SHM_H
#define HAUL_PROVIDERS_SHM_H

#include <haul/provider.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

extern const struct haul_host *haul_shm_host;

enum {
    HAUL_SHM_NAME_BYTES = 32, /* of an abstract socket's name */
    HAUL_SHM_TICKET_BYTES = 16,
    HAUL_SHM_COOKIE_BYTES = 16,
};

struct haul_shm_copier;

/* Where a process runs: what two of them must have in common. */
struct haul_shm_place {
    uint8_t boot[16];
    uint32_t pid, uid;
    uint64_t pid_namespace, user_namespace, net_namespace; /* inodes */
};

/* One instance: of a context. */
struct haul_shm {
    struct haul_engine *engine;
    struct haul_shm_place place;
    int listener;
    struct haul_watch *listener_watch;
    uint64_t listen_again_ns; /* no descriptor was left for who connects; 0: it listens */
    char name[HAUL_SHM_NAME_BYTES];
    /* Proves that a process number is still ours: who copies out of this process reads it along,
     * in the same call. */
    uint8_t cookie[HAUL_SHM_COOKIE_BYTES];

    TAILQ_HEAD(haul_shm_peers, haul_shm_peer) peers;
    TAILQ_HEAD(, haul_shm_guest) guests; /* connected, without a ticket yet; the oldest first */
    unsigned guest_count;
    TAILQ_HEAD(, haul_shm_region) slabs; /* offered, or gone; by their news */
    LIST_HEAD(, haul_shm_region) unused; /* regions to be used again */
    uint64_t last_news;
    uint64_t push_again_ns; /* a peer has not been told all news; or never */
    uint64_t push_pause_ns; /* that was waited last */
    unsigned windows;       /* of all peers */
    TAILQ_HEAD(haul_shm_reads, haul_shm_read) reads, unused_reads;
    struct haul_shm_copier *copier;
    uint64_t sleeps_until_ns; /* the driver, as far as we asked it to look again; 0: it looks */
};

/* Registered memory; that of a slab until all peers know that it is gone. */
struct haul_shm_region {
    TAILQ_ENTRY(haul_shm_region) node;
    LIST_ENTRY(haul_shm_region) unused;
    struct haul_shm *shm;
    char *base;
    size_t bytes;
    uint64_t slab; /* its id, not used again; 0: not a slab */
    uint64_t news; /* number of what peers are to be told: its id, or later, that it is gone */
    int file;      /* of the slab: core's; -1: gone */
};

/* A slab of a peer's, mapped here. */
struct haul_shm_window {
    struct haul_shm_peer *peer;
    uint64_t slab;
    const char *base;
    size_t bytes;
    uint64_t inode; /* of its file: mapped once */
    unsigned views;
    bool present; /* its pages are in our page table */
    bool gone;    /* the peer offers it no more: unmapped with its last view */
};

/* Who has connected to us and has not shown a ticket. */
struct haul_shm_guest {
    TAILQ_ENTRY(haul_shm_guest) node;
    struct haul_shm *shm;
    int socket;
    struct haul_watch *watch;
    uint64_t leaves_at_ns; /* if it has shown none until then */
};

/* The other end of a link. */
struct haul_shm_peer {
    TAILQ_ENTRY(haul_shm_peer) node;
    struct haul_shm *shm;
    struct haul_link *link; /* NULL: lost */
    const void *was;        /* the link that was lost: to be compared only */
    bool attached;          /* core has it as a handle */

    /* It looks at our memory. */
    uint8_t ticket[HAUL_SHM_TICKET_BYTES]; /* by which its Unix socket is known to be its */
    bool has_ticket;                       /* not used up */
    int viewer;                            /* that socket, or -1 */
    struct haul_watch *viewer_watch;
    uint64_t told;    /* number of the last news */
    bool copies_ours; /* it can copy out of this process */

    /* We look at its memory. */
    int source; /* our socket to it, or -1 */
    struct haul_watch *source_watch;
    bool deaf;    /* what comes from it is thrown away: it stays open until we look at nothing */
    bool welcome; /* it has known our ticket: the socket is of the process that we talk to */
    bool copies;  /* we can copy out of its process */
    bool lacks_slabs; /* not all could be mapped here (said once) */
    pid_t pid;
    uint64_t cookie_address;
    uint8_t cookie[HAUL_SHM_COOKIE_BYTES];
    struct haul_shm_window **windows; /* by id */
    size_t window_count, window_capacity;
    uint64_t last_slab; /* that it has told us of: ids only grow */
    unsigned views;     /* of all windows */
    unsigned reads;     /* that have not ended */
};

/* What a way says: where so many bytes are in the process, and (slab not 0) in a slab. */
struct haul_shm_way {
    uint64_t slab, offset, bytes, address;
};

/* A copy: of bytes in a window, or (from NULL) at an address of a peer's process. */
struct haul_shm_copy {
    char *to;
    const char *from;
    const struct haul_shm_peer *peer;
    uint64_t address;
    size_t bytes;
};

/* A copy by several threads. All of it is under the copier's lock while it is listed or under way.
 */
struct haul_shm_job {
    TAILQ_ENTRY(haul_shm_job) node;
    struct haul_shm_copy rest; /* that nobody has taken */
    bool listed;
    unsigned under_way; /* slices */
    int err;            /* the first one */
};

/* A read that has not ended. */
struct haul_shm_read {
    TAILQ_ENTRY(haul_shm_read) node;
    struct haul_shm_peer *peer;
    void *cookie;
    struct haul_shm_way way;
    bool started, fenced;
    struct haul_shm_window *window; /* that it looks through, or NULL */
    struct haul_shm_job job;
    uint64_t ends_at_ns; /* it has failed: when it ends, if it is not fenced before; 0: not known */
};

/* Something is to be done then: ends the driver's sleep if that is longer. Whatever makes
 * progress() due says so, because it may be another thread than the driver. */
void haul_shm_due(struct haul_shm *shm, uint64_t due_ns);

int haul_shm_way_parse(const uint8_t *way, size_t way_bytes, struct haul_shm_way *parsed);

/* ---- place.c --------------------------------------------------------------------------------- */

/* Errors: HAUL_UNSUPPORTED where it cannot be found out. */
int haul_shm_place_find(struct haul_shm_place *place);
/* Whether both can use shared memory with each other; HAUL_UNSUPPORTED with what they lack. */
int haul_shm_place_compare(const struct haul_shm_place *ours, const struct haul_shm_place *theirs);

/* ---- peer.c: the handshake, and the life of peers -------------------------------------------- */

int haul_shm_address(void *rma, struct haul_link *link, void *blob, size_t *bytes);
int haul_shm_attach(void *rma, const void *blob, size_t bytes, struct haul_link *link, void **peer);
void haul_shm_detach(void *peer);
void haul_shm_lost(void *rma, struct haul_link *link);
/* At the end of the context, when only those are left that still look at memory of ours: it stays
 * theirs. */
void haul_shm_peers_end(struct haul_shm *shm);
/* Frees it if nothing is left of it. */
void haul_shm_peer_settle(struct haul_shm_peer *peer);

/* ---- offer.c: our memory for peers ----------------------------------------------------------- */

int haul_shm_reg(void *rma, void *base, size_t bytes, unsigned access, int file, void **region);
void haul_shm_dereg(void *region);
/* All were deregistered. */
void haul_shm_regions_free(struct haul_shm *shm);
int haul_shm_offer(void *region, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes);
bool haul_shm_reads_all(void *peer);
bool haul_shm_viewed(void *region, const void *start, size_t bytes, const void *link,
                     bool unmapping);
/* A peer that has shown its ticket, on this socket, looks at our memory from now on. */
void haul_shm_begin_viewer(struct haul_shm_peer *peer, int socket, bool copies);
void haul_shm_end_viewer(struct haul_shm_peer *peer);
/* Tells peers what they could not be told before. Returns whether any was. */
bool haul_shm_push(struct haul_shm *shm);

/* ---- listen.c: who connects to us ------------------------------------------------------------ */

/* Errors: HAUL_SYSTEM. */
int haul_shm_listen(struct haul_shm *shm);
void haul_shm_unlisten(struct haul_shm *shm);
/* Takes those in that have connected meanwhile, and hears what guests say. */
void haul_shm_accept(struct haul_shm *shm);
/* Sends those away that say nothing, and listens again after a while without descriptors. */
void haul_shm_listen_progress(struct haul_shm *shm);
uint64_t haul_shm_listen_due_ns(const struct haul_shm *shm);

/* ---- view.c: the memory of peers, mapped ----------------------------------------------------- */

/* Connects to the socket of a process, which is proven to be its (that it is also the peer's
 * process is known when it knows the ticket). Errors: HAUL_UNSUPPORTED. */
int haul_shm_view_connect(struct haul_shm_peer *peer, const char name[HAUL_SHM_NAME_BYTES],
                          uint32_t pid, uint32_t uid);
/* Shows the ticket, and tells whether we can copy out of its process. Errors: HAUL_UNSUPPORTED. */
int haul_shm_view_begin(struct haul_shm_peer *peer, const uint8_t ticket[HAUL_SHM_TICKET_BYTES]);
/* Takes nothing from the peer any more; windows that nobody looks through go, and with the last the
 * connection. */
void haul_shm_view_end(struct haul_shm_peer *peer);
/* The place in our address space, which stays until haul_shm_unmap(), or NULL: it is not (yet)
 * known, or leads out of its slab. */
const char *haul_shm_view_open(struct haul_shm_peer *peer, const struct haul_shm_way *way,
                               struct haul_shm_window **window);
int haul_shm_map(void *peer, const uint8_t *way, size_t way_bytes, size_t bytes, const void **data,
                 void **mapping);
void haul_shm_unmap(void *mapping);

/* ---- read.c ---------------------------------------------------------------------------------- */

int haul_shm_read(void *peer, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                  void *region, size_t bytes, void *cookie);
void haul_shm_fence(void *peer);
/* When one can go on. */
uint64_t haul_shm_reads_due_ns(const struct haul_shm *shm);
/* Returns whether it did anything. */
bool haul_shm_reads_progress(struct haul_shm *shm);
void haul_shm_reads_free(struct haul_shm *shm);

/* ---- copy.c: bytes of another process, or of a window, by several threads ---------------------
 */

/* All of it, in this thread. Errors: HAUL_CLOSED (the process has ended), HAUL_UNSUPPORTED (it
 * is not permitted), HAUL_NO_MEMORY, HAUL_PROTOCOL (there is no such memory); without a sentence.
 */
int haul_shm_copy(struct haul_shm_copy copy);

/* threads: 1 or more, the driving one included. Errors: HAUL_SYSTEM, HAUL_NO_MEMORY. */
int haul_shm_copier_create(struct haul_engine *engine, unsigned threads,
                           struct haul_shm_copier **copier);
/* What is added later the driving thread copies. */
void haul_shm_copier_end_threads(struct haul_shm_copier *copier);
/* All copies have ended. */
void haul_shm_copier_destroy(struct haul_shm_copier *copier);
/* The job, and what it names, stays until it has ended. */
void haul_shm_copier_add(struct haul_shm_copier *copier, struct haul_shm_job *job);
/* What nobody has begun of it is not copied any more. */
void haul_shm_copier_stop(struct haul_shm_copier *copier, struct haul_shm_job *job);
/* Whether nothing of it is under way or to be copied. If not, the engine is woken when it is so. */
bool haul_shm_copier_await(struct haul_shm_copier *copier, const struct haul_shm_job *job);
/* Copies a slice of what is next. Returns whether there was anything. */
bool haul_shm_copier_work(struct haul_shm_copier *copier);
bool haul_shm_copier_has_work(struct haul_shm_copier *copier);

#endif
