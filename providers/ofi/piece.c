/* SPDX-License-Identifier: Apache-2.0
 * Which rail reads a piece, and when it is tried again.
 *
 * A piece goes to the rail that has the fewest bytes in flight, if it has room: of a peer that is
 * read over several rails each gets a few pieces at a time, so a slow rail gets less. A read of one
 * piece goes to a rail near its memory, if one has room.
 *
 * Failures. A piece that failed is tried again, a few times: libfabric has one connection to all
 * that is in the peer's process, and ends it, with all reads, when one of them meets memory that is
 * no longer offered. Each of them is then tried alone, so that the one that is at fault fails for
 * itself only. One that fails alone is tried over the other rails; if one of those brings it, the
 * rail was at fault, and is shunned for a while. If none does, the memory was. When the peer itself
 * is gone the channel says so, and its reads are fenced. */
#include "ofi.h"

enum {
    FAILURES_MAX = 5,
    /* What a rail gets of one peer at a time, where others could read it. */
    PIECES_PER_PATH = 16,
    BYTES_PER_PATH = 4 << 20,
};
#define NS_PER_MS ((uint64_t)1000000)
#define RETRY_NS NS_PER_MS
#define FIRST_FAILURE_NS (10 * NS_PER_MS) /* doubles */
#define FIRST_SHUN_NS (5000 * NS_PER_MS)  /* doubles: each trial may cost a message some seconds */
#define LONGEST_SHUN_NS (32 * FIRST_SHUN_NS)
/* A rail that takes nothing, and is asked at least that often, ... */
#define REFUSAL_PAUSE_NS (500 * NS_PER_MS)
/* ... for so long, while others bring bytes (a first connection may wait 2 s for ARP). */
#define REFUSAL_NS (3000 * NS_PER_MS)
/* (When a peer is stopped its rails fall silent one soon after another.) */
#define MUCH_LATER_NS (1000 * NS_PER_MS)
#define WARNING_PAUSE_NS (60000 * NS_PER_MS)

static unsigned bit_of(const struct haul_ofi_rail *rail)
{
    return 1u << rail->index;
}

/* ---- Turns ---------------------------------------------------------------------------------- */

void haul_ofi_leave_turn(struct haul_ofi_piece *piece)
{
    if (piece->turn)
        piece->turn->suspect = NULL;
    piece->turn = NULL;
}

/* (One that was shunned is tried with one piece.) */
static bool takes_more(const struct haul_ofi_address *address, size_t bytes)
{
    if (address->posted == 0)
        return true;
    return !address->shun_ns && address->posted < PIECES_PER_PATH &&
           address->posted_bytes + bytes <= BYTES_PER_PATH;
}

/* Whether it may be posted there now. The first that is due of those that have failed keeps others
 * from starting, until it has been alone. */
static bool take_turn(struct haul_ofi_piece *piece, struct haul_ofi_address *address)
{
    if (piece->turn != address)
        haul_ofi_leave_turn(piece);
    if (piece->failures > 0 && !address->suspect) {
        address->suspect = piece;
        piece->turn = address;
    }
    if (address->suspect)
        return address->suspect == piece && address->posted == 0;
    return !haul_ofi_has_choice(piece->read->peer) || takes_more(address, piece->bytes);
}

/* ---- Rails that fail ------------------------------------------------------------------------ */

bool haul_ofi_is_shunned(const struct haul_ofi_address *address, uint64_t now_ns)
{
    return address->shun_ns > 0 && now_ns < address->shunned_ns;
}

void haul_ofi_shun(struct haul_ofi_address *address)
{
    uint64_t now_ns = haul_ofi_host->now_ns();
    if (haul_ofi_is_shunned(address, now_ns))
        return;
    address->shun_ns = address->shun_ns ? address->shun_ns * 2 : FIRST_SHUN_NS;
    if (address->shun_ns > LONGEST_SHUN_NS)
        address->shun_ns = LONGEST_SHUN_NS;
    address->shunned_ns = now_ns + address->shun_ns;
}

/* Whether anything has come over it since then. */
static bool brings(const struct haul_ofi_rail *rail, uint64_t since_ns)
{
    const struct haul_ofi_address *address;
    LIST_FOREACH(address, &rail->known, node)
    if (address->brought_ns > since_ns)
        return true;
    return false;
}

