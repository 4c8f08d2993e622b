/* SPDX-License-Identifier: Apache-2.0
 * The receiver's side: messages, from their manifest until the user has them. */
#ifndef HAUL_CORE_RECEIVING_H
#define HAUL_CORE_RECEIVING_H

#include "engine.h"

enum haul_message_state {
    HAUL_MESSAGE_PLACING, /* its manifest is here, memory for its offered bytes is not */
    HAUL_MESSAGE_FETCHING,
    HAUL_MESSAGE_WHOLE,     /* waits for its turn to be delivered */
    HAUL_MESSAGE_DELIVERED, /* in an inbox, a row or with the user */
    HAUL_MESSAGE_DROPPED,   /* freed when its reads have ended */
};

/* Where it is, and which of its marks can be set:
 *
 *   PLACING    in inbox->unplaced: its offered bytes wait for named memory. Or on its way out of a
 *              row, whose reads are being ended.
 *   FETCHING   in engine->fetching: waits for its turn, with waits_for_pool for memory first.
 *              fetch_active: has its turn; in engine->reading while reads are to be issued.
 *              Neither: what it has offered is here, and inline bytes or the proof are to come.
 *   WHOLE, DELIVERED, DROPPED: none of these marks; DROPPED ones may still have reads.
 *
 * Of reads: needs_proof comes with the first byte, proven with the proof, and both go when it is
 * fetched anew; proving is set while the proof is under way; reads_failed, path_failed and
 * cancelled last until the last read has ended. */
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
    uint64_t moved_ns; /* when it got its turn or row, or had moved a little further, last */
    uint64_t moved;    /* bytes since then */
    bool stalled;      /* its sender let a turn pass: those that did not go first */
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

/* ---- inbound.c: the receiver's side ---------------------------------------------------------- */

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
/* Answers the sender with an error, which the call that it answers ends with, and drops it. */
void haul_inbound_refuse(struct haul_message *message, int err, const char *detail);
void haul_inbound_drop(struct haul_message *message);

/* ---- message.c ------------------------------------------------------------------------------- */

struct haul_message *haul_message_create(struct haul_link *link);
/* Gives memory, credit and references back; under the lock. */
void haul_message_free(struct haul_message *message);
/* The one way to another state: what the user holds (DELIVERED) is counted. */
void haul_message_set_state(struct haul_message *message, enum haul_message_state state);
/* Frames that the channel lent go back to it. */
void haul_message_give_back(struct haul_message *message);
/* Frees one of engine->free_messages. */
void haul_message_destroy(struct haul_message *message);

/* ---- placement.c: where received bytes land -------------------------------------------------- */

/* Finds a place for a new message: a posted destination, else the pool: now for its inline bytes,
 * when there is memory for the offered ones. */
void haul_place_message(struct haul_message *message);
/* Mapped arrays are to be fetched, as if there had been no way to look at them. */
void haul_place_unmap(struct haul_message *message);
/* Gives the memory of its offered bytes back: it is to be fetched anew, whole. Rows and mapped
 * arrays stay; of frames that the channel lends none may be here yet. */
void haul_place_forget_offered(struct haul_message *message);
/* Pool memory for its inline bytes, promised with the credit. Errors: HAUL_NO_MEMORY. */
int haul_place_inline(struct haul_message *message);
/* Copies a lent part that is not aligned for its type. */
int haul_place_copy(struct haul_message *message, struct haul_array *array, const void *data);
/* Takes memory for its offered bytes, if it has none. HAUL_NO_MEMORY: not now; other errors: never.
 */
int haul_place_offered(struct haul_message *message);
bool haul_place_has_memory(const struct haul_message *message);
/* Whether nothing will be released that it could wait for, and it has room by the limit. */
bool haul_place_is_alone(const struct haul_message *message);
/* Notes that it has to wait for memory, unless a destination takes it. */
void haul_place_wait(struct haul_message *message);
/* Looks again at those that a destination may take: they wait for one, or for their turn. */
void haul_place_inbox(struct haul_inbox *inbox);
/* Takes the inbox's receive kind from a receive call. */
void haul_place_by(struct haul_inbox *inbox, enum haul_placement placement);

/* ---- fetch.c: who may send its arrays, and by which way -------------------------------------- */

/* Its offered bytes may come when it is its turn. */
void haul_fetch_queue(struct haul_message *message);
/* Starts those whose turn it is. Returns whether one started. */
bool haul_fetch_schedule(struct haul_engine *engine);
/* A fetch has ended, well or not. */
void haul_fetch_end(struct haul_message *message);
/* Bytes arrived that were asked for on the channel. */
void haul_fetch_received(struct haul_message *message, uint64_t bytes);
/* Counts offered bytes that are here, by whatever way. */
void haul_fetch_brought(struct haul_message *message, uint64_t bytes);
/* Nothing of its stream counts as received: it waits for a turn again. */
void haul_fetch_put_back(struct haul_message *message);
/* The array at a cursor's place: skips those that are not in the stream or at their end. */
struct haul_manifest_array *haul_cursor_array(struct haul_manifest *manifest,
                                              struct haul_cursor *cursor, bool offered);

/* ---- stall.c: turns and rows that are not used ----------------------------------------------- */

/* It has got its turn, or a row. */
void haul_stall_begin(struct haul_message *message);
/* Bytes of it came on the channel. */
void haul_stall_moved(struct haul_message *message, uint64_t bytes);
/* Takes turn, memory and row from messages that do not move while others wait. A timer, which sets
 * itself while there are some. */
void haul_stall_watch(struct haul_engine *engine, uint64_t now_ns);

/* ---- reads.c: by rma ------------------------------------------------------------------------- */

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

#endif
