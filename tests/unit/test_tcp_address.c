/* SPDX-License-Identifier: Apache-2.0
 * The provider tcp: addresses, listening, accepting and connecting. */
#include "tcp_fake_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int open_engine(void **state)
{
    struct haul_engine *engine = malloc(sizeof *engine);
    assert_non_null(engine);
    fake_open(engine);
    *state = engine;
    return 0;
}

static int close_engine(void **state)
{
    fake_close(*state);
    free(*state);
    return 0;
}

static void expect_detail(const char *part)
{
    if (!strstr(host_detail, part))
        fail_msg("\"%s\" is not in \"%s\"", part, host_detail);
}

/* ---- Names ---------------------------------------------------------------------------------- */

static void expect_no_route(struct haul_engine *engine, const char *host, const char *service,
                            bool listening, const char *part)
{
    struct haul_address address = fake_address(host, service);
    void *route;
    assert_int_equal(engine->ops->resolve(engine->channel, &address, listening, &route),
                     HAUL_ADDRESS);
    expect_detail(part);
}

static void test_bad_names(void **state)
{
    struct haul_engine *engine = *state;
    expect_no_route(engine, "no-such-host.invalid", "5555", false,
                    "host 'no-such-host.invalid' was not found: ");
    expect_no_route(engine, "127.0.0.1", "65536", true, "'65536' is no port");
    expect_no_route(engine, "127.0.0.1", "99999999999999999999999", true, "is no port");
    expect_no_route(engine, "127.0.0.1", "", true, "is no port");
    expect_no_route(engine, "127.0.0.1", "no-such-service", true, "no known service");
    expect_no_route(engine, "127.0.0.1", "0", false, "port 0 is for listening");
    char path[sizeof((struct haul_address *)0)->unix_path + 1];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    struct haul_address address = {.text = "unix:xxx"};
    memcpy(address.unix_path, path, sizeof address.unix_path);
    void *route;
    assert_int_equal(engine->ops->resolve(engine->channel, &address, true, &route), HAUL_ADDRESS);
    expect_detail("at most 107 bytes");
}

/* ---- Listening ------------------------------------------------------------------------------ */

static void expect_reachable(struct haul_engine *engine, const char *host, const char *service,
                             const char *seen_as)
{
    unsigned before = engine->accepted_count;
    struct haul_link *link = fake_connect(engine, host, service);
    fake_drive(engine, NULL, fake_link_ready, link);
    fake_settle(engine);
    assert_int_equal(link->connected, 1);
    assert_int_equal(engine->accepted_count, before + 1);
    const char *address = engine->accepted[before]->address;
    assert_int_equal(strncmp(address, seen_as, strlen(seen_as)), 0);
    fake_disconnect(link, false);
}

static void expect_bound(const struct haul_listener *listener, const char *host)
{
    char wanted[FAKE_TEXT_BYTES];
    snprintf(wanted, sizeof wanted, "%s:%d", host, atoi(fake_port(listener)));
    assert_string_equal(listener->bound, wanted);
    assert_true(atoi(fake_port(listener)) > 0);
}

static void test_bound_addresses(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    expect_bound(&listener, "127.0.0.1");
    expect_reachable(engine, "127.0.0.1", fake_port(&listener), "127.0.0.1:");
    fake_unlisten(&listener);
    if (!fake_has_ipv6())
        skip();
    assert_int_equal(fake_listen(engine, &listener, "::1", "0"), 0);
    expect_bound(&listener, "[::1]");
    expect_reachable(engine, "::1", fake_port(&listener), "[::1]:");
    fake_unlisten(&listener);
}

static void test_all_interfaces(void **state)
{
    struct haul_engine *engine = *state;
    static const char *const names[] = {"", "*"};
    for (int i = 0; i < 2; i++) {
        struct haul_listener listener;
        assert_int_equal(fake_listen(engine, &listener, names[i], "0"), 0);
        expect_bound(&listener, "");
        expect_reachable(engine, "127.0.0.1", fake_port(&listener), "127.0.0.1:");
        if (fake_has_ipv6())
            expect_reachable(engine, "::1", fake_port(&listener), "[::1]:");
        expect_reachable(engine, names[i], fake_port(&listener), "");
        fake_unlisten(&listener);
    }
}

/* A name is all of its addresses. */
static void test_listen_on_name(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    assert_int_equal(fake_listen(engine, &listener, "localhost", "0"), 0);
    expect_bound(&listener, "localhost");
    expect_reachable(engine, "127.0.0.1", fake_port(&listener), "127.0.0.1:");
    expect_reachable(engine, "localhost", fake_port(&listener), "");
    fake_unlisten(&listener);
}

