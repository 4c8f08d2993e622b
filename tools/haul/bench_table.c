/* SPDX-License-Identifier: Apache-2.0
 * The results of `haul bench` for people: one table, every provider and baseline a row. */
#include "bench.h"
#include "command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL = 160, ROWS_MAX = 80 };

enum column {
    NAME,
    RATE,
    SPREAD,
    ROWS_PER_S,
    TIMES_USER,
    OF_SOCKETS,
    OF_MEMCPY,
    OF_LINK,
    P50,
    P99,
    CPU,
    MALLOCS,
    FAULTS,
    COPIES,
    FAIR,
    PATH,
    COLUMNS
};

struct table {
    char cells[ROWS_MAX][COLUMNS][CELL];
    int rows;
};

/* What all rows are compared with. */
struct scale {
    bool hosts; /* between two hosts: Gbit/s and % of the link */
    bool latency;
    double user_way, sockets, memcpy, link; /* GiB/s; 0: not measured */
};

static const char *const headings[COLUMNS] = {
    "",    "GiB/s", "(spread)",  "k rows/s", "x user's way", "% sockets", "% memcpy", "% link",
    "p50", "p99",   "cpu s/GiB", "mallocs",  "faults",       "copies",    "fair",     "path"};

__attribute__((format(printf, 2, 3))) static void put(char *cell, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cell, CELL, format, arguments);
    va_end(arguments);
    haul_clean_text(cell);
}

static double number(const json_t *run, const char *name)
{
    return json_number_value(json_object_get(run, name));
}

/* ---- Cells ----------------------------------------------------------------------------------- */

static void put_share(char *cell, double part, double whole)
{
    if (whole > 0)
        put(cell, "%.0f", 100 * part / whole);
}

static void put_latency(char *cell, const json_t *run, const char *quantile)
{
    double us = number(json_object_get(run, "latency_us"), quantile);
    if (us >= 100000)
        put(cell, "%.0f ms", us / 1000);
    else if (us >= 1000)
        put(cell, "%.1f ms", us / 1000);
    else if (us > 0)
        put(cell, "%.1f us", us);
}

static void put_cpu(char *cell, const json_t *run)
{
    const json_t *cpu = json_object_get(run, "cpu_s_per_gib");
    const json_t *server = json_object_get(cpu, "server"), *client = json_object_get(cpu, "client");
    if (json_is_number(server) && json_is_number(client))
        put(cell, "%.2f+%.2f", json_number_value(server), json_number_value(client));
    else if (json_is_number(server))
        put(cell, "%.2f", json_number_value(server));
    else if (json_is_number(client))
        put(cell, "+%.2f", json_number_value(client));
}

/* A cost per message or byte; what was not counted stays empty. */
static void put_cost(char *cell, const json_t *run, const char *name)
{
    const json_t *value = json_object_get(run, name);
    double cost = json_number_value(value);
    if (json_is_number(value))
        put(cell, cost >= 10 ? "%.0f" : "%.3f", cost);
}

