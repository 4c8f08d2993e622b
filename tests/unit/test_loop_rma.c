/* SPDX-License-Identifier: Apache-2.0
 * The rma of the provider `loop` alone: reads, hostile ways, fault knobs, views, and memory that
 * its exporter takes away while another thread reads it. */
#include "loop_host.h"

/* ---- rma ------------------------------------------------------------------------------------ */

enum { SHARED = 1 << 20, WAY = 24 };

/* Engine a reads what engine b offers. */
struct window {
    struct haul_engine a, b;
    void *peer, *land, *offered;
    uint8_t *from, *to;
    uint8_t way[HAUL_RMA_WAY_MAX];
    size_t way_bytes;
};

static void window_open(struct window *window, const struct setting *settings)
{
    const struct haul_rma_ops *rma = provider->rma;
    *window = (struct window){.way_bytes = HAUL_RMA_WAY_MAX};
    engine_open(&window->a, settings);
    engine_open(&window->b, NULL);
    uint8_t blob[HAUL_RMA_ADDRESS_MAX];
    size_t blob_bytes = sizeof(blob);
    assert_int_equal(rma->address(window->b.rma, NULL, blob, &blob_bytes), 0);
    assert_int_equal(rma->attach(window->a.rma, blob, blob_bytes, NULL, &window->peer), 0);
    window->from = malloc(SHARED);
    window->to = calloc(1, SHARED);
    for (size_t i = 0; i < SHARED; i++)
        window->from[i] = pattern(3, i);
    assert_int_equal(
        rma->reg(window->b.rma, window->from, SHARED, HAUL_RMA_OFFER, -1, &window->offered), 0);
    assert_int_equal(rma->reg(window->a.rma, window->to, SHARED, HAUL_RMA_LAND, -1, &window->land),
                     0);
    assert_int_equal(rma->offer(window->offered, window->from + 100, SHARED - 100, window->way,
                                &window->way_bytes),
                     0);
}

static void window_close(struct window *window)
{
    provider->rma->detach(window->peer);
    provider->rma->dereg(window->land);
    if (window->offered)
        provider->rma->dereg(window->offered);
    free(window->from);
    free(window->to);
    engine_close(&window->a);
    engine_close(&window->b);
}

static int start_read(struct window *window, uint64_t offset, size_t bytes, int *result)
{
    *result = NOT_DONE;
    return provider->rma->read(window->peer, window->way, window->way_bytes, offset, window->to,
                               window->land, bytes, result);
}

/* A whole read: how it ended. */
static int read_now(struct window *window, uint64_t offset, size_t bytes)
{
    int result;
    memset(window->to, 0, SHARED);
    assert_int_equal(start_read(window, offset, bytes, &result), 0);
    assert_int_equal(result, NOT_DONE);
    settle(&window->a, &window->b);
    return result;
}

static void test_rma_read(void **state)
{
    (void)state;
    struct window window;
    window_open(&window, NULL);
    assert_int_equal(read_now(&window, 11, SHARED - 111), 0);
    assert_memory_equal(window.to, window.from + 111, SHARED - 111);
    assert_int_equal(read_now(&window, 0, SHARED - 100), 0);
    assert_int_equal(read_now(&window, SHARED - 100, 0), 0);
    int results[17];
    for (int i = 0; i < 16; i++)
        assert_int_equal(start_read(&window, 0, 10, &results[i]), 0);
    assert_int_equal(start_read(&window, 0, 10, &results[16]), HAUL_BUSY);
    settle(&window.a, &window.b);
    for (int i = 0; i < 16; i++)
        assert_int_equal(results[i], 0);
    window_close(&window);
}

static void put_word(uint8_t *way, int word, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        way[8 * word + i] = (uint8_t)(value >> 8 * i);
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;
}

