/* SPDX-License-Identifier: Apache-2.0
 * Reads: posted in pieces that the provider takes, until all bytes are here.
 *
 *   waiting   libfabric had no room (-FI_EAGAIN), or the next piece is due
 *   posted    with libfabric, which may write to its memory
 *   ended     read_done() is due; it is called at the end of progress(), and in no other place, so
 *             that core's answers (new reads, a fence, the last of a peer) meet settled lists
 *
 * How it fails. Errors of a queue end the read that they name. Some ends are never told: a read of
 * a peer that is silent, or whose connection libfabric goes on retrying. So fence() gives the
 * peer's posted reads up to FENCE_NS to end by themselves; what is left then is ended by closing
 * the reader, the one thing after which no provider writes any more. Reads of other peers that this
 * hits are posted again, from where their piece began. */
#include "ofi.h"

#include <stdlib.h>

enum {
    READS_PER_PEER = 16,
    FAILURES_MAX = 5,
    ENTRIES = 32,
    BYTES_IN_FLIGHT = 64 << 20, /* of all peers; one read is always let through */
};
#define NS_PER_US ((uint64_t)1000)
#define NS_PER_MS ((uint64_t)1000000)
#define FENCE_NS (1000 * NS_PER_MS)
#define RETRY_NS NS_PER_MS
#define FIRST_FAILURE_NS (10 * NS_PER_MS) /* doubles */
/* Pauses between two looks at queues without descriptor: they double while nothing happens. */
#define POLL_FIRST_NS (50 * NS_PER_US)
#define POLL_READING_NS NS_PER_MS     /* the longest while reads are posted */
#define POLL_IDLE_NS (10 * NS_PER_MS) /* ... and while peers may read from us */
#define GREETING_NS (10000 * NS_PER_MS)
#define LOOK_ANYWAY_NS (100 * NS_PER_MS) /* also at queues with one: some lose wake-ups */

/* ---- One read ------------------------------------------------------------------------------- */

/* Whether something else must end before it may be posted. */
static bool must_wait(const struct haul_ofi_read *read)
{
    const struct haul_ofi_address *address = read->peer->address;
    return address->suspect && (address->suspect != read || address->posted > 0);
}

/* Whether it may be posted now. The first that is due of those that have failed keeps others from
 * starting, until it has been alone. */
static bool take_turn(struct haul_ofi_read *read, uint64_t now_ns)
{
    struct haul_ofi_address *address = read->peer->address;
    if (read->not_before_ns > now_ns)
        return false;
    if (read->failures > 0 && !address->suspect)
        address->suspect = read;
    return !must_wait(read);
}

static void leave_turn(struct haul_ofi_read *read)
{
    struct haul_ofi_address *address = read->peer->address;
    if (address->suspect == read)
        address->suspect = NULL;
}

static void end_read(struct haul_ofi *ofi, struct haul_ofi_read *read, int err)
{
    read->err = err;
    leave_turn(read);
    TAILQ_INSERT_TAIL(&ofi->ended, read, node);
}

/* Posts the next piece of a read that is in no list. False: not now; it is in none still. */
static bool post(struct haul_ofi *ofi, struct haul_ofi_read *read)
{
    size_t max = ofi->info->ep_attr->max_msg_size;
    struct haul_ofi_address *address = read->peer->address;
    if (!ofi->reader.endpoint || address->number == FI_ADDR_NOTAVAIL) {
        end_read(ofi, read, HAUL_SYSTEM);
        return true;
    }
    read->piece = read->from.bytes < max ? (size_t)read->from.bytes : max;
    ssize_t err = fi_read(ofi->reader.endpoint, read->to, read->piece,
                          read->region->mr ? fi_mr_desc(read->region->mr) : NULL, address->number,
                          read->from.address, read->from.key, &read->context);
    if (err == -FI_EAGAIN)
        return false;
    if (err) {
        haul_ofi_host->log(HAUL_LOG_INFO, "ofi:%s: a read could not be started: %s", ofi->kind,
                           haul_ofi_error((int)err));
        end_read(ofi, read, HAUL_PEER_LOST);
    } else {
        TAILQ_INSERT_TAIL(&ofi->posted, read, node);
        address->posted++;
    }
    return true;
}

