/* SPDX-License-Identifier: Apache-2.0
 * haul/stats.h: counters, per peer and per context. All only grow, except those marked "now". */
#ifndef HAUL_STATS_H
#define HAUL_STATS_H

#include <haul/context.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(field, help) */
#define HAUL_STATS(X)                                                                    \
    X(messages_sent, "ops finished with success")                                        \
    X(messages_received, "messages received whole, also if a receive refused them then") \
    X(bytes_sent, "array bytes of the ops finished with success")                        \
    X(bytes_transmitted, "array bytes handed to a channel, of messages under way too")   \
    X(bytes_received, "array bytes of the messages received")                            \
    X(ops_failed, "ops finished with an error")                                          \
    X(messages_refused, "messages refused to their sender")                              \
    X(bytes_copied, "array bytes copied in user space, on sending or placement")         \
    X(bytes_read_rma, "array bytes read by rma")                                         \
    X(bytes_mapped, "array bytes looked at in place, in memory that their sender gave")  \
    X(bytes_fetched, "array bytes asked for on the channel")                             \
    X(bytes_inline, "array bytes that came with their manifest")                         \
    X(bytes_lent, "array bytes in memory of the channel's own, lent until release")      \
    X(rma_failures, "rma reads that failed and were asked for on the channel")           \
    X(registrations, "memory regions registered")                                        \
    X(connects, "connections made or accepted")                                          \
    X(disconnects, "connections lost or closed")                                         \
    X(credit_waits, "sends that had to wait for a credit")                               \
    X(pool_waits, "messages that had to wait for pool memory")                           \
    X(messages_unreleased, "now: received and not released")                             \
    X(ops_under_way, "now: ops not finished")                                            \
    X(pool_bytes, "now: bytes of pool mappings (context only)")                          \
    X(pool_used_bytes, "now: bytes of pool blocks in use (context only)")                \
    X(peers, "now: peers connected (context only)")

struct haul_stats {
#define HAUL_STATS_FIELD(field, help) uint64_t field;
    HAUL_STATS(HAUL_STATS_FIELD)
#undef HAUL_STATS_FIELD
};

/* What was counted since it was opened; zeros after haul_context_shutdown(). Any thread. */
HAUL_API void haul_context_stats(struct haul_context *context, struct haul_stats *stats);

/* A NIC that arrays are read over. */
struct haul_rail_stats {
    char name[64];       /* "mlx5_0" */
    uint64_t bytes_read; /* array bytes that came over it */
    bool usable;         /* now: no fault of it is known */
};
/* The rails of the context's paths, best first: fills up to max and returns how many there are; 0
 * where no path has any, as over tcp, and after haul_context_shutdown(). Any thread. */
HAUL_API size_t haul_context_rails(struct haul_context *context, struct haul_rail_stats *rails,
                                   size_t max);

#ifdef __cplusplus
}
#endif
#endif
