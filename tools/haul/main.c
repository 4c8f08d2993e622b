/* SPDX-License-Identifier: Apache-2.0
 * The command `haul`: finds the subcommand and runs it. */
#include "command.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int command_help(int argc, char **argv);
static int command_version(int argc, char **argv);

static const struct command {
    const char *name;
    const char *summary; /* NULL: not listed */
    int (*run)(int argc, char **argv);
} commands[] = {
    {"send", "send .npy files as one dict of arrays", haul_command_send},
    {"recv", "receive dicts of arrays into .npy files", haul_command_recv},
#ifdef HAUL_WITH_BENCH
    {"bench", "measure providers against each other and against what others do",
     haul_command_bench},
#endif
    {"info", "show the version, the providers found and the configuration", haul_command_info},
    {"doctor", "say what is wrong here, or on the way to a server, and what to do",
     haul_command_doctor},
    {"help", "show this help, or that of a command", command_help},
    {"version", NULL, command_version},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* Options that people try first. */
static const struct {
    const char *option;
    const char *command;
} aliases[] = {{"--help", "help"},
               {"-h", "help"},
               {"-?", "help"},
               {"--version", "version"},
               {"-V", "version"}};

static void print_help(FILE *out)
{
    fputs("Usage: haul COMMAND [ARGUMENT...]\n"
          "Move dicts of n-dimensional arrays between processes and machines.\n"
          "\n"
          "Commands:\n",
          out);
    for (int i = 0; i < COMMANDS; i++) {
        if (commands[i].summary)
            fprintf(out, "  %-6s %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\n"
          "`haul COMMAND --help` explains a command. `haul --version` prints the version.\n"
          "\n"
          "Example, on two machines; start either one first:\n"
          "  learner$ haul recv :5555 --out results\n"
          "  actor$   haul send learner:5555 frames.npy labels.npy\n"
          "\n"
          "Addresses: host:port, [v6]:port, :port (this host; for recv all its interfaces),\n"
          "unix:/path. Sizes are in powers of 1024: 1 GiB is 1073741824 bytes.\n"
          "haul does not encrypt and does not authenticate: use it on networks you trust.\n"
          "\n"
          "Environment:\n"
          "  HAUL_PROVIDER  the provider to use: auto, tcp, zmq, ...\n"
          "  HAUL_LOG       the least important lines to log: error, warning, info, debug\n"
          "`haul info --config` lists all settings with their values.\n"
          "\n" HAUL_EXIT_HELP,
          out);
}

static int command_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("haul %s\n", haul_version());
    return HAUL_EXIT_OK;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        if (strcmp(name, aliases[i].option) == 0)
            name = aliases[i].command;
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    }
    return NULL;
}

enum { NAME_MAX_BYTES = 15 }; /* longer names are near to none of ours */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits (insert, remove, replace a character) that turn one name into the other. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(replaced, least(row[j], row[j + 1]) + 1);
        }
    }
    return row[width];
}

static int unknown_command(const char *name)
{
    const struct command *nearest = NULL;
    size_t nearest_distance = 3;
    for (int i = 0; i < COMMANDS && strlen(name) <= NAME_MAX_BYTES; i++) {
        size_t edits = distance(name, commands[i].name);
        if (edits < nearest_distance) {
            nearest_distance = edits;
            nearest = &commands[i];
        }
    }
    if (nearest)
        return haul_report(HAUL_EXIT_USAGE, "there is no command \"%s\"; did you mean \"%s\"?",
                           name, nearest->name);
    return haul_report(HAUL_EXIT_USAGE, "there is no command \"%s\"; `haul help` lists them", name);
}

/* argv[0] is the command's own name, as with main(). */
static int run_command(const struct command *command, int argc, char **argv)
{
    char title[32];
    snprintf(title, sizeof(title), "haul %s", command->name);
    argv[0] = title;
    program_invocation_name = title;
    program_invocation_short_name = title;
    return command->run(argc, argv);
}

static int command_help(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stdout);
        return HAUL_EXIT_OK;
    }
    const struct command *command = find_command(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    if (command->run == command_help || command->run == command_version)
        return command_help(1, argv);
    char help[] = "--help";
    char *help_argv[] = {argv[0], help, NULL};
    return run_command(command, 2, help_argv);
}

/* A descriptor that the caller has closed would be the next one that is opened, and what is printed
 * would go into a socket or a file. Nothing can be written to what takes its place either. */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    static char name[] = "haul";
    fill_standard_descriptors();
    program_invocation_name = name;
    argp_err_exit_status = HAUL_EXIT_USAGE;
    if (argc < 2) {
        print_help(stderr);
        return HAUL_EXIT_USAGE;
    }
    const struct command *command = find_command(argv[1]);
    int code = command ? run_command(command, argc - 1, argv + 1) : unknown_command(argv[1]);
    program_invocation_name = name;
    if (fflush(stdout) != 0 || ferror(stdout))
        code = haul_report(HAUL_EXIT_FILE, "cannot write the result: %s", strerror(errno));
    return code;
}
