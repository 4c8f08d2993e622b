/* SPDX-License-Identifier: Apache-2.0
 * `haul bench`: measures providers against each other and against what others do. */
#include "bench.h"

#include "arguments.h"
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const mode_names[] = {"request", "stream", "latency", "idle", NULL};
static const char *const memory_names[] = {"user", "pool", "give", NULL};
static const char *const into_names[] = {"pool", "batch", "dict", NULL};

static const char limits[] = "sockets,memcpy";
static const char all_peers[] = "user_way,best_pyzmq,sockets,memcpy";

/* ---- Arguments ------------------------------------------------------------------------------- */

enum {
    KEY_CONNECTIONS = 256,
    KEY_MEMORY,
    KEY_INTO,
    KEY_BATCH_ROWS,
    KEY_TOUCH,
    KEY_VERIFY,
    KEY_WARMUP,
    KEY_ROUNDS,
    KEY_PEERS,
    KEY_LISTEN,
    KEY_CONNECT,
    KEY_ROLE,
    KEY_BOARD,
    KEY_INDEX,
};

static const struct argp_option argp_options[] = {
    {"provider", 'p', "P[,P...]", 0, "Measure these providers, in turn (default: tcp)", 1},
    {"peers", KEY_PEERS, "NAME[,NAME...]", OPTION_ARG_OPTIONAL,
     "Measure what others do with the same work, in turn with ours: user_way (Python, pickle, "
     "tobytes), best_pyzmq (no copy in Python), sockets, memcpy, reading (each byte once, where it "
     "is), vm_readv (copies out of the clients' processes), zmq_ipc, nng_ipc (one client), fabric "
     "(libfabric alone, beside each ofi:<kind>); none of them: \"none\" (without this option: "
     "sockets and memcpy, the limits)",
     1},
    {"clients", 'n', "N", 0, "Client processes (default: 32; --mode latency has 1)", 2},
    {"connections", KEY_CONNECTIONS, "N", 0, "Peers of each client process (default: 1)", 2},
    {"workload", 'w', "WORKLOAD", 0,
     "rl-frames (default; --mode idle: x:f32[16]) or \"key:dtype[d0,d1,...],...\"", 2},
    {"mode", 'm', "MODE", 0,
     "request (default: the server answers every message), stream (one way), latency (one client, "
     "ping-pong) or idle (peers that send nothing: what each costs)",
     2},
    {"memory", KEY_MEMORY, "WHERE", 0,
     "Where the clients' arrays live: user (default), pool, or give (from the pool, given away "
     "with "
     "each message)",
     3},
    {"into", KEY_INTO, "WHERE", 0,
     "Where the server receives: pool (default), batch (rows of arrays) or dict (arrays that it "
     "names)",
     3},
    {"batch-rows", KEY_BATCH_ROWS, "N", 0, "Rows of a batch (default: half the peers)", 3},
    {"touch", KEY_TOUCH, NULL, 0, "The server reads every byte once", 3},
    {"verify", KEY_VERIFY, NULL, 0,
     "Each message is different, and every byte of every array is checked; the time for that is "
     "haul's alone, the baselines neither write nor check",
     3},
    {"duration", 'd', "S", 0, "Seconds that are measured (default: 3)", 4},
    {"warmup", KEY_WARMUP, "S", 0, "Seconds before (default: 1)", 4},
    {"rounds", KEY_ROUNDS, "N", 0,
     "Runs of each row of the table, in turn; the median one is shown (default: 1)", 4},
    {"json", 'j', "FILE", 0, "Write the results as JSON to FILE; \"-\": to standard output", 5},
    {"listen", KEY_LISTEN, "ADDR", 0, "Be the server half of a run between two hosts", 6},
    {"connect", KEY_CONNECT, "ADDR", 0, "Be the client half", 6},
    {"role", KEY_ROLE, "ROLE", OPTION_HIDDEN, NULL, 7},
    {"board", KEY_BOARD, "FD", OPTION_HIDDEN, NULL, 7},
    {"index", KEY_INDEX, "N", OPTION_HIDDEN, NULL, 7},
    {"help", 'h', NULL, OPTION_HIDDEN, NULL, -1},
    {0},
};

static const char doc[] =
    "Measure how fast dicts of arrays get from many client processes to one server, by provider, "
    "beside plain sockets, memcpy and what others do."
    "\v"
    "Each row of the table is a run of the same work. The spread of several --rounds is shown as "
    "(lowest-highest). Latency is what a client sees from its send to the end (the answer; in a "
    "stream: until the server has the message). The server process counts its allocations "
    "(mallocs), page faults (faults) and the bytes that it copies in user space (copies, per "
    "byte received), of all libraries in it; they are per message, after the warm-up.\n"
    "\n"
    "Between two hosts: start `haul bench --listen ADDR` on one and `haul bench --connect ADDR` on "
    "the other, with the same --provider, --clients, --workload, --mode and --verify. Each half "
    "prints what it sees.\n"
    "\n"
    "Examples:\n"
    "  haul bench --provider tcp,zmq --peers --rounds 5\n"
    "  haul bench --clients 4 --workload \"x:f32[256,1024],y:i64[256]\" --verify\n"
    "  haul bench --mode latency --workload \"x:f32[16]\" --json - | jq .results[0].latency_us\n"
    "\n"
    "Environment:\n"
    "  HAUL_...    the settings that `haul info --config` lists\n"
    "  BENCH_PATH  the folder of the baselines, if not where they were installed\n"
    "\n" HAUL_EXIT_HELP;

