/* SPDX-License-Identifier: Apache-2.0
 * haul/provider.h: the plugin ABI. docs/PROVIDER.md shows how to write one; providers/loop is the
 * reference to read beside it.
 *
 * A transport does up to two jobs, each with a table of its own:
 *   channel  moves ordered frames between two peers and notices when one is gone;
 *   rma      reads bytes out of memory that a peer offers.
 * Core decides what is sent, where received bytes land and who waits for what; a provider moves
 * bytes.
 *
 * Threads: every operation of both tables, except resolve and route_free, runs under the context's
 * drive lock: one at a time, never concurrently, though from changing threads. The functions of
 * struct haul_host are called under the drive lock too, except those marked "any thread".
 * Nothing may block. A provider has no undefined symbols of core: it gets a table of host
 * functions. */
#ifndef HAUL_PROVIDER_H
#define HAUL_PROVIDER_H

#include <haul/context.h>
#include <haul/stats.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Must match exactly before 1.0. */
#define HAUL_PROVIDER_ABI 7u
/* The one symbol that a plugin exports: a function of type haul_provider_entry_fn. The file is
 * named haul_<name>.so. */
#define HAUL_PROVIDER_ENTRY haul_provider_entry

struct haul_engine;   /* core's side of a context */
struct haul_link;     /* core's side of a connection */
struct haul_listener; /* core's side of a listening address */
struct haul_watch;    /* a descriptor in the context's epoll set */
struct haul_thread;   /* a thread of a provider's */

/* ---- Numbers on the wire: little-endian ------------------------------------------------------ */

