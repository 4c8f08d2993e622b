/* SPDX-License-Identifier: Apache-2.0
 * What is said on the Unix socket from one who looks to one who offers: one record each, between
 * processes of one host and one version of haul, so in the machine's own order of bytes. */
#ifndef HAUL_PROVIDERS_SHM_TALK_H
#define HAUL_PROVIDERS_SHM_TALK_H

#include "shm.h"

#include <sys/socket.h>
#include <sys/un.h>

enum {
    HAUL_SHM_TALK_TICKET = 1, /* who looks: the first record, and its last */
    /* Who offers: */
    HAUL_SHM_TALK_WELCOME = 2, /* it knows the ticket */
    HAUL_SHM_TALK_SLAB = 3,    /* a slab, with its file */
    HAUL_SHM_TALK_GONE = 4,    /* ... which is offered no more */
};

struct haul_shm_talk {
    uint32_t type;
    uint32_t copies; /* TICKET: it can copy out of the other's process */
    uint64_t slab, bytes;
    uint8_t ticket[HAUL_SHM_TICKET_BYTES];
};

/* The address of an abstract socket; returns its length. */
socklen_t haul_shm_talk_address(struct sockaddr_un *address, const char name[HAUL_SHM_NAME_BYTES]);
/* Whether one may keep this socket (or -1): those of shm, two for each peer, are not to keep others
 * from connecting at all. */
bool haul_shm_talk_leaves_room(int socket);
/* file: a descriptor that goes along, or -1. Returns 0 or an errno: EAGAIN, not now. */
int haul_shm_talk_send(int socket, const struct haul_shm_talk *talk, int file);
/* file: what came along, the caller's to close, or -1. Returns 0 or an errno: EAGAIN, nothing is
 * there; EPIPE, the end; EPROTO, no such record; EMFILE, a record whose file cannot be opened here.
 */
int haul_shm_talk_receive(int socket, struct haul_shm_talk *talk, int *file);

#endif
