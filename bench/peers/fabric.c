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
 * also when it cannot run.
 *
 * Processes. The clients are forked before libfabric is used, which does not survive a fork(). They
 * end with the server's connection, or by SIGTERM when it dies: libfabric's shm removes its file
 * then. */
#include "../ruler.h"

#include <argp.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum mode { REQUEST, STREAM, LATENCY };
static const char *const mode_names[] = {"request", "stream", "latency"};

enum {
    ARRAYS_MAX = 64,
    NAME_MAX_BYTES = 512,
    STREAM_WINDOW = 4,
    EVENTS = 64,
    ENTRIES = 32,
    ALIGNMENT = 64,
    SLEEPS_WITHOUT_SPIN = 8,
    PATIENCE_S = 60, /* for what is not measured */
    /* As haul reads (docs/PROVIDERS.md, ofi): */
    READS_PER_PEER = 16,
    PIECE_BYTES = 8 << 20,
    BYTES_IN_FLIGHT = 64 << 20,
};
#define NS_PER_US ((uint64_t)1000)
#define NS_PER_S ((uint64_t)1000000000)
/* A queue without descriptor is looked at again after a pause, which doubles; one with a descriptor
 * after a millisecond: wake-ups of net, and now and then of tcp, get lost. */
#define PAUSE_FIRST_NS (50 * NS_PER_US)
#define PAUSE_BUSY_NS (1000 * NS_PER_US)
#define PAUSE_IDLE_NS (10000 * NS_PER_US)

static struct options {
    const char *kind;             /* libfabric's provider, without what it layers on it */
    const char *nic, *client_nic; /* "": any */
    unsigned clients;
    size_t arrays[ARRAYS_MAX];
    size_t places[ARRAYS_MAX]; /* where each array lies in the memory of a message */
    unsigned array_count;
    size_t message_bytes, memory_bytes;
    uint64_t rows;
    enum mode mode;
    bool touch;
    double duration, warmup;
    uint64_t spin_us;
} options = {.clients = 1,
             .rows = 1,
             .nic = "",
             .client_nic = "",
             .duration = 2,
             .warmup = 0.5,
             .spin_us = 50};

static struct ruler_board *board;

static struct fabric {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *addresses;
    struct fid_cq *queue;
    struct fid_ep *endpoint;
    struct fid_mr *regions[ARRAYS_MAX];
    unsigned region_count;
    int queue_fd;     /* -1: the queue is polled */
    int epoll;        /* of the queue and the connections */
    uint64_t busy_ns; /* when something came last */
    uint64_t pause_ns;
    unsigned sleeps_without; /* a spin before: so many more */
} fabric = {.queue_fd = -1, .epoll = -1, .pause_ns = PAUSE_FIRST_NS};

/* ---- Ends ------------------------------------------------------------------------------------ */

static void close_fabric(void)
{
    while (fabric.region_count > 0)
        fi_close(&fabric.regions[--fabric.region_count]->fid);
    struct fid *all[] = {
        fabric.endpoint ? &fabric.endpoint->fid : NULL, fabric.queue ? &fabric.queue->fid : NULL,
        fabric.addresses ? &fabric.addresses->fid : NULL,
        fabric.domain ? &fabric.domain->fid : NULL, fabric.fabric ? &fabric.fabric->fid : NULL};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            fi_close(all[i]);
    if (fabric.info)
        fi_freeinfo(fabric.info);
    fabric = (struct fabric){.queue_fd = -1, .epoll = -1};
}

/* Clients have standard error for their output. */
_Noreturn static void give_up(const char *what, const char *why)
{
    printf("{\"provider\": \"libfabric\", \"path\": \"%s\", \"reason\": \"%s: %s\"}\n",
           options.kind, what, why);
    fflush(stdout);
    close_fabric();
    _exit(1);
}

static void need(const char *what, bool good)
{
    if (!good)
        give_up(what, strerror(errno));
}

