/* SPDX-License-Identifier: Apache-2.0
 * Bringing offered arrays: whose turn it is, and by which way.
 *
 * Turns. A message gets memory when its turn comes, and not before. So many fetches run at a time
 * as have been found to bring most (width.c). The next one starts a little before another ends, so
 * that the request is there when the sender before is done. Among the messages that wait, the link
 * that was served longest ago comes first.
 *
 * Ways. Arrays that came with a way are read by rma (reads.c); the others are asked for on the
 * channel, one run of the stream at a time. */
#include "handles.h"
#include "link.h"
#include "receiving.h"

/* Of the running fetches, still to come when the next one starts. Of reads no more is seen than
 * their ends: with the last of them, one more fetch starts. */
enum { LOOK_AHEAD_BYTES = 2 << 20, LOOK_AHEAD_BYTES_READ = HAUL_READ_BYTES };

/* ---- The channel ----------------------------------------------------------------------------- */

/* Bytes of the stream that have to come on the channel, all of them of neighbouring arrays. */
struct run {
    uint32_t index; /* of its first array */
    uint64_t start, end;
};

/* The next one after what was asked for, at whose end the cursor is. */
static bool next_run(const struct haul_message *message, struct run *run)
{
    const struct haul_cursor *cursor = &message->stream_cursor;
    uint64_t at = message->fetch_end - cursor->offset;
    *run = (struct run){0, UINT64_MAX, UINT64_MAX};
    for (uint32_t i = cursor->index; i < message->manifest.count; i++) {
        const struct haul_manifest_array *item = &message->manifest.arrays[i];
        uint64_t begins = at;
        if (!item->offered)
            continue;
        at += item->array.nbytes;
        if (at <= message->fetch_end || item->array.nbytes == 0)
            continue;
        if (item->mapped || haul_reads_array(message, item)) {
            if (run->start != UINT64_MAX)
                return true;
            continue;
        }
        if (run->start == UINT64_MAX)
            *run = (struct run){.index = i, .start = begins};
        run->end = at;
    }
    return run->start != UINT64_MAX;
}

static void ask(struct haul_message *message, const struct run *run)
{
    const uint64_t start = run->start, end = run->end;
    const struct haul_wire_control fetch = {.type = HAUL_FRAME_FETCH,
                                            .seq = message->manifest.seq,
                                            .offset = start,
                                            .bytes = end - start,
                                            .transfer = ++message->transfer};
    message->stream_cursor = (struct haul_cursor){.index = run->index};
    message->fetch_next = start;
    message->fetch_end = end;
    HAUL_COUNT(message->peer, bytes_fetched, end - start);
    haul_link_control(message->link, &fetch);
}

static void ask_next_run(struct haul_message *message)
{
    struct run run;
    if (next_run(message, &run))
        ask(message, &run);
}

void haul_fetch_brought(struct haul_message *message, uint64_t bytes)
{
    struct haul_engine *engine = message->engine;
    message->stream_received += bytes;
    if (message->fetch_active)
        engine->fetch_bytes_left -= HAUL_MIN(bytes, engine->fetch_bytes_left);
    haul_width_brought(&engine->fetch_width, bytes);
}

void haul_fetch_received(struct haul_message *message, uint64_t bytes)
{
    haul_fetch_brought(message, bytes);
    message->fetch_next += bytes;
    haul_stall_moved(message, bytes);
    if (message->fetch_next == message->fetch_end)
        ask_next_run(message);
}

/* ---- Turns ----------------------------------------------------------------------------------- */

void haul_fetch_queue(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    haul_message_set_state(message, HAUL_MESSAGE_FETCHING);
    if (message->stream_received == message->manifest.offered_bytes) {
        haul_inbound_progress(message);
        return;
    }
    haul_list_append(&engine->fetching, &message->place_node);
    haul_fetch_schedule(engine); /* may refuse the message, or finish it */
}

static void start(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    haul_list_remove(&message->place_node);
    message->fetch_active = true;
    message->link->last_turn = ++engine->fetch_turns;
    engine->fetches++;
    engine->fetch_bytes_left += message->manifest.offered_bytes - message->stream_received;
    message->fetch_next = message->fetch_end = 0;
    message->stream_cursor = (struct haul_cursor){0};
    message->uses_rma = haul_link_reads(message->link);
    haul_list_append(&engine->reading, &message->place_node);
    message->reads++; /* held: reads may end inside */
    haul_stall_begin(message);
    haul_reads_issue(message);
    if (message->state == HAUL_MESSAGE_FETCHING && !message->reads_failed)
        ask_next_run(message);
    haul_reads_end(message);
}

