/* SPDX-License-Identifier: Apache-2.0
 * nng's ipc sockets. */
#include "ipc.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

const char ipc_name[] = "nng_ipc";

static nng_socket handle;
static nng_msg *received;

static bool good(int err)
{
    if (err)
        errno = err == NNG_ETIMEDOUT ? ETIMEDOUT : EIO;
    return !err;
}

bool ipc_open(const char *url, bool listens)
{
    return good(nng_pair0_open(&handle)) &&
           good(nng_socket_set_ms(handle, NNG_OPT_RECVTIMEO, 30000)) &&
           good(nng_socket_set_size(handle, NNG_OPT_RECVMAXSZ, 0)) &&
           good(listens ? nng_listen(handle, url, NULL, 0) : nng_dial(handle, url, NULL, 0));
}

bool ipc_send(void *data, size_t bytes)
{
    return good(nng_send(handle, data, bytes, 0));
}

const void *ipc_receive(size_t *bytes)
{
    if (received)
        nng_msg_free(received);
    received = NULL;
    if (!good(nng_recvmsg(handle, &received, 0)))
        return NULL;
    *bytes = nng_msg_len(received);
    return nng_msg_body(received);
}
