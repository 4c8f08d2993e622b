/* SPDX-License-Identifier: Apache-2.0
 * Which of a peer's rails each of ours reads from.
 *
 * Where NICs of both sides are in one IPv4 network, only such pairs are used: others may be out of
 * reach, or reached by a detour. Else (routed, no IPv4, all interfaces) they are counted off.
 * Either side may have more; then some of ours read from the same one, or some of theirs are not
 * read from. */
#include "ofi.h"

#include <ifaddrs.h>
#include <string.h>

static bool address_of(const void *name, size_t bytes, struct sockaddr_in *address)
{
    if (!name || bytes < sizeof *address)
        return false;
    memcpy(address, name, sizeof *address);
    return address->sin_family == AF_INET;
}

void haul_ofi_note_network(struct haul_ofi_rail *rail)
{
    struct sockaddr_in own, other;
    struct ifaddrs *interfaces;
    if (rail->info->addr_format != FI_SOCKADDR_IN ||
        !address_of(rail->info->src_addr, rail->info->src_addrlen, &own) ||
        own.sin_addr.s_addr == INADDR_ANY || getifaddrs(&interfaces))
        return;
    rail->address = own.sin_addr.s_addr;
    for (const struct ifaddrs *at = interfaces; at; at = at->ifa_next)
        if (at->ifa_netmask && address_of(at->ifa_addr, sizeof other, &other) &&
            other.sin_addr.s_addr == rail->address &&
            address_of(at->ifa_netmask, sizeof other, &other))
            rail->netmask = other.sin_addr.s_addr;
    freeifaddrs(interfaces);
}

static bool is_near(const struct haul_ofi_rail *rail, const uint8_t *name, size_t bytes)
{
    struct sockaddr_in theirs;
    return rail->netmask && address_of(name, bytes, &theirs) &&
           ((rail->address ^ theirs.sin_addr.s_addr) & rail->netmask) == 0;
}

/* How many of our rails before this one are in its network: they share what the peer has there. */
static unsigned count_before(const struct haul_ofi *ofi, unsigned index)
{
    const struct haul_ofi_rail *rail = &ofi->rails[index];
    unsigned before = 0;
    for (unsigned i = 0; i < index; i++)
        before += ofi->rails[i].netmask == rail->netmask &&
                  ((ofi->rails[i].address ^ rail->address) & rail->netmask) == 0;
    return before;
}

void haul_ofi_pair(const struct haul_ofi *ofi, const uint8_t *addresses, size_t bytes,
                   unsigned count, unsigned theirs[HAUL_OFI_RAILS_MAX])
{
    bool any = false;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        unsigned near[HAUL_OFI_RAILS_MAX], near_count = 0;
        for (unsigned j = 0; j < count; j++)
            if (is_near(&ofi->rails[i], addresses + j * bytes, bytes))
                near[near_count++] = j;
        theirs[i] = near_count ? near[count_before(ofi, i) % near_count] : HAUL_OFI_NO_RAIL;
        any |= near_count > 0;
    }
    for (unsigned i = 0; i < ofi->rail_count && !any; i++)
        theirs[i] = i % count;
}
