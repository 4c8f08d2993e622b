/* SPDX-License-Identifier: Apache-2.0
 * Core's reads: cut into pieces, and told of when all of those have ended.
 *
 * With one rail a read is one piece, with several it is pieces of 1 MiB. A piece is in one of these
 * places (piece.c):
 *
 *   waiting   no rail had room for it, or its next part is due (refused: while those that wait are
 *             tried, it could not start)
 *   posted    with libfabric, which may write to its memory
 *   finished  libfabric has let go of it; a worker may have found that out
 *
 * A read whose pieces have ended waits for read_done(), which is called at the end of progress(),
 * and in no other place, so that core's answers (new reads, a fence, the last of a peer) meet
 * settled lists. */
#include "ofi.h"

#include <stdlib.h>

enum {
    READS_PER_PEER = 16,
    PIECES_PER_READ = 8,        /* where there are several rails */
    PIECE_BYTES = 1 << 20,      /* ... at least */
    BYTES_IN_FLIGHT = 64 << 20, /* of all peers, but for one read of each */
};
#define NS_PER_US ((uint64_t)1000)
#define NS_PER_MS ((uint64_t)1000000)
/* Pauses between two looks at queues without descriptor: they double while nothing happens. */
#define POLL_FIRST_NS (50 * NS_PER_US)
#define POLL_READING_NS NS_PER_MS     /* the longest while reads are posted */
#define POLL_IDLE_NS (10 * NS_PER_MS) /* ... and while peers may read from us */
#define GREETING_NS (10000 * NS_PER_MS)

static uint64_t sooner(uint64_t one_ns, uint64_t other_ns)
{
    return one_ns < other_ns ? one_ns : other_ns;
}

/* ---- Starting ------------------------------------------------------------------------------- */

static struct haul_ofi_read *take_read(struct haul_ofi *ofi)
{
    size_t pieces = ofi->rail_count > 1 ? PIECES_PER_READ : 1;
    struct haul_ofi_read *read = TAILQ_FIRST(&ofi->unused);
    if (read)
        TAILQ_REMOVE(&ofi->unused, read, node);
    else
        read = malloc(sizeof *read + pieces * sizeof read->pieces[0]);
    return read;
}

static size_t piece_bytes(const struct haul_ofi_read *read)
{
    size_t least = (read->bytes + PIECES_PER_READ - 1) / PIECES_PER_READ;
    if (!haul_ofi_has_choice(read->peer))
        return read->bytes;
    return least > PIECE_BYTES ? least : PIECE_BYTES;
}

/* (`left` counts the next one before one is started: it may end at once.) */
static void start_pieces(struct haul_ofi_read *read)
{
    size_t most = piece_bytes(read), start = 0;
    struct haul_ofi_piece *piece = read->pieces;
    read->left = 1;
    do {
        size_t bytes = read->bytes - start < most ? read->bytes - start : most;
        *piece = (struct haul_ofi_piece){.read = read, .start = start, .bytes = bytes};
        start += bytes;
        read->left += start < read->bytes;
        haul_ofi_piece_start(piece++);
    } while (start < read->bytes);
}

/* A peer has one read at least, and gets more as long as that leaves as much to the others: so
 * neither those that are silent nor those that are many keep it from being read. */
static bool has_room(const struct haul_ofi_peer *peer, size_t bytes)
{
    uint64_t of_all = peer->ofi->bytes_in_flight + bytes, of_peer = peer->bytes + bytes;
    return peer->reads == 0 || of_all + of_peer <= BYTES_IN_FLIGHT;
}

int haul_ofi_read(void *handle, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                  void *region, size_t bytes, void *cookie)
{
    struct haul_ofi_peer *peer = handle;
    struct haul_ofi *ofi = peer->ofi;
    struct haul_ofi_way from;
    if (peer->reads >= READS_PER_PEER || !has_room(peer, bytes))
        return HAUL_BUSY;
    int err = haul_ofi_way_parse(way, way_bytes, peer->rails, &from);
    if (err)
        return err;
    if (offset > from.bytes || bytes > from.bytes - offset)
        return haul_ofi_host->fail(HAUL_PROTOCOL, "the peer offers fewer bytes than are read");
    struct haul_ofi_read *read = take_read(ofi);
    if (!read)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for a read");
    *read = (struct haul_ofi_read){
        .peer = peer, .cookie = cookie, .region = region, .to = to, .from = from, .bytes = bytes};
    read->from.address += offset;
    bool idle = ofi->bytes_in_flight == 0;
    peer->reads++;
    peer->bytes += bytes;
    ofi->bytes_in_flight += bytes;
    ofi->poll_ns = 0;
    start_pieces(read);
    if (idle || !TAILQ_EMPTY(&ofi->waiting) || !TAILQ_EMPTY(&ofi->ended))
        haul_ofi_host->wake(ofi->engine); /* its sleep may be longer than what is due now */
    return 0;
}

