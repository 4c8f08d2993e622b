/* SPDX-License-Identifier: Apache-2.0
 * What the files of the provider `tcp` share.
 *
 *   tcp.c      the descriptor, the instance, timers
 *   address.c  names to socket addresses and back
 *   listen.c   listening and accepting
 *   dial.c     connecting
 *   conn.c     the life of a connection
 *   receive.c  bytes to frames
 *   send.c     frames to bytes
 *   drain.c    the last bytes of a connection that core has given up */
#ifndef HAUL_TCP_H
#define HAUL_TCP_H

#include <haul/provider.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Core's functions; set by the entry function, before anything else of the provider runs. */
extern const struct haul_host *haul_tcp_host;

/* ---- tcp.c: the instance and its timers ----------------------------------------------------- */

enum {
    /* Bytes of the buffer that all connections of a channel share for reading headers. */
    HAUL_TCP_SCRATCH_BYTES = 64 << 10,
};

/* Calls expired(arg) from progress() once at_ns has come; at_ns 0: in the next one. */
struct haul_tcp_timer {
    TAILQ_ENTRY(haul_tcp_timer) node;
    uint64_t at_ns; /* HAUL_TCP_TIMER_OFF: not running */
    void (*expired)(void *arg);
    void *arg;
};
#define HAUL_TCP_TIMER_OFF UINT64_MAX

struct haul_tcp_channel {
    struct haul_engine *engine;
    unsigned user_timeout_ms;    /* TCP_USER_TIMEOUT, 0: the system's */
    bool sets_local_send_buffer; /* see haul_tcp_socket_tune() */
    char pacing[16]; /* the system's congestion control if it paces, else "": see pacing.c */
    uint64_t pass;   /* counts progress(): the sending budget of a connection is per pass */
    struct haul_tcp_conn *recent; /* that was ready last, or NULL */
    uint64_t recent_pass;         /* when that was */
    TAILQ_HEAD(, haul_tcp_timer) timers;
    uint64_t timer_ns; /* no timer expires before it */
    TAILQ_HEAD(, haul_tcp_conn) draining;
    uint8_t *scratch;
};

void haul_tcp_timer_init(struct haul_tcp_timer *timer, void (*expired)(void *arg), void *arg);
/* Starts it, or moves it if it runs. */
void haul_tcp_timer_start(struct haul_tcp_channel *channel, struct haul_tcp_timer *timer,
                          uint64_t at_ns);
void haul_tcp_timer_stop(struct haul_tcp_channel *channel, struct haul_tcp_timer *timer);

/* ---- pacing.c ------------------------------------------------------------------------------- */

struct haul_tcp_address;
void haul_tcp_find_pacing(struct haul_tcp_channel *channel);
/* Of sockets that do not connect or listen yet. */
void haul_tcp_unpace_dial(const struct haul_tcp_channel *channel, int fd,
                          const struct haul_tcp_address *address);
void haul_tcp_unpace_listen(const struct haul_tcp_channel *channel, int fd);
/* One from another host has the system's choice again. */
void haul_tcp_pace_accepted(const struct haul_tcp_channel *channel, int fd);

/* ---- address.c ------------------------------------------------------------------------------ */

enum { HAUL_TCP_ADDRESS_TEXT_BYTES = 128 };

struct haul_tcp_address {
    socklen_t bytes;
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } socket;
};

/* What resolve() makes of an address. */
struct haul_tcp_route {
    struct haul_address named; /* as the user wrote it */
    bool everywhere;           /* listen on all interfaces: the addresses are alternatives */
    size_t count;
    struct haul_tcp_address addresses[];
};

int haul_tcp_resolve(void *channel, const struct haul_address *address, bool listening,
                     void **route);
void haul_tcp_route_free(void *route);
/* "127.0.0.1:5555", "[::1]:5555" or "unix:/path". Returns text. */
const char *haul_tcp_address_format(const struct haul_tcp_address *address,
                                    char text[HAUL_TCP_ADDRESS_TEXT_BYTES]);
