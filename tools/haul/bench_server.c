/* SPDX-License-Identifier: Apache-2.0
 * The server process of `haul bench`: receives, answers, and says how much in what time. */
#include "bench.h"

#include "arguments.h"
#include "bench_costs.h"
#include "bench_tally.h"
#include "command.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NS_PER_MS = 1000000, RAILS_MAX = 16 };
static const int64_t reply_timeout_ns = INT64_C(10) * 1000 * NS_PER_MS;
static const int64_t batch_finish_ns = INT64_C(1000) * NS_PER_MS;

struct server {
    const struct bench_options *options;
    struct ruler_board *board;
    struct haul_context *context;
    struct haul_server *server;
    struct haul_dict *answer;
    struct haul_dict *destination; /* --into dict */
    void **destination_memory;
    struct haul_batch *batches[2]; /* --into batch: one is filled while the other is looked at */
    unsigned next_batch;
    struct bench_tally tally;
    uint64_t verified;
    double empty_rss_mib; /* before the first peer */
    char path[128], why[512];
    char error[RULER_SENTENCE];
};

/* Notes why the run cannot go on. Returns false. */
__attribute__((format(printf, 2, 3))) static bool fail(struct server *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(s->error, sizeof(s->error), format, arguments);
    va_end(arguments);
    return false;
}

static bool fail_with(struct server *s, const char *what, int err)
{
    return fail(s, "%s: %s: %s", what, haul_error_name(err), haul_error_detail());
}

/* ---- Messages -------------------------------------------------------------------------------- */

/* Which bytes of a received message array `index` is: of a message, or of a row of a batch. */
struct received {
    struct haul_message *message; /* NULL: */
    struct haul_batch *batch;
    size_t row;
};

static const void *data_of(const struct bench_workload *workload, const struct received *received,
                           size_t index)
{
    const struct haul_array *want = &workload->arrays[index];
    const struct haul_array *array = received->message
                                         ? haul_message_find(received->message, want->key)
                                         : haul_batch_find(received->batch, want->key);
    if (!array || (received->message && array->nbytes != want->nbytes))
        return NULL;
    return (const char *)array->data + received->row * want->nbytes;
}

static bool verify(struct server *s, const struct received *received, uint64_t peer_id)
{
    const struct bench_workload *workload = &s->options->workload;
    const void *stamp = data_of(workload, received, workload->count - 1);
    if (!stamp)
        return fail(s, "a message has no stamp: give --verify to both halves");
    uint64_t client, number, due = bench_tally_due(&s->tally, peer_id);
    bench_stamp_read(stamp, &client, &number);
    if (number != due)
        return fail(s, "client %" PRIu64 ": message %" PRIu64 " came where %" PRIu64 " was due",
                    client, number, due);
    for (size_t i = 0; i < workload->count; i++) {
        const void *data = data_of(workload, received, i);
        if (!data || !bench_check(workload, i, data, client, number))
            return fail(s, "client %" PRIu64 ", message %" PRIu64 ": the bytes of %s are wrong",
                        client, number, workload->arrays[i].key);
    }
    s->verified++;
    return true;
}

static bool consume(struct server *s, const struct received *received, struct haul_peer *peer)
{
    const struct bench_workload *workload = &s->options->workload;
    uint64_t id = haul_peer_id(peer);
    if (s->path[0] == '\0')
        haul_peer_path(peer, s->path, sizeof(s->path), s->why, sizeof(s->why));
    if (!bench_tally_count(&s->tally, id, ruler_board_in(s->board, RULER_MEASURE)))
        return fail(s,
                    "more peers than --clients and --connections say: give both halves the same");
    if (s->options->touch)
        for (size_t i = 0; i < workload->count; i++) {
            const void *data = data_of(workload, received, i);
            if (!data)
                return fail(s, "a message is of another workload: give both halves the same");
            ruler_touch(data, workload->arrays[i].nbytes);
        }
    return !s->options->verify || verify(s, received, id);
}

/* A peer that is gone needs no answer. */
static bool is_fatal(int err)
{
    return err != 0 && err != HAUL_PEER_LOST && err != HAUL_INVALID;
}

static bool receive_message(struct server *s, int64_t timeout_ns)
{
    struct haul_message *message;
    int err = s->destination ? haul_recv_into(s->server, s->destination, &message, timeout_ns)
                             : haul_recv(s->server, &message, timeout_ns);
    if (err == HAUL_TIMEOUT || err == HAUL_INTERRUPTED)
        return true;
    if (err)
        return fail_with(s, "receiving", err);
    struct received received = {.message = message};
    bool good = consume(s, &received, haul_message_peer(message));
    if (good && haul_message_wants_reply(message))
        err = haul_reply(message, s->answer, reply_timeout_ns);
    haul_message_release(message);
    if (good && is_fatal(err))
        good = fail_with(s, "answering", err);
    return good;
}

