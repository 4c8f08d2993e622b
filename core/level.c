/* SPDX-License-Identifier: Apache-2.0
 * Levels are eventfds: readable while their count is not 0. */
#include "level.h"

#include "error.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int haul_level_fd(struct haul_level *level, bool raised)
{
    if (level->fd < 0) {
        level->fd = eventfd(raised, EFD_CLOEXEC | EFD_NONBLOCK);
        level->raised = raised;
    }
    return level->fd >= 0 ? level->fd : haul_fail(HAUL_SYSTEM, "eventfd: %s", strerror(errno));
}

void haul_level_set(struct haul_level *level, bool raised)
{
    uint64_t value = 1;
    if (level->fd < 0 || raised == level->raised)
        return;
    level->raised = raised;
    if (raised)
        (void)!write(level->fd, &value, sizeof value);
    else
        (void)!read(level->fd, &value, sizeof value);
}

void haul_level_close(struct haul_level *level)
{
    if (level->fd >= 0)
        close(level->fd);
    level->fd = -1;
}
