/* SPDX-License-Identifier: Apache-2.0
 * `haul info`: the version, the providers found, the machine, and the configuration. Also writes
 * docs/CONFIG.md. */
#include "command.h"
#include "json.h"
#include "machine.h"

#include <argp.h>
#include <stdio.h>
#include <string.h>

struct arguments {
    bool json;
    bool config;
    bool markdown;
    const char *topology; /* of a recorded machine; NULL: this one */
};

enum { OPTION_TOPOLOGY = 0x100 };

static const struct argp_option options[] = {
    {"config", 'c', NULL, 0, "Show the configuration only, with what each setting means", 0},
    {"markdown", 'm', NULL, 0, "With --config: the reference of all settings, docs/CONFIG.md", 0},
    {"topology", OPTION_TOPOLOGY, "FILE", 0,
     "Answer for a recorded machine, an XML file that hwloc's lstopo wrote, and show nothing else",
     0},
    {"json", 'j', NULL, 0, "Print JSON", 0},
    {0},
};

static const char doc[] =
    "Show the version, the providers that were found (and why others did not load), the machine "
    "with its NUMA nodes and NICs and where haul would work on it, and each setting with its value "
    "and where the value comes from."
    "\v"
    "The place is what HAUL_BIND, HAUL_NIC and HAUL_RAILS choose if all NICs can be used; a "
    "provider may be able to use some of them only. With --topology it is the place that the same "
    "settings choose on the recorded machine. --json has all of the section in \"machine\"; with "
    "--topology it prints that object alone.\n"
    "\n"
    "To record a machine: lstopo --of xml node.xml (Debian: hwloc or hwloc-nox). hwloc records no "
    "speed of NICs.\n"
    "\n"
    "Examples:\n"
    "  haul info\n"
    "  haul info --config\n"
    "  haul info --topology node.xml\n"
    "  HAUL_BIND=numa:1 haul info --topology node.xml --json | jq .place\n"
    "  HAUL_PROVIDER_PATH=./plugins haul info --json | jq '.providers[].name'\n"
    "\n" HAUL_EXIT_HELP;

