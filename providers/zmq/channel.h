/* SPDX-License-Identifier: Apache-2.0
 * What the files of the provider `zmq` share.
 *
 * A server is one ROUTER socket per listener, a client one DEALER socket per connection, and a
 * frame of haul is one multipart message: header, then one part per payload segment. libzmq
 * delivers a multipart message whole or not at all, so a frame is whole when its first part is
 * here. */
#ifndef HAUL_ZMQ_CHANNEL_H
#define HAUL_ZMQ_CHANNEL_H

#include <haul/provider.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <zmq.h>

/* Core's functions; set by the entry function, before anything else of the provider runs. */
extern const struct haul_host *haul_zmq_host;

struct haul_zmq_channel;

#define HAUL_ZMQ_NS_PER_MS 1000000u
enum {
    HAUL_ZMQ_FLUSH_MS = 1000, /* how long a last frame may take after disconnect() */
    HAUL_ZMQ_LOANS_MAX = 4,   /* frames of one connection whose payload libzmq may hold */
    /* Frames that libzmq holds for one peer; one that has more to read is cut. Those that credits
     * allow are far fewer (docs/CONFIG.md: HAUL_CREDITS), but what asks for an answer costs none.
     */
    HAUL_ZMQ_UNREAD_MAX = 32768,
    HAUL_ZMQ_ENDPOINTS_MAX = 8,
    HAUL_ZMQ_ENDPOINT_BYTES = 160,
    HAUL_ZMQ_NAME_BYTES = 1100, /* a numeric host has at most NI_MAXHOST */
    /* What one socket may deliver before the next has its turn. */
    HAUL_ZMQ_TURN_MESSAGES = 64,
    HAUL_ZMQ_TURN_BYTES = 32 << 20,
};

/* ---- Lists: a ring with the list as its own sentinel ---------------------------------------- */

struct haul_zmq_list {
    struct haul_zmq_list *next, *previous;
};

#define HAUL_ZMQ_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void haul_zmq_list_init(struct haul_zmq_list *list)
{
    list->next = list->previous = list;
}

static inline bool haul_zmq_list_empty(const struct haul_zmq_list *list)
{
    return list->next == list;
}

static inline void haul_zmq_list_insert_after(struct haul_zmq_list *place,
                                              struct haul_zmq_list *node)
{
    node->previous = place;
    node->next = place->next;
    place->next->previous = node;
    place->next = node;
}

static inline void haul_zmq_list_append(struct haul_zmq_list *list, struct haul_zmq_list *node)
{
    haul_zmq_list_insert_after(list->previous, node);
}

/* Also for a node that is in no list. */
static inline void haul_zmq_list_remove(struct haul_zmq_list *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    haul_zmq_list_init(node);
}

/* ---- zmq.c: life, the pass, timers ---------------------------------------------------------- */

struct haul_zmq_timer {
    struct haul_zmq_list node;
    uint64_t due_ns;
    void (*fire)(struct haul_zmq_timer *timer);
};

struct haul_zmq_loan;

struct haul_zmq_channel {
    struct haul_engine *engine;
    void *context;                                /* libzmq's */
    struct haul_zmq_list ready;                   /* sources that may have something to read */
    struct haul_zmq_list timers;                  /* by due_ns */
    struct haul_zmq_list servers;                 /* ROUTER sockets */
    struct haul_zmq_list dealers;                 /* DEALER sockets that are open */
    _Atomic(struct haul_zmq_channel *) next_open; /* of the process, for fork.c */
    bool keep_memory;                             /* the setting */
    struct haul_zmq_part_pool *parts;
    unsigned monitors;                        /* opened so far: numbers their addresses */
    bool worked;                              /* something was done in this pass */
    _Atomic(struct haul_zmq_loan *) returned; /* payloads that libzmq does not hold any more */
};

void haul_zmq_timer_init(struct haul_zmq_timer *timer, void (*fire)(struct haul_zmq_timer *timer));
void haul_zmq_timer_set(struct haul_zmq_channel *channel, struct haul_zmq_timer *timer,
                        uint64_t after_ms);
void haul_zmq_timer_stop(struct haul_zmq_timer *timer);

/* ---- source.c: libzmq sockets in the event loop --------------------------------------------- */

struct haul_zmq_source {
    struct haul_zmq_channel *channel;
    void *socket; /* NULL: not open */
    struct haul_watch *watch;
    struct haul_zmq_list node; /* in channel->ready */
    /* Reads until nothing is left (false) or the turn is over (true). May close the source if it
     * returns false. */
    bool (*work)(struct haul_zmq_source *source);
};

