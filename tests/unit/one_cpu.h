/* SPDX-License-Identifier: Apache-2.0
 * For tests: the calling thread on one CPU only, and back. */
#ifndef HAUL_TESTS_ONE_CPU_H
#define HAUL_TESTS_ONE_CPU_H

#include <sched.h>

/* Returns the affinity to go back to. */
static inline cpu_set_t use_one_cpu(void)
{
    cpu_set_t before, one;
    size_t first = 0;
    if (sched_getaffinity(0, sizeof before, &before) != 0)
        fail_msg("this machine has more CPUs than a cpu_set_t holds");
    while (!CPU_ISSET(first, &before))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    return before;
}

static inline void use_cpus(const cpu_set_t *before)
{
    assert_int_equal(sched_setaffinity(0, sizeof *before, before), 0);
}

#endif
