/* SPDX-License-Identifier: Apache-2.0
 * Many clients, each with a context of its own. When all are connected, each sends a letter out of
 * its own memory and gives one out of the pool; all stay until standard input ends.
 *
 *   failure_program_crowd ADDRESS FIRST COUNT BYTES
 *
 * Its clients are FIRST and the numbers behind it. Standard output: "connected", and "done". */
#include "letter.h"

struct client {
    struct haul_context *context;
    struct haul_peer *peer;
    struct letter letter;
};

static void send_letter(struct client *client, uint8_t *room)
{
    struct haul_dict *dict;
    OK(haul_dict_create(client->context, &dict));
    letter_write(&client->letter, dict, room);
    OK(haul_send(client->peer, dict, 10 * WAIT_NS));
    haul_dict_destroy(dict);
    client->letter.number++;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return EXIT_FAILURE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t first = strtoull(argv[2], NULL, 10), bytes = strtoull(argv[4], NULL, 10);
    size_t count = strtoul(argv[3], NULL, 10);
    struct client *clients = calloc(count, sizeof *clients);
    uint8_t *room = malloc(LETTER_PARTS_MAX * bytes);
    REQUIRE(clients && room);
    for (size_t i = 0; i < count; i++) {
        struct client *client = &clients[i];
        client->letter = (struct letter){.client = first + i, .least = bytes, .most = bytes};
        OK(haul_open(&client->context, NULL));
        OK(haul_connect(client->context, argv[1], 10 * WAIT_NS, &client->peer));
    }
    puts("connected");
    for (size_t i = 0; i < count; i++) {
        send_letter(&clients[i], room);
        send_letter(&clients[i], NULL);
    }
    puts("done");
    while (getchar() != EOF)
        ;
    for (size_t i = 0; i < count; i++) {
        haul_peer_release(clients[i].peer);
        haul_close(clients[i].context);
    }
    free(clients);
    free(room);
    return EXIT_SUCCESS;
}
