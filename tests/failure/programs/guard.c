/* SPDX-License-Identifier: Apache-2.0
 * A server that receives into memory of its own, takes it back when the time is up, and then sees
 * whether anybody still writes to it.
 *
 *   failure_program_guard ADDRESS BYTES
 *
 * Standard input, a line each; every one is answered:
 *   "receive MS"  receives a letter of BYTES into the memory: "received NUMBER", or "time is up"
 *   "stop PID"    receives letters of BYTES into the memory and stops their sender, which sends one
 *                 at a time, when part of one has come: "stopped", or "received TIMES" if that did
 *                 not keep the rest from coming
 *   "guard"       fills the memory with a pattern: "guarded"
 *   "take COUNT"  receives letters elsewhere, and checks every byte: "taken COUNT"
 *   "check"       "untouched", or "written to at OFFSET"
 * The end of input ends it. First it says "listening ADDRESS". */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "letter.h"

enum { PATTERN = 0xa5, RECEIVES_MAX = 20 };
#define PATTERN_WORD 0xa5a5a5a5a5a5a5a5
#define RECEIVE_NS 200000000ll /* how long a read is waited for whose sender is stopped */

struct watch {
    pid_t pid;
    atomic_bool stopped, ends;
};

static struct haul_context *context;
static struct haul_server *server;
static uint64_t head[sizeof(struct letter) / sizeof(uint64_t)];
static uint8_t *memory;
static size_t bytes;

/* Memory and head are to be received into. */
static struct haul_dict *make_destination(void)
{
    struct haul_dict *destination;
    const uint64_t head_shape = sizeof head / sizeof *head, shape = bytes;
    OK(haul_dict_create(context, &destination));
    OK(haul_dict_put(destination, "letter", HAUL_U64, 1, &head_shape, head));
    OK(haul_dict_put(destination, "part 0", HAUL_U8, 1, &shape, memory));
    return destination;
}

static void receive(int64_t timeout_ns)
{
    struct haul_dict *destination = make_destination();
    struct haul_message *message;
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

/* Runs beside a receive. Reads memory that haul writes to, which is what it is for. */
__attribute__((no_sanitize("thread"))) static void *stop_at_first_bytes(void *arg)
{
    struct watch *watch = arg;
    while (*(volatile uint64_t *)memory == PATTERN_WORD && !watch->ends)
        sched_yield();
    watch->stopped = !watch->ends && kill(watch->pid, SIGSTOP) == 0;
    return NULL;
}

/* Returns 0 if a whole letter has come, or HAUL_TIMEOUT if its sender was stopped before. */
static int receive_until_stopped(struct haul_dict *destination, pid_t pid)
{
    struct watch watch = {.pid = pid};
    struct haul_message *message;
    pthread_t thread;
    int err;
    *(volatile uint64_t *)memory = PATTERN_WORD;
    REQUIRE(pthread_create(&thread, NULL, stop_at_first_bytes, &watch) == 0);
    do {
        err = haul_recv_into(server, destination, &message, RECEIVE_NS);
    } while (err == HAUL_TIMEOUT && !watch.stopped);
    watch.ends = true;
    pthread_join(thread, NULL);
    if (err == HAUL_TIMEOUT)
        return err;
    OK(err);
    struct letter letter;
    memcpy(&letter, head, sizeof letter);
    letter_answer(context, message, &letter);
    haul_message_release(message);
    kill(pid, SIGCONT);
    return 0;
}

/* (What came before it was asked for lies elsewhere, and is copied.) */
static void stop(pid_t pid)
{
    struct haul_dict *destination = make_destination();
    int received = 0;
    while (received < RECEIVES_MAX && receive_until_stopped(destination, pid) == 0)
        received++;
    if (received < RECEIVES_MAX)
        puts("stopped");
    else
        printf("received %d\n", received);
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
    REQUIRE(memory && bytes >= sizeof(uint64_t));
    OK(haul_open(&context, NULL));
    OK(haul_listen(context, argv[1], &server));
    printf("listening %s\n", haul_server_address(server));
    while (fgets(line, sizeof line, stdin)) {
        unsigned long number = strtoul(line + strcspn(line, " "), NULL, 10);
        if (!strncmp(line, "receive ", 8)) {
            receive((int64_t)number * 1000000);
        } else if (!strncmp(line, "stop ", 5)) {
            stop((pid_t)number);
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
