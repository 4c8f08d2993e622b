/* SPDX-License-Identifier: Apache-2.0
 * Arguments that subcommands share, and how a provider that they name is used. */
#include "arguments.h"

#include "command.h"

#include <errno.h>
#include <stdlib.h>

static const struct argp_option options[] = {
    {"provider", 'p', "P", 0,
     "Use this provider: auto, tcp, zmq, ... (default: $HAUL_PROVIDER, else auto)", 0},
    {"timeout", 't', "SECONDS", 0, "How long to wait; see below", 0},
    {"quiet", 'q', NULL, 0, "Print errors only", 0},
    {"json", 'j', NULL, 0, "Print the result as JSON, one object per line", 0},
    {"help", 'h', NULL, OPTION_HIDDEN, NULL, 0},
    {0},
};

static int64_t parse_seconds(struct argp_state *state, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0))
        argp_error(state, "--timeout takes seconds, 0 or more, \"2.5\" for example; not \"%s\"",
                   text);
    double nanoseconds = seconds * 1e9;
    return nanoseconds < (double)HAUL_FOREVER ? (int64_t)nanoseconds : HAUL_FOREVER;
}

static error_t parse(int key, char *value, struct argp_state *state)
{
    struct haul_common_arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        arguments->timeout_ns = -1;
        return 0;
    case 'p':
        arguments->provider = value;
        return 0;
    case 't':
        arguments->timeout_ns = parse_seconds(state, value);
        return 0;
    case 'q':
        arguments->quiet = true;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case 'h':
        argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp haul_common_argp = {.options = options, .parser = parse};

uint64_t haul_argument_number(struct argp_state *state, const char *option, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        argp_error(state, "%s takes a whole number, 0 or more; not \"%s\"", option, text);
    return value;
}

int haul_options_of(const char *provider, struct haul_options **made)
{
    int err = haul_options_create(made);
    if (err || !provider)
        return err;
    err = haul_options_set(*made, "provider", provider);
    if (err)
        haul_options_destroy(*made);
    return err;
}

int haul_open_with(const char *provider, struct haul_context **context)
{
    struct haul_options *made;
    int err = haul_options_of(provider, &made);
    if (err)
        return err;
    err = haul_open(context, made);
    haul_options_destroy(made);
    return err;
}
