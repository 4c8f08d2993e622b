/* SPDX-License-Identifier: Apache-2.0
 * Bringing offered arrays: whose turn it is, and by which way.
 *
 * Turns. A message gets memory when its turn comes, and not before. On a fast local link one sender
 * at a time is quickest (its pages stay in the cache, and nobody is preempted); on a network one
 * slow sender would leave the receiver idle. So `fetch_width` fetches run at a time, and it is
 * measured: while fetches wait, a receiver that was idle most of the time widens, one that was busy
 * narrows. The next fetch starts a little before the last one ends, so that the request is there
 * when the sender before is done. Among the messages that wait, the link that was served longest
 * ago comes first.
 *
 * Ways. Arrays that came with a way are read by rma, in pieces; the others are asked for on the
 * channel, one run of the stream at a time. When a read fails, the link uses the channel from then
 * on, and the message is fetched anew, whole.
 *
 * A sender that lets its turn pass (it is stopped, or hostile) must not keep the others waiting: a
 * fetch on the channel that does not move while others wait gives its turn and its memory up.
 *
 * Proof. Bytes that were read by rma are what was sent only if the sender had not got its memory
 * back meanwhile; that its connection was lost may be news that is still on its way to us. So each
 * side keeps a nonce for each connection where the other can read it, wipes it before memory is
 * anybody's again, and after the last read of a message the receiver reads the sender's nonce: if
 * that is still there, all that was read before was in order.
 *
 * A read that may never complete holds its message (and so its memory) until the provider's fence
 * has ended it. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LOOK_AHEAD_BYTES = 2 << 20, /* of the running fetches still to come when the next one starts */
    WIDTH_MAX = 64,
    READS_PER_MESSAGE = 8,
};
/* How long idleness is measured before the width changes. */
#define WINDOW_NS (10 * (uint64_t)HAUL_NS_PER_MS)

/* One rma read: the cookie of read(). */
struct haul_read {
    struct haul_list node;
    struct haul_link *link;
    struct haul_message *message; /* NULL: the read that proves a path */
    uint64_t bytes;
    void *region;               /* registered for this read, or NULL */
    struct haul_block *landing; /* of a read of the nonce, else NULL */
};

/* ---- The channel ----------------------------------------------------------------------------- */

static bool by_rma(const struct haul_message *message, const struct haul_manifest_array *item)
{
    return message->uses_rma && item->way_bytes > 0;
}

/* The next run of the stream, from `from` on, that has to come on the channel. */
static bool next_run(const struct haul_message *message, uint64_t from, uint64_t *start,
                     uint64_t *end)
{
    uint64_t at = 0;
    *start = *end = UINT64_MAX;
    for (uint32_t i = 0; i < message->manifest.count; i++) {
        const struct haul_manifest_array *item = &message->manifest.arrays[i];
        uint64_t begins = at;
        if (!item->offered)
            continue;
        at += item->array.nbytes;
        if (at <= from || item->array.nbytes == 0)
            continue;
        if (item->mapped || by_rma(message, item)) {
            if (*start != UINT64_MAX)
                return true;
            continue;
        }
        if (*start == UINT64_MAX)
            *start = begins;
        *end = at;
    }
    return *start != UINT64_MAX;
}

static void ask(struct haul_message *message, uint64_t start, uint64_t end)
{
    const struct haul_wire_control fetch = {.type = HAUL_FRAME_FETCH,
                                            .seq = message->manifest.seq,
                                            .offset = start,
                                            .bytes = end - start,
                                            .transfer = ++message->transfer};
    message->fetch_next = start;
    message->fetch_end = end;
    HAUL_COUNT(message->peer, bytes_fetched, end - start);
    haul_link_control(message->link, &fetch);
}

static void ask_next_run(struct haul_message *message)
{
    uint64_t start, end;
    message->fetch_moved_ns = haul_now_ns();
    if (next_run(message, message->fetch_end, &start, &end))
        ask(message, start, end);
}

void haul_fetch_received(struct haul_message *message, uint64_t bytes)
{
    struct haul_engine *engine = message->engine;
    message->stream_received += bytes;
    message->fetch_next += bytes;
    message->fetch_moved_ns = engine->drive.now_ns;
    engine->fetch_bytes_left -= HAUL_MIN(bytes, engine->fetch_bytes_left);
    if (message->fetch_next == message->fetch_end)
        ask_next_run(message);
}

/* ---- rma ------------------------------------------------------------------------------------- */

