/* SPDX-License-Identifier: Apache-2.0
 * Turns and rows that are not used.
 *
 * A sender that lets its turn pass (it is stopped, or hostile) must not keep the others waiting: a
 * message on the channel that hardly moves, while one of another peer waits for a turn, for memory
 * or for a row, gives up what it has of them. It waits behind all others then, and is fetched anew.
 * What comes of it late is thrown away.
 *
 * A timer looks once a second, as long as there is somebody who waits or a row that is not whole.
 */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"

enum {
    STALL_BYTES = 64 << 10, /* a message that brings less than this ... */
    STALL_S = 5,            /* ... in this time gives up its turn */
};

void haul_stall_begin(struct haul_message *message)
{
    message->moved_ns = haul_now_ns();
    message->moved = 0;
}

void haul_stall_moved(struct haul_message *message, uint64_t bytes)
{
    message->moved += bytes;
    if (message->moved < STALL_BYTES)
        return;
    message->moved_ns = message->engine->drive.now_ns;
    message->moved = 0;
}

/* Frames that the channel has lent are not given back before their message: one that has some keeps
 * its turn. */
static bool is_stalled(const struct haul_message *message, uint64_t now_ns)
{
    bool comes =
        message->fetch_next < message->fetch_end ||
        (message->destination && message->inline_received < message->manifest.inline_bytes);
    bool keeps_frames = message->lent_bytes > 0 && message->stream_received > 0;
    return message->state == HAUL_MESSAGE_FETCHING && comes && message->reads == 0 &&
           !keeps_frames && now_ns >= message->moved_ns + STALL_S * (uint64_t)HAUL_NS_PER_S;
}

static struct haul_message *find_stalled(struct haul_link *link, uint64_t now_ns)
{
    struct haul_list *lists[] = {&link->inbound, &link->replies};
    for (size_t i = 0; i < HAUL_COUNT_OF(lists); i++) {
        HAUL_LIST_EACH(lists[i], node)
        {
            struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, node);
            if (is_stalled(message, now_ns))
                return message;
        }
    }
    return NULL;
}

/* Whether a message of another connection is in the list. */
static bool has_other(const struct haul_list *list, size_t node_offset,
                      const struct haul_link *link)
{
    HAUL_LIST_EACH(list, node)
    {
        const struct haul_message *message =
            (const struct haul_message *)((const char *)node - node_offset);
        if (message->link != link)
            return true;
    }
    return false;
}

static bool others_wait(const struct haul_link *link)
{
    struct haul_engine *engine = link->engine;
    const size_t node_at = offsetof(struct haul_message, node);
    const size_t place_at = offsetof(struct haul_message, place_node);
    if (has_other(&engine->fetching, place_at, link))
        return true;
    HAUL_LIST_EACH(&engine->servers, node)
    {
        const struct haul_inbox *inbox = &HAUL_CONTAINER_OF(node, struct haul_server, node)->inbox;
        if (haul_destination_is_open(inbox) && (has_other(&inbox->messages, node_at, link) ||
                                                has_other(&inbox->unplaced, place_at, link)))
            return true;
    }
    return false;
}

static struct haul_message *next_stalled(struct haul_engine *engine, uint64_t now_ns)
{
    HAUL_LIST_EACH(&engine->links, node)
    {
        struct haul_link *link = HAUL_CONTAINER_OF(node, struct haul_link, node);
        struct haul_message *message = find_stalled(link, now_ns);
        if (message && others_wait(link))
            return message;
    }
    return NULL;
}

static void give_up(struct haul_message *message, uint64_t now_ns)
{
    struct haul_link *link = message->link;
    message->moved_ns = now_ns; /* if it keeps its row: it is looked at again when that is over */
    if (!message->stalled)
        haul_log(HAUL_LOG_WARNING,
                 "%s: hardly anything has come for %d s of a message of %llu bytes, and others "
                 "wait: it has to wait too",
                 link->peer->address, STALL_S, (unsigned long long)haul_message_bytes(message));
    message->stalled = true;
    link->last_turn = ++message->engine->fetch_turns;
    if (message->destination)
        haul_destination_give_up(message);
    else
        haul_fetch_put_back(message);
}

static bool is_any_row_open(const struct haul_engine *engine)
{
    HAUL_LIST_EACH(&engine->servers, node)
    if (haul_destination_is_open(&HAUL_CONTAINER_OF(node, struct haul_server, node)->inbox))
        return true;
    return false;
}

void haul_stall_watch(struct haul_engine *engine, uint64_t now_ns)
{
    struct haul_message *message;
    bool given_up = false, is_due = now_ns >= engine->stall_watch_ns;
    if (is_due)
        engine->stall_watch_ns = now_ns + HAUL_NS_PER_S;
    if (haul_list_empty(&engine->fetching) && !is_any_row_open(engine))
        return;
    haul_engine_timer(engine, engine->stall_watch_ns);
    while (is_due && (message = next_stalled(engine, now_ns))) {
        give_up(message, now_ns);
        given_up = true;
    }
    if (given_up)
        haul_fetch_schedule(engine);
}
