/* SPDX-License-Identifier: Apache-2.0
 * A client: registers its arrays once and tells the server where they are; then asks for one
 * message after the other, a byte each, and lets the server read. */
#include "fabric.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static void make_offer(struct offer *offer, uint64_t client)
{
    size_t name_bytes = sizeof offer->name;
    unsigned char *memory = ruler_map_memory(layout.bytes, true);
    need("memory", memory);
    pattern_fill(memory, client);
    *offer = (struct offer){.client = client};
    need_fi("fi_getname", fi_getname(&fabric.endpoint->fid, offer->name, &name_bytes));
    offer->name_bytes = name_bytes;
    for (unsigned i = 0; i < workload.array_count; i++) {
        if (workload.arrays[i] == 0)
            continue;
        unsigned char *array = memory + layout.places[i];
        struct fid_mr *region = fabric_register(array, workload.arrays[i], FI_REMOTE_READ);
        offer->arrays[i].address = fabric_has_mode(FI_MR_VIRT_ADDR) ? (uintptr_t)array : 0;
        offer->arrays[i].key = fi_mr_key(region);
    }
}

/* Looks at the queue, in which nothing ever comes: the server's reads go on meanwhile. */
static void serve_reads(void)
{
    struct fi_cq_entry entry;
    fabric_completions(&entry, 1);
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
            wait_for_events(events, n > 0, false);
    }
    return true;
}

static void exchange(int fd, struct ruler_slot *slot)
{
    unsigned window = workload.mode == STREAM ? STREAM_WINDOW : 1;
    for (unsigned under_way = 0;;) {
        uint64_t begin = ruler_now_ns();
        wait_is_busy(begin);
        if (send(fd, "m", 1, MSG_NOSIGNAL) != 1)
            return;
        if (++under_way < window)
            continue;
        if (!await_answer(fd))
            return;
        under_way--;
        if (workload.mode != STREAM && ruler_board_in(board, RULER_MEASURE))
            ruler_record(&slot->latency, ruler_now_ns() - begin);
    }
}

void client_run(unsigned index, const struct sockaddr_in *address)
{
    struct offer offer;
    fabric_open(options.client_nic);
    make_offer(&offer, index);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need("a client cannot connect",
         fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    wait_watch_connection(fd, NULL);
    need("a client cannot send", send(fd, &offer, sizeof offer, MSG_NOSIGNAL) == sizeof offer);
    ruler_board_await(board, RULER_WARMUP, PATIENCE_S * NS_PER_S);
    exchange(fd, &board->slots[index]);
    close(fd);
    fabric_close();
}