/* Makes a socket and watches it. Errors: HAUL_SYSTEM. */
int haul_zmq_source_open(struct haul_zmq_source *source, struct haul_zmq_channel *channel, int type,
                         bool (*work)(struct haul_zmq_source *source));
int haul_zmq_source_set(struct haul_zmq_source *source, int option, int value);
/* A part that says it is larger than the machine's memory ends its connection. (Smaller ones are
 * core's to refuse, with a sentence.) */
int haul_zmq_source_limit_parts(struct haul_zmq_source *source);
/* It may have something to read. */
void haul_zmq_source_ready(struct haul_zmq_source *source);
/* The same from outside of progress(): the driver may be asleep. */
void haul_zmq_source_wake(struct haul_zmq_source *source);
/* After a send, which may have taken the descriptor's signal for itself. */
void haul_zmq_source_check(struct haul_zmq_source *source);
/* Returns at once; what was sent may leave for linger_ms. */
void haul_zmq_source_close(struct haul_zmq_source *source, int linger_ms);

/* ---- monitor.c: what libzmq says about a socket's connections ------------------------------- */

struct haul_zmq_monitor {
    struct haul_zmq_source source;
    struct haul_zmq_source *of;
    void (*event)(struct haul_zmq_monitor *monitor, unsigned event, uint32_t value);
    /* After the events of a turn, outside of any drain: may call core and close the monitor. */
    void (*after)(struct haul_zmq_monitor *monitor);
};

int haul_zmq_monitor_open(struct haul_zmq_monitor *monitor, struct haul_zmq_source *of, int events);
/* Before the source that it is of. */
void haul_zmq_monitor_close(struct haul_zmq_monitor *monitor);
/* Calls event() for each event that is here. */
void haul_zmq_monitor_drain(struct haul_zmq_monitor *monitor);

/* ---- memory.c ------------------------------------------------------------------------------- */

/* Makes malloc() keep freed memory, for the rest of the process. */
void haul_zmq_memory_keep(void);

/* ---- part.c: received parts ----------------------------------------------------------------- */

struct haul_zmq_part {
    zmq_msg_t message;
    struct haul_zmq_part *next;
    struct haul_zmq_part_pool *pool;
};

struct haul_zmq_part_pool *haul_zmq_parts_create(void);
/* The pool ends when its last part is back: messages may outlive their context. */
void haul_zmq_parts_release(struct haul_zmq_part_pool *pool);
/* NULL: no memory. */
struct haul_zmq_part *haul_zmq_part_take(struct haul_zmq_part_pool *pool);
/* Frees what libzmq received into it. Any thread. */
void haul_zmq_part_give_back(struct haul_zmq_part *part);

/* A multipart message. */
struct haul_zmq_message {
    struct haul_zmq_part *header, *payload;
    uint64_t payload_bytes;
    bool delimited;    /* an empty part came first: the client is a REQ socket */
    const char *fault; /* NULL, or why it is no frame */
};

/* Receives without waiting; EINTR is no error. Returns whether there was a part. */
bool haul_zmq_receive_part(void *socket, zmq_msg_t *part);
/* Receives what is left of a multipart message, and checks that it is a frame. `first` was
 * received. */
void haul_zmq_message_receive(struct haul_zmq_message *message, struct haul_zmq_part_pool *pool,
                              void *socket, struct haul_zmq_part *first);
void haul_zmq_message_drop(struct haul_zmq_message *message);
uint64_t haul_zmq_message_bytes(const struct haul_zmq_message *message);

/* ---- conn.c: what both kinds of connections do ---------------------------------------------- */

/* A frame whose payload libzmq reads from the sender's memory. */
struct haul_zmq_loan {
    atomic_uint holders; /* parts that libzmq holds, and send() while it runs */
    struct haul_zmq_loan *next;
    struct haul_zmq_conn *conn;
    void *cookie;
    bool taken;
};

struct haul_zmq_conn_kind {
    void (*disconnect)(struct haul_zmq_conn *conn, bool flush);
    /* The connection cannot go on: lost() is due, from progress(). */
    void (*fail)(struct haul_zmq_conn *conn, const char *why);
    /* A loan came back after disconnect(): frees conn if nothing else needs it. */
    void (*release)(struct haul_zmq_conn *conn);
};

