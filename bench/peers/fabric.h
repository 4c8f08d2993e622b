/* SPDX-License-Identifier: Apache-2.0
 * What the files of the baseline `fabric` share.
 *
 *   fabric.c           arguments, the run and its result, and how it ends early
 *   fabric_endpoint.c  libfabric: an endpoint and what it needs, registered memory
 *   fabric_wait.c      waiting for libfabric's queue and for connections
 *   fabric_arrays.c    where the arrays of a message lie, and the pattern in them
 *   fabric_client.c    a client: offers its arrays, asks for reads of them
 *   fabric_server.c    the server: connections, and for how long it serves them
 *   fabric_read.c      the server's reads: messages on their way, in pieces
 *
 * Processes. The clients are forked before libfabric is used, which does not survive a fork(). So
 * each process opens an endpoint of its own, `fabric`. The server's process runs fabric.c,
 * fabric_server.c and fabric_read.c, a client's fabric_client.c, both the other files. What the
 * arguments say is known before the fork; after it they share `board` and a connection.
 *
 * Memory. A client registers its arrays, fabric_read.c the memory that they are read into. Both
 * stay mapped until the process ends: the server may be in the middle of a read. */
#ifndef BENCH_PEERS_FABRIC_H
#define BENCH_PEERS_FABRIC_H

#include "../ruler.h"
#include "workload.h"

#include <netinet/in.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <sys/epoll.h>

enum {
    NAME_MAX_BYTES = 512,
    EVENTS = 64,     /* taken at once */
    PATIENCE_S = 60, /* for what is not measured */
};
#define NS_PER_US ((uint64_t)1000)
#define NS_PER_S ((uint64_t)1000000000)

/* ---- fabric.c -------------------------------------------------------------------------------- */

struct options {
    const char *kind;             /* libfabric's provider, without what it layers on it */
    const char *nic, *client_nic; /* "": any */
    uint64_t spin_us;
};
extern struct options options;

/* In memory of all processes. */
extern struct ruler_board *board;

/* Prints what went wrong in place of a result, closes the endpoint and ends the process. */
_Noreturn void give_up(const char *what, const char *why);
/* Gives up unless it is good; why is in errno. */
void need(const char *what, bool good);
/* The same for libfabric's calls, which return their error. */
void need_fi(const char *what, ssize_t err);

/* ---- fabric_endpoint.c ----------------------------------------------------------------------- */

/* This process's endpoint and what it needs; only fabric_endpoint.c changes it. */
extern struct fabric {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *addresses;
    struct fid_cq *queue;
    int queue_fd; /* -1: the queue is polled */
    struct fid_ep *endpoint;
    struct fid_mr *regions[ARRAYS_MAX];
    unsigned region_count;
} fabric;

/* nic: a device or interface, "" for any. */
void fabric_open(const char *nic);
void fabric_close(void);
/* Whether memory must be registered in one of those ways (FI_MR_LOCAL, ...). */
bool fabric_has_mode(int mode);
/* Lasts until the endpoint is closed. */
struct fid_mr *fabric_register(void *memory, size_t bytes, uint64_t access);
/* Takes completed operations off the queue, and gives up if one has failed. Returns how many came.
 */
size_t fabric_completions(struct fi_cq_entry *entries, size_t room);

/* ---- fabric_wait.c --------------------------------------------------------------------------- */

/* Before anything is watched. */
void wait_open(void);
/* what: is in the descriptor's events. */
void wait_watch(int fd, uint32_t events, void *what);
/* The same for a connection, whose bytes leave at once from here on. */
void wait_watch_connection(int fd, void *what);
/* Something began at that time: a spin lasts from then on. */
void wait_is_busy(uint64_t now_ns);
/* Waits for events as haul does: spins while that pays, then sleeps. did: whether there was
 * anything to do since the last call; reading: whether reads are under way. Returns how many of
 * EVENTS came. */
int wait_for_events(struct epoll_event *events, bool did, bool reading);

/* ---- fabric_arrays.c ------------------------------------------------------------------------- */

/* Of the memory of a message, at a client as at the server. */
extern struct layout {
    size_t places[ARRAYS_MAX]; /* where each array begins */
    size_t bytes;
} layout;

/* As the workload's arrays want it. */
void layout_make(void);
/* Writes a client's pattern into a message's memory. */
void pattern_fill(unsigned char *memory, uint64_t client);
bool pattern_is_there(const unsigned char *memory, uint64_t client);

/* ---- fabric_client.c ------------------------------------------------------------------------- */

/* What a client tells the server of itself, first of all. */
struct offer {
    uint64_t client;
    uint64_t name_bytes;
    uint8_t name[NAME_MAX_BYTES];
    struct {
        uint64_t address, key;
    } arrays[ARRAYS_MAX];
};

/* All that a client's process does. */
void client_run(unsigned index, const struct sockaddr_in *address);

/* ---- fabric_server.c ------------------------------------------------------------------------- */

struct connection {
    int fd;
    fi_addr_t address;
    struct offer offer;
    unsigned reads;    /* under way */
    bool to_check;     /* the bytes of its next message */
    uint64_t messages; /* in the measured time */
};

/* Returns the listening socket; the rest comes after the clients are forked. */
int server_listen(struct sockaddr_in *address);
/* Takes the connections of all clients. */
void server_open(int listener);
void server_serve(double seconds);
/* Serves until a message of each client was checked, byte by byte. */
void server_serve_and_check(void);
/* Serves until no read is under way, and begins none. */
void server_finish(void);
/* Messages of a client in the measured time. */
uint64_t server_messages(unsigned client);
/* Ends the connections, and so the clients. */
void server_close(void);
/* Answers a message, which is all there. */
void server_answer(struct connection *to);

/* ---- fabric_read.c --------------------------------------------------------------------------- */

void reads_open(void);
void reads_close(void);
/* One more message of that client is to be read, when its turn comes. */
void reads_add(struct connection *from);
/* From here on only messages that have begun are read. */
void reads_begin_no_more(void);
/* Does what can be done now. Returns whether that was anything. */
bool reads_go_on(void);
/* Whether reads are posted; messages are begun; one of them is to be checked. */
bool reads_posted(void);
bool reads_any_begun(void);
bool reads_any_to_check(void);

#endif