void haul_fetch_end(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    if (message->waits_for_pool) {
        message->waits_for_pool = false;
        atomic_store(&engine->pool_released, true); /* those behind it need not wait any more */
        haul_engine_changed(engine);
    }
    if (!message->fetch_active)
        return;
    message->fetch_active = false;
    uint64_t left = message->manifest.offered_bytes - message->stream_received;
    engine->fetch_bytes_left -= HAUL_MIN(left, engine->fetch_bytes_left);
    engine->fetches--;
    if (engine->fetches == 0)
        engine->fetch_bytes_left = 0;
    message->transfer++; /* what is still on its way of it is thrown away */
    /* Nothing is asked for: DATA that bears the next number already has no place to go to. */
    message->fetch_next = message->fetch_end = 0;
}

void haul_fetch_put_back(struct haul_message *message)
{
    struct haul_link *link = message->link;
    haul_fetch_end(message);
    if (link->receiving == message && link->receiving_stream)
        link->receiving = NULL;
    haul_place_unmap(message);
    haul_place_forget_offered(message); /* what was mapped had no place in it */
    message->stream_received = 0;
    haul_reads_forget(message);
    haul_list_remove(&message->place_node);
    haul_list_append(&message->engine->fetching, &message->place_node);
    haul_engine_changed(message->engine);
}

/* Those whose sender let its turn pass come last. Then replies first: requests may be kept until a
 * reply has come, never the other way round. */
static bool goes_before(const struct haul_message *a, const struct haul_message *b)
{
    if (a->stalled != b->stalled)
        return b->stalled;
    if ((a->call != NULL) != (b->call != NULL))
        return a->call != NULL;
    return a->link->last_turn < b->link->last_turn;
}

/* Once a message waits for memory, requests behind it wait as well: smaller ones would take from it
 * what is released. Not so replies, which those who hold memory may be waiting for, nor messages
 * that need none. */
static bool may_start(const struct haul_message *message)
{
    if (message->waits_for_pool || message->link->state == HAUL_LINK_LOST)
        return false;
    return !message->engine->pool_blocked || message->call || haul_place_has_memory(message);
}

static struct haul_message *next_message(struct haul_engine *engine)
{
    struct haul_message *next = NULL;
    HAUL_LIST_EACH(&engine->fetching, node)
    {
        struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, place_node);
        if (may_start(message) && (!next || goes_before(message, next)))
            next = message;
    }
    return next;
}

/* Memory was released, or who waited for it has left. */
static void unblock_pool(struct haul_engine *engine)
{
    engine->pool_blocked = false;
    HAUL_LIST_EACH(&engine->fetching, node)
    HAUL_CONTAINER_OF(node, struct haul_message, place_node)->waits_for_pool = false;
}

static void measure(struct haul_engine *engine)
{
    bool waiting = !haul_list_empty(&engine->fetching);
    if (!waiting && engine->fetches == 0) {
        haul_width_stop(&engine->fetch_width);
        return;
    }
    uint64_t now_ns = engine->drive.now_ns;
    haul_width_measure(&engine->fetch_width, now_ns, haul_drive_idle_ns(&engine->drive),
                       engine->reads > 0, waiting && !engine->pool_blocked);
    if (waiting)
        haul_engine_timer(engine, now_ns + HAUL_WIDTH_WINDOW_MS * (uint64_t)HAUL_NS_PER_MS);
}

/* Gives a message its memory and starts it, or makes it wait for memory. */
static void give_turn(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    bool may_wait = !haul_place_is_alone(message);
    int err = haul_place_offered(message);
    if (err == HAUL_NO_MEMORY && may_wait) {
        haul_place_wait(message);
        return;
    }
    if (!engine->pool_blocked)
        engine->pool_waiting_since_ns = 0;
    if (err)
        haul_inbound_refuse(message, err, haul_error_detail());
    else
        start(message);
}

static bool has_turn(const struct haul_engine *engine)
{
    unsigned width = haul_width_now(&engine->fetch_width);
    bool last_read = engine->reads > 0 && engine->fetches == width &&
                     engine->fetch_bytes_left <= LOOK_AHEAD_BYTES_READ;
    return engine->fetches < width || engine->fetch_bytes_left < LOOK_AHEAD_BYTES || last_read;
}

bool haul_fetch_schedule(struct haul_engine *engine)
{
    struct haul_message *message;
    bool started = haul_reads_issue_more(engine);
    if (atomic_exchange(&engine->pool_released, false))
        unblock_pool(engine);
    if (haul_list_empty(&engine->fetching))
        engine->pool_waiting_since_ns = 0;
    measure(engine);
    while (has_turn(engine) && (message = next_message(engine))) {
        give_turn(message);
        started = true;
    }
    return started;
}
