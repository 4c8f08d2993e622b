/* SPDX-License-Identifier: Apache-2.0
 * What the files of the provider `ofi` share.
 *
 *   ofi.c     the descriptor, settings, and which of libfabric's providers are kinds of path
 *   nic.c     which NICs are opened
 *   fabric.c  opening an instance, and of each rail: fabric, domain, endpoints, queues
 *   rail.c    libfabric's calls for a rail: a read, what has ended
 *   worker.c  threads that empty the queues of rails
 *   region.c  registered memory and the ways to it
 *   peer.c    addresses: ours, and those of peers
 *   pair.c    which of a peer's rails each of ours reads from
 *   read.c    core's reads: cut into pieces, and told of when all have ended
 *   piece.c   which rail reads a piece, and when it is tried again
 *   silence.c reads that may never end: fencing, and rails that do not move
 *   examine.c what there is on this machine, for people
 *
 * A rail is a NIC in use, or over sockets one of several connections; mostly there is one.
 *
 * Two endpoints each. Reads of ours start at `reader`; peers read through `exporter`, whose address
 * they have. So the reader, which must be closed to end reads that hang, can be made anew without
 * any peer noticing.
 *
 * Threads. An instance is worked on under the context's drive lock. Where a rail is emptied by a
 * thread of its own (worker.c), all calls of libfabric for the rail are made under the rail's lock,
 * so that libfabric can be asked for FI_THREAD_DOMAIN: no locks. What such a thread found to have
 * ended it hands over in a list; all else is left to the driver. */
#ifndef HAUL_OFI_H
#define HAUL_OFI_H

#include <haul/provider.h>
#include <netinet/in.h>
#include <pthread.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdatomic.h>
#include <sys/queue.h>

/* Core's functions; set by the entry function, before anything else of the provider runs. */
extern const struct haul_host *haul_ofi_host;

struct haul_ofi;
struct haul_ofi_piece;
struct haul_ofi_worker;

enum { HAUL_OFI_RAILS_MAX = 8 };
/* After that queues are looked at in any case: some descriptors lose wake-ups. */
#define HAUL_OFI_LOOK_ANYWAY_NS ((uint64_t)100000000)

/* ---- ofi.c ---------------------------------------------------------------------------------- */

/* The newest version of libfabric that this provider was tested with. */
uint32_t haul_ofi_tested(void);
/* The version of libfabric's API that is asked for. */
uint32_t haul_ofi_api(void);
/* One of libfabric's providers, and how haul uses it. */
struct haul_ofi_kind {
    const char *name;
    bool fast;            /* better than any channel */
    bool by_name_only;    /* plain `ofi` does not take it */
    bool over_sockets;    /* on all interfaces; closing an endpoint may harm its domain */
    uint32_t sound_since; /* the first version of libfabric in which it is used; 0: any */
};
/* Best first; NULL after the last. */
const struct haul_ofi_kind *haul_ofi_kind_at(size_t index);
/* One that is not in the list (a new libfabric's) has no properties, and "" for a name. */
const struct haul_ofi_kind *haul_ofi_kind_named(const char *name);
/* Whether it is one of libfabric's that haul cannot use well. */
bool haul_ofi_is_unsuited(const char *name);
bool haul_ofi_is_sound(const struct haul_ofi_kind *kind);
/* What does the same as an unsound one ("ofi:net"). */
const char *haul_ofi_instead(void);
/* A list of what libfabric has for reads of one kind ("verbs"); freed with fi_freeinfo(). nic: a
 * device or interface, "" for any. Returns libfabric's error. */
int haul_ofi_find(const char *kind, const char *nic, struct fi_info **found);
/* A sentence part for libfabric's errors. */
const char *haul_ofi_error(int error);
/* "" if it is not set. */
const char *haul_ofi_setting(const struct haul_ofi *ofi, const char *name);

/* ---- nic.c ---------------------------------------------------------------------------------- */