static error_t parse(int key, char *value, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'c':
        arguments->config = true;
        return 0;
    case 'm':
        arguments->markdown = true;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case OPTION_TOPOLOGY:
        arguments->topology = value;
        return 0;
    case ARGP_KEY_END:
        if (arguments->topology && arguments->config)
            argp_error(state, "a recorded machine (--topology) has no configuration (--config)");
        if (arguments->markdown && (!arguments->config || arguments->json))
            argp_error(state, "--markdown goes with --config and not with --json");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- For people ---- */

static void print_provider(const struct haul_provider_info *info, void *arg)
{
    (void)arg;
    const char *jobs = info->channel && info->rma ? "channel + rma"
                       : info->channel            ? "channel"
                       : info->rma                ? "rma"
                                                  : "-";
    printf("  %-8s %-14s %s\n", info->name, info->reason ? "not usable" : jobs,
           info->reason ? info->reason : info->description);
    printf("  %-8s %-14s %s\n", "", "", info->file);
}

static void print_setting(const struct haul_setting *setting, void *arg)
{
    const struct arguments *arguments = arg;
    printf("  %-26s %-24s %s\n", setting->environment, *setting->value ? setting->value : "\"\"",
           setting->origin);
    if (arguments->config)
        printf("      %s (default: %s)\n", setting->help,
               *setting->default_value ? setting->default_value : "empty");
}

/* For the sake of the settings that providers bring. */
static void load_provider(const struct haul_provider_info *info, void *arg)
{
    (void)info;
    (void)arg;
}

/* machine: NULL without that section. */
static void print_info(struct haul_options *haul_options, const struct haul_machine *machine,
                       struct arguments *arguments)
{
    if (!machine) {
        haul_providers_each(haul_options, load_provider, NULL);
    } else {
        printf("haul %s\n\nProviders\n", haul_version());
        haul_providers_each(haul_options, print_provider, NULL);
        puts("\nMachine");
        haul_machine_draw(machine);
        putchar('\n');
    }
    puts("Configuration");
    haul_options_each(haul_options, print_setting, arguments);
}

/* ---- docs/CONFIG.md ---- */

/* A cell of a table: '|' would end it. */
static void print_cell(const char *text)
{
    for (; *text; text++)
        printf(*text == '|' ? "\\%c" : "%c", *text);
}

static void print_row(const struct haul_setting *setting, void *arg)
{
    (void)arg;
    printf("| `%s` | `%s` | ", setting->name, setting->environment);
    print_cell(*setting->default_value ? setting->default_value : "(empty)");
    fputs(" | ", stdout);
    print_cell(setting->help);
    puts(" |");
}

static void print_markdown(struct haul_options *haul_options)
{
    haul_providers_each(haul_options, load_provider, NULL);
    puts("# Configuration\n"
         "\n"
         "(Written by `haul info --config --markdown`.)\n"
         "\n"
         "Every setting has a name for `haul_options_set()` and an environment variable; the call\n"
         "wins over the environment, the environment over the default. `haul info --config` shows\n"
         "the values in force and where each comes from. A value that a setting does not take is "
         "an\n"
         "error, never ignored. Sizes are bytes, or have K, M, G or T (powers of 1024: `64M`);\n"
         "times are in the unit that is said. A variable that is empty counts as one that is not\n"
         "set.\n"
         "\n"
         "| Setting | Environment | Default | Meaning |\n"
         "|---|---|---|---|");
    haul_options_each(haul_options, print_row, NULL);
}

/* ---- JSON ---- */

static void add_provider(const struct haul_provider_info *info, void *arg)
{
    json_array_append_new(
        arg, json_pack("{so so sb ss? so sb sb}", "name", haul_json_text(info->name), "file",
                       haul_json_text(info->file), "usable", info->reason == NULL, "description",
                       info->description, "reason", haul_json_text(info->reason), "channel",
                       info->channel, "rma", info->rma));
}

static void add_setting(const struct haul_setting *setting, void *arg)
{
    json_array_append_new(
        arg, json_pack("{ss ss so ss ss ss}", "name", setting->name, "environment",
                       setting->environment, "value", haul_json_text(setting->value), "default",
                       setting->default_value, "origin", setting->origin, "help", setting->help));
}

static void print_object(json_t *root)
{
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

static void print_json(struct haul_options *haul_options, const struct haul_machine *machine)
{
    json_t *root = json_pack("{ss}", "version", haul_version());
    json_t *providers = json_array();
    haul_providers_each(haul_options, add_provider, providers);
    if (machine) {
        json_object_set(root, "providers", providers);
        json_object_set_new(root, "machine", haul_machine_json(machine));
    }
    json_decref(providers);
    json_t *settings = json_array();
    haul_options_each(haul_options, add_setting, settings);
    json_object_set_new(root, "config", settings);
    print_object(root);
}

/* ---- The command ---- */

static void print_recorded(const struct haul_machine *machine, bool json)
{
    if (json) {
        print_object(haul_machine_json(machine));
        return;
    }
    char origin[512];
    snprintf(origin, sizeof origin, "%s", machine->origin);
    printf("Machine recorded in %s\n", haul_clean_text(origin));
    haul_machine_draw(machine);
}

static void print_all(struct haul_options *haul_options, const struct haul_machine *machine,
                      struct arguments *arguments)
{
    if (arguments->topology)
        print_recorded(machine, arguments->json);
    else if (arguments->json)
        print_json(haul_options, machine);
    else if (arguments->markdown)
        print_markdown(haul_options);
    else
        print_info(haul_options, machine, arguments);
}

static int report_error(int err, const struct arguments *arguments)
{
    return arguments->topology && err == HAUL_INVALID
               ? haul_report(HAUL_EXIT_FILE, "%s", haul_error_detail())
               : haul_report_error(err);
}

int haul_command_info(int argc, char **argv)
{
    struct arguments arguments = {.json = false};
    const struct argp argp = {.options = options, .parser = parse, .doc = doc};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    struct haul_options *haul_options;
    struct haul_machine *machine = NULL;
    int err = haul_options_create(&haul_options);
    if (err)
        return haul_report_error(err);
    if (!arguments.config)
        err = haul_machine_load(arguments.topology, haul_options, &machine);
    if (!err)
        print_all(haul_options, machine, &arguments);
    int code = err ? report_error(err, &arguments) : HAUL_EXIT_OK;
    haul_machine_free(machine);
    haul_options_destroy(haul_options);
    return code;
}
