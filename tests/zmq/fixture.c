/* SPDX-License-Identifier: Apache-2.0
 * See fixture.h. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void open_at(struct fixture *fixture, const char *address)
{
    assert_int_equal(engine_open(&fixture->engine, "1", "on"), 0);
    assert_int_equal(
        listen_at(&fixture->engine, address, &fixture->listener, &fixture->handle, &fixture->route),
        0);
}

int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    open_at(fixture, "127.0.0.1:0");
    *state = fixture;
    return 0;
}

void unlisten(struct fixture *fixture)
{
    if (fixture->handle) {
        fixture->engine.ops->unlisten(fixture->handle);
        fixture->engine.ops->route_free(fixture->route);
    }
    fixture->handle = NULL;
}

int teardown(void **state)
{
    struct fixture *fixture = *state;
    unlisten(fixture);
    engine_close(&fixture->engine);
    links_free();
    free(fixture);
    return 0;
}

/* ---- Conditions ----------------------------------------------------------------------------- */

bool is_lost(void *arg)
{
    return ((struct haul_link *)arg)->lost;
}

bool is_writable(void *arg)
{
    return ((struct haul_link *)arg)->writable > 0;
}

struct awaited {
    struct haul_link *link;
    size_t frames;
    unsigned sent; /* of cookie 0 */
};

static bool has_come(void *arg)
{
    const struct awaited *awaited = arg;
    return awaited->link->frame_count >= awaited->frames && awaited->link->sent[0] >= awaited->sent;
}

void await_frames(struct haul_link *link, size_t frames)
{
    struct awaited awaited = {link, frames, 0};
    run_until(link->engine, has_come, &awaited);
}

void await_sent(struct haul_link *link, unsigned times)
{
    struct awaited awaited = {link, 0, times};
    run_until(link->engine, has_come, &awaited);
}

struct accepting {
    struct haul_listener *listener;
    size_t count;
};

static bool has_accepted(void *arg)
{
    const struct accepting *accepting = arg;
    return accepting->listener->link_count >= accepting->count;
}

struct haul_link *await_accepted(struct fixture *fixture, size_t count)
{
    struct accepting accepting = {&fixture->listener, count};
    run_until(&fixture->engine, has_accepted, &accepting);
    return fixture->listener.links[count - 1];
}

/* ---- Helpers -------------------------------------------------------------------------------- */

struct haul_link *join(struct fixture *fixture, struct haul_link **at_server)
{
    size_t before = fixture->listener.link_count;
    struct haul_link *link = dial(&fixture->engine, fixture->engine.bound);
    assert_true(link->connected && !link->lost);
    assert_int_equal(send_frame(link, TYPE_HELLO, 8, 'h', NULL, 0, 0), 0);
    *at_server = await_accepted(fixture, before + 1);
    return link;
}

uint8_t *pattern(size_t bytes, uint8_t seed)
{
    uint8_t *data = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(seed + i * 7 + (i >> 11));
    return data;
}

struct raw raw_connect(struct fixture *fixture, int type, const char *id)
{
    struct raw raw = {.context = zmq_ctx_new()};
    char endpoint[300];
    int no_linger = 0, timeout_ms = 60000;
    raw.socket = zmq_socket(raw.context, type);
    zmq_setsockopt(raw.socket, ZMQ_LINGER, &no_linger, sizeof no_linger);
    zmq_setsockopt(raw.socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    if (id)
        zmq_setsockopt(raw.socket, ZMQ_ROUTING_ID, id, strlen(id));
    snprintf(endpoint, sizeof endpoint, "tcp://%s", fixture->engine.bound);
    assert_int_equal(zmq_connect(raw.socket, endpoint), 0);
    return raw;
}

void raw_close(struct raw *raw)
{
    zmq_close(raw->socket);
    zmq_ctx_term(raw->context);
}

void raw_send(struct raw *raw, uint64_t payload, size_t parts, size_t bytes)
{
    uint8_t header[HAUL_PREFIX_BYTES + 4];
    uint8_t *data = calloc(1, bytes + 1);
    make_header(header, TYPE, 4, payload, 'r');
    assert_int_equal(zmq_send(raw->socket, header, sizeof header, parts > 0 ? ZMQ_SNDMORE : 0),
                     sizeof header);
    for (size_t i = 0; i < parts; i++)
        assert_int_equal(zmq_send(raw->socket, data, bytes, i + 1 < parts ? ZMQ_SNDMORE : 0),
                         bytes);
    free(data);
}
