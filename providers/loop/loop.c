/* SPDX-License-Identifier: Apache-2.0
 * The provider `loop`: contexts of one process talk to each other. It is the reference for authors
 * of providers, and its fault knobs make core meet what networks do only rarely.
 *
 * This file: the descriptor, the settings and the allocator. channel.c and rma.c: the two tables.
 */
#include "loop.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

const struct haul_host *haul_loop_host;

enum { PIECE_BYTES = 256 << 10 };

static const struct haul_provider_field fields[] = {
    {"loop_delay_us", "0", "Microseconds by which loop delivers each frame late."},
    {"loop_drop_after_bytes", "0",
     "Bytes, headers included, both ways, after which loop drops a connection; 0: never."},
    {"loop_short_writes", "0", "Most bytes of a payload that loop moves at once; 0: 256 KiB."},
    {"loop_fail_alloc", "0", "Every n-th allocation inside loop fails; 0: none."},
    {"loop_parts", "off",
     "Whether loop's channel owns its receive memory and lends parts (on or off); for the whole "
     "process, from the environment only."},
    {"loop_rma", "on", "Whether loop shares memory by rma: on or off."},
    {"loop_rma_map", "on",
     "Whether memory that is offered through loop can be mapped, not only read: on or off."},
    {"loop_rma_inside", "off",
     "Whether loop ends each rma read that is not late inside the call: on or off."},
    {"loop_rma_fence_lets", "off",
     "Whether a fence lets late rma reads of loop complete, as NICs do, and ends only those that "
     "hang: on or off."},
    {"loop_rma_delay_us", "0", "Microseconds by which loop ends each rma read late."},
    {"loop_rma_fail_every", "0", "Every n-th rma read of loop fails; 0: none."},
    {"loop_rma_hang_every", "0",
     "Every n-th rma read of loop completes only when fenced; 0: none."},
    {NULL, NULL, NULL},
};

/* A decimal number of at most `max`. */
static int read_number(struct haul_engine *engine, const char *name, uint64_t max, uint64_t *value)
{
    const char *text = haul_loop_host->setting(engine, name);
    size_t digits = text ? strspn(text, "0123456789") : 0;
    /* 19 digits are less than 2^64. */
    bool number = digits > 0 && digits <= 19 && text[digits] == '\0';
    *value = number ? strtoull(text, NULL, 10) : 0;
    if (!number || *value > max)
        return haul_loop_host->fail(HAUL_CONFIG,
                                    "%s is \"%s\": it takes a whole number from 0 to %llu", name,
                                    text ? text : "", (unsigned long long)max);
    return 0;
}

static int read_switch(struct haul_engine *engine, const char *name, bool *value)
{
    const char *text = haul_loop_host->setting(engine, name);
    *value = text && strcmp(text, "on") == 0;
    if (*value || (text && strcmp(text, "off") == 0))
        return 0;
    return haul_loop_host->fail(HAUL_CONFIG, "%s is \"%s\": it takes on or off", name,
                                text ? text : "");
}

/* The flags of the channel's table are the process's: this setting cannot differ by context. */
static int check_parts(const struct haul_loop_config *config);

int haul_loop_configure(struct haul_engine *engine, struct haul_loop_config *config)
{
    static const uint64_t delay_max_us = 60000000, count_max = INT64_MAX;
    int err;
    if ((err = read_number(engine, "loop_delay_us", delay_max_us, &config->delay_ns)) ||
        (err =
             read_number(engine, "loop_drop_after_bytes", count_max, &config->drop_after_bytes)) ||
        (err = read_number(engine, "loop_short_writes", PIECE_BYTES, &config->piece_bytes)) ||
        (err = read_number(engine, "loop_fail_alloc", count_max, &config->fail_alloc)) ||
        (err = read_switch(engine, "loop_parts", &config->parts)) ||
        (err = read_switch(engine, "loop_rma", &config->rma)) ||
        (err = read_switch(engine, "loop_rma_map", &config->rma_map)) ||
        (err = read_switch(engine, "loop_rma_inside", &config->rma_inside)) ||
        (err = read_switch(engine, "loop_rma_fence_lets", &config->rma_fence_lets)) ||
        (err = read_number(engine, "loop_rma_delay_us", delay_max_us, &config->rma_delay_ns)) ||
        (err = read_number(engine, "loop_rma_fail_every", count_max, &config->rma_fail_every)) ||
        (err = read_number(engine, "loop_rma_hang_every", count_max, &config->rma_hang_every)) ||
        (err = check_parts(config)))
        return err;
    config->delay_ns *= 1000;
    config->rma_delay_ns *= 1000;
    if (config->drop_after_bytes == 0)
        config->drop_after_bytes = UINT64_MAX;
    if (config->piece_bytes == 0)
        config->piece_bytes = PIECE_BYTES;
    return 0;
}

void *haul_loop_alloc(struct haul_loop_config *config, size_t bytes)
{
    uint64_t number = atomic_fetch_add(&config->allocations, 1) + 1;
    bool fails = config->fail_alloc > 0 && number % config->fail_alloc == 0;
    void *memory = fails ? NULL : calloc(1, bytes);
    if (!memory)
        haul_loop_host->fail(HAUL_NO_MEMORY, "loop could not allocate %zu bytes%s", bytes,
                             fails ? " (loop_fail_alloc)" : "");
    return memory;
}

/* A copy of the channel's table, because its flags depend on the environment. */
static struct haul_channel_ops channel_ops;

static const struct haul_provider provider = {
    .abi = HAUL_PROVIDER_ABI,
    .size = sizeof(struct haul_provider),
    .name = "loop",
    .description = "contexts of one process, with fault knobs",
    .channel = &channel_ops,
    .rma = &haul_loop_rma,
    .fields = fields,
};

static int check_parts(const struct haul_loop_config *config)
{
    bool parts = channel_ops.flags & HAUL_CHANNEL_PARTS;
    if (config->parts == parts)
        return 0;
    return haul_loop_host->fail(HAUL_CONFIG,
                                "loop_parts is %s in this process: set HAUL_LOOP_PARTS before the "
                                "first context is opened, not an option of one context",
                                parts ? "on" : "off");
}

static void forked(void)
{
    haul_loop_channel_forked();
    haul_loop_rma_forked();
}

/* Core compares the ABI number in the descriptor with its own before it uses either table. */
HAUL_API haul_provider_entry_fn haul_provider_entry;
HAUL_API const struct haul_provider *haul_provider_entry(const struct haul_host *host)
{
    haul_loop_host = host;
    const char *parts = getenv("HAUL_LOOP_PARTS");
    channel_ops = haul_loop_channel;
    if (parts && strcmp(parts, "on") == 0)
        channel_ops.flags |= HAUL_CHANNEL_PARTS;
    if (pthread_atfork(NULL, NULL, forked) != 0) {
        host->fail(HAUL_NO_MEMORY, "pthread_atfork() has no memory");
        return NULL;
    }
    return &provider;
}
