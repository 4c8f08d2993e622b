/* SPDX-License-Identifier: Apache-2.0
 * A level: a descriptor that is readable as long as something holds, for the event loops of users.
 * It is made when it is first asked for. The owner's lock guards it. */
#ifndef HAUL_CORE_LEVEL_H
#define HAUL_CORE_LEVEL_H

#include <stdbool.h>

struct haul_level {
    int fd; /* -1: nobody has asked */
    bool raised;
};

static inline struct haul_level haul_level_none(void)
{
    return (struct haul_level){.fd = -1};
}

/* Errors: HAUL_SYSTEM. */
int haul_level_fd(struct haul_level *level, bool raised);
void haul_level_set(struct haul_level *level, bool raised);
void haul_level_close(struct haul_level *level);

#endif
