/* SPDX-License-Identifier: Apache-2.0
 * A small host for a channel provider: an event loop, and links that record what they are told. */
#ifndef HAUL_TEST_ZMQ_HOST_H
#define HAUL_TEST_ZMQ_HOST_H

#include "host_basics.h"
#include "host_watches.h"

enum { FRAMES_MAX = 4096, LINKS_MAX = 1024, COOKIES_MAX = 64 };

struct part {
    void *data;
    size_t bytes;
    void *token; /* NULL: given back */
};

struct frame {
    uint8_t *header;
    size_t header_bytes;
    struct part *parts;
    size_t part_count;
    uint64_t payload_bytes;
};

struct haul_link {
    struct haul_link *next; /* of all, for links_free() */
    struct haul_engine *engine;
    void *conn;
    void *route; /* of a link that was dialled */
    char address[256];
    bool connected;
    bool lost;
    int lost_err;
    char why[256];
    bool refuse; /* answer the next frame with an error */
    struct frame frames[FRAMES_MAX];
    size_t frame_count;
    unsigned sent[COOKIES_MAX]; /* how often, by cookie */
    unsigned writable;
};

struct haul_listener {
    struct haul_engine *engine;
    bool refuse;
    struct haul_link *links[LINKS_MAX]; /* accepted, in order */
    size_t link_count;
};

struct haul_engine {
    const struct haul_channel_ops *ops;
    void *channel;
    struct host_watches watches;
    struct haul_watch *wake;
    int wake_fd;
    const char *io_threads, *keep_memory; /* the settings zmq_... */
    char bound[256];
};

/* The provider, loaded from the folder in HAUL_PROVIDER_PATH. */
const struct haul_provider *load_provider(void);

/* Opens an engine with these settings; the result is that of the provider's open(). */
int engine_open(struct haul_engine *engine, const char *io_threads, const char *keep_memory);
/* Hangs up all of its links first. */
void engine_close(struct haul_engine *engine);
/* Runs the loop until condition(arg); fails the test after a generous time. */
void run_until(struct haul_engine *engine, bool (*condition)(void *arg), void *arg);

/* Resolves "host:port", ":port" or "unix:/path" and listens; returns the provider's result. */
int listen_at(struct haul_engine *engine, const char *address, struct haul_listener *listener,
              void **handle, void **route);
/* Resolves, connects and waits for connected or lost. */
struct haul_link *dial(struct haul_engine *engine, const char *address);
/* Disconnects, unless that was done. */
void hang_up(struct haul_link *link, bool flush);
/* Frees all links, when their engines are closed. */
void links_free(void);
/* Gives all parts of a link's frames back. */
void give_back_all(struct haul_link *link);

/* Sends a frame: a body of `body_bytes` filled with `tag`, and the payload. */
int send_frame(struct haul_link *link, uint8_t type, size_t body_bytes, uint8_t tag,
               const struct iovec *payload, size_t count, size_t cookie);
/* Makes a frame's header in `to`, which has room for 16 + body_bytes. */
void make_header(uint8_t *to, uint8_t type, uint32_t body_bytes, uint64_t payload_bytes,
                 uint8_t tag);

#endif
