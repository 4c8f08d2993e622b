/* SPDX-License-Identifier: Apache-2.0
 * Connections: dialing, dispatch of frames, heartbeats, and the end.
 *
 * Happy path. haul_link_dial() or an accepted connection makes a link; the handshake opens it;
 * frames are dispatched by type until the peer leaves.
 *
 * The end. Whoever finds that a link cannot go on calls haul_link_lose(), from any depth: the link
 * fails its ops and drops its messages at once, but its conn is only disconnected at the end of the
 * pass, because a provider may be in the middle of a callback for it. A peer that dials gets a new
 * link after a pause that grows. */
#include "link.h"
#include "handles.h"
#include "inbox.h"
#include "receiving.h"
#include "sending.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A connection that has not greeted by then is given up; then one whose proof has not ended. */
#define HANDSHAKE_NS (10 * (uint64_t)HAUL_NS_PER_S)
/* A read that should prove an rma path is ended after so long. Where there is another path it is
 * taken after twice the 2 s that a lost packet costs RDMA; who insists on rma gives a busy machine
 * the time, and tells the other side, which waits for HANDSHAKE_NS, before that gives up. */
enum { PROOF_S = 5, PROOF_INSISTING_S = 7 };

/* ---- Life ------------------------------------------------------------------------------------ */

struct haul_link *haul_link_create(struct haul_engine *engine, struct haul_peer *peer,
                                   struct haul_inbox *inbox)
{
    struct haul_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    link->references = 1;
    link->engine = engine;
    link->peer = haul_peer_reference(peer);
    link->inbox = inbox;
    link->transport = &engine->transports[0];
    link->state = HAUL_LINK_DIALING;
    link->since_ns = link->heard_ns = haul_now_ns();
    link->next_seq = 1;
    link->message_max = UINT64_MAX;
    struct haul_list *lists[] = {&link->waiting, &link->open,        &link->transmitting,
                                 &link->ending,  &link->kept,        &link->inbound,
                                 &link->replies, &link->sending_node};
    for (size_t i = 0; i < HAUL_COUNT_OF(lists); i++)
        haul_list_init(lists[i]);
    haul_list_append(&engine->links, &link->node);
    peer->link = link;
    haul_engine_retain(engine);
    return link;
}

void haul_link_retain(struct haul_link *link)
{
    link->references++;
}

void haul_link_release(struct haul_link *link)
{
    if (--link->references > 0)
        return;
    struct haul_engine *engine = link->engine;
    haul_list_remove(&link->sending_node);
    haul_handshake_undo(link); /* the last read, which held a reference, has ended */
    if (link->lease)
        haul_block_release(link->lease);
    haul_peer_unreference(link->peer);
    free(link);
    haul_engine_release(engine);
}

void haul_link_dial(struct haul_peer *peer)
{
    struct haul_engine *engine = peer->engine;
    struct haul_link *link = haul_link_create(engine, peer, &peer->inbox);
    if (!link) {
        peer->redial_at_ns = haul_now_ns() + HAUL_NS_PER_S;
        haul_engine_timer(engine, peer->redial_at_ns);
        return;
    }
    int err = link->transport->provider->channel->connect(link->transport->channel, peer->route,
                                                          link, &link->conn);
    if (err)
        haul_link_lose(link, HAUL_UNREACHABLE, "%s", haul_error_detail());
    haul_engine_timer(engine, link->since_ns + HANDSHAKE_NS);
}

void haul_link_opened(struct haul_link *link)
{
    struct haul_peer *peer = link->peer;
    uint64_t heartbeat_ns = link->engine->config.heartbeat_ns;
    link->since_ns = haul_now_ns();
    peer->redial_pause_ns = 0;
    peer->last_err = 0;
    HAUL_COUNT(peer, connects, 1);
    link->engine->stats.peers++;
    if (heartbeat_ns)
        haul_engine_timer(link->engine, link->since_ns + heartbeat_ns);
    while (!haul_list_empty(&peer->waiting) && link->state != HAUL_LINK_LOST)
        haul_transmit_start(HAUL_CONTAINER_OF(haul_list_pop(&peer->waiting), struct haul_op, node));
    haul_transmit_pump(link);
    haul_credit_pay(link); /* for what was released before it was open */
    haul_engine_changed(link->engine);
}

/* ---- The end --------------------------------------------------------------------------------- */

