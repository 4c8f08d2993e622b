/* SPDX-License-Identifier: Apache-2.0
 * Inboxes: messages that wait to be received by the user. */
#include "engine.h"

void haul_inbox_init(struct haul_inbox *inbox)
{
    *inbox = (struct haul_inbox){.placement = HAUL_PLACE_UNDECIDED};
    haul_list_init(&inbox->messages);
    haul_list_init(&inbox->destinations);
    haul_list_init(&inbox->unplaced);
}

void haul_inbox_append(struct haul_inbox *inbox, struct haul_message *message)
{
    haul_list_append(&inbox->messages, &message->node);
    message->engine->queued_messages++;
    haul_engine_changed(message->engine);
}

static bool has_message(void *arg)
{
    struct haul_inbox *inbox = arg;
    return inbox->closed || !haul_list_empty(&inbox->messages);
}

int haul_inbox_receive(struct haul_engine *engine, struct haul_inbox *inbox, int64_t timeout_ns,
                       struct haul_message **message)
{
    int err = haul_drive_wait(&engine->drive, has_message, inbox, haul_deadline_ns(timeout_ns));
    if (!err && inbox->closed)
        err = HAUL_CLOSED;
    if (err)
        return haul_fail_with(err, err == HAUL_TIMEOUT ? "no message came in time" : "");
    *message = HAUL_CONTAINER_OF(haul_list_pop(&inbox->messages), struct haul_message, node);
    engine->queued_messages--;
    haul_engine_changed(engine);
    return 0;
}

void haul_inbox_close(struct haul_engine *engine, struct haul_inbox *inbox)
{
    inbox->closed = true;
    while (!haul_list_empty(&inbox->messages)) {
        struct haul_message *message =
            HAUL_CONTAINER_OF(haul_list_pop(&inbox->messages), struct haul_message, node);
        engine->queued_messages--;
        haul_message_free(message);
    }
    haul_engine_changed(engine);
}
