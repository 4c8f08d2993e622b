/* SPDX-License-Identifier: Apache-2.0
 * Credits: what a peer may send unasked.
 *
 * A link's window is `window_messages` messages and `window_bytes` prepaid bytes that may be with
 * us unreleased; what arrives on prepaid bytes always has memory: the pool lets it exceed its
 * limit, and the shares of all links together are bounded by constants (HAUL_PREPAID_*), but for
 * the least share of each link. They are counted as they are placed: each inline array rounded up
 * to 64 bytes. A message that fills named memory gives its credit back at once: what it holds is
 * the user's. A few peers get large shares, so that their messages need no round trip; many get
 * small ones, and the receiver decides whose arrays come next (fetch.c).
 *
 * A credit comes back when its message is released. A CREDIT frame is sent once what we owe is half
 * of what the peer could have at all, which is the window less what the user keeps: a frame for
 * each release would cost more than the messages, and a fixed threshold would starve a peer whose
 * other messages are kept. */
#include "engine.h"

void haul_credit_open(struct haul_link *link)
{
    struct haul_engine *engine = link->engine;
    uint64_t share_bytes = HAUL_PREPAID_LEAST;
    if (engine->prepaid_large_shares < HAUL_PREPAID_LARGE_SHARES) {
        engine->prepaid_large_shares++;
        link->share = HAUL_SHARE_LARGE;
        share_bytes = engine->config.prepaid_max;
    } else if (engine->prepaid_small_shares < HAUL_PREPAID_SMALL_SHARES) {
        engine->prepaid_small_shares++;
        link->share = HAUL_SHARE_SMALL;
        share_bytes = HAUL_PREPAID_SMALL;
    }
    link->window_bytes = HAUL_MIN(share_bytes, engine->config.prepaid_max);
    link->window_messages = engine->config.credits;
    link->granted_bytes = link->window_bytes;
    link->granted_messages = link->window_messages;
}

void haul_credit_close(struct haul_link *link)
{
    struct haul_engine *engine = link->engine;
    engine->prepaid_large_shares -= link->share == HAUL_SHARE_LARGE;
    engine->prepaid_small_shares -= link->share == HAUL_SHARE_SMALL;
    link->share = HAUL_SHARE_LEAST;
}

static bool worth_a_frame(uint64_t window, uint64_t granted, uint64_t taken, uint64_t done)
{
    uint64_t kept = taken - done;
    uint64_t owed = done + window - granted;
    return owed > 0 && owed * 2 >= window - HAUL_MIN(kept, window);
}

/* Looked at when a message comes as well as when one goes: what the peer could have at all shrinks
 * with each message that is kept. */
static void pay_if_worth_it(struct haul_link *link)
{
    if (link->state != HAUL_LINK_OPEN)
        return;
    if (!worth_a_frame(link->window_messages, link->granted_messages, link->taken_messages,
                       link->done_messages) &&
        !worth_a_frame(link->window_bytes, link->granted_bytes, link->taken_bytes,
                       link->done_bytes))
        return;
    link->granted_messages = link->done_messages + link->window_messages;
    link->granted_bytes = link->done_bytes + link->window_bytes;
    const struct haul_wire_control credit = {.type = HAUL_FRAME_CREDIT,
                                             .credit_messages = link->granted_messages,
                                             .credit_bytes = link->granted_bytes};
    haul_link_control(link, &credit);
}

int haul_credit_take(struct haul_link *link, struct haul_message *message)
{
    uint64_t bytes = haul_manifest_prepaid_bytes(&message->manifest);
    if (link->taken_messages >= link->granted_messages)
        return haul_fail(HAUL_PROTOCOL, "a message beyond the %llu that it had credits for",
                         (unsigned long long)link->granted_messages);
    if (bytes > link->granted_bytes - link->taken_bytes)
        return haul_fail(HAUL_PROTOCOL, "%llu bytes unasked, more than its prepaid credit of %llu",
                         (unsigned long long)bytes,
                         (unsigned long long)(link->granted_bytes - link->taken_bytes));
    link->taken_messages++;
    link->taken_bytes += bytes;
    message->on_credit = true;
    pay_if_worth_it(link);
    return 0;
}

void haul_credit_return(struct haul_message *message)
{
    struct haul_link *link = message->link;
    if (!message->on_credit)
        return;
    message->on_credit = false;
    link->done_messages++;
    link->done_bytes += haul_manifest_prepaid_bytes(&message->manifest);
    pay_if_worth_it(link);
}
