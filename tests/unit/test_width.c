/* SPDX-License-Identifier: Apache-2.0
 * How many senders bring their arrays at a time, with made-up machines whose rates are known. */
#include "width.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

struct machine {
    struct haul_width width;
    double (*rate)(unsigned width); /* bytes per ns */
    double noise;                   /* so much of it, more or less */
    double idle;                    /* the part of the time that the receiver waits */
    bool alone;                     /* nobody waits for a turn */
    bool nic;                       /* brings the bytes, by rma reads */
    uint64_t now_ns, idle_ns;
    uint32_t random;
    unsigned passes[65]; /* with each width */
};

static double noisy(struct machine *machine)
{
    machine->random = machine->random * 1664525 + 1013904223;
    return 1 + machine->noise * ((double)(machine->random >> 8) / (1 << 23) - 1);
}

/* Lets so many milliseconds pass, and counts anew where they were spent. */
static void run(struct machine *machine, unsigned ms)
{
    for (unsigned i = 0; i <= 64; i++)
        machine->passes[i] = 0;
    for (unsigned i = 0; i < ms; i++) {
        unsigned width = haul_width_now(&machine->width);
        assert_in_range(width, 1, 64);
        machine->passes[width]++;
        machine->now_ns += MS;
        machine->idle_ns += (uint64_t)(machine->idle * (double)MS);
        haul_width_brought(&machine->width,
                           (uint64_t)(machine->rate(width) * noisy(machine) * (double)MS));
        haul_width_measure(&machine->width, machine->now_ns, machine->idle_ns, machine->nic,
                           !machine->alone);
    }
}

/* The part of the time that was spent with these widths. */
static double share(const struct machine *machine, unsigned from, unsigned to)
{
    unsigned inside = 0, all = 0;
    for (unsigned i = 0; i <= 64; i++) {
        all += machine->passes[i];
        inside += i >= from && i <= to ? machine->passes[i] : 0;
    }
    return (double)inside / all;
}

static double best_at_4(unsigned width)
{
    return width <= 4 ? 1 + 0.1 * width : 1.4 - 0.05 * (width - 4);
}

static double best_alone(unsigned width)
{
    return 2 - 0.02 * width;
}

static double the_same(unsigned width)
{
    (void)width;
    return 1;
}

static double slow_senders(unsigned width)
{
    return 0.01 * width;
}

static void a_few_are_found(void **state)
{
    (void)state;
    struct machine machine = {.rate = best_at_4, .noise = 0.2, .now_ns = MS};
    run(&machine, 2000);
    run(&machine, 10000);
    assert_true(share(&machine, 3, 6) > 0.8);
}

static void one_stays_one(void **state)
{
    (void)state;
    struct machine machine = {.rate = best_alone, .noise = 0.2, .now_ns = MS};
    run(&machine, 10000);
    assert_true(share(&machine, 1, 2) > 0.8);
}

static void fewer_when_nothing_is_gained(void **state)
{
    (void)state;
    struct machine machine = {.rate = the_same, .now_ns = MS, .width.step = 8};
    run(&machine, 2000);
    run(&machine, 10000);
    assert_true(share(&machine, 1, 1) > 0.8);
}

static void slow_senders_fill_the_wire(void **state)
{
    (void)state;
    struct machine machine = {.rate = slow_senders, .noise = 0.1, .now_ns = MS};
    run(&machine, 3000);
    run(&machine, 1000);
    assert_true(share(&machine, 32, 64) > 0.8);
}

static void a_receiver_that_waits_goes_wider_at_once(void **state)
{
    (void)state;
    struct machine machine = {.rate = the_same, .idle = 0.9, .now_ns = MS};
    run(&machine, 600);
    assert_int_equal(haul_width_now(&machine.width), 64);
}

static void a_nic_that_is_busy_needs_no_more(void **state)
{
    (void)state;
    struct machine machine = {.rate = the_same, .idle = 0.9, .nic = true, .now_ns = MS};
    run(&machine, 10000);
    assert_true(share(&machine, 1, 2) == 1);
}

static void what_was_best_may_change(void **state)
{
    (void)state;
    struct machine machine = {.rate = best_at_4, .now_ns = MS};
    run(&machine, 2000);
    machine.rate = best_alone;
    run(&machine, 4000);
    run(&machine, 4000);
    assert_true(share(&machine, 1, 1) > 0.8);
}

static void one_that_is_slow_makes_no_room(void **state)
{
    (void)state;
    struct machine machine = {.rate = the_same, .idle = 0.9, .alone = true, .now_ns = MS};
    run(&machine, 10000);
    assert_true(share(&machine, 1, 1) == 1);
}

/* Bursts shorter than a measurement, with long pauses. */
static void bursts_add_up(void **state)
{
    (void)state;
    struct machine machine = {.rate = best_at_4, .now_ns = MS};
    double found = 0;
    for (int i = 0; i < 2000; i++) {
        run(&machine, HAUL_WIDTH_WINDOW_MS / 2);
        found += i >= 1000 ? share(&machine, 3, 6) : 0;
        haul_width_stop(&machine.width);
        machine.now_ns += 100 * MS;
        machine.idle_ns += 100 * MS;
    }
    assert_true(found > 800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_are_found),
        cmocka_unit_test(one_stays_one),
        cmocka_unit_test(fewer_when_nothing_is_gained),
        cmocka_unit_test(slow_senders_fill_the_wire),
        cmocka_unit_test(a_receiver_that_waits_goes_wider_at_once),
        cmocka_unit_test(a_nic_that_is_busy_needs_no_more),
        cmocka_unit_test(what_was_best_may_change),
        cmocka_unit_test(one_that_is_slow_makes_no_room),
        cmocka_unit_test(bursts_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
