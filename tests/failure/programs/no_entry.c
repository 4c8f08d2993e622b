/* SPDX-License-Identifier: Apache-2.0
 * A shared object of that name that is no plugin. */
#include <haul/error.h>

HAUL_API extern const int no_entry;

const int no_entry = 1;
