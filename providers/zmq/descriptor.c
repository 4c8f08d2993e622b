/* SPDX-License-Identifier: Apache-2.0
 * libzmq's network sockets, for what it has no calls for.
 *
 * They are libzmq's: it may close one at any moment, and somebody else may get the same number. So
 * none is touched by its number alone: a duplicate stays the same socket, and its inode tells
 * whether it is the one that was meant. */
#include "channel.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a connection within one host. The system's own choice grows to megabytes there, and the bytes
 * have left the caches when they are read. (Between hosts a fixed size would bound the rate.) */
enum { LOCAL_SEND_BUFFER_BYTES = 512 << 10 };

static ino_t inode_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

struct haul_zmq_descriptor haul_zmq_descriptor_note(int fd)
{
    return (struct haul_zmq_descriptor){.fd = fd, .inode = inode_of(fd)};
}

/* -1: it is closed, or there are no descriptors left. */
static int duplicate(const struct haul_zmq_descriptor *descriptor)
{
    if (descriptor->inode == 0)
        return -1;
    int fd = fcntl(descriptor->fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0 && inode_of(fd) != descriptor->inode) {
        close(fd);
        fd = -1;
    }
    return fd;
}

void haul_zmq_descriptor_cut(const struct haul_zmq_descriptor *descriptor)
{
    int fd = duplicate(descriptor);
    if (fd < 0)
        return;
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

void haul_zmq_descriptor_drop(const struct haul_zmq_descriptor *descriptor)
{
    if (descriptor->inode != 0 && inode_of(descriptor->fd) == descriptor->inode)
        close(descriptor->fd);
}

static bool is_within_host(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } here, there;
    socklen_t here_bytes = sizeof here, there_bytes = sizeof there;
    if (getsockname(fd, &here.any, &here_bytes) || getpeername(fd, &there.any, &there_bytes))
        return false;
    if (here.any.sa_family == AF_INET)
        return here.v4.sin_addr.s_addr == there.v4.sin_addr.s_addr;
    if (here.any.sa_family == AF_INET6)
        return memcmp(&here.v6.sin6_addr, &there.v6.sin6_addr, sizeof here.v6.sin6_addr) == 0;
    return here.any.sa_family == AF_UNIX;
}

void haul_zmq_descriptor_tune(const struct haul_zmq_descriptor *descriptor)
{
    const int bytes = LOCAL_SEND_BUFFER_BYTES;
    int fd = duplicate(descriptor);
    if (fd < 0)
        return;
    if (is_within_host(fd))
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    close(fd);
}
