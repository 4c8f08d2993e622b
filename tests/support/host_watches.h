/* SPDX-License-Identifier: Apache-2.0
 * Descriptors that a host watches for its provider: an epoll set, as core has. For hosts whose
 * struct haul_engine has one. */
#ifndef HAUL_TESTS_HOST_WATCHES_H
#define HAUL_TESTS_HOST_WATCHES_H

#include <haul/provider.h>

struct host_watches {
    int epoll_fd;
    unsigned count, max;     /* watching one more than max fails, if that is not 0 */
    struct haul_watch *dead; /* unwatched in this pass */
};

void host_watches_open(struct host_watches *watches);
/* When all are unwatched. */
void host_watches_close(struct host_watches *watches);
/* A host's watch(). */
int host_watches_add(struct host_watches *watches, int fd, uint32_t events,
                     void (*ready)(void *arg, uint32_t events), void *arg,
                     struct haul_watch **watch);
/* Functions for a host's table. */
int host_watch_change(struct haul_watch *watch, uint32_t events);
void host_unwatch(struct haul_watch *watch);
/* A pass: calls those that are ready, or get so within wait_ms. Returns whether any was. */
bool host_watches_run(struct host_watches *watches, int wait_ms);

#endif
