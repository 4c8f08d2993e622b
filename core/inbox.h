/* SPDX-License-Identifier: Apache-2.0
 * Inboxes, where the messages of a server or a peer wait to be received, and the memory that
 * receives name (destinations). */
#ifndef HAUL_CORE_INBOX_H
#define HAUL_CORE_INBOX_H

#include "engine.h"

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

/* Memory named to a receive: `rows` rows of arrays, all of an array one behind the other. A
 * destination dict is one of 1 row. */
struct haul_destination {
    struct haul_list node; /* in the inbox; linked to itself when not posted */
    struct haul_inbox *inbox;
    const struct haul_dict *row0;
    struct haul_block *block; /* where the arrays lie, NULL: the user's memory */
    size_t rows;
    struct haul_message **message; /* per row, NULL: free */
    size_t claimed, whole;
    size_t first_free; /* no row before it is free */
};

/* ---- inbox.c: messages that wait to be received ---------------------------------------------- */

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

/* ---- destination.c: memory that receives name ------------------------------------------------ */

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
/* Whether some of its rows are being filled. */
bool haul_destination_is_open(const struct haul_inbox *inbox);
/* Takes the row from a message that does not come, and from later ones of its peer: for others. Not
 * while reads are under way for one of them. */
void haul_destination_give_up(struct haul_message *first);
/* A row's message is whole. */
void haul_destination_filled(struct haul_message *message);
/* A row's message was lost: the row is free again. */
void haul_destination_vacate(struct haul_message *message);

#endif