/* It is libfabric's no more. */
static void take_from_posted(struct haul_ofi *ofi, struct haul_ofi_read *read)
{
    TAILQ_REMOVE(&ofi->posted, read, node);
    read->peer->address->posted--;
}

static bool post_waiting(struct haul_ofi *ofi)
{
    struct haul_ofi_reads refused = TAILQ_HEAD_INITIALIZER(refused);
    struct haul_ofi_read *read;
    bool did = false;
    uint64_t now_ns = TAILQ_EMPTY(&ofi->waiting) ? 0 : haul_ofi_host->now_ns();
    while ((read = TAILQ_FIRST(&ofi->waiting)) != NULL) {
        TAILQ_REMOVE(&ofi->waiting, read, node);
        if (take_turn(read, now_ns) && post(ofi, read))
            did = true;
        else
            TAILQ_INSERT_TAIL(&refused, read, node);
    }
    TAILQ_CONCAT(&ofi->waiting, &refused, node);
    return did;
}

static void piece_completed(struct haul_ofi *ofi, struct haul_ofi_read *read)
{
    take_from_posted(ofi, read);
    read->to += read->piece;
    read->from.address += read->piece;
    read->from.bytes -= read->piece;
    if (read->from.bytes == 0)
        end_read(ofi, read, 0);
    else if (read->fenced)
        end_read(ofi, read, HAUL_CANCELLED);
    else
        TAILQ_INSERT_HEAD(&ofi->waiting, read, node);
}

/* It is tried again, a few times: libfabric has one connection to all that is in the peer's
 * process, and ends it, with all reads, when one of them meets memory that is no longer offered.
 * Each of them is then tried alone, so that the one that is at fault fails for itself only. When
 * the peer itself is gone the channel says so, and the read is fenced. */
static void piece_failed(struct haul_ofi *ofi, struct haul_ofi_read *read)
{
    take_from_posted(ofi, read);
    leave_turn(read);
    if (read->fenced || ++read->failures > FAILURES_MAX) {
        end_read(ofi, read, read->fenced ? HAUL_CANCELLED : HAUL_PEER_LOST);
        return;
    }
    read->not_before_ns = haul_ofi_host->now_ns() + (FIRST_FAILURE_NS << (read->failures - 1));
    TAILQ_INSERT_TAIL(&ofi->waiting, read, node);
}

/* ---- Starting ------------------------------------------------------------------------------- */

static struct haul_ofi_read *take_read(struct haul_ofi *ofi)
{
    struct haul_ofi_read *read = TAILQ_FIRST(&ofi->unused);
    if (read)
        TAILQ_REMOVE(&ofi->unused, read, node);
    else
        read = malloc(sizeof *read);
    return read;
}

int haul_ofi_read(void *handle, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                  void *region, size_t bytes, void *cookie)
{
    struct haul_ofi_peer *peer = handle;
    struct haul_ofi *ofi = peer->ofi;
    struct haul_ofi_way from;
    int err = haul_ofi_way_parse(way, way_bytes, &from);
    if (err)
        return err;
    if (offset > from.bytes || bytes > from.bytes - offset)
        return haul_ofi_host->fail(HAUL_PROTOCOL, "the peer offers fewer bytes than are read");
    bool full = ofi->bytes_in_flight > 0 && ofi->bytes_in_flight + bytes > BYTES_IN_FLIGHT;
    if (peer->reads >= READS_PER_PEER || full)
        return HAUL_BUSY;
    struct haul_ofi_read *read = take_read(ofi);
    if (!read)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for a read");
    *read = (struct haul_ofi_read){
        .peer = peer,
        .cookie = cookie,
        .region = region,
        .to = to,
        .from = {from.address + offset, from.key, bytes},
        .bytes = bytes,
    };
    bool idle = ofi->bytes_in_flight == 0;
    peer->reads++;
    ofi->bytes_in_flight += bytes;
    ofi->poll_ns = POLL_FIRST_NS;
    if (!take_turn(read, UINT64_MAX) || !post(ofi, read))
        TAILQ_INSERT_TAIL(&ofi->waiting, read, node);
    if (idle || !TAILQ_EMPTY(&ofi->waiting) || !TAILQ_EMPTY(&ofi->ended))
        haul_ofi_host->wake(ofi->engine); /* its sleep may be longer than what is due now */
    return 0;
}

