/* SPDX-License-Identifier: Apache-2.0
 * One run of `haul bench`: starts the server and the clients, and collects what they measured. */
#include "bench.h"
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
    const struct bench_options *options;
    const char *provider;
    struct ruler_board *board;
    int board_fd;
    struct bench_child server;
    struct bench_child *clients;
    char error[RULER_SENTENCE + 64];
};

static bool fail(struct run *run, const char *what)
{
    if (run->error[0] == '\0')
        snprintf(run->error, sizeof(run->error), "%s", what);
    return false;
}

static bool fail_errno(struct run *run, const char *what)
{
    snprintf(run->error, sizeof(run->error), "%s: %s", what, strerror(errno));
    return false;
}

/* ---- Processes ------------------------------------------------------------------------------- */

/* Starts this program again with its own arguments and a role. */
static bool start_role(struct run *run, struct bench_child *child, const char *role, unsigned index,
                       const char *preload)
{
    enum { MORE = 8 };
    const struct bench_options *options = run->options;
    const char **argv = calloc((size_t)options->argc + MORE + 2, sizeof(*argv));
    char board[32], slot[32];
    if (!argv)
        return fail(run, "no memory");
    snprintf(board, sizeof(board), "%d", run->board_fd);
    snprintf(slot, sizeof(slot), "%u", index);
    const char *const more[MORE] = {"--provider", run->provider, "--role",  role,
                                    "--board",    board,         "--index", slot};
    int n = 0;
    argv[n++] = "/proc/self/exe";
    argv[n++] = "bench";
    for (int i = 1; i < options->argc; i++)
        argv[n++] = options->argv[i];
    for (int i = 0; i < MORE; i++)
        argv[n++] = more[i];
    bool started = bench_child_start(child, argv, preload, strcmp(role, "server") == 0);
    free(argv);
    return started || fail_errno(run, "cannot start a process");
}

static bool start_server(struct run *run)
{
    char library[BENCH_PATH];
    bool counts = access(bench_file("libhaul_count.so", library), R_OK) == 0;
    return start_role(run, &run->server, "server", 0, counts ? library : NULL);
}

static bool start_clients(struct run *run)
{
    run->clients = calloc(run->options->clients, sizeof(*run->clients));
    if (!run->clients)
        return fail(run, "no memory");
    for (unsigned i = 0; i < run->options->clients; i++)
        run->clients[i].output = -1;
    for (unsigned i = 0; i < run->options->clients; i++)
        if (!start_role(run, &run->clients[i], "client", i, NULL))
            return false;
    return true;
}

/* Whether all clients go on or ended well; else notes why the first one did not. */
static bool clients_are_well(struct run *run)
{
    for (unsigned i = 0; i < run->options->clients; i++) {
        if (run->clients[i].pid <= 0)
            continue;
        int code = bench_child_wait(&run->clients[i], 0);
        if (code <= 0)
            continue;
        const char *sentence = run->board->slots[i].error;
        char text[64];
        snprintf(text, sizeof(text), "client %u ended with exit code %d", i, code);
        return fail(run, sentence[0] ? sentence : text);
    }
    return !haul_interrupt_signal() || fail(run, "stopped");
}

/* Looks at the clients while they are measured: rarely, because each look takes a CPU from them. */
enum { WATCH_US = 20000 };

static bool await_clients_end(struct run *run)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(BENCH_PATIENCE_S * 1e9);
    for (unsigned i = 0; i < run->options->clients; i++)
        while (run->clients[i].pid > 0) {
            if (!clients_are_well(run))
                return false;
            if (ruler_now_ns() > end_ns)
                return fail(run, "the clients did not end");
            usleep(WATCH_US);
        }
    return true;
}

static bool open_run(struct run *run)
{
    run->board = ruler_board_create(run->options->clients, &run->board_fd);
    return run->board || fail_errno(run, "cannot make shared memory");
}

/* Ends everything that still runs. */
static void close_run(struct run *run)
{
    bench_child_kill(&run->server);
    for (unsigned i = 0; run->clients && i < run->options->clients; i++)
        bench_child_kill(&run->clients[i]);
    free(run->clients);
    ruler_board_close(run->board);
    if (run->board_fd >= 0)
        close(run->board_fd);
}

