/* SPDX-License-Identifier: Apache-2.0
 * See host_watches.h. */
#include "host_watches.h"

#include "host_basics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_PER_PASS = 64 };

struct haul_watch {
    struct host_watches *set;
    struct haul_watch *next_dead;
    int fd;
    bool dead;
    void (*ready)(void *arg, uint32_t events);
    void *arg;
};

void host_watches_open(struct host_watches *watches)
{
    *watches = (struct host_watches){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    assert_return_code(watches->epoll_fd, errno);
}

int host_watches_add(struct host_watches *watches, int fd, uint32_t events,
                     void (*ready)(void *arg, uint32_t events), void *arg,
                     struct haul_watch **watch)
{
    if (watches->max > 0 && watches->count >= watches->max)
        return host_fail(HAUL_NO_MEMORY, "no memory to watch a descriptor");
    struct haul_watch *made = calloc(1, sizeof *made);
    assert_non_null(made);
    *made = (struct haul_watch){.set = watches, .fd = fd, .ready = ready, .arg = arg};
    struct epoll_event event = {.events = events, .data.ptr = made};
    assert_return_code(epoll_ctl(watches->epoll_fd, EPOLL_CTL_ADD, fd, &event), errno);
    watches->count++;
    *watch = made;
    return 0;
}

int host_watch_change(struct haul_watch *watch, uint32_t events)
{
    assert_false(watch->dead);
    struct epoll_event event = {.events = events, .data.ptr = watch};
    assert_return_code(epoll_ctl(watch->set->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event), errno);
    return 0;
}

/* An event of it may have been fetched already: it is freed after the pass. */
void host_unwatch(struct haul_watch *watch)
{
    assert_false(watch->dead);
    assert_return_code(epoll_ctl(watch->set->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL), errno);
    watch->dead = true;
    watch->set->count--;
    watch->next_dead = watch->set->dead;
    watch->set->dead = watch;
}

static void free_dead(struct host_watches *watches)
{
    while (watches->dead) {
        struct haul_watch *watch = watches->dead;
        watches->dead = watch->next_dead;
        free(watch);
    }
}

void host_watches_close(struct host_watches *watches)
{
    assert_int_equal(watches->count, 0);
    free_dead(watches);
    close(watches->epoll_fd);
}

bool host_watches_run(struct host_watches *watches, int wait_ms)
{
    struct epoll_event events[EVENTS_PER_PASS];
    int count = epoll_wait(watches->epoll_fd, events, EVENTS_PER_PASS, wait_ms);
    for (int i = 0; i < count; i++) {
        struct haul_watch *watch = events[i].data.ptr;
        if (!watch->dead)
            watch->ready(watch->arg, events[i].events);
    }
    free_dead(watches);
    return count > 0;
}
