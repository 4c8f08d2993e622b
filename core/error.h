/* SPDX-License-Identifier: Apache-2.0
 * The calling thread's error detail. */
#ifndef HAUL_CORE_ERROR_H
#define HAUL_CORE_ERROR_H

#include <haul/error.h>

enum { HAUL_DETAIL_MAX = 512 }; /* bytes of a detail sentence, with the NUL */

/* Sets the calling thread's detail and returns err, so that `return haul_fail(...)` reads
 * naturally. */
int haul_fail(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sets the detail to an existing sentence ("" or NULL: the general sentence of err); returns err.
 */
int haul_fail_with(int err, const char *detail);

#endif