static struct haul_op *first_op(struct haul_list *list)
{
    return HAUL_LIST_FIRST(list, struct haul_op, node);
}

static void fail_ops(struct haul_link *link, int err, const char *detail)
{
    struct haul_peer *peer = link->peer;
    while (!haul_list_empty(&link->open))
        haul_op_end(first_op(&link->open), err, detail);
    while (!haul_list_empty(&link->kept)) {
        struct haul_op *op = first_op(&link->kept);
        haul_list_remove(&op->node);
        haul_given_retire(op, link);
        haul_op_unreference(op);
    }
    /* Nothing of those that wait was sent: a peer that dials sends them on its next connection. */
    while (!haul_list_empty(&link->waiting)) {
        struct haul_op *op = first_op(&link->waiting);
        if (peer->dials && !peer->closed && op->kind != HAUL_OP_REPLY) {
            haul_list_remove(&op->node);
            haul_list_append(&peer->waiting, &op->node);
            haul_plan_undo(op); /* if the channel was busy it has a plan already, for this path */
            op->link = NULL;
            haul_link_release(link);
        } else {
            haul_op_end(op, err, detail);
        }
    }
}

static struct haul_message *first_incomplete(struct haul_list *list)
{
    HAUL_LIST_EACH(list, node)
    {
        struct haul_message *message = HAUL_CONTAINER_OF(node, struct haul_message, node);
        if (message->state != HAUL_MESSAGE_WHOLE)
            return message;
    }
    return NULL;
}

/* Dropping one may place, refuse or drop others: the search begins anew each time. */
static void drop_messages(struct haul_link *link)
{
    struct haul_message *message;
    while ((message = first_incomplete(&link->replies)))
        haul_inbound_drop(message);
    /* What is whole was acknowledged: it is delivered when those before it are gone. */
    while ((message = first_incomplete(&link->inbound)))
        haul_inbound_drop(message);
}

static void plan_redial(struct haul_peer *peer)
{
    uint64_t first_ns = HAUL_REDIAL_FIRST_MS * (uint64_t)HAUL_NS_PER_MS;
    uint64_t last_ns = HAUL_REDIAL_LAST_MS * (uint64_t)HAUL_NS_PER_MS;
    peer->redial_pause_ns = HAUL_MIN(HAUL_MAX(peer->redial_pause_ns * 2, first_ns), last_ns);
    peer->redial_at_ns = haul_now_ns() + peer->redial_pause_ns;
    haul_engine_timer(peer->engine, peer->redial_at_ns);
}

/* Also those that were not chosen: they may have begun to exchange something. */
static void tell_rma(struct haul_link *link)
{
    const struct haul_engine *engine = link->engine;
    for (unsigned i = 0; i < engine->transport_count; i++) {
        const struct haul_transport *transport = &engine->transports[i];
        if (transport->rma && transport->provider->rma->lost)
            transport->provider->rma->lost(transport->rma, link);
    }
}

void haul_link_lose(struct haul_link *link, int err, const char *format, ...)
{
    struct haul_engine *engine = link->engine;
    struct haul_peer *peer = link->peer;
    char detail[HAUL_DETAIL_MAX];
    va_list arguments;
    if (link->state == HAUL_LINK_LOST)
        return;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    bool was_open = haul_link_is_open(link);
    link->state = HAUL_LINK_LOST;
    haul_log(err == HAUL_CLOSED || peer->dials ? HAUL_LOG_DEBUG : HAUL_LOG_INFO, "%s", detail);
    haul_handshake_end_lease(link); /* before memory is anybody's again */
    tell_rma(link);
    if (was_open) {
        HAUL_COUNT(peer, disconnects, 1);
        engine->stats.peers--;
    }
    peer->link = NULL;
    peer->last_err = err;
    memcpy(peer->last_why, detail, sizeof detail);
    fail_ops(link, err, detail);
    drop_messages(link);
    haul_credit_close(link);
    if (peer->dials && !peer->closed)
        plan_redial(peer);
    haul_list_remove(&link->node);
    haul_list_append(&engine->lost, &link->node);
    haul_engine_timer(engine, haul_now_ns()); /* somebody must reap */
    haul_engine_changed(engine);
}

