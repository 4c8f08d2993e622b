/* SPDX-License-Identifier: Apache-2.0
 * A cursor over the source text of Python literals. */
#include "literal.h"

#include <string.h>

static void skip_space(struct haul_literal *literal)
{
    while (literal->at < literal->end && strchr(" \t\r\n", *literal->at) && *literal->at)
        literal->at++;
}

bool haul_literal_at_end(struct haul_literal *literal)
{
    skip_space(literal);
    return literal->at == literal->end;
}

char haul_literal_peek(struct haul_literal *literal)
{
    return haul_literal_at_end(literal) ? 0 : *literal->at;
}

bool haul_literal_take(struct haul_literal *literal, char character)
{
    if (haul_literal_at_end(literal) || *literal->at != character)
        return false;
    literal->at++;
    return true;
}

bool haul_literal_word(struct haul_literal *literal, const char *word)
{
    size_t bytes = strlen(word);
    skip_space(literal);
    if ((size_t)(literal->end - literal->at) < bytes || memcmp(literal->at, word, bytes) != 0)
        return false;
    literal->at += bytes;
    return true;
}

bool haul_literal_string(struct haul_literal *literal, const char **text, size_t *bytes)
{
    char quote = haul_literal_peek(literal);
    if (quote != '\'' && quote != '"')
        return false;
    const char *start = literal->at + 1;
    for (const char *at = start; at < literal->end; at++) {
        bool escaped = *at == '\\';
        if (escaped && ++at == literal->end)
            return false;
        if ((unsigned char)*at < ' ')
            return false; /* Python writes control characters as escapes */
        if (!escaped && *at == quote) {
            *text = start;
            *bytes = (size_t)(at - start);
            literal->at = at + 1;
            return true;
        }
    }
    return false;
}

bool haul_literal_integer(struct haul_literal *literal, uint64_t *value)
{
    skip_space(literal);
    const char *at = literal->at;
    uint64_t result = 0;
    for (; at < literal->end && *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (result > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        result = result * 10 + digit;
    }
    if (at == literal->at)
        return false;
    if (at < literal->end && *at == 'L')
        at++;
    literal->at = at;
    *value = result;
    return true;
}

bool haul_literal_tuple(struct haul_literal *literal, uint64_t *values, uint32_t max,
                        uint32_t *count)
{
    struct haul_literal cursor = *literal;
    uint32_t n = 0;
    bool comma = false;
    if (!haul_literal_take(&cursor, '('))
        return false;
    while (!haul_literal_take(&cursor, ')')) {
        if ((n > 0 && !comma) || n == max || !haul_literal_integer(&cursor, &values[n]))
            return false;
        n++;
        comma = haul_literal_take(&cursor, ',');
    }
    if (n == 1 && !comma)
        return false; /* "(3)" is a number in Python, no tuple */
    *count = n;
    *literal = cursor;
    return true;
}