/* ---- Ends ----------------------------------------------------------------------------------- */

static void drop(struct haul_ofi_read *read, struct haul_ofi_pieces *list)
{
    struct haul_ofi_piece *piece, *next;
    for (piece = TAILQ_FIRST(list); piece; piece = next) {
        next = TAILQ_NEXT(piece, node);
        if (piece->read != read)
            continue;
        TAILQ_REMOVE(list, piece, node);
        haul_ofi_leave_turn(piece);
        read->left--;
    }
}

void haul_ofi_piece_over(struct haul_ofi_piece *piece, int err)
{
    struct haul_ofi_read *read = piece->read;
    haul_ofi_leave_turn(piece);
    read->left--;
    if (err && !read->err) {
        read->err = err; /* nothing more of it is wanted */
        drop(read, &read->peer->ofi->waiting);
        drop(read, &read->peer->ofi->refused);
    }
    if (read->left == 0)
        TAILQ_INSERT_TAIL(&read->peer->ofi->ended, read, node);
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
        read->peer->bytes -= read->bytes;
        ofi->bytes_in_flight -= read->bytes;
        TAILQ_INSERT_TAIL(&ofi->unused, read, node);
        haul_ofi_host->read_done(cookie, err);
        did = true;
    }
    return did;
}

void haul_ofi_reads_free(struct haul_ofi *ofi)
{
    struct haul_ofi_read *read;
    while ((read = TAILQ_FIRST(&ofi->unused)) != NULL) {
        TAILQ_REMOVE(&ofi->unused, read, node);
        free(read);
    }
}

/* ---- Progress ------------------------------------------------------------------------------- */

/* Of the rails that have no worker. */
static bool drain(struct haul_ofi *ofi)
{
    bool did = false;
    for (unsigned i = 0; i < ofi->rail_count; i++)
        if (!ofi->rails[i].worker)
            did |= haul_ofi_rail_drain(&ofi->rails[i]);
    return did;
}

static bool may_sleep(struct haul_ofi *ofi)
{
    bool may = true;
    for (unsigned i = 0; i < ofi->rail_count && may; i++)
        may = ofi->rails[i].worker || haul_ofi_rail_may_sleep(&ofi->rails[i]);
    return may;
}

bool haul_ofi_progress(void *rma)
{
    struct haul_ofi *ofi = rma;
    bool did = drain(ofi);
    did |= haul_ofi_pieces_finish(ofi);
    did |= haul_ofi_end_fenced(ofi);
    did |= haul_ofi_look_at_rails(ofi);
    did |= haul_ofi_pieces_start(ofi);
    did |= report(ofi);
    if (!did && !may_sleep(ofi)) {
        did = drain(ofi);
        did |= haul_ofi_pieces_finish(ofi);
    }
    if (did)
        ofi->poll_ns = 0;
    return did;
}

void haul_ofi_expect(struct haul_ofi *ofi)
{
    ofi->greeting_ns = haul_ofi_host->now_ns() + GREETING_NS;
    ofi->poll_ns = 0;
    haul_ofi_host->wake(ofi->engine);
}

uint64_t haul_ofi_next_poll_ns(uint64_t *last_ns, bool busy)
{
    uint64_t next_ns = *last_ns ? *last_ns * 2 : POLL_FIRST_NS;
    *last_ns = sooner(next_ns, busy ? POLL_READING_NS : POLL_IDLE_NS);
    return *last_ns;
}

/* Only rails without worker count. */
static uint64_t next_pause_ns(struct haul_ofi *ofi, uint64_t now_ns)
{
    bool busy = now_ns < ofi->greeting_ns, polled = false;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        const struct haul_ofi_rail *rail = &ofi->rails[i];
        busy |= !TAILQ_EMPTY(&rail->posted);
        polled |= !rail->worker && haul_ofi_rail_is_polled(rail);
    }
    if (!polled && now_ns >= ofi->greeting_ns)
        return HAUL_OFI_LOOK_ANYWAY_NS;
    return haul_ofi_next_poll_ns(&ofi->poll_ns, polled && busy);
}

uint64_t haul_ofi_deadline_ns(void *rma)
{
    struct haul_ofi *ofi = rma;
    if (!TAILQ_EMPTY(&ofi->ended))
        return 0;
    uint64_t now_ns = haul_ofi_host->now_ns(), silence_ns = haul_ofi_silence_ns(ofi);
    if (ofi->peers == 0 && now_ns >= ofi->greeting_ns)
        return silence_ns;
    return sooner(sooner(now_ns + next_pause_ns(ofi, now_ns), haul_ofi_pieces_try_ns(ofi, now_ns)),
                  silence_ns);
}
