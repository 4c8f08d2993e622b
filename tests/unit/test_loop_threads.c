/* SPDX-License-Identifier: Apache-2.0
 * The channel of the provider `loop` between two threads that send, recall and receive at once. */
#include "loop_host.h"

enum { STREAM_FRAMES = 3000, STREAM_BYTES = 50000, END_MARK = 255 };

/* One thread: sends patterned frames, recalls some of them, and receives the other's. */
struct streamer {
    struct haul_link *link;
    unsigned seed;
    int queued, recalled;
    bool marked; /* the end mark was sent */
    uint8_t payload[STREAM_BYTES];
};

/* Sends what may be sent. Returns whether it did. */
static bool stream_next(struct streamer *streamer)
{
    struct haul_link *link = streamer->link;
    if (streamer->marked || link->sent + streamer->recalled < streamer->queued)
        return false; /* at the end, or the payload is still lent */
    if (streamer->queued == STREAM_FRAMES) {
        streamer->marked = true;
        return send_frame(link, END_MARK, NULL, 0, NULL) == 0;
    }
    uint8_t type = (uint8_t)(streamer->queued++ % END_MARK);
    size_t bytes = 1 + (size_t)rand_r(&streamer->seed) % STREAM_BYTES;
    for (size_t i = 0; i < bytes; i++)
        streamer->payload[i] = pattern(type, i);
    struct iovec payload[] = {{streamer->payload, bytes / 3},
                              {streamer->payload + bytes / 3, bytes - bytes / 3}};
    if (send_frame(link, type, payload, 2, streamer) != 0)
        abort();
    if (streamer->queued % 3 == 0 && provider->channel->recall(link->conn, streamer))
        streamer->recalled++;
    return true;
}

static bool stream_ended(const struct haul_link *link)
{
    return link->frames > 0 && link->headers[(link->frames - 1) % FRAMES][0] == END_MARK;
}

static void *stream(void *arg)
{
    struct streamer *streamer = arg;
    struct haul_link *link = streamer->link;
    while (!(streamer->marked && stream_ended(link))) {
        bool did = stream_next(streamer);
        if (!engine_pass(link->engine) && !did)
            engine_wait(link->engine);
    }
    provider->channel->disconnect(link->conn, false);
    link->conn = NULL;
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    struct setting pieces[] = {{"loop_short_writes", "4096"}, {0}};
    struct pair pair;
    pair_open(&pair, NULL, pieces);
    struct haul_link *links[] = {pair.client, pair.server};
    struct streamer *streamers = calloc(2, sizeof(*streamers));
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        links[i]->stream = true;
        streamers[i].link = links[i];
        streamers[i].seed = i;
        assert_int_equal(pthread_create(&threads[i], NULL, stream, &streamers[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 2; i++) {
        size_t sent = (size_t)links[i]->sent, recalled = (size_t)streamers[i].recalled;
        assert_int_equal(sent + recalled, STREAM_FRAMES);
        assert_int_equal(links[i]->corrupt, 0);
        assert_in_range(links[1 - i]->whole, sent, sent + recalled);
        assert_int_equal(links[1 - i]->frames, links[1 - i]->whole + 1);
    }
    free(streamers);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_threads)};
    return cmocka_run_group_tests(tests, load_loop, NULL);
}
