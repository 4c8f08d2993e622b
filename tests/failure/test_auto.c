/* SPDX-License-Identifier: Apache-2.0
 * A server with `auto` and three clients at once, each with a provider of its own: each has the
 * path that both sides allow, or a sentence that says why there is none. */
#include "fixture.h"

enum { BYTES = 3 << 20 };

struct client {
    struct haul_context *context;
    struct haul_peer *peer;
    struct haul_dict *dict;
    struct haul_op *op;
    unsigned char *bytes;
};

static struct haul_server *listen_with_auto(struct haul_context **context)
{
    struct haul_server *server;
    *context = context_open("ofi_auto", "net", NULL); /* no hardware is needed for it */
    OK(haul_listen(*context, "127.0.0.1:0", &server));
    return server;
}

static struct client connect_with(const char *provider, struct haul_server *server)
{
    struct client client = {.context = context_open("provider", provider, NULL)};
    client.peer = connect_to(client.context, server);
    client.bytes = malloc(BYTES);
    assert_non_null(client.bytes);
    return client;
}

static void start_send(struct client *client, uint64_t seed)
{
    client->dict = dict_of(client->context, "x", client->bytes, BYTES, seed);
    OK(haul_send_async(client->peer, client->dict, &client->op));
}

static void end_send(struct client *client)
{
    FINISH(client->op);
    haul_dict_destroy(client->dict);
}

static void close_client(struct client *client)
{
    haul_peer_release(client->peer);
    haul_close(client->context);
    free(client->bytes);
}

static void assert_path(const struct haul_peer *peer, const char *wanted)
{
    char path[64], why[512];
    OK(haul_peer_path(peer, path, sizeof path, why, sizeof why));
    assert_string_equal(path, wanted);
}

static void test_three_clients_at_once(void **state)
{
    struct haul_context *context, *zmq = context_open("provider", "zmq", NULL);
    struct haul_server *server = listen_with_auto(&context);
    struct client tcp = connect_with("tcp", server), net = connect_with("ofi:net", server);
    struct haul_peer *refused;
    (void)state;
    assert_path(tcp.peer, "tcp");
    assert_path(net.peer, "tcp+ofi:net");
    start_send(&tcp, 1);
    start_send(&net, 2);
    FAILS(HAUL_UNREACHABLE, "is HAUL_PROVIDER=zmq set on its side too?",
          haul_connect(zmq, haul_server_address(server), 100 * SHORT_NS, &refused));
    for (int i = 0; i < 2; i++) {
        struct haul_message *message;
        OK(haul_recv(server, &message, WAIT_NS));
        char path[64], why[512];
        OK(haul_peer_path(haul_message_peer(message), path, sizeof path, why, sizeof why));
        assert_bytes(message, "x", BYTES, strcmp(path, "tcp") == 0 ? 1 : 2);
        haul_message_release(message);
    }
    end_send(&tcp);
    end_send(&net);
    close_client(&tcp);
    close_client(&net);
    haul_close(zmq);
    haul_server_close(server);
    haul_close(context);
}

/* Without that setting `auto` has fabrics only: who insists on something else hears it. */
static void test_no_common_path(void **state)
{
    struct haul_context *context = context_open(NULL);
    struct haul_context *net = context_open("provider", "ofi:net", NULL);
    struct haul_server *server;
    struct haul_peer *peer;
    (void)state;
    OK(haul_listen(context, "127.0.0.1:0", &server));
    FAILS(HAUL_PROVIDER, "no common path with provider ofi:net",
          haul_connect(net, haul_server_address(server), WAIT_NS, &peer));
    haul_close(net);
    haul_server_close(server);
    haul_close(context);
}

static void cannot_open(const char *name, const char *value, int err, const char *words)
{
    struct haul_options *options;
    struct haul_context *context;
    OK(haul_options_create(&options));
    OK(haul_options_set(options, "provider", "ofi:net"));
    OK(haul_options_set(options, name, value));
    FAILS(err, words, haul_open(&context, options));
    haul_options_destroy(options);
}

/* libfabric takes other spellings, lists and filters: by them one that is not used would be. */
static void test_other_spellings(void **state)
{
    (void)state;
    cannot_open("provider", "ofi:", HAUL_PROVIDER, "is no kind of provider ofi");
    cannot_open("provider", "ofi:TCP", HAUL_PROVIDER, "is no kind of provider ofi");
    cannot_open("provider", "ofi:^net", HAUL_PROVIDER, "is no kind of provider ofi");
    cannot_open("provider", "ofi:tcp;ofi_rxm", HAUL_PROVIDER, "is no kind of provider ofi");
    cannot_open("provider", "ofi:a_name_that_no_kind_can_have", HAUL_PROVIDER, "is no kind");
    cannot_open("provider", "ofi:sockets", HAUL_PROVIDER, "is not used");
    cannot_open("provider", "ofi:ofi_rxm", HAUL_PROVIDER, "is not used");
    cannot_open("provider", "ofi:unheard", HAUL_PROVIDER, "libfabric has no provider");
    cannot_open("advertise", "localhost", HAUL_CONFIG, "it takes an IPv4 address");
    cannot_open("advertise", "0.0.0.0", HAUL_CONFIG, "it takes an IPv4 address");
}

/* "::1" is the first that ":port" means. */
static void test_this_host(void **state)
{
    struct haul_context *context = context_open("provider", "ofi:net", NULL);
    struct haul_server *server;
    (void)state;
    OK(haul_listen(context, "[::1]:0", &server));
    struct client client = connect_with("ofi:net", server);
    assert_path(client.peer, "tcp+ofi:net");
    start_send(&client, 3);
    struct haul_message *message;
    OK(haul_recv(server, &message, WAIT_NS));
    assert_bytes(message, "x", BYTES, 3);
    haul_message_release(message);
    end_send(&client);
    close_client(&client);
    haul_server_close(server);
    haul_close(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_clients_at_once),
        cmocka_unit_test(test_no_common_path),
        cmocka_unit_test(test_other_spellings),
        cmocka_unit_test(test_this_host),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
