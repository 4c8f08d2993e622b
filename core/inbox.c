/* SPDX-License-Identifier: Apache-2.0
 * Inboxes: messages that wait to be received by the user. */
#include "inbox.h"
#include "receiving.h"

void haul_inbox_init(struct haul_engine *engine, struct haul_inbox *inbox)
{
    *inbox = (struct haul_inbox){.engine = engine,
                                 .placement = engine->any_level_asked ? HAUL_PLACE_POOL
                                                                      : HAUL_PLACE_UNDECIDED};
    haul_list_init(&inbox->messages);
    haul_list_init(&inbox->destinations);
    haul_list_init(&inbox->unplaced);
    inbox->level = haul_level_none();
}

static bool has_message(void *arg)
{
    struct haul_inbox *inbox = arg;
    return inbox->closed || !haul_list_empty(&inbox->messages);
}

void haul_inbox_append(struct haul_inbox *inbox, struct haul_message *message)
{
    haul_list_append(&inbox->messages, &message->node);
    message->engine->queued_messages++;
    haul_level_set(&inbox->level, true);
    haul_engine_changed(message->engine);
}

struct haul_message *haul_inbox_pop(struct haul_inbox *inbox)
{
    struct haul_list *node = haul_list_pop(&inbox->messages);
    inbox->engine->queued_messages--;
    haul_level_set(&inbox->level, has_message(inbox));
    haul_engine_changed(inbox->engine);
    return HAUL_CONTAINER_OF(node, struct haul_message, node);
}

void haul_inbox_watched(struct haul_inbox *inbox)
{
    if (inbox->placement == HAUL_PLACE_UNDECIDED)
        haul_place_by(inbox, HAUL_PLACE_POOL);
}

int haul_inbox_fd(struct haul_inbox *inbox)
{
    int fd = haul_engine_enter(inbox->engine);
    if (fd)
        return fd;
    fd = haul_level_fd(&inbox->level, has_message(inbox));
    haul_inbox_watched(inbox);
    haul_engine_leave(inbox->engine);
    return fd;
}

int haul_inbox_receive(struct haul_inbox *inbox, int64_t timeout_ns, struct haul_message **message)
{
    int err =
        haul_drive_wait(&inbox->engine->drive, has_message, inbox, haul_deadline_ns(timeout_ns));
    if (!err && inbox->closed)
        err = HAUL_CLOSED;
    if (err)
        return haul_fail_with(err, err == HAUL_TIMEOUT ? "no message came in time" : "");
    *message = haul_inbox_pop(inbox);
    return 0;
}

void haul_inbox_close(struct haul_inbox *inbox)
{
    inbox->closed = true;
    while (!haul_list_empty(&inbox->messages))
        haul_message_free(haul_inbox_pop(inbox));
    haul_level_set(&inbox->level, true); /* receiving says that it is closed */
    haul_engine_changed(inbox->engine);
}
