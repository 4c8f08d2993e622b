/* SPDX-License-Identifier: Apache-2.0
 * Connections: their life, their greeting, and the credits that each side gives the other. */
#ifndef HAUL_CORE_LINK_H
#define HAUL_CORE_LINK_H

#include "engine.h"

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
    struct haul_list ending;       /* ended, but the channel still has some of their arrays */
    struct haul_list kept;         /* finished ops whose given arrays are in the peer's use */
    struct haul_list sending_node; /* in engine->sending */
    /* Frames with payload wait: the channel said HAUL_BUSY, or a chunk of ours is still in it. Ends
     * with writable(), or when a payload comes back. */
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
    uint64_t asked_ns; /* when a PING was sent that is unanswered; 0: there is none */

    /* rma */
    struct haul_transport *rma;
    void *rma_peer;
    unsigned reads;           /* under way */
    uint64_t reads_moved_ns;  /* when one was issued or ended last */
    bool rma_failed;          /* reads failed: the channel is used from now on */
    bool took_back;           /* the last fence was for memory: no fault of the path */
    bool peer_ended;          /* a read says so: no fault of the path either */
    uint64_t last_turn;       /* when a fetch of it was last started, in engine->fetch_turns */
    bool choosing;            /* among rma providers */
    bool probing;             /* the read that proves the one chosen is under way */
    struct haul_block *lease; /* holds our nonce as long as the connection lives */
    uint8_t probe[HAUL_RMA_WAY_MAX]; /* the way to theirs */
    uint8_t probe_bytes;
};

/* ---- link.c: connections --------------------------------------------------------------------- */

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

/* ---- handshake.c ----------------------------------------------------------------------------- */

int haul_handshake_start(struct haul_link *link);
/* The connection has ended, and with it what peers may do with what they read of it. */
void haul_handshake_end_lease(struct haul_link *link);
int haul_handshake_frame(struct haul_link *link, const uint8_t *header, size_t header_bytes);
/* The read that proves the rma path has ended. */
void haul_handshake_probed(struct haul_link *link, int err);
/* Lets go of the rma path; its reads have ended. */
void haul_handshake_undo(struct haul_link *link);

/* ---- credit.c -------------------------------------------------------------------------------- */

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

#endif