static void test_rma_hostile_ways(void **state)
{
    (void)state;
    struct window window;
    window_open(&window, NULL);
    uint64_t base = (uintptr_t)window.from;
    const struct {
        int word; /* 0 address, 1 key, 2 length */
        uint64_t value, offset;
        size_t bytes;
    } hostile[] = {
        {0, base - 1, 0, 10},
        {0, base + SHARED + 1, 0, 0},
        {0, base + 101, 0, 10},
        {0, 0, 0, 10},
        {0, UINT64_MAX, 0, 10},
        {1, 0, 0, 10},
        {1, 12345, 0, 10},
        {2, SHARED, 0, 10},
        {2, UINT64_MAX, 0, 10},
        {2, 9, 0, 10},
        {2, 20, 11, 10},
        {2, 20, 21, 0},
        {2, 20, UINT64_MAX - 4, 10},
        {2, 20, 0, SIZE_MAX / 2},
    };
    uint8_t good[WAY];
    memcpy(good, window.way, WAY);
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        memcpy(window.way, good, WAY);
        put_word(window.way, hostile[i].word, hostile[i].value);
        int err = read_now(&window, hostile[i].offset, hostile[i].bytes);
        /* More bytes than our own memory has is our own fault. */
        assert_int_equal(err, hostile[i].bytes > SHARED ? HAUL_INVALID : HAUL_PROTOCOL);
        assert_true(all_zero(window.to, SHARED));
        const void *data;
        void *mapping;
        if (hostile[i].offset == 0)
            assert_int_equal(
                provider->rma->map(window.peer, window.way, WAY, hostile[i].bytes, &data, &mapping),
                HAUL_PROTOCOL);
    }
    memcpy(window.way, good, WAY);
    for (window.way_bytes = 0; window.way_bytes < HAUL_RMA_WAY_MAX; window.way_bytes++) {
        if (window.way_bytes != WAY)
            assert_int_equal(read_now(&window, 0, 1), HAUL_PROTOCOL);
    }
    window.way_bytes = WAY;
    assert_int_equal(read_now(&window, 0, 1), 0);
    provider->rma->dereg(window.offered);
    window.offered = NULL;
    assert_int_equal(read_now(&window, 0, 1), HAUL_PROTOCOL);
    window_close(&window);
}

/* What is registered for something else, or by somebody else, or elsewhere. */
static void test_rma_access(void **state)
{
    (void)state;
    const struct haul_rma_ops *rma = provider->rma;
    struct window window;
    window_open(&window, NULL);
    uint8_t way[HAUL_RMA_WAY_MAX];
    size_t way_bytes = sizeof(way);
    assert_int_equal(rma->offer(window.land, window.to, 1, way, &way_bytes), HAUL_INVALID);
    assert_int_equal(rma->offer(window.offered, window.from + 1, SHARED, way, &way_bytes),
                     HAUL_INVALID);
    way_bytes = WAY - 1;
    assert_int_equal(rma->offer(window.offered, window.from, 1, way, &way_bytes), HAUL_INVALID);
    int result = NOT_DONE;
    assert_int_equal(
        rma->read(window.peer, window.way, WAY, 0, window.from, window.offered, 1, &result), 0);
    settle(&window.a, &window.b);
    assert_int_equal(result, HAUL_INVALID); /* memory that is not for landing */
    /* The key is right, but of another peer than the one we read from. */
    uint8_t blob[HAUL_RMA_ADDRESS_MAX];
    size_t bytes = sizeof(blob);
    void *self;
    assert_int_equal(rma->address(window.a.rma, NULL, blob, &bytes), 0);
    assert_int_equal(rma->attach(window.a.rma, blob, bytes, NULL, &self), 0);
    result = NOT_DONE;
    assert_int_equal(rma->read(self, window.way, WAY, 0, window.to, window.land, 1, &result), 0);
    settle(&window.a, &window.b);
    assert_int_equal(result, HAUL_PROTOCOL);
    rma->detach(self);
    blob[0] ^= 1; /* another process */
    assert_int_equal(rma->attach(window.a.rma, blob, bytes, NULL, &self), HAUL_UNSUPPORTED);
    assert_int_equal(rma->attach(window.a.rma, blob, 0, NULL, &self), HAUL_UNSUPPORTED);
    bytes = 8;
    assert_int_equal(rma->address(window.a.rma, NULL, blob, &bytes), HAUL_INVALID);
    window_close(&window);
}

