/* SPDX-License-Identifier: Apache-2.0
 * Sets of small numbers: CPUs and NUMA nodes, by the numbers that the system gives them. */
#ifndef HAUL_CORE_SET_H
#define HAUL_CORE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HAUL_SET_MAX = 4096, HAUL_SET_WORDS = HAUL_SET_MAX / 64, HAUL_SET_TEXT_MAX = 256 };

struct haul_set {
    uint64_t words[HAUL_SET_WORDS];
};

/* Numbers from HAUL_SET_MAX on are left out. */
void haul_set_add(struct haul_set *set, unsigned number);
bool haul_set_has(const struct haul_set *set, unsigned number);
bool haul_set_is_empty(const struct haul_set *set);
unsigned haul_set_count(const struct haul_set *set);
/* The least number that is not below `from`; HAUL_SET_MAX: there is none. */
unsigned haul_set_next(const struct haul_set *set, unsigned from);
bool haul_set_is_equal(const struct haul_set *a, const struct haul_set *b);
bool haul_set_meets(const struct haul_set *a, const struct haul_set *b);
struct haul_set haul_set_both(const struct haul_set *a, const struct haul_set *b);
struct haul_set haul_set_either(const struct haul_set *a, const struct haul_set *b);
struct haul_set haul_set_without(const struct haul_set *set, const struct haul_set *part);

/* "0-3,8", as the kernel writes them; "" of an empty one. What does not fit ends in "...". Returns
 * text. */
char *haul_set_format(const struct haul_set *set, char *text, size_t size);
/* Reads such a list. False: it is none, or has a number that is too large. */
bool haul_set_parse(const char *text, struct haul_set *set);

#endif
