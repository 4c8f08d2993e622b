/* SPDX-License-Identifier: Apache-2.0
 * The provider `shm` and who connects to it: a real instance that offers slabs, and Unix sockets of
 * this test that come with a ticket and without. */
#include "shm_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    BYTES = 2 << 20,
    GUESTS_MAX = 64, /* of the provider */
    SECOND = 1000000000,
};

static const struct haul_rma_ops *ops;

/* An instance, a slab to offer, and what it says in the handshake to the peer of `link`. */
struct stage {
    struct haul_engine engine;
    struct haul_link link;
    void *rma, *memory;
    int file;
    uint8_t blob[HAUL_RMA_ADDRESS_MAX];
};

static void greet(struct stage *stage, struct haul_link *link, uint8_t blob[HAUL_RMA_ADDRESS_MAX])
{
    size_t bytes = HAUL_RMA_ADDRESS_MAX;
    assert_int_equal(ops->address(stage->rma, link, blob, &bytes), 0);
}

static void set_up(struct stage *stage)
{
    *stage = (struct stage){.engine = {.shm = "on", .threads = "1"}};
    ops = shm_load();
    host_logged[0] = '\0';
    assert_int_equal(ops->open(&stage->engine, "", &stage->rma), 0);
    greet(stage, &stage->link, stage->blob);
    stage->file = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(stage->file, BYTES), 0);
    stage->memory = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, stage->file, 0);
}

static void tear_down(struct stage *stage)
{
    ops->lost(stage->rma, &stage->link);
    ops->close(stage->rma);
    munmap(stage->memory, BYTES);
    close(stage->file);
}

static void *offer_slab(struct stage *stage)
{
    void *region;
    assert_int_equal(
        ops->reg(stage->rma, stage->memory, BYTES, HAUL_RMA_OFFER, stage->file, &region), 0);
    return region;
}

/* Connects, and says nothing. */
static int come(const uint8_t *blob)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int guest = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path + 1, "haul-", 5);
    memcpy(address.sun_path + 6, blob + BLOB_NAME, NAME_BYTES);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 6 + NAME_BYTES;
    assert_int_equal(connect(guest, (struct sockaddr *)&address, size), 0);
    return guest;
}

static void show_ticket(int guest, const uint8_t ticket[16])
{
    struct shm_record record = {.type = TICKET, .copies = 1};
    memcpy(record.ticket, ticket, sizeof record.ticket);
    assert_int_equal(send(guest, &record, sizeof record, 0), sizeof record);
}

static int come_with_ticket(struct stage *stage, const uint8_t *blob)
{
    int viewer = come(blob);
    show_ticket(viewer, blob + BLOB_TICKET);
    shm_settle(&stage->engine, stage->rma);
    return viewer;
}

/* The type of the next record, 0: the connection has ended, -1: nothing yet. */
static int hear(int viewer, uint64_t *slab)
{
    struct shm_record record;
    ssize_t got = recv(viewer, &record, sizeof record, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return -1;
    if (got <= 0)
        return 0;
    assert_int_equal(got, sizeof record);
    *slab = record.slab;
    return (int)record.type;
}

static void who_has_no_ticket_gets_no_file(void **state)
{
    /* With a wrong ticket, the right one, the right one again. */
    static const int heard[] = {0, WELCOME, 0};
    struct stage stage;
    uint64_t slab;
    (void)state;
    set_up(&stage);
    void *region = offer_slab(&stage);
    for (int i = 0; i < 3; i++) {
        uint8_t nothing[16] = {0};
        int viewer = come(stage.blob);
        show_ticket(viewer, i == 0 ? nothing : stage.blob + BLOB_TICKET);
        shm_settle(&stage.engine, stage.rma);
        assert_int_equal(hear(viewer, &slab), heard[i]);
        assert_int_equal(hear(viewer, &slab), heard[i] ? SLAB : 0);
        close(viewer);
        shm_settle(&stage.engine, stage.rma);
    }
    ops->dereg(region);
    tear_down(&stage);
}

static void silent_guests_leave(void **state)
{
    enum { MANY = GUESTS_MAX + 6 };
    struct stage stage;
    int guests[MANY];
    uint64_t slab;
    (void)state;
    set_up(&stage);
    for (int i = 0; i < MANY; i++)
        guests[i] = come(stage.blob);
    shm_settle(&stage.engine, stage.rma);
    for (int i = 0; i < MANY; i++) /* those that came first make room for others */
        assert_int_equal(hear(guests[i], &slab), i < MANY - GUESTS_MAX ? 0 : -1);
    assert_true(ops->deadline_ns(stage.rma) < UINT64_MAX);
    host_clock_ns += 6 * (uint64_t)SECOND;
    shm_settle(&stage.engine, stage.rma);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(hear(guests[i], &slab), 0);
        close(guests[i]);
    }
    assert_int_equal(ops->deadline_ns(stage.rma), UINT64_MAX);
    tear_down(&stage);
}

