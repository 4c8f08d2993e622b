/* SPDX-License-Identifier: Apache-2.0
 * A core for tests of the provider shm: settings, descriptors, and a clock that stands still unless
 * a test moves it. It opens no descriptor of its own, so that tests can count the provider's. */
#ifndef HAUL_TESTS_SHM_HOST_H
#define HAUL_TESTS_SHM_HOST_H

#include <haul/provider.h>

enum { SHM_WATCHES_MAX = 64 };

struct haul_watch {
    int fd;
    void (*ready)(void *arg, uint32_t events); /* NULL: not in use */
    void *arg;
};

struct haul_engine {
    const char *shm, *threads; /* the settings shm and copy_threads */
    struct haul_watch watches[SHM_WATCHES_MAX];
};

/* The provider knows links by their addresses only. */
struct haul_link {
    int unused;
};

extern uint64_t shm_clock_ns;
/* What the provider gave as an error's reason last, and the last line that it logged. */
extern char shm_detail[512], shm_logged[512];

/* The cookie of a read is where its result goes: NOT_DONE before. */
enum { NOT_DONE = 1 };

/* Gives the provider its host; returns its table. */
const struct haul_rma_ops *shm_load(void);
/* Runs an instance until neither progress() nor a descriptor has anything to do. */
void shm_settle(struct haul_engine *engine, void *rma);

#endif
