/* SPDX-License-Identifier: Apache-2.0
 * Ends and edges: closing with work under way, cancelling, fork, signals, several waiting threads,
 * the pollable descriptor, statistics, clear errors. */
#include "fixture.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* (libzmq's have names of its own.) */
static unsigned count_threads_of_haul(void)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *task;
    unsigned count = 0;
    assert_non_null(tasks);
    while ((task = readdir(tasks)) != NULL) {
        char path[300], name[16] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(name, sizeof name, file))
            count += !strncmp(name, "haul", 4);
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return count;
}

/* Nothing announces that one has begun and named itself, or that the kernel lists one no more that
 * was joined. */
static void wait_for_threads_of_haul(bool any)
{
    time_t limit = time(NULL) + WAIT_NS / 1000000000;
    while ((count_threads_of_haul() > 0) != any) {
        assert_in_range(time(NULL), 0, limit);
        sched_yield();
    }
}

static void test_messages_outlive_everything(void **state)
{
    enum { BYTES = 3000000 };
    struct pair *pair = pair_open(NULL);
    static char data[BYTES];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, BYTES, 1);
    struct haul_op *op;
    struct haul_message *message;
    (void)state;
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    OK(haul_op_wait(op, WAIT_NS));
    wait_for_threads_of_haul(true);
    pair_close(pair);
    wait_for_threads_of_haul(false);
    assert_bytes(message, "x", BYTES, 1);
    haul_message_release(message);
    haul_op_release(op);
    haul_dict_destroy(dict);
}

static void test_close_ends_ops_under_way(void **state)
{
    enum { BYTES = 8000000 };
    struct pair *pair = pair_open(NULL);
    static char data[BYTES];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, BYTES, 1);
    struct haul_op *ops[20];
    (void)state;
    for (int i = 0; i < 20; i++)
        OK(haul_send_async(pair->peer, dict, &ops[i]));
    haul_peer_disconnect(pair->peer);
    for (int i = 0; i < 20; i++) {
        int err = haul_op_wait(ops[i], WAIT_NS);
        assert_true(err == HAUL_CLOSED || err == HAUL_PEER_LOST);
        haul_op_release(ops[i]);
    }
    OK(haul_dict_wait(dict, WAIT_NS));
    haul_dict_destroy(dict);
    pair_close(pair);
}

struct closing {
    struct haul_context *context;
    char address[256];
    atomic_uint begun;
    atomic_int err; /* of the last who connected */
};

static void *connect_while_closing(void *arg)
{
    struct closing *closing = arg;
    struct haul_peer *peer = NULL;
    atomic_fetch_add(&closing->begun, 1);
    closing->err = haul_connect(closing->context, closing->address, WAIT_NS, &peer);
    haul_peer_release(peer);
    return NULL;
}

static void *shut_down(void *arg)
{
    struct closing *closing = arg;
    atomic_fetch_add(&closing->begun, 1);
    haul_context_shutdown(closing->context);
    return NULL;
}

/* haul_connect() and haul_context_shutdown() may be under way when the context is closed: what they
 * use stays until they have returned. */
static void test_close_under_waits(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct pair *pair = pair_open(NULL);
        struct closing closing = {.context = context_open(NULL)};
        pthread_t connecting, shutting;
        snprintf(closing.address, sizeof closing.address, "%s", haul_server_address(pair->server));
        haul_server_shutdown(pair->server); /* nobody answers there any more */
        pthread_create(&connecting, NULL, connect_while_closing, &closing);
        pthread_create(&shutting, NULL, i % 2 ? shut_down : connect_while_closing, &closing);
        while (atomic_load(&closing.begun) < 2)
            sched_yield();
        haul_context_shutdown(closing.context);
        pthread_join(connecting, NULL);
        pthread_join(shutting, NULL);
        assert_int_equal(closing.err, HAUL_CLOSED);
        haul_close(closing.context);
        pair_close(pair);
    }
}

struct answer {
    struct haul_context *context;
    unsigned asked;
};

static bool shuts_down_again(void *arg)
{
    struct answer *answer = arg;
    answer->asked++;
    haul_context_shutdown(answer->context);
    return false;
}

/* Who is asked whether a wait is interrupted, as a signal's handler may be, may shut down; also
 * while shutting down. */
