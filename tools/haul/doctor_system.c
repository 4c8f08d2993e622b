/* SPDX-License-Identifier: Apache-2.0
 * `haul doctor`: limits of the process, read as the kernel tells them, and settings of the kernel.
 */
#include "config.h"
#include "doctor.h"

#include "command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A soft limit of /proc/self/limits; UINT64_MAX: unlimited. */
static bool read_limit(struct haul_doctor *doctor, const char *area, const char *key,
                       uint64_t *limit)
{
    char value[HAUL_DOCTOR_TEXT];
    *limit = UINT64_MAX;
    if (haul_doctor_field(doctor, "/proc/self/limits", key, value) &&
        (!strncmp(value, "unlimited", 9) || sscanf(value, "%" SCNu64, limit) == 1))
        return true;
    haul_doctor_find(doctor, HAUL_FINDING_NOTE, area, "mount /proc, and look again",
                     "/proc/self/limits does not tell this limit");
    return false;
}

static uint64_t pool_max(const struct haul_doctor *doctor)
{
    char value[HAUL_DOCTOR_TEXT];
    uint64_t bytes = 0;
    sscanf(haul_doctor_setting(doctor, "pool_max", value), "%" SCNu64, &bytes);
    return bytes;
}

/* ---- Locked memory -------------------------------------------------------------------------- */

/* The kernel does not count what a process with CAP_IPC_LOCK (root) locks. */
static bool memlock_is_ignored(const struct haul_doctor *doctor)
{
    enum { CAP_IPC_LOCK_BIT = 14 };
    char value[HAUL_DOCTOR_TEXT];
    uint64_t effective = 0;
    return haul_doctor_field(doctor, "/proc/self/status", "CapEff:", value) &&
           sscanf(value, "%" SCNx64, &effective) == 1 && effective >> CAP_IPC_LOCK_BIT & 1;
}

void haul_doctor_memlock(struct haul_doctor *doctor)
{
    static const char advice[] =
        "add the lines \"* soft memlock unlimited\" and \"* hard memlock unlimited\" to "
        "/etc/security/limits.conf and log in anew (systemd: LimitMEMLOCK=infinity; containers: "
        "--ulimit memlock=-1)";
    char limit_text[HAUL_BYTES_TEXT], need_text[HAUL_BYTES_TEXT];
    uint64_t limit, need = 2 * pool_max(doctor); /* received memory, and that of offers */
    if (!read_limit(doctor, "memlock", "Max locked memory", &limit))
        return;
    if (limit == UINT64_MAX) {
        haul_doctor_find(doctor, HAUL_FINDING_OK, "memlock", NULL, "locked memory is not limited");
        return;
    }
    haul_bytes_text(limit, limit_text);
    haul_bytes_text(need, need_text);
    if (memlock_is_ignored(doctor))
        haul_doctor_find(doctor, HAUL_FINDING_OK, "memlock", NULL,
                         "the limit of locked memory is %s, and does not hold for this process "
                         "(CAP_IPC_LOCK); others of this user may be limited",
                         limit_text);
    else if (limit >= need)
        haul_doctor_find(doctor, HAUL_FINDING_OK, "memlock", NULL,
                         "%s of memory may be locked; the pools need at most %s", limit_text,
                         need_text);
    else
        haul_doctor_find(
            doctor, haul_doctor_has_rdma(doctor) ? HAUL_FINDING_WARNING : HAUL_FINDING_NOTE,
            "memlock", advice,
            "only %s of memory may be locked (ulimit -l): an RDMA NIC locks what it is given, "
            "here up to %s (2 x HAUL_POOL_MAX), and refuses what is beyond the limit",
            limit_text, need_text);
}

/* ---- Open files ----------------------------------------------------------------------------- */

void haul_doctor_files(struct haul_doctor *doctor)
{
    enum { FEW = 256, SOME = 4096 };
    uint64_t limit;
    if (!read_limit(doctor, "files", "Max open files", &limit))
        return;
    if (limit == UINT64_MAX)
        haul_doctor_find(doctor, HAUL_FINDING_OK, "files", NULL, "open files are not limited");
    else if (limit >= SOME)
        haul_doctor_find(doctor, HAUL_FINDING_OK, "files", NULL,
                         "%" PRIu64 " files may be open at once", limit);
    else
        haul_doctor_find(doctor, limit < FEW ? HAUL_FINDING_WARNING : HAUL_FINDING_NOTE, "files",
                         "for servers of more peers: ulimit -n 65536 (systemd: LimitNOFILE=65536; "
                         "for good: \"* - nofile 65536\" in /etc/security/limits.conf)",
                         "%" PRIu64 " files may be open at once (ulimit -n), and each connection "
                         "of a server takes one",
                         limit);
}

/* ---- The kernel ----------------------------------------------------------------------------- */

