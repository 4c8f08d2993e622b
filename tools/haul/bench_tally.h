/* SPDX-License-Identifier: Apache-2.0
 * Messages per peer: how many in the measured time, and whether each came once and in order. */
#ifndef HAUL_TOOL_BENCH_TALLY_H
#define HAUL_TOOL_BENCH_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_peer_tally {
    uint64_t peer_id;
    uint64_t messages; /* in the measured time */
    uint64_t last;     /* number of its last message; 0: none */
    bool used;
};

struct bench_tally {
    struct bench_peer_tally *slots; /* open addressing by peer_id */
    size_t mask;
    size_t peers; /* expected */
    size_t known;
};

bool bench_tally_create(struct bench_tally *tally, size_t peers);
void bench_tally_clear(struct bench_tally *tally);
/* Notes a message. False: there are more peers than were expected. */
bool bench_tally_count(struct bench_tally *tally, uint64_t peer_id, bool measured);
/* The number that the peer's next message must have: each comes once and in order. */
uint64_t bench_tally_due(struct bench_tally *tally, uint64_t peer_id);
uint64_t bench_tally_sum(const struct bench_tally *tally);
/* Peers that had a message in the measured time. */
size_t bench_tally_served(const struct bench_tally *tally);
/* Jain's index over all peers that were expected, also those that sent nothing. */
double bench_tally_fairness(const struct bench_tally *tally);

#endif
