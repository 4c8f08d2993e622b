/* SPDX-License-Identifier: Apache-2.0
 * The processes that `haul bench` starts: none outlives it. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child, between fork and exec. */
_Noreturn static void become(const char *const *argv, const char *preload, int output, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* the parent died before it could be watched */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (output >= 0)
        dup2(output, STDOUT_FILENO);
    if (preload)
        setenv("LD_PRELOAD", preload, 1);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    fprintf(stderr, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

bool bench_child_start(struct bench_child *child, const char *const *argv, const char *preload,
                       bool piped)
{
    int ends[2] = {-1, -1};
    if (piped && pipe2(ends, O_CLOEXEC) != 0)
        return false;
    pid_t parent = getpid();
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0)
        become(argv, preload, ends[1], parent);
    child->output = ends[0];
    if (piped)
        close(ends[1]);
    if (child->pid > 0)
        return true;
    if (piped)
        close(ends[0]);
    *child = (struct bench_child){.output = -1};
    return false;
}

static void forget(struct bench_child *child)
{
    if (child->output >= 0)
        close(child->output);
    *child = (struct bench_child){.output = -1};
}

int bench_child_wait(struct bench_child *child, double seconds)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(seconds * 1e9);
    for (;;) {
        int status;
        pid_t ended = waitpid(child->pid, &status, WNOHANG);
        if (ended == child->pid) {
            forget(child);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (ruler_now_ns() >= end_ns)
            return -1;
        usleep(1000);
    }
}

void bench_child_kill(struct bench_child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    forget(child);
}

char *bench_child_read(struct bench_child *child, double seconds)
{
    uint64_t end_ns = ruler_now_ns() + (uint64_t)(seconds * 1e9);
    size_t used = 0, room = 4096;
    char *text = malloc(room);
    while (text) {
        struct pollfd ready = {.fd = child->output, .events = POLLIN};
        uint64_t now_ns = ruler_now_ns();
        if (now_ns >= end_ns || poll(&ready, 1, (int)((end_ns - now_ns) / 1000000) + 1) < 0)
            break;
        ssize_t n = ready.revents ? read(child->output, text + used, room - used - 1) : 0;
        if (n < 0)
            break;
        used += (size_t)n;
        text[used] = '\0';
        if (ready.revents && n == 0)
            return text;
        if (room - used < 2) {
            char *more = realloc(text, room *= 2);
            if (!more)
                break;
            text = more;
        }
    }
    free(text);
    return NULL;
}

const char *bench_file(const char *name, char path[BENCH_PATH])
{
    const char *folder = getenv("BENCH_PATH");
    if (folder) {
        snprintf(path, BENCH_PATH, "%s/%s", folder, name);
        return path;
    }
    char self[BENCH_PATH / 2];
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[bytes > 0 ? bytes : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    snprintf(path, BENCH_PATH, "%s/%s/%s", self, HAUL_BENCH_PATH, name);
    return path;
}