/* For HAUL_HUGEPAGES=require. */
static void check_reserved_pages(struct haul_doctor *doctor)
{
    static const char file[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    char line[HAUL_DOCTOR_TEXT];
    unsigned long pages = haul_doctor_line(doctor, line, "%s", file) ? strtoul(line, NULL, 10) : 0;
    if (pages > 0)
        haul_doctor_find(doctor, HAUL_FINDING_OK, "hugepages", NULL,
                         "reserved huge pages of 2 MiB that are free: %lu", pages);
    else
        haul_doctor_find(doctor, HAUL_FINDING_BROKEN, "hugepages",
                         "reserve some, as root: sysctl vm.nr_hugepages=NUMBER (of 2 MiB each, as "
                         "many as HAUL_POOL_MAX); or set HAUL_HUGEPAGES=auto",
                         "HAUL_HUGEPAGES=require, and no reserved huge page is free");
}

void haul_doctor_huge_pages(struct haul_doctor *doctor)
{
    char setting[HAUL_DOCTOR_TEXT];
    if (!strcmp(haul_doctor_setting(doctor, "hugepages", setting), "require")) {
        check_reserved_pages(doctor);
        return;
    }
    static const char file[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    char line[HAUL_DOCTOR_TEXT];
    bool there = haul_doctor_line(doctor, line, "%s", file);
    if (there && (strstr(line, "[always]") || strstr(line, "[madvise]")))
        haul_doctor_find(doctor, HAUL_FINDING_OK, "hugepages", NULL,
                         "the pools get transparent huge pages (%s)",
                         strstr(line, "[always]") ? "always" : "madvise");
    else if (there)
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "hugepages",
                         "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, as root; for "
                         "good: transparent_hugepage=madvise on the kernel's command line",
                         "no huge pages: transparent ones are switched off (%s), so memory is "
                         "faulted in and registered in pages of 4 KiB: it works, a little slower",
                         line);
    else
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "hugepages",
                         "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE, if speed matters",
                         "no huge pages: the kernel has no %s; it works, a little slower", file);
}

void haul_doctor_ptrace(struct haul_doctor *doctor)
{
    char line[HAUL_DOCTOR_TEXT];
    int scope;
    if (!haul_doctor_line(doctor, line, "/proc/sys/kernel/yama/ptrace_scope") ||
        sscanf(line, "%d", &scope) != 1 || scope == 0) {
        haul_doctor_find(doctor, HAUL_FINDING_OK, "ptrace", NULL,
                         "processes of one user may read each other's memory (process_vm_readv)");
        return;
    }
    haul_doctor_find(doctor, HAUL_FINDING_NOTE, "ptrace",
                     "nothing for tcp, zmq, NICs and arrays that are given (haul_dict_give); else: "
                     "sysctl kernel.yama.ptrace_scope=0, for good in /etc/sysctl.d",
                     "kernel.yama.ptrace_scope is %d: %s, so that with shm the sender copies, and "
                     "ofi:shm copies once more",
                     scope,
                     scope == 1   ? "a process may read the memory of its own children only"
                     : scope == 2 ? "only root may read other processes' memory"
                                  : "no process may read another's memory, until the next boot");
}

/* ---- Memory --------------------------------------------------------------------------------- */

void haul_doctor_cgroup(struct haul_doctor *doctor)
{
    char limit_text[HAUL_BYTES_TEXT], pool_text[HAUL_BYTES_TEXT];
    const uint64_t none = UINT64_C(1) << 62; /* cgroups v1 write such numbers for no limit */
    uint64_t limit = haul_cgroup_memory_bytes(doctor->root), pool = pool_max(doctor);
    haul_bytes_text(limit, limit_text);
    haul_bytes_text(pool, pool_text);
    if (limit >= none)
        haul_doctor_find(doctor, HAUL_FINDING_OK, "cgroup", NULL,
                         "no cgroup limits this process's memory; HAUL_POOL_MAX is %s", pool_text);
    else if (pool > limit)
        haul_doctor_find(
            doctor, HAUL_FINDING_WARNING, "cgroup",
            "unset HAUL_POOL_MAX (it is then a quarter of the limit), set it lower, "
            "or raise the limit: memory.max of the cgroup, or the container's --memory",
            "the cgroup allows %s of memory, less than HAUL_POOL_MAX, %s: the kernel "
            "kills the process when the pool grows",
            limit_text, pool_text);
    else if (pool > limit / 2)
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "cgroup",
                         "set HAUL_POOL_MAX to less than half of the limit, if arrays are both "
                         "received and made with haul_dict_alloc()",
                         "the cgroup allows %s of memory; received memory and that of "
                         "haul_dict_alloc() may take HAUL_POOL_MAX, %s, each",
                         limit_text, pool_text);
    else
        haul_doctor_find(doctor, HAUL_FINDING_OK, "cgroup", NULL,
                         "the cgroup allows %s of memory; HAUL_POOL_MAX is %s", limit_text,
                         pool_text);
}
