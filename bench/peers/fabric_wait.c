/* SPDX-License-Identifier: Apache-2.0
 * Waiting for libfabric's queue and for connections, of a client as of the server, as haul waits:
 * it spins while that pays, then sleeps. */
#include "fabric.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

enum { SLEEPS_WITHOUT_SPIN = 8 };
/* A queue without descriptor is looked at again after a pause, which doubles; one with a descriptor
 * after a millisecond: wake-ups of net, and now and then of tcp, get lost. */
#define PAUSE_FIRST_NS (50 * NS_PER_US)
#define PAUSE_BUSY_NS (1000 * NS_PER_US)
#define PAUSE_IDLE_NS (10000 * NS_PER_US)

static struct {
    int epoll;        /* of the queue and the connections */
    uint64_t busy_ns; /* when something came last */
    uint64_t pause_ns;
    unsigned sleeps_without; /* a spin before: so many more */
} waiting = {.epoll = -1, .pause_ns = PAUSE_FIRST_NS};

void wait_open(void)
{
    waiting.epoll = epoll_create1(EPOLL_CLOEXEC);
    need("epoll", waiting.epoll >= 0);
}

void wait_watch(int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    need("epoll", epoll_ctl(waiting.epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

void wait_watch_connection(int fd, void *what)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    wait_watch(fd, EPOLLIN, what);
}

void wait_is_busy(uint64_t now_ns)
{
    waiting.busy_ns = now_ns;
}

/* Whether to go on spinning. A spin in which nothing came is followed by some sleeps without one.
 */
static bool spins(uint64_t now_ns)
{
    if (waiting.sleeps_without > 0)
        return false;
    if (now_ns < waiting.busy_ns + options.spin_us * NS_PER_US)
        return true;
    waiting.sleeps_without = SLEEPS_WITHOUT_SPIN;
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
    waiting.sleeps_without -= waiting.sleeps_without > 0;
    if (fabric.queue_fd >= 0)
        return PAUSE_BUSY_NS;
    uint64_t longest = reading ? PAUSE_BUSY_NS : PAUSE_IDLE_NS;
    waiting.pause_ns = 2 * waiting.pause_ns < longest ? 2 * waiting.pause_ns : longest;
    return waiting.pause_ns;
}

int wait_for_events(struct epoll_event *events, bool did, bool reading)
{
    if (did)
        waiting.busy_ns = ruler_now_ns();
    if (did && reading)
        waiting.pause_ns = PAUSE_FIRST_NS;
    uint64_t ns = did ? 0 : sleep_ns(reading);
    struct timespec limit = {.tv_nsec = (long)ns};
    int count = ns > 0 ? epoll_pwait2(waiting.epoll, events, EVENTS, &limit, NULL)
                       : epoll_wait(waiting.epoll, events, EVENTS, 0);
    if (count > 0)
        waiting.busy_ns = ruler_now_ns();
    return count;
}