static bool receive_batch(struct server *s, int64_t timeout_ns)
{
    struct haul_batch *batch = s->batches[s->next_batch];
    int err = haul_batch_wait(batch, timeout_ns);
    if (err && err != HAUL_TIMEOUT && err != HAUL_INTERRUPTED)
        return fail_with(s, "receiving a batch", err);
    for (size_t row = 0; row < haul_batch_rows(batch); row++) {
        struct received received = {.batch = batch, .row = row};
        if (!consume(s, &received, haul_batch_peer(batch, row)))
            return false;
        err = s->options->mode == BENCH_STREAM
                  ? 0
                  : haul_batch_reply(batch, row, s->answer, reply_timeout_ns);
        if (is_fatal(err))
            return fail_with(s, "answering a row", err);
    }
    err = haul_batch_post(batch, s->server);
    if (err)
        return fail_with(s, "posting a batch", err);
    s->next_batch ^= 1;
    return true;
}

/* finish_ns: how much longer a batch may take to fill. One that is ended early has its rows moved
 * together, which is no part of what is measured. */
static bool serve(struct server *s, uint64_t until_ns, int64_t finish_ns)
{
    for (uint64_t now_ns; (now_ns = ruler_now_ns()) < until_ns;) {
        int64_t left_ns = (int64_t)(until_ns - now_ns);
        if (!(s->batches[0] ? receive_batch(s, left_ns + finish_ns) : receive_message(s, left_ns)))
            return false;
    }
    return true;
}

/* ---- Set-up ---------------------------------------------------------------------------------- */

static bool make_answer(struct server *s)
{
    static const uint64_t shape[] = {4};
    int err = haul_dict_create(s->context, &s->answer);
    if (!err)
        err = haul_dict_put(s->answer, "done", HAUL_U8, 1, shape, "done");
    return !err || fail_with(s, "making the answer", err);
}

/* A dict with the workload's arrays in memory of our own, as a program's arrays are. */
static bool make_destination(struct server *s)
{
    const struct bench_workload *workload = &s->options->workload;
    s->destination_memory = calloc(workload->count, sizeof(*s->destination_memory));
    int err = haul_dict_create(s->context, &s->destination);
    for (size_t i = 0; !err && i < workload->count; i++) {
        struct haul_array array = workload->arrays[i];
        array.data = s->destination_memory[i] = aligned_alloc(64, (array.nbytes + 64) / 64 * 64);
        if (!array.data)
            return fail(s, "no memory for the destination");
        memset(array.data, 0, array.nbytes);
        err = haul_dict_put_array(s->destination, &array);
    }
    return !err || fail_with(s, "making the destination", err);
}

static bool make_batches(struct server *s)
{
    const struct bench_workload *workload = &s->options->workload;
    unsigned rows = s->options->batch_rows;
    if (rows == 0) /* one batch fills while the clients of the other wait for its answers */
        rows = bench_peers(s->options) > 1 ? bench_peers(s->options) / 2 : 1;
    struct haul_dict *row;
    int err = haul_dict_create(s->context, &row);
    if (err)
        return fail_with(s, "making a batch", err);
    for (size_t i = 0; !err && i < workload->count; i++) {
        struct haul_array array = workload->arrays[i];
        array.data = s; /* a batch does not look at the data of its row, but a dict wants some */
        err = haul_dict_put_array(row, &array);
    }
    for (int i = 0; !err && i < 2; i++) {
        err = haul_batch_create(s->context, row, rows, &s->batches[i]);
        if (!err)
            err = haul_batch_post(s->batches[i], s->server);
    }
    haul_dict_destroy(row);
    return !err || fail_with(s, "making a batch", err);
}

static bool set_up(struct server *s)
{
    int err = haul_open_with(s->options->providers, &s->context);
    if (err)
        return fail(s, "%s", haul_error_detail());
    err = haul_listen(s->context, s->options->listen ? s->options->listen : "127.0.0.1:0",
                      &s->server);
    if (err)
        return fail(s, "%s", haul_error_detail());
    if (!bench_tally_create(&s->tally, bench_peers(s->options)))
        return fail(s, "no memory to count messages in");
    if (!make_answer(s))
        return false;
    if (s->options->into == BENCH_INTO_DICT)
        return make_destination(s);
    return s->options->into == BENCH_INTO_POOL || make_batches(s);
}

static void tear_down(struct server *s)
{
    for (int i = 0; i < 2; i++)
        if (s->batches[i])
            haul_batch_destroy(s->batches[i]);
    if (s->destination)
        haul_dict_destroy(s->destination);
    if (s->answer)
        haul_dict_destroy(s->answer);
    if (s->server)
        haul_server_close(s->server);
    if (s->context)
        haul_close(s->context);
    for (size_t i = 0; s->destination_memory && i < s->options->workload.count; i++)
        free(s->destination_memory[i]);
    free(s->destination_memory);
    bench_tally_clear(&s->tally);
}