struct haul_zmq_conn {
    const struct haul_zmq_conn_kind *kind;
    struct haul_zmq_channel *channel;
    struct haul_zmq_source *socket;
    struct haul_link *link;
    const void *id; /* ROUTER: whom a message is for; NULL on a DEALER */
    size_t id_bytes;
    bool delimited;    /* the other side is a REQ socket */
    bool over;         /* lost() was called or core gave it up: nothing is delivered or sent */
    bool disconnected; /* by core */
    bool wants_writable;
    unsigned loans_out;
    struct haul_zmq_loan loans[HAUL_ZMQ_LOANS_MAX];
};

void haul_zmq_conn_init(struct haul_zmq_conn *conn, const struct haul_zmq_conn_kind *kind,
                        struct haul_zmq_source *socket);
/* Hands a message to core, or ends the connection if it is no frame. Takes the message. */
void haul_zmq_conn_deliver(struct haul_zmq_conn *conn, struct haul_zmq_message *message);
void haul_zmq_conn_lost(struct haul_zmq_conn *conn, int err, const char *why);
int haul_zmq_conn_send(void *conn, const void *header, size_t header_bytes,
                       const struct iovec *payload, size_t payload_count, void *cookie);
enum haul_recall haul_zmq_conn_recall(void *conn, void *cookie);
/* Tells core about the payloads that came back. Returns whether there were any. */
bool haul_zmq_loans_collect(struct haul_zmq_channel *channel);

/* ---- address.c ------------------------------------------------------------------------------ */

struct haul_zmq_route {
    char text[256];      /* as the user wrote it */
    char host[256];      /* its host */
    char unix_path[108]; /* "" for TCP */
    bool wildcard;       /* all interfaces */
    size_t endpoint_count;
    char endpoints[HAUL_ZMQ_ENDPOINTS_MAX][HAUL_ZMQ_ENDPOINT_BYTES]; /* for zmq_bind, zmq_connect */
};

int haul_zmq_resolve(void *channel, const struct haul_address *address, bool listening,
                     void **route);
void haul_zmq_route_free(void *route);
/* Options that the next zmq_bind() or zmq_connect() to this endpoint needs. */
int haul_zmq_endpoint_prepare(struct haul_zmq_source *socket, const char *endpoint);
/* How clients reach a listener that is bound to `endpoint`. */
void haul_zmq_bound_name(const struct haul_zmq_route *route, const char *endpoint, char *name,
                         size_t size);
/* "10.0.0.7:40312", "unix:PID"; `address` is what libzmq says of the peer, without the port, or
 * NULL. */
void haul_zmq_peer_name(const struct haul_zmq_route *route, const char *address, int fd, char *name,
                        size_t size);

/* ---- descriptor.c --------------------------------------------------------------------------- */

struct haul_zmq_descriptor {
    int fd;
    ino_t inode; /* 0: none */
};

/* What an event has named: right if no later event says that it was closed. */
struct haul_zmq_descriptor haul_zmq_descriptor_note(int fd);
/* Ends the connection; libzmq finds that out and tells. */
void haul_zmq_descriptor_cut(const struct haul_zmq_descriptor *descriptor);
/* Sets the buffers that suit the connection. */
void haul_zmq_descriptor_tune(const struct haul_zmq_descriptor *descriptor);
/* In a child of fork(): closes it. */
void haul_zmq_descriptor_drop(const struct haul_zmq_descriptor *descriptor);

/* ---- fork.c --------------------------------------------------------------------------------- */

void haul_zmq_fork_register(struct haul_zmq_channel *channel);
void haul_zmq_fork_unregister(struct haul_zmq_channel *channel);

/* ---- dealer.c, router.c --------------------------------------------------------------------- */

int haul_zmq_connect(void *channel, void *route, struct haul_link *link, void **conn);
/* In a child: drops the connections. */
void haul_zmq_dealers_drop(struct haul_zmq_channel *channel);
int haul_zmq_listen(void *channel, void *route, struct haul_listener *listener, void **handle,
                    char *bound, size_t bound_size);
void haul_zmq_unlisten(void *handle);
/* When the channel closes: ends servers that still had something to flush... */
void haul_zmq_server_close(struct haul_zmq_list *node);
/* ...and frees them, when libzmq holds nothing of theirs any more. */
void haul_zmq_server_free(struct haul_zmq_list *node);
void haul_zmq_servers_drop(struct haul_zmq_channel *channel);

#endif