/* It brings nothing from anybody: not each peer has to find that out. */
static void set_failing(struct haul_ofi_rail *rail)
{
    struct haul_ofi_address *address;
    uint64_t now_ns = haul_ofi_host->now_ns();
    LIST_FOREACH(address, &rail->known, node)
    if (!address->shun_ns)
        haul_ofi_shun(address);
    if (rail->failing)
        return;
    rail->failing = true;
    bool again = rail->warned_ns && now_ns < rail->warned_ns + WARNING_PAUSE_NS;
    if (!again)
        rail->warned_ns = now_ns;
    haul_ofi_host->log(again ? HAUL_LOG_INFO : HAUL_LOG_WARNING,
                       "ofi:%s: NIC %s fails or is silent: its part is read over the other NICs, "
                       "and it is tried again from time to time; look at its cable, its switch and "
                       "its addresses, here and at the peer",
                       rail->ofi->kind, rail->name);
}

/* It is the rail, or the peer's, and not the peer: other rails bring what this one has not since
 * then. */
static void blame(struct haul_ofi_rail *rail, struct haul_ofi_address *address, uint64_t since_ns)
{
    haul_ofi_shun(address);
    if (!brings(rail, since_ns))
        set_failing(rail);
    else if (!address->blamed)
        haul_ofi_host->log(HAUL_LOG_INFO,
                           "ofi:%s: NIC %s brings nothing from one peer, which other NICs reach: "
                           "look at the peer's NICs",
                           rail->ofi->kind, rail->name);
    address->blamed = true;
}

/* A shunned one has brought something: it is trusted, and the others are tried. */
static void stop_shunning(struct haul_ofi_rail *rail, struct haul_ofi_address *address)
{
    struct haul_ofi_address *other;
    address->shun_ns = 0;
    address->blamed = false;
    LIST_FOREACH(other, &rail->known, node)
    other->shunned_ns = 0;
    if (!rail->failing)
        return;
    rail->failing = false;
    haul_ofi_host->log(HAUL_LOG_INFO, "ofi:%s: NIC %s works again", rail->ofi->kind, rail->name);
}

bool haul_ofi_others_bring(const struct haul_ofi_peer *peer, const struct haul_ofi_address *address,
                           uint64_t since_ns)
{
    for (unsigned i = 0; i < peer->ofi->rail_count; i++) {
        const struct haul_ofi_address *other = peer->paths[i].address;
        if (other && other != address && other->brought_ns > since_ns + MUCH_LATER_NS)
            return true;
    }
    return false;
}

/* The rail takes nothing, although it has nothing of this peer's. */
static void note_refusal(const struct haul_ofi_piece *piece, struct haul_ofi_rail *rail,
                         struct haul_ofi_address *address)
{
    uint64_t now_ns = haul_ofi_host->now_ns();
    if (now_ns - address->refused_ns > REFUSAL_PAUSE_NS)
        address->refused_since_ns = now_ns;
    address->refused_ns = now_ns;
    if (now_ns - address->refused_since_ns >= REFUSAL_NS &&
        haul_ofi_others_bring(piece->read->peer, address, address->refused_since_ns))
        blame(rail, address, address->refused_since_ns);
}

void haul_ofi_note_failed(struct haul_ofi_piece *piece, uint64_t since_ns)
{
    piece->failed_on |= bit_of(piece->rail);
    piece->failed_since_ns = since_ns;
}

/* It came over its rail: what is known of this one, and of those over which it failed before. */
static void note_brought(struct haul_ofi_piece *piece)
{
    struct haul_ofi *ofi = piece->read->peer->ofi;
    struct haul_ofi_address *address = haul_ofi_address_of(piece);
    address->moved_ns = address->brought_ns = haul_ofi_host->now_ns();
    address->refused_ns = 0;
    if (address->shun_ns || piece->rail->failing)
        stop_shunning(piece->rail, address);
    piece->failed_on &= ~bit_of(piece->rail);
    for (unsigned i = 0; i < ofi->rail_count && piece->failed_on; i++)
        if (piece->failed_on & 1u << i)
            blame(&ofi->rails[i], piece->read->peer->paths[i].address, piece->failed_since_ns);
    piece->failed_on = 0;
}

/* ---- Choosing a rail ------------------------------------------------------------------------ */

/* Those that can read it: but for those that are shunned, or over which it has failed, unless there
 * are no others. */
