/* SPDX-License-Identifier: Apache-2.0
 * `haul bench`: what its parts share. One process coordinates; the server and each client are
 * processes of their own, started as the same command with a hidden --role. They meet at a board of
 * shared memory (bench/ruler.h), or, between two hosts, only through haul. */
#ifndef HAUL_TOOL_BENCH_H
#define HAUL_TOOL_BENCH_H

#include "ruler.h"

#include <haul/haul.h>
#include <jansson.h>

/* ---- Workload (bench_workload.c) ---------------------------------------------------------------
 */

struct bench_workload {
    const char *text;          /* "foo:u8[1024,64,64,3],..." */
    struct haul_array *arrays; /* without data */
    size_t count;
    uint64_t bytes;
    uint64_t rows; /* first axis of the first array */
};

/* Parses "rl-frames" or "key:dtype[d0,d1,...],...". False: `error` says what is wrong. verify adds
 * an array that tells client and number of a message. */
bool bench_workload_parse(struct bench_workload *workload, const char *text, bool verify,
                          char *error, size_t error_size);
void bench_workload_clear(struct bench_workload *workload);
/* Fills array `index` of message `number` of `client` so that each of its bytes can be checked. */
void bench_fill(const struct bench_workload *workload, size_t index, void *data, uint64_t client,
                uint64_t number);
/* Whether it still holds that. */
bool bench_check(const struct bench_workload *workload, size_t index, const void *data,
                 uint64_t client, uint64_t number);
/* Client and number of a message, from its last array, the stamp. */
void bench_stamp_read(const void *stamp, uint64_t *client, uint64_t *number);

/* ---- Options (bench.c) -------------------------------------------------------------------------
 */

enum bench_mode { BENCH_REQUEST, BENCH_STREAM, BENCH_LATENCY, BENCH_IDLE };
enum bench_memory { BENCH_USER, BENCH_POOL, BENCH_GIVE };
enum bench_into { BENCH_INTO_POOL, BENCH_INTO_BATCH, BENCH_INTO_DICT };

struct bench_options {
    int argc; /* as given: the other processes get the same */
    char **argv;
    const char *providers; /* "tcp,zmq"; a server or client has one */
    unsigned clients;      /* processes */
    unsigned connections;  /* peers of each client process */
    struct bench_workload workload;
    enum bench_mode mode;
    enum bench_memory memory;
    enum bench_into into;
    unsigned batch_rows; /* 0: half the peers */
    bool touch;
    bool verify;
    double duration, warmup;
    unsigned rounds;
    const char *json;    /* file, "-" or NULL */
    const char *peers;   /* baselines, "sockets,memcpy" */
    const char *listen;  /* this is the server half */
    const char *connect; /* this is the client half */
    /* For the processes that it starts: */
    const char *role; /* "server" or "client"; NULL: the coordinator */
    int board_fd;
    unsigned index; /* the client's slot */
};

const char *bench_mode_name(enum bench_mode mode);
static inline unsigned bench_peers(const struct bench_options *options)
{
    return options->clients * options->connections;
}

/* How long a part of a run may take that is not its measured time. */
#define BENCH_PATIENCE_S 60

/* ---- The processes -----------------------------------------------------------------------------
 */

/* Both return an exit code. The server prints its result, or {"error": sentence}. */
int bench_server(const struct bench_options *options, struct ruler_board *board);
int bench_client(const struct bench_options *options, struct ruler_board *board);

/* ---- Children (bench_child.c) ------------------------------------------------------------------
 */

struct bench_child {
    pid_t pid;  /* 0: ended */
    int output; /* its standard output, -1: not ours */
};

/* Starts a program, searched in PATH, that dies with this process. preload: a library for
 * LD_PRELOAD, or NULL; piped: its output comes to us. False: errno. */
bool bench_child_start(struct bench_child *child, const char *const *argv, const char *preload,
                       bool piped);
/* Waits for its end for at most that long; -1: it goes on. Else its exit code, 128 + signal. */
int bench_child_wait(struct bench_child *child, double seconds);
void bench_child_kill(struct bench_child *child);
/* Reads what it prints until it closes its output. NULL: not in time, or stopped by a signal. The
 * caller frees it. */
char *bench_child_read(struct bench_child *child, double seconds);
/* The path of a file that belongs to the benchmark. Returns path. */
enum { BENCH_PATH = 4096 };
const char *bench_file(const char *name, char path[BENCH_PATH]);

/* ---- Runs (bench_run.c, bench_peers.c) ---------------------------------------------------------
 */

/* One run of one provider: its result, or an object with provider and "reason" if it failed. */
json_t *bench_run_provider(const struct bench_options *options, const char *provider);
/* The halves of a run between two hosts. */
json_t *bench_run_listen(const struct bench_options *options, const char *provider);
json_t *bench_run_connect(const struct bench_options *options, const char *provider);

/* Number of ways to run a baseline (the strategies of plain sockets, the kinds of ofi); 0: there is
 * no such baseline. */
unsigned bench_peer_variants(const struct bench_options *options, const char *peer);
json_t *bench_run_peer(const struct bench_options *options, const char *peer, unsigned variant);

/* Speed of the link to the host of an address in bytes per second (bench_link.c); 0: not known. */
double bench_link_bytes_s(const char *address);

/* ---- Report (bench_report.c, bench_table.c)
 * -------------------------------------------------------------------
 */

/* The runs of a row of the table, in turn. */
struct bench_row {
    const char *name;
    bool peer;
    unsigned variant;
    json_t *runs;
};

/* Everything measured, as one object; takes over nothing. */
json_t *bench_report(const struct bench_options *options, const struct bench_row *rows,
                     size_t count);
/* The same for people. */
void bench_print_table(const struct bench_options *options, const json_t *report);

#endif
