/* SPDX-License-Identifier: Apache-2.0
 * What the files of the provider `ofi` share.
 *
 *   ofi.c     the descriptor, settings, and which of libfabric's providers are kinds of path
 *   fabric.c  opening one of them: fabric, domain, endpoints, queues
 *   nic.c     which NIC it is
 *   region.c  registered memory and the ways to it
 *   peer.c    addresses: ours, and those of peers
 *   read.c    reads: posting, completion, and how those that hang are ended
 *   examine.c what there is on this machine, for people
 *
 * Two endpoints. Reads of ours start at `reader`; peers read through `exporter`, whose address they
 * have. So the reader, which must be closed to end reads that hang, can be made anew without any
 * peer noticing.
 *
 * Threads. All of an instance is worked on under the context's drive lock, so libfabric is asked
 * for FI_THREAD_DOMAIN: no locks. */
#ifndef HAUL_OFI_H
#define HAUL_OFI_H

#include <haul/provider.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <sys/queue.h>

/* Core's functions; set by the entry function, before anything else of the provider runs. */
extern const struct haul_host *haul_ofi_host;

struct haul_ofi;

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

/* ---- fabric.c ------------------------------------------------------------------------------- */

/* An endpoint, its queue and what it needs. */
struct haul_ofi_side {
    struct fid_domain *domain; /* the instance's, or its own */
    struct fid_av *addresses;
    struct fid_ep *endpoint;
    struct fid_cq *queue;
    int fd; /* becomes readable with the queue; -1: the queue must be polled */
    struct haul_watch *watch;
};

TAILQ_HEAD(haul_ofi_reads, haul_ofi_read);

struct haul_ofi {
    struct haul_engine *engine;
    char kind[HAUL_RMA_KIND_MAX];
    bool over_sockets;
    /* As libfabric returned it: what it says is obeyed. The first of all that fit: the others say
     * which NICs there are beside ours. */
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain; /* of registered memory */
    struct haul_ofi_side reader, exporter;

    LIST_HEAD(, haul_ofi_address) known;
    size_t peers;
    struct haul_ofi_reads waiting; /* not with libfabric (yet) */
    struct haul_ofi_reads posted;
    struct haul_ofi_reads ended; /* read_done() is due */
    struct haul_ofi_reads unused;
    uint64_t bytes_in_flight; /* of waiting and posted reads */
    uint64_t fence_ns;        /* when posted reads of fenced peers are ended; UINT64_MAX: none */
    uint64_t poll_ns;         /* of queues without descriptor: the next pause */
    uint64_t greeting_ns;     /* until then a peer may be making its connection to us */
};

int haul_ofi_open(struct haul_engine *engine, const char *kind, void **rma);
void haul_ofi_close(void *rma);
/* Closes the reader, after which nothing of its reads is written any more, and makes a new one.
 * Errors: HAUL_BUSY (it is not closed), HAUL_SYSTEM (there is no new one, and reads fail). */
int haul_ofi_renew_reader(struct haul_ofi *ofi);
/* Whether the queues are empty and their descriptors will tell when they are not. */
bool haul_ofi_may_sleep(struct haul_ofi *ofi);

/* ---- nic.c ---------------------------------------------------------------------------------- */

/* Lists what libfabric has of the kind in ofi->info; that of the NIC to open comes first. Errors:
 * HAUL_PROVIDER, HAUL_CONFIG. */
int haul_ofi_find_nic(struct haul_ofi *ofi);

/* ---- region.c ------------------------------------------------------------------------------- */

struct haul_ofi_region {
    struct haul_ofi *ofi;
    uint8_t *base;
    size_t bytes;
    struct fid_mr *mr; /* NULL: libfabric needs no registration of memory that reads land in */
};

int haul_ofi_reg(void *rma, void *base, size_t bytes, unsigned access, int file, void **region);
void haul_ofi_dereg(void *region);
int haul_ofi_offer(void *region, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes);

/* Where a read starts at the peer. */
struct haul_ofi_way {
    uint64_t address, key, bytes;
};
/* Errors: HAUL_PROTOCOL. */
int haul_ofi_way_parse(const uint8_t *way, size_t way_bytes, struct haul_ofi_way *parsed);

/* ---- peer.c --------------------------------------------------------------------------------- */

/* An exporter that is read from. The connections of one process to us share it: for libfabric they
 * are one peer, and removing an address ends what is under way with it. */
struct haul_ofi_address {
    LIST_ENTRY(haul_ofi_address) node;
    fi_addr_t number;
    unsigned references;
    unsigned posted;               /* reads from it that libfabric has */
    struct haul_ofi_read *suspect; /* has failed before, and is tried alone: no other is posted */
    size_t bytes;
    uint8_t name[]; /* as fi_getname() gave it there */
};

struct haul_ofi_peer {
    struct haul_ofi *ofi;
    struct haul_ofi_address *address;
    unsigned reads; /* not ended */
};

/* Whether the IPv4 address is that of its NIC ("0.0.0.0": of all). */
bool haul_ofi_has_address(const struct fi_info *info, const char *address);
int haul_ofi_describe(void *rma, struct haul_link *link, void *blob, size_t *bytes);
int haul_ofi_attach(void *rma, const void *blob, size_t bytes, struct haul_link *link, void **peer);
void haul_ofi_detach(void *peer);
/* Tells a new reader all addresses. */
void haul_ofi_insert_known(struct haul_ofi *ofi);

/* ---- read.c --------------------------------------------------------------------------------- */

struct haul_ofi_read {
    struct fi_context2
        context; /* libfabric's, while it is posted; first: the read is found by it */
    TAILQ_ENTRY(haul_ofi_read) node;
    struct haul_ofi_peer *peer;
    void *cookie;
    struct haul_ofi_region *region;
    uint8_t *to;
    struct haul_ofi_way from; /* of what is still to be read */
    size_t bytes;             /* in all */
    size_t piece;             /* bytes of the piece that is posted */
    int err;                  /* of an ended one */
    unsigned failures;
    uint64_t not_before_ns; /* when it is tried again after the last */
    bool fenced;            /* it has until fence_ns to end by itself */
};

int haul_ofi_read(void *peer, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                  void *region, size_t bytes, void *cookie);
void haul_ofi_fence(void *peer);
bool haul_ofi_progress(void *rma);
uint64_t haul_ofi_deadline_ns(void *rma);
/* A peer has our address, or we have one's: connections are made only while both sides look at
 * their queues. */
void haul_ofi_expect(struct haul_ofi *ofi);
/* At the end: frees the reads. */
void haul_ofi_reads_free(struct haul_ofi *ofi);

/* ---- examine.c ------------------------------------------------------------------------------ */

void haul_ofi_examine(void (*found)(const struct haul_finding *finding, void *arg), void *arg);

#endif