/* The other end of an accepted connection: "127.0.0.1:40331" or "unix:<pid>". Returns text. */
const char *haul_tcp_peer_format(int fd, char text[HAUL_TCP_ADDRESS_TEXT_BYTES]);
/* Our end of a connection, see host() in struct haul_channel_ops. */
const char *haul_tcp_own_host(void *conn, char host[HAUL_HOST_MAX]);
/* Where the two ends of a connection are. */
enum haul_tcp_ends { HAUL_TCP_TWO_HOSTS, HAUL_TCP_ONE_HOST, HAUL_TCP_ONE_SOCKET };
enum haul_tcp_ends haul_tcp_compare_ends(int fd);
/* The port in network order, 0 for a Unix socket. */
uint16_t haul_tcp_port(const struct haul_tcp_address *address);
void haul_tcp_port_set(struct haul_tcp_address *address, uint16_t port);

/* ---- conn.c: the life of a connection ------------------------------------------------------- */

enum haul_tcp_state {
    HAUL_TCP_DIALING,
    HAUL_TCP_OPEN,
    HAUL_TCP_GIVEN_UP, /* core wants no more frames; what is queued still goes out */
    HAUL_TCP_LOST,     /* lost() was called, the socket is closed */
    HAUL_TCP_DRAINING, /* core has disconnected; what is queued still goes out */
};

/* The frame being received. */
struct haul_tcp_input {
    uint8_t *header; /* the part of a header that is here, when it came in pieces */
    size_t header_have, header_capacity;
    uint64_t payload_left;
    size_t read_bytes; /* of the scratch buffer that the next header is read into */
};

/* Bytes that wait to be written. */
struct haul_tcp_bytes {
    uint8_t *data;
    size_t begin, end, capacity;
};

enum haul_tcp_payload_state {
    HAUL_TCP_PAYLOAD_NONE,
    HAUL_TCP_PAYLOAD_QUEUED,
    HAUL_TCP_PAYLOAD_WRITTEN, /* sent() is due */
};

/* Bytes go out in this order: `before`, the payload, `after`. */
struct haul_tcp_output {
    struct haul_tcp_bytes before; /* headers; the last one is the payload's, if there is one */
    struct haul_tcp_bytes after;
    struct {
        enum haul_tcp_payload_state state;
        size_t header_bytes;
        const struct iovec *segments;
        size_t count, offset; /* segments left; bytes written of the first */
        uint64_t left;
        void *cookie;
        bool silent; /* its memory is the owner's again: no sent() */
        void *copy;  /* the bytes to be sent yet, if so */
        struct iovec copy_segment;
    } payload;
    bool refused;   /* a send() was answered with HAUL_BUSY: writable() is due */
    bool reporting; /* sent() or writable() is being called */
    bool failed;    /* nothing is written any more; the receiving side reports it */
    uint64_t pass;  /* in which pass_bytes were written */
    size_t pass_bytes;
};

struct haul_tcp_conn {
    struct haul_tcp_channel *channel;
    struct haul_link *link;
    enum haul_tcp_state state;
    int fd;
    struct haul_watch *watch;
    uint32_t events; /* that are watched */
    struct haul_tcp_timer timer;
    struct haul_tcp_dial *dial; /* while DIALING */
    const char *why;            /* of output.failed; static, or NULL: error says it */
    int error;                  /* errno of output.failed */
    struct haul_tcp_input input;
    struct haul_tcp_output output;
    TAILQ_ENTRY(haul_tcp_conn) draining;
};

/* A connection without socket. NULL: no memory, the error detail is set. */
struct haul_tcp_conn *haul_tcp_conn_create(struct haul_tcp_channel *channel,
                                           struct haul_link *link);
