/* SPDX-License-Identifier: Apache-2.0
 * A library that needs_vanished.c is linked against and cannot be found when it is loaded. */
#include <haul/error.h>

HAUL_API int vanished(void);

int vanished(void)
{
    return 0;
}
