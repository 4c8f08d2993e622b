/* SPDX-License-Identifier: Apache-2.0
 * The command `haul`: its subcommands, and how all of them talk to people and scripts. Results go
 * to standard output, progress and errors to standard error. */
#ifndef HAUL_TOOL_COMMAND_H
#define HAUL_TOOL_COMMAND_H

#include <haul/haul.h>

/* Each subcommand has a file of its own. argv[0] is "haul NAME"; the result is an exit code. */
int haul_command_doctor(int argc, char **argv);
int haul_command_info(int argc, char **argv);
int haul_command_send(int argc, char **argv);
int haul_command_recv(int argc, char **argv);
int haul_command_bench(int argc, char **argv);

/* ---- Exit codes (report.c) ---- */

enum haul_exit {
    HAUL_EXIT_OK = 0,
    HAUL_EXIT_FAILED = 1,  /* the peer, the connection, a refusal */
    HAUL_EXIT_USAGE = 2,   /* arguments or settings */
    HAUL_EXIT_TIMEOUT = 3, /* the time ran out */
    HAUL_EXIT_FILE = 4,    /* a file, a folder or its disk */
    HAUL_EXIT_SIGNAL = 128 /* + the signal that ended it */
};

/* The same for people, to be put into the help of each subcommand. */
#define HAUL_EXIT_HELP                                                \
    "Exit codes:\n"                                                   \
    "  0    done\n"                                                   \
    "  1    it failed: the peer, the connection, a refused message\n" \
    "  2    wrong arguments or settings\n"                            \
    "  3    the time (--timeout) ran out\n"                           \
    "  4    a file, a folder or its disk\n"                           \
    "  130  stopped with Ctrl-C (SIGINT)\n"                           \
    "  143  stopped with SIGTERM\n"

/* Prints "haul NAME: sentence" to standard error and returns the code. Control characters, which
 * may come from another machine, are printed as '?'. */
int haul_report(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a haul call of this thread that has failed. */
int haul_report_error(int err);

/* "1.50 GiB", "17 bytes". Returns text. */
enum { HAUL_BYTES_TEXT = 32 };
const char *haul_bytes_text(uint64_t bytes, char text[HAUL_BYTES_TEXT]);

/* Replaces control characters by '?'. Returns text. */
char *haul_clean_text(char *text);

/* ---- Signals (interrupt.c) ---- */

/* From here on SIGINT, SIGTERM and SIGHUP end waits instead of the process; a second one ends the
 * process at once. */
void haul_interrupt_catch(void);
/* The signal that came, or 0. */
int haul_interrupt_signal(void);

#endif
