/* SPDX-License-Identifier: Apache-2.0
 * Which network interface of this host has an address. */
#ifndef HAUL_CORE_INTERFACE_H
#define HAUL_CORE_INTERFACE_H

#include "topology.h"

/* The interface that has this numeric address ("192.0.2.1", "fe80::1%eth0"), but not loopback.
 * False: none, or it is not known. */
bool haul_interface_find(const char *address, char name[static HAUL_DEVICE_NAME_MAX]);
/* Whether the address is one of this host's, loopback's too. */
bool haul_interface_has(const char *address);

#endif
