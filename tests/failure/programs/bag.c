/* SPDX-License-Identifier: Apache-2.0
 * A server with several threads that receive, check every byte, and release what any of them has
 * received, out of order.
 *
 *   failure_program_bag ADDRESS THREADS
 *
 * Standard input: a number, of messages to wait for; its end ends the server. Standard output:
 * "listening ADDRESS"; when they have come "received COUNT, PEERS peers by PATH" for each path that
 * peers had. */
#include "letter.h"

#include <pthread.h>

enum {
    BAG = 12, /* a sender whose credits (16) all lay in it could not send any more */
    THREADS_MAX = 16,
    PEERS_MAX = 1024,
    PATHS_MAX = 4
};

static struct haul_context *context;
static struct haul_server *server;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct haul_message *bag[BAG];
static uint64_t received;
static uint64_t peers[PEERS_MAX]; /* clients that have been seen */
static size_t peer_count;
static struct {
    char name[64];
    unsigned peers;
} paths[PATHS_MAX];

static void note_path(const struct haul_message *message)
{
    char path[64], why[512];
    haul_peer_path(haul_message_peer(message), path, sizeof path, why, sizeof why);
    size_t i = 0;
    while (i < PATHS_MAX && *paths[i].name && strcmp(paths[i].name, path) != 0)
        i++;
    REQUIRE(i < PATHS_MAX);
    snprintf(paths[i].name, sizeof paths[i].name, "%s", path);
    paths[i].peers++;
}

static void note(const struct haul_message *message, uint64_t client)
{
    received++;
    pthread_cond_signal(&more);
    for (size_t i = 0; i < peer_count; i++)
        if (peers[i] == client)
            return;
    REQUIRE(peer_count < PEERS_MAX);
    peers[peer_count++] = client;
    note_path(message);
}

/* Puts it into the bag. Returns what lay in its place. */
static struct haul_message *swap(struct haul_message *message, const struct letter *letter)
{
    uint64_t place;
    pthread_mutex_lock(&lock);
    note(message, letter->client);
    fill(&place, sizeof place, received); /* as good as any */
    place = (place >> 20) % BAG;
    struct haul_message *old = bag[place];
    bag[place] = message;
    pthread_mutex_unlock(&lock);
    return old;
}

static void *receive(void *arg)
{
    struct haul_message *message;
    (void)arg;
    while (haul_recv(server, &message, HAUL_FOREVER) == 0) {
        struct letter letter;
        REQUIRE(letter_read(message, &letter));
        letter_answer(context, message, &letter);
        message = swap(message, &letter);
        if (!message)
            continue;
        REQUIRE(letter_read(message, &letter)); /* as it was */
        haul_message_release(message);
    }
    return NULL;
}

static void report(uint64_t wanted)
{
    pthread_mutex_lock(&lock);
    while (received < wanted)
        pthread_cond_wait(&more, &lock);
    for (size_t i = 0; i < PATHS_MAX && *paths[i].name; i++)
        printf("received %llu, %u peers by %s\n", (unsigned long long)received, paths[i].peers,
               paths[i].name);
    pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    char line[32];
    if (argc != 3)
        return EXIT_FAILURE;
    size_t count = strtoul(argv[2], NULL, 10);
    REQUIRE(count >= 1 && count <= THREADS_MAX);
    setvbuf(stdout, NULL, _IOLBF, 0);
    OK(haul_open(&context, NULL));
    OK(haul_listen(context, argv[1], &server));
    printf("listening %s\n", haul_server_address(server));
    for (size_t i = 0; i < count; i++)
        REQUIRE(!pthread_create(&threads[i], NULL, receive, NULL));
    while (fgets(line, sizeof line, stdin))
        report(strtoull(line, NULL, 10));
    haul_server_shutdown(server);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < BAG; i++)
        if (bag[i])
            haul_message_release(bag[i]);
    haul_server_close(server);
    haul_close(context);
    return EXIT_SUCCESS;
}
