/* SPDX-License-Identifier: Apache-2.0
 * `haul recv`: dicts of arrays into .npy files. */
#include "arguments.h"
#include "command.h"
#include "json.h"
#include "progress.h"
#include "receipt.h"
#include "store.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { NS_PER_S = 1000000000 };
static const double look_s = 0.1; /* how often a wait looks for signals */

struct arguments {
    struct haul_common_arguments common;
    const char *address;
    uint64_t count; /* 0: until a signal comes */
    bool flat;
    struct haul_store store;
};

/* A run of the command. */
struct receiver {
    struct arguments *arguments;
    struct haul_context *context;
    struct haul_server *server;
    uint64_t messages;
};

enum { OPTION_FLAT = 0x100, OPTION_OVERWRITE, OPTION_FSYNC };

static const struct argp_option options[] = {
    {"out", 'o', "DIR", 0, "Write the files here; it is made if it is missing (required)", 0},
    {"count", 'n', "N", 0, "Stop after N dicts (default: 1); 0: go on until stopped", 0},
    {"flat", OPTION_FLAT, NULL, 0, "With --count: no folder for each dict", 0},
    {"overwrite", OPTION_OVERWRITE, NULL, 0, "Replace files that exist", 0},
    {"fsync", OPTION_FSYNC, NULL, 0, "Wait for the disk before a dict is received", 0},
    {0},
};

static const char doc[] =
    "Listen on ADDR, receive dicts of arrays from any number of senders and write each array to a "
    ".npy file."
    "\v"
    "ADDR is host:port, [v6]:port, :port (all interfaces) or unix:/path. Port 0 takes a free one. "
    "The address is printed to standard error; with --json it is the first line of the result, "
    "{\"listening\": ADDR}.\n"
    "\n"
    "One dict becomes DIR/KEY.npy for each of its arrays. With --count other than 1, every dict "
    "has "
    "a folder of its own, DIR/000001, DIR/000002, ... in the order in which they came, after those "
    "that are there already; --flat puts the files of all of them into DIR. With --flat or --count "
    "1, --overwrite replaces files one after the other: while it does, there are some of both "
    "dicts.\n"
    "\n"
    "A file has its final name only when all of its dict is written. What is not whole is removed, "
    "at the latest by the next `haul recv` into DIR. Keys that are no file names (with a slash, a "
    "leading dot, control characters, too long), dtypes that .npy files cannot hold and files that "
    "exist (without --overwrite) make haul refuse the dict: none of it is written, and its sender "
    "is "
    "told why. A refused dict counts for --count; the exit code is then that of the first "
    "failure.\n"
    "\n"
    "bf16, which NumPy does not have, is written as <V2; with the package ml_dtypes, "
    ".view(ml_dtypes.bfloat16) gives it back.\n"
    "\n"
    "--timeout is the longest wait for a dict, in seconds; without it haul waits without end.\n"
    "\n"
    "The files' names are printed to standard output, one per line.\n"
    "\n"
    "Examples:\n"
    "  haul recv :5555 --out results\n"
    "  haul recv 127.0.0.1:0 --out results --count 32 --timeout 60 --json\n"
    "  haul recv unix:/run/learner.sock --out inbox --count 0 --flat --overwrite\n"
    "\n"
    "Environment:\n"
    "  HAUL_PROVIDER  the provider to use: auto, tcp, zmq, ...\n"
    "  HAUL_POOL_MAX  memory to receive into; a larger dict is refused\n"
    "  and the other settings that `haul info --config` lists\n"
    "\n" HAUL_EXIT_HELP;

