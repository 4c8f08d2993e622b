/* SPDX-License-Identifier: Apache-2.0
 * A client that does one thing at a time, as a script says, and tells how it ended.
 *
 *   failure_program_caller ADDRESS CLIENT CONNECT_TIMEOUT_MS
 *
 * Standard input: "call BYTES TIMEOUT_MS" or "send BYTES TIMEOUT_MS". Standard output: for the
 * connection and then for each line "ok", or the error's name and its sentence. */
#include "letter.h"

static int report(int err)
{
    if (err)
        printf("%s %s\n", haul_error_name(err), haul_error_detail());
    else
        puts("ok");
    return err;
}

static int64_t from_ms(const char *text)
{
    return strtoll(text, NULL, 10) * 1000000;
}

static void do_once(struct haul_context *context, struct haul_peer *peer, const char *what,
                    struct letter *letter, int64_t timeout_ns)
{
    struct haul_dict *dict;
    struct haul_message *reply;
    uint8_t *room = malloc(letter_room(letter));
    int err;
    REQUIRE(room);
    OK(haul_dict_create(context, &dict));
    letter_write(letter, dict, room);
    if (strcmp(what, "call") == 0) {
        err = report(haul_call(peer, dict, &reply, timeout_ns));
        if (!err)
            haul_message_release(reply);
    } else {
        err = report(haul_send(peer, dict, timeout_ns));
    }
    if (err == HAUL_BORROWED)
        OK(haul_dict_wait(dict, 10 * WAIT_NS));
    haul_dict_destroy(dict);
    free(room);
}

int main(int argc, char **argv)
{
    struct haul_context *context;
    struct haul_peer *peer;
    char what[8];
    unsigned long long bytes;
    int timeout_ms;
    if (argc != 4)
        return EXIT_FAILURE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    OK(haul_open(&context, NULL));
    if (report(haul_connect(context, argv[1], from_ms(argv[3]), &peer)) == 0) {
        struct letter letter = {.client = strtoull(argv[2], NULL, 10)};
        for (; scanf("%7s %llu %d", what, &bytes, &timeout_ms) == 3; letter.number++) {
            letter.least = letter.most = bytes;
            do_once(context, peer, what, &letter, timeout_ms * 1000000ll);
        }
        haul_peer_release(peer);
    }
    haul_close(context);
    return EXIT_SUCCESS;
}
