/* SPDX-License-Identifier: Apache-2.0
 * Peers: connecting, sending and calling. */
#include "handles.h"
#include "inbox.h"
#include "link.h"
#include "receiving.h"
#include "sending.h"

#include "address.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Life ------------------------------------------------------------------------------------ */

struct haul_peer *haul_peer_create(struct haul_engine *engine, const char *address)
{
    struct haul_peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    atomic_init(&peer->references, 1);
    peer->engine = engine;
    peer->id = ++engine->next_peer_id;
    haul_copy_text(peer->address, sizeof peer->address, address);
    haul_list_init(&peer->node);
    haul_list_init(&peer->waiting);
    haul_inbox_init(engine, &peer->inbox);
    haul_engine_retain(engine);
    return peer;
}

void haul_peer_unreference(struct haul_peer *peer)
{
    struct haul_engine *engine = peer->engine;
    if (atomic_fetch_sub(&peer->references, 1) != 1)
        return;
    haul_level_close(&peer->inbox.level);
    if (peer->route)
        engine->transports[0].provider->channel->route_free(peer->route);
    free(peer);
    haul_engine_release(engine);
}

/* Ends a peer's connection and redialling for good; under the lock. */
void haul_peer_shut(struct haul_peer *peer, const char *why)
{
    peer->closed = true;
    while (!haul_list_empty(&peer->waiting))
        haul_op_end(HAUL_CONTAINER_OF(haul_list_pop(&peer->waiting), struct haul_op, node),
                    HAUL_CLOSED, why);
    if (peer->link)
        haul_link_bye(peer->link, HAUL_CLOSED, why);
    if (peer->dials)
        haul_inbox_close(&peer->inbox);
    haul_list_remove(&peer->node);
}

struct haul_peer *haul_peer_reference(struct haul_peer *peer)
{
    atomic_fetch_add(&peer->references, 1);
    return peer;
}

struct haul_peer *haul_peer_retain(struct haul_peer *peer)
{
    atomic_fetch_add(&peer->users, 1);
    return haul_peer_reference(peer);
}

void haul_peer_release(struct haul_peer *peer)
{
    if (!peer || peer->engine->inherited)
        return;
    struct haul_engine *engine = peer->engine;
    haul_engine_retain(engine);
    haul_drive_enter(&engine->drive);
    if (atomic_fetch_sub(&peer->users, 1) == 1 && peer->dials && !peer->closed)
        haul_peer_shut(peer, "the peer was released");
    haul_peer_unreference(peer);
    haul_drive_leave(&engine->drive);
    haul_engine_release(engine);
}