/* For libfabric's calls, which return their error. */
static void need_fi(const char *what, ssize_t err)
{
    if (err)
        give_up(what, fi_strerror((int)-err));
}

/* ---- libfabric ------------------------------------------------------------------------------- */

static bool has_mode(int mode)
{
    return fabric.info->domain_attr->mr_mode & mode;
}

/* The newest API that both sides of the interface and this file know. */
static uint32_t api_version(void)
{
    const uint32_t headers = FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION);
    uint32_t version = FI_VERSION(1, 17);
    if (headers < version)
        version = headers;
    return fi_version() < version ? fi_version() : version;
}

static void find_provider(const char *nic)
{
    struct fi_info *hints = fi_allocinfo();
    need("libfabric", hints);
    bool sockets = strcmp(options.kind, "net") == 0 || strcmp(options.kind, "tcp") == 0;
    hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->av_type = FI_AV_TABLE;
    hints->fabric_attr->prov_name = strdup(options.kind);
    if (*nic)
        hints->domain_attr->name = strdup(nic);
    bool here = sockets && !*nic;
    int err = fi_getinfo(api_version(), here ? "127.0.0.1" : NULL, NULL, here ? FI_SOURCE : 0,
                         hints, &fabric.info);
    fi_freeinfo(hints);
    need_fi("libfabric has no such provider with RMA here", err);
}