static struct haul_read *take_read(struct haul_link *link, struct haul_message *message)
{
    struct haul_engine *engine = link->engine;
    struct haul_read *read;
    if (!haul_list_empty(&engine->free_reads)) {
        read = HAUL_CONTAINER_OF(haul_list_pop(&engine->free_reads), struct haul_read, node);
    } else {
        read = calloc(1, sizeof *read);
        if (!read)
            return NULL;
    }
    *read = (struct haul_read){.link = link, .message = message};
    haul_list_init(&read->node);
    haul_link_retain(link);
    link->reads++;
    engine->reads++;
    link->reads_moved_ns = haul_now_ns();
    haul_engine_timer(engine, link->reads_moved_ns + HAUL_READ_STALL_S * (uint64_t)HAUL_NS_PER_S);
    return read;
}

static void give_back_read(struct haul_read *read)
{
    struct haul_link *link = read->link;
    link->reads--;
    link->engine->reads--;
    link->reads_moved_ns = haul_now_ns();
    if (read->region)
        link->rma->provider->rma->dereg(read->region);
    if (read->landing)
        haul_block_release(read->landing);
    haul_list_append(&link->engine->free_reads, &read->node);
    haul_link_release(link);
}

/* The region that a place in received memory lies in; user memory is registered for the read. */
static void *landing_region(struct haul_read *read, void *to, size_t bytes)
{
    struct haul_message *message = read->message;
    struct haul_transport *transport = read->link->rma;
    struct haul_block *block =
        message->destination ? message->destination->block : message->offered_block;
    if (block)
        return haul_slab_regions(block->slab)[transport->slot];
    if (transport->provider->rma->reg(transport->rma, to, bytes, HAUL_RMA_LAND, &read->region))
        return NULL;
    HAUL_COUNT(message->peer, registrations, 1);
    return read->region;
}

/* Issues one read at the cursor. Returns false if no further one can be issued now. */
static bool issue_read(struct haul_message *message, struct haul_manifest_array *item)
{
    struct haul_link *link = message->link;
    struct haul_cursor *cursor = &message->read_cursor;
    uint64_t offset = cursor->offset;
    size_t bytes = (size_t)HAUL_MIN(item->array.nbytes - offset, (uint64_t)HAUL_READ_BYTES);
    struct haul_read *read = take_read(link, message);
    if (!read)
        return false;
    char *to = (char *)item->array.data + offset;
    void *region = landing_region(read, to, bytes);
    int err = HAUL_NO_MEMORY;
    read->bytes = bytes;
    message->reads++; /* before: read_done() may come from inside read() */
    cursor->offset += bytes;
    if (region)
        err = link->rma->provider->rma->read(link->rma_peer, item->way, item->way_bytes, offset, to,
                                             region, bytes, read);
    if (!err)
        return true;
    message->reads--;
    cursor->offset = offset;
    give_back_read(read);
    if (err != HAUL_BUSY)
        message->reads_failed = true;
    return false;
}

/* Issues what can be issued now. The caller holds the message with a read of its own: reads may end
 * inside. */
static bool issue_reads(struct haul_message *message)
{
    bool issued = false;
    while (message->state == HAUL_MESSAGE_FETCHING && !message->reads_failed &&
           message->reads <= READS_PER_MESSAGE) {
        struct haul_manifest_array *item =
            haul_cursor_array(&message->manifest, &message->read_cursor, true);
        if (!item) {
            haul_list_remove(&message->place_node); /* all are issued */
            return issued;
        }
        if (item->mapped || !by_rma(message, item)) {
            message->read_cursor.offset = item->array.nbytes;
            continue;
        }
        if (!issue_read(message, item))
            break;
        issued = true;
    }
    return issued;
}

/* Nothing of its stream counts as received: it waits for a turn again. */
static void put_back(struct haul_message *message)
{
    struct haul_link *link = message->link;
    haul_fetch_end(message);
    if (link->receiving == message && link->receiving_stream)
        link->receiving = NULL;
    haul_place_unmap(message);
    message->stream_received = 0;
    haul_fetch_forget_reads(message);
    haul_list_remove(&message->place_node);
    haul_list_append(&message->engine->fetching, &message->place_node);
    haul_engine_changed(message->engine);
}

/* After a failed read and the end of the others: all of it again, on the channel, in its turn. */
static void fetch_on_channel(struct haul_message *message)
{
    struct haul_link *link = message->link;
    haul_log(HAUL_LOG_WARNING, "%s: reading by %s failed; its arrays come over %s from now on",
             link->peer->address, link->rma->name, link->transport->name);
    HAUL_COUNT(link->peer, rma_failures, 1);
    snprintf(link->peer->why, sizeof link->peer->why, "%s: a read failed", link->rma->name);
    link->rma_failed = true;
    message->reads_failed = false;
    put_back(message);
}

/* A message with reads is neither delivered nor freed; whoever ends one of them looks whether it
 * was the last. */
