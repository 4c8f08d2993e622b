/* SPDX-License-Identifier: Apache-2.0
 * A host for the provider `loop`: core's side of engines and links, made for tests. Its clock
 * stands still (host_clock_ns). */
#ifndef HAUL_TESTS_LOOP_HOST_H
#define HAUL_TESTS_LOOP_HOST_H

#include "host_basics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FRAMES = 64, MEMORY = 1 << 16 };

struct haul_engine {
    const struct setting *settings; /* ends with a NULL name; all else has its default */
    void *channel, *rma;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool wake_pending;
};

struct haul_link {
    struct haul_engine *engine;
    void *conn;
    int connected, lost, lost_err;
    char why[256];
    bool refuse_frames; /* answer HAUL_PROTOCOL to the next frame */
    /* Received */
    size_t frames;
    uint8_t headers[FRAMES][64];
    uint8_t memory[MEMORY]; /* all payloads, one after the other */
    size_t received, whole; /* bytes; payloads */
    uint64_t expected;      /* bytes of the payload being received that are missing */
    size_t lent;
    void *tokens[FRAMES];
    bool stream; /* payloads have the pattern of their frame's type and are checked, not kept */
    size_t corrupt;
    /* Sent */
    int sent, writable;
    void *cookie;
};

struct haul_listener {
    struct haul_engine *engine;
    bool refuse;
    struct haul_link *accepted; /* the newest */
};

extern const struct haul_provider *provider;

/* The cookie of a read is where its result goes: NOT_DONE before. */
enum { NOT_DONE = 1 };

/* A group setup: loads the plugin from HAUL_PROVIDER_PATH, as core finds it. */
int load_loop(void **state);
/* Asks the loaded plugin for its tables, as a new process with HAUL_LOOP_PARTS=parts would. */
void ask_loop_again(const char *parts);

/* Byte i of a payload. */
static inline uint8_t pattern(uint8_t seed, size_t i)
{
    return (uint8_t)(seed + i * 7);
}

void engine_open(struct haul_engine *engine, const struct setting *settings);
void engine_close(struct haul_engine *engine);
/* Runs progress() of both tables once. Returns whether one did anything. */
bool engine_pass(struct haul_engine *engine);
/* Sleeps until somebody has called wake(). */
void engine_wait(struct haul_engine *engine);
/* Runs both engines until neither has anything to do. */
void settle(struct haul_engine *a, struct haul_engine *b);
struct haul_link *link_create(struct haul_engine *engine);
/* Waits for a condition; a test that would hang ends. The lock is held. */
void wait_for(pthread_cond_t *condition, pthread_mutex_t *lock);

/* A client in engine a, a server in engine b. */
struct pair {
    struct haul_engine a, b;
    struct haul_listener listener;
    void *listening, *server_route, *client_route;
    struct haul_link *client, *server;
};

/* A route to a port, in this engine. */
void *route_to(struct haul_engine *engine, const char *service, bool listening);
/* Opens both engines, the server listens. */
void pair_listen(struct pair *pair, const struct setting *client_settings,
                 const struct setting *server_settings);
/* The client starts to connect. */
void dial(struct pair *pair);
/* Both and until they are connected. */
void pair_open(struct pair *pair, const struct setting *client_settings,
               const struct setting *server_settings);
/* Disconnects and frees a link, if there is one. */
void hang_up(struct haul_link **link);
void pair_close(struct pair *pair);
/* Sends a frame of 20 bytes header; returns what send() does. */
int send_frame(struct haul_link *link, uint8_t type, const struct iovec *payload, size_t count,
               void *cookie);
/* A frame without payload, which must be taken. */
void send_control(struct haul_link *link, uint8_t type);

#endif
