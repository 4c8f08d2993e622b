/* SPDX-License-Identifier: Apache-2.0
 * The zmq plugin: addresses, and what is wrong with some. */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- Addresses ------------------------------------------------------------------------------ */

static void nobody_listens(void **state)
{
    struct fixture *fixture = *state;
    char address[256];
    snprintf(address, sizeof address, "%s", fixture->engine.bound);
    unlisten(fixture);
    struct haul_link *link = dial(&fixture->engine, address);
    assert_true(link->lost && !link->connected);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "nobody answers"));
    hang_up(link, false);
}

/* Accepts one connection, reads its first bytes and closes it: what a server of another kind does.
 */
static void *serve_nonsense(void *arg)
{
    char buffer[64];
    int fd = accept(*(int *)arg, NULL, NULL);
    (void)!read(fd, buffer, sizeof buffer);
    (void)!write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    close(fd);
    return NULL;
}

static void the_server_does_not_speak_zeromq(void **state)
{
    struct fixture *fixture = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&address, size), errno);
    assert_return_code(listen(fd, 1), errno);
    assert_return_code(getsockname(fd, (struct sockaddr *)&address, &size), errno);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve_nonsense, &fd), 0);
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(address.sin_port));
    struct haul_link *link = dial(&fixture->engine, text);
    assert_true(link->lost);
    assert_int_equal(link->lost_err, HAUL_UNREACHABLE);
    assert_non_null(strstr(link->why, "HAUL_PROVIDER=zmq"));
    pthread_join(thread, NULL);
    close(fd);
    hang_up(link, false);
}

static void expect_listen_error(struct fixture *fixture, const char *address, const char *sentence)
{
    struct haul_listener listener;
    void *handle, *route;
    assert_int_equal(listen_at(&fixture->engine, address, &listener, &handle, &route),
                     HAUL_ADDRESS);
    if (!strstr(host_detail, sentence))
        fail_msg("\"%s\" lacks \"%s\"", host_detail, sentence);
}

static void addresses_that_cannot_be_used(void **state)
{
    struct fixture *fixture = *state;
    expect_listen_error(fixture, fixture->engine.bound, "in use by another process");
    expect_listen_error(fixture, "192.0.2.1:0", "no address of this host");
    expect_listen_error(fixture, "no-such-host.invalid:0", "no-such-host.invalid");
    expect_listen_error(fixture, "127.0.0.1:no-such-port", "no such port");
    expect_listen_error(fixture, "unix:/proc/none/socket", "/proc/none/socket");
}

static void check_exchange(const char *listen_address, const char *name)
{
    struct fixture fixture = {0};
    open_at(&fixture, listen_address);
    assert_non_null(strstr(fixture.engine.bound, name));
    struct haul_link *server, *client = join(&fixture, &server);
    assert_non_null(strstr(server->address, listen_address[0] == 'u' ? "unix:" : ":"));
    assert_int_equal(send_frame(server, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(client, 1);
    hang_up(client, false);
    run_until(&fixture.engine, is_lost, server);
    hang_up(server, false);
    unlisten(&fixture);
    engine_close(&fixture.engine);
    links_free();
}

static void all_kinds_of_addresses_work(void **state)
{
    (void)state;
    check_exchange("127.0.0.1:0", "127.0.0.1:");
    check_exchange("localhost:0", "localhost:");
    check_exchange(":0", ":");
    check_exchange("*:0", ":");
}

static void ipv6_works(void **state)
{
    (void)state;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    if (!has_ipv6)
        skip();
    check_exchange("[::1]:0", "[::1]:");
}

static void unix_sockets_replace_stale_files_only(void **state)
{
    struct fixture *fixture = *state;
    char folder[] = "/tmp/haul-test-XXXXXX", path[64], address[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    snprintf(address, sizeof address, "unix:%s", path);

    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    snprintf(stale.sun_path, sizeof stale.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(bind(fd, (struct sockaddr *)&stale, sizeof stale), errno);
    assert_return_code(listen(fd, 1), errno);
    expect_listen_error(fixture, address, "in use by another process");
    close(fd); /* the file stays */
    check_exchange(address, path);

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    expect_listen_error(fixture, address, "it is no socket");
    assert_return_code(unlink(path), errno);
    assert_return_code(rmdir(folder), errno);
}

static void an_address_is_free_when_its_server_has_closed(void **state)
{
    struct fixture *fixture = *state;
    char address[256];
    snprintf(address, sizeof address, "%s", fixture->engine.bound);
    for (int i = 0; i < 20; i++) {
        unlisten(fixture);
        assert_int_equal(listen_at(&fixture->engine, address, &fixture->listener, &fixture->handle,
                                   &fixture->route),
                         0);
    }
}

static void a_server_that_closes_takes_no_new_clients(void **state)
{
    struct fixture *fixture = *state;
    struct haul_link *server, *client = join(fixture, &server);
    fixture->listener.refuse = true;
    struct haul_link *refused = dial(&fixture->engine, fixture->engine.bound);
    assert_int_equal(send_frame(refused, TYPE_HELLO, 8, 'h', NULL, 0, 0), 0);
    run_until(&fixture->engine, is_lost, refused);
    unlisten(fixture);
    /* Its clients stay until they are disconnected. */
    assert_int_equal(send_frame(client, TYPE, 1, 'x', NULL, 0, 0), 0);
    await_frames(server, 2);
    hang_up(server, false);
    run_until(&fixture->engine, is_lost, client);
    hang_up(refused, false);
    hang_up(client, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nobody_listens),
        TEST(the_server_does_not_speak_zeromq),
        TEST(addresses_that_cannot_be_used),
        cmocka_unit_test(all_kinds_of_addresses_work),
        cmocka_unit_test(ipv6_works),
        TEST(unix_sockets_replace_stale_files_only),
        TEST(an_address_is_free_when_its_server_has_closed),
        TEST(a_server_that_closes_takes_no_new_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
