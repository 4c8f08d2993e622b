/* SPDX-License-Identifier: Apache-2.0
 * Records on Unix sockets, and the descriptors that go along. */
#include "talk.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

socklen_t haul_shm_talk_address(struct sockaddr_un *address, const char name[HAUL_SHM_NAME_BYTES])
{
    static const char prefix[] = "haul-";
    size_t length = sizeof prefix - 1;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path + 1, prefix, length);
    memcpy(address->sun_path + 1 + length, name, HAUL_SHM_NAME_BYTES);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length + HAUL_SHM_NAME_BYTES);
}

bool haul_shm_talk_leaves_room(int socket)
{
    struct rlimit limit;
    return socket < 0 || getrlimit(RLIMIT_NOFILE, &limit) || (rlim_t)socket < limit.rlim_cur / 2;
}

union control {
    char buffer[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

int haul_shm_talk_send(int socket, const struct haul_shm_talk *talk, int file)
{
    struct iovec part = {(void *)(uintptr_t)talk, sizeof *talk};
    union control control = {{0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (file >= 0) {
        message.msg_control = control.buffer;
        message.msg_controllen = sizeof control.buffer;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof file);
        memcpy(CMSG_DATA(header), &file, sizeof file);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)sizeof *talk)
        return 0;
    /* Too many descriptors are on their way (ETOOMANYREFS), or there is no room for the record. */
    bool later = errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS || errno == ENOMEM;
    return sent >= 0 ? EPROTO : later ? EAGAIN : errno;
}

/* Descriptors that came along; the first is the caller's, more than one has no place. */
static int take_files(struct msghdr *message, int *file)
{
    int err = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= header->cmsg_len; at += sizeof(int)) {
            int got;
            memcpy(&got, CMSG_DATA(header) + at, sizeof got);
            if (*file < 0) {
                *file = got;
            } else {
                close(got);
                err = EPROTO;
            }
        }
    }
    return err;
}

int haul_shm_talk_receive(int socket, struct haul_shm_talk *talk, int *file)
{
    struct iovec part = {talk, sizeof *talk};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.buffer,
                             .msg_controllen = sizeof control.buffer};
    ssize_t got;
    *file = -1;
    do
        got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EWOULDBLOCK ? EAGAIN : errno;
    int err = take_files(&message, file);
    if (got == 0)
        return EPIPE;
    if (got != (ssize_t)sizeof *talk || message.msg_flags & MSG_TRUNC)
        return EPROTO;
    return message.msg_flags & MSG_CTRUNC ? EMFILE : err;
}
