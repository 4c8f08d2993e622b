/* SPDX-License-Identifier: Apache-2.0
 * The clients of a server, and when each of them ends.
 *
 * Messages and monitor events come on different ways, so each step here works in any order of the
 * two. Sure is only this: before a message of a connection is read, the end of every earlier
 * connection with its descriptor has been posted to the monitor. */
#include "router.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* How long after its end a connection may still be read from a socket that is never empty, and
     * how long the news of a new one may take. */
    SETTLE_MS = 200,
    GENERATED_ID_BYTES = 5, /* a zero byte, and a number that counts up */
};

/* ---- By routing id -------------------------------------------------------------------------- */

static struct haul_zmq_client **bucket_of(const struct haul_zmq_server *server, const uint8_t *id,
                                          size_t bytes)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ id[i]) * 1099511628211u;
    return &server->buckets[(hash ^ hash >> 32) & (server->bucket_count - 1)];
}

static struct haul_zmq_client *find(const struct haul_zmq_server *server, const uint8_t *id,
                                    size_t bytes)
{
    if (server->bucket_count == 0)
        return NULL;
    struct haul_zmq_client *client = *bucket_of(server, id, bytes);
    while (client && (client->id_bytes != bytes || memcmp(client->id, id, bytes) != 0))
        client = client->next;
    return client;
}

static void bucket_push(struct haul_zmq_server *server, struct haul_zmq_client *client)
{
    struct haul_zmq_client **bucket = bucket_of(server, client->id, client->id_bytes);
    client->next = *bucket;
    *bucket = client;
}

static bool make_room(struct haul_zmq_server *server)
{
    if (server->client_count < server->bucket_count)
        return true;
    size_t old_count = server->bucket_count;
    struct haul_zmq_client **old = server->buckets;
    struct haul_zmq_client **made =
        calloc(old_count ? old_count * 2 : 64, sizeof(struct haul_zmq_client *));
    if (!made)
        return false;
    server->buckets = made;
    server->bucket_count = old_count ? old_count * 2 : 64;
    for (size_t i = 0; i < old_count; i++) {
        struct haul_zmq_client *client = old[i];
        while (client) {
            struct haul_zmq_client *next = client->next;
            bucket_push(server, client);
            client = next;
        }
    }
    free(old);
    return true;
}

/* Also for one that another of the same id has replaced. */
static void forget(struct haul_zmq_client *client)
{
    struct haul_zmq_client **place = bucket_of(client->server, client->id, client->id_bytes);
    while (*place && *place != client)
        place = &(*place)->next;
    if (*place) {
        *place = client->next;
        client->server->client_count--;
    }
}

/* ---- By descriptor -------------------------------------------------------------------------- */

/* NULL: no descriptor, or no memory. */
static struct haul_zmq_slot *slot_of(struct haul_zmq_server *server, int fd)
{
    if (fd < 0)
        return NULL;
    size_t wanted = (size_t)fd + 1;
    if (wanted > server->slot_count) {
        size_t count = wanted + wanted / 2 + 16;
        struct haul_zmq_slot *slots = realloc(server->slots, count * sizeof *slots);
        if (!slots)
            return NULL;
        memset(slots + server->slot_count, 0, (count - server->slot_count) * sizeof *slots);
        server->slots = slots;
        server->slot_count = count;
    }
    return &server->slots[fd];
}

static bool is_open(const struct haul_zmq_slot *slot)
{
    return (int32_t)(slot->accepted - slot->ended) > 0;
}

/* ---- The end of a client -------------------------------------------------------------------- */

static void end(struct haul_zmq_client *client, const char *why)
{
    struct haul_zmq_server *server = client->server;
    if (client->state == HAUL_ZMQ_ENDED)
        return;
    client->state = HAUL_ZMQ_ENDED;
    client->why = why;
    if (server->slots[client->fd].client == client)
        server->slots[client->fd].client = NULL;
    haul_zmq_list_append(&server->ended, &client->ended_node);
    haul_zmq_timer_set(server->channel, &client->timer, SETTLE_MS);
    haul_zmq_source_ready(&server->socket); /* what had arrived comes first */
}

