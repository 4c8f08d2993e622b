/* SPDX-License-Identifier: Apache-2.0
 * Addresses as users write them. */
#ifndef HAUL_CORE_ADDRESS_H
#define HAUL_CORE_ADDRESS_H

#include <haul/provider.h>

/* Takes "host:port", "[v6]:port", ":port", "*:port" or "unix:/path" apart; a leading "tcp://" is
 * dropped. Errors: HAUL_ADDRESS with what an address looks like. */
int haul_address_parse(const char *text, struct haul_address *address);

#endif
