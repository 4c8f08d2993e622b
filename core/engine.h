/* SPDX-License-Identifier: Apache-2.0
 * The engine: the state behind the public handles. docs/PATH.md follows a message through it.
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
    HAUL_RETIRED_LOOK_MS = 100,        /* between two looks at memory that lost peers may look at */
    HAUL_FETCH_STALL_BYTES = 64 << 10, /* a fetch that brings less than this ... */
    HAUL_FETCH_STALL_S = 5,            /* ... in this time gives up its turn */
    HAUL_FREE_OBJECTS_MAX = 1024,      /* messages and ops that are kept for reuse */
    HAUL_FREE_BYTES_MAX = 64 << 10,    /* ... unless their manifest has more memory than this */
    HAUL_MANIFESTS_MAX = 32 << 20, /* bytes of such manifests, of a peer's unreleased messages */
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
    uint64_t fetch_watch_ns;   /* when to look for fetches that do not move */
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

/* Where the received messages of a server, or of a peer made by haul_connect(), go. */
enum haul_placement {
    HAUL_PLACE_UNDECIDED, /* nobody has received yet: nothing large is fetched */
    HAUL_PLACE_POOL,
    HAUL_PLACE_NAMED, /* into destinations: nothing large is fetched while there is none */
};

struct haul_inbox {
    struct haul_engine *engine;
    struct haul_list messages;     /* delivered, not received by the user */
    struct haul_list destinations; /* posted, with rows free or being filled */
    struct haul_list unplaced;     /* offered messages that wait for a destination */
    enum haul_placement placement;
    bool placing; /* haul_place_inbox() runs: what it does may lead to it again */
    bool closed;
    struct haul_level level; /* a message waits to be received, or it is closed */
};

/* Memory named to a receive: `rows` rows of arrays. A destination dict is one of 1 row. */
struct haul_destination {
    struct haul_list node; /* in the inbox; linked to itself when not posted */
    struct haul_inbox *inbox;
    const struct haul_array *row; /* array_count arrays: the type of a row, data: row 0 */
    size_t array_count;
    struct haul_block *block; /* where the arrays lie, NULL: the user's memory */
    size_t rows;
    struct haul_message **message; /* per row, NULL: free */
    size_t claimed, whole;
};

struct haul_server {
    unsigned references; /* of the user, of calls that wait in it and of posted batches */
    struct haul_engine *engine;
    struct haul_list node;
    struct haul_inbox inbox;
    struct haul_listener *listener;
    struct haul_transport *transport;
    void *route, *handle;
    char address[256];
};

/* What accepted() gets. */
struct haul_listener {
    struct haul_server *server; /* NULL: closed */
};

struct haul_peer {
    atomic_uint references;
    struct haul_engine *engine;
    struct haul_list node; /* in engine->peers, if made by haul_connect() */
    uint64_t id;
    char address[256];
    atomic_uint users;      /* references of users: the last one ends a peer that dials */
    struct haul_link *link; /* the present connection, or NULL */
    struct haul_stats stats;
    char path[64];
    char why[HAUL_WIRE_SENTENCE_MAX + 1];
    /* Only for peers made by haul_connect() */
    bool dials;
    bool closed; /* no redial */
    void *route;
    struct haul_inbox inbox;
    struct haul_list waiting; /* ops that wait for a connection */
    uint64_t redial_at_ns;
    uint64_t redial_pause_ns;
    int last_err;
    char last_why[HAUL_DETAIL_MAX];
};

enum haul_link_state {
    HAUL_LINK_DIALING,  /* connect() was called */
    HAUL_LINK_GREETING, /* connected; HELLO or WELCOME is awaited */
    HAUL_LINK_OPEN,
    HAUL_LINK_PLAIN, /* a client without handshake: bare messages and replies */
    HAUL_LINK_LOST,  /* no traffic; disconnected at the end of the pass */
};

/* One frame's payload on its way through a channel: the cookie of send(). */
struct haul_parcel {
    struct haul_op *op;
    bool in_channel;
};

