/* SPDX-License-Identifier: Apache-2.0
 * Where to work on a machine: which NICs (rails), which nodes' memory, which cores. A function of
 * the topology, of what a user wishes and of what a provider can use, and of nothing else. */
#ifndef HAUL_CORE_LOCALITY_H
#define HAUL_CORE_LOCALITY_H

#include "wish.h"

/* A NIC that a provider could use; names and PCI addresses are found in the topology. */
struct haul_nic {
    char name[HAUL_DEVICE_NAME_MAX];
    char pci[HAUL_PCI_MAX]; /* "" : by name */
    bool repeats;           /* it can be several rails */
};

/* A NIC that is used. */
struct haul_rail {
    size_t nic;            /* index of it */
    struct haul_set nodes; /* nearest to it; empty: not known */
    struct haul_set cpus;  /* for a thread of its own; empty: it is not bound */
};

struct haul_locality {
    struct haul_rail rails[HAUL_RAILS_MAX]; /* best first */
    size_t rail_count;                      /* 0: no NIC decides */
    struct haul_set nodes;                  /* for memory; empty: it is not bound */
    struct haul_set cpus;                   /* for threads; empty: they are not bound */
    char why[256];                          /* the reasons, a sentence */
    char unmet[256];                        /* what was wished and cannot be; "" : nothing */
};

/* Chooses among `nics`, of which there may be none, at most `most` of them. */
void haul_locality_choose(const struct haul_topology *topology, const struct haul_wish *wish,
                          const struct haul_nic *nics, size_t nic_count, size_t most,
                          struct haul_locality *locality);
/* Adds to what was wished and cannot be. */
void haul_locality_unmet(struct haul_locality *locality, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
