/* SPDX-License-Identifier: Apache-2.0
 * A limit for `haul bench`: memcpy() of the same messages, from one array set per client (pages as
 * NumPy gets them) into one receive buffer (huge pages where there are any), on as many threads
 * as the server receives with. No transport can deliver faster with one copy. With --read each byte
 * is read where it is, and nothing copied: what a consumer of arrays does that were brought for
 * nothing. Prints a line of JSON. */
#include "../ruler.h"

#include <argp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

struct options {
    unsigned clients, threads;
    bool read;
    size_t message_bytes;
    uint64_t rows;
    double duration, warmup;
};

struct copier {
    pthread_t thread;
    const struct options *options;
    char **sources;
    unsigned first; /* the source it begins with */
    uint64_t messages;
};

static atomic_uint phase;

static char *need_memory(char *memory)
{
    if (!memory) {
        perror("memcpy: cannot map memory");
        exit(1);
    }
    return memory;
}

static void *copy(void *arg)
{
    struct copier *copier = arg;
    const struct options *options = copier->options;
    char *to = need_memory(ruler_map_memory(options->message_bytes, true));
    for (unsigned i = copier->first; atomic_load(&phase) != RULER_OVER; i++) {
        const char *source = copier->sources[i % options->clients];
        if (options->read)
            ruler_touch(source, options->message_bytes);
        else
            memcpy(to, source, options->message_bytes);
        __asm__ volatile("" : : "r"(to) : "memory"); /* the copy has a reader */
        if (atomic_load(&phase) == RULER_MEASURE)
            copier->messages++;
    }
    munmap(to, options->message_bytes);
    return NULL;
}

static void sleep_s(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
}

static void run(const struct options *options)
{
    char **sources = calloc(options->clients, sizeof *sources);
    struct copier *copiers = calloc(options->threads, sizeof *copiers);
    for (unsigned i = 0; i < options->clients; i++)
        sources[i] = need_memory(ruler_map_array(options->message_bytes));
    atomic_store(&phase, RULER_WARMUP);
    for (unsigned i = 0; i < options->threads; i++) {
        copiers[i] = (struct copier){.options = options, .sources = sources, .first = i};
        pthread_create(&copiers[i].thread, NULL, copy, &copiers[i]);
    }
    sleep_s(options->warmup);
    uint64_t begin = ruler_now_ns(), cpu = ruler_cpu_ns(0);
    atomic_store(&phase, RULER_MEASURE);
    sleep_s(options->duration);
    atomic_store(&phase, RULER_OVER);

    struct ruler_result result = {.provider = options->read ? "reading" : "memcpy",
                                  .mode = "request",
                                  .clients = options->clients,
                                  .fairness = 1};
    char path[64];
    snprintf(path, sizeof path, "%u thread%s", options->threads, options->threads > 1 ? "s" : "");
    result.path = path;
    result.seconds = (double)(ruler_now_ns() - begin) / 1e9;
    result.server_cpu_s = (double)(ruler_cpu_ns(0) - cpu) / 1e9;
    for (unsigned i = 0; i < options->threads; i++) {
        pthread_join(copiers[i].thread, NULL);
        result.messages += copiers[i].messages;
    }
    result.bytes = result.messages * options->message_bytes;
    result.rows = result.messages * options->rows;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    result.peak_rss_mib = (double)usage.ru_maxrss / 1024;
    ruler_result_print(&result);
    for (unsigned i = 0; i < options->clients; i++)
        munmap(sources[i], options->message_bytes);
    free(sources);
    free(copiers);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

enum { KEY_ROWS = 256, KEY_READ, KEY_WARMUP };

static const struct argp_option argp_options[] = {
    {"clients", 'n', "N", 0, "array sets to copy from (1)", 0},
    {"arrays", 'a', "BYTES,...", 0, "bytes of each array of a message", 0},
    {"rows", KEY_ROWS, "N", 0, "rows that a message counts for (1)", 0},
    {"read", KEY_READ, NULL, 0, "read, do not copy", 0},
    {"threads", 't', "N", 0, "threads that copy (1)", 0},
    {"duration", 'd', "S", 0, "seconds measured (1)", 0},
    {"warmup", KEY_WARMUP, "S", 0, "seconds before (0.2)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 'n':
        options->clients = (unsigned)strtoul(text, NULL, 10);
        break;
    case 'a':
        for (char *item = strtok(text, ","); item; item = strtok(NULL, ","))
            options->message_bytes += strtoull(item, NULL, 10);
        break;
    case KEY_READ:
        options->read = true;
        break;
    case 't':
        options->threads = (unsigned)strtoul(text, NULL, 10);
        break;
    case 'd':
        options->duration = strtod(text, NULL);
        break;
    case KEY_WARMUP:
        options->warmup = strtod(text, NULL);
        break;
    case KEY_ROWS:
        options->rows = strtoull(text, NULL, 10);
        break;
    case ARGP_KEY_END:
        if (options->message_bytes == 0 || options->clients == 0 || options->threads == 0)
            argp_error(state, "--arrays, --clients and --threads must not be empty");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        argp_options, parse, NULL, "Measures memcpy() with a benchmark's messages.",
        NULL,         NULL,  NULL};
    struct options options = {.clients = 1, .threads = 1, .rows = 1, .duration = 1, .warmup = 0.2};
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    run(&options);
    return 0;
}
