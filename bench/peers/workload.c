/* SPDX-License-Identifier: Apache-2.0
 * The arguments that baselines share: see workload.h. */
#include "workload.h"

#include <stdlib.h>
#include <string.h>

const char *const mode_names[] = {"request", "stream", "latency"};

struct workload workload = {.clients = 1, .rows = 1, .duration = 2, .warmup = 0.5};

enum { KEY_ROWS = 0x200, KEY_TOUCH, KEY_WARMUP }; /* a baseline's own begin with 0x100 */

static const struct argp_option options[] = {
    {"clients", 'n', "N", 0, "client processes (1)", 0},
    {"arrays", 'a', "BYTES,...", 0, "bytes of each array of a message", 0},
    {"rows", KEY_ROWS, "N", 0, "rows that a message counts for (1)", 0},
    {"mode", 'm', "MODE", 0, "request, stream or latency", 0},
    {"touch", KEY_TOUCH, NULL, 0, "the server reads every byte once", 0},
    {"duration", 'd', "S", 0, "seconds measured (2)", 0},
    {"warmup", KEY_WARMUP, "S", 0, "seconds before (0.5)", 0},
    {0},
};

static void parse_arrays(struct argp_state *state, char *text)
{
    for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
        if (workload.array_count == ARRAYS_MAX)
            argp_error(state, "more than %d arrays", ARRAYS_MAX);
        size_t bytes = strtoull(item, NULL, 10);
        workload.arrays[workload.array_count++] = bytes;
        workload.message_bytes += bytes;
    }
}

static void parse_mode(struct argp_state *state, const char *text)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(text, mode_names[i]) == 0) {
            workload.mode = (enum mode)i;
            return;
        }
    argp_error(state, "unknown mode '%s'", text);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'n':
        workload.clients = (unsigned)strtoul(text, NULL, 10);
        break;
    case 'a':
        parse_arrays(state, text);
        break;
    case KEY_ROWS:
        workload.rows = strtoull(text, NULL, 10);
        break;
    case 'm':
        parse_mode(state, text);
        break;
    case KEY_TOUCH:
        workload.touch = true;
        break;
    case 'd':
        workload.duration = strtod(text, NULL);
        break;
    case KEY_WARMUP:
        workload.warmup = strtod(text, NULL);
        break;
    case ARGP_KEY_END:
        if (workload.message_bytes == 0 || workload.clients == 0)
            argp_error(state, "--arrays and --clients must not be empty");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp workload_argp = {.options = options, .parser = parse};

void workload_parse(int argc, char **argv, const char *doc, const struct argp_option *own_options,
                    argp_parser_t own_parser)
{
    const struct argp_child children[] = {{&workload_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .options = own_options, .parser = own_parser, .doc = doc, .children = children};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
}
