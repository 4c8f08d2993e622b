/* SPDX-License-Identifier: Apache-2.0
 * Names to socket addresses and back.
 *
 * A route keeps all addresses of a name. Connecting tries them in the order that the system
 * prefers; listening uses all of them, so that a server on "localhost" is found at 127.0.0.1 and at
 * [::1]. Listening on all interfaces is the exception: [::] takes both families, and 0.0.0.0 is its
 * substitute on machines without IPv6. */
#include "tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORT_MAX = 65535 };

static bool is_any_host(const char *host)
{
    return host[0] == '\0' || strcmp(host, "*") == 0;
}

/* A number that fits, or the name of a service, which getaddrinfo() looks up. */
static bool is_port(const char *service)
{
    size_t digits = strspn(service, "0123456789");
    if (service[0] == '\0' || service[digits] != '\0')
        return service[0] != '\0';
    return strtoul(service, NULL, 10) <= PORT_MAX; /* ULONG_MAX where there are too many digits */
}

static int check_port(const struct haul_address *address, bool listening)
{
    const char *service = address->service;
    if (!is_port(service))
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "%s: '%s' is no port; write a number from 0 to 65535 after the "
                                   "last colon",
                                   address->text, service);
    bool zero = strspn(service, "0") == strlen(service);
    if (zero && !listening)
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "%s: port 0 is for listening; connect to the port that the "
                                   "server reports",
                                   address->text);
    return 0;
}

static int lookup_failed(const struct haul_address *address, int result, int error)
{
    if (result == EAI_MEMORY)
        return haul_tcp_host->fail(HAUL_NO_MEMORY, "no memory to look up '%s'", address->host);
    if (result == EAI_SERVICE)
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "%s: '%s' is no port and no known service; write a number from "
                                   "0 to 65535",
                                   address->text, address->service);
    const char *why = result == EAI_SYSTEM ? strerror(error) : gai_strerror(result);
    return haul_tcp_host->fail(HAUL_ADDRESS, "host '%s' was not found: %s; check its spelling",
                               address->host, why);
}

/* A route without addresses, with room for `room`. */
static struct haul_tcp_route *create_route(const struct haul_address *address, size_t room)
{
    struct haul_tcp_route *route = calloc(1, sizeof *route + room * sizeof route->addresses[0]);
    if (!route) {
        haul_tcp_host->fail(HAUL_NO_MEMORY, "no memory for the address %s", address->text);
        return NULL;
    }
    route->named = *address;
    return route;
}

static int resolve_unix(const struct haul_address *address, struct haul_tcp_route **result)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t bytes = strnlen(address->unix_path, sizeof address->unix_path);
    if (bytes >= sizeof un.sun_path)
        return haul_tcp_host->fail(HAUL_ADDRESS,
                                   "%.*s...: the path of a Unix socket has at most %zu bytes; "
                                   "choose a shorter one",
                                   40, address->text, sizeof un.sun_path - 1);
    struct haul_tcp_route *route = create_route(address, 1);
    if (!route)
        return HAUL_NO_MEMORY;
    memcpy(un.sun_path, address->unix_path, bytes + 1);
    route->addresses[0].socket.un = un;
    route->addresses[0].bytes = sizeof un;
    route->count = 1;
    *result = route;
    return 0;
}

/* Adds an address, unless it is there already: a name may stand twice in /etc/hosts. */
static void add_address(struct haul_tcp_route *route, const struct addrinfo *info)
{
    struct haul_tcp_address added = {.bytes = info->ai_addrlen};
    memcpy(&added.socket, info->ai_addr, info->ai_addrlen);
    for (size_t i = 0; i < route->count; i++)
        if (memcmp(&route->addresses[i], &added, sizeof added) == 0)
            return;
    route->addresses[route->count++] = added;
}

static struct haul_tcp_route *route_from_list(const struct haul_address *address,
                                              const struct addrinfo *list)
{
    size_t count = 0;
    for (const struct addrinfo *info = list; info; info = info->ai_next)
        count++;
    struct haul_tcp_route *route = create_route(address, count);
    for (const struct addrinfo *info = list; route && info; info = info->ai_next)
        add_address(route, info);
    return route;
}

static int lookup(const struct haul_address *address, struct haul_tcp_route **result)
{
    /* No host: the loopback addresses, which need no name service. */
    const char *host = is_any_host(address->host) ? NULL : address->host;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int failure = getaddrinfo(host, address->service, &hints, &list);
    if (failure)
        return lookup_failed(address, failure, errno);
    *result = route_from_list(address, list);
    freeaddrinfo(list);
    return *result ? 0 : HAUL_NO_MEMORY;
}

/* The wildcards of both families in place of the loopback addresses that lookup() finds. */
static int resolve_everywhere(const struct haul_address *address, struct haul_tcp_route **result)
{
    struct haul_tcp_route *loopback;
    int err = lookup(address, &loopback);
    if (err)
        return err;
    in_port_t port = haul_tcp_port(&loopback->addresses[0]);
    haul_tcp_route_free(loopback);
    struct haul_tcp_route *route = create_route(address, 2);
    if (!route)
        return HAUL_NO_MEMORY;
    route->everywhere = true;
    const struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_ANY_INIT};
    memcpy(&route->addresses[0].socket, &in6, sizeof in6);
    route->addresses[0].bytes = sizeof in6;
    const struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = port};
    memcpy(&route->addresses[1].socket, &in, sizeof in);
    route->addresses[1].bytes = sizeof in;
    route->count = 2;
    *result = route;
    return 0;
}

