/* SPDX-License-Identifier: Apache-2.0
 * The provider tcp: which connections are not paced. The system's choice that would pace is played
 * by reno, which every system has and lets everybody choose. */
#include "providers/tcp/tcp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static const struct haul_tcp_channel pacing = {.pacing = "reno"}, not_pacing = {.pacing = ""};

static struct haul_tcp_address address_of(const char *host, uint16_t port)
{
    struct haul_tcp_address address = {.bytes = sizeof(struct sockaddr_in)};
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&address.socket;
    in->sin_family = AF_INET;
    in->sin_port = port; /* as it is sent */
    assert_int_equal(inet_pton(AF_INET, host, &in->sin_addr), 1);
    return address;
}

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    return fd;
}

static void expect_control(int fd, const char *expected)
{
    char control[16] = "";
    socklen_t bytes = sizeof control - 1;
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, &bytes), 0);
    assert_string_equal(control, expected);
}

static void choose(int fd, const char *control)
{
    assert_int_equal(
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, control, (socklen_t)strlen(control)), 0);
}

/* The first choice of what does not pace; not every system lets everybody have it. */
static const char *unpaced_control(void)
{
    int fd = tcp_socket();
    int refused = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", strlen("cubic"));
    close(fd);
    return refused ? "reno" : "cubic";
}

/* A connection to 127.0.0.2 has two addresses, as if it came from another host. */
static void test_dialed(void **state)
{
    const struct haul_tcp_address here = address_of("127.0.0.1", htons(1));
    const struct haul_tcp_address there = address_of("127.0.0.2", htons(1));
    int fd = tcp_socket();
    (void)state;
    choose(fd, "reno");
    haul_tcp_unpace_dial(&not_pacing, fd, &here);
    expect_control(fd, "reno");
    haul_tcp_unpace_dial(&pacing, fd, &there);
    expect_control(fd, "reno");
    haul_tcp_unpace_dial(&pacing, fd, &here);
    expect_control(fd, unpaced_control());
    close(fd);
}

static void expect_accepted(int listener, const char *host, const char *control)
{
    struct haul_tcp_address bound = {.bytes = sizeof bound.socket};
    assert_int_equal(getsockname(listener, &bound.socket.any, &bound.bytes), 0);
    const struct haul_tcp_address address = address_of(host, haul_tcp_port(&bound));
    int client = tcp_socket();
    assert_int_equal(connect(client, &address.socket.any, address.bytes), 0);
    int accepted = accept(listener, NULL, NULL);
    assert_true(accepted >= 0);
    haul_tcp_pace_accepted(&pacing, accepted);
    expect_control(accepted, control);
    close(accepted);
    close(client);
}

static void test_accepted(void **state)
{
    const struct haul_tcp_address any = address_of("0.0.0.0", 0);
    int listener = tcp_socket();
    (void)state;
    choose(listener, "reno");
    haul_tcp_unpace_listen(&not_pacing, listener);
    expect_control(listener, "reno");
    haul_tcp_unpace_listen(&pacing, listener);
    assert_int_equal(bind(listener, &any.socket.any, any.bytes), 0);
    assert_int_equal(listen(listener, 1), 0);
    expect_accepted(listener, "127.0.0.1", unpaced_control());
    expect_accepted(listener, "127.0.0.2", "reno");
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialed),
        cmocka_unit_test(test_accepted),
    };
    return cmocka_run_group_tests_name("tcp pacing", tests, NULL, NULL);
}
