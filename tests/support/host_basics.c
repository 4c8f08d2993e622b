/* SPDX-License-Identifier: Apache-2.0
 * See host_basics.h. */
#include "host_basics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Thread_local char host_detail[HOST_TEXT_BYTES], host_logged[HOST_TEXT_BYTES];
_Thread_local unsigned host_log_lines;
atomic_uint_fast64_t host_clock_ns = 1000000000;

void host_log(enum haul_log_level level, const char *format, ...)
{
    (void)level;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(host_logged, sizeof host_logged, format, arguments);
    va_end(arguments);
    host_log_lines++;
}

int host_fail(int err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(host_detail, sizeof host_detail, format, arguments);
    va_end(arguments);
    return err;
}

uint64_t host_real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t host_still_ns(void)
{
    return host_clock_ns;
}

const char *host_find_setting(const struct setting *settings, const char *name)
{
    for (const struct setting *set = settings; set && set->name; set++)
        if (strcmp(set->name, name) == 0)
            return set->value;
    return NULL;
}

haul_provider_entry_fn *host_load_plugin(const char *name)
{
    const char *folder = getenv("HAUL_PROVIDER_PATH");
    char path[4096];
    snprintf(path, sizeof path, "%s/haul_%s.so", folder ? folder : ".", name);
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = plugin ? dlsym(plugin, "haul_provider_entry") : NULL;
    if (!symbol)
        print_error("%s (set HAUL_PROVIDER_PATH to the folder of the plugins)\n", dlerror());
    haul_provider_entry_fn *entry;
    memcpy(&entry, &symbol, sizeof entry);
    return entry;
}
