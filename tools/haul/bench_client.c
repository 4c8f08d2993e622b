/* SPDX-License-Identifier: Apache-2.0
 * A client process of `haul bench`: one or more peers that send the workload over and over. */
#include "bench.h"

#include "arguments.h"
#include "command.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { STREAM_WINDOW = 4, LOOK_MS = 100 };
static const int64_t patience_ns = INT64_C(1000000000) * BENCH_PATIENCE_S;

/* A message that is being sent, and the arrays that it is sent from. */
struct lane {
    struct haul_peer *peer;
    uint64_t *peer_messages; /* sent by this peer so far: the stamps */
    struct haul_dict *dict;
    struct haul_op *op; /* NULL: none under way */
    uint64_t begin_ns;
};

struct client {
    const struct bench_options *options;
    struct ruler_board *board;
    struct ruler_slot *slot;
    struct haul_context *context;
    struct haul_peer **peers;
    uint64_t *peer_messages;
    struct haul_dict **dicts; /* one for all lanes, or one per lane where messages differ */
    size_t dict_count;
    struct iovec *memory; /* of --memory user */
    size_t memory_count;
    struct lane *lanes;
    size_t lane_count;
};

/* Notes the sentence of the last error for the coordinator. Returns false. */
static bool fail(struct client *c, const char *what, int err)
{
    if (!ruler_board_in(c->board, RULER_OVER))
        snprintf(c->slot->error, sizeof(c->slot->error), "%s: %s: %s", what, haul_error_name(err),
                 haul_error_detail());
    return false;
}

/* ---- Arrays ---------------------------------------------------------------------------------- */

static int put_user_array(struct client *c, struct haul_dict *dict, struct haul_array array)
{
    size_t bytes = array.nbytes > 0 ? (size_t)array.nbytes : 1;
    array.data = ruler_map_array(bytes);
    if (!array.data)
        return HAUL_NO_MEMORY;
    c->memory[c->memory_count++] = (struct iovec){array.data, bytes};
    return haul_dict_put_array(dict, &array);
}

static int put_arrays(struct client *c, struct haul_dict *dict)
{
    const struct bench_workload *workload = &c->options->workload;
    int err = 0;
    for (size_t i = 0; !err && i < workload->count; i++) {
        struct haul_array array = workload->arrays[i];
        if (c->options->memory == BENCH_USER) {
            err = put_user_array(c, dict, array);
        } else {
            err = haul_dict_alloc_array(dict, &array);
            if (!err && c->options->memory == BENCH_POOL)
                memset(array.data, 1, array.nbytes);
        }
    }
    return err;
}

/* Before each send: new memory where the last message was given away, new contents to be verified.
 */
