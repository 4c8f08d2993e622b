/* SPDX-License-Identifier: Apache-2.0
 * A baseline of `haul bench`: the same exchange with libfabric alone, read as haul's provider ofi
 * reads.
 *
 * Each client process registers its arrays once and sends where they are over a TCP connection. A
 * message is one byte on that connection; the server reads the arrays with fi_read() into
 * registered memory that it uses again and again, and answers with 4 bytes. Endpoint type, sizes of
 * pieces, reads under way and the way to wait are haul's, so that the difference is what haul
 * costs.
 *
 * A reader that does not read would be fast: the arrays hold a pattern, and the first and the last
 * message of each client are checked, in memory that was wiped before. Prints one line of JSON,
 * also when it cannot run. */
#include "fabric.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct options options = {.nic = "", .client_nic = "", .spin_us = 50};
struct ruler_board *board;

/* ---- An early end ---------------------------------------------------------------------------- */

/* Clients have standard error for their output. */
_Noreturn void give_up(const char *what, const char *why)
{
    printf("{\"provider\": \"libfabric\", \"path\": \"%s\", \"reason\": \"%s: %s\"}\n",
           options.kind, what, why);
    fflush(stdout);
    fabric_close();
    _exit(1);
}

void need(const char *what, bool good)
{
    if (!good)
        give_up(what, strerror(errno));
}

void need_fi(const char *what, ssize_t err)
{
    if (err)
        give_up(what, fi_strerror((int)-err));
}

/* ---- The run --------------------------------------------------------------------------------- */

/* Clients end with the server's connection, or by SIGTERM when it dies: libfabric's shm removes its
 * file then. */
static void start_clients(int listener, const struct sockaddr_in *address)
{
    pid_t parent = getpid();
    for (unsigned i = 0; i < workload.clients; i++) {
        pid_t pid = fork();
        need("cannot fork", pid >= 0);
        if (pid == 0) {
            dup2(STDERR_FILENO, STDOUT_FILENO);
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            if (getppid() != parent)
                _exit(1);
            close(listener);
            client_run(i, address);
            _exit(0);
        }
        board->slots[i].pid = pid;
    }
}

static struct ruler_result measure(uint64_t *counts)
{
    struct ruler_span span;
    struct ruler_result result = {.provider = "libfabric",
                                  .path = fabric.info->fabric_attr->prov_name,
                                  .mode = mode_names[workload.mode],
                                  .clients = workload.clients};
    ruler_board_enter(board, RULER_WARMUP);
    server_serve_and_check();
    server_serve(workload.warmup);
    ruler_span_begin(&span, board);
    ruler_board_enter(board, RULER_MEASURE);
    server_serve(workload.duration);
    ruler_board_enter(board, RULER_OVER);
    for (unsigned i = 0; i < workload.clients; i++)
        result.messages += counts[i] = server_messages(i);
    ruler_span_end(&span, board, &result);
    result.bytes = result.messages * workload.message_bytes;
    result.rows = result.messages * workload.rows;
    result.fairness = ruler_fairness(counts, workload.clients);
    server_serve_and_check();
    server_finish();
    return result;
}

static void run(void)
{
    int board_fd;
    struct sockaddr_in address;
    board = ruler_board_create(workload.clients, &board_fd);
    need("shared memory", board);
    int listener = server_listen(&address);
    start_clients(listener, &address);
    fabric_open(options.nic);
    server_open(listener);
    uint64_t *counts = calloc(workload.clients, sizeof *counts);
    struct ruler_histogram *latency = calloc(1, sizeof *latency);
    need("memory", counts && latency);
    struct ruler_result result = measure(counts);
    server_close();
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    for (unsigned i = 0; i < workload.clients; i++)
        ruler_merge(latency, &board->slots[i].latency);
    result.latency = latency;
    ruler_result_print(&result);
    fabric_close();
    free(latency);
    free(counts);
    ruler_board_close(board);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

enum { KEY_NIC = 0x100, KEY_CLIENT_NIC, KEY_SPIN };

static const struct argp_option argp_options[] = {
    {"kind", 'k', "KIND", 0, "libfabric's provider: net, tcp, shm, verbs", 0},
    {"nic", KEY_NIC, "NAME", 0, "the server's device or interface (any)", 0},
    {"client-nic", KEY_CLIENT_NIC, "NAME", 0, "that of the clients (any)", 0},
    {"spin", KEY_SPIN, "US", 0, "longest spin before a sleep (50)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'k':
        options.kind = text;
        break;
    case KEY_NIC:
        options.nic = text;
        break;
    case KEY_CLIENT_NIC:
        options.client_nic = text;
        break;
    case KEY_SPIN:
        options.spin_us = strtoull(text, NULL, 10);
        break;
    case ARGP_KEY_END:
        if (!options.kind)
            argp_error(state, "--kind must not be empty");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    workload_parse(argc, argv, "Measures reads of libfabric with a benchmark's exchange.",
                   argp_options, parse);
    layout_make();
    run();
    return 0;
}