struct haul_link {
    unsigned references;
    struct haul_engine *engine;
    struct haul_list node;
    struct haul_peer *peer;
    struct haul_server *server; /* that accepted it, or NULL */
    struct haul_inbox *inbox;   /* of the server or the peer */
    struct haul_transport *transport;
    void *conn;
    enum haul_link_state state;
    uint64_t since_ns;   /* of the state */
    bool flush;          /* when disconnected: a BYE is on its way */
    uint64_t nonce;      /* ours, random: peers read it by rma, see reads.c */
    uint64_t peer_nonce; /* theirs */

    /* Sending */
    uint64_t next_seq;
    uint64_t message_max;                   /* of the other side */
    uint64_t window_messages;               /* that it takes from us unreleased */
    uint64_t credit_messages, credit_bytes; /* given to us, since the start */
    uint64_t used_messages, used_bytes;     /* of those */
    struct haul_list waiting;               /* ops not announced yet */
    struct haul_list open;                  /* announced, not finished */
    struct haul_list transmitting;          /* open ops with DATA to send */
    struct haul_list kept;         /* finished ops whose given arrays are in the peer's use */
    struct haul_list sending_node; /* in engine->sending */
    bool channel_busy;
    bool pumping; /* the channel may call writable() and sent() from inside send() */

    /* Receiving */
    uint64_t last_seq;
    struct haul_message
        *receiving;        /* whose payload comes on the channel; NULL: it is thrown away */
    bool receiving_stream; /* its offered bytes (DATA), else its inline bytes */
    uint64_t payload_left;
    bool credited;                            /* counts in engine->credited_links */
    uint64_t granted_messages, granted_bytes; /* told to the peer, since the start */
    uint64_t done_messages, done_bytes;       /* released or refused */
    uint64_t taken_messages, taken_bytes;     /* arrived on credit */
    uint64_t used_all_since_ns;               /* 0: it has message credits left */
    bool used_all_logged;
    size_t manifest_bytes;    /* of large manifests, of its messages that are not freed */
    struct haul_list inbound; /* messages not delivered, in manifest order */
    struct haul_list replies; /* messages that answer our calls, not whole yet */

    /* Liveness */
    uint64_t heard_ns;
    bool asked; /* a PING is unanswered */

    /* rma */
    struct haul_transport *rma;
    void *rma_peer;
    unsigned reads;           /* under way */
    uint64_t reads_moved_ns;  /* when one was issued or ended last */
    bool rma_failed;          /* reads failed: the channel is used from now on */
    bool took_back;           /* the last fence was for memory: no fault of the path */
    uint64_t last_turn;       /* when a fetch of it was last started, in engine->fetch_turns */
    bool choosing;            /* among rma providers */
    bool probing;             /* the read that proves the one chosen is under way */
    struct haul_block *lease; /* holds our nonce as long as the connection lives */
    uint8_t probe[HAUL_RMA_WAY_MAX]; /* the way to theirs */
    uint8_t probe_bytes;
};

enum haul_op_kind { HAUL_OP_SEND, HAUL_OP_CALL, HAUL_OP_REPLY };
enum haul_op_state { HAUL_OP_WAITING, HAUL_OP_OPEN, HAUL_OP_ENDING, HAUL_OP_FINISHED };

struct haul_op {
    atomic_uint references;
    struct haul_engine *engine;
    struct haul_list node; /* in link->waiting, link->open, peer->waiting or engine->free_ops */
    struct haul_list transmit_node; /* in link->transmitting */
    struct haul_peer *peer;
    struct haul_link *link; /* NULL: not connected yet */
    struct haul_dict *dict;
    struct haul_list given; /* dict entries that were given with it */
    enum haul_op_kind kind;
    enum haul_op_state state;
    bool collected; /* its end does not make the user's descriptor readable (any more) */
    int result;     /* of FINISHED; when ENDING what it will be */
    char detail[HAUL_DETAIL_MAX];
    uint64_t seq;
    struct haul_manifest manifest;    /* arrays point to the dict's keys, shapes and bytes */
    struct haul_dict_entry **entries; /* of manifest.arrays, as many: of the dict and given ones */
    struct haul_message *reply;
    bool waits_for_credit;
    bool gives;       /* arrays that the peer may look at in place until its RELEASE */
    bool released;    /* the RELEASE is here */
    bool offered_rma; /* a peer may be reading the arrays by itself */
    bool cancelling;  /* of these: the end waits for the peer's ACK */
    void **regions;   /* of the user's memory, registered for this op */
    size_t region_count, region_capacity;