static int choose(struct argp_state *state, const char *option, const char *const *names,
                  const char *text)
{
    char known[128] = "";
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0)
            return i;
        size_t used = strlen(known);
        snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", names[i]);
    }
    argp_error(state, "%s takes one of %s; not \"%s\"", option, known, text);
    return 0;
}

static unsigned count(struct argp_state *state, const char *option, const char *text)
{
    enum { MOST = 1 << 20 };
    uint64_t value = haul_argument_number(state, option, text);
    if (value == 0 || value > MOST)
        argp_error(state, "%s takes a number from 1 to %d; not \"%s\"", option, MOST, text);
    return (unsigned)value;
}

static double seconds(struct argp_state *state, const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 1e6))
        argp_error(state, "%s takes seconds, \"2.5\" for example; not \"%s\"", option, text);
    return value;
}

static void check_peers(struct argp_state *state, const struct bench_options *options)
{
    char *list = strdup(options->peers), *rest = NULL;
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        if (bench_peer_variants(options, name) == 0)
            argp_error(state,
                       "--peers knows %s, reading, vm_readv, zmq_ipc, nng_ipc, fabric and none; "
                       "not \"%s\"",
                       all_peers, name);
    free(list);
}

/* When all options are known. */
static void check(struct argp_state *state, struct bench_options *options, const char *workload)
{
    char error[1024];
    if (options->mode == BENCH_LATENCY)
        options->clients = options->connections = 1;
    if (!workload) /* what idle peers cost shall not be the memory of large messages */
        workload = options->mode == BENCH_IDLE ? "x:f32[16]" : "rl-frames";
    if (!bench_workload_parse(&options->workload, workload, options->verify, error, sizeof(error)))
        argp_error(state, "%s", error);
    if (options->listen && options->connect)
        argp_error(state, "--listen and --connect are the two halves: give one of them");
    if (options->mode == BENCH_LATENCY && options->peers == limits)
        options->peers = "sockets"; /* how long a copy of a few bytes takes limits nothing */
    if (options->mode == BENCH_IDLE || options->listen || options->connect)
        options->peers = ""; /* they measure on this host, and with messages */
    check_peers(state, options);
}

struct input {
    struct bench_options *options;
    const char *workload; /* NULL: the mode's */
};

