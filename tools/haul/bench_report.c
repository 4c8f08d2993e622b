/* SPDX-License-Identifier: Apache-2.0
 * The results of `haul bench` as JSON: of each row of the table its median run. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What runs are compared by: throughput, or in latency mode the median latency. */
static double measure_of(const struct bench_options *options, const json_t *run)
{
    if (options->mode == BENCH_LATENCY)
        return json_number_value(json_object_get(json_object_get(run, "latency_us"), "p50"));
    return json_number_value(json_object_get(run, "gib_per_s"));
}

struct ranked {
    double measure;
    json_t *run;
};

static int by_measure(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->measure, y = ((const struct ranked *)b)->measure;
    return (x > y) - (x < y);
}

/* The median run, with the measure of all of them in turn as `runs`; or why there is none. */
static json_t *median_run(const struct bench_options *options, const json_t *runs)
{
    struct ranked *ranked = calloc(json_array_size(runs) + 1, sizeof(*ranked));
    size_t index, count = 0;
    json_t *run, *measures = json_array(), *failed = NULL;
    json_array_foreach(runs, index, run)
    {
        if (json_object_get(run, "reason")) {
            failed = run;
            continue;
        }
        ranked[count++] = (struct ranked){measure_of(options, run), run};
        json_array_append_new(measures, json_real(ranked[count - 1].measure));
    }
    qsort(ranked, count, sizeof(*ranked), by_measure);
    json_t *median =
        failed || count == 0 ? json_copy(failed) : json_copy(ranked[(count - 1) / 2].run);
    free(ranked);
    if (median && count > 0)
        json_object_set(median, "runs", measures);
    json_decref(measures);
    return median;
}

static void set_limit(json_t *limits, const char *name, double value, const char *path)
{
    char path_name[32];
    snprintf(path_name, sizeof(path_name), "%s_path", name);
    char limit_name[32];
    snprintf(limit_name, sizeof(limit_name), "%s_gib_s", name);
    if (value <= json_number_value(json_object_get(limits, limit_name)))
        return;
    json_object_set_new(limits, limit_name, json_real(value));
    json_object_set_new(limits, path_name, json_string(path));
}

/* A limit is the best that a baseline reached with any of its strategies. */
static void note_limit(json_t *limits, const struct bench_row *row, const json_t *median)
{
    double rate = json_number_value(json_object_get(median, "gib_per_s"));
    const char *path = json_string_value(json_object_get(median, "path"));
    if (strcmp(row->name, "sockets") == 0)
        set_limit(limits, "socket", rate, path);
    if (strcmp(row->name, "memcpy") == 0)
        set_limit(limits, "memcpy", rate, path);
}

static json_t *machine(void)
{
    char line[256], model[256] = "unknown";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "model name : %255[^\n]", model) == 1)
            break;
    if (file)
        fclose(file);
    return json_pack("{ss si}", "cpu", model, "cpus", (int)sysconf(_SC_NPROCESSORS_ONLN));
}

static json_t *settings(const struct bench_options *options)
{
    static const char *const memory[] = {"user", "pool", "give"};
    static const char *const into[] = {"pool", "batch", "dict"};
    return json_pack("{ss sI si si ss ss ss sb sb sf sf si}", "workload", options->workload.text,
                     "message_bytes", (json_int_t)options->workload.bytes, "clients",
                     (int)options->clients, "connections", (int)options->connections, "mode",
                     bench_mode_name(options->mode), "memory", memory[options->memory], "into",
                     into[options->into], "touch", (int)options->touch, "verify",
                     (int)options->verify, "duration", options->duration, "warmup", options->warmup,
                     "rounds", (int)options->rounds);
}

json_t *bench_report(const struct bench_options *options, const struct bench_row *rows,
                     size_t count)
{
    json_t *results = json_array(), *peers = json_array(), *limits = json_object();
    for (size_t i = 0; i < count; i++) {
        json_t *median = median_run(options, rows[i].runs);
        if (!median)
            continue;
        note_limit(limits, &rows[i], median);
        json_array_append_new(rows[i].peer ? peers : results, median);
    }
    if (options->connect)
        json_object_set_new(limits, "link_gib_s",
                            json_real(bench_link_bytes_s(options->connect) / RULER_GIB));
    return json_pack("{ss so so so so so}", "haul", haul_version(), "machine", machine(),
                     "settings", settings(options), "results", results, "peers", peers, "limits",
                     limits);
}