void haul_tcp_conn_destroy(struct haul_tcp_conn *conn);
/* Gives it a socket and watches that. After a failure the socket is still the caller's. */
int haul_tcp_conn_adopt(struct haul_tcp_conn *conn, int fd, uint32_t events);
/* Closes the socket, if it has one. */
void haul_tcp_conn_close(struct haul_tcp_conn *conn);
/* Sets the options of a socket that is connected. */
void haul_tcp_socket_tune(const struct haul_tcp_channel *channel, int fd);
/* Whether the system (net.core.wmem_max) grants the send buffer that is best between processes of
 * one host; a smaller one would be worse than none. */
bool haul_tcp_may_set_local_send_buffer(void);
/* Watches for what the state wants: bytes to read, and room to write if something is queued. */
void haul_tcp_conn_rearm(struct haul_tcp_conn *conn);
/* Ends the connection and tells core. */
void haul_tcp_conn_lose(struct haul_tcp_conn *conn, int err, const char *why);
/* A callback has refused to go on. */
void haul_tcp_conn_give_up(struct haul_tcp_conn *conn);
/* Writing cannot go on: when all that has arrived is read, the connection is lost. `why`: static,
 * or NULL: strerror(error). */
void haul_tcp_conn_fail(struct haul_tcp_conn *conn, const char *why, int error);
void haul_tcp_disconnect(void *conn, bool flush);
/* Reads the connection that was ready last, if it was not in this pass: while core looks again and
 * again, it is the likely next one, and reading costs less than asking which one is ready. Returns
 * whether anything came. */
bool haul_tcp_conn_try_recent(struct haul_tcp_channel *channel);
/* strerror() as a part of a sentence: "connection refused". Returns text. */
const char *haul_tcp_error_format(int error, char text[HAUL_TCP_ADDRESS_TEXT_BYTES]);

/* ---- dial.c --------------------------------------------------------------------------------- */

int haul_tcp_connect(void *channel, void *route, struct haul_link *link, void **conn);
/* The socket is connected, or has failed. */
void haul_tcp_dial_ready(struct haul_tcp_conn *conn);
/* The timer: the outcome is to be told, or an address did not answer in time. */
void haul_tcp_dial_expired(struct haul_tcp_conn *conn);

/* ---- listen.c ------------------------------------------------------------------------------- */

int haul_tcp_listen(void *channel, void *route, struct haul_listener *listener, void **handle,
                    char *bound, size_t bound_size);
void haul_tcp_unlisten(void *handle);

/* ---- receive.c ------------------------------------------------------------------------------ */

/* Reads what is there, up to a budget, and delivers it. Returns whether there was anything, be it
 * the end. */
bool haul_tcp_receive(struct haul_tcp_conn *conn);

/* ---- send.c --------------------------------------------------------------------------------- */

int haul_tcp_send(void *conn, const void *header, size_t header_bytes, const struct iovec *payload,
                  size_t payload_count, void *cookie);
enum haul_recall haul_tcp_recall(void *conn, void *cookie);
/* Writes what is queued, as far as the socket takes it and the budget goes. */
void haul_tcp_flush(struct haul_tcp_conn *conn);
/* Calls sent() and writable() where they are due. */
void haul_tcp_report(struct haul_tcp_conn *conn);
bool haul_tcp_output_empty(const struct haul_tcp_output *output);
/* Gives the payload's memory back before the connection ends. flush: what has begun will be sent to
 * its end. False if there is no memory for that. */
bool haul_tcp_output_settle(struct haul_tcp_conn *conn, bool flush);
void haul_tcp_output_free(struct haul_tcp_output *output);

/* ---- drain.c -------------------------------------------------------------------------------- */

void haul_tcp_drain_start(struct haul_tcp_conn *conn);
void haul_tcp_drain_ready(struct haul_tcp_conn *conn);
/* Ends it now; frees the connection. */
void haul_tcp_drain_end(struct haul_tcp_conn *conn);

#endif