void haul_zmq_clients_end(struct haul_zmq_server *server)
{
    for (struct haul_zmq_list *node = server->clients.next; node != &server->clients;
         node = node->next)
        end(HAUL_ZMQ_OF(node, struct haul_zmq_client, node), "the server was closed");
}

static void release(struct haul_zmq_conn *conn)
{
    struct haul_zmq_client *client = HAUL_ZMQ_OF(conn, struct haul_zmq_client, conn);
    if (!client->settled || !conn->disconnected || conn->loans_out > 0)
        return;
    haul_zmq_list_remove(&client->node);
    haul_zmq_server_release(client->server);
    free(client);
}

void haul_zmq_clients_settle(struct haul_zmq_server *server)
{
    while (!haul_zmq_list_empty(&server->ended)) {
        struct haul_zmq_client *client =
            HAUL_ZMQ_OF(server->ended.next, struct haul_zmq_client, ended_node);
        haul_zmq_list_remove(&client->ended_node);
        haul_zmq_timer_stop(&client->timer);
        forget(client);
        client->settled = true;
        haul_zmq_conn_lost(&client->conn, HAUL_PEER_LOST, client->why);
        release(&client->conn);
    }
}

/* ROUTER has no call that ends one connection. */
static void cut(struct haul_zmq_client *client)
{
    haul_zmq_descriptor_cut(&client->server->slots[client->fd].descriptor);
    /* The end is posted soon; out of descriptors: again, later. */
    haul_zmq_timer_set(client->conn.channel, &client->timer, HAUL_ZMQ_FLUSH_MS);
}

static void on_timer(struct haul_zmq_timer *timer)
{
    struct haul_zmq_client *client = HAUL_ZMQ_OF(timer, struct haul_zmq_client, timer);
    switch (client->state) {
    case HAUL_ZMQ_UNCONFIRMED:
        end(client, "the client closed the connection");
        break;
    case HAUL_ZMQ_LIVE:
        cut(client);
        break;
    case HAUL_ZMQ_ENDED:
        haul_zmq_conn_lost(&client->conn, HAUL_PEER_LOST, client->why);
        break;
    }
}

void haul_zmq_client_disconnect(struct haul_zmq_conn *conn, bool flush)
{
    struct haul_zmq_client *client = HAUL_ZMQ_OF(conn, struct haul_zmq_client, conn);
    if (client->state == HAUL_ZMQ_LIVE && !flush)
        cut(client);
    else if (client->state == HAUL_ZMQ_LIVE)
        haul_zmq_timer_set(conn->channel, &client->timer, HAUL_ZMQ_FLUSH_MS);
    release(conn);
}

static void fail(struct haul_zmq_conn *conn, const char *why)
{
    struct haul_zmq_client *client = HAUL_ZMQ_OF(conn, struct haul_zmq_client, conn);
    if (client->state == HAUL_ZMQ_LIVE)
        haul_zmq_descriptor_cut(&client->server->slots[client->fd].descriptor);
    end(client, why);
    haul_zmq_source_wake(conn->socket);
}

/* ---- Events --------------------------------------------------------------------------------- */

void haul_zmq_client_accepted(struct haul_zmq_server *server, int fd)
{
    struct haul_zmq_slot *slot = slot_of(server, fd);
    if (!slot)
        return;
    slot->accepted++;
    /* If it is not this connection's any more, its end has been posted and is read next. */
    slot->descriptor = haul_zmq_descriptor_note(fd);
    struct haul_zmq_client *client = slot->client;
    if (!client || client->state != HAUL_ZMQ_UNCONFIRMED || !is_open(slot))
        return;
    client->state = HAUL_ZMQ_LIVE;
    if (client->conn.disconnected)
        haul_zmq_timer_set(server->channel, &client->timer, HAUL_ZMQ_FLUSH_MS);
    else
        haul_zmq_timer_stop(&client->timer);
}

void haul_zmq_client_closed(struct haul_zmq_server *server, int fd)
{
    struct haul_zmq_slot *slot = slot_of(server, fd);
    if (!slot)
        return;
    slot->ended++;
    if (slot->client)
        end(slot->client, "the client closed the connection");
}

