/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes what the provider zmq makes of multipart messages: any parts, of any length. What it
 * delivers must be what was sent, and a frame as its prefix says; the rest ends the connection,
 * with a reason. */
#include "providers/zmq/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { PARTS_MAX = 256 };

struct haul_link {
    const uint8_t *part[PARTS_MAX]; /* as sent */
    size_t part_bytes[PARTS_MAX];
    size_t part_count;
    size_t next;           /* the part that must be delivered next */
    uint64_t payload_left; /* of the present frame */
    bool framed, lost, refused;
};

#define REQUIRE(condition)                                                          \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* ---- The host ------------------------------------------------------------------------------- */

static bool is_part(const struct haul_link *link, const void *data, size_t bytes)
{
    return link->next < link->part_count && link->part_bytes[link->next] == bytes &&
           memcmp(link->part[link->next], data, bytes) == 0;
}

static void skip_empty_parts(struct haul_link *link)
{
    while (link->next < link->part_count && link->part_bytes[link->next] == 0)
        link->next++;
}

static void host_lost(struct haul_link *link, int err, const char *why)
{
    REQUIRE(!link->lost && !link->framed);
    REQUIRE(err == HAUL_PROTOCOL);
    REQUIRE(strlen(why) > 0);
    link->lost = true;
}

static int host_check(struct haul_link *link, const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    REQUIRE(!link->lost && !link->framed);
    link->refused = prefix[1] == 255;
    return link->refused ? HAUL_PROTOCOL : 0;
}

static int host_frame(struct haul_link *link, const void *header, size_t header_bytes)
{
    const uint8_t *prefix = header;
    REQUIRE(!link->refused && is_part(link, header, header_bytes));
    REQUIRE(header_bytes == HAUL_PREFIX_BYTES + (size_t)haul_prefix_body_bytes(prefix));
    link->next++;
    link->framed = true;
    link->payload_left = haul_prefix_payload_bytes(prefix);
    link->refused = prefix[0] == 255;
    return link->refused ? HAUL_PROTOCOL : 0;
}

/* Parts that begin with 255 are refused; each goes back at once. */
static int host_lend(struct haul_link *link, void *data, size_t bytes, void *token)
{
    skip_empty_parts(link);
    REQUIRE(!link->refused && link->framed && bytes > 0 && is_part(link, data, bytes));
    REQUIRE(bytes <= link->payload_left);
    link->next++;
    link->payload_left -= bytes;
    link->refused = *(const uint8_t *)data == 255;
    haul_zmq_part_give_back(token);
    return link->refused ? HAUL_PROTOCOL : 0;
}

static const struct haul_host host = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof(struct haul_host),
    .lost = host_lost,
    .check = host_check,
    .frame = host_frame,
    .lend = host_lend,
};

/* ---- One input ------------------------------------------------------------------------------ */

static struct {
    void *context, *sender, *receiver;
    struct haul_zmq_part_pool *pool;
} world;

static void start(void)
{
    haul_zmq_host = &host;
    world.pool = haul_zmq_parts_create();
    world.context = zmq_ctx_new();
    world.sender = zmq_socket(world.context, ZMQ_PAIR);
    world.receiver = zmq_socket(world.context, ZMQ_PAIR);
    REQUIRE(zmq_bind(world.receiver, "inproc://fuzz") == 0);
    REQUIRE(zmq_connect(world.sender, "inproc://fuzz") == 0);
}

/* Cuts the input into parts: a byte is the length of the next one. */
static void cut_input(struct haul_link *link, const uint8_t *data, size_t bytes)
{
    while (bytes > 0 && link->part_count < PARTS_MAX) {
        size_t n = data[0] < bytes - 1 ? data[0] : bytes - 1;
        link->part[link->part_count] = data + 1;
        link->part_bytes[link->part_count++] = n;
        data += 1 + n;
        bytes -= 1 + n;
    }
}

static void receive(struct haul_link *link)
{
    struct haul_zmq_source source = {0};
    struct haul_zmq_conn conn;
    struct haul_zmq_message message;
    haul_zmq_conn_init(&conn, NULL, &source);
    conn.link = link;
    struct haul_zmq_part *first = haul_zmq_part_take(world.pool);
    REQUIRE(haul_zmq_receive_part(world.receiver, &first->message));
    haul_zmq_message_receive(&message, world.pool, world.receiver, first);
    REQUIRE(message.delimited == (link->part_bytes[0] == 0 && link->part_count > 1));
    link->next = message.delimited;
    haul_zmq_conn_deliver(&conn, &message);
    REQUIRE(conn.over == (link->lost || link->refused));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct haul_link link = {0};
    if (!world.context)
        start();
    cut_input(&link, data, bytes);
    if (link.part_count == 0)
        return 0;
    for (size_t i = 0; i < link.part_count; i++)
        REQUIRE(zmq_send(world.sender, link.part[i], link.part_bytes[i],
                         i + 1 < link.part_count ? ZMQ_SNDMORE : 0) >= 0);
    receive(&link);
    zmq_msg_t rest;
    zmq_msg_init(&rest);
    REQUIRE(!haul_zmq_receive_part(world.receiver, &rest)); /* all of the message was taken */
    REQUIRE(link.framed || link.lost || link.refused);
    if (!link.refused && !link.lost) {
        skip_empty_parts(&link);
        REQUIRE(link.next == link.part_count && link.payload_left == 0);
    }
    return 0;
}
