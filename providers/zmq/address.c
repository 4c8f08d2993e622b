/* SPDX-License-Identifier: Apache-2.0
 * Addresses: from what the user wrote to libzmq's endpoints, and back to names for people. */
#include "channel.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static bool is_wildcard(const struct haul_address *address)
{
    return address->host[0] == '\0' || strcmp(address->host, "*") == 0;
}

static const char *lookup_reason(int rc)
{
    switch (rc) {
    case EAI_NONAME:
    case EAI_NODATA:
        return "host not found; check the name";
    case EAI_AGAIN:
        return "the name service did not answer; try again later";
    case EAI_SERVICE:
        return "no such port; it takes a number from 0 to 65535";
    default:
        return gai_strerror(rc);
    }
}

/* One endpoint for each distinct numeric address: libzmq would look at the first alone. */
static void add_endpoint(struct haul_zmq_route *route, const struct addrinfo *info)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (route->endpoint_count == HAUL_ZMQ_ENDPOINTS_MAX ||
        getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return;
    bool v6 = info->ai_family == AF_INET6;
    char *endpoint = route->endpoints[route->endpoint_count];
    snprintf(endpoint, HAUL_ZMQ_ENDPOINT_BYTES, v6 ? "tcp://[%.100s]:%s" : "tcp://%.100s:%s", host,
             port);
    for (size_t i = 0; i < route->endpoint_count; i++)
        if (strcmp(route->endpoints[i], endpoint) == 0)
            return;
    route->endpoint_count++;
}

static int look_up(struct haul_zmq_route *route, const struct haul_address *address, bool listening)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
    if (is_wildcard(address))
        hints.ai_flags = listening ? AI_PASSIVE : 0;
    const char *host = is_wildcard(address) ? NULL : address->host;
    int rc = getaddrinfo(host, address->service, &hints, &found);
    if (rc == EAI_NONAME || rc == EAI_ADDRFAMILY) {
        /* "::1" on a machine that has no other IPv6 address. */
        hints.ai_flags &= ~AI_ADDRCONFIG;
        rc = getaddrinfo(host, address->service, &hints, &found);
    }
    if (rc)
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s: %s", address->text, lookup_reason(rc));
    for (const struct addrinfo *info = found; info; info = info->ai_next)
        add_endpoint(route, info);
    if (listening && is_wildcard(address)) {
        /* libzmq's own wildcard is dual stack, and IPv4 alone where there is no IPv6. */
        route->wildcard = true;
        const char *port = strrchr(route->endpoints[0], ':');
        char any[HAUL_ZMQ_ENDPOINT_BYTES];
        snprintf(any, sizeof any, "tcp://*%s", port ? port : "");
        memcpy(route->endpoints[0], any, sizeof any);
        route->endpoint_count = 1;
    }
    freeaddrinfo(found);
    if (route->endpoint_count == 0)
        return haul_zmq_host->fail(HAUL_ADDRESS, "%s: the host has no usable address",
                                   address->text);
    return 0;
}

int haul_zmq_resolve(void *channel, const struct haul_address *address, bool listening,
                     void **handle)
{
    (void)channel;
    struct haul_zmq_route *route = calloc(1, sizeof *route);
    if (!route)
        return haul_zmq_host->fail(HAUL_NO_MEMORY, "no memory for the address %s", address->text);
    snprintf(route->text, sizeof route->text, "%s", address->text);
    snprintf(route->host, sizeof route->host, "%s", address->host);
    int err = 0;
    if (address->unix_path[0] != '\0') {
        snprintf(route->unix_path, sizeof route->unix_path, "%s", address->unix_path);
        snprintf(route->endpoints[0], sizeof route->endpoints[0], "ipc://%s", address->unix_path);
        route->endpoint_count = 1;
    } else {
        err = look_up(route, address, listening);
    }
    if (err) {
        free(route);
        return err;
    }
    *handle = route;
    return 0;
}

void haul_zmq_route_free(void *route)
{
    free(route);
}

/* libzmq would use IPv4 addresses in their IPv6 form, "::ffff:10.0.0.7", for everything. */
int haul_zmq_endpoint_prepare(struct haul_zmq_source *socket, const char *endpoint)
{
    bool v6 = strchr(endpoint, '[') || strchr(endpoint, '*');
    return haul_zmq_source_set(socket, ZMQ_IPV6, v6);
}

void haul_zmq_bound_name(const struct haul_zmq_route *route, const char *endpoint, char *name,
                         size_t size)
{
    const char *port = strrchr(endpoint, ':');
    if (route->unix_path[0] != '\0')
        snprintf(name, size, "unix:%s", route->unix_path);
    else if (route->wildcard)
        snprintf(name, size, "%s", port);
    else
        snprintf(name, size, strchr(route->host, ':') ? "[%s]%s" : "%s%s", route->host, port);
}

static void print_peer(char *name, size_t size, const char *host, const char *port)
{
    static const char mapped[] = "::ffff:";
    if (strncmp(host, mapped, sizeof mapped - 1) == 0 && strchr(host, '.'))
        host += sizeof mapped - 1;
    snprintf(name, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* libzmq tells the host of a peer only; the socket knows the port too. The descriptor is libzmq's
 * and may by now be another connection's, so its word counts only if the host is the same. */
void haul_zmq_peer_name(const struct haul_zmq_route *route, const char *address, int fd, char *name,
                        size_t size)
{
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof peer;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    const char *pid = route->unix_path[0] != '\0' && address ? strrchr(address, ':') : NULL;
    if (pid) /* the address is user, group and process */
        snprintf(name, size, "unix%s", pid);
    else if (getpeername(fd, (struct sockaddr *)&peer, &bytes) == 0 &&
             getnameinfo((struct sockaddr *)&peer, bytes, host, sizeof host, port, sizeof port,
                         NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
             address && strcmp(host, address) == 0)
        print_peer(name, size, host, port);
    else
        snprintf(name, size, "%s", address ? address : "unknown address");
}