static void test_port_in_use(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener first, second;
    assert_int_equal(fake_listen(engine, &first, "127.0.0.1", "0"), 0);
    assert_int_equal(fake_listen(engine, &second, "127.0.0.1", fake_port(&first)), HAUL_ADDRESS);
    char wanted[FAKE_TEXT_BYTES];
    snprintf(wanted, sizeof wanted,
             "127.0.0.1:%s is in use already; choose another port, or :0 for a free one",
             fake_port(&first));
    assert_string_equal(host_detail, wanted);
    /* All interfaces contain it. */
    assert_int_equal(fake_listen(engine, &second, "", fake_port(&first)), HAUL_ADDRESS);
    expect_detail("is in use already");
    /* Free at once when it is closed, though connections may linger. */
    char port[FAKE_TEXT_BYTES];
    snprintf(port, sizeof port, "%s", fake_port(&first));
    expect_reachable(engine, "127.0.0.1", port, "127.0.0.1:");
    fake_unlisten(&first);
    assert_int_equal(fake_listen(engine, &second, "127.0.0.1", port), 0);
    fake_unlisten(&second);
}

static void test_foreign_address(void **state)
{
    struct haul_listener listener;
    assert_int_equal(fake_listen(*state, &listener, "192.0.2.1", "0"), HAUL_ADDRESS);
    expect_detail("192.0.2.1:0 is not an address of this host");
    assert_int_equal(fake_listen(*state, &listener, "::ffff:127.0.0.1", "0"), HAUL_ADDRESS);
    expect_detail("[::ffff:192.0.2.1] is written 192.0.2.1");
}

static void test_no_memory_to_watch(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    engine->watches.max = 1;
    struct haul_link *link = fake_connect(engine, "127.0.0.1", fake_port(&listener));
    fake_drive(engine, NULL, fake_link_lost, link);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "cannot allocate memory"));
    fake_disconnect(link, false);
    struct haul_listener second;
    assert_int_equal(fake_listen(engine, &second, "127.0.0.1", "0"), HAUL_NO_MEMORY);
    int fd = fake_raw_connect(&listener);
    char byte;
    fake_settle(engine);
    assert_int_equal(recv(fd, &byte, 1, 0), 0); /* turned away */
    assert_int_equal(engine->accepted_count, 0);
    close(fd);
    fake_unlisten(&listener);
}

static void test_too_many_watched(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    engine->watch_errno = ENOSPC;
    struct haul_link *link = fake_connect(engine, "127.0.0.1", fake_port(&listener));
    fake_drive(engine, NULL, fake_link_lost, link);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "max_user_watches"));
    fake_disconnect(link, false);
    fake_unlisten(&listener);
}

/* ---- Unix sockets --------------------------------------------------------------------------- */

static void test_unix(void **state)
{
    struct haul_engine *engine = *state;
    char path[FAKE_TEXT_BYTES], wanted[FAKE_TEXT_BYTES + 8];
    struct haul_listener listener, second;
    fake_path_make(path);
    snprintf(wanted, sizeof wanted, "unix:%s", path);
    assert_int_equal(fake_listen(engine, &listener, NULL, path), 0);
    assert_string_equal(listener.bound, wanted);
    assert_int_equal(fake_listen(engine, &second, NULL, path), HAUL_ADDRESS);
    expect_detail("is in use: a server answers there");
    snprintf(wanted, sizeof wanted, "unix:%ld", (long)getpid());
    expect_reachable(engine, NULL, path, wanted);
    fake_unlisten(&listener);
    assert_int_equal(access(path, F_OK), -1);
    fake_path_remove();
}

/* As a server that was killed leaves it. */
static void leave_stale_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    close(fd);
}

static void test_unix_stale(void **state)
{
    struct haul_engine *engine = *state;
    char path[FAKE_TEXT_BYTES];
    struct haul_listener listener;
    fake_path_make(path);
    leave_stale_socket(path);
    struct haul_link *link = fake_connect(engine, NULL, path);
    fake_drive(engine, NULL, fake_link_lost, link);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "connection refused"));
    fake_disconnect(link, false);
    assert_int_equal(fake_listen(engine, &listener, NULL, path), 0);
    expect_reachable(engine, NULL, path, "unix:");
    fake_unlisten(&listener);
    fake_path_remove();
}

static void test_unix_keeps_files_of_others(void **state)
{
    struct haul_engine *engine = *state;
    char path[FAKE_TEXT_BYTES];
    struct haul_listener listener;
    fake_path_make(path);
    /* A file that is no socket is not replaced. */
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(fake_listen(engine, &listener, NULL, path), HAUL_ADDRESS);
    expect_detail("it is no socket");
    assert_int_equal(unlink(path), 0);
    /* Nor is a file removed that took the place of ours. */
    assert_int_equal(fake_listen(engine, &listener, NULL, path), 0);
    assert_int_equal(unlink(path), 0);
    leave_stale_socket(path);
    fake_unlisten(&listener);
    assert_int_equal(access(path, F_OK), 0);
    fake_path_remove();
    /* No folder, no socket. */
    assert_int_equal(fake_listen(engine, &listener, NULL, path), HAUL_ADDRESS);
    expect_detail("No such file or directory");
}

