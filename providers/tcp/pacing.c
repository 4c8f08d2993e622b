/* SPDX-License-Identifier: Apache-2.0
 * No pacing between processes of one host.
 *
 * Where the system's congestion control is BBR, the kernel paces what is sent by a guess at the
 * bandwidth. To other hosts that is its job. Within a host no link has to be shared, but a timer is
 * set for most writes, and a guess that begins too low can stay so for the life of a connection: of
 * the same exchange of 256 KiB most connections took 36 us, some 55. So a socket whose other end is
 * on this host uses a control that does not pace.
 *
 * Once BBR has begun on a connection, it is paced whatever is chosen after it (Linux keeps
 * sk_pacing_status, net/ipv4/tcp_bbr.c). So the choice comes before: a client asks the routing
 * whether the address is one of this host's; a listening socket hands its own choice down, and what
 * it has accepted from another host goes back to the system's. */
#include "tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

/* The first of these that this process may use is taken. */
static const char *const unpaced[] = {"cubic", "reno"};

static bool choose(int fd, const char *control)
{
    return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, (socklen_t)strlen(control)) == 0;
}

static void choose_unpaced(int fd)
{
    for (size_t i = 0; i < sizeof unpaced / sizeof *unpaced; i++)
        if (choose(fd, unpaced[i]))
            return;
}

void haul_tcp_find_pacing(struct haul_tcp_channel *channel)
{
    char control[sizeof channel->pacing] = "";
    socklen_t bytes = sizeof control - 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (!getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, &bytes) &&
        !strncmp(control, "bbr", 3))
        memcpy(channel->pacing, control, sizeof control);
    close(fd);
}

/* By the address that we would have on the way to it. (Connecting a datagram socket sends nothing.)
 */
static bool is_on_this_host(const struct haul_tcp_address *address)
{
    int family = address->socket.any.sa_family;
    int fd = family == AF_UNIX ? -1 : socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool here = !connect(fd, &address->socket.any, address->bytes) &&
                haul_tcp_compare_ends(fd) != HAUL_TCP_TWO_HOSTS;
    close(fd);
    return here;
}

void haul_tcp_unpace_dial(const struct haul_tcp_channel *channel, int fd,
                          const struct haul_tcp_address *address)
{
    if (*channel->pacing && is_on_this_host(address))
        choose_unpaced(fd);
}

void haul_tcp_unpace_listen(const struct haul_tcp_channel *channel, int fd)
{
    if (*channel->pacing)
        choose_unpaced(fd);
}

void haul_tcp_pace_accepted(const struct haul_tcp_channel *channel, int fd)
{
    if (*channel->pacing && haul_tcp_compare_ends(fd) == HAUL_TCP_TWO_HOSTS)
        choose(fd, channel->pacing);
}
