/* SPDX-License-Identifier: Apache-2.0
 * Log lines: formatted, made harmless, and given to the process's sink or to standard error. */
#include "log.h"

#include "util.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 }; /* prefix and newline included; longer lines are cut */

static atomic_int highest_level = HAUL_LOG_WARNING;

/* Sinks run as readers: side by side, but never after a haul_log_set() that replaced them. */
static pthread_rwlock_t sink_lock = PTHREAD_RWLOCK_INITIALIZER;
static void (*current_sink)(enum haul_log_level level, const char *line, void *arg);
static void *current_arg;

/* Threads that held the lock at a fork do not exist in the child. */
static void renew_lock_in_child(void)
{
    pthread_rwlock_init(&sink_lock, NULL);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, renew_lock_in_child);
}

static void watch_forks_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
}

void haul_log_set(void (*sink)(enum haul_log_level level, const char *line, void *arg), void *arg)
{
    watch_forks_once();
    pthread_rwlock_wrlock(&sink_lock);
    current_sink = sink;
    current_arg = arg;
    pthread_rwlock_unlock(&sink_lock);
}

void haul_log_level_set(enum haul_log_level level)
{
    atomic_store_explicit(&highest_level, (int)level, memory_order_relaxed);
}

const char *haul_log_level_name(enum haul_log_level level)
{
    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    return (size_t)level < HAUL_COUNT_OF(names) ? names[level] : "";
}

/* Text of a peer must neither start a line of its own nor steer a terminal: C0 controls and DEL are
 * one byte, C1 controls are U+0080 to U+009F, two bytes in UTF-8. */
static void replace_controls(char *text)
{
    for (unsigned char *byte = (unsigned char *)text; *byte; byte++) {
        bool c1 = byte[0] == 0xC2 && byte[1] >= 0x80 && byte[1] <= 0x9F;
        if (c1)
            *byte++ = '?';
        if (c1 || *byte < 0x20 || *byte == 0x7F)
            *byte = '?';
    }
}

static bool give_to_sink(enum haul_log_level level, const char *line)
{
    watch_forks_once();
    pthread_rwlock_rdlock(&sink_lock);
    bool taken = current_sink;
    if (taken)
        current_sink(level, line, current_arg);
    pthread_rwlock_unlock(&sink_lock);
    return taken;
}

/* One write(2), so that lines of several threads and processes do not mix. */
static void write_line(char *line)
{
    size_t length = strlen(line);
    line[length] = '\n';
    while (write(STDERR_FILENO, line, length + 1) < 0 && errno == EINTR)
        ;
}

void haul_log(enum haul_log_level level, const char *format, ...)
{
    if ((int)level > atomic_load_explicit(&highest_level, memory_order_relaxed))
        return;
    int caller_errno = errno;
    char line[LINE_BYTES];
    size_t prefix = (size_t)snprintf(line, sizeof line, "haul: %s: ", haul_log_level_name(level));
    va_list arguments;
    va_start(arguments, format);
    /* The last byte is kept for the newline. */
    vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
    va_end(arguments);
    replace_controls(line + prefix);
    if (!give_to_sink(level, line + prefix))
        write_line(line);
    errno = caller_errno;
}
