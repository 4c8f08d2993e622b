/* SPDX-License-Identifier: Apache-2.0
 * Where a process runs, and whether two of them can share memory. */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_unknown(const char *file)
{
    return haul_shm_host->fail(HAUL_UNSUPPORTED,
                               "%s cannot be read (%s), by which processes of one host are known",
                               file, strerror(errno));
}

/* 36 characters, hexadecimal with dashes. */
static int read_boot_id(uint8_t boot[16])
{
    static const char file[] = "/proc/sys/kernel/random/boot_id";
    char text[36];
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_unknown(file);
    ssize_t got = read(fd, text, sizeof text);
    close(fd);
    if (got != sizeof text)
        return fail_unknown(file);
    unsigned digits = 0;
    memset(boot, 0, 16);
    for (size_t i = 0; i < sizeof text && digits < 32; i++) {
        if (text[i] == '-')
            continue;
        unsigned digit = (unsigned)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
        boot[digits / 2] = (uint8_t)((unsigned)boot[digits / 2] << 4 | digit);
        digits++;
    }
    return 0;
}

static int read_namespace(const char *file, uint64_t *inode)
{
    struct stat status;
    if (stat(file, &status))
        return fail_unknown(file);
    *inode = status.st_ino;
    return 0;
}

int haul_shm_place_find(struct haul_shm_place *place)
{
    place->pid = (uint32_t)getpid();
    place->uid = geteuid();
    int err = read_boot_id(place->boot);
    if (!err)
        err = read_namespace("/proc/self/ns/pid", &place->pid_namespace);
    if (!err)
        err = read_namespace("/proc/self/ns/user", &place->user_namespace);
    if (!err)
        err = read_namespace("/proc/self/ns/net", &place->net_namespace);
    return err;
}

int haul_shm_place_compare(const struct haul_shm_place *ours, const struct haul_shm_place *theirs)
{
    const char *why = NULL;
    if (memcmp(ours->boot, theirs->boot, sizeof ours->boot) != 0)
        why = "on another host";
    else if (ours->net_namespace != theirs->net_namespace)
        why = "in another network namespace (a container of its own?)";
    else if (ours->pid_namespace != theirs->pid_namespace)
        why = "in another PID namespace (a container of its own?)";
    else if (ours->user_namespace != theirs->user_namespace)
        why = "in another user namespace (a container of its own?)";
    else if (ours->uid != theirs->uid)
        why = "as another user";
    if (!why)
        return 0;
    return haul_shm_host->fail(HAUL_UNSUPPORTED, "the other process runs %s", why);
}