static void end_read(struct haul_message *message)
{
    if (--message->reads > 0)
        return;
    if (message->cancelled) {
        message->cancelled = false;
        haul_inbound_cancel(message->link, message->manifest.seq);
    } else if (message->reads_failed && message->state == HAUL_MESSAGE_FETCHING) {
        fetch_on_channel(message);
    } else {
        haul_inbound_progress(message);
    }
}

void haul_fetch_forget_reads(struct haul_message *message)
{
    message->read_cursor = (struct haul_cursor){0, 0};
    message->needs_proof = message->proven = false;
}

/* ---- The nonce ------------------------------------------------------------------------------- */

/* Starts to read the peer's nonce, for a message or (NULL) to prove a new path. */
static int read_nonce(struct haul_link *link, struct haul_message *message)
{
    struct haul_engine *engine = link->engine;
    size_t bytes = sizeof link->peer_nonce;
    struct haul_read *read = take_read(link, message);
    if (!read)
        return haul_fail(HAUL_NO_MEMORY, "no memory for a read");
    int err = haul_pool_alloc(engine->pool, bytes, HAUL_POOL_RESERVED, &read->landing);
    if (!err) {
        void *region = haul_slab_regions(read->landing->slab)[link->rma->slot];
        err = link->rma->provider->rma->read(link->rma_peer, link->probe, link->probe_bytes, 0,
                                             read->landing->data, region, bytes, read);
    }
    if (err)
        give_back_read(read);
    return err;
}

/* Whether a read of the nonce brought it. */
static int check_nonce(const struct haul_read *read)
{
    if (!memcmp(read->landing->data, &read->link->peer_nonce, sizeof read->link->peer_nonce))
        return 0;
    return haul_fail(HAUL_PROTOCOL, "the proving read brought other bytes than it should");
}

int haul_fetch_probe(struct haul_link *link, const struct haul_wire_rma *rma)
{
    memcpy(link->probe, rma->probe, rma->probe_bytes);
    link->probe_bytes = rma->probe_bytes;
    link->probing = true;
    int err = read_nonce(link, NULL);
    if (err)
        link->probing = false;
    else
        haul_engine_timer(link->engine, haul_now_ns()); /* it finds when to end a read that hangs */
    return err;
}

bool haul_fetch_prove(struct haul_message *message)
{
    if (!message->needs_proof || message->proven)
        return false;
    if (message->proving)
        return true;
    message->proving = true;
    message->reads += 2; /* of the proof, and ours: it may end inside */
    int err = read_nonce(message->link, message);
    message->reads -= err ? 2 : 1;
    if (message->reads > 0 || message->proven)
        return !message->proven;
    message->proving = false;
    if (err == HAUL_BUSY)
        haul_list_append(&message->engine->reading, &message->place_node); /* tried again there */
    else
        fetch_on_channel(message);
    return true;
}

/* ---- Ends of reads --------------------------------------------------------------------------- */

static void message_read_done(struct haul_message *message, const struct haul_read *read, int err)
{
    struct haul_engine *engine = message->engine;
    if (err) {
        message->reads_failed = true;
    } else if (read->landing) {
        message->proven = true;
    } else {
        HAUL_COUNT(message->peer, bytes_read_rma, read->bytes);
        message->needs_proof = true;
        message->stream_received += read->bytes;
        engine->fetch_bytes_left -= HAUL_MIN(read->bytes, engine->fetch_bytes_left);
    }
    if (read->landing)
        message->proving = false;
}

