/* SPDX-License-Identifier: Apache-2.0
 * libzmq's ipc sockets: sent from the caller's memory without a copy in user space. */
#include "ipc.h"

#include <errno.h>
#include <zmq.h>

const char ipc_name[] = "zmq_ipc";

static void *handle;
static zmq_msg_t received;

bool ipc_open(const char *url, bool listens)
{
    int patience_ms = 30000;
    void *context = zmq_ctx_new();
    handle = context ? zmq_socket(context, ZMQ_PAIR) : NULL;
    zmq_msg_init(&received);
    return handle && !zmq_setsockopt(handle, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms) &&
           !(listens ? zmq_bind(handle, url) : zmq_connect(handle, url));
}

static void leave(void *data, void *hint)
{
    (void)data;
    (void)hint;
}

bool ipc_send(void *data, size_t bytes)
{
    zmq_msg_t message;
    return !zmq_msg_init_data(&message, data, bytes, leave, NULL) &&
           zmq_msg_send(&message, handle, 0) >= 0;
}

const void *ipc_receive(size_t *bytes)
{
    if (zmq_msg_recv(&received, handle, 0) < 0)
        return NULL;
    *bytes = zmq_msg_size(&received);
    return zmq_msg_data(&received);
}
