/* SPDX-License-Identifier: Apache-2.0
 * A baseline of `haul bench`: the same exchange over plain TCP sockets, with the strategy to
 * choose.
 *
 * A message is a 16-byte header with the number of bytes to come, then the arrays, gathered from
 * the client's own memory and received in place; the server answers with 4 bytes. As a server of
 * unknown senders must, it reads the header before it knows where the rest goes, and each message
 * under way has a buffer of its own: the one that came back last. Prints one line of JSON. */
#include "../ruler.h"
#include "workload.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVENTS = 64 };

struct header {
    uint64_t bytes; /* of the arrays that follow */
    uint64_t unused;
};

static struct options {
    bool receiver_spins;
    bool one_at_a_time; /* a sender waits for a grant; else all send at once */
    bool client_spins;
    bool pin;                        /* the server has a CPU of its own */
    int send_buffer, receive_buffer; /* bytes; 0: the kernel's choice */
    size_t read_bytes, write_bytes;  /* most per system call */
} options = {.send_buffer = 1 << 20, .read_bytes = SIZE_MAX, .write_bytes = SIZE_MAX};

static struct ruler_board *board;

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "sockets: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *need_memory(void *memory)
{
    if (!memory)
        die("cannot map memory");
    return memory;
}

static void tune(int fd)
{
    static const char unpaced[] = "cubic"; /* BBR, some systems' choice, paces here for nothing */
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, unpaced, sizeof unpaced - 1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options.send_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &options.send_buffer, sizeof options.send_buffer);
    if (options.receive_buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer,
                   sizeof options.receive_buffer);
}

/* Two spinners on one CPU would only wait for the end of each other's time slice: the server takes
 * the first CPU that this process may use, the clients the others. */
static void pin(bool server)
{
    cpu_set_t allowed, mine;
    if (!options.pin || sched_getaffinity(0, sizeof allowed, &allowed) != 0 ||
        CPU_COUNT(&allowed) < 2)
        return;
    size_t first = 0;
    while (!CPU_ISSET(first, &allowed))
        first++;
    CPU_ZERO(&mine);
    CPU_SET(first, &mine);
    if (!server)
        CPU_XOR(&mine, &allowed, &mine);
    sched_setaffinity(0, sizeof mine, &mine);
}

/* ---- Client ---------------------------------------------------------------------------------- */

/* Reads exactly `bytes`; false at the end of the run (the server closed the connection). */
static bool read_all(int fd, void *to, size_t bytes)
{
    for (size_t got = 0; got < bytes;) {
        ssize_t n =
            recv(fd, (char *)to + got, bytes - got, options.client_spins ? MSG_DONTWAIT : 0);
        if (n > 0)
            got += (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return false;
    }
    return true;
}

/* Copies the part of `from` that starts at byte `skip` and has at most `most` bytes. */
static int cut(struct iovec *to, const struct iovec *from, int count, size_t skip, size_t most)
{
    int used = 0;
    for (int i = 0; i < count && most > 0; i++) {
        if (skip >= from[i].iov_len) {
            skip -= from[i].iov_len;
            continue;
        }
        size_t bytes = from[i].iov_len - skip;
        to[used].iov_base = (char *)from[i].iov_base + skip;
        to[used].iov_len = bytes < most ? bytes : most;
        most -= to[used++].iov_len;
        skip = 0;
    }
    return used;
}

static bool write_all(int fd, const struct iovec *parts, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    for (size_t sent = 0; sent < total;) {
        struct iovec rest[ARRAYS_MAX + 1];
        struct msghdr message = {.msg_iov = rest};
        message.msg_iovlen = (size_t)cut(rest, parts, count, sent, options.write_bytes);
        ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (errno != EINTR)
            return false;
    }
    return true;
}

static bool send_message(int fd, const struct iovec *parts)
{
    int arrays = (int)workload.array_count;
    if (!options.one_at_a_time)
        return write_all(fd, parts, arrays + 1);
    char grant;
    return write_all(fd, parts, 1) && read_all(fd, &grant, 1) && write_all(fd, parts + 1, arrays);
}

static void exchange(int fd, const struct iovec *parts, struct ruler_slot *slot)
{
    char answer[4];
    unsigned window = workload.mode == STREAM && !options.one_at_a_time ? STREAM_WINDOW : 1;
    for (unsigned under_way = 0;;) {
        uint64_t begin = ruler_now_ns();
        if (!send_message(fd, parts))
            return;
        if (++under_way < window)
            continue;
        if (!read_all(fd, answer, sizeof answer))
            return;
        under_way--;
        if (workload.mode != STREAM && ruler_board_in(board, RULER_MEASURE))
            ruler_record(&slot->latency, ruler_now_ns() - begin);
    }
}

static void client(struct ruler_slot *slot, const struct sockaddr_in *address)
{
    struct header header = {.bytes = workload.message_bytes};
    struct iovec parts[ARRAYS_MAX + 1] = {{&header, sizeof header}};
    for (unsigned i = 0; i < workload.array_count; i++)
        parts[i + 1] =
            (struct iovec){need_memory(ruler_map_array(workload.arrays[i])), workload.arrays[i]};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tune(fd);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0)
        die("a client cannot connect");
    exchange(fd, parts, slot);
    close(fd);
}

