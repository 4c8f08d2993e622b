/* SPDX-License-Identifier: Apache-2.0
 * Runs a program and kills it at one of its system calls: a moment that no delay would hit twice.
 *
 *   failure_program_doomed FROM NUMBER PROGRAM [ARGUMENT...]
 *
 * Calls of all its threads are counted, from its first "connect" or "accept" (FROM) on, which is
 * number 0; it is killed before it makes call NUMBER. Exit code: DOOMED, or the program's own if it
 * has ended before. Standard input and output are the program's. */
#include "letter.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DOOMED = 9, OTHER_WAY = 128 };

struct victim {
    pid_t pid;
    uint64_t from;
    unsigned long number; /* calls that it may still make */
    bool counting;
};

static pid_t start(char **arguments)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid > 0)
        return pid;
    REQUIRE(!ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    raise(SIGSTOP);
    execvp(arguments[0], arguments);
    _exit(EXIT_FAILURE);
}

static void trace(pid_t pid)
{
    int status;
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                         PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    REQUIRE(!ptrace(PTRACE_SETOPTIONS, pid, NULL, options));
    REQUIRE(!ptrace(PTRACE_SYSCALL, pid, NULL, NULL));
}

/* It stands at the begin or the end of a call. Returns whether its time has come. */
static bool is_due(struct victim *victim, pid_t thread)
{
    struct __ptrace_syscall_info call;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof call, &call) < 1 ||
        call.op != PTRACE_SYSCALL_INFO_ENTRY)
        return false;
    victim->counting |= call.entry.nr == victim->from;
    return victim->counting && victim->number-- == 0;
}

/* The signal that it is to get; 0 for stops that are only ours. */
static int signal_of(int status)
{
    int sig = WSTOPSIG(status);
    bool ours = status >> 16 || sig == (SIGTRAP | 0x80) || sig == SIGSTOP;
    return ours ? 0 : sig;
}

/* Returns how it ended. */
static int watch(struct victim *victim)
{
    for (;;) {
        int status;
        pid_t thread = waitpid(-1, &status, __WALL);
        REQUIRE(thread > 0);
        if (!WIFSTOPPED(status)) {
            if (thread == victim->pid)
                return status;
            continue;
        }
        if (WSTOPSIG(status) == (SIGTRAP | 0x80) && is_due(victim, thread))
            kill(victim->pid, SIGKILL);
        else
            ptrace(PTRACE_SYSCALL, thread, NULL, signal_of(status)); /* (it may be gone) */
    }
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return EXIT_FAILURE;
    struct victim victim = {.from = !strcmp(argv[1], "accept") ? SYS_accept4 : SYS_connect,
                            .number = strtoul(argv[2], NULL, 10),
                            .pid = start(argv + 3)};
    trace(victim.pid);
    int status = watch(&victim);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return WTERMSIG(status) == SIGKILL ? DOOMED : OTHER_WAY + WTERMSIG(status);
}
