/* SPDX-License-Identifier: Apache-2.0
 * Two processes of MPI, which exchange messages with MPI and with haul in turn. Between the rounds
 * they free and take memory that both have sent from: MPI's memory hooks and libfabric's
 * registrations must not get in each other's way. */
#include <haul/haul.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 40, BYTES = 4 << 20, ADDRESS_BYTES = 256 };
static const int64_t wait_ns = 120 * (int64_t)1000000000;
static int rank;

static void check(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "rank %d: %s: %s\n", rank, what, haul_error_detail());
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static unsigned char value(int round, int from)
{
    return (unsigned char)(1 + round * 2 + from);
}

static bool is_filled(const unsigned char *bytes, unsigned char with)
{
    return bytes[0] == with && memcmp(bytes, bytes + 1, BYTES - 1) == 0;
}

/* New memory in each round: often that which was freed in the last. */
static unsigned char *filled(unsigned char with)
{
    unsigned char *bytes = malloc(BYTES);
    check(bytes, "no memory");
    memset(bytes, with, BYTES);
    return bytes;
}

static void exchange_with_mpi(int round)
{
    unsigned char *out = filled(value(round, rank)), *in = filled(0);
    MPI_Sendrecv(out, BYTES, MPI_BYTE, 1 - rank, 0, in, BYTES, MPI_BYTE, 1 - rank, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    check(is_filled(in, value(round, 1 - rank)), "MPI's bytes are wrong");
    free(in);
    free(out);
}

static void send_with_haul(struct haul_context *context, struct haul_peer *peer, int round)
{
    unsigned char *out = filled(value(round, rank));
    const uint64_t shape[] = {BYTES};
    struct haul_dict *dict;
    check(haul_dict_create(context, &dict) == 0 &&
              haul_dict_put(dict, "x", HAUL_U8, 1, shape, out) == 0 &&
              haul_send(peer, dict, wait_ns) == 0,
          "haul_send");
    haul_dict_destroy(dict);
    free(out);
}

static void receive_with_haul(struct haul_server *server, int round)
{
    struct haul_message *message;
    check(haul_recv(server, &message, wait_ns) == 0, "haul_recv");
    const struct haul_array *x = haul_message_find(message, "x");
    check(x && x->nbytes == BYTES && is_filled(x->data, value(round, 1 - rank)),
          "haul's bytes are wrong");
    haul_message_release(message);
}

int main(int argc, char **argv)
{
    char address[ADDRESS_BYTES] = "";
    struct haul_context *context;
    struct haul_server *server = NULL;
    struct haul_peer *peer = NULL;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    check(haul_open(&context, NULL) == 0, "haul_open");
    if (rank == 0) {
        check(haul_listen(context, "127.0.0.1:0", &server) == 0, "haul_listen");
        snprintf(address, sizeof address, "%s", haul_server_address(server));
    }
    MPI_Bcast(address, sizeof address, MPI_CHAR, 0, MPI_COMM_WORLD);
    if (rank == 1)
        check(haul_connect(context, address, wait_ns, &peer) == 0, "haul_connect");
    for (int round = 0; round < ROUNDS; round++) {
        exchange_with_mpi(round);
        if (rank == 0)
            receive_with_haul(server, round);
        else
            send_with_haul(context, peer, round);
    }
    if (peer)
        haul_peer_release(peer);
    if (server)
        haul_server_close(server);
    haul_close(context);
    MPI_Finalize();
    return 0;
}