/* ---- Results --------------------------------------------------------------------------------- */

static json_t *latency_of(const struct ruler_board *board)
{
    struct ruler_histogram *all = calloc(1, sizeof(*all));
    if (!all)
        return json_null();
    for (uint32_t i = 0; i < board->slot_count; i++)
        ruler_merge(all, &board->slots[i].latency);
    json_t *latency =
        all->count == 0
            ? json_null()
            : json_pack("{sf sf sf sf}", "p50", ruler_quantile_us(all, 0.5), "p99",
                        ruler_quantile_us(all, 0.99), "p999", ruler_quantile_us(all, 0.999), "max",
                        (double)all->max_ns / 1000);
    free(all);
    return latency;
}

/* What the server printed, when it has ended: its result, or NULL and why there is none. */
static json_t *read_server(struct run *run, double seconds)
{
    char *text = bench_child_read(&run->server, seconds);
    json_t *result = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    int code = result ? bench_child_wait(&run->server, BENCH_PATIENCE_S) : -1;
    const char *error = result ? json_string_value(json_object_get(result, "error")) : NULL;
    if (result && !error && code == HAUL_EXIT_OK)
        return result;
    fail(run, error ? error : haul_interrupt_signal() ? "stopped" : "the server died");
    json_decref(result);
    return NULL;
}

/* Whether the server has nothing more to say: it closed its output. */
static bool server_has_ended(const struct run *run)
{
    struct pollfd output = {.fd = run->server.output, .events = POLLIN};
    return poll(&output, 1, 0) > 0;
}

static json_t *no_result(const struct run *run)
{
    return json_pack("{ss ss}", "provider", run->provider, "reason", run->error);
}

/* ---- A run on one host -------------------------------------------------------------------------
 */

static double run_seconds(const struct bench_options *options)
{
    return options->warmup + options->duration;
}

/* Waits for the server's address. */
static bool await_address(struct run *run)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(BENCH_PATIENCE_S * 1e9);
    while (!ruler_board_await(run->board, RULER_CONNECT, 20000000)) {
        if (haul_interrupt_signal())
            return fail(run, "stopped");
        if (ruler_now_ns() > end_ns)
            return fail(run, "the server did not come up");
        if (server_has_ended(run)) { /* it says why */
            json_decref(read_server(run, BENCH_PATIENCE_S));
            return fail(run, "the server ended at once");
        }
    }
    return true;
}

/* Watches the clients while they are measured: one that fails ends the run. */
static bool watch(struct run *run)
{
    uint64_t end_ns =
        ruler_now_ns() + (uint64_t)((run_seconds(run->options) + BENCH_PATIENCE_S) * 1e9);
    while (!ruler_board_await(run->board, RULER_OVER, 50000000)) {
        if (server_has_ended(run)) { /* asked first: its clients fail after it */
            json_decref(read_server(run, BENCH_PATIENCE_S));
            return fail(run, "the server ended too early");
        }
        if (!clients_are_well(run))
            return false;
        if (ruler_now_ns() > end_ns)
            return fail(run, "the run did not end");
    }
    return true;
}

static json_t *run_here(struct run *run)
{
    if (!open_run(run) || !start_server(run) || !await_address(run) || !start_clients(run) ||
        !watch(run) || !await_clients_end(run))
        return NULL;
    json_t *result = read_server(run, BENCH_PATIENCE_S);
    if (result)
        json_object_set_new(result, "latency_us", latency_of(run->board));
    return result;
}

/* ---- The halves of a run on two hosts ----------------------------------------------------------
 */

static json_t *run_listen(struct run *run)
{
    if (!open_run(run) || !start_server(run))
        return NULL;
    json_t *result = read_server(run, 2 * BENCH_PATIENCE_S + run_seconds(run->options));
    if (result)
        json_object_set_new(result, "latency_us", json_null());
    return result;
}

