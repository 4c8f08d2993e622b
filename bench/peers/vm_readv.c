/* SPDX-License-Identifier: Apache-2.0
 * A baseline of `haul bench`: the same exchange between processes of one host, by
 * process_vm_readv() alone.
 *
 * Each client process writes down once where its arrays are. A message is one byte on a Unix
 * socket; a thread of the server copies the arrays out of the client, with one call for all, into
 * memory that it uses again and again, and answers with 4 bytes. The first and the last byte of
 * each array are checked for each message. Prints one line of JSON. */
#include "../ruler.h"
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, THREADS_MAX = 64 };

/* What a client writes down; the server's and its own memory. */
struct client {
    pid_t pid;
    int fd; /* the server's end of its socket */
    void *arrays[ARRAYS_MAX];
    uint64_t messages; /* in the measured time: the thread's that serves it */
};

/* Serves every thread_count-th client. */
struct worker {
    pthread_t thread;
    int epoll;
    unsigned char *memory;
};

static struct ruler_board *board;
static struct client *clients;
static unsigned thread_count = 1;

_Noreturn static void die(const char *what)
{
    printf("{\"provider\": \"vm_readv\", \"reason\": \"%s: %s\"}\n", what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void need(const char *what, bool good)
{
    if (!good)
        die(what);
}

/* ---- Client ---------------------------------------------------------------------------------- */

static unsigned char pattern(unsigned client)
{
    return (unsigned char)(client + 1);
}

static void write_down(unsigned number)
{
    struct client *client = &clients[number];
    for (unsigned i = 0; i < workload.array_count; i++) {
        client->arrays[i] = ruler_map_array(workload.arrays[i]);
        need("no memory", client->arrays[i]);
        memset(client->arrays[i], pattern(number), workload.arrays[i]);
    }
    client->pid = getpid();
}

/* Until the server closes the socket. */
static void exchange(int fd, struct ruler_slot *slot)
{
    char answer[4];
    unsigned window = workload.mode == STREAM ? STREAM_WINDOW : 1;
    for (unsigned under_way = 0;;) {
        uint64_t begin = ruler_now_ns();
        if (send(fd, "m", 1, MSG_NOSIGNAL) != 1)
            return;
        if (++under_way < window)
            continue;
        if (recv(fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer)
            return;
        under_way--;
        if (workload.mode != STREAM && ruler_board_in(board, RULER_MEASURE))
            ruler_record(&slot->latency, ruler_now_ns() - begin);
    }
}

static void start_clients(void)
{
    pid_t parent = getpid();
    for (unsigned i = 0; i < workload.clients; i++) {
        int ends[2];
        need("no sockets", !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
        pid_t pid = fork();
        need("cannot fork", pid >= 0);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
            for (unsigned j = 0; j < i; j++)
                close(clients[j].fd);
            close(ends[0]);
            write_down(i);
            exchange(ends[1], &board->slots[i]);
            _exit(0);
        }
        close(ends[1]);
        board->slots[i].pid = pid;
        clients[i].fd = ends[0];
    }
}

/* ---- Server ---------------------------------------------------------------------------------- */

static void check(unsigned number, const unsigned char *memory)
{
    for (unsigned i = 0; i < workload.array_count; i++) {
        size_t bytes = workload.arrays[i];
        if (bytes > 0 && (memory[0] != pattern(number) || memory[bytes - 1] != pattern(number))) {
            errno = EBADMSG;
            die("wrong bytes");
        }
        memory += bytes;
    }
}

static void copy(unsigned number, unsigned char *memory)
{
    const struct client *client = &clients[number];
    struct iovec here = {memory, workload.message_bytes}, there[ARRAYS_MAX];
    for (unsigned i = 0; i < workload.array_count; i++)
        there[i] = (struct iovec){client->arrays[i], workload.arrays[i]};
    ssize_t got = process_vm_readv(client->pid, &here, 1, there, workload.array_count, 0);
    need("process_vm_readv", got == (ssize_t)workload.message_bytes);
}

static void serve(unsigned number, unsigned char *memory)
{
    struct client *client = &clients[number];
    char requests[STREAM_WINDOW];
    ssize_t count = recv(client->fd, requests, sizeof requests, MSG_DONTWAIT);
    need("a client is gone", count > 0);
    for (ssize_t i = 0; i < count; i++) {
        copy(number, memory);
        check(number, memory);
        if (workload.touch)
            ruler_touch(memory, workload.message_bytes);
        if (ruler_board_in(board, RULER_MEASURE))
            client->messages++;
        need("a client is gone", send(client->fd, "done", 4, MSG_NOSIGNAL) == 4);
    }
}

static void *work(void *arg)
{
    const struct worker *worker = arg;
    while (!ruler_board_in(board, RULER_OVER)) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(worker->epoll, events, EVENTS, 100);
        for (int i = 0; i < count; i++)
            serve(events[i].data.u32, worker->memory);
    }
    return NULL;
}

static void start_workers(struct worker *workers)
{
    for (unsigned i = 0; i < thread_count; i++) {
        workers[i].epoll = epoll_create1(EPOLL_CLOEXEC);
        workers[i].memory = ruler_map_memory(workload.message_bytes, true);
        need("no memory", workers[i].epoll >= 0 && workers[i].memory);
    }
    for (unsigned i = 0; i < workload.clients; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(workers[i % thread_count].epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
    }
    for (unsigned i = 0; i < thread_count; i++)
        need("no thread", !pthread_create(&workers[i].thread, NULL, work, &workers[i]));
}

/* ---- The run --------------------------------------------------------------------------------- */

static void rest(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
}

static struct ruler_result measure(uint64_t *counts)
{
    struct ruler_span span;
    struct worker workers[THREADS_MAX];
    struct ruler_result result = {.provider = "vm_readv",
                                  .path = "one copy, by the receiver",
                                  .mode = mode_names[workload.mode],
                                  .clients = workload.clients};
    ruler_board_enter(board, RULER_WARMUP);
    start_workers(workers);
    rest(workload.warmup);
    ruler_span_begin(&span, board);
    ruler_board_enter(board, RULER_MEASURE);
    rest(workload.duration);
    ruler_board_enter(board, RULER_OVER);
    for (unsigned i = 0; i < thread_count; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < workload.clients; i++)
        result.messages += counts[i] = clients[i].messages;
    ruler_span_end(&span, board, &result);
    result.bytes = result.messages * workload.message_bytes;
    result.rows = result.messages * workload.rows;
    result.fairness = ruler_fairness(counts, workload.clients);
    return result;
}

static void run(void)
{
    int board_fd;
    board = ruler_board_create(workload.clients, &board_fd);
    clients = mmap(NULL, workload.clients * sizeof *clients, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t *counts = calloc(workload.clients, sizeof *counts);
    struct ruler_histogram *latency = calloc(1, sizeof *latency);
    need("no memory", board && clients != MAP_FAILED && counts && latency);
    start_clients();
    struct ruler_result result = measure(counts);
    for (unsigned i = 0; i < workload.clients; i++)
        close(clients[i].fd);
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    for (unsigned i = 0; i < workload.clients; i++)
        ruler_merge(latency, &board->slots[i].latency);
    result.latency = latency;
    ruler_result_print(&result);
    free(latency);
    free(counts);
    ruler_board_close(board);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

static const struct argp_option argp_options[] = {
    {"threads", 't', "N", 0, "threads that copy (1)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    if (key != 't')
        return ARGP_ERR_UNKNOWN;
    thread_count = (unsigned)strtoul(text, NULL, 10);
    if (thread_count < 1 || thread_count > THREADS_MAX)
        argp_error(state, "--threads takes 1 to %d", THREADS_MAX);
    return 0;
}

int main(int argc, char **argv)
{
    workload_parse(argc, argv, "Measures process_vm_readv() with a benchmark's exchange.",
                   argp_options, parse);
    run();
    return 0;
}