/* The NICs to open, as libfabric describes them. */
struct haul_ofi_nics {
    struct fi_info *infos[HAUL_OFI_RAILS_MAX]; /* of ofi->found; over sockets one may be repeated */
    size_t numbers[HAUL_OFI_RAILS_MAX];        /* of those that core chose */
    size_t count;
};

/* Lists what libfabric has of the kind in ofi->found, and chooses. Errors: HAUL_PROVIDER,
 * HAUL_CONFIG. */
int haul_ofi_find_nics(struct haul_ofi *ofi, struct haul_ofi_nics *nics);

/* ---- fabric.c ------------------------------------------------------------------------------- */

/* An endpoint, its queue and what it needs. */
struct haul_ofi_side {
    struct fid_domain *domain; /* the rail's, or its own */
    struct fid_av *addresses;
    struct fid_ep *endpoint;
    struct fid_cq *queue;
    int fd; /* becomes readable with the queue; -1: the queue must be polled */
    struct haul_watch *watch;
};

TAILQ_HEAD(haul_ofi_pieces, haul_ofi_piece);
STAILQ_HEAD(haul_ofi_finished, haul_ofi_piece);
TAILQ_HEAD(haul_ofi_reads, haul_ofi_read);

struct haul_ofi_rail {
    struct haul_ofi *ofi;
    unsigned index;
    char name[64];
    size_t nic; /* of those that core chose */
    /* As libfabric returned it: what it says is obeyed. */
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain; /* of registered memory */
    struct haul_ofi_side reader, exporter;
    in_addr_t address, netmask; /* IPv4, in network order; netmask 0: not known */

    struct haul_ofi_worker *worker; /* NULL: whoever drives empties its queues */
    /* Around libfabric's calls where there is a worker. Who waits for the lock holds the turn, so
     * that the other, who lets go of it for a moment only, does not take it again. */
    pthread_mutex_t turn, lock;

    LIST_HEAD(, haul_ofi_address) known;
    struct haul_ofi_pieces posted; /* with libfabric, which may write to their memory */
    atomic_uint posted_count;      /* for the worker */
    uint64_t bytes_in_flight;
    uint64_t bytes_read;
    bool stuck;         /* its reader cannot be closed, and is only waited for */
    bool failing;       /* nothing comes over it from a peer that others reach */
    uint64_t warned_ns; /* when that was said last; 0: never */
};

struct haul_ofi {
    struct haul_engine *engine;
    char kind[HAUL_RMA_KIND_MAX];
    bool over_sockets;
    struct fi_info *found; /* all that libfabric has of the kind */
    struct haul_ofi_rail rails[HAUL_OFI_RAILS_MAX];
    unsigned rail_count;
    struct haul_ofi_worker *workers;
    unsigned worker_count;

    size_t peers;
    struct haul_ofi_pieces waiting; /* not with libfabric (yet), */
    struct haul_ofi_pieces refused; /* of these, while they are tried: cannot start now */
    /* Pieces that libfabric has let go of, well or not. Workers add to it. */
    pthread_mutex_t finished_lock;
    struct haul_ofi_finished finished;
    struct haul_ofi_reads ended; /* read_done() is due */
    struct haul_ofi_reads unused;
    uint64_t bytes_in_flight; /* of reads that have not ended */
    uint64_t fence_ns;        /* when posted pieces of fenced reads are ended; UINT64_MAX: none */
    uint64_t look_ns;         /* when to look next whether rails move, or can be made anew */
    uint64_t poll_ns;         /* of queues without descriptor: the next pause */
    uint64_t greeting_ns;     /* until then a peer may be making its connection to us */
};

int haul_ofi_open(struct haul_engine *engine, const char *kind, void **rma);
void haul_ofi_close(void *rma);
/* Closes the reader, if there is one, after which nothing of its reads is written any more, and
 * makes a new one. Errors: HAUL_BUSY (it is not closed; the rail is stuck), HAUL_SYSTEM (there is
 * no new one). */
