/* SPDX-License-Identifier: Apache-2.0
 * Messages per peer: see bench_tally.h. */
#include "bench_tally.h"

#include "ruler.h"

#include <stdlib.h>

bool bench_tally_create(struct bench_tally *tally, size_t peers)
{
    size_t slots = 16;
    while (slots < 4 * peers)
        slots *= 2;
    *tally = (struct bench_tally){.mask = slots - 1, .peers = peers};
    tally->slots = calloc(slots, sizeof(*tally->slots));
    return tally->slots;
}

void bench_tally_clear(struct bench_tally *tally)
{
    free(tally->slots);
    *tally = (struct bench_tally){0};
}

/* The peer's slot, taken for it if it has none; NULL if there are too many peers. */
static struct bench_peer_tally *find(struct bench_tally *tally, uint64_t peer_id)
{
    size_t at = peer_id & tally->mask;
    while (tally->slots[at].used && tally->slots[at].peer_id != peer_id)
        at = (at + 1) & tally->mask;
    struct bench_peer_tally *slot = &tally->slots[at];
    if (slot->used)
        return slot;
    if (tally->known == tally->peers)
        return NULL;
    tally->known++;
    *slot = (struct bench_peer_tally){.peer_id = peer_id, .used = true};
    return slot;
}

bool bench_tally_count(struct bench_tally *tally, uint64_t peer_id, bool measured)
{
    struct bench_peer_tally *slot = find(tally, peer_id);
    if (slot && measured)
        slot->messages++;
    return slot;
}

uint64_t bench_tally_due(struct bench_tally *tally, uint64_t peer_id)
{
    struct bench_peer_tally *slot = find(tally, peer_id);
    return slot ? ++slot->last : 0;
}

uint64_t bench_tally_sum(const struct bench_tally *tally)
{
    uint64_t sum = 0;
    for (size_t i = 0; i <= tally->mask; i++)
        sum += tally->slots[i].messages;
    return sum;
}

size_t bench_tally_served(const struct bench_tally *tally)
{
    size_t served = 0;
    for (size_t i = 0; i <= tally->mask; i++)
        served += tally->slots[i].messages > 0;
    return served;
}

double bench_tally_fairness(const struct bench_tally *tally)
{
    /* Unused slots count 0, and add nothing to either of the index's sums but their number. */
    uint64_t *counts = calloc(tally->mask + 1, sizeof(*counts));
    if (!counts)
        return 0;
    for (size_t i = 0; i <= tally->mask; i++)
        counts[i] = tally->slots[i].messages;
    double index = ruler_fairness(counts, tally->mask + 1);
    free(counts);
    return index * (double)(tally->mask + 1) / (double)tally->peers;
}
