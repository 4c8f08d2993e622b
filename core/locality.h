/* SPDX-License-Identifier: Apache-2.0
 * Where to work on a machine: which NICs (rails), which nodes' memory, which cores. A function of
 * the topology, of what a user wishes and of what a provider can use, and of nothing else. */
#ifndef HAUL_CORE_LOCALITY_H
#define HAUL_CORE_LOCALITY_H

#include "topology.h"

enum { HAUL_RAILS_MAX = 8, HAUL_WISHED_NICS_MAX = 16 };

enum haul_bind {
    HAUL_BIND_AUTO,  /* to the NICs */
    HAUL_BIND_NONE,  /* nothing is bound */
    HAUL_BIND_NUMA,  /* to nodes */
    HAUL_BIND_CORES, /* to CPUs, and to the memory of their nodes */
    HAUL_BIND_PCI,   /* to a PCI device, and the NICs on it */
};

struct haul_wish {
    enum haul_bind bind;
    struct haul_set numbers; /* of nodes or CPUs */
    char pci[HAUL_PCI_MAX];
    char nics[HAUL_WISHED_NICS_MAX][HAUL_DEVICE_NAME_MAX]; /* in the order to use them */
    size_t nic_count;                                      /* 0: any */
    unsigned rails;                                        /* 0: as many as are near */
};

/* bind: "auto", "none", "numa:1", "cores:0-3,8", "pci:0000:41:00.0" ("41:00.0"); nics:
 * "mlx5_0,mlx5_1", "" for any; rails: "auto" or a number. Errors: HAUL_CONFIG. */
int haul_wish_parse(const char *bind, const char *nics, const char *rails, struct haul_wish *wish);

/* A NIC that a provider could use; names and PCI addresses are found in the topology. */
struct haul_nic {
    char name[HAUL_DEVICE_NAME_MAX];
    char pci[HAUL_PCI_MAX]; /* "" : by name */
};

struct haul_locality {
    size_t rails[HAUL_RAILS_MAX]; /* indexes of NICs, best first */
    size_t rail_count;            /* 0: no NIC decides */
    struct haul_set nodes;        /* for memory; empty: it is not bound */
    struct haul_set cpus;         /* for threads; empty: they are not bound */
    char why[256];                /* the reasons, a sentence */
    char unmet[256];              /* what was wished and cannot be; "" : nothing */
};

/* Chooses among `nics`, of which there may be none. */
void haul_locality_choose(const struct haul_topology *topology, const struct haul_wish *wish,
                          const struct haul_nic *nics, size_t nic_count,
                          struct haul_locality *locality);
/* The NICs of a topology that data could take if no provider has a say: all if the wish names some,
 * else devices of fabrics, else interfaces. At most max; returns how many. */
size_t haul_locality_nics(const struct haul_topology *topology, const struct haul_wish *wish,
                          struct haul_nic *nics, size_t max);

#endif