int haul_ofi_renew_reader(struct haul_ofi_rail *rail);

/* ---- rail.c --------------------------------------------------------------------------------- */

/* Its NIC's name, for people. */
void haul_ofi_name_rail(struct haul_ofi_rail *rail);
/* Whether anything can be read over it now. */
bool haul_ofi_rail_reads(const struct haul_ofi_rail *rail);
void haul_ofi_lock(struct haul_ofi_rail *rail);
void haul_ofi_unlock(struct haul_ofi_rail *rail);
/* Starts to read a piece. Returns libfabric's error; -FI_EAGAIN: not now. */
int haul_ofi_rail_read(struct haul_ofi_rail *rail, struct haul_ofi_piece *piece, fi_addr_t address,
                       uint64_t from, uint64_t key);
/* Empties its queues into the instance's list. Returns whether there was anything. */
bool haul_ofi_rail_drain(struct haul_ofi_rail *rail);
/* Whether its queues are empty and their descriptors will tell when they are not. */
bool haul_ofi_rail_may_sleep(struct haul_ofi_rail *rail);
/* Whether a queue has no descriptor. */
bool haul_ofi_rail_is_polled(const struct haul_ofi_rail *rail);
size_t haul_ofi_rails(void *rma, struct haul_rail_stats *rails, size_t max);

/* ---- worker.c ------------------------------------------------------------------------------- */

/* Makes those that HAUL_PROGRESS_THREADS asks for, but not more than there may be rails for. */
int haul_ofi_workers_make(struct haul_ofi *ofi, size_t rails);
/* Whose a rail is; NULL: the driver's. */
struct haul_ofi_worker *haul_ofi_worker_of(struct haul_ofi *ofi, unsigned rail);
/* Starts their threads, when the rails are open. Errors: HAUL_SYSTEM, HAUL_NO_MEMORY. */
int haul_ofi_workers_start(struct haul_ofi *ofi);
/* Ends them; their rails are the caller's then. Once more does nothing. */
void haul_ofi_workers_stop(void *rma);
/* Has its sleep ended when the descriptor becomes readable, until that is closed. */
bool haul_ofi_worker_watch(struct haul_ofi_worker *worker, int fd);
/* Ends its sleep; NULL does nothing. */
void haul_ofi_worker_wake(struct haul_ofi_worker *worker);

/* ---- region.c ------------------------------------------------------------------------------- */

struct haul_ofi_region {
    struct haul_ofi *ofi;
    uint8_t *base;
    size_t bytes;
    unsigned near; /* rails, a bit each */
    /* One for each rail; NULL: libfabric needs no registration of memory that reads land in. */
    struct fid_mr *mr[HAUL_OFI_RAILS_MAX];
};

int haul_ofi_reg(void *rma, void *base, size_t bytes, unsigned access, int file, void **region);
void haul_ofi_dereg(void *region);
int haul_ofi_offer(void *region, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes);

/* Where a read starts at the peer. */
struct haul_ofi_way {
    uint64_t address, bytes;
    uint64_t keys[HAUL_OFI_RAILS_MAX]; /* for each of its rails */
};
/* A way of a peer with so many rails. Errors: HAUL_PROTOCOL. */
int haul_ofi_way_parse(const uint8_t *way, size_t way_bytes, unsigned rails,
                       struct haul_ofi_way *parsed);

/* ---- peer.c --------------------------------------------------------------------------------- */

/* An exporter that a rail of ours reads from. The connections of one process to us share it: for
 * libfabric they are one peer, and removing an address ends what is under way with it. */