/* ---- Ends ----------------------------------------------------------------------------------- */

static void log_failure(struct haul_ofi *ofi, const struct fi_cq_err_entry *entry,
                        const struct haul_ofi_side *side)
{
    char buffer[128];
    const char *text =
        fi_cq_strerror(side->queue, entry->prov_errno, entry->err_data, buffer, sizeof buffer);
    haul_ofi_host->log(HAUL_LOG_INFO, "ofi:%s: a read %s: %s (%s)", ofi->kind,
                       side == &ofi->reader ? "failed" : "of a peer's from here failed",
                       haul_ofi_error(entry->err), text ? text : "");
}

static bool take_error(struct haul_ofi *ofi, struct haul_ofi_side *side)
{
    struct fi_cq_err_entry entry = {0};
    if (fi_cq_readerr(side->queue, &entry, 0) != 1)
        return false;
    log_failure(ofi, &entry, side);
    /* Some providers name no read: the fence ends it. */
    if (side == &ofi->reader && entry.op_context)
        piece_failed(ofi, entry.op_context);
    return true;
}

/* Empties a queue. Only the reader's has completions of ours; one without context is no read, but
 * what a peer can make its provider say (that it has written nothing to us). */
static bool drain(struct haul_ofi *ofi, struct haul_ofi_side *side)
{
    struct fi_cq_entry entries[ENTRIES];
    bool did = false;
    while (side->queue) {
        ssize_t count = fi_cq_read(side->queue, entries, ENTRIES);
        if (count == -FI_EAVAIL ? !take_error(ofi, side) : count <= 0)
            break;
        for (ssize_t i = 0; i < count && side == &ofi->reader; i++)
            if (entries[i].op_context)
                piece_completed(ofi, entries[i].op_context);
        did = true;
    }
    return did;
}

/* Tells core about the reads that have ended. It may start others, or fence, meanwhile. */
static bool report(struct haul_ofi *ofi)
{
    struct haul_ofi_read *read;
    bool did = false;
    while ((read = TAILQ_FIRST(&ofi->ended)) != NULL) {
        void *cookie = read->cookie;
        int err = read->err;
        TAILQ_REMOVE(&ofi->ended, read, node);
        read->peer->reads--;
        ofi->bytes_in_flight -= read->bytes;
        TAILQ_INSERT_TAIL(&ofi->unused, read, node);
        haul_ofi_host->read_done(cookie, err);
        did = true;
    }
    return did;
}

/* ---- Fencing -------------------------------------------------------------------------------- */

void haul_ofi_fence(void *handle)
{
    struct haul_ofi_peer *peer = handle;
    struct haul_ofi *ofi = peer->ofi;
    struct haul_ofi_read *read, *next;
    bool posted = false;
    for (read = TAILQ_FIRST(&ofi->waiting); read; read = next) {
        next = TAILQ_NEXT(read, node);
        if (read->peer != peer)
            continue;
        TAILQ_REMOVE(&ofi->waiting, read, node);
        end_read(ofi, read, HAUL_CANCELLED);
    }
    TAILQ_FOREACH(read, &ofi->posted, node)
    {
        read->fenced |= read->peer == peer;
        posted |= read->peer == peer;
    }
    uint64_t until_ns = haul_ofi_host->now_ns() + FENCE_NS;
    if (posted && until_ns < ofi->fence_ns)
        ofi->fence_ns = until_ns;
    haul_ofi_host->wake(ofi->engine);
}

static bool any_fenced(const struct haul_ofi *ofi)
{
    const struct haul_ofi_read *read;
    TAILQ_FOREACH(read, &ofi->posted, node)
    if (read->fenced)
        return true;
    return false;
}

/* The endpoint is closed: nothing is written any more. */
static void settle_posted(struct haul_ofi *ofi)
{
    struct haul_ofi_read *read;
    while ((read = TAILQ_LAST(&ofi->posted, haul_ofi_reads)) != NULL) {
        take_from_posted(ofi, read);
        if (read->fenced)
            end_read(ofi, read, HAUL_CANCELLED);
        else
            TAILQ_INSERT_HEAD(&ofi->waiting, read, node); /* in the order that they had */
    }
}

