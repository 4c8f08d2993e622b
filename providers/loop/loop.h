/* SPDX-License-Identifier: Apache-2.0
 * What the files of the provider `loop` share: its settings and its two tables. */
#ifndef HAUL_LOOP_H
#define HAUL_LOOP_H

#include <haul/provider.h>
#include <stdatomic.h>

/* Core's functions; set by the entry function, before anything else of the provider runs. */
extern const struct haul_host *haul_loop_host;

/* The settings, parsed. Each channel and each rma instance has its own copy. */
struct haul_loop_config {
    uint64_t delay_ns;         /* between send() and delivery */
    uint64_t drop_after_bytes; /* of one connection, both directions; UINT64_MAX: never */
    uint64_t piece_bytes;      /* payload bytes copied at once */
    uint64_t fail_alloc;       /* every n-th allocation fails; 0: none */
    bool parts;                /* deliver with lend() */
    bool rma;
    bool rma_map;
    bool rma_inside;     /* read_done() comes from inside read() */
    bool rma_fence_lets; /* a fence lets reads complete that can */
    uint64_t rma_delay_ns;
    uint64_t rma_fail_every; /* every n-th read fails; 0: none */
    uint64_t rma_hang_every; /* every n-th read never completes; 0: none */
    atomic_uint_fast64_t allocations;
};

/* Reads the settings of a context. Errors: HAUL_CONFIG, with the setting and what it takes. */
int haul_loop_configure(struct haul_engine *engine, struct haul_loop_config *config);
/* Zeroed memory, freed with free(). NULL with the error detail set: none, or loop_fail_alloc. */
void *haul_loop_alloc(struct haul_loop_config *config, size_t bytes);

extern const struct haul_channel_ops haul_loop_channel;
extern const struct haul_rma_ops haul_loop_rma;

/* In a child of fork(): forget what the process listened on and offered. It is the parent's, and a
 * thread of the parent's may have held the locks. */
void haul_loop_channel_forked(void);
void haul_loop_rma_forked(void);

#endif