void haul_link_bye(struct haul_link *link, int err, const char *sentence)
{
    if (link->state == HAUL_LINK_LOST)
        return;
    struct haul_wire_control bye = {.type = HAUL_FRAME_BYE, .err = err};
    haul_copy_text(bye.sentence, sizeof bye.sentence, sentence);
    if (link->state != HAUL_LINK_PLAIN && link->state != HAUL_LINK_DIALING)
        haul_link_control(link, &bye);
    link->flush = true;
    haul_link_lose(link, err, "%s: %s", link->peer->address, bye.sentence);
}

void haul_links_reap(struct haul_engine *engine)
{
    while (!haul_list_empty(&engine->lost)) {
        struct haul_link *link =
            HAUL_CONTAINER_OF(haul_list_pop(&engine->lost), struct haul_link, node);
        void *conn = link->conn;
        link->conn = NULL;
        if (link->rma_peer)
            link->rma->provider->rma->fence(link->rma_peer);
        if (conn)
            link->transport->provider->channel->disconnect(conn, link->flush);
        haul_link_release(link);
    }
}

bool haul_link_reads(const struct haul_link *link)
{
    return link->rma && !link->probing && !link->rma_failed;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

void haul_link_control(struct haul_link *link, const struct haul_wire_control *control)
{
    uint8_t frame[HAUL_WIRE_CONTROL_ENCODED_MAX];
    /* A plain client is told why it gets no reply, and nothing else. */
    if (link->state == HAUL_LINK_LOST ||
        (link->state == HAUL_LINK_PLAIN && control->type != HAUL_FRAME_ACK))
        return;
    size_t bytes = haul_control_encode(control, frame);
    link->transport->provider->channel->send(link->conn, frame, bytes, NULL, 0, NULL);
}

/* A frame that comes now belongs to the handshake. (A client that still proves the path may get
 * messages already: it is open for the server.) */
static bool is_greeting(const struct haul_link *link)
{
    return link->state == HAUL_LINK_GREETING && (link->server || !link->probing);
}

int haul_link_check(struct haul_link *link, const uint8_t *prefix)
{
    if (link->state == HAUL_LINK_LOST)
        return HAUL_PEER_LOST;
    uint8_t type = haul_prefix_type(prefix);
    bool may_be_plain = link->server && !link->probing &&
                        link->transport->provider->channel->flags & HAUL_CHANNEL_PLAIN;
    int err = haul_prefix_check(prefix);
    if (!err && is_greeting(link) && type > HAUL_FRAME_BYE &&
        !(may_be_plain && type == HAUL_FRAME_MESSAGE))
        err = haul_fail(HAUL_PROTOCOL, "a frame before the handshake");
    if (err)
        haul_link_bye(link, err, haul_error_detail());
    return err;
}

static int dispatch_control(struct haul_link *link, const uint8_t *header, size_t header_bytes)
{
    struct haul_wire_control control;
    int err = haul_control_decode(&control, header, header_bytes);
    if (err)
        return err;
    switch (control.type) {
    case HAUL_FRAME_FETCH:
        return haul_transmit_fetch(link, &control);
    case HAUL_FRAME_DATA:
        return haul_inbound_data(link, &control);
    case HAUL_FRAME_ACK:
        haul_transmit_ack(link, &control);
        return 0;
    case HAUL_FRAME_CREDIT:
        link->credit_messages = HAUL_MAX(link->credit_messages, control.credit_messages);
        link->credit_bytes = HAUL_MAX(link->credit_bytes, control.credit_bytes);
        haul_transmit_pump(link);
        return 0;
    case HAUL_FRAME_CANCEL:
        haul_inbound_cancel(link, control.seq);
        return 0;
    case HAUL_FRAME_RELEASE:
        haul_transmit_release(link, control.seq);
        return 0;
    case HAUL_FRAME_PING:
        control.type = HAUL_FRAME_PONG;
        haul_link_control(link, &control);
        return 0;
    case HAUL_FRAME_PONG:
        return 0;
    case HAUL_FRAME_BYE:
        haul_link_lose(link, control.err ? HAUL_PEER_LOST : HAUL_CLOSED, "%s has left: %s",
                       link->peer->address, control.sentence);
        return HAUL_PEER_LOST;
    default:
        return haul_fail(HAUL_PROTOCOL, "a handshake frame after the handshake");
    }
}

static int dispatch(struct haul_link *link, const uint8_t *header, size_t header_bytes)
{
    uint8_t type = haul_prefix_type(header);
    bool greeting = is_greeting(link);
    if (greeting && type == HAUL_FRAME_MESSAGE) {
        link->state = HAUL_LINK_PLAIN; /* haul_link_check() allowed it */
        haul_credit_open(link);
        haul_link_opened(link);
        snprintf(link->peer->path, sizeof link->peer->path, "%s (plain)", link->transport->name);
    } else if (greeting) {
        return haul_handshake_frame(link, header, header_bytes);
    }
    if (type == HAUL_FRAME_MESSAGE)
        return haul_inbound_manifest(link, header, header_bytes);
    if (link->state == HAUL_LINK_PLAIN)
        return haul_fail(HAUL_PROTOCOL, "a control frame from a client that did not greet");
    return dispatch_control(link, header, header_bytes);
}

int haul_link_frame(struct haul_link *link, const uint8_t *header, size_t header_bytes)
{
    int err = haul_link_check(link, header);
    if (err)
        return err;
    link->heard_ns = link->engine->drive.now_ns;
    link->asked_ns = 0;
    err = dispatch(link, header, header_bytes);
    if (err)
        haul_link_bye(link, err, haul_error_detail());
    return link->state == HAUL_LINK_LOST ? HAUL_PEER_LOST : 0;
}

/* ---- Liveness -------------------------------------------------------------------------------- */

static void greet_in_time(struct haul_link *link, uint64_t now_ns, uint64_t *next_ns)
{
    uint64_t limit_ns = link->since_ns + HANDSHAKE_NS;
    if (now_ns >= limit_ns)
        haul_link_lose(
            link, HAUL_UNREACHABLE,
            link->state == HAUL_LINK_DIALING ? "%s: no connection after 10 s"
            : link->probing
                ? "%s: connected, but the read that should prove the path did not end in 10 s"
                : "%s: connected, but the other side did not answer haul's greeting in 10 s",
            link->peer->address);
    else if (link->probing && link->reads == 0)
        haul_reads_probe_again(link);
    if (link->state != HAUL_LINK_LOST)
        *next_ns = limit_ns;
}

/* No fabric promises that a read of a silent peer's memory ever ends. */
static void fence_stalled_reads(struct haul_link *link, uint64_t now_ns, uint64_t *next_ns)
{
    int proof_s = link->engine->rma_required ? PROOF_INSISTING_S : PROOF_S;
    int limit_s = link->probing ? proof_s : HAUL_READ_STALL_S;
    uint64_t limit_ns = (uint64_t)limit_s * HAUL_NS_PER_S;
    if (link->reads == 0 || link->state == HAUL_LINK_LOST)
        return;
    if (now_ns >= link->reads_moved_ns + limit_ns) {
        haul_log(link->probing ? HAUL_LOG_INFO : HAUL_LOG_WARNING,
                 "%s: %u reads by %s have not moved for %d s: they are ended", link->peer->address,
                 link->reads, link->rma->name, limit_s);
        link->reads_moved_ns = now_ns;
        link->took_back = false;
        link->rma->provider->rma->fence(link->rma_peer);
    }
    *next_ns = HAUL_MIN(*next_ns, link->reads_moved_ns + limit_ns);
}

void haul_link_heartbeat(struct haul_link *link, uint64_t now_ns, uint64_t *next_ns)
{
    uint64_t heartbeat_ns = link->engine->config.heartbeat_ns;
    if (link->state == HAUL_LINK_DIALING || link->state == HAUL_LINK_GREETING) {
        greet_in_time(link, now_ns, next_ns);
        fence_stalled_reads(link, now_ns, next_ns);
        return;
    }
    fence_stalled_reads(link, now_ns, next_ns);
    haul_credit_watch(link, now_ns, next_ns);
    if (link->state != HAUL_LINK_OPEN || heartbeat_ns == 0)
        return;
    uint64_t ask_ns = link->heard_ns + heartbeat_ns;
    if (link->asked_ns && now_ns >= link->asked_ns + heartbeat_ns) {
        haul_link_lose(link, HAUL_PEER_LOST, "%s: no sign of life for %llu s", link->peer->address,
                       (unsigned long long)(2 * heartbeat_ns / HAUL_NS_PER_S));
        return;
    }
    if (now_ns >= ask_ns && !link->asked_ns) {
        struct haul_wire_control ping = {.type = HAUL_FRAME_PING, .seq = now_ns};
        haul_link_control(link, &ping);
        link->asked_ns = now_ns;
    }
    *next_ns = HAUL_MIN(*next_ns, link->asked_ns ? link->asked_ns + heartbeat_ns : ask_ns);
}
