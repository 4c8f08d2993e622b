/* SPDX-License-Identifier: Apache-2.0
 * Reads that may never end.
 *
 * Errors of a queue end the piece that they name. Some ends are never told: of a read of a peer
 * that is silent, or whose connection libfabric goes on retrying. So fence() gives the peer's
 * posted pieces up to FENCE_NS to end by themselves; what is left then is ended by closing the
 * reader, the one thing after which no provider writes any more. Pieces of other peers that this
 * hits are posted again, from where they began.
 *
 * A rail whose wire is cut is as silent. Where the peer can be read over other rails, pieces that
 * have not moved are ended in the same way, and the others read them: after STALL_NS where the
 * others move meanwhile; after LONG_STALL_NS where nothing was asked of them. (core gives up reads
 * that have not moved for 10 s.) Where they do not move either it is the peer that is silent, and
 * nothing would be won. The rail is blamed when another one has brought such a piece. */
#include "ofi.h"

#define NS_PER_MS ((uint64_t)1000000)
#define FENCE_NS (1000 * NS_PER_MS)
#define LOOK_NS (500 * NS_PER_MS)
#define PAUSED_NS (3 * LOOK_NS) /* without a look: a busy machine, or we were stopped */
#define STALL_NS (3000 * NS_PER_MS)
#define LONG_STALL_NS (6000 * NS_PER_MS)

/* ---- Ending what a rail has ----------------------------------------------------------------- */

/* The reader is closed: nothing is written any more. */
static void settle_posted(struct haul_ofi_rail *rail)
{
    struct haul_ofi_piece *piece;
    while ((piece = TAILQ_LAST(&rail->posted, haul_ofi_pieces)) != NULL) {
        haul_ofi_take_from_posted(piece);
        piece->blocked = false;
        if (piece->read->fenced)
            haul_ofi_piece_over(piece, HAUL_CANCELLED);
        else /* in the order that they had */
            TAILQ_INSERT_HEAD(&rail->ofi->waiting, piece, node);
    }
}

/* Returns whether the reader was closed. Then only pieces are still in `posted` that have not ended
 * by themselves, and that nobody else has. */
static bool cut_reads(struct haul_ofi_rail *rail)
{
    if (haul_ofi_renew_reader(rail) == HAUL_BUSY)
        return false; /* their memory stays where it is */
    haul_ofi_pieces_finish(rail->ofi);
    return true;
}

/* ---- Fencing -------------------------------------------------------------------------------- */

static struct haul_ofi_piece *waiting_piece_of(const struct haul_ofi_peer *peer)
{
    struct haul_ofi_piece *piece;
    TAILQ_FOREACH(piece, &peer->ofi->waiting, node)
    if (piece->read->peer == peer)
        return piece;
    return NULL;
}

static bool mark_posted_of(const struct haul_ofi_peer *peer, struct haul_ofi_rail *rail)
{
    struct haul_ofi_piece *piece;
    bool any = false;
    TAILQ_FOREACH(piece, &rail->posted, node)
    {
        piece->read->fenced |= piece->read->peer == peer;
        any |= piece->read->peer == peer;
    }
    return any;
}

void haul_ofi_fence(void *handle)
{
    struct haul_ofi_peer *peer = handle;
    struct haul_ofi *ofi = peer->ofi;
    struct haul_ofi_piece *piece;
    bool posted = false;
    while ((piece = waiting_piece_of(peer)) != NULL) {
        TAILQ_REMOVE(&ofi->waiting, piece, node);
        haul_ofi_piece_over(piece, HAUL_CANCELLED);
    }
    for (unsigned i = 0; i < ofi->rail_count; i++)
        posted |= mark_posted_of(peer, &ofi->rails[i]);
    uint64_t until_ns = haul_ofi_host->now_ns() + FENCE_NS;
    if (posted && until_ns < ofi->fence_ns)
        ofi->fence_ns = until_ns;
    haul_ofi_host->wake(ofi->engine);
}

static bool any_fenced(const struct haul_ofi_rail *rail)
{
    const struct haul_ofi_piece *piece;
    TAILQ_FOREACH(piece, &rail->posted, node)
    if (piece->read->fenced)
        return true;
    return false;
}

bool haul_ofi_end_fenced(struct haul_ofi *ofi)
{
    bool did = false;
    if (ofi->fence_ns == UINT64_MAX || haul_ofi_host->now_ns() < ofi->fence_ns)
        return false;
    ofi->fence_ns = UINT64_MAX;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        struct haul_ofi_rail *rail = &ofi->rails[i];
        if (!any_fenced(rail))
            continue;
        if (!cut_reads(rail)) {
            ofi->fence_ns = haul_ofi_host->now_ns() + FENCE_NS;
            continue;
        }
        haul_ofi_host->log(
            HAUL_LOG_INFO,
            "ofi:%s: reads that were given up did not end; their endpoint was closed", ofi->kind);
        settle_posted(rail);
        did = true;
    }
    return did;
}

/* ---- Rails that do not move ----------------------------------------------------------------- */

