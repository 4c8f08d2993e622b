/* SPDX-License-Identifier: Apache-2.0
 * Log lines: one sink for the process, standard error unless haul_log_set() changed it. */
#ifndef HAUL_CORE_LOG_H
#define HAUL_CORE_LOG_H

#include <haul/context.h>

/* Lines above this level are dropped. Set by the newest context opened (setting "log"). */
void haul_log_level_set(enum haul_log_level level);
/* "warning". Never NULL. */
const char *haul_log_level_name(enum haul_log_level level);
/* Writes "haul: warning: ..." as one line. Any thread; not from a signal handler. */
void haul_log(enum haul_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