/* Neither a busy loop nor an end of listening. */
static void without_descriptors_guests_wait(void **state)
{
    struct stage stage;
    struct rlimit before, none;
    uint64_t slab;
    (void)state;
    set_up(&stage);
    void *region = offer_slab(&stage);
    int viewer = come(stage.blob), next = dup(0);
    show_ticket(viewer, stage.blob + BLOB_TICKET);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    shm_settle(&stage.engine, stage.rma); /* (it ends: the listener is not asked again) */
    assert_non_null(strstr(host_logged, "cannot be accepted"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(hear(viewer, &slab), -1);
    host_clock_ns += SECOND;
    shm_settle(&stage.engine, stage.rma);
    assert_int_equal(hear(viewer, &slab), WELCOME);
    assert_int_equal(hear(viewer, &slab), SLAB);
    close(viewer);
    ops->dereg(region);
    tear_down(&stage);
}

/* A viewer that takes nothing for a while hears of all that has come and gone, in order. */
static void slow_viewers_hear_everything(void **state)
{
    enum { SLABS = 3000 };
    static void *regions[SLABS];
    static bool known[2 * SLABS + 1]; /* by the viewer */
    struct stage stage;
    uint64_t slab = 0;
    int said;
    (void)state;
    set_up(&stage);
    int viewer = come_with_ticket(&stage, stage.blob);
    for (int i = 0; i < SLABS; i++)
        regions[i] = offer_slab(&stage);
    for (int i = 0; i < SLABS; i++)
        ops->dereg(regions[i]);
    assert_true(ops->deadline_ns(stage.rma) < UINT64_MAX); /* it was too much for the socket */
    for (;;) {
        while ((said = hear(viewer, &slab)) > 0)
            known[slab] = said == SLAB; /* (WELCOME is of none: 0) */
        if (ops->deadline_ns(stage.rma) == UINT64_MAX)
            break;
        host_clock_ns += SECOND;
        shm_settle(&stage.engine, stage.rma);
    }
    assert_int_equal(said, -1);
    for (size_t i = 0; i < sizeof known; i++)
        assert_false(known[i]);
    close(viewer);
    tear_down(&stage);
}

/* Whose connection was lost holds what it was offered, and nothing that others were. */
static void who_may_still_look_holds_its_own(void **state)
{
    struct stage stage;
    struct haul_link other_link;
    uint8_t other_blob[HAUL_RMA_ADDRESS_MAX];
    (void)state;
    set_up(&stage);
    greet(&stage, &other_link, other_blob);
    void *region = offer_slab(&stage);
    int viewer = come_with_ticket(&stage, stage.blob);
    int other = come_with_ticket(&stage, other_blob);
    assert_false(ops->viewed(region, stage.memory, 64, &stage.link, false));
    ops->lost(stage.rma, &stage.link);
    assert_true(ops->viewed(region, stage.memory, 64, &stage.link, false));
    assert_false(ops->viewed(region, stage.memory, 64, &other_link, false));
    assert_false(ops->viewed(region, stage.memory, 64, &stage.link, true));
    close(viewer);
    shm_settle(&stage.engine, stage.rma);
    assert_false(ops->viewed(region, stage.memory, 64, &stage.link, false));
    ops->dereg(region);
    ops->lost(stage.rma, &other_link);
    close(other);
    tear_down(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_no_ticket_gets_no_file),
        cmocka_unit_test(silent_guests_leave),
        cmocka_unit_test(without_descriptors_guests_wait),
        cmocka_unit_test(slow_viewers_hear_everything),
        cmocka_unit_test(who_may_still_look_holds_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
