/* SPDX-License-Identifier: Apache-2.0
 * Strict UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#include "utf8.h"

#include "util.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the character that a lead byte begins; 0 if it begins none. */
static size_t length_of_lead(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2) /* a continuation byte, or an overlong form of ASCII */
        return 0;
    if (lead < 0xe0)
        return 2;
    if (lead < 0xf0)
        return 3;
    return lead < 0xf5 ? 4 : 0;
}

/* The length and code point of the first character of text; 0 if it is not strict UTF-8. */
static size_t next_character(const char *text, size_t bytes, uint32_t *code_point)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t length = length_of_lead(at[0]);
    if (length == 0 || length > bytes)
        return 0;
    uint32_t value = length == 1 ? at[0] : at[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3f);
    }
    bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
    bool surrogate = value >= 0xd800 && value < 0xe000;
    if (overlong || surrogate || value > 0x10ffff)
        return 0;
    *code_point = value;
    return length;
}

static bool is_control(uint32_t code_point)
{
    return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
}

bool haul_utf8_valid(const char *text, size_t bytes)
{
    uint32_t code_point;
    for (size_t at = 0, length; at < bytes; at += length)
        if ((length = next_character(text + at, bytes - at, &code_point)) == 0)
            return false;
    return true;
}

bool haul_utf8_printable(const char *text, size_t bytes)
{
    uint32_t code_point;
    for (size_t at = 0, length; at < bytes; at += length) {
        length = next_character(text + at, bytes - at, &code_point);
        if (length == 0 || is_control(code_point))
            return false;
    }
    return true;
}

size_t haul_utf8_clean(char *to, size_t size, const char *text, size_t bytes)
{
    static const char ellipsis[] = "...";
    size_t used = 0, cut = 0; /* cut: how much of `to` may stay before an ellipsis */
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t code_point;
        length = next_character(text + at, bytes - at, &code_point);
        bool printable = length > 0 && !is_control(code_point);
        if (length == 0)
            length = 1;
        size_t written = printable ? length : 1;
        if (used + written >= size) {
            haul_copy_text(to + cut, size - cut, ellipsis);
            return cut + strlen(to + cut);
        }
        memcpy(to + used, printable ? text + at : "?", written);
        used += written;
        if (used + sizeof(ellipsis) <= size)
            cut = used;
    }
    to[used] = '\0';
    return used;
}
