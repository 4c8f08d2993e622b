/* SPDX-License-Identifier: Apache-2.0
 * Credits: what a peer may send unasked.
 *
 * A peer may have a window of messages and of prepaid bytes with us unreleased. What arrives on
 * prepaid bytes always has memory: the pool lets it exceed its limit, and the shares of all links
 * together are bounded (share_bytes). They are counted as they are placed: each inline array
 * rounded up to 64 bytes. A few peers get large shares, so that their messages need no round trip;
 * many get small ones, all the same, and the receiver decides whose arrays come next (fetch.c).
 *
 * A credit comes back when its message is released, or at once when it fills named memory: what it
 * holds is the user's then. A CREDIT frame is sent once what we owe is half of what the peer could
 * have at all, which is the window less what the user keeps: a frame for each release would cost
 * more than the messages, and a fixed threshold would starve a peer whose other messages are kept.
 */
#include "handles.h"
#include "link.h"
#include "receiving.h"

/* The share of each link shrinks as links come; what a link was told before stays its own until it
 * has used it. No more links than HAUL_PREPAID_LARGE_SHARES ever hold a large share, because it is
 * given only while there are no more in all; likewise for small ones. */
static uint64_t share_bytes(const struct haul_engine *engine)
{
    uint64_t share = HAUL_PREPAID_LEAST;
    if (engine->credited_links <= HAUL_PREPAID_LARGE_SHARES)
        share = engine->config.prepaid_max;
    else if (engine->credited_links <= HAUL_PREPAID_LARGE_SHARES + HAUL_PREPAID_SMALL_SHARES)
        share = HAUL_PREPAID_SMALL;
    return HAUL_MIN(share, engine->config.prepaid_max);
}

void haul_credit_open(struct haul_link *link)
{
    struct haul_engine *engine = link->engine;
    engine->credited_links++;
    link->credited = true;
    link->granted_bytes = share_bytes(engine);
    link->granted_messages = engine->config.credits;
}

void haul_credit_close(struct haul_link *link)
{
    link->engine->credited_links -= link->credited;
    link->credited = false;
}

/* Whether half of what the peer could have at all is owed to it. */
static bool worth_a_frame(uint64_t window, uint64_t granted, uint64_t taken, uint64_t done)
{
    uint64_t kept = HAUL_MIN(taken - done, window);
    return done + window > granted && (done + window - granted) * 2 >= window - kept;
}

/* Looked at when a message comes as well as when one goes: what the peer could have at all shrinks
 * with each message that is kept. */
void haul_credit_pay(struct haul_link *link)
{
    uint64_t window_messages = link->engine->config.credits;
    uint64_t window_bytes = share_bytes(link->engine);
    if (link->state != HAUL_LINK_OPEN)
        return;
    if (!worth_a_frame(window_messages, link->granted_messages, link->taken_messages,
                       link->done_messages) &&
        !worth_a_frame(window_bytes, link->granted_bytes, link->taken_bytes, link->done_bytes))
        return;
    link->granted_messages =
        HAUL_MAX(link->granted_messages, link->done_messages + window_messages);
    link->granted_bytes = HAUL_MAX(link->granted_bytes, link->done_bytes + window_bytes);
    const struct haul_wire_control credit = {.type = HAUL_FRAME_CREDIT,
                                             .credit_messages = link->granted_messages,
                                             .credit_bytes = link->granted_bytes};
    haul_link_control(link, &credit);
}

static bool uses_all(const struct haul_link *link)
{
    return link->taken_messages - link->done_messages >= link->engine->config.credits;
}

void haul_credit_watch(struct haul_link *link, uint64_t now_ns, uint64_t *next_ns)
{
    const struct haul_peer *peer = link->peer;
    uint64_t log_ns = link->used_all_since_ns + HAUL_HELD_LOG_NS;
    if (link->used_all_since_ns == 0 || link->used_all_logged)
        return;
    if (now_ns < log_ns) {
        *next_ns = HAUL_MIN(*next_ns, log_ns);
    } else if (peer->stats.messages_unreleased < link->engine->config.credits) {
        link->used_all_since_ns = now_ns; /* not the user has them: their bytes are still coming */
        *next_ns = HAUL_MIN(*next_ns, now_ns + HAUL_HELD_LOG_NS);
    } else {
        link->used_all_logged = true;
        haul_log(HAUL_LOG_WARNING,
                 "%s: %llu messages from it are not released, for %llu ms it could send no more; "
                 "receive and release messages sooner or raise HAUL_CREDITS (now %llu)",
                 peer->address, (unsigned long long)peer->stats.messages_unreleased,
                 (unsigned long long)((now_ns - link->used_all_since_ns) / HAUL_NS_PER_MS),
                 (unsigned long long)link->engine->config.credits);
    }
}

int haul_credit_take(struct haul_link *link, struct haul_message *message)
{
    uint64_t bytes = haul_manifest_prepaid_bytes(&message->manifest);
    if (link->taken_messages >= link->granted_messages)
        return haul_fail(HAUL_PROTOCOL, "a message beyond the %llu that it had credits for",
                         (unsigned long long)link->granted_messages);
    /* (Rounded up, the bytes of a message that is too large may overflow.) */
    if (HAUL_MAX(bytes, message->manifest.inline_bytes) > link->granted_bytes - link->taken_bytes)
        return haul_fail(HAUL_PROTOCOL, "%llu bytes unasked, more than its prepaid credit of %llu",
                         (unsigned long long)HAUL_MAX(bytes, message->manifest.inline_bytes),
                         (unsigned long long)(link->granted_bytes - link->taken_bytes));
    link->taken_messages++;
    link->taken_bytes += bytes;
    message->on_credit = true;
    if (uses_all(link)) {
        link->used_all_since_ns = haul_now_ns();
        haul_engine_timer(link->engine, link->used_all_since_ns + HAUL_HELD_LOG_NS);
    }
    haul_credit_pay(link);
    return 0;
}

void haul_credit_return(struct haul_message *message)
{
    struct haul_link *link = message->link;
    if (!message->on_credit)
        return;
    message->on_credit = false;
    link->used_all_since_ns = 0;
    link->done_messages++;
    link->done_bytes += haul_manifest_prepaid_bytes(&message->manifest);
    haul_credit_pay(link);
}