static bool has_idle_path(const struct haul_ofi_peer *peer, uint64_t now_ns)
{
    for (unsigned i = 0; i < peer->ofi->rail_count; i++) {
        const struct haul_ofi_address *address = peer->paths[i].address;
        if (haul_ofi_can_read(peer, i) && address->posted == 0 &&
            !haul_ofi_is_shunned(address, now_ns))
            return true;
    }
    return false;
}

static bool is_silent(const struct haul_ofi_piece *piece, uint64_t now_ns)
{
    const struct haul_ofi_peer *peer = piece->read->peer;
    const struct haul_ofi_address *address = haul_ofi_address_of(piece);
    if (!haul_ofi_has_choice(peer) || now_ns < address->moved_ns + STALL_NS)
        return false;
    return haul_ofi_others_bring(peer, address, address->moved_ns) ||
           (now_ns >= address->moved_ns + LONG_STALL_NS && has_idle_path(peer, now_ns));
}

static void suspect_silent(struct haul_ofi_rail *rail, uint64_t now_ns)
{
    const struct haul_ofi_piece *piece;
    TAILQ_FOREACH(piece, &rail->posted, node)
    {
        struct haul_ofi_address *address = haul_ofi_address_of(piece);
        if (address->suspected_ns <= address->moved_ns && is_silent(piece, now_ns))
            address->suspected_ns = now_ns;
    }
}

/* Its rail moves, but it does not: its error may have named no read. */
static bool is_forgotten(const struct haul_ofi_piece *piece, uint64_t now_ns)
{
    return haul_ofi_has_choice(piece->read->peer) && now_ns >= piece->posted_ns + LONG_STALL_NS &&
           haul_ofi_others_bring(piece->read->peer, haul_ofi_address_of(piece), piece->posted_ns);
}

/* (At the second look: when a peer that was stopped goes on one rail is the first.) */
static bool stands_still(const struct haul_ofi_address *address, uint64_t now_ns)
{
    return address->suspected_ns > address->moved_ns && now_ns >= address->suspected_ns + LOOK_NS;
}

static bool is_stalled(const struct haul_ofi_piece *piece, uint64_t now_ns)
{
    return is_forgotten(piece, now_ns) || stands_still(haul_ofi_address_of(piece), now_ns);
}

static bool any_stalled(const struct haul_ofi_rail *rail, uint64_t now_ns)
{
    const struct haul_ofi_piece *piece;
    TAILQ_FOREACH(piece, &rail->posted, node)
    if (is_stalled(piece, now_ns))
        return true;
    return false;
}

static bool end_stalled_of(struct haul_ofi_rail *rail, uint64_t now_ns)
{
    struct haul_ofi_piece *piece;
    suspect_silent(rail, now_ns);
    if (!any_stalled(rail, now_ns) || !cut_reads(rail))
        return false;
    TAILQ_FOREACH(piece, &rail->posted, node)
    if (is_stalled(piece, now_ns)) {
        struct haul_ofi_address *address = haul_ofi_address_of(piece);
        haul_ofi_note_failed(piece,
                             stands_still(address, now_ns) ? address->moved_ns : piece->posted_ns);
        haul_ofi_shun(address);
    }
    settle_posted(rail);
    return true;
}

/* This process was stopped, or had nothing to look at: what did not move meanwhile says nothing. */
static void begin_anew(struct haul_ofi_rail *rail, uint64_t now_ns)
{
    struct haul_ofi_address *address;
    struct haul_ofi_piece *piece;
    LIST_FOREACH(address, &rail->known, node)
    address->moved_ns = now_ns;
    TAILQ_FOREACH(piece, &rail->posted, node)
    piece->posted_ns = now_ns;
}

/* Its reader could not be made, or not be closed. (What was stuck may have ended by itself, and
 * then nothing else asks for a new one.) */
static bool revive(struct haul_ofi_rail *rail)
{
    if (!cut_reads(rail))
        return false;
    settle_posted(rail);
    return haul_ofi_rail_reads(rail);
}

static bool needs_looks(const struct haul_ofi *ofi)
{
    return ofi->rail_count > 1 || !haul_ofi_rail_reads(&ofi->rails[0]);
}

bool haul_ofi_look_at_rails(struct haul_ofi *ofi)
{
    bool did = false;
    uint64_t now_ns = needs_looks(ofi) ? haul_ofi_host->now_ns() : 0;
    if (now_ns < ofi->look_ns || !needs_looks(ofi))
        return false;
    bool paused = now_ns > ofi->look_ns + PAUSED_NS;
    ofi->look_ns = now_ns + LOOK_NS;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        struct haul_ofi_rail *rail = &ofi->rails[i];
        if (paused)
            begin_anew(rail, now_ns);
        if (haul_ofi_rail_reads(rail))
            did |= end_stalled_of(rail, now_ns);
        else
            did |= revive(rail);
    }
    return did;
}

static bool awaits_look(const struct haul_ofi *ofi)
{
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        const struct haul_ofi_rail *rail = &ofi->rails[i];
        if (!haul_ofi_rail_reads(rail) || (ofi->rail_count > 1 && !TAILQ_EMPTY(&rail->posted)))
            return true;
    }
    return false;
}

uint64_t haul_ofi_silence_ns(const struct haul_ofi *ofi)
{
    return awaits_look(ofi) && ofi->look_ns < ofi->fence_ns ? ofi->look_ns : ofi->fence_ns;
}
