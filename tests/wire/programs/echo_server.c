/* SPDX-License-Identifier: Apache-2.0
 * A server for clients that are not haul's: writes its address, and answers every call with the
 * arrays that came, except one with the array "silence". Ends after a message with the array
 * "stop". */
#include <haul/haul.h>

#include <stdio.h>
#include <stdlib.h>

static void require(int err)
{
    if (err == 0)
        return;
    fprintf(stderr, "echo_server: %s\n", haul_error_detail());
    exit(EXIT_FAILURE);
}

static void echo(struct haul_context *context, struct haul_message *message)
{
    struct haul_dict *dict;
    require(haul_dict_create(context, &dict));
    for (size_t i = 0; i < haul_message_count(message); i++)
        require(haul_dict_put_array(dict, haul_message_at(message, i)));
    require(haul_reply(message, dict, HAUL_FOREVER));
    haul_dict_destroy(dict);
}

int main(void)
{
    struct haul_context *context;
    struct haul_server *server;
    bool stop = false;
    require(haul_open(&context, NULL));
    require(haul_listen(context, "127.0.0.1:0", &server));
    puts(haul_server_address(server));
    fflush(stdout);
    while (!stop) {
        struct haul_message *message;
        require(haul_recv(server, &message, HAUL_FOREVER));
        stop = haul_message_find(message, "stop") != NULL;
        if (haul_message_wants_reply(message) && !haul_message_find(message, "silence"))
            echo(context, message);
        haul_message_release(message);
    }
    haul_server_close(server);
    haul_close(context);
    return 0;
}
