/* SPDX-License-Identifier: Apache-2.0
 * The speed of the network link that `haul bench --connect` uses. */
#include "bench.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The host of "host:port", "[v6]:port", with or without "tcp://"; NULL if there is none. */
static char *host_of(const char *address)
{
    static const char scheme[] = "tcp://";
    if (strncmp(address, scheme, sizeof(scheme) - 1) == 0)
        address += sizeof(scheme) - 1;
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || strncmp(address, "unix:", 5) == 0)
        return NULL;
    size_t bytes = (size_t)(colon - address);
    if (*address == '[' && address[bytes - 1] == ']') {
        address++;
        bytes -= 2;
    }
    return strndup(address, bytes);
}

/* Our own address on the way to that host. (Connecting a datagram socket sends nothing.) */
static bool local_address(const char *host, struct sockaddr_storage *local)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found;
    if (getaddrinfo(host, "9", &hints, &found) != 0)
        return false;
    int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof(*local);
    bool known = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                 getsockname(fd, (struct sockaddr *)local, &size) == 0;
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
    return known;
}

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    if (!a || a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)(const void *)a)->sin_addr,
                      &((const struct sockaddr_in *)(const void *)b)->sin_addr,
                      sizeof(struct in_addr)) == 0;
    return a->sa_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

/* The kernel gives it in Mbit/s, or -1, or no such file (loopback). */
static double interface_bytes_s(const char *name)
{
    char path[128];
    double mbit = 0;
    snprintf(path, sizeof(path), "/sys/class/net/%s/speed", name);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%lf", &mbit) != 1 || mbit < 0)
        mbit = 0;
    fclose(file);
    return mbit * 1e6 / 8;
}

double bench_link_bytes_s(const char *address)
{
    struct sockaddr_storage local;
    struct ifaddrs *interfaces;
    char *host = host_of(address);
    bool known = host && local_address(host, &local);
    free(host);
    if (!known || getifaddrs(&interfaces) != 0)
        return 0;
    double speed = 0;
    for (struct ifaddrs *i = interfaces; i && speed == 0; i = i->ifa_next)
        if (same_host(i->ifa_addr, (const struct sockaddr *)&local))
            speed = interface_bytes_s(i->ifa_name);
    freeifaddrs(interfaces);
    return speed;
}
