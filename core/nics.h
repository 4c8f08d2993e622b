/* SPDX-License-Identifier: Apache-2.0
 * Which NICs to use. */
#ifndef HAUL_CORE_NICS_H
#define HAUL_CORE_NICS_H

#include "locality.h"

/* Fills the rails of a place, but their CPUs, and what of the wish for them cannot be. home: nodes
 * that they should be near. False: the wish is for a PCI address, and not all of them are there. */
bool haul_nics_choose(const struct haul_topology *topology, const struct haul_wish *wish,
                      const struct haul_set *home, const struct haul_nic *nics, size_t nic_count,
                      size_t most, struct haul_locality *locality);
/* The NICs of a topology that data could take if no provider has a say: all if the wish names some,
 * else devices of fabrics, else interfaces. At most max; returns how many. */
size_t haul_nics_list(const struct haul_topology *topology, const struct haul_wish *wish,
                      struct haul_nic *nics, size_t max);

#endif