static int prepare(struct client *c, struct lane *lane)
{
    const struct bench_workload *workload = &c->options->workload;
    bool give = c->options->memory == BENCH_GIVE;
    uint64_t number = ++*lane->peer_messages;
    int err = give ? put_arrays(c, lane->dict) : 0;
    for (size_t i = 0; !err && i < workload->count; i++) {
        if (c->options->verify)
            bench_fill(workload, i, haul_dict_at(lane->dict, i)->data, c->options->index, number);
        if (give)
            err = haul_dict_give(lane->dict, workload->arrays[i].key);
    }
    return err;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void note_end(struct client *c, const struct lane *lane)
{
    if (!ruler_board_in(c->board, RULER_MEASURE))
        return;
    c->slot->messages++;
    ruler_record(&c->slot->latency, ruler_now_ns() - lane->begin_ns);
}

/* The whole exchange at once: the way of a program with one message under way. */
static bool exchange(struct client *c, struct lane *lane)
{
    struct haul_message *reply = NULL;
    int err = prepare(c, lane);
    lane->begin_ns = ruler_now_ns();
    if (!err)
        err = c->options->mode == BENCH_STREAM
                  ? haul_send(lane->peer, lane->dict, patience_ns)
                  : haul_call(lane->peer, lane->dict, &reply, patience_ns);
    if (err)
        return fail(c, "a message", err);
    note_end(c, lane);
    if (reply)
        haul_message_release(reply);
    return true;
}

static bool start(struct client *c, struct lane *lane)
{
    int err = prepare(c, lane);
    lane->begin_ns = ruler_now_ns();
    if (!err)
        err = c->options->mode == BENCH_STREAM ? haul_send_async(lane->peer, lane->dict, &lane->op)
                                               : haul_call_async(lane->peer, lane->dict, &lane->op);
    return !err || fail(c, "starting a message", err);
}

/* After the op's end. Its reply, if any, goes with it. */
static bool finish(struct client *c, struct lane *lane, int err)
{
    haul_op_release(lane->op);
    lane->op = NULL;
    if (err)
        return fail(c, "a message", err);
    note_end(c, lane);
    return true;
}

/* Waits for the oldest message of one peer. */
static bool turn_in_order(struct client *c, size_t *oldest)
{
    struct lane *lane = &c->lanes[*oldest];
    *oldest = (*oldest + 1) % c->lane_count;
    return finish(c, lane, haul_op_wait(lane->op, patience_ns)) && start(c, lane);
}

/* Looks after all messages that have ended; waits if there are none. */
static bool turn_in_any_order(struct client *c)
{
    bool some = false;
    for (size_t i = 0; i < c->lane_count; i++) {
        int err = haul_op_test(c->lanes[i].op);
        if (err == HAUL_BUSY)
            continue;
        some = true;
        if (!finish(c, &c->lanes[i], err) || !start(c, &c->lanes[i]))
            return false;
    }
    struct pollfd ready = {.fd = haul_context_fd(c->context), .events = POLLIN};
    if (!some)
        poll(&ready, 1, LOOK_MS);
    return true;
}

static bool over(const struct client *c)
{
    return ruler_board_in(c->board, RULER_OVER);
}

static bool send_until_over(struct client *c)
{
    if (c->lane_count == 1) {
        while (!over(c))
            if (!exchange(c, &c->lanes[0]))
                return false;
        return true;
    }
    for (size_t i = 0; i < c->lane_count; i++)
        if (!start(c, &c->lanes[i]))
            return false;
    size_t oldest = 0;
    while (!over(c))
        if (!(c->options->connections == 1 ? turn_in_order(c, &oldest) : turn_in_any_order(c)))
            return false;
    return true;
}

/* Messages under way at the end are awaited, so that the server sees whole ones only. */
static bool finish_all(struct client *c)
{
    bool good = true;
    for (size_t i = 0; i < c->lane_count; i++)
        if (c->lanes[i].op)
            good &= finish(c, &c->lanes[i], haul_op_wait(c->lanes[i].op, patience_ns));
    return good;
}

/* Each peer has been of use once, then all are idle. */
static bool idle_until_over(struct client *c)
{
    for (size_t i = 0; i < c->lane_count; i++)
        if (!exchange(c, &c->lanes[i]))
            return false;
    ruler_board_await(c->board, RULER_OVER, UINT64_MAX / 2);
    return true;
}

/* ---- Set-up ---------------------------------------------------------------------------------- */

static bool connect_peers(struct client *c)
{
    for (unsigned i = 0; i < c->options->connections; i++) {
        int err = haul_connect(c->context, c->board->address, patience_ns, &c->peers[i]);
        if (err)
            return fail(c, "connecting", err);
        atomic_store(&c->slot->connected, i + 1);
    }
    char why[RULER_SENTENCE];
    haul_peer_path(c->peers[0], c->slot->path, sizeof(c->slot->path), why, sizeof(why));
    return true;
}

/* One dict can be in flight many times, but not if its contents change or are given away. */
static bool make_dicts(struct client *c)
{
    bool differ = c->options->verify || c->options->memory == BENCH_GIVE;
    c->dict_count = differ ? c->lane_count : 1;
    c->dicts = calloc(c->dict_count, sizeof(*c->dicts));
    c->memory = calloc(c->dict_count * c->options->workload.count, sizeof(*c->memory));
    int err = c->dicts && c->memory ? 0 : HAUL_NO_MEMORY;
    for (size_t i = 0; !err && i < c->dict_count; i++) {
        err = haul_dict_create(c->context, &c->dicts[i]);
        if (!err && c->options->memory != BENCH_GIVE)
            err = put_arrays(c, c->dicts[i]);
    }
    return !err || fail(c, "making the arrays", err);
}

static bool set_up(struct client *c)
{
    unsigned peers = c->options->connections;
    c->lane_count = peers * (c->options->mode == BENCH_STREAM ? STREAM_WINDOW : 1);
    c->peers = calloc(peers, sizeof(*c->peers));
    c->peer_messages = calloc(peers, sizeof(*c->peer_messages));
    c->lanes = calloc(c->lane_count, sizeof(*c->lanes));
    int err = c->peers && c->peer_messages && c->lanes ? 0 : HAUL_NO_MEMORY;
    if (!err)
        err = haul_open_with(c->options->providers, &c->context);
    if (err)
        return fail(c, "starting", err);
    if (!make_dicts(c) || !connect_peers(c))
        return false;
    for (size_t i = 0; i < c->lane_count; i++)
        c->lanes[i] = (struct lane){.peer = c->peers[i % peers],
                                    .peer_messages = &c->peer_messages[i % peers],
                                    .dict = c->dicts[i % c->dict_count]};
    return true;
}

static void tear_down(struct client *c)
{
    for (unsigned i = 0; c->peers && i < c->options->connections; i++)
        if (c->peers[i])
            haul_peer_release(c->peers[i]);
    for (size_t i = 0; c->dicts && i < c->dict_count; i++)
        if (c->dicts[i])
            haul_dict_destroy(c->dicts[i]);
    if (c->context)
        haul_close(c->context);
    for (size_t i = 0; i < c->memory_count; i++)
        munmap(c->memory[i].iov_base, c->memory[i].iov_len);
    free(c->memory);
    free(c->lanes);
    free(c->dicts);
    free(c->peer_messages);
    free(c->peers);
}

int bench_client(const struct bench_options *options, struct ruler_board *board)
{
    struct client c = {.options = options, .board = board, .slot = &board->slots[options->index]};
    c.slot->pid = getpid();
    bool good = set_up(&c);
    if (good) {
        ruler_board_await(board, RULER_WARMUP, UINT64_MAX / 2);
        good = options->mode == BENCH_IDLE ? idle_until_over(&c) : send_until_over(&c);
    }
    if (good)
        good = finish_all(&c);
    bool ended = good || ruler_board_in(board, RULER_OVER); /* the server may leave first */
    tear_down(&c);
    return ended ? HAUL_EXIT_OK : HAUL_EXIT_FAILED;
}