/* ---- Whose message it is -------------------------------------------------------------------- */

static const struct haul_zmq_conn_kind kind = {
    .disconnect = haul_zmq_client_disconnect,
    .fail = fail,
    .release = release,
};

/* libzmq's own ids are never given twice, others are what clients choose. */
static bool is_generated(const uint8_t *id, size_t bytes)
{
    return bytes == GENERATED_ID_BYTES && id[0] == 0;
}

static uint32_t generated_number(const uint8_t *id)
{
    return (uint32_t)id[1] << 24 | (uint32_t)id[2] << 16 | (uint32_t)id[3] << 8 | id[4];
}

/* Two clients with one descriptor: one of them has ended, and its messages outlived it. */
static bool is_older(const uint8_t *id, size_t bytes, const struct haul_zmq_client *than)
{
    return is_generated(id, bytes) && is_generated(than->id, than->id_bytes) &&
           (int32_t)(generated_number(id) - generated_number(than->id)) < 0;
}

static struct haul_zmq_client *add(struct haul_zmq_server *server, const uint8_t *id, size_t bytes,
                                   int fd)
{
    struct haul_zmq_slot *slot = slot_of(server, fd);
    if (!slot || !make_room(server) || (slot->client && is_older(id, bytes, slot->client)))
        return NULL;
    struct haul_zmq_client *client = calloc(1, sizeof *client + bytes);
    if (!client)
        return NULL;
    haul_zmq_conn_init(&client->conn, &kind, &server->socket);
    client->conn.id = client->id;
    client->conn.id_bytes = client->id_bytes = bytes;
    memcpy(client->id, id, bytes);
    client->fd = fd;
    client->server = server;
    server->references++;
    haul_zmq_list_init(&client->ended_node);
    haul_zmq_list_append(&server->clients, &client->node);
    haul_zmq_timer_init(&client->timer, on_timer);
    bucket_push(server, client);
    server->client_count++;
    if (slot->client)
        end(slot->client, "the client closed the connection");
    slot->client = client;
    client->state = is_open(slot) ? HAUL_ZMQ_LIVE : HAUL_ZMQ_UNCONFIRMED;
    if (client->state == HAUL_ZMQ_LIVE)
        haul_zmq_descriptor_tune(&slot->descriptor);
    else
        haul_zmq_timer_set(server->channel, &client->timer, SETTLE_MS);
    return client;
}

/* Whether a message with a known routing id is of another connection than the known one. */
static bool came_anew(const struct haul_zmq_client *client, int fd, bool opens)
{
    if (client->state == HAUL_ZMQ_ENDED)
        return !is_generated(client->id, client->id_bytes);
    return client->fd != fd || (opens && !client->conn.disconnected);
}

struct haul_zmq_client *haul_zmq_client_of(struct haul_zmq_server *server, zmq_msg_t *id, int fd,
                                           bool opens)
{
    const uint8_t *bytes = zmq_msg_data(id);
    size_t size = zmq_msg_size(id);
    struct haul_zmq_client *client = find(server, bytes, size);
    if (client && client->state != HAUL_ZMQ_ENDED && client->fd == fd && !opens)
        return client;
    haul_zmq_monitor_drain(&server->monitor);
    if (client && !came_anew(client, fd, opens))
        return client;
    if (client) {
        end(client, "the client came anew");
        haul_zmq_conn_lost(&client->conn, HAUL_PEER_LOST, client->why);
        forget(client);
    }
    return server->listener ? add(server, bytes, size, fd) : NULL;
}

void haul_zmq_clients_free(struct haul_zmq_server *server)
{
    while (!haul_zmq_list_empty(&server->clients)) {
        struct haul_zmq_client *client =
            HAUL_ZMQ_OF(server->clients.next, struct haul_zmq_client, node);
        haul_zmq_timer_stop(&client->timer);
        haul_zmq_list_remove(&client->node);
        free(client);
    }
    free(server->buckets);
    free(server->slots);
}