static error_t parse(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        return 0;
    case 'o':
        for (size_t end = strlen(value); end > 1 && value[end - 1] == '/'; end--)
            value[end - 1] = '\0'; /* "results/" is "results" in what is printed */
        arguments->store.path = value;
        return 0;
    case 'n':
        arguments->count = haul_argument_number(state, "--count", value);
        return 0;
    case OPTION_FLAT:
        arguments->flat = true;
        return 0;
    case OPTION_OVERWRITE:
        arguments->store.overwrite = true;
        return 0;
    case OPTION_FSYNC:
        arguments->store.sync = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0)
            argp_error(state, "one ADDR is enough: \"%s\" is too much", value);
        arguments->address = value;
        return 0;
    case ARGP_KEY_END:
        if (!arguments->address)
            argp_error(state, "ADDR is missing");
        if (!arguments->store.path)
            argp_error(state, "--out DIR is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- The result ---- */

static void print_json(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(object);
}

static void print_listening(const struct receiver *receiver)
{
    const struct haul_common_arguments *common = &receiver->arguments->common;
    const char *address = haul_server_address(receiver->server);
    if (common->json)
        print_json(json_pack("{so}", "listening", haul_json_text(address)));
    if (!common->quiet)
        haul_report(0, "listening on %s", address);
}

static json_t *array_json(const struct haul_array *array, const char *folder, const char *place)
{
    const char *dtype = array->description ? array->description : haul_dtype_name(array->dtype);
    json_t *shape = json_array();
    for (uint32_t i = 0; i < array->ndim; i++)
        json_array_append_new(shape, json_integer((json_int_t)array->shape[i]));
    json_t *object =
        json_pack("{ss ss so sb sI}", "key", array->key, "dtype", dtype, "shape", shape, "fortran",
                  (array->flags & HAUL_FORTRAN) != 0, "bytes", (json_int_t)array->nbytes);
    char file[PATH_MAX];
    snprintf(file, sizeof(file), "%s/%s%s.npy", folder, place, array->key);
    json_object_set_new(object, "file", haul_json_text(file));
    return object;
}

static void print_message_json(const struct receiver *receiver, const struct haul_message *message,
                               const char *place, const char *error)
{
    const char *folder = receiver->arguments->store.path;
    json_t *object =
        json_pack("{sI so sI so}", "message", (json_int_t)receiver->messages, "from",
                  haul_json_text(haul_peer_address(haul_message_peer(message))), "bytes",
                  (json_int_t)haul_message_bytes(message), "error", haul_json_text(error));
    json_t *arrays = json_array();
    for (size_t i = 0; !error && i < haul_message_count(message); i++)
        json_array_append_new(arrays, array_json(haul_message_at(message, i), folder, place));
    json_object_set_new(object, "arrays", arrays);
    print_json(object);
}

static void print_stored(const struct receiver *receiver, const struct haul_message *message,
                         const char *place, double seconds)
{
    const char *folder = receiver->arguments->store.path;
    char text[HAUL_BYTES_TEXT];
    for (size_t i = 0; i < haul_message_count(message); i++)
        printf("%s/%s%s.npy\n", folder, place, haul_message_at(message, i)->key);
    fflush(stdout);
    size_t arrays = haul_message_count(message);
    haul_report(0, "%zu array%s, %s from %s, written to %s/%s in %.3f s", arrays,
                arrays == 1 ? "" : "s", haul_bytes_text(haul_message_bytes(message), text),
                haul_peer_address(haul_message_peer(message)), folder, place, seconds);
}

/* ---- Receiving ---- */

/* Stores a message, answers its sender, prints what became of it. Returns 0 or an exit code. */
static int take(struct receiver *receiver, struct haul_message *message)
{
    struct haul_store *store = &receiver->arguments->store;
    const char *address = haul_peer_address(haul_message_peer(message));
    char place[HAUL_STORE_PLACE_MAX] = "";
    double start_s = haul_progress_clock_s();
    receiver->messages++;
    int code = haul_store_message(store, message, place);
    const char *error = code ? store->why : NULL;
    if (error)
        haul_report(code, "refused the message from %s: %s", address, error);
    if (haul_receipt_give(receiver->context, message, error) != 0)
        haul_report(0, "%s could not be told: %s", address, haul_error_detail());
    if (receiver->arguments->common.json)
        print_message_json(receiver, message, place, error);
    else if (!error && !receiver->arguments->common.quiet)
        print_stored(receiver, message, place, haul_progress_clock_s() - start_s);
    return code;
}

/* Waits for the next message. Returns 0 or an exit code, reported. */
static int next_message(struct receiver *receiver, struct haul_message **message)
{
    int64_t timeout_ns = receiver->arguments->common.timeout_ns;
    double start_s = haul_progress_clock_s();
    for (;;) {
        if (haul_interrupt_signal()) /* also where there is always one to take */
            return HAUL_EXIT_SIGNAL + haul_interrupt_signal();
        double left_s = look_s;
        if (timeout_ns >= 0)
            left_s = (double)timeout_ns / NS_PER_S - (haul_progress_clock_s() - start_s);
        if (left_s > look_s)
            left_s = look_s;
        int err =
            haul_recv(receiver->server, message, left_s > 0 ? (int64_t)(left_s * NS_PER_S) : 0);
        if (err == 0)
            return 0;
        if (err != HAUL_TIMEOUT && err != HAUL_INTERRUPTED)
            return haul_report_error(err);
        if (left_s <= 0)
            return haul_report(HAUL_EXIT_TIMEOUT, "no message came within --timeout");
    }
}

static int receive_all(struct receiver *receiver)
{
    uint64_t count = receiver->arguments->count;
    int first_failure = 0;
    while (count == 0 || receiver->messages < count) {
        struct haul_message *message;
        int code = next_message(receiver, &message);
        if (code)
            return code;
        code = take(receiver, message);
        haul_message_release(message);
        if (code >= HAUL_EXIT_SIGNAL)
            return code;
        if (!first_failure)
            first_failure = code;
    }
    return first_failure;
}

static int run(struct receiver *receiver)
{
    int code;
    int err = haul_open_with(receiver->arguments->common.provider, &receiver->context);
    if (err)
        return haul_report_error(err);
    err = haul_listen(receiver->context, receiver->arguments->address, &receiver->server);
    if (err) {
        code = haul_report_error(err);
    } else {
        print_listening(receiver);
        code = receive_all(receiver);
        haul_server_close(receiver->server);
    }
    haul_close(receiver->context);
    return code;
}

int haul_command_recv(int argc, char **argv)
{
    struct arguments arguments = {.count = 1};
    const struct argp_child children[] = {{&haul_common_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .args_doc = "ADDR --out DIR",
                              .doc = doc,
                              .children = children};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    arguments.store.flat = arguments.flat || arguments.count == 1;
    haul_interrupt_catch();
    int code = haul_store_open(&arguments.store);
    if (code)
        return haul_report(code, "%s", arguments.store.why);
    struct receiver receiver = {.arguments = &arguments};
    code = run(&receiver);
    haul_store_close(&arguments.store);
    return code;
}
