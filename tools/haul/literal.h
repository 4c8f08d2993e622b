/* SPDX-License-Identifier: Apache-2.0
 * A cursor over the source text of Python literals: strings, whole numbers and punctuation, as the
 * headers of .npy files hold them. It reads; nothing is ever evaluated. */
#ifndef HAUL_TOOL_LITERAL_H
#define HAUL_TOOL_LITERAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct haul_literal {
    const char *at;
    const char *end;
};

/* All of these skip white space first, and leave the cursor where it was when they answer false. */

bool haul_literal_at_end(struct haul_literal *literal);
/* The next character without taking it; 0 at the end. */
char haul_literal_peek(struct haul_literal *literal);
/* Takes a punctuation character if it is the next one. */
bool haul_literal_take(struct haul_literal *literal, char character);
/* Takes a bare word: True, False. */
bool haul_literal_word(struct haul_literal *literal, const char *word);
/* Takes 'text' or "text". The text is what stands between the quotes, escapes untouched. */
bool haul_literal_string(struct haul_literal *literal, const char **text, size_t *bytes);
/* Takes a whole number from 0 to INT64_MAX, with the L that Python 2 put behind long ones. */
bool haul_literal_integer(struct haul_literal *literal, uint64_t *value);
/* Takes "(2, 3)" into at most `max` numbers. */
bool haul_literal_tuple(struct haul_literal *literal, uint64_t *values, uint32_t max,
                        uint32_t *count);

#endif
