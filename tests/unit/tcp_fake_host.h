/* SPDX-License-Identifier: Apache-2.0
 * A core for tests of the provider tcp: an epoll loop, and links that check every byte they get. */
#ifndef HAUL_TCP_FAKE_HOST_H
#define HAUL_TCP_FAKE_HOST_H

#include "host_basics.h"
#include "host_watches.h"

enum refusal { REFUSE_NOTHING, REFUSE_CHECK, REFUSE_FRAME, REFUSE_RECEIVED, REFUSE_TARGET };

enum { FAKE_TEXT_BYTES = 512, FAKE_LINKS_MAX = 512 };

/* One context with its channel. */
struct haul_engine {
    struct host_watches watches;
    int watch_errno; /* not 0: watching fails with it */
    const struct haul_channel_ops *ops;
    void *channel;
    const char *heartbeat;
    unsigned woken;
    struct haul_link *accepted[FAKE_LINKS_MAX];
    unsigned accepted_count;
    bool refuses_links;
    enum refusal refusal; /* of links that are accepted */
};

struct haul_listener {
    struct haul_engine *engine;
    void *route, *handle;
    char bound[FAKE_TEXT_BYTES];
};

struct haul_link {
    struct haul_engine *engine;
    void *route, *conn;
    char address[FAKE_TEXT_BYTES];
    unsigned connected, lost;
    int lost_err;
    char why[FAKE_TEXT_BYTES];

    enum refusal refusal;
    unsigned refused; /* must stay 1: nothing may be delivered after it */
    uint64_t frames;  /* that are whole */
    uint64_t checks, headers;
    uint64_t payload_total;
    bool in_payload;
    uint64_t payload_bytes, payload_have;
    uint8_t *payload;
    size_t segment_max;                       /* of target(), 0: no limit */
    void (*on_frame)(struct haul_link *link); /* a frame is whole */

    unsigned sent, writable;
    unsigned depth, depth_max; /* of calls of sent() and writable() in each other */
    void (*on_sent)(struct haul_link *link);
    void (*on_writable)(struct haul_link *link);
    uint64_t next_seq; /* of fake_send() */
};

/* What fake_send() lends; freed by sent(), so that a sanitizer sees who reads it later. */
struct parcel {
    struct haul_link *link;
    struct iovec *segments;
    size_t count;
    uint8_t *bytes;
};

void fake_open(struct haul_engine *engine);
void fake_close(struct haul_engine *engine);
/* Added to the real clock. */
extern uint64_t fake_clock_ns;
/* Not 0: time stands still then but for fake_clock_ns, so that nothing is late where the machine is
 * slow. */
extern uint64_t fake_clock_stopped_ns;

/* host: without brackets; NULL: `service` is the path of a Unix socket. */
struct haul_address fake_address(const char *host, const char *service);
int fake_listen(struct haul_engine *engine, struct haul_listener *listener, const char *host,
                const char *service);
void fake_unlisten(struct haul_listener *listener);
/* The port of a listener, as text. */
const char *fake_port(const struct haul_listener *listener);
struct haul_link *fake_connect(struct haul_engine *engine, const char *host, const char *service);
/* Disconnects and frees; all lent payloads must be back. */
void fake_disconnect(struct haul_link *link, bool flush);

/* One pass over ready descriptors. */
bool fake_pass(struct haul_engine *engine);
/* Drives both (b may be NULL) until done(arg); fails the test after a long time. */
void fake_drive(struct haul_engine *a, struct haul_engine *b, bool (*done)(void *arg), void *arg);

/* Drives one until nothing is left to do; what lies in sockets of others stays there. */
void fake_settle(struct haul_engine *engine);

struct fake_frames {
    const struct haul_link *link;
    uint64_t frames; /* wanted */
};
/* Conditions for fake_drive(). */
bool fake_has_frames(void *fake_frames);
bool fake_link_ready(void *link); /* connected or lost */
bool fake_link_lost(void *link);

/* A client in one engine connected to a server in another. */
struct fake_pair {
    struct haul_engine a, b;
    struct haul_listener listener; /* of b */
    struct haul_link *client, *server;
};
/* host NULL: over a Unix socket. Links that are accepted will refuse what `refusal` says. */
void fake_pair_open(struct fake_pair *pair, const char *host, enum refusal refusal);
void fake_pair_close(struct fake_pair *pair);
void fake_pair_drive(struct fake_pair *pair, bool (*done)(void *arg), void *arg);
/* Until the link has that many frames, and no more. */
void fake_pair_drive_frames(struct fake_pair *pair, struct haul_link *link, uint64_t frames);

/* Sockets that are driven by hand; they block. To a Unix socket or 127.0.0.1. */
int fake_raw_connect(const struct haul_listener *listener);
/* Listens on 127.0.0.1; writes the port. */
int fake_raw_listen(char port[8]);

bool fake_has_ipv6(void);

/* The path of a Unix socket in a new temporary folder, one at a time, and the end of both. */
void fake_path_make(char path[FAKE_TEXT_BYTES]);
void fake_path_remove(void);

/* A frame that links recognise: its body has the sequence number and then a pattern. Written to a
 * new buffer; the payload's pattern goes to *payload, if there is any. */
uint8_t *fake_frame(uint64_t seq, size_t body_bytes, uint64_t payload_bytes, uint8_t **payload);
void fake_pattern(uint8_t *to, uint64_t seq, uint64_t offset, size_t bytes);
/* Sends the next frame; the payload in `parts` segments. Returns what send() does; *lent: the
 * cookie. */
int fake_send(struct haul_link *link, size_t body_bytes, uint64_t payload_bytes, size_t parts,
              struct parcel **lent);
void fake_parcel_free(struct parcel *parcel);

#endif
