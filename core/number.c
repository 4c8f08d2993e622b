/* SPDX-License-Identifier: Apache-2.0
 * Numbers as people write them: parsing and formatting. */
#include "number.h"

#include "log.h"
#include "util.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

/* Reads decimal digits; returns what follows them, or NULL if there are none or too many. */
static const char *parse_digits(const char *text, uint64_t *number)
{
    *number = 0;
    if (!isdigit((unsigned char)*text))
        return NULL;
    for (; isdigit((unsigned char)*text); text++)
        if (!haul_mul_u64(number, 10) || !haul_add_u64(number, (uint64_t)(*text - '0')))
            return NULL;
    return text;
}

static bool parse_count(const char *text, uint64_t *number)
{
    const char *rest = parse_digits(text, number);
    return rest && *rest == '\0';
}

static void format_count(uint64_t number, char *text, size_t size)
{
    snprintf(text, size, "%" PRIu64, number);
}

static bool parse_size(const char *text, uint64_t *number)
{
    static const char letters[] = "KMGT";
    const char *rest = parse_digits(text, number);
    if (!rest || *rest == '\0')
        return rest;
    const char *letter = strchr(letters, toupper((unsigned char)*rest));
    bool ends_well = rest[1] == '\0' || strcmp(rest + 1, "iB") == 0;
    return letter && ends_well && haul_mul_u64(number, UINT64_C(1024) << 10 * (letter - letters));
}

static bool parse_seconds(const char *text, uint64_t *number)
{
    const char *rest = parse_digits(text, number);
    if (!rest || !haul_mul_u64(number, HAUL_NS_PER_S))
        return false;
    if (*rest == '.') {
        rest++;
        for (uint64_t unit = HAUL_NS_PER_S / 10; isdigit((unsigned char)*rest); unit /= 10, rest++)
            if (unit == 0 || !haul_add_u64(number, unit * (uint64_t)(*rest - '0')))
                return false;
    }
    return *rest == '\0';
}

static void format_seconds(uint64_t number, char *text, size_t size)
{
    int length = snprintf(text, size, "%" PRIu64 ".%09" PRIu64, number / HAUL_NS_PER_S,
                          number % HAUL_NS_PER_S);
    char *end = text + length;
    while (end[-1] == '0')
        end--;
    if (end[-1] == '.')
        end--;
    *end = '\0';
}

static bool parse_level(const char *text, uint64_t *number)
{
    for (*number = HAUL_LOG_ERROR; *number <= HAUL_LOG_DEBUG; ++*number)
        if (strcmp(text, haul_log_level_name((enum haul_log_level) * number)) == 0)
            return true;
    return false;
}

static void format_level(uint64_t number, char *text, size_t size)
{
    snprintf(text, size, "%s", haul_log_level_name((enum haul_log_level)number));
}

const struct haul_number_kind haul_size_kind = {
    .takes = "a size in bytes, such as 4194304, 64M or 2G (K, M, G and T are powers of 1024)",
    .has_range = true,
    .parse = parse_size,
    .format = format_count,
};

const struct haul_number_kind haul_count_kind = {
    .takes = "a whole number",
    .has_range = true,
    .parse = parse_count,
    .format = format_count,
};

const struct haul_number_kind haul_seconds_kind = {
    .takes = "seconds, such as 20 or 0.5",
    .has_range = true,
    .parse = parse_seconds,
    .format = format_seconds,
};

const struct haul_number_kind haul_level_kind = {
    .takes = "error, warning, info or debug",
    .parse = parse_level,
    .format = format_level,
};