static void test_shutdown_in_an_answer(void **state)
{
    struct pair *pair = pair_open(NULL);
    struct answer answer = {.context = pair->server_context};
    struct haul_message *message;
    (void)state;
    haul_context_interrupt(pair->server_context, shuts_down_again, &answer);
    FAILS(HAUL_CLOSED, "", haul_recv(pair->server, &message, WAIT_NS));
    assert_true(answer.asked > 0);
    pair_close(pair);
}

struct blocked {
    struct haul_server *server;
    int err;
};

static void *receive_nothing(void *arg)
{
    struct blocked *blocked = arg;
    struct haul_message *message;
    blocked->err = haul_recv(blocked->server, &message, WAIT_NS);
    return NULL;
}

static void test_close_ends_waits(void **state)
{
    struct pair *pair = *state;
    struct blocked blocked[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        blocked[i] = (struct blocked){pair->server, 0};
        pthread_create(&threads[i], NULL, receive_nothing, &blocked[i]);
    }
    haul_close(pair->server_context);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(blocked[i].err, HAUL_CLOSED);
    }
    haul_server_close(pair->server);
    OK(haul_open(&pair->server_context, NULL));
    OK(haul_listen(pair->server_context, "127.0.0.1:0", &pair->server));
}

/* The server is closed while other threads wait in it, and while a batch is posted on it. */
static void test_server_close_ends_waits(void **state)
{
    struct pair *pair = *state;
    struct blocked blocked[3];
    pthread_t threads[3];
    struct haul_dict *row;
    struct haul_batch *batch;
    char data[10];
    row = dict_of(pair->server_context, "x", data, sizeof data, 1);
    OK(haul_batch_create(pair->server_context, row, 2, &batch));
    OK(haul_batch_post(batch, pair->server));
    for (int i = 0; i < 3; i++) {
        blocked[i] = (struct blocked){pair->server, 0};
        pthread_create(&threads[i], NULL, receive_nothing, &blocked[i]);
    }
    struct haul_message *message;
    for (int i = 0; i < 3; i++) /* the threads have had the time to wait */
        FAILS(HAUL_TIMEOUT, "", haul_recv(pair->server, &message, SHORT_NS));
    haul_server_close(pair->server);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(blocked[i].err, HAUL_CLOSED);
    }
    FAILS(HAUL_CLOSED, "0 of 2", haul_batch_wait(batch, WAIT_NS));
    haul_batch_destroy(batch);
    haul_dict_destroy(row);
    OK(haul_listen(pair->server_context, "127.0.0.1:0", &pair->server));
}

static void test_dict_outlives_its_context(void **state)
{
    struct haul_context *context = context_open(NULL);
    struct haul_dict *dict;
    void *data;
    const uint64_t shape[] = {10};
    (void)state;
    OK(haul_dict_create(context, &dict));
    OK(haul_dict_alloc(dict, "x", HAUL_U8, 1, shape, &data));
    haul_close(context);
    memset(data, 1, 10);
    FAILS(HAUL_CLOSED, "context", haul_dict_alloc(dict, "y", HAUL_U8, 1, shape, &data));
    haul_dict_destroy(dict);
}

