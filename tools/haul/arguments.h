/* SPDX-License-Identifier: Apache-2.0
 * Arguments that subcommands share, and how a provider that they name is used. */
#ifndef HAUL_TOOL_ARGUMENTS_H
#define HAUL_TOOL_ARGUMENTS_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

struct haul_context;
struct haul_options;

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

/* Options with that provider; NULL: HAUL_PROVIDER decides. Returns haul's error. */
int haul_options_of(const char *provider, struct haul_options **made);
/* Opens a context with such options. Returns haul's error. */
int haul_open_with(const char *provider, struct haul_context **context);

#endif
