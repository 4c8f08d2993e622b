/* SPDX-License-Identifier: Apache-2.0
 * The engine: the state behind the public handles. Its parts are in handles.h, inbox.h, link.h,
 * sending.h and receiving.h; docs/PATH.md follows a message through it.
 *
 * All of it is guarded by the drive lock (drive.h), except what is marked atomic. Who holds what:
 *   engine   counted by every handle made from it, so that handles stay valid after haul_close()
 *   server   by the user
 *   peer     by its users, by its messages and ops, and by the engine while it is connected
 *   link     one connection of a peer; counted by the messages and parcels that name it
 *   op       by the user, and by the engine until it has finished
 *   message  owned by its link until it is delivered, then by the user */
#ifndef HAUL_CORE_ENGINE_H
#define HAUL_CORE_ENGINE_H

#include "config.h"
#include "drive.h"
#include "error.h"
#include "level.h"
#include "log.h"
#include "pool.h"
#include "site.h"
#include "util.h"
#include "width.h"
#include "wire.h"

#include <haul/haul.h>
#include <haul/provider.h>

enum {
    HAUL_TRANSPORTS_MAX = HAUL_POOL_REGIONS_MAX,
    /* Array bytes that may be inline in a message that does not fit its prepaid credit, and in a
     * reply: the room that a call sets aside. */
    HAUL_INLINE_MAX = 64 << 10,
    /* Bytes of one DATA frame on a channel that can cut payloads: control frames pass in between.
     */
    HAUL_CHUNK_BYTES = 1 << 20,
    HAUL_READ_BYTES = 8 << 20, /* of one rma read */
    /* Prepaid bytes given to all peers together: a few large shares, then small ones. */
    HAUL_PREPAID_LARGE_SHARES = 8,
    HAUL_PREPAID_SMALL = 64 << 10,
    HAUL_PREPAID_LEAST = 4 << 10,
    HAUL_PREPAID_SMALL_SHARES = 256,
    HAUL_READ_STALL_S = 10, /* reads that do not move for this long are fenced */
    HAUL_REDIAL_FIRST_MS = 10,
    HAUL_REDIAL_LAST_MS = 1000,
    HAUL_RETIRED_LOOK_MS = 100,     /* between two looks at memory that lost peers may look at */
    HAUL_FREE_OBJECTS_MAX = 1024,   /* messages and ops that are kept for reuse */
    HAUL_FREE_BYTES_MAX = 64 << 10, /* ... unless their manifest has more memory than this */
    HAUL_MANIFESTS_MAX = 32 << 20,  /* bytes of such manifests, of a peer's unreleased messages */
};

/* Messages that wait for memory this long are worth a log line. */
#define HAUL_HELD_LOG_NS (3 * (uint64_t)HAUL_NS_PER_S)

/* A provider in use. */
struct haul_transport {
    const struct haul_provider *provider;
    char name[32]; /* "tcp"; of an rma provider with kinds: "ofi:verbs" */
    void *channel; /* its instance, or NULL */
    void *rma;
    unsigned slot;                      /* of its regions in a slab */
    char unregistered[HAUL_DETAIL_MAX]; /* why a slab could not be registered with it last */
};

struct haul_engine {
    atomic_uint references;
    struct haul_list registered;   /* in the list that the fork handler walks */
    bool inherited;                /* we are in a child of the process that made it */
    bool closing;                  /* haul_context_shutdown() has begun */
    pthread_mutex_t shutdown_lock; /* held until it has ended; taken before the drive lock */

    struct haul_options *options;
    struct haul_config config;
    struct haul_pool *pool;   /* received messages and batches: only we write it */
    struct haul_pool *offers; /* haul_dict_alloc(): peers may read it */
    struct haul_drive drive;
    bool drive_ready;
    struct haul_site site;

    struct haul_transport
        transports[HAUL_TRANSPORTS_MAX]; /* [0] is the channel; rma ones best first */
    unsigned transport_count;
    bool rma_required; /* connecting fails without a common rma provider */

    struct haul_list servers;
    struct haul_list links;
    struct haul_list lost;    /* links to disconnect at the end of the pass */
    struct haul_list peers;   /* made by haul_connect() */
    struct haul_list sending; /* links with frames that could not be sent yet */
    uint64_t next_peer_id;
    uint64_t timer_ns;              /* when run_timers() is due */
    atomic_bool pool_released;      /* pool memory came back: try placing again */
    bool pool_blocked;              /* it did not come back since a message had to wait for it */
    uint64_t pool_waiting_since_ns; /* 0: no message waits for it */
    bool pool_wait_logged;

    /* Who may send its arrays, see fetch.c. */
    struct haul_list fetching; /* messages whose turn to bring their offered bytes has not come */
    uint64_t fetch_turns;
    struct haul_width fetch_width;
    unsigned fetches;
    uint64_t fetch_bytes_left; /* of all fetches under way */
    uint64_t stall_watch_ns;   /* when to look for messages that do not move, see stall.c */
    struct haul_list reading;  /* messages with rma reads still to be issued */
    struct haul_list free_reads;
    unsigned reads;       /* under way, of all links: closing waits for them */
    unsigned parcels_out; /* in channels, of all links: likewise */

    unsigned credited_links;
    uint64_t lent_bytes; /* reserved for or held by lent frames */

    struct haul_stats stats;
    struct haul_list retired; /* given arrays that lost peers may still look at */
    struct haul_list free_ops, free_messages;
    unsigned free_op_count, free_message_count;

    size_t queued_messages;      /* in all inboxes */
    size_t finished_ops;         /* of the async calls, not collected yet */
    struct haul_level any_level; /* one of the two is not 0 */
    bool any_level_asked;        /* inboxes made from now on receive into the pool */
    struct haul_level ops_level; /* finished_ops is not 0 */
};

/* ---- engine.c: life, the pass, timers -------------------------------------------------------- */

/* Takes over the options, also on failure. */
int haul_engine_create(struct haul_options *options, struct haul_engine **engine);
/* After all links, servers and peers are closed: ends the thread, pools and transports. */
void haul_engine_shutdown(struct haul_engine *engine);
void haul_engine_retain(struct haul_engine *engine);
void haul_engine_release(struct haul_engine *engine);
/* Begins a public call: HAUL_FORKED in a child, else the drive lock is held. */
int haul_engine_enter(struct haul_engine *engine);
/* The same; HAUL_CLOSED from haul_context_shutdown() on. */
int haul_engine_enter_open(struct haul_engine *engine);
void haul_engine_leave(struct haul_engine *engine);
/* Something that a waiter or the user's descriptor may show has happened. */
static inline void haul_engine_changed(struct haul_engine *engine)
{
    engine->drive.changed = true;
}
/* The timers are due at `when_ns` at the latest. */
void haul_engine_timer(struct haul_engine *engine, uint64_t when_ns);

/* Memory that peers may read, for a user. Under the lock. Errors: see haul_block_alloc(). */
int haul_engine_alloc(struct haul_engine *engine, size_t bytes, struct haul_block **block);

/* ---- plugin.c -------------------------------------------------------------------------------- */

/* Finds and opens the providers that config.provider asks for. */
int haul_transports_open(struct haul_engine *engine);
/* Around fork(), so that the child can load plugins. */
void haul_plugins_lock(void);
void haul_plugins_unlock(void);
/* Ends the threads of providers: nothing is read any more, and no peer is attached. */
void haul_transports_stop(struct haul_engine *engine);
void haul_transports_close(struct haul_engine *engine);

/* ---- host.c ---------------------------------------------------------------------------------- */

extern const struct haul_host haul_host;

#endif
