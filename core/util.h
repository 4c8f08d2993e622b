/* SPDX-License-Identifier: Apache-2.0
 * Small things that every file may use: intrusive lists, arrays that grow, checked sums, time. */
#ifndef HAUL_CORE_UTIL_H
#define HAUL_CORE_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HAUL_CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define HAUL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define HAUL_MAX(a, b) ((a) > (b) ? (a) : (b))
#define HAUL_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { HAUL_NS_PER_US = 1000, HAUL_NS_PER_MS = 1000000, HAUL_NS_PER_S = 1000000000 };

static inline uint64_t haul_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * HAUL_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* The time a relative timeout ends: UINT64_MAX for HAUL_FOREVER and what overflows. */
static inline uint64_t haul_deadline_ns(int64_t timeout_ns)
{
    if (timeout_ns == INT64_MAX)
        return UINT64_MAX;
    uint64_t now = haul_now_ns();
    if (timeout_ns <= 0)
        return now;
    return (uint64_t)timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + (uint64_t)timeout_ns;
}

/* Copies as much of a text as there is room for (at least its end). snprintf() would do, but took a
 * tenth of the time of a small message. */
static inline void haul_copy_text(char *to, size_t room, const char *text)
{
    size_t length = strnlen(text, room - 1);
    memmove(to, text, length);
    to[length] = '\0';
}

/* Appends to a text, as far as there is room. */
static inline void haul_append_text(char *text, size_t room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static inline void haul_append_text(char *text, size_t room, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, room - used, format, arguments);
    va_end(arguments);
}

static inline size_t haul_align_up(size_t value, size_t power_of_two)
{
    return (value + power_of_two - 1) & ~(power_of_two - 1);
}

/* *sum += value and *product *= value; false, and nothing changed, if that overflows. */
static inline bool haul_add_u64(uint64_t *sum, uint64_t value)
{
    uint64_t result;
    if (__builtin_add_overflow(*sum, value, &result))
        return false;
    *sum = result;
    return true;
}

static inline bool haul_mul_u64(uint64_t *product, uint64_t value)
{
    uint64_t result;
    if (__builtin_mul_overflow(*product, value, &result))
        return false;
    *product = result;
    return true;
}

/* An array of `count` items with room for one more: it may have moved. NULL: no memory, and it is
 * as it was. */
static inline void *haul_grow(void *items, size_t *capacity, size_t count, size_t item_bytes)
{
    enum { STEP = 8 };
    if (count < *capacity)
        return items;
    void *grown = realloc(items, (*capacity + STEP) * item_bytes);
    if (grown)
        *capacity += STEP;
    return grown;
}

/* A doubly linked ring with the list as its own sentinel. A node that is in no list links to
 * itself. */
struct haul_list {
    struct haul_list *next, *previous;
};

static inline void haul_list_init(struct haul_list *list)
{
    list->next = list->previous = list;
}

static inline bool haul_list_empty(const struct haul_list *list)
{
    return list->next == list;
}

static inline void haul_list_append(struct haul_list *list, struct haul_list *node)
{
    node->next = list;
    node->previous = list->previous;
    list->previous->next = node;
    list->previous = node;
}

static inline void haul_list_prepend(struct haul_list *list, struct haul_list *node)
{
    haul_list_append(list->next, node);
}

static inline void haul_list_remove(struct haul_list *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    haul_list_init(node);
}

static inline struct haul_list *haul_list_pop(struct haul_list *list)
{
    struct haul_list *node = list->next;
    haul_list_remove(node);
    return node;
}

#define HAUL_LIST_FIRST(list, type, member) HAUL_CONTAINER_OF((list)->next, type, member)
/* Walks a list; the node may be removed in the body. */
#define HAUL_LIST_EACH(list, node)                                                         \
    for (struct haul_list *node = (list)->next, *node##_next = node->next; node != (list); \
         node = node##_next, node##_next = node->next)

#endif
