/* SPDX-License-Identifier: Apache-2.0
 * A connection of `loop`: two ends and the frames between them. pair.c says who may touch what. */
#ifndef HAUL_LOOP_PAIR_H
#define HAUL_LOOP_PAIR_H

#include "loop.h"

#include <pthread.h>
#include <sys/queue.h>

struct frame;

/* One instance of the channel. */
struct channel {
    struct haul_engine *engine;
    struct haul_loop_config config;
    atomic_bool signalled; /* any thread: progress() has something to look at */
    uint64_t deadline_ns;  /* when the first delayed frame is due */
    LIST_HEAD(, conn) conns;
    struct conn *cursor; /* the conn that progress() visits next */
};

enum lend_state {
    LEND_NONE,
    LEND_OUT,      /* the payload is in a frame that the other end has not received whole */
    LEND_RETURNED, /* nobody reads it any more; sent() is due */
};

struct conn {
    struct pair *pair;
    struct haul_link *link;
    LIST_ENTRY(conn) node; /* in channel->conns */
    bool connected;        /* core knows that frames may pass */
    bool over;             /* lost() was called or core gave the conn up */
    bool wants_writable;   /* a send() was answered with HAUL_BUSY */
    uint8_t *part;         /* loop_parts: the part being received */

    /* Under the pair's lock. */
    struct channel *channel; /* NULL: not accepted yet, or closed */
    bool closed;
    struct frame *inbox, **inbox_end;
    struct frame *receiving; /* its header was delivered, its payload not yet */
    enum lend_state lend;    /* of the payload that this end has sent */
    void *cookie;
};

struct pair {
    pthread_mutex_t lock;
    struct conn ends[2]; /* the one that connected, the one that was accepted */
    bool accepted;
    char why[320]; /* why the connection ends; does not change once it is set */
    uint64_t bytes, bytes_max;
    struct frame *spare;
    STAILQ_ENTRY(pair) pending; /* in its listener's, under the registry's lock */
};

static inline struct conn *haul_loop_other_end(struct conn *conn)
{
    return &conn->pair->ends[conn == &conn->pair->ends[0]];
}

/* Makes the channel's progress() run. Any thread; the channel must not be closed meanwhile. */
void haul_loop_signal(struct channel *channel);

/* NULL with the error detail set: no memory. */
struct pair *haul_loop_pair_create(struct channel *channel);
/* Opens an end for a channel that has accepted or is connecting. */
void haul_loop_end_open(struct conn *conn, struct channel *channel);
/* The other end may send from now on. */
void haul_loop_pair_accept(struct pair *pair);
/* Closes an end and returns what it has lent; the last one frees the pair. */
void haul_loop_end_close(struct conn *conn, const char *why);

int haul_loop_send(void *conn, const void *header, size_t header_bytes, const struct iovec *payload,
                   size_t payload_count, void *cookie);
enum haul_recall haul_loop_recall(void *conn, void *cookie);
/* Tells core what has happened to an end. Returns whether anything had. */
bool haul_loop_conn_progress(struct conn *conn);

#endif