/* ---- Connecting ----------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    struct haul_engine *engine = *state;
    char port[8];
    close(fake_raw_listen(port));
    struct haul_link *link = fake_connect(engine, "127.0.0.1", port);
    assert_int_equal(link->lost, 0); /* never from inside connect() */
    fake_drive(engine, NULL, fake_link_lost, link);
    assert_int_equal(link->connected, 0);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_string_equal(link->why, "connection refused");
    fake_disconnect(link, false);
}

/* localhost is [::1] first; only 127.0.0.1 answers. */
static void test_next_address(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    expect_reachable(engine, "", fake_port(&listener), "127.0.0.1:");
    fake_unlisten(&listener);
    struct haul_link *link = fake_connect(engine, "", fake_port(&listener));
    fake_drive(engine, NULL, fake_link_lost, link);
    assert_non_null(strstr(link->why, "127.0.0.1:"));
    if (fake_has_ipv6())
        assert_non_null(strstr(link->why, "[::1]:"));
    fake_disconnect(link, false);
}

enum { CLIENTS = 8 };

/* A listener on [::1] that lets connections wait for ever: its queue is full. */
static int make_silent(uint16_t port, int clients[CLIENTS])
{
    struct sockaddr_in6 address = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 0), 0);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(clients[i] >= 0);
        connect(clients[i], (struct sockaddr *)&address, sizeof address);
    }
    return fd;
}

static void test_silent_address(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    int clients[CLIENTS];
    if (!fake_has_ipv6())
        skip();
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    int fd = make_silent((uint16_t)atoi(fake_port(&listener)), clients);
    struct haul_link *link = fake_connect(engine, "", fake_port(&listener));
    fake_settle(engine);
    assert_false(fake_link_ready(link));
    fake_clock_ns += (uint64_t)2000000000;
    fake_drive(engine, NULL, fake_link_ready, link);
    assert_int_equal(link->connected, 1);
    fake_settle(engine);
    assert_int_equal(engine->accepted_count, 1);
    fake_disconnect(link, false);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    close(fd);
    fake_unlisten(&listener);
}

static void test_disconnect_while_connecting(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    fake_disconnect(fake_connect(engine, "", fake_port(&listener)), false);
    fake_disconnect(fake_connect(engine, "", fake_port(&listener)), true);
    fake_settle(engine);
    assert_int_equal(engine->watches.count, 1);
    fake_unlisten(&listener);
}

/* ---- Accepting ------------------------------------------------------------------------------ */

static void test_core_turns_away(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    char byte;
    engine->refuses_links = true;
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    int fd = fake_raw_connect(&listener);
    fake_settle(engine);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    fake_unlisten(&listener);
}

/* Lets the process open `more` descriptors; returns the limit that was. */
static struct rlimit leave_descriptors(unsigned more)
{
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(STDERR_FILENO);
    assert_true(next >= 0);
    close(next);
    limit = before;
    limit.rlim_cur = (rlim_t)next + more;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void test_out_of_descriptors(void **state)
{
    struct haul_engine *engine = *state;
    struct haul_listener listener;
    int fds[CLIENTS];
    assert_int_equal(fake_listen(engine, &listener, "127.0.0.1", "0"), 0);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = fake_raw_connect(&listener);
    struct rlimit before = leave_descriptors(2);
    unsigned lines = host_log_lines;
    fake_settle(engine); /* and it ends: no event is reported again and again */
    assert_int_equal(engine->accepted_count, 2);
    assert_int_equal(host_log_lines, lines + 1);
    assert_non_null(strstr(host_logged, "cannot accept connections: Too many open files"));
    assert_null(strstr(host_logged, ":0 cannot")); /* the port that it got */
    for (int i = 0; i < 3; i++) {
        fake_clock_ns += 100000000;
        fake_settle(engine);
    }
    assert_int_equal(host_log_lines, lines + 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    fake_clock_ns += 100000000;
    fake_settle(engine);
    assert_int_equal(engine->accepted_count, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    fake_unlisten(&listener);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_engine, close_engine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bad_names),
        TEST(test_bound_addresses),
        TEST(test_all_interfaces),
        TEST(test_listen_on_name),
        TEST(test_port_in_use),
        TEST(test_foreign_address),
        TEST(test_no_memory_to_watch),
        TEST(test_too_many_watched),
        TEST(test_unix),
        TEST(test_unix_stale),
        TEST(test_unix_keeps_files_of_others),
        TEST(test_refused),
        TEST(test_next_address),
        TEST(test_silent_address),
        TEST(test_disconnect_while_connecting),
        TEST(test_core_turns_away),
        TEST(test_out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
