/* SPDX-License-Identifier: Apache-2.0
 * What the baselines over a library's local sockets share: ipc.c has the exchange, a file each
 * (ipc_zmq.c, ipc_nng.c) sends and receives. */
#ifndef BENCH_PEERS_IPC_H
#define BENCH_PEERS_IPC_H

#include <stdbool.h>
#include <stddef.h>

extern const char ipc_name[]; /* for the result */

/* One side of a pair of sockets, in a process of its own; false: errno says why. */
bool ipc_open(const char *url, bool listens);
/* Sends all bytes; they are the caller's again when the other side has answered. */
bool ipc_send(void *data, size_t bytes);
/* The next message, whole; it is there until the next call. NULL: none came in 30 s. */
const void *ipc_receive(size_t *bytes);

#endif