/* ---- Measuring ------------------------------------------------------------------------------- */

/* Waits until all clients are connected. They send nothing before. */
static bool await_clients(struct server *s)
{
    unsigned want = bench_peers(s->options);
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(BENCH_PATIENCE_S * 1e9);
    while (haul_server_peers(s->server, NULL, 0) < want) {
        if (ruler_now_ns() > end_ns)
            return fail(s, "only %zu of %u clients have connected in %d s",
                        haul_server_peers(s->server, NULL, 0), want, BENCH_PATIENCE_S);
        usleep(NS_PER_MS / 1000);
    }
    return true;
}

/* Goes on until the clients have left, so that their last messages are answered. */
static bool see_off(struct server *s)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(BENCH_PATIENCE_S * 1e9);
    while (haul_server_peers(s->server, NULL, 0) > 0)
        if (ruler_now_ns() > end_ns || !serve(s, ruler_now_ns() + 20 * NS_PER_MS, 0))
            return s->error[0] ? false : fail(s, "the clients do not leave");
    return true;
}

static bool measure(struct server *s, struct bench_reading *before, struct bench_reading *after)
{
    const struct bench_options *options = s->options;
    s->empty_rss_mib = bench_rss_mib();
    if (!await_clients(s))
        return false;
    ruler_board_enter(s->board, RULER_WARMUP);
    if (!serve(s, ruler_now_ns() + (uint64_t)(options->warmup * 1e9), batch_finish_ns))
        return false;
    bench_read_costs(s->context, s->board, before);
    ruler_board_enter(s->board, RULER_MEASURE);
    if (!serve(s, before->time_ns + (uint64_t)(options->duration * 1e9), batch_finish_ns))
        return false;
    bench_read_costs(s->context, s->board, after);
    ruler_board_enter(s->board, RULER_OVER);
    return true;
}

/* ---- The result ------------------------------------------------------------------------------ */

/* What each rail has read, the warm-up included; empty where the path has none. */
static json_t *rails_of(const struct server *s)
{
    struct haul_rail_stats rails[RAILS_MAX];
    size_t count = haul_context_rails(s->context, rails, RAILS_MAX);
    json_t *list = json_array();
    for (size_t i = 0; i < count && i < RAILS_MAX; i++)
        json_array_append_new(list, json_pack("{ss sI sb}", "name", rails[i].name, "bytes",
                                              (json_int_t)rails[i].bytes_read, "usable",
                                              rails[i].usable));
    return list;
}

static json_t *result_of(const struct server *s, const struct bench_reading *before,
                         const struct bench_reading *after)
{
    const struct bench_options *options = s->options;
    uint64_t messages = bench_tally_sum(&s->tally);
    double seconds = (double)(after->time_ns - before->time_ns) / 1e9;
    uint64_t bytes = messages * options->workload.bytes;
    double gib = (double)bytes / RULER_GIB;
    json_t *result = json_pack(
        "{ss ss ss si si ss sI sI sf sf sf}", "provider", options->providers, "path", s->path,
        "why", s->why, "clients", (int)options->clients, "connections", (int)options->connections,
        "mode", bench_mode_name(options->mode), "messages", (json_int_t)messages, "bytes",
        (json_int_t)bytes, "seconds", seconds, "gib_per_s", gib / seconds, "rows_per_s",
        (double)(messages * options->workload.rows) / seconds);
    bench_add_costs(result, before, after, messages, bytes, !options->listen);
    json_object_set_new(result, "fairness", json_real(bench_tally_fairness(&s->tally)));
    json_object_set_new(result, "rails", rails_of(s));
    json_object_set_new(result, "peers_served",
                        json_integer((json_int_t)bench_tally_served(&s->tally)));
    if (options->mode == BENCH_IDLE)
        bench_add_idle_costs(result, before, after, s->empty_rss_mib, bench_peers(options));
    return result;
}

int bench_server(const struct bench_options *options, struct ruler_board *board)
{
    struct server s = {.options = options, .board = board};
    struct bench_reading before, after;
    json_t *result = NULL;
    bool good = set_up(&s);
    if (good) {
        snprintf(board->address, sizeof(board->address), "%s", haul_server_address(s.server));
        if (options->listen)
            fprintf(stderr, "listening on %s for %u clients\n", board->address,
                    bench_peers(options));
        ruler_board_enter(board, RULER_CONNECT);
        good = measure(&s, &before, &after);
    }
    if (good)
        result = result_of(&s, &before, &after);
    if (good)
        good = see_off(&s);
    if (!good) {
        json_decref(result);
        result = json_pack("{ss}", "error", s.error);
    } else if (options->verify) { /* those that came after the measured time count as well */
        json_object_set_new(result, "verified", json_integer((json_int_t)s.verified));
    }
    json_dumpf(result, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(result);
    tear_down(&s);
    return good ? HAUL_EXIT_OK : HAUL_EXIT_FAILED;
}
