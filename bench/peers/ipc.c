/* SPDX-License-Identifier: Apache-2.0
 * A baseline for one pair of processes: a client sends an array in one message, the server has it
 * and answers with 4 bytes. Prints one line of JSON. */
#include "ipc.h"

#include "../ruler.h"
#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATTERN = 7 };
#define PATIENCE_NS (30 * (uint64_t)1000000000)

static struct ruler_board *board;
static char folder[] = "/tmp/haul-ipc-XXXXXX";
static char url[64] = "ipc://";

static void remove_socket(void)
{
    unlink(url + strlen("ipc://"));
    rmdir(folder);
}

static void need(const char *what, bool good)
{
    if (good)
        return;
    printf("{\"provider\": \"%s\", \"reason\": \"%s: %s\"}\n", ipc_name, what, strerror(errno));
    fflush(stdout);
    remove_socket();
    _exit(1);
}

static void client(struct ruler_slot *slot)
{
    size_t bytes = workload.message_bytes, answer;
    unsigned window = workload.mode == STREAM ? STREAM_WINDOW : 1, under_way = 0;
    void *data = ruler_map_array(bytes);
    if (!data || !ipc_open(url, false))
        return;
    memset(data, PATTERN, bytes);
    while (!ruler_board_in(board, RULER_OVER)) {
        uint64_t begin = ruler_now_ns();
        if (!ipc_send(data, bytes))
            return;
        if (++under_way < window)
            continue;
        if (!ipc_receive(&answer))
            return;
        under_way--;
        if (workload.mode != STREAM && ruler_board_in(board, RULER_MEASURE))
            ruler_record(&slot->latency, ruler_now_ns() - begin);
    }
}

static uint64_t serve(double seconds)
{
    static char done[] = "done";
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(seconds * 1e9), messages = 0;
    while (ruler_now_ns() < end_ns) {
        size_t bytes;
        const unsigned char *data = ipc_receive(&bytes);
        need("no message comes", data);
        need("a message is wrong",
             bytes == workload.message_bytes && data[0] == PATTERN && data[bytes - 1] == PATTERN);
        if (workload.touch)
            ruler_touch(data, bytes);
        need("no answer can be sent", ipc_send(done, sizeof done - 1));
        messages++;
    }
    return messages;
}

static struct ruler_result measure(void)
{
    struct ruler_span span;
    struct ruler_result result = {.provider = ipc_name,
                                  .path = "ipc",
                                  .mode = mode_names[workload.mode],
                                  .clients = 1,
                                  .fairness = 1};
    ruler_board_enter(board, RULER_WARMUP);
    serve(workload.warmup);
    ruler_span_begin(&span, board);
    ruler_board_enter(board, RULER_MEASURE);
    result.messages = serve(workload.duration);
    ruler_board_enter(board, RULER_OVER);
    ruler_span_end(&span, board, &result);
    result.bytes = result.messages * workload.message_bytes;
    result.rows = result.messages * workload.rows;
    return result;
}

static void run(void)
{
    int board_fd;
    need("no folder", mkdtemp(folder));
    snprintf(url, sizeof url, "ipc://%s/socket", folder);
    board = ruler_board_create(1, &board_fd);
    need("no memory", board);
    pid_t parent = getpid(), pid = fork();
    need("cannot fork", pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent && ruler_board_await(board, RULER_CONNECT, PATIENCE_NS))
            client(&board->slots[0]);
        _exit(0);
    }
    board->slots[0].pid = pid;
    need("cannot listen", ipc_open(url, true));
    ruler_board_enter(board, RULER_CONNECT);
    struct ruler_result result = measure();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    result.latency = &board->slots[0].latency;
    ruler_result_print(&result);
    remove_socket();
}

int main(int argc, char **argv)
{
    workload_parse(argc, argv, "Measures a library's local sockets with one client.", NULL, NULL);
    run();
    return 0;
}
