/* SPDX-License-Identifier: Apache-2.0
 * Received parts. Each is a zmq_msg_t in a recycled node, which is also the token that core holds
 * while it lends the bytes to the user. libzmq allocates the bytes; nothing here does in the steady
 * state. */
#include "channel.h"

#include <errno.h>
#include <stdlib.h>

enum {
    CHUNK_PARTS = 64,
    PARTS_MAX = 65536, /* of a payload: as many as a dict may have arrays */
};

struct chunk {
    struct chunk *next;
    struct haul_zmq_part parts[CHUNK_PARTS];
};

struct haul_zmq_part_pool {
    pthread_mutex_t lock;
    struct haul_zmq_part *free;
    struct chunk *chunks;
    size_t out;
    bool released;
};

/* ---- The pool ------------------------------------------------------------------------------- */

struct haul_zmq_part_pool *haul_zmq_parts_create(void)
{
    struct haul_zmq_part_pool *pool = calloc(1, sizeof *pool);
    if (pool)
        pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

static void destroy(struct haul_zmq_part_pool *pool)
{
    while (pool->chunks) {
        struct chunk *chunk = pool->chunks;
        pool->chunks = chunk->next;
        free(chunk);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void haul_zmq_parts_release(struct haul_zmq_part_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->released = true;
    bool last = pool->out == 0;
    pthread_mutex_unlock(&pool->lock);
    if (last)
        destroy(pool);
}

/* With the pool locked. */
static void grow(struct haul_zmq_part_pool *pool)
{
    struct chunk *chunk = malloc(sizeof *chunk);
    if (!chunk)
        return;
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    for (int i = 0; i < CHUNK_PARTS; i++) {
        chunk->parts[i].pool = pool;
        chunk->parts[i].next = pool->free;
        pool->free = &chunk->parts[i];
    }
}

struct haul_zmq_part *haul_zmq_part_take(struct haul_zmq_part_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    if (!pool->free)
        grow(pool);
    struct haul_zmq_part *part = pool->free;
    if (part) {
        pool->free = part->next;
        pool->out++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (part) {
        zmq_msg_init(&part->message);
        part->next = NULL;
    }
    return part;
}

void haul_zmq_part_give_back(struct haul_zmq_part *part)
{
    struct haul_zmq_part_pool *pool = part->pool;
    zmq_msg_close(&part->message);
    pthread_mutex_lock(&pool->lock);
    part->next = pool->free;
    pool->free = part;
    bool last = --pool->out == 0 && pool->released;
    pthread_mutex_unlock(&pool->lock);
    if (last)
        destroy(pool);
}

/* ---- Messages ------------------------------------------------------------------------------- */

bool haul_zmq_receive_part(void *socket, zmq_msg_t *part)
{
    int bytes;
    do
        bytes = zmq_msg_recv(part, socket, ZMQ_DONTWAIT);
    while (bytes < 0 && errno == EINTR);
    return bytes >= 0;
}

/* The parts that belong to no frame. */
static void skip_rest(void *socket, bool more)
{
    zmq_msg_t part;
    zmq_msg_init(&part);
    while (more && haul_zmq_receive_part(socket, &part))
        more = zmq_msg_more(&part);
    zmq_msg_close(&part);
}

static const char *header_fault(struct haul_zmq_part *header)
{
    size_t bytes = zmq_msg_size(&header->message);
    if (bytes < HAUL_PREFIX_BYTES)
        return "the first part of a message is too short for a header";
    if (bytes !=
        HAUL_PREFIX_BYTES + (uint64_t)haul_prefix_body_bytes(zmq_msg_data(&header->message)))
        return "the first part of a message is not as long as its header says";
    return NULL;
}

/* Receives the payload's parts up to the sum that the header announced. Empty parts (arrays without
 * elements) carry nothing and are left out. */
static const char *receive_payload(struct haul_zmq_message *message,
                                   struct haul_zmq_part_pool *pool, void *socket)
{
    uint64_t announced = haul_prefix_payload_bytes(zmq_msg_data(&message->header->message));
    struct haul_zmq_part **end = &message->payload;
    bool more = zmq_msg_more(&message->header->message);
    size_t count = 0;
    const char *fault = NULL;
    while (more && !fault) {
        struct haul_zmq_part *part = haul_zmq_part_take(pool);
        if (!part || !haul_zmq_receive_part(socket, &part->message)) {
            fault = "there is no memory to receive a message";
        } else {
            size_t bytes = zmq_msg_size(&part->message);
            more = zmq_msg_more(&part->message);
            message->payload_bytes += bytes;
            if (message->payload_bytes > announced || ++count > PARTS_MAX)
                fault = "a message has more or longer parts than its header announces";
            if (bytes > 0 && !fault) {
                *end = part;
                end = &part->next;
                part = NULL;
            }
        }
        if (part)
            haul_zmq_part_give_back(part);
    }
    skip_rest(socket, more);
    if (!fault && message->payload_bytes < announced)
        fault = "a message has fewer or shorter parts than its header announces";
    return fault;
}

void haul_zmq_message_receive(struct haul_zmq_message *message, struct haul_zmq_part_pool *pool,
                              void *socket, struct haul_zmq_part *first)
{
    *message = (struct haul_zmq_message){.header = first};
    bool more = zmq_msg_more(&first->message);
    if (more && zmq_msg_size(&first->message) == 0) {
        message->delimited = true;
        more = haul_zmq_receive_part(socket, &first->message) && zmq_msg_more(&first->message);
    }
    message->fault = header_fault(first);
    if (message->fault)
        skip_rest(socket, more);
    else
        message->fault = receive_payload(message, pool, socket);
}

void haul_zmq_message_drop(struct haul_zmq_message *message)
{
    if (message->header)
        haul_zmq_part_give_back(message->header);
    message->header = NULL;
    while (message->payload) {
        struct haul_zmq_part *part = message->payload;
        message->payload = part->next;
        haul_zmq_part_give_back(part);
    }
}

uint64_t haul_zmq_message_bytes(const struct haul_zmq_message *message)
{
    return zmq_msg_size(&message->header->message) + message->payload_bytes;
}
