/* SPDX-License-Identifier: Apache-2.0
 * The server: takes the connections of the clients, hands the messages that they ask for to
 * fabric_read.c and answers them. */
#include "fabric.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct connection *connections;

/* ---- Connections ----------------------------------------------------------------------------- */

int server_listen(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    need("cannot listen", fd >= 0 && bind(fd, (struct sockaddr *)address, size) == 0 &&
                              listen(fd, 4096) == 0 &&
                              getsockname(fd, (struct sockaddr *)address, &size) == 0);
    return fd;
}

static void accept_one(int listener, struct connection *c)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    need("the clients do not connect", c->fd >= 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (recv(c->fd, &c->offer, sizeof c->offer, MSG_WAITALL) != sizeof c->offer)
        give_up("a client offers nothing", "it is gone");
    if (fi_av_insert(fabric.addresses, c->offer.name, 1, &c->address, 0, NULL) != 1)
        give_up("fi_av_insert", "the client's address was not taken");
    wait_watch_connection(c->fd, c);
}

void server_open(int listener)
{
    connections = calloc(workload.clients, sizeof *connections);
    need("memory", connections);
    reads_open();
    for (unsigned i = 0; i < workload.clients; i++)
        accept_one(listener, &connections[i]);
}

void server_close(void)
{
    for (unsigned i = 0; i < workload.clients; i++) {
        close(connections[i].fd);
        fi_av_remove(fabric.addresses, &connections[i].address, 1, 0);
    }
    reads_close();
    free(connections);
}

uint64_t server_messages(unsigned client)
{
    return connections[client].messages;
}

/* ---- Serving --------------------------------------------------------------------------------- */

/* They stay until the server closes their connections. */
static void need_client(bool here)
{
    if (!here)
        give_up("the run ended too early", "a client is gone");
}

/* Each byte is a message. */
static void take_requests(struct connection *from)
{
    char requests[STREAM_WINDOW];
    ssize_t count = recv(from->fd, requests, sizeof requests, MSG_DONTWAIT);
    need_client(count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR)));
    for (ssize_t i = 0; i < count; i++)
        reads_add(from);
}

void server_answer(struct connection *to)
{
    if (ruler_board_in(board, RULER_MEASURE))
        to->messages++;
    need_client(send(to->fd, "done", 4, MSG_NOSIGNAL) == 4);
}

static void serve_once(void)
{
    struct epoll_event events[EVENTS];
    bool did = reads_go_on();
    int count = wait_for_events(events, did, reads_posted());
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr)
            take_requests(events[i].data.ptr);
}

void server_serve(double seconds)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(seconds * 1e9);
    while (ruler_now_ns() < end_ns)
        serve_once();
}

static bool any_to_check(void)
{
    for (unsigned i = 0; i < workload.clients; i++)
        if (connections[i].to_check)
            return true;
    return reads_any_to_check();
}

void server_serve_and_check(void)
{
    uint64_t end_ns = ruler_now_ns() + PATIENCE_S * NS_PER_S;
    for (unsigned i = 0; i < workload.clients; i++)
        connections[i].to_check = true;
    while (any_to_check()) {
        if (ruler_now_ns() > end_ns)
            give_up("reads do not end", options.kind);
        serve_once();
    }
}

/* Until 1.17 libfabric's tcp crashes when an endpoint is closed in the middle of a read. */
void server_finish(void)
{
    reads_begin_no_more();
    while (reads_any_begun())
        serve_once();
}
