/* SPDX-License-Identifier: Apache-2.0
 * A core for tests of the provider shm; its clock stands still (host_clock_ns). It opens no
 * descriptor of its own, so that tests can count the provider's. */
#ifndef HAUL_TESTS_SHM_HOST_H
#define HAUL_TESTS_SHM_HOST_H

#include "host_basics.h"

enum { SHM_WATCHES_MAX = 128 };

struct haul_watch {
    int fd;
    uint32_t events;                           /* EPOLLIN, or 0: not now */
    void (*ready)(void *arg, uint32_t events); /* NULL: not in use */
    void *arg;
};

struct haul_engine {
    const char *shm, *threads; /* the settings shm and copy_threads */
    atomic_bool woken;
    uint64_t sleeps_until_ns; /* as deadline_ns() said after the last progress() */
    struct haul_watch watches[SHM_WATCHES_MAX];
};

/* The provider knows links by their addresses only. */
struct haul_link {
    int unused;
};

/* The cookie of a read is where its result goes: NOT_DONE before. */
enum { NOT_DONE = 1 };

/* Gives the provider its host; returns its table. */
const struct haul_rma_ops *shm_load(void);
/* Runs an instance as core does, until it sleeps: progress() is called when a descriptor, a
 * deadline or a wake-up says so, and for nothing else. */
void shm_settle(struct haul_engine *engine, void *rma);

/* What is said on the Unix socket, and where in an address: for peers that tests play. */
struct shm_record {
    uint32_t type, copies;
    uint64_t slab, bytes;
    uint8_t ticket[16];
};
enum { TICKET = 1, WELCOME = 2, SLAB = 3, GONE = 4 };
enum { BLOB_PID = 4, BLOB_COOKIE = 60, BLOB_TICKET = 76, BLOB_NAME = 92, NAME_BYTES = 32 };

#endif
