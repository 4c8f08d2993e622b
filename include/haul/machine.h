/* SPDX-License-Identifier: Apache-2.0
 * haul/machine.h: the machine's NUMA nodes and NICs, and where haul works on it. */
#ifndef HAUL_MACHINE_H
#define HAUL_MACHINE_H

#include <haul/context.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A NUMA node. CPUs and nodes are lists as the kernel writes them: "0-3,8". */
struct haul_machine_node {
    unsigned number;
    unsigned package; /* the socket it is in */
    uint64_t bytes;   /* of its memory */
    const char *cpus; /* nearest to it that we may use */
    bool memory_allowed;
    bool special; /* memory that has no CPU of its own, HBM, CXL: not used unasked */
};

/* A network interface or a device of a fabric. */
struct haul_machine_nic {
    const char *name;    /* "eth0", "mlx5_0" */
    const char *kind;    /* "network" or "fabric" */
    const char *pci;     /* "0000:41:00.0", "" : no PCI device */
    const char *carrier; /* of a fabric device in software: its interface; else "" */
    const char *state;   /* "up", "down" or "unknown" */
    uint64_t mbits;      /* per second; 0: not known */
    bool is_virtual;     /* no hardware of its own */
    const char *nodes;   /* nearest to it; "" : not known */
};

/* Where threads and memory go. */
struct haul_place {
    const char *const *nics; /* that carry data, best first */
    size_t nic_count;
    const char *nodes; /* of memory; "" : it is not bound */
    const char *cpus;  /* of threads; "" : they are not bound */
    const char *why;   /* the reasons, a sentence */
    const char *unmet; /* what was wished and cannot be; "" : nothing */
};

struct haul_machine {
    const char *origin;  /* "this machine", or the file */
    const char *unknown; /* why its nodes are not known; "" : they are */
    const struct haul_machine_node *nodes;
    size_t node_count;
    const struct haul_machine_nic *nics;
    size_t nic_count;
    const char *cpus;        /* that we may use */
    const char *own_cpus;    /* where this process is bound to */
    struct haul_place place; /* what the options would choose */
};

/* Looks at this machine, or at one that hwloc's lstopo wrote to an XML file, and at where a context
 * with these options would work on it, if all NICs can be used (options NULL: the environment
 * alone). The caller frees it. Takes some ten milliseconds. Any thread. Errors: HAUL_CONFIG,
 * HAUL_INVALID (no such file, or none of hwloc's), HAUL_UNSUPPORTED (a file, and the library was
 * built without hwloc), HAUL_NO_MEMORY. */
HAUL_API int haul_machine_load(const char *file, const struct haul_options *options,
                               struct haul_machine **machine);
HAUL_API void haul_machine_free(struct haul_machine *machine);

#ifdef __cplusplus
}
#endif
#endif