static void watch(int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    need("epoll", epoll_ctl(fabric.epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* Watched for edges: of some providers the descriptor stays readable for ever. */
static void open_queue(void)
{
    struct fi_cq_attr attr = {.format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_FD};
    int err = fi_cq_open(fabric.domain, &attr, &fabric.queue, NULL);
    if (!err && fi_control(&fabric.queue->fid, FI_GETWAIT, &fabric.queue_fd) == 0) {
        watch(fabric.queue_fd, EPOLLIN | EPOLLET, NULL);
        return;
    }
    fabric.queue_fd = -1;
    attr.wait_obj = FI_WAIT_NONE;
    if (err)
        need_fi("fi_cq_open", fi_cq_open(fabric.domain, &attr, &fabric.queue, NULL));
}

static void open_fabric(const char *nic)
{
    struct fi_av_attr attr = {.type = FI_AV_TABLE};
    fabric.epoll = epoll_create1(EPOLL_CLOEXEC);
    need("epoll", fabric.epoll >= 0);
    find_provider(nic);
    need_fi("fi_fabric", fi_fabric(fabric.info->fabric_attr, &fabric.fabric, NULL));
    need_fi("fi_domain", fi_domain(fabric.fabric, fabric.info, &fabric.domain, NULL));
    need_fi("fi_av_open", fi_av_open(fabric.domain, &attr, &fabric.addresses, NULL));
    open_queue();
    need_fi("fi_endpoint", fi_endpoint(fabric.domain, fabric.info, &fabric.endpoint, NULL));
    need_fi("fi_ep_bind", fi_ep_bind(fabric.endpoint, &fabric.addresses->fid, 0));
    need_fi("fi_ep_bind", fi_ep_bind(fabric.endpoint, &fabric.queue->fid, FI_TRANSMIT | FI_RECV));
    need_fi("fi_enable", fi_enable(fabric.endpoint));
}

static struct fid_mr *register_memory(void *memory, size_t bytes, uint64_t access)
{
    /* Keys are ours to choose, each once; some providers choose their own. */
    struct fid_mr **region = &fabric.regions[fabric.region_count++];
    need_fi("fi_mr_reg", fi_mr_reg(fabric.domain, memory, bytes, access, 0, fabric.region_count, 0,
                                   region, NULL));
    return *region;
}

static void fail_read(void)
{
    struct fi_cq_err_entry entry = {0};
    fi_cq_readerr(fabric.queue, &entry, 0);
    give_up("a read failed", fi_strerror(entry.err < 0 ? -entry.err : entry.err));
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Whether to go on spinning. A spin in which nothing came is followed by some sleeps without one.
 */
static bool spins(uint64_t now_ns)
{
    if (fabric.sleeps_without > 0)
        return false;
    if (now_ns < fabric.busy_ns + options.spin_us * NS_PER_US)
        return true;
    fabric.sleeps_without = SLEEPS_WITHOUT_SPIN;
    return false;
}

/* How long to sleep; not at all while it spins or the queue has something. */
static uint64_t sleep_ns(bool reading)
{
    struct fid *queue = &fabric.queue->fid;
    if (spins(ruler_now_ns()))
        return 0;
    if (fabric.queue_fd >= 0 && fi_trywait(fabric.fabric, &queue, 1) == -FI_EAGAIN)
        return 0;
    fabric.sleeps_without -= fabric.sleeps_without > 0;
    if (fabric.queue_fd >= 0)
        return PAUSE_BUSY_NS;
    uint64_t longest = reading ? PAUSE_BUSY_NS : PAUSE_IDLE_NS;
    fabric.pause_ns = 2 * fabric.pause_ns < longest ? 2 * fabric.pause_ns : longest;
    return fabric.pause_ns;
}

/* Waits for events as haul does: spins while that pays, then sleeps. did: whether there was
 * anything to do since the last call; reading: whether reads are under way. */
static int await(struct epoll_event *events, bool did, bool reading)
{
    if (did)
        fabric.busy_ns = ruler_now_ns();
    if (did && reading)
        fabric.pause_ns = PAUSE_FIRST_NS;
    uint64_t ns = did ? 0 : sleep_ns(reading);
    struct timespec limit = {.tv_nsec = (long)ns};
    int count = ns > 0 ? epoll_pwait2(fabric.epoll, events, EVENTS, &limit, NULL)
                       : epoll_wait(fabric.epoll, events, EVENTS, 0);
    if (count > 0)
        fabric.busy_ns = ruler_now_ns();
    return count;
}

/* ---- Arrays ---------------------------------------------------------------------------------- */

static uint64_t pattern(uint64_t client, uint64_t array, uint64_t word)
{
    return (word + 1) * 0x9e3779b97f4a7c15u ^ (client * ARRAYS_MAX + array) * 0xbf58476d1ce4e5b9u;
}

static size_t word_bytes(size_t left)
{
    return left < sizeof(uint64_t) ? left : sizeof(uint64_t);
}

static void fill(unsigned char *memory, uint64_t client)
{
    for (unsigned i = 0; i < options.array_count; i++)
        for (size_t at = 0; at < options.arrays[i]; at += sizeof(uint64_t)) {
            uint64_t word = pattern(client, i, at / sizeof word);
            memcpy(memory + options.places[i] + at, &word, word_bytes(options.arrays[i] - at));
        }
}

static bool is_filled(const unsigned char *memory, uint64_t client)
{
    for (unsigned i = 0; i < options.array_count; i++)
        for (size_t at = 0; at < options.arrays[i]; at += sizeof(uint64_t)) {
            uint64_t word = pattern(client, i, at / sizeof word);
            if (memcmp(memory + options.places[i] + at, &word, word_bytes(options.arrays[i] - at)))
                return false;
        }
    return true;
}

/* ---- Client ---------------------------------------------------------------------------------- */

/* What a client tells the server of itself. */
struct offer {
    uint64_t client;
    uint64_t name_bytes;
    uint8_t name[NAME_MAX_BYTES];
    struct {
        uint64_t address, key;
    } arrays[ARRAYS_MAX];
};

static void make_offer(struct offer *offer, uint64_t client)
{
    size_t name_bytes = sizeof offer->name;
    unsigned char *memory = ruler_map_memory(options.memory_bytes, true);
    need("memory", memory);
    fill(memory, client);
    *offer = (struct offer){.client = client};
    need_fi("fi_getname", fi_getname(&fabric.endpoint->fid, offer->name, &name_bytes));
    offer->name_bytes = name_bytes;
    for (unsigned i = 0; i < options.array_count; i++) {
        if (options.arrays[i] == 0)
            continue;
        unsigned char *array = memory + options.places[i];
        struct fid_mr *region = register_memory(array, options.arrays[i], FI_REMOTE_READ);
        offer->arrays[i].address = has_mode(FI_MR_VIRT_ADDR) ? (uintptr_t)array : 0;
        offer->arrays[i].key = fi_mr_key(region);
    }
}

/* Looks at the queue, in which nothing ever comes: the server's reads go on meanwhile. */
static void serve_reads(void)
{
    struct fi_cq_entry entry;
    if (fi_cq_read(fabric.queue, &entry, 1) == -FI_EAVAIL)
        fail_read();
}

/* False at the end of the run: the server closed the connection. */
static bool await_answer(int fd)
{
    char answer[4];
    struct epoll_event events[EVENTS];
    for (size_t got = 0; got < sizeof answer;) {
        serve_reads();
        ssize_t n = recv(fd, answer + got, sizeof answer - got, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        got += n > 0 ? (size_t)n : 0;
        if (got < sizeof answer)
            await(events, n > 0, false);
    }
    return true;
}

static void exchange(int fd, struct ruler_slot *slot)
{
    unsigned window = options.mode == STREAM ? STREAM_WINDOW : 1;
    for (unsigned under_way = 0;;) {
        uint64_t begin = fabric.busy_ns = ruler_now_ns();
        if (send(fd, "m", 1, MSG_NOSIGNAL) != 1)
            return;
        if (++under_way < window)
            continue;
        if (!await_answer(fd))
            return;
        under_way--;
        if (options.mode != STREAM && ruler_board_in(board, RULER_MEASURE))
            ruler_record(&slot->latency, ruler_now_ns() - begin);
    }
}

static void tune(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void client(unsigned index, const struct sockaddr_in *address)
{
    struct offer offer;
    open_fabric(options.client_nic);
    make_offer(&offer, index);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need("a client cannot connect",
         fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    tune(fd);
    watch(fd, EPOLLIN, NULL);
    need("a client cannot send", send(fd, &offer, sizeof offer, MSG_NOSIGNAL) == sizeof offer);
    ruler_board_await(board, RULER_WARMUP, PATIENCE_S * NS_PER_S);
    exchange(fd, &board->slots[index]);
    close(fd);
    close_fabric();
}

/* ---- Server ---------------------------------------------------------------------------------- */

struct connection {
    int fd;
    fi_addr_t address;
    struct offer offer;
    unsigned reads;    /* under way */
    bool to_check;     /* the bytes of its next message */
    uint64_t messages; /* in the measured time */
};

struct piece {
    struct fi_context2 context; /* first: the piece is found by it */
    struct message *message;
    size_t bytes; /* 0: not under way */
};

/* One that is being read, and its memory. */
struct message {
    struct connection *from; /* NULL: none */
    unsigned char *memory;
    unsigned array; /* what is read next */
    size_t offset;
    unsigned reads; /* under way */
    bool to_check;
    struct piece pieces[READS_PER_PEER];
};

static struct server {
    bool over;   /* a client is gone */
    bool ending; /* no more messages are begun */
    struct connection *connections;
    struct connection **due; /* a ring: whose messages are to be read, in turn */
    size_t due_room, due_first, due_count;
    struct message *messages;
    size_t message_count;
    void *descriptor; /* of all their memory, where libfabric wants one */
    size_t bytes_in_flight;
} server;

static void end_message(struct message *message)
{
    struct connection *from = message->from;
    if (message->to_check && !is_filled(message->memory, from->offer.client))
        give_up("reads bring wrong bytes", options.kind);
    for (unsigned i = 0; options.touch && i < options.array_count; i++)
        ruler_touch(message->memory + options.places[i], options.arrays[i]);
    if (ruler_board_in(board, RULER_MEASURE))
        from->messages++;
    message->from = NULL;
    server.over |= send(from->fd, "done", 4, MSG_NOSIGNAL) != 4;
}

static struct piece *unused_piece(struct message *message)
{
    struct piece *piece = message->pieces;
    while (piece->bytes > 0)
        piece++;
    return piece;
}

/* Posts the next piece of a message. False: there is none, or not now. */
static bool post_piece(struct message *message)
{
    struct connection *from = message->from;
    while (message->array < options.array_count &&
           message->offset == options.arrays[message->array]) {
        message->array++;
        message->offset = 0;
    }
    if (message->array == options.array_count || from->reads == READS_PER_PEER)
        return false;
    size_t max = fabric.info->ep_attr->max_msg_size;
    size_t bytes = options.arrays[message->array] - message->offset;
    if (bytes > PIECE_BYTES)
        bytes = PIECE_BYTES;
    if (bytes > max)
        bytes = max;
    if (server.bytes_in_flight > 0 && server.bytes_in_flight + bytes > BYTES_IN_FLIGHT)
        return false;
    struct piece *piece = unused_piece(message);
    ssize_t err =
        fi_read(fabric.endpoint, message->memory + options.places[message->array] + message->offset,
                bytes, server.descriptor, from->address,
                from->offer.arrays[message->array].address + message->offset,
                from->offer.arrays[message->array].key, &piece->context);
    if (err == -FI_EAGAIN)
        return false;
    need_fi("fi_read", err);
    piece->message = message;
    piece->bytes = bytes;
    message->offset += bytes;
    message->reads++;
    from->reads++;
    server.bytes_in_flight += bytes;
    return true;
}

static void end_piece(struct piece *piece)
{
    struct message *message = piece->message;
    server.bytes_in_flight -= piece->bytes;
    piece->bytes = 0;
    message->from->reads--;
    message->reads--;
}

/* Takes what the queue has. */
static bool take_completions(void)
{
    struct fi_cq_entry entries[ENTRIES];
    ssize_t count = fi_cq_read(fabric.queue, entries, ENTRIES);
    if (count == -FI_EAVAIL)
        fail_read();
    for (ssize_t i = 0; i < count; i++)
        end_piece(entries[i].op_context);
    return count > 0;
}

static void begin_message(struct message *message)
{
    struct connection *from = server.due[server.due_first];
    server.due_first = (server.due_first + 1) % server.due_room;
    server.due_count--;
    message->from = from;
    message->array = 0;
    message->offset = 0;
    message->to_check = from->to_check;
    from->to_check = false;
    if (message->to_check)
        memset(message->memory, 0, options.memory_bytes);
}

/* Returns whether anything was done. */
static bool read_messages(void)
{
    bool did = take_completions();
    for (size_t i = 0; i < server.message_count; i++) {
        struct message *message = &server.messages[i];
        if (!message->from && server.due_count > 0 && !server.ending)
            begin_message(message);
        while (message->from && post_piece(message))
            did = true;
        if (message->from && message->array == options.array_count && message->reads == 0) {
            end_message(message);
            did = true;
        }
    }
    return did;
}

/* Each byte is a message. */
static void take_requests(struct connection *from)
{
    char requests[STREAM_WINDOW];
    ssize_t count = recv(from->fd, requests, sizeof requests, MSG_DONTWAIT);
    server.over |= count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR);
    for (ssize_t i = 0; i < count; i++) {
        server.due[(server.due_first + server.due_count) % server.due_room] = from;
        server.due_count++;
    }
}

static void serve_once(void)
{
    struct epoll_event events[EVENTS];
    int count = await(events, read_messages(), server.bytes_in_flight > 0);
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr)
            take_requests(events[i].data.ptr);
    if (server.over)
        give_up("the run ended too early", "a client is gone");
}

static void serve(double seconds)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(seconds * 1e9);
    while (ruler_now_ns() < end_ns)
        serve_once();
}

static bool any_to_check(void)
{
    for (unsigned i = 0; i < options.clients; i++)
        if (server.connections[i].to_check)
            return true;
    for (size_t i = 0; i < server.message_count; i++)
        if (server.messages[i].from && server.messages[i].to_check)
            return true;
    return false;
}

/* Goes on until a message of each client was checked. */
static void serve_and_check(void)
{
    uint64_t end_ns = ruler_now_ns() + PATIENCE_S * NS_PER_S;
    for (unsigned i = 0; i < options.clients; i++)
        server.connections[i].to_check = true;
    while (any_to_check()) {
        if (ruler_now_ns() > end_ns)
            give_up("reads do not end", options.kind);
        serve_once();
    }
}

static bool any_under_way(void)
{
    for (size_t i = 0; i < server.message_count; i++)
        if (server.messages[i].from)
            return true;
    return false;
}

/* Until 1.17 libfabric's tcp crashes when an endpoint is closed in the middle of a read. */
static void end_reads(void)
{
    server.ending = true;
    while (any_under_way())
        serve_once();
}

/* ---- Set-up ---------------------------------------------------------------------------------- */

static int listen_here(struct sockaddr_in *address)
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
    tune(c->fd);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (recv(c->fd, &c->offer, sizeof c->offer, MSG_WAITALL) != sizeof c->offer)
        give_up("a client offers nothing", "it is gone");
    if (fi_av_insert(fabric.addresses, c->offer.name, 1, &c->address, 0, NULL) != 1)
        give_up("fi_av_insert", "the client's address was not taken");
    watch(c->fd, EPOLLIN, c);
}

static void make_room(void)
{
    server.connections = calloc(options.clients, sizeof *server.connections);
    server.due_room = (size_t)options.clients * STREAM_WINDOW;
    server.due = calloc(server.due_room, sizeof *server.due);
    size_t fit = BYTES_IN_FLIGHT / options.message_bytes;
    server.message_count = fit == 0 ? 1 : fit < server.due_room ? fit : server.due_room;
    if (options.mode != STREAM && server.message_count > options.clients)
        server.message_count = options.clients;
    server.messages = calloc(server.message_count, sizeof *server.messages);
    size_t bytes = server.message_count * options.memory_bytes;
    unsigned char *memory = ruler_map_memory(bytes, true);
    need("memory", server.connections && server.due && server.messages && memory);
    for (size_t i = 0; i < server.message_count; i++)
        server.messages[i].memory = memory + i * options.memory_bytes;
    if (has_mode(FI_MR_LOCAL))
        server.descriptor = fi_mr_desc(register_memory(memory, bytes, FI_READ));
}

static void start_clients(int listener, const struct sockaddr_in *address)
{
    pid_t parent = getpid();
    for (unsigned i = 0; i < options.clients; i++) {
        pid_t pid = fork();
        need("cannot fork", pid >= 0);
        if (pid == 0) {
            dup2(STDERR_FILENO, STDOUT_FILENO);
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            if (getppid() != parent)
                _exit(1);
            close(listener);
            client(i, address);
            _exit(0);
        }
        board->slots[i].pid = pid;
    }
}

/* ---- The run --------------------------------------------------------------------------------- */

static struct ruler_result measure(uint64_t *counts)
{
    struct ruler_span span;
    struct ruler_result result = {.provider = "libfabric",
                                  .path = fabric.info->fabric_attr->prov_name,
                                  .mode = mode_names[options.mode],
                                  .clients = options.clients};
    ruler_board_enter(board, RULER_WARMUP);
    serve_and_check();
    serve(options.warmup);
    ruler_span_begin(&span, board);
    ruler_board_enter(board, RULER_MEASURE);
    serve(options.duration);
    ruler_board_enter(board, RULER_OVER);
    for (unsigned i = 0; i < options.clients; i++)
        result.messages += counts[i] = server.connections[i].messages;
    ruler_span_end(&span, board, &result);
    result.bytes = result.messages * options.message_bytes;
    result.rows = result.messages * options.rows;
    result.fairness = ruler_fairness(counts, options.clients);
    serve_and_check();
    end_reads();
    return result;
}

static void run(void)
{
    int board_fd;
    struct sockaddr_in address;
    board = ruler_board_create(options.clients, &board_fd);
    need("shared memory", board);
    int listener = listen_here(&address);
    start_clients(listener, &address);
    open_fabric(options.nic);
    make_room();
    for (unsigned i = 0; i < options.clients; i++)
        accept_one(listener, &server.connections[i]);
    uint64_t *counts = calloc(options.clients, sizeof *counts);
    struct ruler_histogram *latency = calloc(1, sizeof *latency);
    need("memory", counts && latency);
    struct ruler_result result = measure(counts);
    for (unsigned i = 0; i < options.clients; i++) {
        close(server.connections[i].fd);
        fi_av_remove(fabric.addresses, &server.connections[i].address, 1, 0);
    }
    while (wait(NULL) > 0 || errno == EINTR)
        ;
    for (unsigned i = 0; i < options.clients; i++)
        ruler_merge(latency, &board->slots[i].latency);
    result.latency = latency;
    ruler_result_print(&result);
    close_fabric();
    free(latency);
    free(counts);
    free(server.connections);
    free(server.due);
    free(server.messages);
    ruler_board_close(board);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

enum { KEY_NIC = 256, KEY_CLIENT_NIC, KEY_SPIN, KEY_TOUCH, KEY_ROWS, KEY_WARMUP };

static const struct argp_option argp_options[] = {
    {"kind", 'k', "KIND", 0, "libfabric's provider: net, tcp, shm, verbs", 0},
    {"nic", KEY_NIC, "NAME", 0, "the server's device or interface (any)", 0},
    {"client-nic", KEY_CLIENT_NIC, "NAME", 0, "that of the clients (any)", 0},
    {"clients", 'n', "N", 0, "client processes (1)", 0},
    {"arrays", 'a', "BYTES,...", 0, "bytes of each array of a message", 0},
    {"rows", KEY_ROWS, "N", 0, "rows that a message counts for (1)", 0},
    {"mode", 'm', "MODE", 0, "request, stream or latency", 0},
    {"spin", KEY_SPIN, "US", 0, "longest spin before a sleep (50)", 0},
    {"touch", KEY_TOUCH, NULL, 0, "the server reads every byte once", 0},
    {"duration", 'd', "S", 0, "seconds measured (2)", 0},
    {"warmup", KEY_WARMUP, "S", 0, "seconds before (0.5)", 0},
    {0},
};

static void parse_arrays(struct argp_state *state, char *text)
{
    for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
        if (options.array_count == ARRAYS_MAX)
            argp_error(state, "more than %d arrays", ARRAYS_MAX);
        size_t bytes = strtoull(item, NULL, 10);
        options.places[options.array_count] = options.memory_bytes;
        options.arrays[options.array_count++] = bytes;
        options.message_bytes += bytes;
        options.memory_bytes += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
}

static void parse_mode(struct argp_state *state, const char *text)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(text, mode_names[i]) == 0) {
            options.mode = (enum mode)i;
            return;
        }
    argp_error(state, "unknown mode '%s'", text);
}

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
    case 'n':
        options.clients = (unsigned)strtoul(text, NULL, 10);
        break;
    case 'a':
        parse_arrays(state, text);
        break;
    case 'm':
        parse_mode(state, text);
        break;
    case 'd':
        options.duration = strtod(text, NULL);
        break;
    case KEY_WARMUP:
        options.warmup = strtod(text, NULL);
        break;
    case KEY_ROWS:
        options.rows = strtoull(text, NULL, 10);
        break;
    case KEY_SPIN:
        options.spin_us = strtoull(text, NULL, 10);
        break;
    case KEY_TOUCH:
        options.touch = true;
        break;
    case ARGP_KEY_END:
        if (!options.kind || options.message_bytes == 0 || options.clients == 0)
            argp_error(state, "--kind, --arrays and --clients must not be empty");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        argp_options, parse, NULL, "Measures reads of libfabric with a benchmark's exchange.",
        NULL,         NULL,  NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    run();
    return 0;
}
