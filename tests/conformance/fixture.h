/* SPDX-License-Identifier: Apache-2.0
 * What conformance tests share: two contexts in one process, a server, a client's peer, and arrays
 * whose every byte can be checked. The provider is HAUL_PROVIDER's. */
#ifndef HAUL_TESTS_FIXTURE_H
#define HAUL_TESTS_FIXTURE_H

#include <haul/haul.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Generous: no test fails because a machine is slow. */
#define WAIT_NS (60 * (int64_t)1000000000)
/* For waits that must run into their limit. */
#define SHORT_NS (50 * (int64_t)1000000)

/* Fails the test with haul's own sentence. */
#define OK(call) ok_((call), #call, __FILE__, __LINE__)
void ok_(int err, const char *call, const char *file, int line);
/* The call must fail so, with a detail that holds `words`. */
#define FAILS(err, words, call) fails_((err), (words), (call), #call, __FILE__, __LINE__)
void fails_(int wanted, const char *words, int err, const char *call, const char *file, int line);
/* The op ends well; released. */
#define FINISH(op) finish_((op), #op, __FILE__, __LINE__)
void finish_(struct haul_op *op, const char *name, const char *file, int line);

struct pair {
    struct haul_context *server_context, *client_context;
    struct haul_server *server;
    struct haul_peer *peer;
};
/* cmocka setup and teardown; *state is a struct pair. */
int pair_setup(void **state);
int pair_teardown(void **state);
/* A pair whose contexts have these settings ("name", "value", ..., NULL). */
struct pair *pair_open(const char *setting, ...);
void pair_close(struct pair *pair);
/* A context of the provider with settings. */
struct haul_context *context_open(const char *setting, ...);
struct haul_peer *connect_to(struct haul_context *context, struct haul_server *server);

/* Whatever its kind. */
bool provider_is(const char *name);

/* Bytes that depend on seed and place. */
void fill(void *data, size_t bytes, uint64_t seed);
bool is_filled(const void *data, size_t bytes, uint64_t seed);
/* dict[key] = bytes of u8 at `data`, filled with seed. */
void put_bytes(struct haul_dict *dict, const char *key, void *data, size_t bytes, uint64_t seed);
struct haul_dict *dict_of(struct haul_context *context, const char *key, void *data, size_t bytes,
                          uint64_t seed);
void assert_bytes(const struct haul_message *message, const char *key, size_t bytes, uint64_t seed);

/* A thread that receives `count` messages, checks nothing, and answers calls with an empty dict. */
struct echo {
    struct haul_server *server;
    struct haul_context *context;
    unsigned count;
    pthread_t thread;
};
void echo_start(struct echo *echo, struct pair *pair, unsigned count);
void echo_join(struct echo *echo);

#endif