/* ---- Server ---------------------------------------------------------------------------------- */

struct connection {
    int fd;
    bool waits; /* has sent a header and waits for its grant */
    size_t got; /* of header and body */
    struct header header;
    unsigned char *body;     /* of the message under way, else NULL */
    uint64_t messages;       /* in the measured time */
    struct connection *next; /* that waits for a grant */
};

static struct server {
    int epoll;
    bool over; /* a client is gone, or the time is */
    struct connection *connections;
    struct connection *first, **last; /* waiting for a grant */
    unsigned char **unused;           /* buffers, the last one used last */
    unsigned unused_count;
} server;

static unsigned char *take_buffer(void)
{
    return server.unused_count > 0 ? server.unused[--server.unused_count]
                                   : need_memory(ruler_map_memory(workload.message_bytes, true));
}

static void finish_message(struct connection *c)
{
    if (workload.touch)
        ruler_touch(c->body, c->header.bytes);
    server.unused[server.unused_count++] = c->body;
    c->body = NULL;
    c->got = 0;
    if (ruler_board_in(board, RULER_MEASURE))
        c->messages++;
    if (send(c->fd, "done", 4, MSG_NOSIGNAL) != 4)
        server.over = true;
}

static void ask_for_grant(struct connection *c)
{
    c->waits = true;
    c->next = NULL;
    *server.last = c;
    server.last = &c->next;
}

/* Reads once. Returns whether it is worth another try at once. */
static bool read_some(struct connection *c)
{
    size_t head = sizeof c->header;
    bool in_head = c->got < head;
    void *to = in_head ? (char *)&c->header + c->got : (char *)c->body + (c->got - head);
    size_t most = in_head ? head - c->got : head + c->header.bytes - c->got;
    if (most > options.read_bytes)
        most = options.read_bytes;
    ssize_t n = recv(c->fd, to, most, MSG_DONTWAIT);
    if (n <= 0) {
        server.over |= n == 0 || (errno != EAGAIN && errno != EINTR);
        return false;
    }
    c->got += (size_t)n;
    if (in_head && c->got == head) {
        if (c->header.bytes != workload.message_bytes)
            die("a header is wrong");
        c->body = take_buffer();
        if (options.one_at_a_time)
            ask_for_grant(c);
    }
    if (c->got == head + c->header.bytes && c->got > head) {
        finish_message(c);
        return false;
    }
    return !c->waits;
}

/* Reads a message that has begun to its end. */
static void read_to_end(struct connection *c)
{
    while (!server.over && c->got > 0) {
        if (read_some(c) || c->got == 0 || options.receiver_spins)
            continue;
        struct pollfd ready = {.fd = c->fd, .events = POLLIN};
        poll(&ready, 1, -1);
    }
}

static void grant_next(void)
{
    struct connection *c = server.first;
    server.first = c->next;
    if (!server.first)
        server.last = &server.first;
    c->waits = false;
    if (send(c->fd, "g", 1, MSG_NOSIGNAL) != 1)
        server.over = true;
    read_to_end(c);
}

static void serve(uint64_t until_ns)
{
    while (!server.over && ruler_now_ns() < until_ns) {
        struct epoll_event events[EVENTS];
        int wait_ms = options.receiver_spins || server.first ? 0 : 100;
        int n = epoll_wait(server.epoll, events, EVENTS, wait_ms);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            while (read_some(c))
                ;
        }
        if (server.first)
            grant_next();
    }
}

static int listen_here(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *address;
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    tune(fd); /* the accepted sockets inherit it */
    if (fd < 0 || bind(fd, (struct sockaddr *)address, size) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)address, &size) != 0)
        die("cannot listen");
    return fd;
}

static void accept_all(int listener)
{
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    server.connections = calloc(workload.clients, sizeof *server.connections);
    if (server.epoll < 0 || !server.connections)
        die("cannot serve");
    server.unused = calloc(workload.clients, sizeof *server.unused);
    if (!server.unused)
        die("cannot serve");
    server.last = &server.first;
    for (unsigned i = 0; i < workload.clients; i++) {
        struct connection *c = &server.connections[i];
        c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (c->fd < 0)
            die("cannot accept");
        tune(c->fd);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(server.epoll, EPOLL_CTL_ADD, c->fd, &event);
    }
}

