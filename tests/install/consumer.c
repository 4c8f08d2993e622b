/* SPDX-License-Identifier: Apache-2.0
 * A program of somebody who installed haul: calls itself with a dict and checks every byte of what
 * arrived and of the answer. Plain C11, and compiled as C++ too (consumer_cxx.cpp). */
#include <haul/haul.h>
#include <stdio.h>
#include <string.h>

static const int64_t timeout_ns = INT64_C(30000000000);

enum { ROWS = 3, COLUMNS = 5 };

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, haul_error_detail());
    return 1;
}

/* Whether the message is { "frames": values } and nothing else. */
static bool holds(const struct haul_message *message, const float *values)
{
    const struct haul_array *array = haul_message_find(message, "frames");
    return haul_message_count(message) == 1 && array && array->dtype == HAUL_F32 &&
           array->ndim == 2 && array->shape[0] == ROWS && array->shape[1] == COLUMNS &&
           array->nbytes == sizeof(float) * ROWS * COLUMNS &&
           memcmp(array->data, values, array->nbytes) == 0;
}

static int call_and_answer(struct haul_server *server, struct haul_peer *peer,
                           struct haul_dict *dict, const float *values)
{
    struct haul_op *op;
    struct haul_message *request, *reply;

    if (haul_call_async(peer, dict, &op) != 0)
        return failed("haul_call_async");
    if (haul_recv(server, &request, timeout_ns) != 0)
        return failed("haul_recv");
    if (!holds(request, values)) {
        fputs("the request is not what was sent\n", stderr);
        return 1;
    }
    /* The dict is still borrowed by the call; sending it anew at the same time is allowed. */
    if (haul_reply(request, dict, timeout_ns) != 0)
        return failed("haul_reply");
    haul_message_release(request);

    if (haul_op_wait(op, timeout_ns) != 0)
        return failed("haul_op_wait");
    if (haul_op_reply(op, &reply) != 0)
        return failed("haul_op_reply");
    haul_op_release(op);
    if (!holds(reply, values)) {
        fputs("the reply is not what was sent\n", stderr);
        return 1;
    }
    haul_message_release(reply);
    return 0;
}

int main(void)
{
    float values[ROWS * COLUMNS];
    const uint64_t shape[] = {ROWS, COLUMNS};
    struct haul_context *context;
    struct haul_server *server;
    struct haul_peer *peer;
    struct haul_dict *dict;
    int status;

    for (int i = 0; i < ROWS * COLUMNS; i++)
        values[i] = (float)i + 0.25f;

    if (haul_open(&context, NULL) != 0)
        return failed("haul_open");
    if (haul_listen(context, "127.0.0.1:0", &server) != 0)
        return failed("haul_listen");
    if (haul_connect(context, haul_server_address(server), timeout_ns, &peer) != 0)
        return failed("haul_connect");
    if (haul_dict_create(context, &dict) != 0)
        return failed("haul_dict_create");
    if (haul_dict_put(dict, "frames", HAUL_F32, 2, shape, values) != 0)
        return failed("haul_dict_put");

    status = call_and_answer(server, peer, dict, values);

    haul_dict_destroy(dict);
    haul_peer_release(peer);
    haul_server_close(server);
    haul_close(context);
    if (status == 0)
        printf("haul %s: called itself, all bytes equal\n", haul_version());
    return status;
}
