/* SPDX-License-Identifier: Apache-2.0
 * What the baselines that have clients and a server are asked to do, and the arguments that say so:
 * the same for all of them, so that `haul bench` starts them alike. */
#ifndef BENCH_PEERS_WORKLOAD_H
#define BENCH_PEERS_WORKLOAD_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ARRAYS_MAX = 64,
    STREAM_WINDOW = 4, /* messages under way of a client that streams */
};

enum mode { REQUEST, STREAM, LATENCY };
extern const char *const mode_names[];

/* Set by the arguments, then only read. */
extern struct workload {
    unsigned clients;
    size_t arrays[ARRAYS_MAX]; /* bytes of each */
    unsigned array_count;
    size_t message_bytes; /* of all arrays */
    uint64_t rows;        /* that a message counts for */
    enum mode mode;
    bool touch; /* the server reads every byte once */
    double duration, warmup;
} workload;

/* Parses the arguments, these and a baseline's own (NULL: it has none); ends the program if they
 * make no sense. */
void workload_parse(int argc, char **argv, const char *doc, const struct argp_option *own_options,
                    argp_parser_t own_parser);

#endif
