/* SPDX-License-Identifier: Apache-2.0
 * Arguments that send and recv share. */
#ifndef HAUL_TOOL_ARGUMENTS_H
#define HAUL_TOOL_ARGUMENTS_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

struct haul_context;

struct haul_common_arguments {
    const char *provider; /* NULL: HAUL_PROVIDER decides */
    int64_t timeout_ns;   /* -1: not given */
    bool quiet;
    bool json;
};

/* --provider, --timeout, --quiet and --json, as an argp child whose input is a struct
 * haul_common_arguments. */
extern const struct argp haul_common_argp;

/* A whole number, or an argp error that names the option. */
uint64_t haul_argument_number(struct argp_state *state, const char *option, const char *text);

/* Opens a context as the arguments say. Returns 0, or an exit code after the error is reported. */
int haul_common_open(const struct haul_common_arguments *arguments, struct haul_context **context);

#endif