struct haul_ofi_address {
    LIST_ENTRY(haul_ofi_address) node;
    fi_addr_t number;
    unsigned references;
    unsigned posted;                /* pieces from it that libfabric has, */
    uint64_t posted_bytes;          /* and how much they are */
    struct haul_ofi_piece *suspect; /* has failed before, and is tried alone: no other is posted */
    /* Where its peer can be read over other rails, too: */
    uint64_t moved_ns;         /* when a piece began while there was none, or ended */
    uint64_t brought_ns;       /* when a piece ended well */
    uint64_t suspected_ns;     /* when a look found that it does not move */
    uint64_t refused_ns;       /* when libfabric took none, although it had none, */
    uint64_t refused_since_ns; /* and since when it has gone on like that */
    uint64_t shunned_ns;       /* until then others are taken */
    uint64_t shun_ns;          /* for how long it was shunned; 0: nothing is known against it */
    bool blamed;               /* because other rails brought what this one did not */
    size_t bytes;
    uint8_t name[]; /* as fi_getname() gave it there */
};

/* How a rail of ours reads from a peer. */
struct haul_ofi_path {
    struct haul_ofi_address *address; /* NULL: not at all */
    unsigned theirs;                  /* the peer's rail */
};

struct haul_ofi_peer {
    struct haul_ofi *ofi;
    unsigned rails;                                 /* of the peer */
    struct haul_ofi_path paths[HAUL_OFI_RAILS_MAX]; /* of each rail of ours */
    unsigned path_count;                            /* that have an address */
    unsigned reads;                                 /* not ended, */
    uint64_t bytes;                                 /* and how much they are */
};

/* Whether several rails have an address of it. */
static inline bool haul_ofi_has_choice(const struct haul_ofi_peer *peer)
{
    return peer->path_count > 1;
}

/* Whether the peer can be read over this rail of ours now. */
bool haul_ofi_can_read(const struct haul_ofi_peer *peer, unsigned rail);

/* Whether the IPv4 address is that of its NIC ("0.0.0.0": of all). */
bool haul_ofi_has_address(const struct fi_info *info, const char *address);
int haul_ofi_describe(void *rma, struct haul_link *link, void *blob, size_t *bytes);
int haul_ofi_attach(void *rma, const void *blob, size_t bytes, struct haul_link *link, void **peer);
void haul_ofi_detach(void *peer);
/* Tells a new reader all addresses. */
void haul_ofi_insert_known(struct haul_ofi_rail *rail);

/* ---- pair.c --------------------------------------------------------------------------------- */

enum { HAUL_OFI_NO_RAIL = HAUL_OFI_RAILS_MAX };

/* Notes the IPv4 address of a rail that is open, and its network. */
void haul_ofi_note_network(struct haul_ofi_rail *rail);
/* Which of a peer's rails each of ours reads from, or HAUL_OFI_NO_RAIL: by the peer's `count`
 * addresses of `bytes` each. */
void haul_ofi_pair(const struct haul_ofi *ofi, const uint8_t *addresses, size_t bytes,
                   unsigned count, unsigned theirs[HAUL_OFI_RAILS_MAX]);

/* ---- read.c --------------------------------------------------------------------------------- */

/* A part of a read, that one rail reads. */
struct haul_ofi_piece {
    struct fi_context2
        context; /* libfabric's, while it is posted; first: the piece is found by it */
    TAILQ_ENTRY(haul_ofi_piece) node;
    STAILQ_ENTRY(haul_ofi_piece) finished;
    struct haul_ofi_read *read;
    struct haul_ofi_rail *rail; /* that has it, or had it last; NULL: none yet */
    size_t start, bytes;        /* of the read; what is still to come */
    size_t asked;               /* of these, while it is posted */
    int error;                  /* libfabric's, of one that has finished */
    unsigned failures;
    uint64_t posted_ns;            /* when that was */
    struct haul_ofi_address *turn; /* there it is the suspect; NULL: nowhere */
    unsigned
        failed_on; /* rails, a bit each, that did not bring it: although it was alone, or ever, */
    uint64_t failed_since_ns; /* and since when the last of these did not */
    uint64_t not_before_ns;   /* when it is tried again after the last */
    bool blocked;             /* until another one ends */
};