int haul_tcp_resolve(void *channel, const struct haul_address *address, bool listening,
                     void **route)
{
    (void)channel;
    struct haul_tcp_route *found = NULL;
    int err = 0;
    if (address->unix_path[0] != '\0')
        err = resolve_unix(address, &found);
    else if (!(err = check_port(address, listening)))
        err = listening && is_any_host(address->host) ? resolve_everywhere(address, &found)
                                                      : lookup(address, &found);
    *route = found;
    return err;
}

void haul_tcp_route_free(void *route)
{
    free(route);
}

/* ---- Back to text --------------------------------------------------------------------------- */

uint16_t haul_tcp_port(const struct haul_tcp_address *address)
{
    switch (address->socket.any.sa_family) {
    case AF_INET:
        return ((const struct sockaddr_in *)&address->socket)->sin_port;
    case AF_INET6:
        return ((const struct sockaddr_in6 *)&address->socket)->sin6_port;
    default:
        return 0;
    }
}

void haul_tcp_port_set(struct haul_tcp_address *address, uint16_t port)
{
    switch (address->socket.any.sa_family) {
    case AF_INET:
        ((struct sockaddr_in *)&address->socket)->sin_port = port;
        break;
    case AF_INET6:
        ((struct sockaddr_in6 *)&address->socket)->sin6_port = port;
        break;
    default:
        break;
    }
}

const char *haul_tcp_address_format(const struct haul_tcp_address *address,
                                    char text[HAUL_TCP_ADDRESS_TEXT_BYTES])
{
    static const char mapped_v4[] = "::ffff:";
    char host[INET6_ADDRSTRLEN + 20], port[8];
    if (address->socket.any.sa_family == AF_UNIX) {
        snprintf(text, HAUL_TCP_ADDRESS_TEXT_BYTES, "unix:%s", address->socket.un.sun_path);
        return text;
    }
    if (getnameinfo(&address->socket.any, address->bytes, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV)) {
        snprintf(text, HAUL_TCP_ADDRESS_TEXT_BYTES, "unknown address");
        return text;
    }
    const char *v4 = host;
    if (strncmp(host, mapped_v4, strlen(mapped_v4)) == 0 && strchr(host, '.'))
        v4 += strlen(mapped_v4); /* an IPv4 client of a dual-stack server */
    bool v6 = strchr(v4, ':') != NULL;
    snprintf(text, HAUL_TCP_ADDRESS_TEXT_BYTES, v6 ? "[%s]:%s" : "%s:%s", v4, port);
    return text;
}

const char *haul_tcp_peer_format(int fd, char text[HAUL_TCP_ADDRESS_TEXT_BYTES])
{
    struct haul_tcp_address peer = {.bytes = sizeof peer.socket};
    struct ucred credentials = {0};
    socklen_t bytes = sizeof credentials;
    if (getpeername(fd, &peer.socket.any, &peer.bytes)) {
        snprintf(text, HAUL_TCP_ADDRESS_TEXT_BYTES, "unknown address");
    } else if (peer.socket.any.sa_family == AF_UNIX) {
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes);
        snprintf(text, HAUL_TCP_ADDRESS_TEXT_BYTES, "unix:%ld", (long)credentials.pid);
    } else {
        haul_tcp_address_format(&peer, text);
    }
    return text;
}

const char *haul_tcp_own_host(void *handle, char host[HAUL_HOST_MAX])
{
    const struct haul_tcp_conn *conn = handle;
    struct haul_tcp_address own = {.bytes = sizeof own.socket};
    char text[HAUL_TCP_ADDRESS_TEXT_BYTES];
    host[0] = '\0';
    if (conn->fd < 0 || getsockname(conn->fd, &own.socket.any, &own.bytes))
        return host;
    haul_tcp_address_format(&own, text);
    const char *start = text[0] == '[' ? text + 1 : text;
    const char *end = text[0] == '[' ? strchr(text, ']') : strrchr(text, ':');
    if (own.socket.any.sa_family == AF_UNIX)
        snprintf(host, HAUL_HOST_MAX, "127.0.0.1");
    else if (end)
        snprintf(host, HAUL_HOST_MAX, "%.*s", (int)(end - start), start);
    return host;
}

enum haul_tcp_ends haul_tcp_compare_ends(int fd)
{
    struct haul_tcp_address own = {.bytes = sizeof own.socket};
    struct haul_tcp_address peer = {.bytes = sizeof peer.socket};
    if (getsockname(fd, &own.socket.any, &own.bytes) ||
        getpeername(fd, &peer.socket.any, &peer.bytes))
        return HAUL_TCP_TWO_HOSTS;
    if (own.socket.any.sa_family == AF_UNIX)
        return HAUL_TCP_ONE_HOST;
    bool same_port = haul_tcp_port(&own) == haul_tcp_port(&peer);
    haul_tcp_port_set(&own, 0);
    haul_tcp_port_set(&peer, 0);
    if (own.bytes != peer.bytes || memcmp(&own.socket, &peer.socket, own.bytes) != 0)
        return HAUL_TCP_TWO_HOSTS;
    return same_port ? HAUL_TCP_ONE_SOCKET : HAUL_TCP_ONE_HOST;
}
