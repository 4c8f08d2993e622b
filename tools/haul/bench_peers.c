/* SPDX-License-Identifier: Apache-2.0
 * The baselines of `haul bench`: programs of their own that do the same work without haul. */
#include "bench.h"
#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Strategies of plain sockets: how the receiver waits, and how senders take turns. With one client
 * that waits for each answer there are no turns, but the client may spin as well; as long as haul
 * does by default, so that two spinners on one CPU make way for each other. */
enum { STRATEGIES = 4, LATENCY_STRATEGIES = 2, STRATEGY_WORDS = 5, KIND = 64 };
static const char *const strategies[STRATEGIES][STRATEGY_WORDS] = {
    {"--receiver", "sleep", "--senders", "all"},
    {"--receiver", "spin", "--senders", "all"},
    {"--receiver", "sleep", "--senders", "one"},
    {"--receiver", "spin", "--senders", "one"},
};
static const char *const latency_strategies[LATENCY_STRATEGIES][STRATEGY_WORDS] = {
    {"--receiver", "sleep", "--client-wait", "sleep"},
    {"--receiver", "spin", "--client-wait", "spin", "--pin"},
};

/* Those that run in one way only. */
static const char *const others[] = {"user_way", "best_pyzmq", "memcpy", "reading",
                                     "vm_readv", "zmq_ipc",    "nng_ipc"};

/* The variant-th kind of those providers ofi:<kind> that are measured. False: there are fewer. */
static bool kind_of(const struct bench_options *options, unsigned variant, char *kind, size_t room)
{
    static const char prefix[] = "ofi:";
    for (const char *at = options->providers; *at;) {
        size_t length = strcspn(at, ",");
        if (strncmp(at, prefix, sizeof(prefix) - 1) == 0 && variant-- == 0) {
            snprintf(kind, room, "%.*s", (int)(length - (sizeof(prefix) - 1)),
                     at + sizeof(prefix) - 1);
            return true;
        }
        at += length;
        at += *at == ',';
    }
    return false;
}

/* Without one there is a row that says why it is empty. */
static unsigned count_kinds(const struct bench_options *options)
{
    unsigned count = 0;
    char kind[KIND];
    while (kind_of(options, count, kind, sizeof(kind)))
        count++;
    return count > 0 ? count : 1;
}

unsigned bench_peer_variants(const struct bench_options *options, const char *peer)
{
    if (strcmp(peer, "fabric") == 0)
        return count_kinds(options);
    if (strcmp(peer, "sockets") == 0)
        return options->mode == BENCH_LATENCY ? LATENCY_STRATEGIES : STRATEGIES;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strcmp(peer, others[i]) == 0)
            return 1;
    return 0;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

enum { WORDS = 32, WORD = 64 };

struct command_line {
    const char *argv[WORDS];
    int argc;
    char numbers[8][WORD];
    int number_count;
};

static void add(struct command_line *line, const char *option, const char *value)
{
    line->argv[line->argc++] = option;
    line->argv[line->argc++] = value;
}

static void add_number(struct command_line *line, const char *option, double value)
{
    char *text = line->numbers[line->number_count++];
    snprintf(text, WORD, "%.10g", value);
    add(line, option, text);
}

/* "12582912,4194304,4096"; the caller frees it. */
static char *array_bytes(const struct bench_workload *workload)
{
    enum { DIGITS = 24 };
    char *text = malloc(workload->count * DIGITS), *at = text;
    for (size_t i = 0; text && i < workload->count; i++)
        at += snprintf(at, DIGITS, "%s%llu", i ? "," : "",
                       (unsigned long long)workload->arrays[i].nbytes);
    return text;
}

/* The first Python that has what the baselines import; else the first of all, whose baseline says
 * what is missing. */
static const char *find_python(void)
{
    static const char *const candidates[] = {"python3", "/usr/bin/python3",
                                             "/usr/local/bin/python3"};
    static const char *found;
    for (size_t i = 0; !found && i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        const char *const argv[] = {
            "/bin/sh", "-c", "exec \"$0\" -c 'import zmq, numpy' 2>/dev/null", candidates[i], NULL};
        struct bench_child child;
        if (!bench_child_start(&child, argv, NULL, false))
            break;
        if (bench_child_wait(&child, BENCH_PATIENCE_S) == 0)
            found = candidates[i];
        bench_child_kill(&child);
    }
    if (!found)
        found = candidates[0];
    return found;
}

/* ---- Running --------------------------------------------------------------------------------- */

static json_t *no_result(const char *peer, const char *reason)
{
    return json_pack("{ss ss}", "provider", peer, "reason", reason);
}

