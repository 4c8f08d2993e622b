/* SPDX-License-Identifier: Apache-2.0
 * Numbers as people write them in settings: "64M", "0.5" seconds, "warning". */
#ifndef HAUL_CORE_NUMBER_H
#define HAUL_CORE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One way to write numbers. */
struct haul_number_kind {
    const char *takes; /* completes "it takes ..." */
    bool has_range;    /* whether the least and the most are worth a mention beside it */
    bool (*parse)(const char *text, uint64_t *number);
    void (*format)(uint64_t number, char *text, size_t size);
};
enum { HAUL_NUMBER_TEXT_MAX = 32 }; /* bytes that format() needs, with the NUL */

extern const struct haul_number_kind haul_size_kind;    /* bytes: "4194304", "4M", "4MiB" */
extern const struct haul_number_kind haul_count_kind;   /* "16" */
extern const struct haul_number_kind haul_seconds_kind; /* the number is in ns: "20", "0.5" */
extern const struct haul_number_kind haul_level_kind;   /* enum haul_log_level: "warning" */

#endif
