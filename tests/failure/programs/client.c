/* SPDX-License-Identifier: Apache-2.0
 * A client that sends letters, several at a time, as sends and as calls.
 *
 *   failure_program_client ADDRESS CLIENT COUNT LEAST MOST [gives|single]
 *
 * gives: out of haul's pool, given away; else out of memory of its own. single: one at a time.
 *
 * Standard output: "done NUMBER" for each letter whose op has finished well, in order. Ends with
 * failure at the first op that fails, and with its reason on standard error. */
#include "letter.h"

enum { WINDOW = 4 };

struct slot {
    struct letter letter;
    struct haul_dict *dict;
    struct haul_op *op; /* NULL: free */
    uint8_t *room;
    bool calls;
};

static struct haul_context *context;
static struct haul_peer *peer;

static void start(struct slot *slot, uint64_t number)
{
    slot->letter.number = number;
    slot->calls = number % 3 == 0;
    OK(haul_dict_clear(slot->dict));
    letter_write(&slot->letter, slot->dict, slot->room);
    OK(slot->calls ? haul_call_async(peer, slot->dict, &slot->op)
                   : haul_send_async(peer, slot->dict, &slot->op));
}

static void check_reply(struct slot *slot)
{
    struct haul_message *reply;
    OK(haul_op_reply(slot->op, &reply));
    const struct haul_array *number = haul_message_find(reply, "number");
    REQUIRE(number && !memcmp(number->data, &slot->letter.number, sizeof slot->letter.number));
    haul_message_release(reply);
}

static void finish(struct slot *slot)
{
    if (!slot->op)
        return;
    int err;
    while ((err = haul_op_wait(slot->op, 10 * WAIT_NS)) == HAUL_INTERRUPTED)
        ; /* it was stopped, and goes on */
    OK(err);
    if (slot->calls)
        check_reply(slot);
    haul_op_release(slot->op);
    slot->op = NULL;
    printf("done %llu\n", (unsigned long long)slot->letter.number);
}

int main(int argc, char **argv)
{
    struct slot slots[WINDOW] = {{.op = NULL}};
    bool gives = argc == 7 && !strcmp(argv[6], "gives");
    bool single = argc == 7 && !strcmp(argv[6], "single");
    const size_t window = single ? 1 : WINDOW;
    if (argc != 6 && !gives && !single)
        return EXIT_FAILURE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t count = strtoull(argv[3], NULL, 10);
    OK(haul_open(&context, NULL));
    OK(haul_connect(context, argv[1], WAIT_NS, &peer));
    for (size_t i = 0; i < window; i++) {
        slots[i].letter = (struct letter){.client = strtoull(argv[2], NULL, 10),
                                          .least = strtoull(argv[4], NULL, 10),
                                          .most = strtoull(argv[5], NULL, 10)};
        slots[i].room = gives ? NULL : malloc(letter_room(&slots[i].letter));
        REQUIRE(gives || slots[i].room);
        OK(haul_dict_create(context, &slots[i].dict));
    }
    for (uint64_t number = 0; number < count + window; number++) {
        finish(&slots[number % window]);
        if (number < count)
            start(&slots[number % window], number);
    }
    for (size_t i = 0; i < window; i++) {
        haul_dict_destroy(slots[i].dict);
        free(slots[i].room);
    }
    haul_peer_release(peer);
    haul_close(context);
    return EXIT_SUCCESS;
}
