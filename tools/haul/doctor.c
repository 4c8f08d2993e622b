/* SPDX-License-Identifier: Apache-2.0
 * `haul doctor`: what is well and what is not, on this machine and on the way to a server: the
 * arguments, the list of checks, and the report. */
#include "doctor.h"

#include "arguments.h"
#include "command.h"
#include "json.h"

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct arguments {
    struct haul_common_arguments common;
    const char *address;
    const char *root;
};

enum { OPTION_SYSROOT = 0x100 };

/* More than a server needs to find that a path cannot be proven. The help below names it. */
enum { TIMEOUT_S = 12 };

static const struct argp_option options[] = {
    {"sysroot", OPTION_SYSROOT, "DIR", 0,
     "Look at a recorded machine: read /sys, /proc and /dev below DIR, ask no provider and make no "
     "connection",
     0},
    {0},
};

static const char doc[] =
    "Say what is well and what is not on this machine, and with ADDR also on the way to the server "
    "there: providers and NICs, the path that a connection takes, why a better one is not taken, "
    "and what to do about it."
    "\v"
    "Each finding is ok, a note (good to know), a warning (something is not as good as it could "
    "be) or broken, and has an area:\n"
    "  provider     the providers of haul that were found\n"
    "  ofi          what libfabric has: its version, kinds of path, NICs\n"
    "  rdma         RDMA devices, their ports and GIDs\n"
    "  interface    network interfaces\n"
    "  memlock      how much memory NICs may be given\n"
    "  hugepages    huge pages for haul's memory\n"
    "  files        how many connections a server can have\n"
    "  cgroup       memory of the container, beside HAUL_POOL_MAX\n"
    "  ptrace       whether processes may read each other's memory\n"
    "  environment  variables of libfabric that hurt\n"
    "  path         the path in use, proven by a connection\n"
    "\n"
    "Limits are those of the process that runs haul doctor: run it as the service runs, in its "
    "container and as its user. Without ADDR the path is that to another process of this machine, "
    "configured alike. With ADDR a connection is made and ended; nothing is sent. The server's "
    "machine has findings of its own: run haul doctor there, too.\n"
    "\n"
    "ADDR is host:port, [v6]:port, :port (this host) or unix:/path. --timeout is how long to wait "
    "for the server, in seconds (default: 12). --quiet prints warnings and what is broken only.\n"
    "\n"
    "--json prints one object: version, well (true: exit code 0), address, path and why (null "
    "where no connection was made), and findings, each with area, state (ok, note, warning, "
    "broken), found and advice (null: nothing to do).\n"
    "\n"
    "Examples:\n"
    "  haul doctor\n"
    "  haul doctor learner:5555\n"
    "  HAUL_PROVIDER=ofi:verbs haul doctor learner:5555 --json | jq .path\n"
    "  haul doctor --json | jq '.findings[] | select(.state == \"broken\")'\n"
    "\n"
    "Environment:\n"
    "  HAUL_PROVIDER  the provider to use: auto, tcp, ofi:verbs, ...\n"
    "  and the other settings that `haul info --config` lists\n"
    "\n"
    "Exit codes:\n"
    "  0    all that could be is well; there may be notes\n"
    "  1    a warning, something broken, or the server cannot be reached\n"
    "  2    wrong arguments or settings\n"
    "  130  stopped with Ctrl-C (SIGINT)\n"
    "  143  stopped with SIGTERM\n";

static error_t parse(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        return 0;
    case OPTION_SYSROOT:
        arguments->root = value;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0)
            argp_error(state, "one ADDR is enough: \"%s\" is too much", value);
        arguments->address = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->root && arguments->address)
            argp_error(state, "a recorded machine (--sysroot) has no way to ADDR");
        if (arguments->root && access(arguments->root, R_OK | X_OK) != 0)
            argp_error(state, "--sysroot takes a folder that can be read; not \"%s\"",
                       arguments->root);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- Findings ------------------------------------------------------------------------------- */

static const char *const states[] = {[HAUL_FINDING_OK] = "ok",
                                     [HAUL_FINDING_NOTE] = "note",
                                     [HAUL_FINDING_WARNING] = "warning",
                                     [HAUL_FINDING_BROKEN] = "broken"};