static json_t *run_command(const struct bench_options *options, const char *peer,
                           const char *const *argv)
{
    struct bench_child child;
    if (!bench_child_start(&child, argv, NULL, true))
        return no_result(peer, "it could not be started");
    char *text = bench_child_read(&child, options->warmup + options->duration + BENCH_PATIENCE_S);
    int code = text ? bench_child_wait(&child, BENCH_PATIENCE_S) : -1;
    bench_child_kill(&child);
    json_t *result = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (result && (code == 0 || json_object_get(result, "reason")))
        return result;
    json_decref(result);
    if (haul_interrupt_signal())
        return no_result(peer, "stopped");
    return no_result(peer, code < 0 ? "it did not end" : "it failed; its error is above");
}

static void add_common(struct command_line *line, const struct bench_options *options)
{
    add_number(line, "--clients", bench_peers(options));
    add_number(line, "--rows", (double)options->workload.rows);
    add_number(line, "--duration", options->duration);
    add_number(line, "--warmup", options->warmup);
}

static json_t *run_python(const struct bench_options *options, const char *peer)
{
    char name[WORD], path[BENCH_PATH];
    snprintf(name, sizeof(name), "%s.py", peer);
    struct command_line line = {.argv = {find_python(), "-B", bench_file(name, path)}, .argc = 3};
    add_common(&line, options);
    add(&line, "--workload", options->workload.text);
    add(&line, "--mode", bench_mode_name(options->mode));
    if (options->touch)
        line.argv[line.argc++] = "--touch";
    return run_command(options, peer, line.argv);
}

/* What the programs in C take that stand for a server and its clients. */
static void add_exchange(struct command_line *line, const struct bench_options *options)
{
    add(line, "--mode", bench_mode_name(options->mode));
    if (options->touch)
        line->argv[line->argc++] = "--touch";
}

static void add_strategy(struct command_line *line, const struct bench_options *options,
                         unsigned variant)
{
    const char *const *words =
        options->mode == BENCH_LATENCY ? latency_strategies[variant] : strategies[variant];
    for (int i = 0; i < STRATEGY_WORDS && words[i]; i++)
        line->argv[line->argc++] = words[i];
    add_exchange(line, options);
}

/* Reads with libfabric alone, of the kind of a measured provider. */
static json_t *run_fabric(const struct bench_options *options, unsigned variant)
{
    char path[BENCH_PATH], kind[KIND];
    const char *nic = getenv("HAUL_NIC"), *spin = getenv("HAUL_SPIN_US");
    if (access(bench_file("fabric", path), X_OK) != 0)
        return no_result("libfabric", "haul was built without libfabric");
    if (!kind_of(options, variant, kind, sizeof(kind)))
        return no_result("libfabric", "it reads beside a provider ofi:<kind>: name one to measure");
    char *arrays = array_bytes(&options->workload);
    struct command_line line = {.argv = {path}, .argc = 1};
    add_common(&line, options);
    add(&line, "--arrays", arrays);
    add(&line, "--kind", kind);
    add_exchange(&line, options);
    if (nic) {
        add(&line, "--nic", nic);
        add(&line, "--client-nic", nic);
    }
    if (spin)
        add(&line, "--spin", spin);
    json_t *result = run_command(options, "libfabric", line.argv);
    free(arrays);
    return result;
}

static json_t *run_program(const struct bench_options *options, const char *peer, unsigned variant)
{
    char path[BENCH_PATH];
    bool reads = strcmp(peer, "reading") == 0; /* what memcpy does, without the copy */
    if (access(bench_file(reads ? "memcpy" : peer, path), X_OK) != 0)
        return no_result(peer, "haul was built without the library that it measures");
    char *arrays = array_bytes(&options->workload);
    const char *threads = getenv("HAUL_COPY_THREADS");
    struct command_line line = {.argv = {path}, .argc = 1};
    add_common(&line, options);
    add(&line, "--arrays", arrays);
    if (reads)
        line.argv[line.argc++] = "--read";
    else if (strcmp(peer, "sockets") == 0)
        add_strategy(&line, options, variant);
    else if (strcmp(peer, "memcpy") != 0)
        add_exchange(&line, options);
    if (threads && strcmp(peer, "vm_readv") == 0)
        add(&line, "--threads", threads);
    json_t *result = run_command(options, peer, line.argv);
    free(arrays);
    return result;
}

json_t *bench_run_peer(const struct bench_options *options, const char *peer, unsigned variant)
{
    if (strcmp(peer, "fabric") == 0)
        return run_fabric(options, variant);
    if (strcmp(peer, "user_way") == 0 || strcmp(peer, "best_pyzmq") == 0)
        return run_python(options, peer);
    return run_program(options, peer, variant);
}
