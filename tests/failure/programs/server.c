/* SPDX-License-Identifier: Apache-2.0
 * A server that checks every byte of what it receives, and tells a script what happens.
 *
 *   failure_program_server ADDRESS [TRUSTED]
 *
 * TRUSTED: a client's number. Whatever does not say that it is its letter is a stranger's, which is
 * not checked, and answered if it can be.
 *
 * Standard input, a word per line: "take" receives, answers calls and releases (so it begins);
 * "return" answers with the letters that it gets, given; "keep" receives, but neither answers nor
 * releases; "check" reads all that is kept again; "pause" receives nothing; "stats" prints some,
 * "rails" a line for each. The end of input ends it. Standard output: "listening ADDRESS"; "message
 * CLIENT NUMBER", or "stranger" if it is no letter; "paused", "keeping" and "returning" from then
 * on; "kept COUNT"; "right COUNT", checked again; "stats ..."; "rail NAME BYTES", and "rails COUNT"
 * behind them; and "lost CLIENT NS" with the (monotonic) time when a client that has sent something
 * was gone. */
#include "letter.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 10, CLIENTS_MAX = 4096, KEPT_MAX = 4096 };

enum mode { TAKE, RETURN, KEEP, PAUSE };

struct known {
    uint64_t client;
    struct haul_peer *peer; /* NULL: gone */
};

static struct haul_context *context;
static struct haul_server *server;
static struct known known[CLIENTS_MAX];
static size_t known_count;
static struct haul_message *kept[KEPT_MAX];
static size_t kept_count;
static uint64_t trusted; /* 0: all are */

static void note_client(const struct letter *letter, const struct haul_message *message)
{
    struct haul_peer *peer = haul_message_peer(message);
    for (size_t i = 0; i < known_count; i++) {
        if (known[i].peer == peer) {
            REQUIRE(known[i].client == letter->client);
            return;
        }
    }
    REQUIRE(known_count < CLIENTS_MAX);
    known[known_count++] = (struct known){letter->client, haul_peer_retain(peer)};
}

static void report_lost(void)
{
    for (size_t i = 0; i < known_count; i++) {
        struct timespec now;
        if (!known[i].peer || haul_peer_connected(known[i].peer))
            continue;
        clock_gettime(CLOCK_MONOTONIC, &now);
        printf("lost %llu %lld\n", (unsigned long long)known[i].client,
               now.tv_sec * 1000000000ll + now.tv_nsec);
        haul_peer_release(known[i].peer);
        known[i].peer = NULL;
    }
}

static void forget_clients(void)
{
    for (size_t i = 0; i < known_count; i++)
        if (known[i].peer)
            haul_peer_release(known[i].peer);
}

static void release_kept(void)
{
    while (kept_count > 0)
        haul_message_release(kept[--kept_count]);
}

static void check_kept(void)
{
    struct letter letter;
    for (size_t i = 0; i < kept_count; i++)
        REQUIRE(letter_read(kept[i], &letter));
    printf("right %zu\n", kept_count);
}

static bool is_trusted(const struct haul_message *message, struct letter *letter)
{
    const struct haul_array *array = haul_message_find(message, "letter");
    *letter = (struct letter){.client = 0};
    if (array && array->nbytes == sizeof *letter)
        memcpy(letter, array->data, sizeof *letter);
    return !trusted || letter->client == trusted;
}

static void receive_stranger(struct haul_message *message, const struct letter *letter)
{
    puts("stranger");
    if (trusted)
        letter_try_answer(context, message, letter);
    haul_message_release(message);
}

static void receive(enum mode mode)
{
    struct haul_message *message;
    struct letter letter;
    int err = haul_recv(server, &message, TICK_MS * 1000000ll);
    if (err == HAUL_TIMEOUT || err == HAUL_INTERRUPTED) /* it was stopped, and goes on */
        return;
    OK(err);
    if (!is_trusted(message, &letter) || !letter_read(message, &letter)) {
        receive_stranger(message, &letter);
        return;
    }
    note_client(&letter, message);
    printf("message %llu %llu\n", (unsigned long long)letter.client,
           (unsigned long long)letter.number);
    if (mode == KEEP) {
        REQUIRE(kept_count < KEPT_MAX);
        kept[kept_count++] = message;
        printf("kept %zu\n", kept_count);
        return;
    }
    if (mode == RETURN)
        letter_return(context, message, &letter);
    else
        letter_answer(context, message, &letter);
    haul_message_release(message);
}

static void print_stats(void)
{
    struct haul_stats stats;
    haul_context_stats(context, &stats);
    printf("stats peers %llu messages_unreleased %llu messages_received %llu bytes_mapped %llu "
           "pool_used_bytes %llu\n",
           (unsigned long long)stats.peers, (unsigned long long)stats.messages_unreleased,
           (unsigned long long)stats.messages_received, (unsigned long long)stats.bytes_mapped,
           (unsigned long long)stats.pool_used_bytes);
}

static void print_rails(void)
{
    struct haul_rail_stats rails[8];
    size_t count = haul_context_rails(context, rails, sizeof rails / sizeof *rails);
    for (size_t i = 0; i < count; i++)
        printf("rail %s %llu\n", rails[i].name, (unsigned long long)rails[i].bytes_read);
    printf("rails %zu\n", count);
}

/* Obeys a line of input, if there is one. Returns false at its end. */
static bool obey(enum mode *mode)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[64];
    if (poll(&input, 1, *mode == PAUSE ? TICK_MS : 0) < 1)
        return true;
    if (!fgets(line, sizeof line, stdin))
        return false;
    if (!strcmp(line, "take\n")) {
        release_kept();
        *mode = TAKE;
    } else if (!strcmp(line, "return\n")) {
        *mode = RETURN;
        puts("returning");
    } else if (!strcmp(line, "keep\n")) {
        *mode = KEEP;
        puts("keeping");
    } else if (!strcmp(line, "pause\n")) {
        *mode = PAUSE;
        puts("paused");
    } else if (!strcmp(line, "check\n")) {
        check_kept();
    } else if (!strcmp(line, "stats\n")) {
        print_stats();
    } else if (!strcmp(line, "rails\n")) {
        print_rails();
    }
    return true;
}

int main(int argc, char **argv)
{
    enum mode mode = TAKE;
    if (argc != 2 && argc != 3)
        return EXIT_FAILURE;
    trusted = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() sees what was not read */
    setvbuf(stdout, NULL, _IOLBF, 0);
    OK(haul_open(&context, NULL));
    OK(haul_listen(context, argv[1], &server));
    printf("listening %s\n", haul_server_address(server));
    while (obey(&mode)) {
        if (mode != PAUSE)
            receive(mode);
        report_lost();
    }
    release_kept();
    forget_clients();
    haul_server_close(server);
    haul_close(context);
    return EXIT_SUCCESS;
}
