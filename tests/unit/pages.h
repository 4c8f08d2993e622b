/* SPDX-License-Identifier: Apache-2.0
 * For tests of memory: whether its pages are there, and a kernel that does not make them. */
#ifndef HAUL_TESTS_PAGES_H
#define HAUL_TESTS_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Whether all of them are in memory. */
bool is_present(const void *base, size_t bytes);
/* Runs it in a child to whose kernel MADV_POPULATE_WRITE is unknown, as before Linux 5.14. It
 * returns 0, or which of its expectations (below 77) did not hold. Skips without seccomp. */
void run_without_populate(int (*run)(void));

#endif