static inline void haul_put_u16(uint8_t *to, uint16_t value)
{
    for (int i = 0; i < 2; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static inline void haul_put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static inline void haul_put_u64(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static inline uint16_t haul_get_u16(const uint8_t *from)
{
    return (uint16_t)(from[0] | from[1] << 8);
}

static inline uint32_t haul_get_u32(const uint8_t *from)
{
    return (uint32_t)haul_get_u16(from) | (uint32_t)haul_get_u16(from + 2) << 16;
}

static inline uint64_t haul_get_u64(const uint8_t *from)
{
    return (uint64_t)haul_get_u32(from) | (uint64_t)haul_get_u32(from + 4) << 32;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

/* Everything on a channel is a frame: a header (prefix + body; small, made by core) and a payload
 * (array bytes, may be empty). The prefix is 16 bytes, little-endian:
 *   0 u8 type | 1 u8 flags | 2 u16 zero | 4 u32 body_bytes | 8 u64 payload_bytes
 * docs/WIRE.md has the types and bodies; a channel reads nothing but the two lengths. */
enum { HAUL_PREFIX_BYTES = 16, HAUL_PREFIX_TYPE_MAX = 63 /* of its first byte, the type */ };

static inline uint32_t haul_prefix_body_bytes(const uint8_t *prefix)
{
    return haul_get_u32(prefix + 4);
}

static inline uint64_t haul_prefix_payload_bytes(const uint8_t *prefix)
{
    return haul_get_u64(prefix + 8);
}

/* ---- Addresses ------------------------------------------------------------------------------- */

/* An address as the user wrote it, taken apart by core. */
struct haul_address {
    char text[256];      /* as written, without tcp:// */
    char host[256];      /* "" or "*": all interfaces when listening, this host when connecting */
    char service[32];    /* port */
    char unix_path[108]; /* not "" : a Unix socket, and host and service are "" */
};

enum { HAUL_HOST_MAX = 64 }; /* "192.0.2.1", "fe80::1%eth0" and their zero */

/* ---- NICs ------------------------------------------------------------------------------------ */

/* One that a provider could use. */
struct haul_candidate {
    const char *name; /* of the device or interface: "mlx5_0", "eth0" */
    const char *pci;  /* "0000:41:00.0"; "" : found by the name */
    bool repeats;     /* it can be several rails: connections over it */
};

/* For thread_start(): a thread that belongs to no NIC. */
#define HAUL_NO_NIC SIZE_MAX

/* ---- What core offers a provider ------------------------------------------------------------- */

struct haul_host {
    uint32_t abi;
    uint32_t size;

    /* Any thread. */
    void (*log)(enum haul_log_level level, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
    /* Sets the calling thread's error detail and returns err: `return host->fail(HAUL_ADDRESS,
     * ...)`. */
    int (*fail)(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));
    uint64_t (*now_ns)(void); /* CLOCK_MONOTONIC */
    /* Makes the driving thread run progress() soon. Takes no lock: a provider may hold its own. */
    void (*wake)(struct haul_engine *engine);
    /* The value of a setting (the provider's own fields or core's), by its lower-case name; NULL if
     * there is none. Valid as long as the engine. */
    const char *(*setting)(struct haul_engine *engine, const char *name);

    /* Which NICs to use (rails), by the settings and by where they are, best first: fills up to max
     * indexes of candidates and returns how many; max is how many the provider can use. 0, with the
     * reason set (HAUL_PROVIDER): the settings name none of them. Called from open(); the last
     * answer counts. Memory and threads go to where the NICs are when open() has succeeded, and not
     * if it fails. */
    size_t (*choose_nics)(struct haul_engine *engine, const struct haul_candidate *candidates,
                          size_t count, size_t *chosen, size_t max);
    /* The NICs (a bit each, in the order of choose_nics()) that are near this memory of a slab; all
     * those chosen where that is not known or makes no difference. It asks the kernel: once for a
     * slab, from reg(), and not for each read. */
    unsigned (*near_nics)(struct haul_engine *engine, const void *memory);

    /* A thread of the provider's own: named, all signals blocked, on CPUs near the nic-th NIC that
     * choose_nics() gave, as far as the settings and the system allow; with HAUL_NO_NIC where the
     * calling thread may run. Errors: HAUL_SYSTEM, HAUL_NO_MEMORY. */
    int (*thread_start)(struct haul_engine *engine, size_t nic, void (*run)(void *arg), void *arg,
                        struct haul_thread **thread);
    /* Waits for its end, which run() has been told of, and frees it. Any thread. */
    void (*thread_join)(struct haul_thread *thread);

    /* Descriptors, level-triggered. `ready` runs under the drive lock with epoll's event bits.
     * After unwatch() it is not called any more. Errors: HAUL_NO_MEMORY, HAUL_SYSTEM with errno. */
    int (*watch)(struct haul_engine *engine, int fd, uint32_t events,
                 void (*ready)(void *arg, uint32_t events), void *arg, struct haul_watch **watch);
    int (*watch_change)(struct haul_watch *watch, uint32_t events);
    void (*unwatch)(struct haul_watch *watch);

    /* Connections. A conn lives until core calls disconnect(); core never does so from inside one
     * of the callbacks below for the same conn. */
    /* A new connection on a listener: makes its link, or returns NULL (close it yourself: the
     * server is closing or out of memory). `address` is copied. */
    struct haul_link *(*accepted)(struct haul_listener *listener, void *conn, const char *address);
    /* A connect() has succeeded: frames may be sent. */
    void (*connected)(struct haul_link *link);
    /* The connection failed or ended: nothing more is delivered and sends are dropped; the payloads
     * still borrowed come back with sent() or at disconnect(). err: HAUL_UNREACHABLE before
     * connected(), else HAUL_PEER_LOST; `why` is a sentence part ("connection reset by peer"). */
    void (*lost)(struct haul_link *link, int err, const char *why);

    /* Receiving. A non-zero return: core gives the connection up; deliver nothing more on it (core
     * will call disconnect). */
    /* Optional, before a body is buffered: whether a frame with this prefix may come at all. Of a
     * first byte above HAUL_PREFIX_TYPE_MAX the rest need not have come; zeros stand for it. */
    int (*check)(struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES]);
    /* A whole header, prefix included, is here; `header` is the provider's. If payload_bytes > 0
     * the payload follows by target()/received() or by lend(); else the frame is complete. */
    int (*frame)(struct haul_link *link, const void *header, size_t header_bytes);
    /* Where the next payload bytes belong: fills up to max (> 0) segments, returns how many, at
     * least one. Ask anew before each read: the place may change between two of them. */
    size_t (*target)(struct haul_link *link, struct iovec *segments, size_t max);
    /* n payload bytes were written, in the order target() named. */
    int (*received)(struct haul_link *link, size_t n);
    /* Channels that own their receive memory (HAUL_CHANNEL_PARTS): the next part of the payload.
     * Core calls give_back(token) exactly once, maybe before lend() returns. */
    int (*lend)(struct haul_link *link, void *data, size_t bytes, void *token);

    /* Sending. The payload that was sent with this cookie is not needed any more. May be called
     * from inside send(). */
    void (*sent)(struct haul_link *link, void *cookie);
    /* A send() that answered HAUL_BUSY may be tried again. */
    void (*writable)(struct haul_link *link);

    /* Our end of the connection, numeric and without port, or "" if it is not known. Returns host.
     */
    const char *(*link_host)(struct haul_link *link, char host[HAUL_HOST_MAX]);

    /* rma: a read has ended: 0, or why it failed. Exactly once per read(); the memory is not
     * touched any more. May be called from inside read(). HAUL_CLOSED: the other process has ended,
     * which its connection will tell, too: nothing is wrong with the path. */
    void (*read_done)(void *cookie, int err);
};

/* ---- channel --------------------------------------------------------------------------------- */

enum {
    /* The parts of a payload stay apart (one per array), and each arrives in memory of the
     * channel's own, handed over with lend(). */
    HAUL_CHANNEL_PARTS = 1,
    /* Clients that do not speak haul's handshake may send bare messages and get bare replies. */
    HAUL_CHANNEL_PLAIN = 2,
    /* progress() looks where the next event is likely, so that a driver that spins asks the
     * descriptors only now and then. */
    HAUL_CHANNEL_LOOKS = 4,
    /* Each message passes threads of its own: a driver spins only where there are CPUs for them
     * too (four). */
    HAUL_CHANNEL_THREADS = 8,
};

/* What recall() could do. */
enum haul_recall {
    HAUL_RECALL_NOT,     /* nothing: sent() will come */
    HAUL_RECALL_COPIED,  /* some of the frame had left: the rest was copied, the receiver gets it
                            whole */
    HAUL_RECALL_DROPPED, /* nothing of it had left: the receiver will never hear of the frame */
};

struct haul_channel_ops {
    uint32_t flags; /* HAUL_CHANNEL_* */

    /* One instance per context. */
    int (*open)(struct haul_engine *engine, void **channel);
    /* After all listeners and conns are gone and the last lent part was given back. */
    void (*close)(void *channel);

    /* Looks an address up; any thread, not under the drive lock, may block on the name service. The
     * route is freed with route_free when its server or peer ends. Errors: HAUL_ADDRESS. */
    int (*resolve)(void *channel, const struct haul_address *address, bool listening, void **route);
    void (*route_free)(void *route);

    /* Listens; writes the address for clients, with the real port, to `bound`. Errors:
     * HAUL_ADDRESS. */
    int (*listen)(void *channel, void *route, struct haul_listener *listener, void **handle,
                  char *bound, size_t bound_size);
    void (*unlisten)(void *handle);

    /* Starts a connection; connected() or lost() follow, not before it returns. One try: core
     * redials. */
    int (*connect)(void *channel, void *route, struct haul_link *link, void **conn);
    /* Ends the connection and frees conn; borrowed payloads come back with sent() before it
     * returns, or later where a library holds them (link stays valid for sent() until then). flush:
     * a last frame may be on its way out: try for up to a second, in the background, to deliver it.
     */
    void (*disconnect)(void *conn, bool flush);

    /* Queues a frame. The header is copied. The payload segments (the array `payload` and the
     * memory they name) are borrowed until sent(cookie); a frame without payload has no sent().
     * With HAUL_CHANNEL_PARTS each segment is a part. Returns 0, or HAUL_BUSY (only for frames with
     * payload: one is queued already; nothing was taken, writable() follows). A send on a
     * connection that has ended is taken and dropped: lost() follows, sent() too. Empty segments
     * are never passed. */
    int (*send)(void *conn, const void *header, size_t header_bytes, const struct iovec *payload,
                size_t payload_count, void *cookie);
    /* Asks for the payload sent with this cookie back. Unless the answer is HAUL_RECALL_NOT, its
     * memory is not read any more and sent() will not be called. */
    enum haul_recall (*recall)(void *conn, void *cookie);

    /* lend()'s token comes back. */
    void (*give_back)(void *channel, void *token);

    /* Optional (NULL): our end of a connection as a numeric address without port, for rma providers
     * that listen on all interfaces. Unix sockets: 127.0.0.1. Returns host, "" if it is not known.
     */
    const char *(*host)(void *conn, char host[HAUL_HOST_MAX]);

    /* Optional (NULL): work that no watched descriptor announces. Returns whether it did anything.
     * Called in each pass and before each sleep; while core spins, several times between two looks
     * at the descriptors: a place to look where the next event is likely. */
    bool (*progress)(void *channel);
    /* Optional (NULL): when progress() must run at the latest (now_ns), UINT64_MAX for no such
     * time. */
    uint64_t (*deadline_ns)(void *channel);
};

/* ---- rma ------------------------------------------------------------------------------------- */

enum { HAUL_RMA_ADDRESS_MAX = 1024, HAUL_RMA_WAY_MAX = 128, HAUL_RMA_KIND_MAX = 24 };

enum haul_rma_access {
    HAUL_RMA_LAND = 1,  /* our reads write into it */
    HAUL_RMA_OFFER = 2, /* peers may read it */
};

enum {
    /* Slabs that peers may read are memory files, where a descriptor is left, sealed so that they
     * neither shrink nor lose pages, and that nobody else can write: reg() gets the descriptor. */
    HAUL_RMA_FILES = 1,
    /* reg() costs next to nothing: small arrays are worth it too. */
    HAUL_RMA_CHEAP_REG = 2,
};

struct haul_rma_ops {
    uint32_t flags; /* HAUL_RMA_* */

    /* Optional (NULL): a provider of several kinds of path names those that work here, best first:
     * writes the index-th ("verbs"). automatic: only those that are better than any channel.
     * HAUL_PROVIDER=<provider>:<kind> asks for one by name. Errors: HAUL_UNSUPPORTED, without a
     * sentence, after the last; HAUL_CONFIG: a setting of its own makes no sense. */
    int (*kind)(struct haul_engine *engine, unsigned index, bool automatic,
                char kind[HAUL_RMA_KIND_MAX]);
    /* One instance per context and kind; kind is "" where there are none. */
    int (*open)(struct haul_engine *engine, const char *kind, void **rma);
    /* Optional (NULL): the context is closed and no peer is attached. Threads of the provider end
     * here, because close() may be long in coming: it follows the last dereg() of memory that the
     * user still holds. */
    void (*stop)(void *rma);
    void (*close)(void *rma);

    /* What the peer behind the link needs to attach to us; *bytes in: room, out: used. */
    int (*address)(void *rma, struct haul_link *link, void *blob, size_t *bytes);
    /* Makes a peer's memory reachable. Errors: HAUL_UNSUPPORTED with the reason. */
    int (*attach)(void *rma, const void *blob, size_t bytes, struct haul_link *link, void **peer);
    /* All its reads have ended (fence() first where they have not). */
    void (*detach)(void *peer);
    /* Optional (NULL): the link was lost, whether or not there was an attach() for it; nothing more
     * will be heard of what its peer does with memory of ours. Before that memory is anybody's
     * again; detach() may come later. */
    void (*lost)(void *rma, struct haul_link *link);

    /* Registers memory, once for a slab and not per message. access: enum haul_rma_access bits.
     * file: with HAUL_RMA_FILES and HAUL_RMA_OFFER, of a slab: the file that it is all of, which
     * stays open until dereg(); else (or where no descriptor was left) -1. */
    int (*reg)(void *rma, void *base, size_t bytes, unsigned access, int file, void **region);
    void (*dereg)(void *region);

    /* Writes what a peer needs to read [start, start + bytes) of a region; *way_bytes in: room. */
    int (*offer)(void *region, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes);
    /* Optional (NULL: it does): whether the peer reads memory that is in no slab. If not, what is
     * to be offered is copied into one. */
    bool (*reads_all)(void *peer);

    /* Starts to read `bytes` from `offset` of what `way` offers to `to`, which lies in `region`.
     * read_done(cookie) follows. Returns 0 or HAUL_BUSY (try after progress). */
    int (*read)(void *peer, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                void *region, size_t bytes, void *cookie);
    /* Ends the peer's reads that may never complete: read_done() comes for each, now or soon, and
     * not before its memory can no longer be written; with HAUL_CANCELLED for those that it cut
     * short. */
    void (*fence)(void *peer);

    /* Optional (both or neither): looks at offered memory in place, read-only, until unmap. */
    int (*map)(void *peer, const uint8_t *way, size_t way_bytes, size_t bytes, const void **data,
               void **mapping);
    void (*unmap)(void *mapping);
    /* Whether a peer may still look at bytes of ours, of whose connection nothing more will be
     * heard: core does not use them anew until it may not. link: by which they were offered; it may
     * be gone, and is to be compared only. unmapping: whether the peer would even lose them if they
     * were taken out of our address space. Optional where there is no map. */
    bool (*viewed)(void *region, const void *start, size_t bytes, const void *link, bool unmapping);

    /* Optional (NULL): as for the channel; software rma also serves the reads of its peers here. */
    bool (*progress)(void *rma);
    uint64_t (*deadline_ns)(void *rma);

    /* Optional (NULL): what each rail (a NIC of several) has read so far; fills up to max and
     * returns how many there are. */
    size_t (*rails)(void *rma, struct haul_rail_stats *rails, size_t max);
};

/* ---- The descriptor -------------------------------------------------------------------------- */

/* A provider's own setting: HAUL_<NAME> in the environment. */
struct haul_provider_field {
    const char *name; /* "zmq_io_threads" */
    const char *default_value;
    const char *help; /* "Most bytes of ...; 0: no limit." : a sentence for docs/CONFIG.md */
};

struct haul_provider {
    uint32_t abi;                             /* HAUL_PROVIDER_ABI */
    uint32_t size;                            /* sizeof(struct haul_provider) */
    const char *name;                         /* "tcp" */
    const char *description;                  /* one line, with the library's version */
    const struct haul_channel_ops *channel;   /* NULL if it has none */
    const struct haul_rma_ops *rma;           /* NULL if it has none */
    const struct haul_provider_field *fields; /* ends with a NULL name; may be NULL */
    /* Optional (NULL): what there is on this machine for it, for people (`haul doctor`): calls
     * found() for each thing, with text that is its own. Any thread, without a context and under no
     * drive lock; never twice at once. It may block, and leaves nothing open. */
    void (*examine)(void (*found)(const struct haul_finding *finding, void *arg), void *arg);
};

/* Returns the descriptor, or NULL with host->fail() when it cannot work here (its library is of a
 * version it cannot use). Called once per process; `host` stays valid for ever. */
typedef const struct haul_provider *haul_provider_entry_fn(const struct haul_host *host);

#ifdef __cplusplus
}
#endif
#endif
