/* SPDX-License-Identifier: Apache-2.0
 * Which rail reads a piece: one near its memory if the read has no other piece, of those the one
 * with the fewest bytes in flight. The rails are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <host_basics.h>
#include <providers/ofi/ofi.h>

enum { RAILS = 3, PIECE = 1 << 20, NONE = RAILS, ROOM = 4 /* MiB of a peer for each rail */ };

struct row {
    unsigned near;          /* the memory: rails, a bit each */
    unsigned pieces;        /* of the read; 0: one */
    unsigned apart;         /* rails that do not lead to the peer */
    unsigned busy;          /* ... that libfabric takes nothing for now */
    unsigned full;          /* ... that have as many bytes of this peer as they may have */
    unsigned shunned;       /* ... that brought nothing before, and are to be tried again */
    uint64_t flight[RAILS]; /* bytes */
    unsigned reads;         /* the rail that is chosen */
};

static const struct row rows[] = {
    {.near = 1, .reads = 0},
    {.near = 4, .reads = 2},
    /* It is the near one however much it has to do, and of several the one that has least. */
    {.near = 4, .flight = {0, 0, 9}, .reads = 2},
    {.near = 6, .flight = {0, 9, 8}, .reads = 2},
    {.near = 6, .flight = {0, 8, 9}, .reads = 1},
    {.near = 7, .flight = {9, 8, 9}, .reads = 1},
    /* Where the near ones have no room, or do not lead there, another does. */
    {.near = 4, .busy = 4, .flight = {9, 8, 0}, .reads = 1},
    {.near = 4, .full = 4, .flight = {9, 8, 0}, .reads = 1},
    {.near = 4, .apart = 4, .flight = {8, 9, 0}, .reads = 0},
    {.near = 6, .full = 2, .flight = {0, 0, 9}, .reads = 2},
    {.near = 4, .full = 7, .reads = NONE},
    {.near = 4, .busy = 3, .full = 4, .reads = NONE},
    /* One that is tried again gets one piece. */
    {.near = 4, .shunned = 4, .reads = 2},
    /* A read of several goes over all of them. */
    {.near = 4, .pieces = 2, .reads = 0},
    {.near = 4, .pieces = 2, .flight = {9, 8, 9}, .reads = 1},
};

static const struct row *row;
static uint8_t memory[PIECE]; /* nothing is written to it */

/* libfabric's read of the rail whose number is in the endpoint. */
static ssize_t start_read(struct fid_ep *endpoint, void *to, size_t bytes, void *descriptor,
                          fi_addr_t address, uint64_t from, uint64_t key, void *context)
{
    const unsigned *number = endpoint->fid.context;
    (void)to, (void)bytes, (void)descriptor, (void)address, (void)from, (void)key, (void)context;
    return row->busy & 1u << *number ? -FI_EAGAIN : 0;
}

struct stage {
    struct haul_ofi ofi;
    struct haul_ofi_peer peer;
    struct haul_ofi_region region;
    struct fid_ep endpoints[RAILS];
    struct fi_ep_attr attributes;
    struct fi_info info;
    struct haul_ofi_read *read;
};

static void set_up_rail(struct stage *stage, unsigned i)
{
    static struct fi_ops_rma calls = {.size = sizeof calls, .read = start_read};
    struct haul_ofi_rail *rail = &stage->ofi.rails[i];
    *rail = (struct haul_ofi_rail){
        .ofi = &stage->ofi, .index = i, .info = &stage->info, .bytes_in_flight = row->flight[i]};
    rail->reader.endpoint = &stage->endpoints[i];
    stage->endpoints[i] = (struct fid_ep){.fid.context = &rail->index, .rma = &calls};
    TAILQ_INIT(&rail->posted);
    if (row->apart & 1u << i)
        return;
    struct haul_ofi_address *address = test_calloc(1, sizeof *address);
    address->posted = row->full & 1u << i ? 1 : 0;
    address->posted_bytes = address->posted ? ROOM << 20 : 0;
    address->shun_ns = row->shunned & 1u << i ? 1 : 0;
    stage->peer.paths[i].address = address;
    stage->peer.path_count++;
}

static struct stage *set_up(void)
{
    struct stage *stage = test_calloc(1, sizeof *stage);
    stage->attributes.max_msg_size = PIECE;
    stage->info.ep_attr = &stage->attributes;
    stage->ofi.rail_count = RAILS;
    TAILQ_INIT(&stage->ofi.waiting);
    stage->peer.ofi = stage->region.ofi = &stage->ofi;
    stage->region.near = row->near;
    for (unsigned i = 0; i < RAILS; i++)
        set_up_rail(stage, i);
    size_t bytes = (size_t)PIECE * (row->pieces ? row->pieces : 1);
    stage->read = test_calloc(1, sizeof *stage->read + sizeof stage->read->pieces[0]);
    *stage->read = (struct haul_ofi_read){
        .peer = &stage->peer, .region = &stage->region, .to = memory, .bytes = bytes};
    stage->read->pieces[0] = (struct haul_ofi_piece){.read = stage->read, .bytes = PIECE};
    return stage;
}

static void tear_down(struct stage *stage)
{
    for (unsigned i = 0; i < RAILS; i++)
        if (stage->peer.paths[i].address)
            test_free(stage->peer.paths[i].address);
    test_free(stage->read);
    test_free(stage);
}

static unsigned rail_that_reads(const struct stage *stage)
{
    unsigned reads = NONE;
    for (unsigned i = 0; i < RAILS; i++)
        if (!TAILQ_EMPTY(&stage->ofi.rails[i].posted))
            reads = i;
    assert_int_equal(reads == NONE, !TAILQ_EMPTY(&stage->ofi.waiting));
    return reads;
}

static void test_choice(void **state)
{
    static const struct haul_host host = {.log = host_log, .now_ns = host_still_ns};
    (void)state;
    haul_ofi_host = &host;
    for (row = rows; row < rows + sizeof rows / sizeof *rows; row++) {
        struct stage *stage = set_up();
        haul_ofi_piece_start(stage->read->pieces);
        unsigned reads = rail_that_reads(stage);
        if (reads != row->reads)
            fail_msg("row %td: rail %u, not %u", row - rows, reads, row->reads);
        tear_down(stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
