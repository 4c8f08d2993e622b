/* SPDX-License-Identifier: Apache-2.0
 * Readings of the server process and what is made of two of them: see bench_costs.h. */
#include "bench_costs.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

/* ---- Reading --------------------------------------------------------------------------------- */

double bench_rss_mib(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

void bench_read_costs(struct haul_context *context, const struct ruler_board *board,
                      struct bench_reading *reading)
{
    haul_count_read_fn *count =
        __extension__(haul_count_read_fn *) dlsym(RTLD_DEFAULT, HAUL_COUNT_SYMBOL);
    *reading = (struct bench_reading){.time_ns = ruler_now_ns(), .counted = count};
    reading->cpu_ns = ruler_cpu_ns(0);
    for (uint32_t i = 0; i < board->slot_count; i++)
        if (board->slots[i].pid > 0)
            reading->clients_cpu_ns += ruler_cpu_ns(board->slots[i].pid);
    if (count)
        count(&reading->counts);
    haul_context_stats(context, &reading->stats);
    getrusage(RUSAGE_SELF, &reading->usage);
}

/* ---- The result ------------------------------------------------------------------------------ */

static json_t *number_or_null(bool known, double value)
{
    return known ? json_real(value) : json_null();
}

static void add_cpu(json_t *result, const struct bench_reading *before,
                    const struct bench_reading *after, double gib, bool local)
{
    double server_s = (double)(after->cpu_ns - before->cpu_ns) / 1e9;
    double clients_s = (double)(after->clients_cpu_ns - before->clients_cpu_ns) / 1e9;
    json_t *cpu = json_object();
    json_object_set_new(cpu, "server", number_or_null(gib > 0, server_s / gib));
    json_object_set_new(cpu, "client", number_or_null(local && gib > 0, clients_s / gib));
    json_object_set_new(result, "cpu_s_per_gib", cpu);
}

static void add_each(json_t *result, const char *name, bool known, uint64_t difference,
                     uint64_t messages)
{
    known &= messages > 0;
    json_object_set_new(result, name,
                        number_or_null(known, known ? (double)difference / (double)messages : 0));
}

void bench_add_costs(json_t *result, const struct bench_reading *before,
                     const struct bench_reading *after, uint64_t messages, uint64_t bytes,
                     bool local)
{
    bool counted = after->counted && messages > 0;
    double received = (double)(after->stats.bytes_received - before->stats.bytes_received);
    double copied = (double)(after->counts.copied_bytes - before->counts.copied_bytes);
    add_cpu(result, before, after, (double)bytes / RULER_GIB, local);
    add_each(result, "mallocs", counted, after->counts.mallocs - before->counts.mallocs, messages);
    add_each(result, "minor_faults", true,
             (uint64_t)(after->usage.ru_minflt - before->usage.ru_minflt), messages);
    add_each(result, "registrations", true,
             after->stats.registrations - before->stats.registrations, messages);
    json_object_set_new(result, "user_copies_per_byte",
                        number_or_null(counted && received > 0, copied / received));
    json_object_set_new(result, "peak_rss_mib", json_real((double)after->usage.ru_maxrss / 1024));
}

void bench_add_idle_costs(json_t *result, const struct bench_reading *before,
                          const struct bench_reading *after, double empty_rss_mib, unsigned peers)
{
    double grown_kib = (bench_rss_mib() - empty_rss_mib) * 1024;
    double cpu = (double)(after->cpu_ns - before->cpu_ns);
    json_object_set_new(result, "kib_per_idle_peer", json_real(grown_kib / peers));
    json_object_set_new(result, "idle_cpu_percent",
                        json_real(100 * cpu / (double)(after->time_ns - before->time_ns)));
}