    uint8_t *header;
    size_t header_capacity;
    struct iovec *segments; /* of the announcement, then of a chunk: segment_capacity each */
    size_t segment_capacity;
    struct haul_parcel announcement, chunk;
    uint32_t transfer; /* the FETCH being answered */
    uint64_t send_offset, send_end;
    unsigned restarts; /* fetches of what was asked for before */
};

enum haul_message_state {
    HAUL_MESSAGE_PLACING, /* its manifest is here, memory for its offered bytes is not */
    HAUL_MESSAGE_FETCHING,
    HAUL_MESSAGE_WHOLE,     /* waits for its turn to be delivered */
    HAUL_MESSAGE_DELIVERED, /* in an inbox, a row or with the user */
    HAUL_MESSAGE_DROPPED,   /* freed when its reads have ended */
};

struct haul_message {
    struct haul_engine *engine;
    struct haul_link *link;
    struct haul_peer *peer;
    struct haul_list node; /* in link->inbound, link->replies, an inbox or engine->free_messages */
    struct haul_list place_node; /* in inbox->unplaced, engine->fetching or engine->reading */
    struct haul_manifest manifest;
    enum haul_message_state state;
    size_t manifest_bytes; /* that it counts in link->manifest_bytes */
    bool on_credit;        /* its message credit goes back when it is done */
    bool answered;         /* the sender's op ended, by ACK or reply */
    bool fetch_active;     /* counts in engine->fetches */
    bool pool_wait_counted, waits_for_pool;
    struct haul_op *call; /* that it answers */

    struct haul_block *inline_block, *offered_block;
    struct haul_block **copies; /* of lent parts that are not aligned for their type */
    size_t copy_count, copy_capacity;
    struct haul_destination *destination;
    size_t row;
    unsigned evictions; /* from a row, when it had begun to come */
    void **mappings;    /* of given arrays that are looked at in place */
    size_t mapping_count, mapping_capacity;
    bool release_due; /* the sender waits for RELEASE */
    void **lent;      /* tokens of frames that the channel lent us */
    size_t lent_count, lent_capacity;
    uint64_t lent_bytes; /* that it counts in engine->lent_bytes */

    /* Bytes here, in manifest order, of each stream; the place of the next one is the cursor. */
    uint64_t inline_received, stream_received;
    struct haul_cursor {
        uint32_t index;  /* of the array */
        uint64_t offset; /* in it */
    } inline_cursor, stream_cursor;
    uint64_t fetch_moved_ns; /* when it was started, or has moved by HAUL_FETCH_STALL_BYTES, last */
    uint64_t fetch_moved;    /* bytes since then */
    bool stalled;            /* its sender let a turn pass: those that did not go first */
    /* What was asked for on the channel: DATA must be of this transfer and go on at fetch_next. */
    uint32_t transfer;
    uint64_t fetch_next, fetch_end;
    bool uses_rma;    /* arrays with a way are read by it: decided when the fetch starts */
    bool needs_proof; /* some bytes were read or mapped by rma */
    bool proving;     /* the read is under way that proves them */
    bool proven;      /* the sender had not given the memory up when the last of them had come */
    unsigned reads;   /* rma reads under way */
    struct haul_cursor read_cursor;
    bool reads_failed; /* when the others have ended it is fetched anew... */
    bool path_failed;  /* ... on the channel: not because memory was taken back */
    bool cancelled;    /* by its sender, while reads are under way */
};

/* ---- engine.c: life, the pass, timers ----------------------------------------------------------
 */

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

/* ---- plugin.c ----------------------------------------------------------------------------------
 */

/* Finds and opens the providers that config.provider asks for. */
int haul_transports_open(struct haul_engine *engine);
/* Around fork(), so that the child can load plugins. */
void haul_plugins_lock(void);
void haul_plugins_unlock(void);
void haul_transports_close(struct haul_engine *engine);