static bool end_fenced(struct haul_ofi *ofi)
{
    if (ofi->fence_ns == UINT64_MAX || haul_ofi_host->now_ns() < ofi->fence_ns)
        return false;
    ofi->fence_ns = UINT64_MAX;
    if (!any_fenced(ofi))
        return false;
    int err = haul_ofi_renew_reader(ofi);
    if (err == HAUL_BUSY) {
        ofi->fence_ns = haul_ofi_host->now_ns() + FENCE_NS; /* their memory stays where it is */
        return false;
    }
    haul_ofi_host->log(
        HAUL_LOG_INFO,
        "ofi:%s: reads of a peer that is gone did not end; their endpoint was closed", ofi->kind);
    if (err)
        haul_ofi_host->log(HAUL_LOG_ERROR, "ofi:%s can read no more; arrays come by the channel",
                           ofi->kind);
    settle_posted(ofi);
    return true;
}

/* ---- Progress ------------------------------------------------------------------------------- */

bool haul_ofi_progress(void *rma)
{
    struct haul_ofi *ofi = rma;
    bool did = drain(ofi, &ofi->reader);
    did |= drain(ofi, &ofi->exporter);
    did |= end_fenced(ofi);
    did |= post_waiting(ofi);
    did |= report(ofi);
    if (!did && !haul_ofi_may_sleep(ofi)) {
        did = drain(ofi, &ofi->reader);
        did |= drain(ofi, &ofi->exporter);
    }
    if (did)
        ofi->poll_ns = POLL_FIRST_NS;
    return did;
}

void haul_ofi_expect(struct haul_ofi *ofi)
{
    ofi->greeting_ns = haul_ofi_host->now_ns() + GREETING_NS;
    ofi->poll_ns = POLL_FIRST_NS;
    haul_ofi_host->wake(ofi->engine);
}

static uint64_t next_pause_ns(struct haul_ofi *ofi, uint64_t now_ns)
{
    bool busy = !TAILQ_EMPTY(&ofi->posted) || now_ns < ofi->greeting_ns;
    bool polled = ofi->reader.fd < 0 || ofi->exporter.fd < 0;
    if (!polled && now_ns >= ofi->greeting_ns)
        return LOOK_ANYWAY_NS;
    uint64_t longest = polled && busy ? POLL_READING_NS : POLL_IDLE_NS;
    ofi->poll_ns = ofi->poll_ns * 2 < longest ? ofi->poll_ns * 2 : longest;
    return ofi->poll_ns;
}

static uint64_t next_try_ns(const struct haul_ofi *ofi, uint64_t now_ns)
{
    const struct haul_ofi_read *read;
    uint64_t soonest_ns = now_ns + RETRY_NS, next_ns = UINT64_MAX;
    TAILQ_FOREACH(read, &ofi->waiting, node)
    {
        if (must_wait(read))
            continue; /* until something is done, which is a pass of its own */
        uint64_t try_ns = read->not_before_ns > soonest_ns ? read->not_before_ns : soonest_ns;
        next_ns = try_ns < next_ns ? try_ns : next_ns;
    }
    return next_ns;
}

uint64_t haul_ofi_deadline_ns(void *rma)
{
    struct haul_ofi *ofi = rma;
    if (!TAILQ_EMPTY(&ofi->ended))
        return 0;
    uint64_t now_ns = haul_ofi_host->now_ns();
    if (ofi->peers == 0 && now_ns >= ofi->greeting_ns)
        return ofi->fence_ns;
    uint64_t until_ns = now_ns + next_pause_ns(ofi, now_ns), try_ns = next_try_ns(ofi, now_ns);
    until_ns = try_ns < until_ns ? try_ns : until_ns;
    return until_ns < ofi->fence_ns ? until_ns : ofi->fence_ns;
}

void haul_ofi_reads_free(struct haul_ofi *ofi)
{
    struct haul_ofi_read *read;
    while ((read = TAILQ_FIRST(&ofi->unused)) != NULL) {
        TAILQ_REMOVE(&ofi->unused, read, node);
        free(read);
    }
}