static void test_rma_off(void **state)
{
    (void)state;
    struct setting off[] = {{"loop_rma", "off"}, {0}};
    struct haul_engine with, without;
    engine_open(&with, NULL);
    engine_open(&without, off);
    uint8_t blob[HAUL_RMA_ADDRESS_MAX];
    size_t bytes = sizeof(blob);
    void *peer;
    assert_int_equal(provider->rma->address(without.rma, NULL, blob, &bytes), HAUL_UNSUPPORTED);
    assert_int_equal(provider->rma->address(with.rma, NULL, blob, &bytes), 0);
    assert_int_equal(provider->rma->attach(without.rma, blob, bytes, NULL, &peer),
                     HAUL_UNSUPPORTED);
    assert_string_equal(host_detail, "loop_rma is off");
    engine_close(&with);
    engine_close(&without);
}

static void test_rma_faults(void **state)
{
    (void)state;
    struct setting settings[] = {{"loop_rma_delay_us", "70"},
                                 {"loop_rma_fail_every", "3"},
                                 {"loop_rma_hang_every", "4"},
                                 {0}};
    struct window window;
    window_open(&window, settings);
    int results[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(start_read(&window, 0, 10, &results[i]), 0);
    uint64_t due_ns = host_clock_ns + 70000;
    assert_int_equal(provider->rma->deadline_ns(window.a.rma), due_ns);
    host_clock_ns = due_ns - 1;
    settle(&window.a, &window.b);
    for (int i = 0; i < 4; i++)
        assert_int_equal(results[i], NOT_DONE);
    host_clock_ns = due_ns;
    settle(&window.a, &window.b);
    assert_int_equal(results[0], 0);
    assert_int_equal(results[1], 0);
    assert_int_equal(results[2], HAUL_SYSTEM);
    assert_int_equal(results[3], NOT_DONE);
    assert_true(provider->rma->deadline_ns(window.a.rma) == UINT64_MAX);
    host_clock_ns += 1000000000000;
    settle(&window.a, &window.b);
    assert_int_equal(results[3], NOT_DONE);
    assert_int_equal(start_read(&window, 0, 10, &results[0]), 0); /* late */
    provider->rma->fence(window.peer);
    settle(&window.a, &window.b);
    assert_int_equal(results[3], HAUL_CANCELLED);
    assert_int_equal(results[0], HAUL_CANCELLED);
    assert_int_equal(start_read(&window, 0, 10, &results[0]), 0); /* a fence is not for ever */
    host_clock_ns += 70000;
    settle(&window.a, &window.b);
    assert_int_equal(results[0], HAUL_SYSTEM); /* the sixth */
    window_close(&window);
}

static void test_rma_map(void **state)
{
    (void)state;
    struct window window;
    window_open(&window, NULL);
    const void *data;
    void *mapping;
    assert_int_equal(
        provider->rma->map(window.peer, window.way, WAY, SHARED - 100, &data, &mapping), 0);
    assert_ptr_equal(data, window.from + 100);
    assert_true(provider->rma->viewed(window.offered, window.from + 100, 1, NULL, false));
    assert_false(provider->rma->viewed(window.offered, window.from, 100, NULL, false));
    provider->rma->unmap(mapping);
    assert_false(provider->rma->viewed(window.offered, window.from, SHARED, NULL, true));
    /* The exporter may be closed, its memory staying where it is, while a view lasts. */
    assert_int_equal(provider->rma->map(window.peer, window.way, WAY, 10, &data, &mapping), 0);
    provider->rma->dereg(window.offered);
    window.offered = NULL;
    provider->rma->unmap(mapping);
    window_close(&window);
    struct setting off[] = {{"loop_rma_map", "off"}, {0}};
    window_open(&window, off);
    assert_int_equal(provider->rma->map(window.peer, window.way, WAY, 10, &data, &mapping),
                     HAUL_UNSUPPORTED);
    assert_int_equal(read_now(&window, 0, 10), 0);
    window_close(&window);
}

/* ---- rma: the exporter's memory goes while it is read
 * -------------------------------------------- */

enum { ROUNDS = 2000, ROUND_BYTES = 300000 };

/* Every other round the exporter waits until the read has ended; in the rest it frees at once. */
struct exchange {
    struct haul_engine reader, exporter;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int offered, read; /* rounds, from 1 */
    uint8_t way[HAUL_RMA_WAY_MAX];
};

static void await_round(struct exchange *exchange, const int *round, int wanted)
{
    pthread_mutex_lock(&exchange->lock);
    while (*round < wanted)
        wait_for(&exchange->changed, &exchange->lock);
    pthread_mutex_unlock(&exchange->lock);
}

static void reach_round(struct exchange *exchange, int *round, int value)
{
    pthread_mutex_lock(&exchange->lock);
    *round = value;
    pthread_cond_signal(&exchange->changed);
    pthread_mutex_unlock(&exchange->lock);
}

static void *export_rounds(void *arg)
{
    struct exchange *exchange = arg;
    for (int round = 1; round <= ROUNDS; round++) {
        uint8_t *memory = malloc(ROUND_BYTES);
        void *region;
        size_t way_bytes = HAUL_RMA_WAY_MAX;
        if (!memory)
            abort();
        memset(memory, round & 0xff, ROUND_BYTES);
        if (provider->rma->reg(exchange->exporter.rma, memory, ROUND_BYTES, HAUL_RMA_OFFER, -1,
                               &region) ||
            provider->rma->offer(region, memory, ROUND_BYTES, exchange->way, &way_bytes))
            abort();
        reach_round(exchange, &exchange->offered, round);
        if (round % 2 == 0)
            await_round(exchange, &exchange->read, round);
        provider->rma->dereg(region);
        memset(memory, 0xff, ROUND_BYTES);
        free(memory);
        await_round(exchange, &exchange->read, round); /* the reader still looks at `way` */
    }
    return NULL;
}

static void test_rma_dereg_while_reading(void **state)
{
    (void)state;
    struct setting pieces[] = {{"loop_short_writes", "50000"}, {0}};
    struct exchange exchange = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER};
    engine_open(&exchange.reader, pieces);
    engine_open(&exchange.exporter, NULL);
    uint8_t blob[HAUL_RMA_ADDRESS_MAX], *to = malloc(ROUND_BYTES);
    size_t blob_bytes = sizeof(blob);
    void *peer, *land;
    const struct haul_rma_ops *rma = provider->rma;
    assert_int_equal(rma->address(exchange.exporter.rma, NULL, blob, &blob_bytes), 0);
    assert_int_equal(rma->attach(exchange.reader.rma, blob, blob_bytes, NULL, &peer), 0);
    assert_int_equal(rma->reg(exchange.reader.rma, to, ROUND_BYTES, HAUL_RMA_LAND, -1, &land), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, export_rounds, &exchange), 0);
    int whole = 0, failed = 0, wrong = 0;
    for (int round = 1; round <= ROUNDS; round++) {
        await_round(&exchange, &exchange.offered, round);
        int result = NOT_DONE;
        wrong += rma->read(peer, exchange.way, WAY, 0, to, land, ROUND_BYTES, &result) != 0;
        while (result == NOT_DONE)
            rma->progress(exchange.reader.rma);
        whole += result == 0;
        failed += result == HAUL_PROTOCOL;
        for (size_t i = 0; result == 0 && i < ROUND_BYTES; i += 997)
            wrong += to[i] != (round & 0xff);
        reach_round(&exchange, &exchange.read, round);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(whole + failed, ROUNDS);
    assert_true(whole >= ROUNDS / 2);
    rma->detach(peer);
    rma->dereg(land);
    free(to);
    engine_close(&exchange.reader);
    engine_close(&exchange.exporter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rma_read),
        cmocka_unit_test(test_rma_hostile_ways),
        cmocka_unit_test(test_rma_access),
        cmocka_unit_test(test_rma_off),
        cmocka_unit_test(test_rma_faults),
        cmocka_unit_test(test_rma_map),
        cmocka_unit_test(test_rma_dereg_while_reading),
    };
    return cmocka_run_group_tests(tests, load_loop, NULL);
}
