/* SPDX-License-Identifier: Apache-2.0
 * Reading offered arrays by rma, and proving that what was read is what was sent.
 *
 * Arrays are read in pieces, of all messages in rotation. When a read fails, the link uses the
 * channel from then on, and the message is fetched anew, whole. A read that may never complete
 * holds its message (and so its memory) until the provider's fence has ended it.
 *
 * Proof. Bytes that were read by rma are what was sent only if the sender had not got its memory
 * back meanwhile; that its connection was lost may be news that is still on its way to us. So each
 * side keeps a nonce for each connection where the other can read it, wipes it before memory is
 * anybody's again, and after the last read of a message the receiver reads the sender's nonce: if
 * that is still there, all that was read before was in order. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"

#include <stdio.h>
#include <stdlib.h>

enum { READS_PER_MESSAGE = 8 };
#define PROBE_AGAIN_NS ((uint64_t)HAUL_NS_PER_MS)

/* One rma read: the cookie of read(). */
struct haul_read {
    struct haul_list node;
    struct haul_link *link;
    struct haul_message *message; /* NULL: the read that proves a path */
    uint64_t bytes;
    void *region;               /* registered for this read, or NULL */
    struct haul_block *landing; /* of a read of the nonce, else NULL */
};

bool haul_reads_array(const struct haul_message *message, const struct haul_manifest_array *item)
{
    return message->uses_rma && item->way_bytes > 0;
}

/* ---- Reads ----------------------------------------------------------------------------------- */

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
    if (transport->provider->rma->reg(transport->rma, to, bytes, HAUL_RMA_LAND, -1, &read->region))
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
        message->reads_failed = message->path_failed = true;
    return false;
}

/* Issues what can be issued now. The caller holds the message with a read of its own: reads may end
 * inside. */
bool haul_reads_issue(struct haul_message *message)
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
        if (item->mapped || !haul_reads_array(message, item)) {
            message->read_cursor.offset = item->array.nbytes;
            continue;
        }
        if (!issue_read(message, item))
            break;
        issued = true;
    }
    return issued;
}

static void leave_path(struct haul_link *link)
{
    if (link->rma_failed)
        return; /* said for another message of it */
    haul_log(link->peer_ended ? HAUL_LOG_INFO : HAUL_LOG_WARNING,
             "%s: reading by %s failed; its arrays come over %s from now on", link->peer->address,
             link->rma->name, link->transport->name);
    HAUL_COUNT(link->peer, rma_failures, 1);
    snprintf(link->peer->why, sizeof link->peer->why, "%s: a read failed", link->rma->name);
    link->rma_failed = true;
}

/* After a failed read and the end of the others: all of it again, in its turn. */
static void fetch_anew(struct haul_message *message)
{
    if (message->path_failed)
        leave_path(message->link);
    message->reads_failed = message->path_failed = false;
    haul_fetch_put_back(message);
}

/* A message with reads is neither delivered nor freed; whoever ends one of them looks whether it
 * was the last. */
void haul_reads_end(struct haul_message *message)
{
    if (--message->reads > 0)
        return;
    if (message->cancelled) {
        message->cancelled = false;
        haul_inbound_cancel(message->link, message->manifest.seq);
    } else if (message->reads_failed && message->state == HAUL_MESSAGE_FETCHING) {
        fetch_anew(message);
    } else {
        haul_inbound_progress(message);
    }
}

void haul_reads_forget(struct haul_message *message)
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
        err = region
                  ? link->rma->provider->rma->read(link->rma_peer, link->probe, link->probe_bytes,
                                                   0, read->landing->data, region, bytes, read)
                  : haul_fail(HAUL_NO_MEMORY, "%s", link->rma->unregistered);
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

void haul_reads_take_back(struct haul_link *link)
{
    link->took_back = true;
    link->rma->provider->rma->fence(link->rma_peer);
}

/* Starts the proving read. One for which there is no room now is tried again. */
static int probe(struct haul_link *link)
{
    int err = read_nonce(link, NULL);
    uint64_t now_ns = haul_now_ns(); /* else: a timer finds when to end a read that hangs */
    haul_engine_timer(link->engine, now_ns + (err == HAUL_BUSY ? PROBE_AGAIN_NS : 0));
    return err == HAUL_BUSY ? 0 : err;
}

void haul_reads_probe_again(struct haul_link *link)
{
    int err = probe(link);
    if (err)
        haul_handshake_probed(link, err);
}

int haul_reads_probe(struct haul_link *link, const struct haul_wire_rma *rma)
{
    memcpy(link->probe, rma->probe, rma->probe_bytes);
    link->probe_bytes = rma->probe_bytes;
    link->probing = true;
    link->since_ns = haul_now_ns(); /* the greeting is over */
    int err = probe(link);
    if (err)
        link->probing = false;
    return err;
}

bool haul_reads_prove(struct haul_message *message)
{
    if (!message->needs_proof || message->proven)
        return false;
    /* (One that is taken out of its row will be read anew: its reads are to end, not to begin.) */
    if (message->proving || message->state == HAUL_MESSAGE_PLACING)
        return true;
    message->proving = true;
    message->reads += 2; /* of the proof, and ours: it may end inside */
    int err = read_nonce(message->link, message);
    message->reads -= err ? 2 : 1;
    if (message->reads > 0 || message->proven)
        return !message->proven;
    message->proving = false;
    if (err == HAUL_BUSY) {
        haul_list_remove(&message->place_node);
        haul_list_append(&message->engine->reading, &message->place_node); /* tried again there */
    } else {
        message->path_failed = true;
        fetch_anew(message);
    }
    return true;
}

/* ---- Ends of reads --------------------------------------------------------------------------- */

static void message_read_done(struct haul_message *message, const struct haul_read *read, int err)
{
    if (err) {
        message->reads_failed = true;
        message->path_failed |= err != HAUL_CANCELLED || !message->link->took_back;
        message->link->peer_ended |= err == HAUL_CLOSED;
    } else if (read->landing) {
        message->proven = true;
    } else {
        HAUL_COUNT(message->peer, bytes_read_rma, read->bytes);
        message->needs_proof = true;
        haul_fetch_brought(message, read->bytes);
    }
    if (read->landing)
        message->proving = false;
}

void haul_reads_done(void *cookie, int err)
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
        haul_reads_end(message);
    } else {
        haul_handshake_probed(link, err);
    }
    haul_link_release(link);
}

/* ---- In rotation ----------------------------------------------------------------------------- */

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
    bool issued = haul_reads_issue(message);
    haul_reads_end(message);
    return issued;
}

bool haul_reads_issue_more(struct haul_engine *engine)
{
    bool issued = false;
    for (size_t left = count_reading(engine); left > 0; left--)
        issued |= issue_reads_of_first(engine);
    return issued;
}

void haul_reads_free(struct haul_engine *engine)
{
    while (!haul_list_empty(&engine->free_reads))
        free(HAUL_CONTAINER_OF(haul_list_pop(&engine->free_reads), struct haul_read, node));
}
