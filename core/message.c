/* SPDX-License-Identifier: Apache-2.0
 * Received messages: their life and what a user may ask of them. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"
#include "sending.h"

#include <stdlib.h>

struct haul_message *haul_message_create(struct haul_link *link)
{
    struct haul_engine *engine = link->engine;
    struct haul_message *message;
    if (!haul_list_empty(&engine->free_messages)) {
        engine->free_message_count--;
        message =
            HAUL_CONTAINER_OF(haul_list_pop(&engine->free_messages), struct haul_message, node);
    } else {
        message = calloc(1, sizeof *message);
        if (!message)
            return NULL;
    }
    /* What a used one keeps are its buffers. */
    *message = (struct haul_message){.engine = engine,
                                     .link = link,
                                     .peer = haul_peer_reference(link->peer),
                                     .manifest = message->manifest,
                                     .mappings = message->mappings,
                                     .mapping_capacity = message->mapping_capacity,
                                     .copies = message->copies,
                                     .copy_capacity = message->copy_capacity,
                                     .lent = message->lent,
                                     .lent_capacity = message->lent_capacity};
    haul_list_init(&message->node);
    haul_list_init(&message->place_node);
    haul_link_retain(link);
    haul_engine_retain(engine);
    return message;
}

void haul_message_destroy(struct haul_message *message)
{
    haul_manifest_clear(&message->manifest);
    free(message->mappings);
    free(message->lent);
    free(message->copies);
    free(message);
}

/* Requests are counted while the user has them: replies are asked for, and nobody waits for them.
 */
void haul_message_set_state(struct haul_message *message, enum haul_message_state state)
{
    bool held = message->state == HAUL_MESSAGE_DELIVERED, holds = state == HAUL_MESSAGE_DELIVERED;
    if (held != holds && !message->manifest.reply_to)
        HAUL_COUNT(message->peer, messages_unreleased, holds ? 1 : UINT64_MAX); /* less one */
    message->state = state;
}

void haul_message_give_back(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    struct haul_transport *transport = message->link->transport;
    for (size_t i = 0; i < message->lent_count; i++)
        transport->provider->channel->give_back(transport->channel, message->lent[i]);
    message->lent_count = 0;
    engine->lent_bytes -= message->lent_bytes;
    if (message->lent_bytes)
        atomic_store(&engine->pool_released, true);
    message->lent_bytes = 0;
}

void haul_message_free(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    struct haul_link *link = message->link;
    haul_list_remove(&message->node);
    haul_list_remove(&message->place_node);
    if (message->destination)
        haul_destination_vacate(message);
    if (message->inline_block)
        haul_block_release(message->inline_block);
    if (message->offered_block)
        haul_block_release(message->offered_block);
    for (size_t i = 0; i < message->copy_count; i++)
        haul_block_release(message->copies[i]);
    haul_message_give_back(message);
    haul_place_unmap(message);
    haul_inbound_release_given(message);
    haul_message_set_state(message, HAUL_MESSAGE_DROPPED);
    if (engine->pool_blocked) {
        /* It may have been waited for, also if it had nothing of the pool. */
        atomic_store(&engine->pool_released, true);
        haul_engine_changed(engine);
    }
    haul_credit_return(message);
    haul_inbound_discount_manifest(message);
    haul_peer_unreference(message->peer);
    haul_link_release(link);
    if (engine->free_message_count < HAUL_FREE_OBJECTS_MAX &&
        haul_manifest_memory(&message->manifest) <= HAUL_FREE_BYTES_MAX) {
        engine->free_message_count++;
        haul_list_append(&engine->free_messages, &message->node);
    } else {
        haul_message_destroy(message);
    }
    haul_engine_release(engine);
}

/* ---- Public ---------------------------------------------------------------------------------- */

size_t haul_message_count(const struct haul_message *message)
{
    return message->manifest.count;
}

const struct haul_array *haul_message_at(const struct haul_message *message, size_t index)
{
    return index < message->manifest.count ? &message->manifest.arrays[index].array : NULL;
}

const struct haul_array *haul_message_find(const struct haul_message *message, const char *key)
{
    return haul_manifest_find(&message->manifest, key);
}

uint64_t haul_message_bytes(const struct haul_message *message)
{
    return message->manifest.inline_bytes + message->manifest.offered_bytes;
}

struct haul_peer *haul_message_peer(const struct haul_message *message)
{
    return message->peer;
}

bool haul_message_wants_reply(const struct haul_message *message)
{
    return message->manifest.flags & HAUL_MESSAGE_WANTS_REPLY && !message->answered;
}

/* Makes the op of a reply and starts it; under the lock. */
static int start_reply(struct haul_message *message, struct haul_dict *dict, struct haul_op **op)
{
    if (!(message->manifest.flags & HAUL_MESSAGE_WANTS_REPLY))
        return haul_fail(HAUL_INVALID,
                         "the message was not sent with haul_call(): nobody waits for a reply");
    if (message->answered)
        return haul_fail(HAUL_INVALID, "the message was replied to already");
    int err = haul_op_create(message->peer, dict, HAUL_OP_REPLY, op);
    if (err)
        return err;
    message->answered = true;
    (*op)->link = message->link;
    haul_link_retain(message->link);
    (*op)->manifest.reply_to = message->manifest.seq;
    return 0;
}

int haul_reply(struct haul_message *message, struct haul_dict *dict, int64_t timeout_ns)
{
    struct haul_op *op;
    int err = haul_engine_enter(message->engine);
    if (err)
        return err;
    err = start_reply(message, dict, &op);
    if (!err) {
        haul_transmit_start(op);
        err = haul_op_complete(op, timeout_ns, NULL);
    }
    haul_engine_leave(message->engine);
    return err;
}

int haul_reply_async(struct haul_message *message, struct haul_dict *dict, struct haul_op **op)
{
    int err = haul_engine_enter(message->engine);
    if (err)
        return err;
    err = start_reply(message, dict, op);
    if (!err) {
        (*op)->collected = false;
        haul_transmit_start(*op);
    }
    haul_engine_leave(message->engine);
    return err;
}

void haul_message_release(struct haul_message *message)
{
    if (!message || message->engine->inherited)
        return;
    struct haul_engine *engine = message->engine;
    haul_engine_retain(engine);
    haul_drive_enter(&engine->drive);
    haul_inbound_no_reply(message);
    haul_message_free(message);
    haul_drive_leave(&engine->drive);
    haul_engine_release(engine);
}
