/* SPDX-License-Identifier: Apache-2.0
 * Which network interface of this host has an address. */
#include "interface.h"

#include "util.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

/* Behind a '%' is the zone of a link-local address, which several interfaces may have: the name of
 * one. */
static bool has_address(const struct ifaddrs *interface, const char *text)
{
    char own[INET6_ADDRSTRLEN];
    const struct sockaddr *address = interface->ifa_addr;
    size_t length = strcspn(text, "%");
    const void *bytes = NULL;
    if (address && address->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address && address->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (!bytes || !inet_ntop(address->sa_family, bytes, own, sizeof own))
        return false;
    if (strlen(own) != length || strncmp(own, text, length) != 0)
        return false;
    return !text[length] || !strcmp(text + length + 1, interface->ifa_name);
}

/* name: NULL, or for the interface's name. */
static bool find(const char *address, bool with_loopback, char *name)
{
    struct ifaddrs *interfaces;
    bool found = false;
    if (!*address || getifaddrs(&interfaces))
        return false;
    for (const struct ifaddrs *at = interfaces; at && !found; at = at->ifa_next) {
        bool passed = at->ifa_flags & IFF_LOOPBACK && !with_loopback;
        found = !passed && has_address(at, address);
        if (found && name)
            haul_copy_text(name, HAUL_DEVICE_NAME_MAX, at->ifa_name);
    }
    freeifaddrs(interfaces);
    return found;
}

bool haul_interface_find(const char *address, char name[static HAUL_DEVICE_NAME_MAX])
{
    return find(address, false, name);
}

bool haul_interface_has(const char *address)
{
    return find(address, true, NULL);
}
