/* SPDX-License-Identifier: Apache-2.0
 * `haul send`: .npy files as one dict of arrays. */
#include "arguments.h"
#include "command.h"
#include "json.h"
#include "progress.h"
#include "receipt.h"
#include "source.h"

#include <inttypes.h>
#include <stdio.h>

enum { NS_PER_S = 1000000000, LOOK_NS = NS_PER_S / 10, CANCEL_NS = NS_PER_S };
static const int64_t connect_timeout_ns = 30 * INT64_C(1000000000);

struct arguments {
    struct haul_common_arguments common;
    const char *address;
    char **files;
    size_t file_count;
    uint64_t count;
    bool no_reply;
};

/* A run of the command. */
struct sender {
    const struct arguments *arguments;
    struct haul_context *context;
    struct haul_sources *sources;
    struct haul_dict *dict;
    struct haul_peer *peer;
    struct haul_progress progress;
    uint64_t message_bytes;
    double start_s;
    double deadline_s; /* 0: none */
};

static const struct argp_option options[] = {
    {"count", 'n', "N", 0, "Send the dict N times (default: 1)", 0},
    {"no-reply", 'r', NULL, 0,
     "Be content when the receiver has the dict; do not wait until it has answered", 0},
    {0},
};

static const char doc[] =
    "Send .npy files to ADDR as one dict of arrays. Each file is an array; its key is the file's "
    "name without .npy. Start the receiver, `haul recv` or a program that uses haul, before or "
    "after."
    "\v"
    "ADDR is host:port, [v6]:port, :port (this host) or unix:/path.\n"
    "\n"
    "The files are mapped, not copied; do not change them meanwhile. All dtypes of NumPy are sent "
    "except Python objects. Arrays in Fortran order stay so.\n"
    "\n"
    "It is done when the receiver has answered: `haul recv` answers when it has written the files, "
    "or says why it could not, and then the exit code is 1. For a receiver that does not answer "
    "there is --no-reply.\n"
    "\n"
    "--timeout bounds the whole run, in seconds (0.5 is half a second); without it haul waits 30 s "
    "for the receiver to be there, and without end for it to take the dict. What was not sent in "
    "time is taken back: the receiver gets all of a dict or nothing.\n"
    "\n"
    "Examples:\n"
    "  haul send learner:5555 frames.npy labels.npy\n"
    "  haul send --timeout 60 --quiet learner:5555 batch/*.npy || echo \"failed: $?\"\n"
    "  haul send --json unix:/run/learner.sock weights.npy | jq .gib_per_s\n"
    "\n"
    "Environment:\n"
    "  HAUL_PROVIDER and the other settings that `haul info --config` lists\n"
    "\n" HAUL_EXIT_HELP;