void haul_peer_disconnect(struct haul_peer *peer)
{
    if (haul_engine_enter(peer->engine))
        return;
    if (!peer->closed)
        haul_peer_shut(peer, "the peer was disconnected");
    haul_engine_leave(peer->engine);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* Errors that another try will not mend. */
static bool is_final(int err)
{
    return err == HAUL_VERSION || err == HAUL_PROVIDER || err == HAUL_PROTOCOL;
}

static bool has_connected_or_failed(void *arg)
{
    struct haul_peer *peer = arg;
    return (peer->link && peer->link->state == HAUL_LINK_OPEN) || is_final(peer->last_err);
}

static int wait_connected(struct haul_peer *peer, int64_t timeout_ns)
{
    char why[HAUL_DETAIL_MAX];
    int err = haul_drive_wait(&peer->engine->drive, has_connected_or_failed, peer,
                              haul_deadline_ns(timeout_ns));
    if (!err && is_final(peer->last_err))
        return haul_fail_with(peer->last_err, peer->last_why);
    if (err == HAUL_TIMEOUT) {
        haul_copy_text(why, sizeof why, peer->last_err ? peer->last_why : "it does not answer");
        bool asks = strchr(why, '?') != NULL;
        return haul_fail(HAUL_UNREACHABLE, "no connection to %.100s in %.1f s: %.250s%s",
                         peer->address, (double)timeout_ns / HAUL_NS_PER_S, why,
                         asks ? "" : ". Is a haul server listening there?");
    }
    return err ? haul_fail_with(err, "") : 0;
}

static int connect_to(struct haul_engine *engine, const char *address, int64_t timeout_ns,
                      struct haul_peer **made)
{
    struct haul_transport *transport = &engine->transports[0];
    struct haul_address parsed;
    void *route;
    int err = haul_address_parse(address, &parsed);
    if (!err)
        err = transport->provider->channel->resolve(transport->channel, &parsed, false, &route);
    if (err)
        return err;
    err = haul_engine_enter_open(engine);
    if (err) {
        transport->provider->channel->route_free(route);
        return err;
    }
    struct haul_peer *peer = haul_peer_create(engine, parsed.text);
    if (!peer) {
        transport->provider->channel->route_free(route);
        haul_engine_leave(engine);
        return haul_fail(HAUL_NO_MEMORY, "no memory for a peer");
    }
    peer->route = route;
    peer->dials = true;
    haul_list_append(&engine->peers, &peer->node);
    haul_link_dial(peer);
    err = wait_connected(peer, timeout_ns);
    if (err) {
        char detail[HAUL_DETAIL_MAX];
        haul_copy_text(detail, sizeof detail, haul_error_detail());
        haul_peer_shut(peer, "connecting was given up");
        haul_peer_unreference(peer);
        haul_fail_with(err, detail);
    } else {
        atomic_store(&peer->users, 1);
        *made = peer;
    }
    haul_engine_leave(engine);
    return err;
}

int haul_connect(struct haul_context *context, const char *address, int64_t timeout_ns,
                 struct haul_peer **made)
{
    struct haul_engine *engine = haul_context_engine(context);
    if (engine->inherited)
        return haul_engine_enter(engine);
    haul_engine_retain(engine); /* the context may be closed meanwhile */
    int err = connect_to(engine, address, timeout_ns, made);
    haul_engine_release(engine);
    return err;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static int run(struct haul_peer *peer, struct haul_dict *dict, enum haul_op_kind kind,
               int64_t timeout_ns, struct haul_message **reply)
{
    struct haul_op *op;
    int err = haul_engine_enter(peer->engine);
    if (err)
        return err;
    err = haul_op_create(peer, dict, kind, &op);
    if (!err) {
        haul_transmit_start(op);
        err = haul_op_complete(op, timeout_ns, reply);
    }
    haul_engine_leave(peer->engine);
    return err;
}

static int begin(struct haul_peer *peer, struct haul_dict *dict, enum haul_op_kind kind,
                 struct haul_op **op)
{
    int err = haul_engine_enter(peer->engine);
    if (err)
        return err;
    err = haul_op_create(peer, dict, kind, op);
    if (!err) {
        (*op)->collected = false;
        haul_transmit_start(*op);
    }
    haul_engine_leave(peer->engine);
    return err;
}

int haul_send(struct haul_peer *peer, struct haul_dict *dict, int64_t timeout_ns)
{
    return run(peer, dict, HAUL_OP_SEND, timeout_ns, NULL);
}

int haul_send_async(struct haul_peer *peer, struct haul_dict *dict, struct haul_op **op)
{
    return begin(peer, dict, HAUL_OP_SEND, op);
}

int haul_call(struct haul_peer *peer, struct haul_dict *dict, struct haul_message **reply,
              int64_t timeout_ns)
{
    return run(peer, dict, HAUL_OP_CALL, timeout_ns, reply);
}

int haul_call_async(struct haul_peer *peer, struct haul_dict *dict, struct haul_op **op)
{
    return begin(peer, dict, HAUL_OP_CALL, op);
}

static int check_receives(const struct haul_peer *peer)
{
    return peer->dials
               ? 0
               : haul_fail(HAUL_INVALID, "%s is a server's peer: its messages come to haul_recv()",
                           peer->address);
}

int haul_peer_recv(struct haul_peer *peer, struct haul_message **message, int64_t timeout_ns)
{
    int err = check_receives(peer);
    if (!err)
        err = haul_engine_enter(peer->engine);
    if (err)
        return err;
    haul_place_by(&peer->inbox, HAUL_PLACE_POOL);
    err = haul_inbox_receive(&peer->inbox, timeout_ns, message);
    haul_engine_leave(peer->engine);
    return err;
}

int haul_peer_fd(struct haul_peer *peer)
{
    int err = check_receives(peer);
    return err ? err : haul_inbox_fd(&peer->inbox);
}

/* ---- Facts ----------------------------------------------------------------------------------- */

uint64_t haul_peer_id(const struct haul_peer *peer)
{
    return peer->id;
}

const char *haul_peer_address(const struct haul_peer *peer)
{
    return peer->address;
}

int haul_peer_path(const struct haul_peer *peer, char *path, size_t path_size, char *why,
                   size_t why_size)
{
    int err = haul_engine_enter(peer->engine);
    if (err)
        return err;
    snprintf(path, path_size, "%s", peer->path);
    snprintf(why, why_size, "%s", peer->why);
    haul_engine_leave(peer->engine);
    return 0;
}

bool haul_peer_connected(const struct haul_peer *peer)
{
    if (haul_engine_enter(peer->engine))
        return false;
    bool connected = peer->link && haul_link_is_open(peer->link);
    haul_engine_leave(peer->engine);
    return connected;
}

void haul_peer_stats(const struct haul_peer *peer, struct haul_stats *stats)
{
    *stats = (struct haul_stats){0};
    if (haul_engine_enter(peer->engine))
        return;
    *stats = peer->stats;
    haul_engine_leave(peer->engine);
}
