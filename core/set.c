/* SPDX-License-Identifier: Apache-2.0
 * Sets of small numbers. */
#include "set.h"

#include "util.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

void haul_set_add(struct haul_set *set, unsigned number)
{
    if (number < HAUL_SET_MAX)
        set->words[number / 64] |= UINT64_C(1) << number % 64;
}

bool haul_set_has(const struct haul_set *set, unsigned number)
{
    return number < HAUL_SET_MAX && set->words[number / 64] >> number % 64 & 1;
}

unsigned haul_set_next(const struct haul_set *set, unsigned from)
{
    while (from < HAUL_SET_MAX && !haul_set_has(set, from))
        from++;
    return HAUL_MIN(from, (unsigned)HAUL_SET_MAX);
}

bool haul_set_is_empty(const struct haul_set *set)
{
    return haul_set_count(set) == 0;
}

unsigned haul_set_count(const struct haul_set *set)
{
    unsigned count = 0;
    for (size_t i = 0; i < HAUL_SET_WORDS; i++)
        count += (unsigned)__builtin_popcountll(set->words[i]);
    return count;
}

bool haul_set_is_equal(const struct haul_set *a, const struct haul_set *b)
{
    return memcmp(a->words, b->words, sizeof a->words) == 0;
}

bool haul_set_meets(const struct haul_set *a, const struct haul_set *b)
{
    const struct haul_set both = haul_set_both(a, b);
    return !haul_set_is_empty(&both);
}

struct haul_set haul_set_both(const struct haul_set *a, const struct haul_set *b)
{
    struct haul_set result;
    for (size_t i = 0; i < HAUL_SET_WORDS; i++)
        result.words[i] = a->words[i] & b->words[i];
    return result;
}

struct haul_set haul_set_either(const struct haul_set *a, const struct haul_set *b)
{
    struct haul_set result;
    for (size_t i = 0; i < HAUL_SET_WORDS; i++)
        result.words[i] = a->words[i] | b->words[i];
    return result;
}

struct haul_set haul_set_without(const struct haul_set *set, const struct haul_set *part)
{
    struct haul_set result;
    for (size_t i = 0; i < HAUL_SET_WORDS; i++)
        result.words[i] = set->words[i] & ~part->words[i];
    return result;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static int format_range(unsigned first, unsigned last, bool more, char *text, size_t size)
{
    const char *comma = more ? "," : "";
    return first == last ? snprintf(text, size, "%s%u", comma, first)
                         : snprintf(text, size, "%s%u-%u", comma, first, last);
}

char *haul_set_format(const struct haul_set *set, char *text, size_t size)
{
    size_t used = 0, safe = 0; /* behind what is safe the dots fit */
    text[0] = '\0';
    for (unsigned first = haul_set_next(set, 0); first < HAUL_SET_MAX;) {
        unsigned last = first;
        while (haul_set_has(set, last + 1))
            last++;
        char range[32];
        size_t length = (size_t)format_range(first, last, used > 0, range, sizeof range);
        if (used + length >= size) {
            snprintf(text + safe, size - safe, "...");
            return text;
        }
        memcpy(text + used, range, length + 1);
        used += length;
        if (used + sizeof "..." <= size)
            safe = used;
        first = haul_set_next(set, last + 1);
    }
    return text;
}

static bool parse_number(const char **text, unsigned *number)
{
    char *end;
    if (!isdigit((unsigned char)**text))
        return false;
    unsigned long value = strtoul(*text, &end, 10);
    *text = end;
    *number = (unsigned)value;
    return value < HAUL_SET_MAX;
}

bool haul_set_parse(const char *text, struct haul_set *set)
{
    *set = (struct haul_set){{0}};
    for (;;) {
        unsigned first, last;
        if (!parse_number(&text, &first))
            return false;
        last = first;
        if (*text == '-' && (text++, !parse_number(&text, &last)))
            return false;
        if (last < first)
            return false;
        for (unsigned number = first; number <= last; number++)
            haul_set_add(set, number);
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            return false;
    }
}