/* ---- The run --------------------------------------------------------------------------------- */

static const char *path_taken(void)
{
    if (options.one_at_a_time)
        return options.receiver_spins ? "spinning receiver, one sender at a time"
                                      : "sleeping receiver, one sender at a time";
    return options.receiver_spins ? "spinning receiver, all senders at once"
                                  : "sleeping receiver, all senders at once";
}

static struct ruler_result measure(uint64_t *counts)
{
    struct ruler_result result = {.provider = "sockets",
                                  .path = path_taken(),
                                  .mode = mode_names[workload.mode],
                                  .clients = workload.clients};
    ruler_board_enter(board, RULER_WARMUP);
    serve(ruler_now_ns() + (uint64_t)(workload.warmup * 1e9));
    struct ruler_span span;
    ruler_span_begin(&span, board);
    ruler_board_enter(board, RULER_MEASURE);
    serve(span.begin_ns + (uint64_t)(workload.duration * 1e9));
    ruler_board_enter(board, RULER_OVER);
    if (server.over) {
        fprintf(stderr, "sockets: a client is gone before the end\n");
        exit(1);
    }
    for (unsigned i = 0; i < workload.clients; i++)
        result.messages += counts[i] = server.connections[i].messages;
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
    if (!board)
        die("cannot share memory");
    struct sockaddr_in address;
    int listener = listen_here(&address);
    pid_t parent = getpid();
    for (unsigned i = 0; i < workload.clients; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("cannot fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
            close(listener);
            pin(false);
            client(&board->slots[i], &address);
            _exit(0);
        }
        board->slots[i].pid = pid;
    }
    pin(true);
    accept_all(listener);
    uint64_t *counts = calloc(workload.clients, sizeof *counts);
    struct ruler_result result = measure(counts);
    for (unsigned i = 0; i < workload.clients; i++)
        close(server.connections[i].fd);
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    struct ruler_histogram *latency = calloc(1, sizeof *latency);
    for (unsigned i = 0; i < workload.clients; i++)
        ruler_merge(latency, &board->slots[i].latency);
    result.latency = latency;
    ruler_result_print(&result);
    free(latency);
    free(counts);
    free(server.connections);
    free(server.unused);
    ruler_board_close(board);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

enum {
    KEY_RECEIVER = 0x100,
    KEY_SENDERS,
    KEY_CLIENT_WAIT,
    KEY_PIN,
    KEY_SNDBUF,
    KEY_RCVBUF,
    KEY_READ,
    KEY_WRITE,
};

static const struct argp_option argp_options[] = {
    {"receiver", KEY_RECEIVER, "sleep|spin", 0, "how the server waits", 0},
    {"senders", KEY_SENDERS, "all|one", 0, "all at once, or one granted at a time", 0},
    {"client-wait", KEY_CLIENT_WAIT, "sleep|spin", 0, "how a client waits for the answer", 0},
    {"pin", KEY_PIN, NULL, 0, "the server has a CPU of its own, if there are two", 0},
    {"sndbuf", KEY_SNDBUF, "BYTES", 0,
     "SO_SNDBUF (1 MiB, the fastest on loopback; 0: the kernel's choice)", 0},
    {"rcvbuf", KEY_RCVBUF, "BYTES", 0, "SO_RCVBUF (the kernel's choice)", 0},
    {"read", KEY_READ, "BYTES", 0, "most bytes per receive call", 0},
    {"write", KEY_WRITE, "BYTES", 0, "most bytes per send call", 0},
    {0},
};

static bool choose(struct argp_state *state, const char *text, const char *yes, const char *no)
{
    if (strcmp(text, yes) != 0 && strcmp(text, no) != 0)
        argp_error(state, "'%s' is neither %s nor %s", text, yes, no);
    return strcmp(text, yes) == 0;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case KEY_RECEIVER:
        options.receiver_spins = choose(state, text, "spin", "sleep");
        break;
    case KEY_SENDERS:
        options.one_at_a_time = choose(state, text, "one", "all");
        break;
    case KEY_CLIENT_WAIT:
        options.client_spins = choose(state, text, "spin", "sleep");
        break;
    case KEY_PIN:
        options.pin = true;
        break;
    case KEY_SNDBUF:
        options.send_buffer = atoi(text);
        break;
    case KEY_RCVBUF:
        options.receive_buffer = atoi(text);
        break;
    case KEY_READ:
        options.read_bytes = strtoull(text, NULL, 10);
        break;
    case KEY_WRITE:
        options.write_bytes = strtoull(text, NULL, 10);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    workload_parse(argc, argv, "Measures plain TCP sockets with a benchmark's exchange.",
                   argp_options, parse);
    run();
    return 0;
}
