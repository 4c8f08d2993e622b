/* SPDX-License-Identifier: Apache-2.0
 * A client that gives letters out of haul's pool, as a script tells it.
 *
 *   failure_program_giver ADDRESS CLIENT BYTES [hidden]
 *
 * hidden: no other process may read its memory.
 * Standard input, a line each; every one is answered:
 *   "give COUNT"  gives so many letters of BYTES, once more where the connection was lost:
 *                 "given COUNT"
 *   "send COUNT"  the same out of memory of its own: "sent COUNT"
 *   "ask COUNT"   calls with so many letters of its own, and looks at the replies from then on:
 *                 "asked COUNT"
 *   "check"       reads all replies again: "right COUNT"
 *   "leave"       ends the connection: "left"
 *   "overwrite"   takes all memory that its pool has, writes something else to it and gives it
 *                 back: "overwritten COUNT"
 *   "stats"       "used BYTES path PATH because WHY": of the pool, and how it is connected
 * The end of input ends it. First it says "connected". */
#include "letter.h"

#include <sys/prctl.h>

enum { BLOCKS_MAX = 4096, REPLIES_MAX = 64, OTHER = 0x5a };

static struct haul_context *context;
static struct haul_peer *peer;
static struct letter letter;
static struct haul_message *replies[REPLIES_MAX];
static size_t reply_count;

/* room: where its bytes are; NULL: out of the pool. */
static int send_one(uint8_t *room)
{
    struct haul_dict *dict;
    OK(haul_dict_create(context, &dict));
    letter_write(&letter, dict, room);
    int err = haul_send(peer, dict, 10 * WAIT_NS);
    haul_dict_destroy(dict);
    return err;
}

static void send_letters(unsigned long count, uint8_t *room)
{
    for (unsigned long i = 0; i < count; i++) {
        int err;
        while ((err = send_one(room)) == HAUL_PEER_LOST)
            ; /* its server was killed; it goes to the next one */
        OK(err);
        letter.number++;
    }
}

static void send_own(unsigned long count)
{
    uint8_t *room = malloc(letter_room(&letter));
    REQUIRE(room);
    send_letters(count, room);
    free(room);
    printf("sent %lu\n", count);
}

/* (What is given back is looked at in place.) */
static void ask(unsigned long count)
{
    uint8_t *room = malloc(letter_room(&letter));
    REQUIRE(room && reply_count + count <= REPLIES_MAX);
    for (unsigned long i = 0; i < count; i++, letter.number++) {
        struct haul_dict *dict;
        OK(haul_dict_create(context, &dict));
        letter_write(&letter, dict, room);
        OK(haul_call(peer, dict, &replies[reply_count], 10 * WAIT_NS));
        haul_dict_destroy(dict);
        REQUIRE(haul_message_find(replies[reply_count++], "part 0")->flags & HAUL_SHARED);
    }
    free(room);
    printf("asked %lu\n", count);
}

static void check_replies(void)
{
    struct letter read;
    for (size_t i = 0; i < reply_count; i++)
        REQUIRE(letter_read(replies[i], &read));
    printf("right %zu\n", reply_count);
}

static void overwrite(void)
{
    static struct haul_block *blocks[BLOCKS_MAX];
    size_t count = 0;
    while (count < BLOCKS_MAX && !haul_block_alloc(context, letter.most, &blocks[count])) {
        memset(haul_block_data(blocks[count]), OTHER, letter.most);
        count++;
    }
    printf("overwritten %zu\n", count);
    while (count > 0)
        haul_block_release(blocks[--count]);
}

static void print_stats(void)
{
    struct haul_stats stats;
    char path[64], why[512];
    haul_context_stats(context, &stats);
    haul_peer_path(peer, path, sizeof path, why, sizeof why);
    printf("used %llu path %s because %s\n", (unsigned long long)stats.pool_used_bytes, path, why);
}

int main(int argc, char **argv)
{
    char line[64];
    bool hidden = argc == 5 && !strcmp(argv[4], "hidden");
    if (argc != 4 && !hidden)
        return EXIT_FAILURE;
    prctl(PR_SET_DUMPABLE, hidden ? 0 : 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    letter = (struct letter){.client = strtoull(argv[2], NULL, 10),
                             .least = strtoull(argv[3], NULL, 10),
                             .most = strtoull(argv[3], NULL, 10)};
    OK(haul_open(&context, NULL));
    OK(haul_connect(context, argv[1], 10 * WAIT_NS, &peer));
    puts("connected");
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "give ", 5)) {
            unsigned long count = strtoul(line + 5, NULL, 10);
            send_letters(count, NULL);
            printf("given %lu\n", count);
        } else if (!strncmp(line, "send ", 5)) {
            send_own(strtoul(line + 5, NULL, 10));
        } else if (!strncmp(line, "ask ", 4)) {
            ask(strtoul(line + 4, NULL, 10));
        } else if (!strcmp(line, "check\n")) {
            check_replies();
        } else if (!strcmp(line, "leave\n")) {
            haul_peer_disconnect(peer);
            puts("left");
        } else if (!strcmp(line, "overwrite\n")) {
            overwrite();
        } else {
            REQUIRE(!strcmp(line, "stats\n"));
            print_stats();
        }
    }
    while (reply_count > 0)
        haul_message_release(replies[--reply_count]);
    haul_peer_release(peer);
    haul_close(context);
    prctl(PR_SET_DUMPABLE, 1); /* a leak sanitizer reads it now */
    return EXIT_SUCCESS;
}
