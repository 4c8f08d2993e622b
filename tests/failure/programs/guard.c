/* SPDX-License-Identifier: Apache-2.0
 * A server that receives into memory of its own, takes it back when the time is up, and then sees
 * whether anybody still writes to it.
 *
 *   failure_program_guard ADDRESS BYTES
 *
 * Standard input, a line each; every one is answered:
 *   "receive MS"  receives a letter of BYTES into the memory: "received NUMBER", or "time is up"
 *   "guard"       fills the memory with a pattern: "guarded"
 *   "take COUNT"  receives letters elsewhere, and checks every byte: "taken COUNT"
 *   "check"       "untouched", or "written to at OFFSET"
 * The end of input ends it. First it says "listening ADDRESS". */
#include "letter.h"

enum { PATTERN = 0xa5 };

static struct haul_context *context;
static struct haul_server *server;
static uint64_t head[sizeof(struct letter) / sizeof(uint64_t)];
static uint8_t *memory;
static size_t bytes;

static void receive(int64_t timeout_ns)
{
    struct haul_dict *destination;
    struct haul_message *message;
    const uint64_t head_shape = sizeof head / sizeof *head, shape = bytes;
    OK(haul_dict_create(context, &destination));
    OK(haul_dict_put(destination, "letter", HAUL_U64, 1, &head_shape, head));
    OK(haul_dict_put(destination, "part 0", HAUL_U8, 1, &shape, memory));
    int err = haul_recv_into(server, destination, &message, timeout_ns);
    if (err == HAUL_TIMEOUT) {
        puts("time is up");
    } else {
        struct letter letter;
        OK(err);
        REQUIRE(letter_read(message, &letter));
        letter_answer(context, message, &letter);
        haul_message_release(message);
        printf("received %llu\n", (unsigned long long)letter.number);
    }
    haul_dict_destroy(destination);
}

static void take(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        struct haul_message *message;
        struct letter letter;
        OK(haul_recv(server, &message, WAIT_NS));
        REQUIRE(letter_read(message, &letter));
        letter_answer(context, message, &letter);
        haul_message_release(message);
    }
    printf("taken %lu\n", count);
}

static void check(void)
{
    size_t at = 0;
    while (at < bytes && memory[at] == PATTERN)
        at++;
    if (at == bytes)
        puts("untouched");
    else
        printf("written to at %zu\n", at);
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc != 3)
        return EXIT_FAILURE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    bytes = strtoull(argv[2], NULL, 10);
    memory = malloc(bytes);
    REQUIRE(memory);
    OK(haul_open(&context, NULL));
    OK(haul_listen(context, argv[1], &server));
    printf("listening %s\n", haul_server_address(server));
    while (fgets(line, sizeof line, stdin)) {
        unsigned long number = strtoul(line + strcspn(line, " "), NULL, 10);
        if (!strncmp(line, "receive ", 8)) {
            receive((int64_t)number * 1000000);
        } else if (!strncmp(line, "take ", 5)) {
            take(number);
        } else if (!strcmp(line, "guard\n")) {
            memset(memory, PATTERN, bytes);
            puts("guarded");
        } else {
            REQUIRE(!strcmp(line, "check\n"));
            check();
        }
    }
    haul_server_close(server);
    haul_close(context);
    free(memory);
    return EXIT_SUCCESS;
}