static void put_spread(char *cell, const json_t *run, double unit)
{
    const json_t *runs = json_object_get(run, "runs");
    size_t index;
    json_t *value;
    double low = 0, high = 0;
    json_array_foreach(runs, index, value)
    {
        double measure = json_number_value(value);
        low = index == 0 || measure < low ? measure : low;
        high = measure > high ? measure : high;
    }
    if (json_array_size(runs) > 1)
        put(cell, "(%.2f-%.2f)", low * unit, high * unit);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

static const char *display_name(const char *provider)
{
    if (strcmp(provider, "user_way") == 0)
        return "user's way";
    return strcmp(provider, "best_pyzmq") == 0 ? "best pyzmq" : provider;
}

static void add_row(struct table *table, const struct scale *scale, const json_t *run)
{
    if (table->rows == ROWS_MAX)
        return;
    char(*row)[CELL] = table->cells[table->rows++];
    const char *reason = json_string_value(json_object_get(run, "reason"));
    put(row[NAME], "%s", display_name(json_string_value(json_object_get(run, "provider"))));
    if (reason) {
        put(row[PATH], "not measured: %s", reason);
        return;
    }
    double rate = number(run, "gib_per_s"), unit = scale->hosts ? 8 * RULER_GIB / 1e9 : 1;
    put(row[RATE], "%.2f", rate * unit);
    put_spread(row[SPREAD], run, scale->latency ? 1 : unit);
    put(row[ROWS_PER_S], "%.1f", number(run, "rows_per_s") / 1000);
    if (scale->user_way > 0)
        put(row[TIMES_USER], "%.2f", rate / scale->user_way);
    put_share(row[OF_SOCKETS], rate, scale->sockets);
    put_share(row[OF_MEMCPY], rate, scale->memcpy);
    put_share(row[OF_LINK], rate, scale->link);
    put_latency(row[P50], run, "p50");
    put_latency(row[P99], run, "p99");
    put_cpu(row[CPU], run);
    put_cost(row[MALLOCS], run, "mallocs");
    put_cost(row[FAULTS], run, "minor_faults");
    put_cost(row[COPIES], run, "user_copies_per_byte");
    put(row[FAIR], "%.2f", number(run, "fairness"));
    put(row[PATH], "%s", json_string_value(json_object_get(run, "path")));
}

/* Only the best strategy of plain sockets is of interest, except in latency mode: there the way of
 * waiting is what is compared. */
static bool is_shown(const struct scale *scale, const json_t *limits, const json_t *run)
{
    const char *path = json_string_value(json_object_get(run, "path"));
    const char *best = json_string_value(json_object_get(limits, "socket_path"));
    if (scale->latency || !path || !best)
        return true;
    return strcmp(json_string_value(json_object_get(run, "provider")), "sockets") != 0 ||
           strcmp(path, best) == 0;
}

/* ---- Printing -------------------------------------------------------------------------------- */

static int width_of(const struct table *table, int column)
{
    size_t width = 0;
    for (int row = 1; row < table->rows; row++) {
        size_t bytes = strlen(table->cells[row][column]);
        width = bytes > width ? bytes : width;
    }
    if (width == 0)
        return 0; /* nobody has anything to say here */
    size_t heading = strlen(table->cells[0][column]);
    return (int)(heading > width ? heading : width);
}

static void print_rows(const struct table *table)
{
    for (int row = 0; row < table->rows; row++) {
        for (int column = 0; column < COLUMNS; column++) {
            const char *cell = table->cells[row][column];
            int width = width_of(table, column);
            if (column == PATH)
                printf("  %s", cell);
            else if (width > 0)
                printf(column == NAME ? "%-*s" : "  %*s", width,
                       *cell || column == NAME || row == 0 ? cell : "-");
        }
        putchar('\n');
    }
}

static void print_settings(const struct bench_options *options, const json_t *report)
{
    const json_t *machine = json_object_get(report, "machine");
    char text[HAUL_BYTES_TEXT];
    printf("%s of %s, %u client%s", bench_mode_name(options->mode),
           haul_bytes_text(options->workload.bytes, text), bench_peers(options),
           bench_peers(options) == 1 ? "" : "s");
    printf("; %s, %lld CPUs; %.3g s measured, median of %u\n\n",
           json_string_value(json_object_get(machine, "cpu")),
           (long long)json_integer_value(json_object_get(machine, "cpus")), options->duration,
           options->rounds);
}

static void print_notes(const json_t *report)
{
    size_t index;
    json_t *run;
    json_array_foreach(json_object_get(report, "results"), index, run)
    {
        const char *name = json_string_value(json_object_get(run, "provider"));
        const char *why = json_string_value(json_object_get(run, "why"));
        const json_t *verified = json_object_get(run, "verified");
        const json_t *idle = json_object_get(run, "kib_per_idle_peer");
        if (verified)
            printf("%s: %lld messages verified\n", name, (long long)json_integer_value(verified));
        if (idle)
            printf("%s: %.1f KiB per idle peer, %.2f %% of a CPU\n", name, json_number_value(idle),
                   number(run, "idle_cpu_percent"));
        if (why && *why)
            printf("%s: %s\n", name, why);
    }
}

static struct scale scale_of(const struct bench_options *options, const json_t *report)
{
    const json_t *limits = json_object_get(report, "limits");
    struct scale scale = {.hosts = options->listen || options->connect,
                          .latency = options->mode == BENCH_LATENCY,
                          .sockets = number(limits, "socket_gib_s"),
                          .memcpy = number(limits, "memcpy_gib_s"),
                          .link = number(limits, "link_gib_s")};
    size_t index;
    json_t *run;
    json_array_foreach(json_object_get(report, "peers"), index, run)
    {
        if (strcmp(json_string_value(json_object_get(run, "provider")), "user_way") == 0)
            scale.user_way = number(run, "gib_per_s");
    }
    return scale;
}

void bench_print_table(const struct bench_options *options, const json_t *report)
{
    struct table *table = calloc(1, sizeof(*table));
    if (!table)
        return;
    struct scale scale = scale_of(options, report);
    const json_t *limits = json_object_get(report, "limits");
    char(*heading)[CELL] = table->cells[table->rows++];
    for (int column = 0; column < COLUMNS; column++)
        put(heading[column], "%s", headings[column]);
    if (scale.hosts)
        put(heading[RATE], "Gbit/s");
    if (scale.latency)
        put(heading[SPREAD], "(p50 in us)");
    size_t index;
    json_t *run;
    json_array_foreach(json_object_get(report, "peers"), index, run)
    {
        if (is_shown(&scale, limits, run))
            add_row(table, &scale, run);
    }
    json_array_foreach(json_object_get(report, "results"), index, run)
    {
        add_row(table, &scale, run);
    }
    print_settings(options, report);
    print_rows(table);
    print_notes(report);
    free(table);
}