static unsigned rails_for(const struct haul_ofi_piece *piece)
{
    const struct haul_ofi_peer *peer = piece->read->peer;
    unsigned all = 0, shunned = 0, failed = piece->failed_on;
    for (unsigned i = 0; i < peer->ofi->rail_count; i++) {
        if (!haul_ofi_can_read(peer, i))
            continue;
        const struct haul_ofi_address *address = peer->paths[i].address;
        all |= 1u << i;
        if (address->shun_ns && haul_ofi_is_shunned(address, haul_ofi_host->now_ns()))
            shunned |= 1u << i;
    }
    if (all & ~failed & ~shunned)
        return all & ~failed & ~shunned;
    return all & ~failed ? all & ~failed : all;
}

/* After a failure the same one once more: it may have been the fault of another read. */
static unsigned preferred_rails(const struct haul_ofi_piece *piece)
{
    const struct haul_ofi_read *read = piece->read;
    if (piece->failures > 0)
        return bit_of(piece->rail);
    return piece->bytes == read->bytes ? read->region->near : ~0u;
}

static struct haul_ofi_rail *best_rail(const struct haul_ofi_piece *piece, unsigned rails)
{
    struct haul_ofi *ofi = piece->read->peer->ofi;
    unsigned preferred = preferred_rails(piece);
    struct haul_ofi_rail *best = NULL;
    if (rails & preferred)
        rails &= preferred;
    for (unsigned i = 0; i < ofi->rail_count; i++)
        if (rails & 1u << i && (!best || ofi->rails[i].bytes_in_flight < best->bytes_in_flight))
            best = &ofi->rails[i];
    return best;
}

/* ---- Starting ------------------------------------------------------------------------------- */

enum outcome { POSTED, BLOCKED /* until another one ends */, REFUSED /* for the moment */, FAILED };

static void note_posted(struct haul_ofi_piece *piece, struct haul_ofi_address *address)
{
    struct haul_ofi_rail *rail = piece->rail;
    piece->posted_ns = haul_ofi_host->now_ns();
    if (address->posted++ == 0)
        address->moved_ns = piece->posted_ns;
    address->posted_bytes += piece->asked;
    TAILQ_INSERT_TAIL(&rail->posted, piece, node);
    rail->bytes_in_flight += piece->asked;
    if (atomic_fetch_add(&rail->posted_count, 1) == 0 && rail->worker &&
        haul_ofi_rail_is_polled(rail))
        haul_ofi_worker_wake(rail->worker);
}

static enum outcome post(struct haul_ofi_piece *piece, struct haul_ofi_rail *rail)
{
    const struct haul_ofi_path *path = &piece->read->peer->paths[rail->index];
    const struct haul_ofi_way *from = &piece->read->from;
    if (!take_turn(piece, path->address))
        return BLOCKED;
    piece->rail = rail;
    int err = haul_ofi_rail_read(rail, piece, path->address->number, from->address + piece->start,
                                 from->keys[path->theirs]);
    if (err == -FI_EAGAIN) {
        if (haul_ofi_has_choice(piece->read->peer) && path->address->posted == 0)
            note_refusal(piece, rail, path->address);
        return REFUSED;
    }
    if (err) {
        haul_ofi_host->log(HAUL_LOG_INFO, "ofi:%s: a read could not be started: %s",
                           rail->ofi->kind, haul_ofi_error(err));
        haul_ofi_note_failed(piece, haul_ofi_host->now_ns());
        return FAILED;
    }
    note_posted(piece, path->address);
    return POSTED;
}

/* Tries these rails, best first. One that has failed waits for its turn on the best. */
static enum outcome post_on(struct haul_ofi_piece *piece, unsigned rails)
{
    enum outcome all = FAILED;
    while (rails) {
        struct haul_ofi_rail *rail = best_rail(piece, rails);
        enum outcome outcome = post(piece, rail);
        if (outcome == POSTED || (outcome == BLOCKED && piece->failures > 0))
            return outcome;
        if (outcome == REFUSED || all == FAILED)
            all = outcome;
        rails &= ~bit_of(rail);
    }
    return all;
}

/* False: not now; it is in no list still. */
static bool start(struct haul_ofi_piece *piece)
{
    enum outcome outcome = FAILED;
    unsigned rails = 0;
    int err = piece->read->err; /* another piece of its read may have failed */
    while (!err && outcome == FAILED) {
        bool tried = rails != 0;
        rails = rails_for(piece);
        if (!rails)
            err = HAUL_SYSTEM;
        else if (tried && !(rails & ~piece->failed_on))
            err = HAUL_PEER_LOST;
        else
            outcome = post_on(piece, rails);
    }
    if (err)
        haul_ofi_piece_over(piece, err);
    piece->blocked = outcome == BLOCKED;
    return err || outcome == POSTED;
}

