/* SPDX-License-Identifier: Apache-2.0
 * `haul doctor`: variables of libfabric and libibverbs that change what haul's reads do. haul sets
 * none of them: they are the user's. */
#include "doctor.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_any(const char *value)
{
    (void)value;
    return true;
}

static bool is_on(const char *value)
{
    return !strcasecmp(value, "1") || !strcasecmp(value, "on") || !strcasecmp(value, "true") ||
           !strcasecmp(value, "yes");
}

static bool is_chatty(const char *value)
{
    return !strcasecmp(value, "debug") || !strcasecmp(value, "trace") || !strcasecmp(value, "info");
}

/* A value that hurts: what it does, and what to do. */
static const struct variable {
    const char *name;
    bool (*hurts)(const char *value);
    enum haul_finding_state state;
    const char *effect, *advice;
} variables[] = {
    {"FI_PROVIDER", is_any, HAUL_FINDING_NOTE, "libfabric hides all other providers from haul",
     "unset it, and choose with HAUL_PROVIDER=ofi:KIND"},
    {"FI_VERBS_DEVICE_NAME", is_any, HAUL_FINDING_NOTE,
     "libfabric hides all other devices of verbs from haul",
     "unset it, and choose with HAUL_NIC=DEVICE"},
    {"FI_VERBS_IFACE", is_any, HAUL_FINDING_NOTE, "libfabric uses verbs by this interface only",
     "unset it, and choose with HAUL_NIC=DEVICE"},
    {"FI_TCP_IFACE", is_any, HAUL_FINDING_NOTE, "libfabric uses tcp by this interface only",
     "unset it, and choose with HAUL_NIC=INTERFACE"},
    {"FI_NET_IFACE", is_any, HAUL_FINDING_NOTE, "libfabric uses net by this interface only",
     "unset it, and choose with HAUL_NIC=INTERFACE"},
    {"FI_OFI_RXM_USE_RNDV_WRITE", is_on, HAUL_FINDING_WARNING,
     "versions of libfabric before 1.18.3, 1.19.1 and 1.20.1 corrupt data with it", "unset it"},
    {"FI_VERBS_USE_ODP", is_on, HAUL_FINDING_WARNING,
     "registered memory is faulted in by the NIC while it is read, which is slow",
     "unset it: haul's pools are faulted in already"},
    {"FI_SHM_DISABLE_CMA", is_on, HAUL_FINDING_NOTE, "ofi:shm copies every byte twice", "unset it"},
    {"FI_LOG_LEVEL", is_chatty, HAUL_FINDING_NOTE, "libfabric logs so much that it gets slow",
     "unset it when the fault is found"},
    {"RDMAV_HUGEPAGES_SAFE", is_any, HAUL_FINDING_NOTE,
     "each registration looks at the page size of its memory", "unset it: haul needs it not"},
    {"RDMAV_FORK_SAFE", is_any, HAUL_FINDING_NOTE,
     "each registration marks its pages as not for children, which takes longer",
     "unset it, unless the process forks without exec: kernels from 5.12 need it not"},
};

/* On by default, and used by verbs, efa and cxi. */
static bool check_registration_cache(struct haul_doctor *doctor)
{
    const char *monitor = getenv("FI_MR_CACHE_MONITOR"), *count = getenv("FI_MR_CACHE_MAX_COUNT");
    bool is_set = monitor && *monitor;
    bool is_off = (is_set && !strcasecmp(monitor, "disabled")) || (count && !strcmp(count, "0"));
    if (is_off || (!is_set && !haul_doctor_has_rdma(doctor)))
        return false;
    haul_doctor_find(doctor, HAUL_FINDING_NOTE, "environment",
                     "set FI_MR_CACHE_MONITOR=disabled where arrays come from haul_dict_alloc(), "
                     "and no other library of the process needs the cache",
                     "FI_MR_CACHE_MONITOR=%s: libfabric's registration cache keeps memory pinned "
                     "after its use, and watches the process's calls for memory; haul gains from "
                     "it only where the same arrays of the user's are sent again and again",
                     is_set ? monitor : "");
    return true;
}

static bool check_variable(struct haul_doctor *doctor, const struct variable *variable)
{
    const char *value = getenv(variable->name);
    if (!value || !*value || !variable->hurts(value))
        return false;
    haul_doctor_find(doctor, variable->state, "environment", variable->advice, "%s=%s: %s",
                     variable->name, value, variable->effect);
    return true;
}

void haul_doctor_environment(struct haul_doctor *doctor)
{
    bool any = check_registration_cache(doctor);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        any |= check_variable(doctor, &variables[i]);
    if (!any)
        haul_doctor_find(doctor, HAUL_FINDING_OK, "environment", NULL,
                         "no variable of libfabric or libibverbs is in the way");
}
