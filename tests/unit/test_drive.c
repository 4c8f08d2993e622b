/* SPDX-License-Identifier: Apache-2.0
 * The drive without an engine: who drives when nobody waits. */
#include "drive.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Work of one timer. */
struct timer {
    struct haul_drive drive;
    uint64_t due_ns;
    bool fired;
};

static bool progress(void *arg)
{
    struct timer *timer = arg;
    if (timer->due_ns > timer->drive.now_ns)
        return false;
    timer->fired = true;
    timer->due_ns = UINT64_MAX;
    return true;
}

static uint64_t deadline_ns(void *arg)
{
    const struct timer *timer = arg;
    return timer->due_ns;
}

static void settled(void *arg)
{
    (void)arg;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static bool has_fired(const struct timer *timer)
{
    return timer->fired;
}

static bool thread_sleeps(const struct timer *timer)
{
    return timer->drive.driver_is_thread && timer->drive.asleep;
}

/* Does not drive itself. */
static void await(struct timer *timer, bool (*holds)(const struct timer *timer))
{
    const uint64_t end_ns = haul_now_ns() + 60 * (uint64_t)HAUL_NS_PER_S;
    for (bool held = false; !held;) {
        assert_true(haul_now_ns() < end_ns);
        sched_yield();
        haul_drive_enter(&timer->drive);
        held = holds(timer);
        haul_drive_leave(&timer->drive);
    }
}

/* The progress thread sleeps without a deadline when a waiter takes its turn, and leaves a timer to
 * it. */
static void test_a_timer_after_a_turn_that_was_taken(void **state)
{
    struct timer timer = {.due_ns = UINT64_MAX};
    const struct haul_drive_work work = {progress, deadline_ns, settled, &timer};
    (void)state;
    assert_int_equal(haul_drive_init(&timer.drive, &work, 0), 0);
    for (int i = 0; i < 40; i++) {
        await(&timer, thread_sleeps);
        haul_drive_enter(&timer.drive);
        uint64_t until_ns =
            i % 2 ? haul_now_ns() + 300 * HAUL_NS_PER_US : 0; /* it sleeps, or not */
        assert_int_equal(haul_drive_wait(&timer.drive, never, NULL, until_ns), HAUL_TIMEOUT);
        timer.fired = false;
        timer.due_ns = haul_now_ns() + HAUL_NS_PER_MS;
        haul_drive_leave(&timer.drive);
        await(&timer, has_fired);
    }
    haul_drive_stop(&timer.drive);
    haul_drive_destroy(&timer.drive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_timer_after_a_turn_that_was_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
