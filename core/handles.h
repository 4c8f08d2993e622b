/* SPDX-License-Identifier: Apache-2.0
 * What users hold besides ops and messages: contexts, servers, peers and dicts. */
#ifndef HAUL_CORE_HANDLES_H
#define HAUL_CORE_HANDLES_H

#include "inbox.h"

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

/* ---- context.c, server.c --------------------------------------------------------------------- */

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

/* ---- peer.c, dict.c -------------------------------------------------------------------------- */

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
    size_t position;       /* in its dict's entries */
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
    const struct haul_array **by_key; /* theirs, sorted by their keys (keys.h) */
    size_t count, capacity;
    unsigned in_flight; /* ops that borrow its arrays */
    bool receiving;     /* into it: nothing else may have it */
};
void haul_dict_unreference(struct haul_dict *dict);
/* Moves the arrays that were given away to `given`. */
void haul_dict_take_given(struct haul_dict *dict, struct haul_list *given);
/* Whether an op of `engine` may send it, a receive of `engine` fill it. HAUL_INVALID for a dict of
 * another context or with an array that is only a type; HAUL_BUSY while it is received into, as a
 * destination also while a send has it. */
int haul_dict_check_sendable(const struct haul_dict *dict, const struct haul_engine *engine);
int haul_dict_check_destination(const struct haul_dict *dict, const struct haul_engine *engine);
/* The array of this key, or NULL. */
struct haul_dict_entry *haul_dict_entry_find(const struct haul_dict *dict, const char *key);
/* A dict of this engine with the same keys and types, without data; under its lock. */
int haul_dict_copy_types(struct haul_engine *engine, const struct haul_dict *dict,
                         struct haul_dict **copy);

#endif
