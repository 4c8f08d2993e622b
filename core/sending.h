/* SPDX-License-Identifier: Apache-2.0
 * The sender's side: ops, and how their arrays leave. */
#ifndef HAUL_CORE_SENDING_H
#define HAUL_CORE_SENDING_H

#include "link.h"

enum haul_op_kind { HAUL_OP_SEND, HAUL_OP_CALL, HAUL_OP_REPLY };
enum haul_op_state { HAUL_OP_WAITING, HAUL_OP_OPEN, HAUL_OP_ENDING, HAUL_OP_FINISHED };

struct haul_op {
    atomic_uint references;
    struct haul_engine *engine;
    struct haul_list node; /* in peer->waiting, one of its link's lists or engine->free_ops */
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
    bool has_payload; /* of its announcement, as planned last */
    bool announced;   /* the peer may have heard of it */
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

/* ---- op.c: the life of an op ----------------------------------------------------------------- */

/* A new op with a reference for the caller and one for the engine; takes the dict's given arrays.
 */
int haul_op_create(struct haul_peer *peer, struct haul_dict *dict, enum haul_op_kind kind,
                   struct haul_op **op);
void haul_op_unreference(struct haul_op *op);
/* Frees one of engine->free_ops. */
void haul_op_destroy(struct haul_op *op);
/* Ends it, now or when the channel has given its arrays back. The first call decides the result. */
void haul_op_end(struct haul_op *op, int err, const char *detail);
/* The channel gave a parcel back. */
void haul_op_sent(struct haul_parcel *parcel);
/* Waits for an op of a blocking call; cancels it when the wait ends early. Releases it. */
int haul_op_complete(struct haul_op *op, int64_t timeout_ns, struct haul_message **reply);

/* ---- given.c: arrays that were given away ---------------------------------------------------- */

/* They are not in the peer's use any more: back to the pool. */
void haul_given_free(struct haul_op *op);
/* The same when the connection is lost: as soon as the peer does not look at them any more. */
void haul_given_retire(struct haul_op *op, const struct haul_link *link);
/* Frees those that nobody looks at any more. unmapping: all that may leave our address space. */
void haul_given_sweep(struct haul_engine *engine, bool unmapping);

/* ---- plan.c: inline or offered --------------------------------------------------------------- */

/* Decides for each array of op->manifest, by size, credit and the path. */
void haul_plan(struct haul_op *op);
/* Takes back what the plan registered. */
void haul_plan_undo(struct haul_op *op);

/* ---- transmit.c: the sender's side ----------------------------------------------------------- */

/* Queues a new op on its peer's connection, or until there is one. */
void haul_transmit_start(struct haul_op *op);
/* A frame's payload has come back from the channel. */
void haul_parcel_return(struct haul_parcel *parcel, struct haul_link *link);
/* Sends what may be sent now, up to a budget. Returns whether there is more that could be. */
bool haul_transmit_pump(struct haul_link *link);
int haul_transmit_fetch(struct haul_link *link, const struct haul_wire_control *fetch);
void haul_transmit_ack(struct haul_link *link, const struct haul_wire_control *ack);
void haul_transmit_cancel(struct haul_op *op, int err, const char *detail);
/* The receiver will never hear of this op: its credit is ours again. */
void haul_transmit_unannounce(struct haul_op *op);
/* The caller shall not wait for this reply: it will not come. */
void haul_transmit_no_reply(const struct haul_op *reply);
/* The peer does not look at what this message gave it any more. */
void haul_transmit_release(struct haul_link *link, uint64_t seq);
struct haul_op *haul_transmit_find(struct haul_link *link, uint64_t seq);

#endif