static error_t parse(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        return 0;
    case 'n':
        arguments->count = haul_argument_number(state, "--count", value);
        if (arguments->count == 0)
            argp_error(state, "--count 0 would send nothing");
        return 0;
    case 'r':
        arguments->no_reply = true;
        return 0;
    case ARGP_KEY_ARGS:
        arguments->address = state->argv[state->next];
        arguments->files = state->argv + state->next + 1;
        arguments->file_count = (size_t)(state->argc - state->next - 1);
        if (arguments->file_count == 0)
            argp_error(state, "no FILE to send to %s", arguments->address);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "ADDR and FILE are missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* What is left of --timeout, at most `most`. */
static int64_t time_left_ns(const struct sender *sender, int64_t most)
{
    if (sender->deadline_s == 0)
        return most;
    double left = (sender->deadline_s - haul_progress_clock_s()) * NS_PER_S;
    return left <= 0 ? 0 : left < (double)most ? (int64_t)left : most;
}

/* Bytes of the message under way that have left. */
static uint64_t bytes_under_way(const struct sender *sender, const struct haul_stats *before)
{
    struct haul_stats now;
    haul_peer_stats(sender->peer, &now);
    uint64_t bytes = now.bytes_transmitted - before->bytes_transmitted;
    return bytes < sender->message_bytes ? bytes : sender->message_bytes;
}

/* Takes back a message whose time ran out, or that a signal stopped. */
static int give_up(struct sender *sender, struct haul_op *op)
{
    int signal_number = haul_interrupt_signal();
    haul_op_cancel(op);
    if (haul_op_wait(op, CANCEL_NS) == 0)
        return 0; /* it was done after all */
    if (signal_number)
        return haul_report(HAUL_EXIT_SIGNAL + signal_number, "stopped");
    return haul_report(HAUL_EXIT_TIMEOUT,
                       "%s did not take and answer the message within --timeout; it was taken back",
                       sender->arguments->address);
}

/* Waits for the op's end and shows the progress. Returns 0 or an exit code, reported. */
static int wait_for_op(struct sender *sender, struct haul_op *op, uint64_t sent_bytes)
{
    struct haul_stats before;
    haul_peer_stats(sender->peer, &before);
    for (;;) {
        int err = haul_op_wait(op, time_left_ns(sender, LOOK_NS));
        if (err == 0)
            return 0;
        if (err != HAUL_TIMEOUT && err != HAUL_INTERRUPTED) {
            haul_progress_end(&sender->progress);
            return haul_report_error(err);
        }
        haul_progress_show(&sender->progress, sent_bytes + bytes_under_way(sender, &before));
        if (haul_interrupt_signal() || time_left_ns(sender, LOOK_NS) == 0) {
            haul_progress_end(&sender->progress);
            return give_up(sender, op);
        }
    }
}

static int check_reply(const struct sender *sender, struct haul_op *op)
{
    struct haul_message *reply;
    char error[1024];
    int err = haul_op_reply(op, &reply);
    if (err)
        return haul_report_error(err);
    bool stored = haul_receipt_read(reply, error, sizeof(error));
    haul_message_release(reply);
    if (stored)
        return 0;
    return haul_report(HAUL_EXIT_FAILED, "%s refused the message: %s", sender->arguments->address,
                       error);
}

static int send_once(struct sender *sender, uint64_t sent_bytes)
{
    bool no_reply = sender->arguments->no_reply;
    struct haul_op *op;
    int err = no_reply ? haul_send_async(sender->peer, sender->dict, &op)
                       : haul_call_async(sender->peer, sender->dict, &op);
    if (err)
        return haul_report_error(err);
    int code = wait_for_op(sender, op, sent_bytes);
    if (!code && !no_reply)
        code = check_reply(sender, op);
    haul_op_release(op);
    return code;
}

static void print_result(const struct sender *sender)
{
    const struct arguments *arguments = sender->arguments;
    double seconds = haul_progress_clock_s() - sender->start_s;
    size_t arrays = haul_dict_count(sender->dict);
    uint64_t bytes = sender->message_bytes * arguments->count;
    double gib_per_s = seconds > 0 ? (double)bytes / seconds / (1 << 30) : 0;
    char path[64], why[512], text[HAUL_BYTES_TEXT];
    haul_peer_path(sender->peer, path, sizeof(path), why, sizeof(why));
    if (arguments->common.json) {
        json_t *result = json_pack(
            "{so ss sI sI sI sf sf}", "address", haul_json_text(arguments->address), "path", path,
            "messages", (json_int_t)arguments->count, "arrays", (json_int_t)arrays, "bytes",
            (json_int_t)bytes, "seconds", seconds, "gib_per_s", gib_per_s);
        json_dumpf(result, stdout, JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(result);
    } else if (!arguments->common.quiet) {
        printf("%zu array%s, %s sent to %s in %.3f s, %.2f GiB/s (%s)\n", arrays,
               arrays == 1 ? "" : "s", haul_bytes_text(bytes, text), arguments->address, seconds,
               gib_per_s, path);
    }
}

/* The connection is up: sends, and prints the result. */
static int send_all(struct sender *sender)
{
    const struct arguments *arguments = sender->arguments;
    int code = 0, signal_number;
    sender->start_s = haul_progress_clock_s();
    haul_progress_start(&sender->progress, !arguments->common.quiet,
                        sender->message_bytes * arguments->count);
    for (uint64_t i = 0; !code && i < arguments->count; i++) {
        code = send_once(sender, i * sender->message_bytes);
        signal_number = haul_interrupt_signal(); /* waits may be too short to be ended by it */
        if (!code && signal_number && i + 1 < arguments->count)
            code = haul_report(HAUL_EXIT_SIGNAL + signal_number, "stopped");
    }
    haul_progress_end(&sender->progress);
    if (!code)
        print_result(sender);
    return code;
}

/* Waits for the receiver to be there. Returns 0 or an exit code, reported. */
static int connect_peer(struct sender *sender)
{
    int64_t most_ns = sender->deadline_s == 0 ? connect_timeout_ns : HAUL_FOREVER;
    int err;
    do /* a signal that does not end us, when the process was stopped and went on, ends no wait */
        err = haul_connect(sender->context, sender->arguments->address,
                           time_left_ns(sender, most_ns), &sender->peer);
    while (err == HAUL_INTERRUPTED && !haul_interrupt_signal());
    return err ? haul_report_error(err) : 0;
}

static int connect_and_send(struct sender *sender)
{
    int code = connect_peer(sender);
    if (code)
        return code;
    code = send_all(sender);
    haul_peer_release(sender->peer);
    return code;
}

static int run(struct sender *sender)
{
    const struct haul_common_arguments *common = &sender->arguments->common;
    if (common->timeout_ns >= 0)
        sender->deadline_s = haul_progress_clock_s() + (double)common->timeout_ns / NS_PER_S;
    int code;
    int err = haul_open_with(common->provider, &sender->context);
    if (err)
        return haul_report_error(err);
    err = haul_dict_create(sender->context, &sender->dict);
    if (err) {
        code = haul_report_error(err);
    } else {
        code = haul_sources_put(sender->sources, sender->dict);
        if (!code)
            code = connect_and_send(sender);
        haul_dict_destroy(sender->dict);
    }
    haul_close(sender->context);
    return code;
}

int haul_command_send(int argc, char **argv)
{
    struct arguments arguments = {.count = 1};
    const struct argp_child children[] = {{&haul_common_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .args_doc = "ADDR FILE...",
                              .doc = doc,
                              .children = children};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    struct sender sender = {.arguments = &arguments};
    int code = haul_sources_open(arguments.files, arguments.file_count, &sender.sources);
    if (code)
        return code;
    sender.message_bytes = haul_sources_bytes(sender.sources);
    haul_interrupt_catch();
    code = run(&sender);
    haul_sources_close(sender.sources);
    return code;
}