void haul_doctor_find(struct haul_doctor *doctor, enum haul_finding_state state, const char *area,
                      const char *advice, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    doctor->count[state]++;
    json_array_append_new(doctor->findings,
                          json_pack("{ss ss so ss?}", "area", area, "state", states[state], "found",
                                    haul_json_text(haul_clean_text(text)), "advice", advice));
}

struct wanted_setting {
    const char *name;
    char *value;
};

static void copy_setting(const struct haul_setting *setting, void *arg)
{
    const struct wanted_setting *wanted = arg;
    if (!strcmp(setting->name, wanted->name))
        snprintf(wanted->value, HAUL_DOCTOR_TEXT, "%s", setting->value);
}

const char *haul_doctor_setting(const struct haul_doctor *doctor, const char *name,
                                char value[HAUL_DOCTOR_TEXT])
{
    struct wanted_setting wanted = {name, value};
    *value = '\0';
    haul_options_each(doctor->options, copy_setting, &wanted);
    return value;
}

/* ---- Files below the root ------------------------------------------------------------------- */

static bool make_path(const struct haul_doctor *doctor, char path[PATH_MAX], const char *format,
                      va_list arguments) __attribute__((format(printf, 3, 0)));

static bool make_path(const struct haul_doctor *doctor, char path[PATH_MAX], const char *format,
                      va_list arguments)
{
    int root = snprintf(path, PATH_MAX, "%s", doctor->root);
    return root < PATH_MAX &&
           vsnprintf(path + root, (size_t)(PATH_MAX - root), format, arguments) < PATH_MAX - root;
}

static void trim_end(char *text)
{
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\n", text[length - 1]))
        text[--length] = '\0';
}