/* ---- host.c ------------------------------------------------------------------------------------
 */

extern const struct haul_host haul_host;

/* ---- link.c: connections -----------------------------------------------------------------------
 */

struct haul_link *haul_link_create(struct haul_engine *engine, struct haul_peer *peer,
                                   struct haul_inbox *inbox);
void haul_link_retain(struct haul_link *link);
void haul_link_release(struct haul_link *link);
/* Starts one try to connect. */
void haul_link_dial(struct haul_peer *peer);
/* Gives a connection up: its ops fail with err, its half-received messages go. The conn is
 * disconnected at the end of the pass, or at once by haul_links_reap(). */
void haul_link_lose(struct haul_link *link, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same after telling the other side why. */
void haul_link_bye(struct haul_link *link, int err, const char *sentence);
void haul_links_reap(struct haul_engine *engine);
static inline bool haul_link_is_open(const struct haul_link *link)
{
    return link->state == HAUL_LINK_OPEN || link->state == HAUL_LINK_PLAIN;
}
/* Whether arrays that come with a way are read by rma. */
bool haul_link_reads(const struct haul_link *link);
/* Sends a frame without payload. */
void haul_link_control(struct haul_link *link, const struct haul_wire_control *control);
void haul_link_heartbeat(struct haul_link *link, uint64_t now_ns, uint64_t *next_ns);
/* Whether a frame may come; dispatches a frame's header. See struct haul_host. */
int haul_link_check(struct haul_link *link, const uint8_t *prefix);
int haul_link_frame(struct haul_link *link, const uint8_t *header, size_t header_bytes);
/* The handshake is over: ops that waited for the connection go. */
void haul_link_opened(struct haul_link *link);

/* ---- handshake.c -------------------------------------------------------------------------------
 */

int haul_handshake_start(struct haul_link *link);
/* The connection has ended, and with it what peers may do with what they read of it. */
void haul_handshake_end_lease(struct haul_link *link);
int haul_handshake_frame(struct haul_link *link, const uint8_t *header, size_t header_bytes);
/* The read that proves the rma path has ended. */
void haul_handshake_probed(struct haul_link *link, int err);
/* Lets go of the rma path; its reads have ended. */
void haul_handshake_undo(struct haul_link *link);

/* ---- credit.c ----------------------------------------------------------------------------------
 */

/* The first credits of a connection. */
void haul_credit_open(struct haul_link *link);
void haul_credit_close(struct haul_link *link);
/* A message arrived on credit; HAUL_PROTOCOL if the peer had none. */
int haul_credit_take(struct haul_link *link, struct haul_message *message);
/* It is released or refused: gives the credit back, and tells the peer when that is worth a frame.
 */
void haul_credit_return(struct haul_message *message);
/* Tells the peer what it has, if that is worth a frame. */
void haul_credit_pay(struct haul_link *link);
/* Warns once when the user has kept all that the peer may send for long; lowers *next_ns to when to
 * look again. */
void haul_credit_watch(struct haul_link *link, uint64_t now_ns, uint64_t *next_ns);

/* ---- op.c: the life of an op -------------------------------------------------------------------
 */

/* A new op with a reference for the caller and one for the engine; takes the dict's given arrays.
 */
int haul_op_create(struct haul_peer *peer, struct haul_dict *dict, enum haul_op_kind kind,
                   struct haul_op **op);
void haul_op_unreference(struct haul_op *op);
/* Its given arrays are not in the peer's use any more: back to the pool. */
void haul_op_free_given(struct haul_op *op);
/* The same when its connection is lost: as soon as the peer does not look at them any more. */
void haul_op_retire_given(struct haul_op *op, const struct haul_link *link);
/* Gives those back that nobody looks at any more. unmapping: all that may leave our address space.
 */
void haul_retired_sweep(struct haul_engine *engine, bool unmapping);
/* Frees one of engine->free_ops. */
void haul_op_destroy(struct haul_op *op);
/* Ends it, now or when the channel has given its arrays back. The first call decides the result. */
void haul_op_end(struct haul_op *op, int err, const char *detail);
/* The channel gave a parcel back. */
void haul_op_sent(struct haul_parcel *parcel);
/* Waits for an op of a blocking call; cancels it when the wait ends early. Releases it. */
int haul_op_complete(struct haul_op *op, int64_t timeout_ns, struct haul_message **reply);

/* ---- plan.c: inline or offered -----------------------------------------------------------------
 */

/* Decides for each array of op->manifest, by size, credit and the path. */
void haul_plan(struct haul_op *op);
/* Takes back what the plan registered. */
void haul_plan_undo(struct haul_op *op);

/* ---- transmit.c: the sender's side -------------------------------------------------------------
 */

/* Queues a new op on its peer's connection, or until there is one. */
void haul_transmit_start(struct haul_op *op);
/* A frame's payload goes to the channel, and comes back from it; meanwhile the link stays. */
void haul_parcel_leave(struct haul_parcel *parcel, struct haul_link *link);
void haul_parcel_return(struct haul_parcel *parcel, struct haul_link *link);
/* Sends what may be sent now, up to a budget. Returns whether there is more that could be. */
bool haul_transmit_pump(struct haul_link *link);
int haul_transmit_fetch(struct haul_link *link, const struct haul_wire_control *fetch);
void haul_transmit_ack(struct haul_link *link, const struct haul_wire_control *ack);
void haul_transmit_cancel(struct haul_op *op, int err, const char *detail);
/* The receiver will never hear of this op: its credit is ours again. */
void haul_transmit_unannounce(struct haul_op *op);
/* The peer does not look at what this message gave it any more. */
void haul_transmit_release(struct haul_link *link, uint64_t seq);
struct haul_op *haul_transmit_find(struct haul_link *link, uint64_t seq);

/* ---- inbound.c: the receiver's side ------------------------------------------------------------
 */

int haul_inbound_manifest(struct haul_link *link, const uint8_t *header, size_t header_bytes);
int haul_inbound_data(struct haul_link *link, const struct haul_wire_control *data);
void haul_inbound_cancel(struct haul_link *link, uint64_t seq);
size_t haul_inbound_target(struct haul_link *link, struct iovec *segments, size_t max);
int haul_inbound_received(struct haul_link *link, size_t n);
int haul_inbound_lend(struct haul_link *link, void *data, size_t bytes, void *token);
/* Ends the sender's op: with success, if it waits for that; or because no reply will come. Once. */
void haul_inbound_acknowledge(struct haul_message *message);
void haul_inbound_no_reply(struct haul_message *message);
/* Tells the sender that its given arrays are its own again. Once. */
void haul_inbound_release_given(struct haul_message *message);
/* Its manifest does not count in what its peer has us hold any more. */
void haul_inbound_discount_manifest(struct haul_message *message);
/* All its bytes may be here: completes and delivers. */
void haul_inbound_progress(struct haul_message *message);
/* Answers the sender with an error and drops it. */
void haul_inbound_refuse(struct haul_message *message, int err, const char *detail);
void haul_inbound_drop(struct haul_message *message);

/* ---- inbox.c: messages that wait to be received
 * -------------------------------------------------- */

void haul_inbox_init(struct haul_engine *engine, struct haul_inbox *inbox);
void haul_inbox_append(struct haul_inbox *inbox, struct haul_message *message);
/* Waits for the next message; under the lock. Errors: HAUL_TIMEOUT, HAUL_INTERRUPTED, HAUL_CLOSED.
 */
int haul_inbox_receive(struct haul_inbox *inbox, int64_t timeout_ns, struct haul_message **message);
/* Takes the first of its messages, which there must be. */
struct haul_message *haul_inbox_pop(struct haul_inbox *inbox);
/* The user's descriptor of an inbox, or a negative error. Takes the lock. */
int haul_inbox_fd(struct haul_inbox *inbox);
/* Its user waits at a descriptor: large messages must come for it to be readable. They come to the
 * pool, unless a receive has said otherwise. */
void haul_inbox_watched(struct haul_inbox *inbox);
/* Drops what nobody will receive any more. */
void haul_inbox_close(struct haul_inbox *inbox);

/* ---- message.c ---------------------------------------------------------------------------------
 */

struct haul_message *haul_message_create(struct haul_link *link);
/* Gives memory, credit and references back; under the lock. */
void haul_message_free(struct haul_message *message);
/* The one way to another state: what the user holds (DELIVERED) is counted. */
void haul_message_set_state(struct haul_message *message, enum haul_message_state state);
/* Frames that the channel lent go back to it. */
void haul_message_give_back(struct haul_message *message);
/* Frees one of engine->free_messages. */
void haul_message_destroy(struct haul_message *message);

/* ---- placement.c: where received bytes land ----------------------------------------------------
 */

/* Finds a place for a new message: a posted destination, else the pool: now for its inline bytes,
 * when there is memory for the offered ones. */
void haul_place_message(struct haul_message *message);
/* Mapped arrays are to be fetched, as if there had been no way to look at them. */
void haul_place_unmap(struct haul_message *message);
/* Gives the memory of its offered bytes back: it is to be fetched anew, whole. Not for lent frames,
 * rows and mapped arrays, which stay. */
void haul_place_forget_offered(struct haul_message *message);
/* Pool memory for its inline bytes, promised with the credit. Errors: HAUL_NO_MEMORY. */
int haul_place_inline(struct haul_message *message);
/* Copies a lent part that is not aligned for its type. */
int haul_place_copy(struct haul_message *message, struct haul_array *array, const void *data);
/* Takes memory for its offered bytes, if it has none. HAUL_NO_MEMORY: not now; other errors: never.
 */
int haul_place_offered(struct haul_message *message);
bool haul_place_has_memory(const struct haul_message *message);
/* Notes that it has to wait for memory, unless a destination takes it. */
void haul_place_wait(struct haul_message *message);
/* Looks again at those that a destination may take: they wait for one, or for their turn. */
void haul_place_inbox(struct haul_inbox *inbox);
/* Takes the inbox's receive kind from a receive call. */
void haul_place_by(struct haul_inbox *inbox, enum haul_placement placement);
/* ---- destination.c: memory that receives name --------------------------------------------------
 */

/* The posted destination that a message may go to now, or NULL. */
struct haul_destination *haul_destination_for(const struct haul_message *message);
/* Gives it a row there, or refuses it. */
void haul_destination_claim(struct haul_destination *destination, struct haul_message *message);
void haul_destination_post(struct haul_inbox *inbox, struct haul_destination *destination);
/* Ends a filling: its incomplete messages are fetched anew, to other destinations or the pool, so
 * that the next receive finds them however short its wait is. After it no byte is written. */
void haul_destination_withdraw(struct haul_destination *destination);
/* Copies messages that were delivered to the inbox into posted rows. One that does not fit is
 * refused. */
void haul_destination_fill(struct haul_inbox *inbox);
/* A row's message is whole. */
void haul_destination_filled(struct haul_message *message);
/* A row's message was lost: the row is free again. */
void haul_destination_vacate(struct haul_message *message);

/* ---- fetch.c: who may send its arrays, and by which way ----------------------------------------
 */

/* Its offered bytes may come when it is its turn. */
void haul_fetch_queue(struct haul_message *message);
/* Starts those whose turn it is. Returns whether one started. */
bool haul_fetch_schedule(struct haul_engine *engine);
/* A fetch has ended, well or not. */
void haul_fetch_end(struct haul_message *message);
/* Bytes of a fetch arrived. */
void haul_fetch_received(struct haul_message *message, uint64_t bytes);
/* Counts offered bytes that are here, by whatever way. */
void haul_fetch_brought(struct haul_message *message, uint64_t bytes);
/* Nothing of its stream counts as received: it waits for a turn again. */
void haul_fetch_put_back(struct haul_message *message);
/* Takes the turn from fetches that do not move while others wait. A timer, which sets itself while
 * they do. */
void haul_fetch_watch(struct haul_engine *engine, uint64_t now_ns);
/* The array at a cursor's place: skips those that are not in the stream or at their end. */
struct haul_manifest_array *haul_cursor_array(struct haul_manifest *manifest,
                                              struct haul_cursor *cursor, bool offered);

/* ---- reads.c: by rma ---------------------------------------------------------------------------
 */

/* Whether an array is read by rma. */
bool haul_reads_array(const struct haul_message *message, const struct haul_manifest_array *item);
/* Issues what can be issued now, of a message or of all in rotation. Returns whether any was. The
 * caller of the first holds the message with a read of its own: reads may end inside. */
bool haul_reads_issue(struct haul_message *message);
bool haul_reads_issue_more(struct haul_engine *engine);
/* A read, or such a hold, has ended; with the last one the message goes on, and may be gone. */
void haul_reads_end(struct haul_message *message);
/* What providers tell, see read_done() in struct haul_host. */
void haul_reads_done(void *cookie, int err);
/* Of a message that has all its bytes: whether it has to wait for the proof that those read by rma
 * are what was sent. */
bool haul_reads_prove(struct haul_message *message);
/* Its bytes that were read do not count any more. */
void haul_reads_forget(struct haul_message *message);
/* Reads the other side's nonce for the first time; haul_handshake_probed() follows. */
int haul_reads_probe(struct haul_link *link, const struct haul_wire_rma *rma);
/* It is probing, and there was no room for the read. */
void haul_reads_probe_again(struct haul_link *link);
/* Memory that reads land in, or come from, is needed back: they are ended, those of other messages
 * of the link too, which are fetched anew. */
void haul_reads_take_back(struct haul_link *link);
void haul_reads_free(struct haul_engine *engine);

/* ---- context.c, server.c
 * ------------------------------------------------------------------------- */

struct haul_context {
    struct haul_engine *engine;
};
static inline struct haul_engine *haul_context_engine(const struct haul_context *context)
{
    return context->engine;
}
/* As haul_engine_enter_open(). */
int haul_context_enter(const struct haul_context *context);
/* All three under the lock. shut ends listening and the server's peers. */
void haul_server_shut(struct haul_server *server);
void haul_server_retain(struct haul_server *server);
void haul_server_release(struct haul_server *server);

/* ---- peer.c, dict.c ----------------------------------------------------------------------------
 */

struct haul_peer *haul_peer_create(struct haul_engine *engine, const char *address);
struct haul_peer *haul_peer_reference(struct haul_peer *peer);
void haul_peer_unreference(struct haul_peer *peer);
/* Ends its connection and redialling for good; under the lock. */
void haul_peer_shut(struct haul_peer *peer, const char *why);
/* Adds to a counter of a peer and of the context. */
#define HAUL_COUNT(the_peer, field, n)          \
    do {                                        \
        (the_peer)->stats.field += (n);         \
        (the_peer)->engine->stats.field += (n); \
    } while (0)

/* A dict's array and its memory. */
struct haul_dict_entry {
    struct haul_list node; /* of an op that it was given to */
    const void *link;      /* that was lost: its peer may still look (to be compared only) */
    struct haul_array array;
    struct haul_block *block; /* from haul_dict_alloc(), else NULL */
    bool give;                /* with the next send */
    bool copy;                /* made by an op's plan of memory that its peer cannot read */
    uint64_t shape[HAUL_NDIM_MAX];
    char *text; /* key, and description behind it */
};
void haul_dict_entry_free(struct haul_dict_entry *entry);

struct haul_dict {
    atomic_uint references;
    struct haul_engine *engine;
    struct haul_dict_entry **entries;
    size_t count, capacity;
    struct haul_array *row; /* the arrays in a row, for receives into it; row_capacity of them */
    size_t row_capacity;
    unsigned in_flight; /* ops that borrow its arrays */
};
void haul_dict_unreference(struct haul_dict *dict);
/* HAUL_INVALID if an array is only a type. */
int haul_dict_check_data(const struct haul_dict *dict);
/* Its arrays in a row, valid until it changes or the next call; NULL: no memory, or no arrays. */
const struct haul_array *haul_dict_row(struct haul_dict *dict);
/* A dict with the same keys and types, without data; under the lock. */
int haul_dict_copy_types(const struct haul_dict *dict, struct haul_dict **copy);

#endif
