/* SPDX-License-Identifier: Apache-2.0
 * What is the same in all hosts on which tests run a provider without core: what it says, clocks,
 * settings, and how a plugin is loaded. */
#ifndef HAUL_TESTS_HOST_BASICS_H
#define HAUL_TESTS_HOST_BASICS_H

#include <haul/provider.h>

#include <stdatomic.h>

enum { HOST_TEXT_BYTES = 512 };

/* What the provider said last: the reason of an error, and a line of the log, of whatever level.
 * Each thread has its own, because a provider may call both from any. */
extern _Thread_local char host_detail[HOST_TEXT_BYTES], host_logged[HOST_TEXT_BYTES];
extern _Thread_local unsigned host_log_lines;

/* Functions for a host's table. */
void host_log(enum haul_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int host_fail(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* CLOCK_MONOTONIC. */
uint64_t host_real_ns(void);
/* A clock that stands still unless a test moves it. */
uint64_t host_still_ns(void);
extern atomic_uint_fast64_t host_clock_ns;

struct setting {
    const char *name, *value;
};
/* settings: NULL, or ends with a NULL name. Returns NULL if there is none of this name. */
const char *host_find_setting(const struct setting *settings, const char *name);

/* The entry of haul_<name>.so in $HAUL_PROVIDER_PATH, where core finds it; NULL with a message. */
haul_provider_entry_fn *host_load_plugin(const char *name);

#endif