bool haul_doctor_line(const struct haul_doctor *doctor, char line[HAUL_DOCTOR_TEXT],
                      const char *format, ...)
{
    char path[PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    FILE *file = make_path(doctor, path, format, arguments) ? fopen(path, "re") : NULL;
    va_end(arguments);
    bool got = file && fgets(line, HAUL_DOCTOR_TEXT, file);
    if (file)
        fclose(file);
    if (got)
        trim_end(line);
    return got;
}

bool haul_doctor_field(const struct haul_doctor *doctor, const char *name, const char *key,
                       char value[HAUL_DOCTOR_TEXT])
{
    char path[PATH_MAX], line[HAUL_DOCTOR_TEXT];
    size_t length = strlen(key);
    bool got = false;
    if (snprintf(path, sizeof path, "%s%s", doctor->root, name) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    while (file && !got && fgets(line, sizeof line, file))
        got = !strncmp(line, key, length);
    if (file)
        fclose(file);
    if (got) {
        snprintf(value, HAUL_DOCTOR_TEXT, "%s", line + length + strspn(line + length, " \t"));
        trim_end(value);
    }
    return got;
}

bool haul_doctor_access(const struct haul_doctor *doctor, int mode, const char *format, ...)
{
    char path[PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    bool accessible = make_path(doctor, path, format, arguments) && access(path, mode) == 0;
    va_end(arguments);
    return accessible;
}

static int is_not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

struct haul_doctor_names haul_doctor_names(const struct haul_doctor *doctor, const char *format,
                                           ...)
{
    struct haul_doctor_names names = {NULL, 0};
    char path[PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    if (make_path(doctor, path, format, arguments))
        names.count = scandir(path, &names.entries, is_not_hidden, versionsort);
    va_end(arguments);
    if (names.count < 0)
        names = (struct haul_doctor_names){NULL, 0};
    return names;
}

void haul_doctor_names_free(struct haul_doctor_names *names)
{
    for (int i = 0; i < names->count; i++)
        free(names->entries[i]);
    free(names->entries);
}

/* ---- The checks ----------------------------------------------------------------------------- */

static void report_provider(const struct haul_provider_info *info, void *arg)
{
    struct haul_doctor *doctor = arg;
    if (info->reason)
        haul_doctor_find(doctor, HAUL_FINDING_WARNING, "provider",
                         "install what the reason names, or remove the plugin's file",
                         "%s cannot be used: %s (%s)", info->name, info->reason, info->file);
    else
        haul_doctor_find(doctor, HAUL_FINDING_OK, "provider", NULL, "%s: %s", info->name,
                         info->description);
}

static void report_found(const char *provider, const struct haul_finding *finding, void *arg)
{
    haul_doctor_find(arg, finding->state, provider, finding->advice, "%s", finding->found);
}

static void check_providers(struct haul_doctor *doctor)
{
    haul_providers_each(doctor->options, report_provider, doctor);
    haul_providers_examine(doctor->options, report_found, doctor);
}

/* For the sake of the settings that providers bring. */
static void load_provider(const struct haul_provider_info *info, void *arg)
{
    (void)info;
    (void)arg;
}

/* Returns 0, or the exit code of what ended it early. */
static int examine(struct haul_doctor *doctor, bool recorded)
{
    static void (*const checks[])(struct haul_doctor * doctor) = {
        haul_doctor_rdma,  haul_doctor_interfaces, haul_doctor_memlock, haul_doctor_huge_pages,
        haul_doctor_files, haul_doctor_cgroup,     haul_doctor_ptrace,  haul_doctor_environment};
    if (recorded)
        haul_providers_each(doctor->options, load_provider, NULL);
    else
        check_providers(doctor);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        checks[i](doctor);
    return recorded ? 0 : haul_doctor_path(doctor);
}

/* ---- The report ----------------------------------------------------------------------------- */

static bool is_well(const struct haul_doctor *doctor)
{
    return doctor->count[HAUL_FINDING_WARNING] + doctor->count[HAUL_FINDING_BROKEN] == 0;
}

static void print_json(const struct haul_doctor *doctor)
{
    json_t *path = json_object_get(doctor->path, "path"),
           *why = json_object_get(doctor->path, "why");
    json_t *root = json_pack("{ss sb ss? sO? sO? sO}", "version", haul_version(), "well",
                             is_well(doctor), "address", doctor->address, "path", path, "why", why,
                             "findings", doctor->findings);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
}

static void print_text(const struct haul_doctor *doctor, bool quiet)
{
    size_t i;
    json_t *finding;
    json_array_foreach(doctor->findings, i, finding)
    {
        const char *area, *state, *found, *advice = NULL;
        json_unpack(finding, "{ss ss ss s?s}", "area", &area, "state", &state, "found", &found,
                    "advice", &advice);
        if (quiet &&
            (!strcmp(state, states[HAUL_FINDING_OK]) || !strcmp(state, states[HAUL_FINDING_NOTE])))
            continue;
        printf("%-8s %-12s %s\n", state, area, found);
        if (advice)
            printf("%-8s %-12s -> %s\n", "", "", advice);
    }
    if (!quiet)
        printf("\n%u broken, %u to look at (warnings), %u to know (notes)\n",
               doctor->count[HAUL_FINDING_BROKEN], doctor->count[HAUL_FINDING_WARNING],
               doctor->count[HAUL_FINDING_NOTE]);
}

int haul_command_doctor(int argc, char **argv)
{
    static const int64_t timeout_ns = TIMEOUT_S * (int64_t)1000000000;
    struct arguments arguments = {.address = NULL};
    const struct argp_child children[] = {{&haul_common_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .args_doc = "[ADDR]",
                              .doc = doc,
                              .children = children};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    const struct haul_common_arguments *common = &arguments.common;
    struct haul_doctor doctor = {.root = arguments.root ? arguments.root : "",
                                 .address = arguments.address,
                                 .timeout_ns =
                                     common->timeout_ns >= 0 ? common->timeout_ns : timeout_ns};
    int err = haul_options_of(common->provider, &doctor.options);
    if (err)
        return haul_report_error(err);
    haul_interrupt_catch();
    doctor.findings = json_array();
    int code = examine(&doctor, arguments.root);
    if (code == 0 && common->json)
        print_json(&doctor);
    else if (code == 0)
        print_text(&doctor, common->quiet);
    if (code == 0 && !is_well(&doctor))
        code = HAUL_EXIT_FAILED;
    json_decref(doctor.findings);
    json_decref(doctor.path);
    haul_options_destroy(doctor.options);
    return code;
}