static void test_cancel(void **state)
{
    enum { BYTES = 8000000 };
    struct pair *pair = *state;
    static char data[BYTES], small[10];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, BYTES, 1);
    struct haul_dict *last = dict_of(pair->client_context, "y", small, sizeof small, 2);
    struct haul_op *op;
    struct haul_message *message;
    OK(haul_send_async(pair->peer, dict, &op));
    haul_op_cancel(op);
    int err = haul_op_wait(op, WAIT_NS);
    assert_true(err == HAUL_CANCELLED || err == 0);
    haul_op_release(op);
    OK(haul_send_async(pair->peer, last, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    if (haul_message_find(message, "x")) {
        assert_bytes(message, "x", BYTES, 1);
        haul_message_release(message);
        OK(haul_recv(pair->server, &message, WAIT_NS));
    }
    assert_bytes(message, "y", sizeof small, 2);
    haul_message_release(message);
    FINISH(op);
    haul_dict_destroy(dict);
    haul_dict_destroy(last);
}

/* ThreadSanitizer does not follow threads that a forked child starts. */
#if defined(__SANITIZE_THREAD__)
#define MAY_START_THREADS_AFTER_FORK 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MAY_START_THREADS_AFTER_FORK 0
#endif
#endif
#ifndef MAY_START_THREADS_AFTER_FORK
#define MAY_START_THREADS_AFTER_FORK 1
#endif

/* The child's calls fail clearly, its exit disturbs nobody, and it may open a context of its own.
 */
static void test_fork(void **state)
{
    enum { BYTES = 3000000 };
    struct pair *pair = *state;
    static char data[BYTES];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, BYTES, 1);
    struct haul_op *op;
    struct haul_message *message;
    struct haul_block *block;
    OK(haul_block_alloc(pair->client_context, BYTES, &block));
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    FINISH(op);
    pid_t child = fork();
    if (child == 0) {
        struct haul_message *other;
        struct haul_context *own = NULL;
        struct haul_dict *mine;
        bool readable = is_filled(haul_message_find(message, "x")->data, BYTES, 1);
        bool refused = haul_send(pair->peer, dict, 0) == HAUL_FORKED &&
                       haul_recv(pair->server, &other, 0) == HAUL_FORKED &&
                       haul_dict_create(pair->client_context, &mine) == HAUL_FORKED &&
                       strstr(haul_error_detail(), "fork()");
        haul_message_release(message);
        haul_server_close(pair->server);
        haul_close(pair->server_context);
        haul_block_release(block);
        int opened = MAY_START_THREADS_AFTER_FORK ? haul_open(&own, NULL) : -1;
        if (opened == 0)
            haul_close(own);
        bool anew = opened == (provider_is("ofi") ? HAUL_UNSUPPORTED : 0);
        anew |= !MAY_START_THREADS_AFTER_FORK;
        _exit(readable && refused && anew ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    haul_block_release(block);
    haul_message_release(message);
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_bytes(message, "x", BYTES, 1);
    haul_message_release(message);
    FINISH(op);
    haul_dict_destroy(dict);
}

/* What is left of a closed context may be freed in a child, which has none of its threads. */
static void test_fork_after_close(void **state)
{
    enum { BYTES = 3000000, LIMIT_S = 60 };
    struct pair *pair = pair_open(NULL);
    static char data[BYTES];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, BYTES, 1);
    struct haul_op *op;
    struct haul_message *message;
    int status;
    (void)state;
    OK(haul_send_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    FINISH(op);
    pair_close(pair);
    pid_t child = fork();
    if (child == 0) {
        alarm(LIMIT_S);
        bool readable = is_filled(haul_message_find(message, "x")->data, BYTES, 1);
        haul_message_release(message);
        haul_dict_destroy(dict);
        _exit(readable ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_bytes(message, "x", BYTES, 1);
    haul_message_release(message);
    haul_dict_destroy(dict);
}

static void ignore_signal(int number)
{
    (void)number;
}

struct interrupter {
    pthread_t target;
    volatile bool stop;
};

/* Until the wait has ended: a signal may come before it begins. */
static void *interrupt(void *arg)
{
    struct interrupter *interrupter = arg;
    while (!__atomic_load_n(&interrupter->stop, __ATOMIC_ACQUIRE)) {
        pthread_kill(interrupter->target, SIGUSR1);
        sched_yield();
    }
    return NULL;
}

static void test_signals_end_waits(void **state)
{
    struct pair *pair = *state;
    struct haul_message *message;
    struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    struct interrupter interrupter = {pthread_self(), false};
    pthread_t thread;
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&thread, NULL, interrupt, &interrupter);
    assert_int_equal(haul_recv(pair->server, &message, WAIT_NS), HAUL_INTERRUPTED);
    __atomic_store_n(&interrupter.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

/* More than may come unasked: it comes because somebody waits at the descriptor. */
static char large[6000000];

static void test_descriptor(void **state)
{
    enum { WAIT_MS = 60000 };
    struct pair *pair = *state;
    struct haul_dict *dict = dict_of(pair->client_context, "x", large, sizeof large, 1);
    struct haul_message *message;
    struct haul_op *op;
    int server_fd = haul_context_fd(pair->server_context);
    int client_fd = haul_context_fd(pair->client_context);
    assert_true(server_fd >= 0 && client_fd >= 0);
    assert_false(readable(server_fd, 0));
    OK(haul_call_async(pair->peer, dict, &op));
    assert_true(readable(server_fd, WAIT_MS)); /* the progress thread received it */
    assert_true(readable(server_fd, WAIT_MS)); /* level-triggered */
    assert_false(readable(client_fd, 0));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_false(readable(server_fd, 0));
    haul_message_release(message);
    assert_true(readable(client_fd, WAIT_MS));
    FAILS(HAUL_NO_REPLY, "", haul_op_test(op));
    assert_false(readable(client_fd, 0));
    haul_op_release(op);
    haul_dict_destroy(dict);
}

/* Each says only what it is for, so that an event loop need not collect what it does not want. */
static void test_narrow_descriptors(void **state)
{
    enum { WAIT_MS = 60000 };
    struct pair *pair = *state;
    struct haul_dict *dict = dict_of(pair->client_context, "x", large, sizeof large, 1);
    struct haul_dict *back = dict_of(pair->server_context, "y", large, sizeof large, 1);
    struct haul_message *message, *pushed;
    struct haul_op *op, *push;
    int server_fd = haul_server_fd(pair->server);
    int peer_fd = haul_peer_fd(pair->peer);
    int ops_fd = haul_context_ops_fd(pair->client_context);
    assert_true(server_fd >= 0 && peer_fd >= 0 && ops_fd >= 0);
    OK(haul_call_async(pair->peer, dict, &op));
    assert_true(readable(server_fd, WAIT_MS));
    assert_false(readable(haul_context_ops_fd(pair->server_context), 0));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    assert_false(readable(server_fd, 0));
    FAILS(HAUL_INVALID, "server's peer", haul_peer_fd(haul_message_peer(message)));
    OK(haul_send_async(haul_message_peer(message), back, &push));
    assert_true(readable(peer_fd, WAIT_MS));
    assert_false(readable(ops_fd, 0)); /* a message is no op */
    OK(haul_peer_recv(pair->peer, &pushed, WAIT_NS));
    assert_false(readable(peer_fd, 0));
    haul_message_release(pushed);
    haul_message_release(message);
    assert_true(readable(ops_fd, WAIT_MS));
    assert_false(readable(peer_fd, 0));
    FAILS(HAUL_NO_REPLY, "", haul_op_test(op));
    assert_false(readable(ops_fd, 0));
    OK(haul_op_wait(push, WAIT_NS));
    haul_op_release(op);
    haul_op_release(push);
    haul_dict_destroy(dict);
    haul_dict_destroy(back);
    haul_peer_disconnect(pair->peer);
    assert_true(readable(peer_fd, 0)); /* receiving says why */
    FAILS(HAUL_CLOSED, "", haul_peer_recv(pair->peer, &pushed, WAIT_NS));
}

struct asked {
    struct haul_context *context;
    unsigned count, end_at;
};

static bool asks(void *arg)
{
    struct asked *asked = arg;
    struct haul_stats stats;
    haul_context_stats(asked->context, &stats); /* it may call haul */
    return ++asked->count == asked->end_at;
}

/* No signal ends the wait; the answer does, for the thread that drives and for one that does not.
 */
static void test_interrupt_is_asked(void **state)
{
    struct pair *pair = *state;
    struct haul_message *message;
    struct sigaction action = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    struct interrupter interrupter = {pthread_self(), false};
    struct asked asked = {pair->server_context, 0, 30};
    pthread_t thread;
    sigaction(SIGUSR1, &action, NULL);
    haul_context_interrupt(pair->server_context, asks, &asked);
    FAILS(HAUL_TIMEOUT, "", haul_recv(pair->server, &message, 0));
    pthread_create(&thread, NULL, interrupt, &interrupter);
    assert_int_equal(haul_recv(pair->server, &message, HAUL_FOREVER), HAUL_INTERRUPTED);
    assert_int_equal(asked.count, 30);
    __atomic_store_n(&interrupter.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    asked = (struct asked){pair->server_context, 0, 2}; /* without signals: by time alone */
    assert_int_equal(haul_recv(pair->server, &message, HAUL_FOREVER), HAUL_INTERRUPTED);
    asked = (struct asked){pair->server_context, 0, 0};
    FAILS(HAUL_TIMEOUT, "",
          haul_recv(pair->server, &message, SHORT_NS)); /* too short to be asked */
    haul_context_interrupt(pair->server_context, NULL, NULL);
}

struct receiver {
    struct haul_server *server;
    unsigned *received;
    pthread_t thread;
};

static void *receive_until_closed(void *arg)
{
    struct receiver *receiver = arg;
    struct haul_message *message;
    while (haul_recv(receiver->server, &message, WAIT_NS) == 0) {
        __atomic_add_fetch(receiver->received, 1, __ATOMIC_RELAXED);
        haul_message_release(message);
    }
    return NULL;
}

struct sender {
    struct haul_peer *peer;
    struct haul_context *context;
    pthread_t thread;
};

enum { SENDERS = 4, EACH = 50 };

static void *send_each(void *arg)
{
    struct sender *sender = arg;
    char data[1000];
    struct haul_dict *dict = dict_of(sender->context, "x", data, sizeof data, 1);
    for (int i = 0; i < EACH; i++)
        OK(haul_send(sender->peer, dict, WAIT_NS));
    haul_dict_destroy(dict);
    return NULL;
}

static void test_many_threads(void **state)
{
    struct pair *pair = *state;
    unsigned received = 0;
    struct receiver receivers[3];
    struct sender senders[SENDERS];
    for (int i = 0; i < 3; i++) {
        receivers[i] = (struct receiver){pair->server, &received, 0};
        pthread_create(&receivers[i].thread, NULL, receive_until_closed, &receivers[i]);
    }
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){pair->peer, pair->client_context, 0};
        pthread_create(&senders[i].thread, NULL, send_each, &senders[i]);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    /* The server holds all of them; closing it would drop those that nobody has received yet. */
    while (__atomic_load_n(&received, __ATOMIC_RELAXED) < SENDERS * EACH)
        sched_yield();
    haul_close(pair->server_context);
    for (int i = 0; i < 3; i++)
        pthread_join(receivers[i].thread, NULL);
    assert_int_equal(received, SENDERS * EACH);
    haul_server_close(pair->server);
    OK(haul_open(&pair->server_context, NULL));
    OK(haul_listen(pair->server_context, "127.0.0.1:0", &pair->server));
}

/* Waits for an op, or for all sends of a dict. */
struct waiter {
    struct haul_op *op;
    struct haul_dict *dict;
    pid_t tid; /* 0: not running yet */
    pthread_t thread;
};

static void *wait_for_it(void *arg)
{
    struct waiter *waiter = arg;
    __atomic_store_n(&waiter->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
    OK(waiter->op ? haul_op_wait(waiter->op, WAIT_NS) : haul_dict_wait(waiter->dict, WAIT_NS));
    return NULL;
}

/* Whether the system says "S" of a thread of ours; its name is in brackets before that. */
static bool sleeps(pid_t tid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    bool there = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    const char *name_end = there ? strrchr(line, ')') : NULL;
    return name_end && strncmp(name_end, ") S", 3) == 0;
}

/* Starts its thread; returns when that sleeps. */
static void start_waiter(struct waiter *waiter)
{
    pid_t tid;
    assert_int_equal(pthread_create(&waiter->thread, NULL, wait_for_it, waiter), 0);
    while (!(tid = __atomic_load_n(&waiter->tid, __ATOMIC_ACQUIRE)) || !sleeps(tid))
        sched_yield();
}

/* The last that waits drives, and its wait lasts until the progress thread sleeps through it. All
 * of them sleep before, too: nothing tells; where this is too short, the test sees less, and
 * passes. */
static void let_it_drive(void)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    nanosleep(&pause, NULL);
}

static bool counts(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
    return false;
}

/* Who waits without a limit, and is to be asked, waits on when nobody is to be asked any more. */
static void test_interrupt_is_not_asked_any_more(void **state)
{
    struct pair *pair = *state;
    char data;
    struct haul_dict *dict = dict_of(pair->client_context, "x", &data, 1, 1);
    atomic_uint asked = 0;
    struct echo echo;
    haul_context_interrupt(pair->server_context, counts, &asked);
    echo_start(&echo, pair, 1);
    while (asked == 0)
        sched_yield();
    haul_context_interrupt(pair->server_context, NULL, NULL);
    FAILS(HAUL_TIMEOUT, "", haul_peer_recv(pair->peer, &(struct haul_message *){0}, 4 * SHORT_NS));
    OK(haul_send(pair->peer, dict, WAIT_NS));
    echo_join(&echo);
    haul_dict_destroy(dict);
}

/* Of three threads that wait, one drives: the first that has begun. Two waits end together, its own
 * among them: for the third somebody must go on. */
static void test_waits_that_end_together(void **state)
{
    enum { WAITS = 3, ROUNDS = 10 };
    struct pair *pair = *state;
    char data[10];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, sizeof data, 1);
    struct haul_dict *answer;
    OK(haul_dict_create(pair->server_context, &answer));
    for (int round = 0; round < ROUNDS; round++) {
        struct waiter waiters[WAITS];
        struct haul_op *calls[WAITS], *replies[WAITS];
        struct haul_message *messages[WAITS];
        for (int i = 0; i < WAITS; i++) {
            OK(haul_call_async(pair->peer, dict, &calls[i]));
            OK(haul_recv(pair->server, &messages[i], WAIT_NS));
            waiters[i] = (struct waiter){.op = calls[i]};
            start_waiter(&waiters[i]);
        }
        for (int i = 0; i < WAITS; i++) {
            if (i == WAITS - 1) {
                pthread_join(waiters[0].thread, NULL);
                pthread_join(waiters[1].thread, NULL);
                let_it_drive();
            }
            OK(haul_reply_async(messages[i], answer, &replies[i]));
            haul_message_release(messages[i]);
        }
        pthread_join(waiters[WAITS - 1].thread, NULL);
        for (int i = 0; i < WAITS; i++) {
            FINISH(replies[i]);
            haul_op_release(calls[i]);
        }
    }
    haul_dict_destroy(answer);
    haul_dict_destroy(dict);
}

static void test_op_released_in_its_wait(void **state)
{
    struct pair *pair = *state;
    char data;
    struct haul_dict *dict = dict_of(pair->client_context, "x", &data, 1, 1), *answer;
    struct waiter waiter = {.op = NULL};
    struct haul_message *message;
    struct haul_op *reply;
    OK(haul_dict_create(pair->server_context, &answer));
    OK(haul_call_async(pair->peer, dict, &waiter.op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    start_waiter(&waiter);
    haul_op_release(waiter.op);
    OK(haul_reply_async(message, answer, &reply));
    pthread_join(waiter.thread, NULL);
    FINISH(reply);
    haul_message_release(message);
    haul_dict_destroy(answer);
    haul_dict_destroy(dict);
}

static void test_dict_destroyed_in_its_wait(void **state)
{
    struct pair *pair = pair_open("credits", "1", NULL);
    char data[2];
    struct haul_dict *first = dict_of(pair->client_context, "x", &data[0], 1, 1);
    struct haul_dict *second = dict_of(pair->client_context, "x", &data[1], 1, 2);
    struct waiter waiter = {.dict = second};
    struct haul_op *ops[2];
    (void)state;
    OK(haul_send_async(pair->peer, first, &ops[0]));
    OK(haul_send_async(pair->peer, second, &ops[1])); /* until the first has been released */
    start_waiter(&waiter);
    haul_dict_destroy(second);
    for (unsigned i = 0; i < 2; i++) {
        struct haul_message *message;
        OK(haul_recv(pair->server, &message, WAIT_NS));
        assert_bytes(message, "x", 1, i + 1);
        haul_message_release(message);
        FINISH(ops[i]);
    }
    pthread_join(waiter.thread, NULL);
    haul_dict_destroy(first);
    pair_close(pair);
}

/* Clients redial a server that came back; the op that was under way fails, the next one succeeds.
 */
static void test_server_restarts(void **state)
{
    struct pair *pair = *state;
    char address[256], data[10];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, sizeof data, 1);
    struct haul_op *op;
    struct haul_message *message;
    struct echo echo;
    snprintf(address, sizeof address, "%s", haul_server_address(pair->server));
    OK(haul_call_async(pair->peer, dict, &op));
    OK(haul_recv(pair->server, &message, WAIT_NS));
    haul_server_close(pair->server);
    haul_message_release(message);
    int err = haul_op_wait(op, WAIT_NS);
    assert_true(err == HAUL_PEER_LOST || err == HAUL_NO_REPLY || err == HAUL_CLOSED);
    haul_op_release(op);
    OK(haul_listen(pair->server_context, address, &pair->server));
    echo_start(&echo, pair, 1);
    OK(haul_send(pair->peer, dict, WAIT_NS));
    echo_join(&echo);
    haul_dict_destroy(dict);
}

static void test_clear_errors(void **state)
{
    struct pair *pair = *state;
    struct haul_server *server;
    struct haul_peer *peer;
    struct haul_dict *dict;
    char key[HAUL_KEY_MAX + 2];
    const uint64_t huge[] = {UINT64_MAX / 2, 8};
    FAILS(HAUL_ADDRESS, "port", haul_listen(pair->server_context, "localhost", &server));
    FAILS(HAUL_ADDRESS, "port", haul_connect(pair->client_context, "a:b", 0, &peer));
    FAILS(HAUL_UNREACHABLE, "server listening",
          haul_connect(pair->client_context, "127.0.0.1:1", SHORT_NS, &peer));
    OK(haul_dict_create(pair->client_context, &dict));
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    FAILS(HAUL_INVALID, "255", haul_dict_put(dict, key, HAUL_U8, 0, NULL, key));
    FAILS(HAUL_INVALID, "", haul_dict_put(dict, "", HAUL_U8, 0, NULL, key));
    FAILS(HAUL_INVALID, "x", haul_dict_put(dict, "x", HAUL_U8, 2, huge, key));
    FAILS(HAUL_INVALID, "x", haul_dict_put(dict, "x", (enum haul_dtype)99, 0, NULL, key));
    haul_dict_destroy(dict);
    struct haul_options *options;
    struct haul_context *context;
    OK(haul_options_create(&options));
    OK(haul_options_set(options, "provider", "vervs"));
    FAILS(HAUL_PROVIDER, "tcp", haul_open(&context, options));
    haul_options_destroy(options);
}

static void test_statistics(void **state)
{
    struct pair *pair = *state;
    struct echo echo;
    struct haul_stats stats;
    char data[1000];
    struct haul_dict *dict = dict_of(pair->client_context, "x", data, sizeof data, 1);
    echo_start(&echo, pair, 10);
    for (int i = 0; i < 10; i++)
        OK(haul_send(pair->peer, dict, WAIT_NS));
    echo_join(&echo);
    haul_peer_stats(pair->peer, &stats);
    assert_int_equal(stats.messages_sent, 10);
    assert_int_equal(stats.bytes_sent, 10000);
    assert_int_equal(stats.ops_under_way, 0);
    haul_context_stats(pair->server_context, &stats);
    assert_int_equal(stats.messages_received, 10);
    assert_int_equal(stats.bytes_received, 10000);
    assert_int_equal(stats.messages_unreleased, 0);
    assert_int_equal(stats.peers, 1);
    char path[64], why[512];
    OK(haul_peer_path(pair->peer, path, sizeof path, why, sizeof why));
    assert_true(strlen(path) > 0);
    assert_true(haul_peer_connected(pair->peer));
    haul_dict_destroy(dict);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_outlive_everything),
        cmocka_unit_test(test_close_under_waits),
        cmocka_unit_test(test_shutdown_in_an_answer),
        cmocka_unit_test(test_close_ends_ops_under_way),
        TEST(test_close_ends_waits),
        TEST(test_server_close_ends_waits),
        cmocka_unit_test(test_dict_outlives_its_context),
        TEST(test_cancel),
        TEST(test_fork),
        cmocka_unit_test(test_fork_after_close),
        TEST(test_signals_end_waits),
        TEST(test_descriptor),
        TEST(test_narrow_descriptors),
        TEST(test_interrupt_is_asked),
        TEST(test_interrupt_is_not_asked_any_more),
        TEST(test_waits_that_end_together),
        TEST(test_op_released_in_its_wait),
        cmocka_unit_test(test_dict_destroyed_in_its_wait),
        TEST(test_many_threads),
        TEST(test_server_restarts),
        TEST(test_clear_errors),
        TEST(test_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