struct haul_ofi_read {
    TAILQ_ENTRY(haul_ofi_read) node;
    struct haul_ofi_peer *peer;
    void *cookie;
    struct haul_ofi_region *region;
    uint8_t *to;
    struct haul_ofi_way from;
    size_t bytes;
    unsigned left; /* pieces that have not ended */
    int err;       /* of those that have */
    bool fenced;   /* its posted pieces have until fence_ns to end by themselves */
    struct haul_ofi_piece pieces[];
};

int haul_ofi_read(void *peer, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                  void *region, size_t bytes, void *cookie);
/* A piece, that is in no list, has ended: 0, or why it failed. */
void haul_ofi_piece_over(struct haul_ofi_piece *piece, int err);
bool haul_ofi_progress(void *rma);
uint64_t haul_ofi_deadline_ns(void *rma);
/* The next pause between two looks at queues without descriptor: each is twice the last (0: anew)
 * while nothing happens, up to a limit. busy: reads are posted. */
uint64_t haul_ofi_next_poll_ns(uint64_t *last_ns, bool busy);
/* A peer has our address, or we have one's: connections are made only while both sides look at
 * their queues. */
void haul_ofi_expect(struct haul_ofi *ofi);
/* At the end: frees the reads. */
void haul_ofi_reads_free(struct haul_ofi *ofi);

/* ---- piece.c -------------------------------------------------------------------------------- */

/* Gives a piece that is in no list to a rail, or puts it to those that wait. */
void haul_ofi_piece_start(struct haul_ofi_piece *piece);
/* Tries those that wait. Returns whether one does not any more. */
bool haul_ofi_pieces_start(struct haul_ofi *ofi);
/* libfabric has let go of pieces: takes them from the instance's list. */
bool haul_ofi_pieces_finish(struct haul_ofi *ofi);
/* It is libfabric's no more. */
void haul_ofi_take_from_posted(struct haul_ofi_piece *piece);
/* It is not the one that is tried alone. */
void haul_ofi_leave_turn(struct haul_ofi_piece *piece);
/* Its rail has not brought it since then: is blamed if another one does. */
void haul_ofi_note_failed(struct haul_ofi_piece *piece, uint64_t since_ns);
/* Other rails read from the address for a while, the longer the more often it was so. */
void haul_ofi_shun(struct haul_ofi_address *address);
bool haul_ofi_is_shunned(const struct haul_ofi_address *address, uint64_t now_ns);
/* Whether bytes of the peer's have come over other rails much later than that. */
bool haul_ofi_others_bring(const struct haul_ofi_peer *peer, const struct haul_ofi_address *address,
                           uint64_t since_ns);
/* When one of those that wait is to be tried at the latest. */
uint64_t haul_ofi_pieces_try_ns(const struct haul_ofi *ofi, uint64_t now_ns);

static inline struct haul_ofi_address *haul_ofi_address_of(const struct haul_ofi_piece *piece)
{
    return piece->read->peer->paths[piece->rail->index].address;
}

/* ---- silence.c ------------------------------------------------------------------------------ */

void haul_ofi_fence(void *peer);
/* Ends the posted pieces of fenced reads that did not end by themselves. */
bool haul_ofi_end_fenced(struct haul_ofi *ofi);
/* Now and then: ends the posted pieces of rails that do not move, so that others read them, and
 * makes readers that there are not. */
bool haul_ofi_look_at_rails(struct haul_ofi *ofi);
/* When one of both is due. */
uint64_t haul_ofi_silence_ns(const struct haul_ofi *ofi);

/* ---- examine.c ------------------------------------------------------------------------------ */

void haul_ofi_examine(void (*found)(const struct haul_finding *finding, void *arg), void *arg);

#endif