void haul_ofi_piece_start(struct haul_ofi_piece *piece)
{
    if (!start(piece))
        TAILQ_INSERT_TAIL(&piece->read->peer->ofi->waiting, piece, node);
}

bool haul_ofi_pieces_start(struct haul_ofi *ofi)
{
    struct haul_ofi_piece *piece;
    bool did = false;
    uint64_t now_ns = TAILQ_EMPTY(&ofi->waiting) ? 0 : haul_ofi_host->now_ns();
    while ((piece = TAILQ_FIRST(&ofi->waiting)) != NULL) {
        TAILQ_REMOVE(&ofi->waiting, piece, node);
        if (piece->not_before_ns <= now_ns && start(piece))
            did = true;
        else
            TAILQ_INSERT_TAIL(&ofi->refused, piece, node);
    }
    TAILQ_CONCAT(&ofi->waiting, &ofi->refused, node);
    return did;
}

uint64_t haul_ofi_pieces_try_ns(const struct haul_ofi *ofi, uint64_t now_ns)
{
    const struct haul_ofi_piece *piece;
    uint64_t soonest_ns = now_ns + RETRY_NS, next_ns = UINT64_MAX;
    TAILQ_FOREACH(piece, &ofi->waiting, node)
    {
        if (piece->blocked)
            continue; /* when another ends, which is a pass of its own */
        uint64_t try_ns = piece->not_before_ns > soonest_ns ? piece->not_before_ns : soonest_ns;
        next_ns = try_ns < next_ns ? try_ns : next_ns;
    }
    return next_ns;
}

/* ---- Ends ----------------------------------------------------------------------------------- */

void haul_ofi_take_from_posted(struct haul_ofi_piece *piece)
{
    struct haul_ofi_rail *rail = piece->rail;
    struct haul_ofi_address *address = haul_ofi_address_of(piece);
    TAILQ_REMOVE(&rail->posted, piece, node);
    rail->bytes_in_flight -= piece->asked;
    atomic_fetch_sub(&rail->posted_count, 1);
    address->posted--;
    address->posted_bytes -= piece->asked;
}

static void completed(struct haul_ofi_piece *piece)
{
    piece->rail->bytes_read += piece->asked;
    piece->start += piece->asked;
    piece->bytes -= piece->asked;
    note_brought(piece);
    if (piece->bytes == 0)
        haul_ofi_piece_over(piece, 0);
    else if (piece->read->fenced)
        haul_ofi_piece_over(piece, HAUL_CANCELLED);
    else
        TAILQ_INSERT_HEAD(&piece->read->peer->ofi->waiting, piece, node);
}

static void failed(struct haul_ofi_piece *piece)
{
    struct haul_ofi_read *read = piece->read;
    if (piece->turn)
        haul_ofi_note_failed(piece, piece->posted_ns);
    haul_ofi_leave_turn(piece);
    if (read->fenced || read->err || ++piece->failures > FAILURES_MAX) {
        haul_ofi_piece_over(piece, read->fenced ? HAUL_CANCELLED : HAUL_PEER_LOST);
        return;
    }
    piece->not_before_ns = haul_ofi_host->now_ns() + (FIRST_FAILURE_NS << (piece->failures - 1));
    piece->blocked = false;
    TAILQ_INSERT_TAIL(&read->peer->ofi->waiting, piece, node);
}

/* A worker may be adding to the list. */
static void take_finished(struct haul_ofi *ofi, struct haul_ofi_finished *finished)
{
    if (ofi->worker_count > 0)
        pthread_mutex_lock(&ofi->finished_lock);
    STAILQ_CONCAT(finished, &ofi->finished);
    if (ofi->worker_count > 0)
        pthread_mutex_unlock(&ofi->finished_lock);
}

bool haul_ofi_pieces_finish(struct haul_ofi *ofi)
{
    struct haul_ofi_finished finished = STAILQ_HEAD_INITIALIZER(finished);
    struct haul_ofi_piece *piece;
    take_finished(ofi, &finished);
    bool did = !STAILQ_EMPTY(&finished);
    while ((piece = STAILQ_FIRST(&finished)) != NULL) {
        STAILQ_REMOVE_HEAD(&finished, finished);
        haul_ofi_take_from_posted(piece);
        if (piece->error)
            failed(piece);
        else
            completed(piece);
    }
    return did;
}
