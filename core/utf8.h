/* SPDX-License-Identifier: Apache-2.0
 * Strict UTF-8 (RFC 3629): text from users and peers is checked before it is kept, and cleaned
 * before it is shown. */
#ifndef HAUL_CORE_UTF8_H
#define HAUL_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool haul_utf8_valid(const char *text, size_t bytes);
/* Valid, and without control characters (C0 with NUL, DEL, C1). */
bool haul_utf8_printable(const char *text, size_t bytes);
/* Copies text so that it is printable: '?' for each byte that is not, "..." at the end of what does
 * not fit (less of it where size is below 4). Returns the bytes written before the final NUL. */
size_t haul_utf8_clean(char *to, size_t size, const char *text, size_t bytes);

#endif
