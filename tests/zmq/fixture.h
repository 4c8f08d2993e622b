/* SPDX-License-Identifier: Apache-2.0
 * What the tests of the zmq plugin start from: a server, clients of haul, raw ZeroMQ clients. */
#ifndef HAUL_TEST_ZMQ_FIXTURE_H
#define HAUL_TEST_ZMQ_FIXTURE_H

#include "host.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <zmq.h>

enum { LARGE = 12 << 20, TYPE = 4, TYPE_HELLO = 1 };

/* An engine that listens. */
struct fixture {
    struct haul_engine engine;
    struct haul_listener listener;
    void *handle, *route;
};

void open_at(struct fixture *fixture, const char *address);
void unlisten(struct fixture *fixture);
int setup(void **state);
int teardown(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* For run_until(), with a link. */
bool is_lost(void *link);
bool is_writable(void *link);
/* Each waits for at least so many. */
void await_frames(struct haul_link *link, size_t frames);
void await_sent(struct haul_link *link, unsigned times); /* of cookie 0 */
struct haul_link *await_accepted(struct fixture *fixture, size_t count);

/* A client of haul that has said hello, and its link on the server. */
struct haul_link *join(struct fixture *fixture, struct haul_link **at_server);
uint8_t *pattern(size_t bytes, uint8_t seed);

/* A client that is not haul's. */
struct raw {
    void *context, *socket;
};

struct raw raw_connect(struct fixture *fixture, int type, const char *id);
void raw_close(struct raw *raw);
/* Sends a frame that announces `payload` bytes and carries `parts` parts of `bytes` each. */
void raw_send(struct raw *raw, uint64_t payload, size_t parts, size_t bytes);

#endif
