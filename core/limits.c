/* SPDX-License-Identifier: Apache-2.0
 * How much memory and how many CPUs this process may use: the machine, cgroups (v1 and v2),
 * affinity. */
#include "config.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_BYTES = PATH_MAX + 256 };

/* A resource that cgroups limit. The readers return what one cgroup's folder allows. */
struct resource {
    const char *v1_controller;
    uint64_t (*v1)(const char *folder);
    uint64_t (*v2)(const char *folder);
};

/* The first line of folder/name. */
static bool read_line(const char *folder, const char *name, char *line, int size)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool got = fgets(line, size, file);
    fclose(file);
    return got;
}

/* A file that is absent, says "max", or holds no number does not limit. */
static uint64_t read_limit(const char *folder, const char *name)
{
    char line[64];
    uint64_t limit;
    if (!read_line(folder, name, line, sizeof line) || sscanf(line, "%" SCNu64, &limit) != 1)
        return UINT64_MAX;
    return limit;
}

static uint64_t memory_v1(const char *folder)
{
    return read_limit(folder, "memory.limit_in_bytes");
}

static uint64_t memory_v2(const char *folder)
{
    return read_limit(folder, "memory.max");
}

/* A quota of 1.5 CPUs keeps two of them busy. */
static uint64_t cpus_of_quota(int64_t quota_us, int64_t period_us)
{
    if (quota_us <= 0 || period_us <= 0)
        return UINT64_MAX;
    return (uint64_t)(quota_us / period_us + (quota_us % period_us != 0));
}

static uint64_t cpus_v1(const char *folder)
{
    char line[64];
    int64_t quota_us = -1, period_us = -1;
    if (read_line(folder, "cpu.cfs_quota_us", line, sizeof line))
        sscanf(line, "%" SCNd64, &quota_us);
    if (read_line(folder, "cpu.cfs_period_us", line, sizeof line))
        sscanf(line, "%" SCNd64, &period_us);
    return cpus_of_quota(quota_us, period_us);
}

static uint64_t cpus_v2(const char *folder)
{
    char line[64];
    int64_t quota_us, period_us;
    if (!read_line(folder, "cpu.max", line, sizeof line) ||
        sscanf(line, "%" SCNd64 " %" SCNd64, &quota_us, &period_us) != 2)
        return UINT64_MAX;
    return cpus_of_quota(quota_us, period_us);
}

static const struct resource memory = {"memory", memory_v1, memory_v2};
static const struct resource cpus = {"cpu", cpus_v1, cpus_v2};

/* The smallest limit of the cgroup `path` and of all above it. Inside a container `path` may begin
 * with folders that only the host sees: they do not exist here and do not limit. */
static uint64_t smallest_upwards(const char *root, const char *mount, const char *path,
                                 uint64_t (*read)(const char *folder))
{
    char folder[2 * PATH_MAX];
    int mount_length = snprintf(folder, sizeof folder, "%s%s", root, mount);
    if ((size_t)mount_length + strlen(path) >= sizeof folder)
        return UINT64_MAX;
    strcpy(folder + mount_length, path);
    uint64_t smallest = UINT64_MAX;
    for (;;) {
        uint64_t limit = read(folder);
        smallest = HAUL_MIN(smallest, limit);
        char *slash = strrchr(folder + mount_length, '/');
        if (!slash)
            return smallest;
        *slash = '\0';
    }
}

static bool list_has(const char *comma_list, const char *word)
{
    size_t length = strlen(word);
    for (const char *item = comma_list; item; item = strchr(item, ',')) {
        item += *item == ',';
        if (strncmp(item, word, length) == 0 && (item[length] == ',' || item[length] == '\0'))
            return true;
    }
    return false;
}

/* What one line of /proc/self/cgroup, "id:controllers:path", means for a resource. */
static uint64_t limit_of_line(const char *root, char *line, const struct resource *resource)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return UINT64_MAX;
    *controllers++ = '\0';
    *path++ = '\0';
    if (controllers[0] == '\0') { /* v2, alone or beside v1 */
        uint64_t alone = smallest_upwards(root, "/sys/fs/cgroup", path, resource->v2);
        uint64_t beside = smallest_upwards(root, "/sys/fs/cgroup/unified", path, resource->v2);
        return HAUL_MIN(alone, beside);
    }
    if (!list_has(controllers, resource->v1_controller))
        return UINT64_MAX;
    char mount[64];
    snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", resource->v1_controller);
    return smallest_upwards(root, mount, path, resource->v1);
}

static uint64_t cgroup_limit(const char *root, const struct resource *resource)
{
    char path[PATH_MAX], line[LINE_BYTES];
    uint64_t smallest = UINT64_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return smallest;
    while (fgets(line, sizeof line, file)) {
        uint64_t limit = limit_of_line(root, line, resource);
        smallest = HAUL_MIN(smallest, limit);
    }
    fclose(file);
    return smallest;
}

uint64_t haul_cgroup_memory_bytes(const char *root)
{
    return cgroup_limit(root, &memory);
}

uint64_t haul_cgroup_cpus(const char *root)
{
    return cgroup_limit(root, &cpus);
}

uint64_t haul_memory_limit_bytes(void)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t cgroup = haul_cgroup_memory_bytes("");
    return HAUL_MIN(machine, cgroup);
}

/* 0: the kernel knows more CPUs than a set of this size can hold. */
static unsigned affinity_in_set_of(size_t cpu_count)
{
    cpu_set_t *set = CPU_ALLOC(cpu_count);
    size_t bytes = CPU_ALLOC_SIZE(cpu_count);
    unsigned count = 0;
    if (set && sched_getaffinity(0, bytes, set) == 0)
        count = (unsigned)CPU_COUNT_S(bytes, set);
    CPU_FREE(set);
    return count;
}

unsigned haul_cpu_limit(void)
{
    unsigned affinity = 0;
    for (size_t cpu_count = 1024; affinity == 0 && cpu_count <= 1 << 20; cpu_count *= 2)
        affinity = affinity_in_set_of(cpu_count);
    uint64_t quota = haul_cgroup_cpus("");
    return (unsigned)HAUL_MAX(HAUL_MIN(affinity, quota), 1);
}