static bool watch_for(struct run *run, double seconds)
{
    for (uint64_t end_ns = ruler_now_ns() + (uint64_t)(seconds * 1e9); ruler_now_ns() < end_ns;) {
        if (!clients_are_well(run))
            return false;
        usleep(WATCH_US);
    }
    return true;
}

static bool all_connected(struct run *run)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(BENCH_PATIENCE_S * 1e9);
    for (unsigned i = 0; i < run->options->clients; i++)
        while (atomic_load(&run->board->slots[i].connected) < run->options->connections) {
            if (!clients_are_well(run))
                return false;
            if (ruler_now_ns() > end_ns)
                return fail(run, "the clients do not connect");
            usleep(1000);
        }
    return true;
}

static double clients_cpu_s(const struct run *run)
{
    uint64_t ns = 0;
    for (unsigned i = 0; i < run->options->clients; i++)
        ns += ruler_cpu_ns(run->clients[i].pid);
    return (double)ns / 1e9;
}

static json_t *client_result(const struct run *run, double seconds, double cpu_s)
{
    const struct bench_options *options = run->options;
    uint64_t *counts = calloc(options->clients, sizeof(*counts)), messages = 0;
    if (!counts)
        return NULL;
    for (unsigned i = 0; i < options->clients; i++)
        messages += counts[i] = run->board->slots[i].messages;
    uint64_t bytes = messages * options->workload.bytes;
    double gib = (double)bytes / RULER_GIB;
    json_t *result = json_pack(
        "{ss ss si si ss sI sI sf sf sf so}", "provider", run->provider, "path",
        run->board->slots[0].path, "clients", (int)options->clients, "connections",
        (int)options->connections, "mode", bench_mode_name(options->mode), "messages",
        (json_int_t)messages, "bytes", (json_int_t)bytes, "seconds", seconds, "gib_per_s",
        gib / seconds, "rows_per_s", (double)(messages * options->workload.rows) / seconds,
        "latency_us", latency_of(run->board));
    json_object_set_new(
        result, "cpu_s_per_gib",
        json_pack("{sn so}", "server", "client", gib > 0 ? json_real(cpu_s / gib) : json_null()));
    json_object_set_new(result, "fairness", json_real(ruler_fairness(counts, options->clients)));
    free(counts);
    return result;
}

/* Longer than the server needs to see that its clients have left, and to go: those of the next
 * round must not meet the server of this one. */
enum { SEEN_OFF_US = 500000 };

static json_t *run_connect(struct run *run)
{
    const struct bench_options *options = run->options;
    if (!open_run(run))
        return NULL;
    snprintf(run->board->address, sizeof(run->board->address), "%s", options->connect);
    if (!start_clients(run) || !all_connected(run))
        return NULL;
    ruler_board_enter(run->board, RULER_WARMUP);
    if (!watch_for(run, options->warmup))
        return NULL;
    uint64_t begin_ns = ruler_now_ns();
    double cpu_s = clients_cpu_s(run);
    ruler_board_enter(run->board, RULER_MEASURE);
    if (!watch_for(run, options->duration))
        return NULL;
    double seconds = (double)(ruler_now_ns() - begin_ns) / 1e9;
    cpu_s = clients_cpu_s(run) - cpu_s;
    ruler_board_enter(run->board, RULER_OVER);
    if (!await_clients_end(run))
        return NULL;
    usleep(SEEN_OFF_US);
    return client_result(run, seconds, cpu_s);
}

static json_t *run_with(const struct bench_options *options, const char *provider,
                        json_t *(*body)(struct run *run))
{
    struct run run = {
        .options = options, .provider = provider, .board_fd = -1, .server = {.output = -1}};
    json_t *result = body(&run);
    if (!result)
        result = no_result(&run);
    close_run(&run);
    return result;
}

json_t *bench_run_provider(const struct bench_options *options, const char *provider)
{
    return run_with(options, provider, run_here);
}

json_t *bench_run_listen(const struct bench_options *options, const char *provider)
{
    return run_with(options, provider, run_listen);
}

json_t *bench_run_connect(const struct bench_options *options, const char *provider)
{
    return run_with(options, provider, run_connect);
}
