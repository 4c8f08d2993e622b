/* SPDX-License-Identifier: Apache-2.0
 * What a run cost the server: CPU, faults, allocations, copies, memory. */
#ifndef HAUL_TOOL_BENCH_COSTS_H
#define HAUL_TOOL_BENCH_COSTS_H

#include "count/count.h"
#include "ruler.h"

#include <haul/haul.h>
#include <jansson.h>
#include <sys/resource.h>

/* Everything that a measurement is the difference of. */
struct bench_reading {
    uint64_t time_ns, cpu_ns, clients_cpu_ns;
    bool counted; /* counts are known: libhaul_count is loaded */
    struct haul_counts counts;
    struct haul_stats stats;
    struct rusage usage;
};

void bench_read_costs(struct haul_context *context, const struct ruler_board *board,
                      struct bench_reading *reading);
/* Adds cpu_s_per_gib and the costs of each of `messages` with `bytes` in all; null for what is not
 * known. local: the clients run on this host. */
void bench_add_costs(json_t *result, const struct bench_reading *before,
                     const struct bench_reading *after, uint64_t messages, uint64_t bytes,
                     bool local);
/* Adds what peers cost that do nothing. empty_rss_mib: before the first of them. */
void bench_add_idle_costs(json_t *result, const struct bench_reading *before,
                          const struct bench_reading *after, double empty_rss_mib, unsigned peers);
double bench_rss_mib(void);

#endif