static error_t parse_hidden(int key, char *text, struct argp_state *state)
{
    struct bench_options *options = ((struct input *)state->input)->options;
    switch (key) {
    case KEY_ROLE:
        options->role = text;
        return 0;
    case KEY_BOARD:
        options->board_fd = (int)haul_argument_number(state, "--board", text);
        return 0;
    case KEY_INDEX:
        options->index = (unsigned)haul_argument_number(state, "--index", text);
        return 0;
    case 'h':
        argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_run(int key, char *text, struct argp_state *state)
{
    struct bench_options *options = ((struct input *)state->input)->options;
    switch (key) {
    case 'd':
        options->duration = seconds(state, "--duration", text);
        return 0;
    case KEY_WARMUP:
        options->warmup = seconds(state, "--warmup", text);
        return 0;
    case KEY_ROUNDS:
        options->rounds = count(state, "--rounds", text);
        return 0;
    case 'j':
        options->json = text;
        return 0;
    case KEY_PEERS:
        options->peers = !text ? all_peers : strcmp(text, "none") == 0 ? "" : text;
        return 0;
    case KEY_LISTEN:
        options->listen = text;
        return 0;
    case KEY_CONNECT:
        options->connect = text;
        return 0;
    default:
        return parse_hidden(key, text, state);
    }
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct input *input = state->input;
    struct bench_options *options = input->options;
    switch (key) {
    case 'p':
        options->providers = text;
        return 0;
    case 'n':
        options->clients = count(state, "--clients", text);
        return 0;
    case KEY_CONNECTIONS:
        options->connections = count(state, "--connections", text);
        return 0;
    case 'w':
        input->workload = text;
        return 0;
    case 'm':
        options->mode = (enum bench_mode)choose(state, "--mode", mode_names, text);
        return 0;
    case KEY_MEMORY:
        options->memory = (enum bench_memory)choose(state, "--memory", memory_names, text);
        return 0;
    case KEY_INTO:
        options->into = (enum bench_into)choose(state, "--into", into_names, text);
        return 0;
    case KEY_BATCH_ROWS:
        options->batch_rows = count(state, "--batch-rows", text);
        return 0;
    case KEY_TOUCH:
        options->touch = true;
        return 0;
    case KEY_VERIFY:
        options->verify = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is no option", text);
        return 0;
    case ARGP_KEY_END:
        check(state, options, input->workload);
        return 0;
    default:
        return parse_run(key, text, state);
    }
}

const char *bench_mode_name(enum bench_mode mode)
{
    return mode_names[mode];
}

/* ---- The rows of the table ---------------------------------------------------------------------
 */

enum { ROWS_MAX = 64 };

struct plan {
    char *providers, *peers; /* what the rows' names point into */
    struct bench_row rows[ROWS_MAX];
    size_t count;
};

static void add_row(struct plan *plan, const char *name, bool peer, unsigned variant)
{
    if (plan->count < ROWS_MAX)
        plan->rows[plan->count++] = (struct bench_row){
            .name = name, .peer = peer, .variant = variant, .runs = json_array()};
}

static void make_plan(struct plan *plan, const struct bench_options *options)
{
    char *rest = NULL;
    *plan = (struct plan){.providers = strdup(options->providers), .peers = strdup(options->peers)};
    for (char *name = strtok_r(plan->peers, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        for (unsigned i = 0; i < bench_peer_variants(options, name); i++)
            add_row(plan, name, true, i);
    rest = NULL;
    for (char *name = strtok_r(plan->providers, ",", &rest); name;
         name = strtok_r(NULL, ",", &rest))
        add_row(plan, name, false, 0);
}

static void clear_plan(struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        json_decref(plan->rows[i].runs);
    free(plan->providers);
    free(plan->peers);
}

static json_t *run_row(const struct bench_options *options, const struct bench_row *row)
{
    if (row->peer)
        return bench_run_peer(options, row->name, row->variant);
    if (options->listen)
        return bench_run_listen(options, row->name);
    if (options->connect)
        return bench_run_connect(options, row->name);
    return bench_run_provider(options, row->name);
}

/* Runs every row `rounds` times, in turn, so that all of them see the same times of the machine. */
static void run_plan(const struct bench_options *options, struct plan *plan)
{
    for (unsigned round = 0; round < options->rounds; round++)
        for (size_t i = 0; i < plan->count && !haul_interrupt_signal(); i++) {
            const struct bench_row *row = &plan->rows[i];
            fprintf(stderr, "round %u of %u: %s\n", round + 1, options->rounds, row->name);
            json_array_append_new(row->runs, run_row(options, row));
        }
}

/* A provider that failed is a failure; a baseline that is not installed is not. */
static bool providers_failed(const struct plan *plan)
{
    bool failed = false;
    for (size_t i = 0; i < plan->count; i++) {
        size_t round;
        json_t *run;
        json_array_foreach(plan->rows[i].runs, round, run) failed |=
            !plan->rows[i].peer && json_object_get(run, "reason");
    }
    return failed;
}

static int write_json(const char *file, const json_t *report)
{
    enum { FLAGS = JSON_INDENT(2) | JSON_REAL_PRECISION(6) };
    bool to_stdout = strcmp(file, "-") == 0;
    FILE *out = to_stdout ? stdout : fopen(file, "w");
    bool good = out && json_dumpf(report, out, FLAGS) == 0 && fputc('\n', out) != EOF;
    if (out && !to_stdout)
        good &= fclose(out) == 0;
    if (!good)
        return haul_report(HAUL_EXIT_FILE, "cannot write %s: %s", file, strerror(errno));
    return HAUL_EXIT_OK;
}

static int coordinate(const struct bench_options *options)
{
    struct plan plan;
    make_plan(&plan, options);
    haul_interrupt_catch();
    run_plan(options, &plan);
    int code = HAUL_EXIT_OK;
    if (haul_interrupt_signal()) {
        code = haul_report(HAUL_EXIT_SIGNAL + haul_interrupt_signal(), "stopped");
    } else {
        json_t *report = bench_report(options, plan.rows, plan.count);
        if (!options->json || strcmp(options->json, "-") != 0)
            bench_print_table(options, report);
        if (options->json)
            code = write_json(options->json, report);
        if (code == HAUL_EXIT_OK && providers_failed(&plan))
            code = HAUL_EXIT_FAILED;
        json_decref(report);
    }
    clear_plan(&plan);
    return code;
}

static int play_role(const struct bench_options *options)
{
    struct ruler_board *board = ruler_board_open(options->board_fd);
    if (!board)
        return haul_report(HAUL_EXIT_FAILED, "cannot map the board: %s", strerror(errno));
    bool server = strcmp(options->role, "server") == 0;
    int code = server ? bench_server(options, board) : bench_client(options, board);
    ruler_board_close(board);
    return code;
}

int haul_command_bench(int argc, char **argv)
{
    struct bench_options options = {.argc = argc,
                                    .argv = argv,
                                    .providers = "tcp",
                                    .clients = 32,
                                    .connections = 1,
                                    .duration = 3,
                                    .warmup = 1,
                                    .rounds = 1,
                                    .peers = limits,
                                    .board_fd = -1};
    struct input input = {.options = &options};
    const struct argp argp = {.options = argp_options, .parser = parse, .doc = doc};
    argp_parse(&argp, argc, argv, 0, NULL, &input);
    int code = options.role ? play_role(&options) : coordinate(&options);
    bench_workload_clear(&options.workload);
    return code;
}