void haul_fetch_read_done(void *cookie, int err)
{
    struct haul_read *read = cookie;
    struct haul_message *message = read->message;
    struct haul_link *link = read->link;
    haul_link_retain(link);
    if (!err && read->landing)
        err = check_nonce(read);
    if (message)
        message_read_done(message, read, err);
    give_back_read(read);
    if (message) {
        haul_engine_changed(link->engine);
        end_read(message);
    } else {
        haul_handshake_probed(link, err);
    }
    haul_link_release(link);
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
    message->fetch_end = 0;
    message->uses_rma = haul_link_reads(message->link);
    haul_list_append(&engine->reading, &message->place_node);
    message->reads++;
    issue_reads(message);
    if (message->state == HAUL_MESSAGE_FETCHING && !message->reads_failed)
        ask_next_run(message);
    end_read(message);
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
    if (message->waits_for_pool)
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

/* Widens or narrows by how idle we were since the last look. */
static void measure(struct haul_engine *engine)
{
    uint64_t now_ns = haul_now_ns();
    uint64_t window_ns = now_ns - engine->fetch_window_ns;
    if (window_ns < WINDOW_NS)
        return;
    uint64_t idle_ns = haul_drive_idle_ns(&engine->drive) - engine->fetch_window_idle_ns;
    bool waiting = !haul_list_empty(&engine->fetching);
    if (waiting && window_ns < 4 * WINDOW_NS) {
        if (idle_ns * 4 > window_ns * 3)
            engine->fetch_width = HAUL_MIN(engine->fetch_width + 1, (unsigned)WIDTH_MAX);
        else if (idle_ns * 2 < window_ns)
            engine->fetch_width = HAUL_MAX(engine->fetch_width - 1, 1u);
    }
    engine->fetch_window_ns = now_ns;
    engine->fetch_window_idle_ns += idle_ns;
    if (waiting)
        haul_engine_timer(engine, now_ns + WINDOW_NS);
}

static size_t count_reading(struct haul_engine *engine)
{
    size_t count = 0;
    HAUL_LIST_EACH(&engine->reading, node)
    count++;
    return count;
}

/* In rotation, always from the head: reads may end inside, and change the list. */
static bool issue_reads_of_first(struct haul_engine *engine)
{
    if (haul_list_empty(&engine->reading))
        return false;
    struct haul_list *first = haul_list_pop(&engine->reading);
    struct haul_message *message = HAUL_CONTAINER_OF(first, struct haul_message, place_node);
    haul_list_append(&engine->reading, first);
    message->reads++;
    bool issued = issue_reads(message);
    end_read(message);
    return issued;
}

/* Gives a message its memory and starts it, or makes it wait for memory. */
static void give_turn(struct haul_message *message)
{
    struct haul_engine *engine = message->engine;
    int err = haul_place_offered(message);
    if (err == HAUL_NO_MEMORY) {
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
    return engine->fetches < engine->fetch_width || engine->fetch_bytes_left < LOOK_AHEAD_BYTES;
}

bool haul_fetch_schedule(struct haul_engine *engine)
{
    struct haul_message *message;
    bool started = false;
    for (size_t left = count_reading(engine); left > 0; left--)
        started |= issue_reads_of_first(engine);
    if (atomic_exchange(&engine->pool_released, false))
        unblock_pool(engine);
    if (haul_list_empty(&engine->fetching))
        engine->pool_waiting_since_ns = 0;
    else
        measure(engine);
    while (has_turn(engine) && (message = next_message(engine))) {
        give_turn(message);
        started = true;
    }
    return started;
}

/* ---- Turns that are not used ------------------------------------------------------------------
 */

/* Of frames that the channel lends, some may be here already: such a message keeps its turn. */
static bool is_stalled(const struct haul_message *message, uint64_t now_ns)
{
    return message->state == HAUL_MESSAGE_FETCHING && message->fetch_active &&
           message->reads == 0 && message->lent_count == 0 &&
           now_ns >= message->fetch_moved_ns + HAUL_FETCH_STALL_S * (uint64_t)HAUL_NS_PER_S;
}

/* Back among those that wait; what comes late is thrown away. */
static void give_up_turn(struct haul_message *message)
{
    struct haul_link *link = message->link;
    if (!message->stalled)
        haul_log(HAUL_LOG_WARNING,
                 "%s: nothing has come for %d s of the %llu bytes asked for, and others wait: it "
                 "has to wait too",
                 link->peer->address, HAUL_FETCH_STALL_S,
                 (unsigned long long)message->manifest.offered_bytes);
    put_back(message);
    haul_place_forget_offered(message);
    message->stalled = true;
    link->last_turn = ++message->engine->fetch_turns;
}

void haul_fetch_watch(struct haul_engine *engine, uint64_t now_ns)
{
    bool some = false;
    if (haul_list_empty(&engine->fetching) || now_ns < engine->fetch_watch_ns)
        return;
    engine->fetch_watch_ns = now_ns + HAUL_NS_PER_S;
    HAUL_LIST_EACH(&engine->links, node)
    {
        struct haul_link *link = HAUL_CONTAINER_OF(node, struct haul_link, node);
        struct haul_list *lists[] = {&link->inbound, &link->replies};
        for (size_t i = 0; i < HAUL_COUNT_OF(lists); i++) {
            HAUL_LIST_EACH(lists[i], each)
            {
                struct haul_message *message = HAUL_CONTAINER_OF(each, struct haul_message, node);
                if (!is_stalled(message, now_ns))
                    continue;
                give_up_turn(message);
                some = true;
            }
        }
    }
    if (some)
        haul_fetch_schedule(engine);
}

void haul_fetch_free_reads(struct haul_engine *engine)
{
    while (!haul_list_empty(&engine->free_reads))
        free(HAUL_CONTAINER_OF(haul_list_pop(&engine->free_reads), struct haul_read, node));
}
