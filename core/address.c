/* SPDX-License-Identifier: Apache-2.0
 * Addresses as users write them. */
#include "address.h"

#include "error.h"
#include "util.h"

static int malformed(const char *text, const char *why)
{
    return haul_fail(HAUL_ADDRESS,
                     "\"%.200s\" is no address: %s; addresses are host:port, [v6]:port, :port or "
                     "unix:/path",
                     text, why);
}

static bool copy(char *to, size_t size, const char *from, size_t bytes)
{
    if (bytes >= size)
        return false;
    memcpy(to, from, bytes);
    to[bytes] = '\0';
    return true;
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return false;
    unsigned port = 0;
    for (const char *digit = text; *digit; digit++)
        port = port * 10 + (unsigned)(*digit - '0');
    return port <= 65535;
}

int haul_address_parse(const char *text, struct haul_address *address)
{
    *address = (struct haul_address){0};
    if (!text)
        return haul_fail(HAUL_INVALID, "the address is NULL");
    if (!strncmp(text, "tcp://", 6))
        text += 6;
    if (!copy(address->text, sizeof address->text, text, strlen(text)))
        return malformed(text, "it is too long");
    if (!strncmp(text, "unix:", 5)) {
        if (text[5] == '\0')
            return malformed(text, "the path is missing");
        if (!copy(address->unix_path, sizeof address->unix_path, text + 5, strlen(text + 5)))
            return malformed(text, "the path of a Unix socket has at most 107 bytes");
        return 0;
    }
    const char *host = text, *colon = strrchr(text, ':');
    if (!colon)
        return malformed(text, "the port is missing");
    size_t host_bytes = (size_t)(colon - text);
    if (*text == '[') {
        if (host_bytes < 2 || colon[-1] != ']')
            return malformed(text, "the ] of the IPv6 address is missing");
        host++;
        host_bytes -= 2;
    } else if (memchr(text, ':', host_bytes)) {
        return malformed(text, "an IPv6 address needs brackets");
    }
    if (!is_port(colon + 1))
        return malformed(text, "the port is a number from 0 to 65535");
    if (!copy(address->host, sizeof address->host, host, host_bytes))
        return malformed(text, "the host is too long");
    copy(address->service, sizeof address->service, colon + 1, strlen(colon + 1));
    return 0;
}
