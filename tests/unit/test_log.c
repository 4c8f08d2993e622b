/* SPDX-License-Identifier: Apache-2.0
 * Log lines: levels, the sink, standard error, and text that must not do harm. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct record {
    int calls;
    enum haul_log_level level;
    char line[2048];
};

static void keep(enum haul_log_level level, const char *line, void *arg)
{
    struct record *record = arg;
    record->calls++;
    record->level = level;
    strncpy(record->line, line, sizeof record->line - 1);
}

static int restore(void **state)
{
    (void)state;
    haul_log_set(NULL, NULL);
    haul_log_level_set(HAUL_LOG_WARNING);
    return 0;
}

static void lines_below_the_level_are_dropped(void **state)
{
    (void)state;
    struct record record = {0};
    haul_log_set(keep, &record);
    haul_log(HAUL_LOG_INFO, "dropped");
    assert_int_equal(record.calls, 0);
    haul_log(HAUL_LOG_WARNING, "kept %d", 1);
    assert_int_equal(record.calls, 1);
    assert_int_equal(record.level, HAUL_LOG_WARNING);
    assert_string_equal(record.line, "kept 1");
    haul_log_level_set(HAUL_LOG_DEBUG);
    haul_log(HAUL_LOG_DEBUG, "kept too");
    assert_string_equal(record.line, "kept too");
}

static void control_characters_are_replaced(void **state)
{
    (void)state;
    struct record record = {0};
    haul_log_set(keep, &record);
    haul_log(HAUL_LOG_ERROR, "peer %s", "a\nhaul: error: b\r\t\x1b[2J\x7f");
    assert_string_equal(record.line, "peer a?haul: error: b???[2J?");
    haul_log(HAUL_LOG_ERROR, "%s",
             "\xC2\x9B"
             "31m \xC3\x9F \xC2\xA0 \xC2");
    assert_string_equal(record.line, "??31m \xC3\x9F \xC2\xA0 \xC2");
}

/* Logs with standard error in a pipe; returns what was written. */
static size_t log_to_pipe(char *output, size_t size, const char *text)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    int terminal = dup(STDERR_FILENO);
    assert_true(terminal >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    errno = EBADF;
    haul_log(HAUL_LOG_WARNING, "%s", text);
    int errno_after = errno;
    assert_true(dup2(terminal, STDERR_FILENO) >= 0);
    ssize_t length = read(ends[0], output, size - 1);
    close(terminal);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(errno_after, EBADF);
    assert_true(length > 0);
    output[length] = '\0';
    return (size_t)length;
}

static void standard_error_gets_whole_lines(void **state)
{
    (void)state;
    char output[4096], text[3000];
    log_to_pipe(output, sizeof output, "port 1\nin use");
    assert_string_equal(output, "haul: warning: port 1?in use\n");
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    size_t length = log_to_pipe(output, sizeof output, text);
    assert_true(length > 500 && length < sizeof text);
    assert_ptr_equal(strchr(output, '\n'), output + length - 1);
}

/* A sink under way, and its replacement. */
struct handover {
    sem_t in_sink, replaced;
    bool replaced_too_early;
};

/* Gives haul_log_set() in the other thread time to return while this still runs, which it must not.
 */
static void take_long(enum haul_log_level level, const char *line, void *arg)
{
    (void)level, (void)line;
    struct handover *handover = arg;
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 1;
    sem_post(&handover->in_sink);
    handover->replaced_too_early = sem_timedwait(&handover->replaced, &deadline) == 0;
}

static void *log_a_line(void *arg)
{
    (void)arg;
    haul_log(HAUL_LOG_ERROR, "line");
    return NULL;
}

static void a_sink_has_ended_when_it_is_replaced(void **state)
{
    (void)state;
    static struct handover handover;
    pthread_t thread;
    sem_init(&handover.in_sink, 0, 0);
    sem_init(&handover.replaced, 0, 0);
    haul_log_set(take_long, &handover);
    assert_int_equal(pthread_create(&thread, NULL, log_a_line, NULL), 0);
    while (sem_wait(&handover.in_sink) != 0)
        ;
    haul_log_set(NULL, NULL);
    sem_post(&handover.replaced);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(handover.replaced_too_early);
    sem_destroy(&handover.in_sink);
    sem_destroy(&handover.replaced);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lines_below_the_level_are_dropped, restore),
        cmocka_unit_test_teardown(control_characters_are_replaced, restore),
        cmocka_unit_test_teardown(standard_error_gets_whole_lines, restore),
        cmocka_unit_test_teardown(a_sink_has_ended_when_it_is_replaced, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
