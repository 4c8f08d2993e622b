/* SPDX-License-Identifier: Apache-2.0
 * What users wish of the place to work at: settings taken apart. */
#ifndef HAUL_CORE_WISH_H
#define HAUL_CORE_WISH_H

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

#endif
