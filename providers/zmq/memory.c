/* SPDX-License-Identifier: Apache-2.0
 * The memory that libzmq receives into. It comes from malloc() for each part, and malloc() by
 * itself gives large blocks back to the system as soon as they are freed, so that each message has
 * its pages faulted in anew: that costs more than copying them. libzmq takes no allocator, so a
 * server tells glibc's malloc() to keep what it has. That is a matter of the whole process; hence
 * the setting. */
#include "channel.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Whether the user has tuned malloc() himself. */
static bool is_tuned(void)
{
    static const char *const variables[] = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_",
                                            "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        if (getenv(variables[i]))
            return true;
    const char *tunables = getenv("GLIBC_TUNABLES");
    return tunables && strstr(tunables, "glibc.malloc.");
}

static void keep(void)
{
#ifdef __GLIBC__
    enum {
        HEAP_BYTES = 64 << 20, /* of the heaps that threads' arenas consist of */
    };
    if (is_tuned())
        return;
    mallopt(M_MMAP_THRESHOLD, HEAP_BYTES / 2); /* its largest value: blocks up to this are kept */
    mallopt(M_TOP_PAD, HEAP_BYTES);            /* so much free memory, a whole heap, is kept */
    mallopt(M_TRIM_THRESHOLD, 2 * HEAP_BYTES);
    haul_zmq_host->log(HAUL_LOG_DEBUG, "zmq: malloc() keeps freed memory from now on "
                                       "(HAUL_ZMQ_KEEP_MEMORY)");
#endif
}

void haul_zmq_memory_keep(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, keep);
}
