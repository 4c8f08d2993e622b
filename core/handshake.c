/* SPDX-License-Identifier: Apache-2.0
 * The handshake: versions, limits, first credits, and the choice of an rma path.
 *
 *   client                                   server
 *   HELLO (all its rma providers)  ------->  attaches to the best one that both have, reads the
 *                                            client's nonce through it to prove it
 *   attaches, proves it likewise   <-------  WELCOME (the one chosen, or none, and why)
 *   open                                     open
 *
 * A client whose own proof fails uses the channel and says why. One that insists on a provider
 * (rma_required) gives up with the reason. The server may send as soon as it has sent its WELCOME,
 * so a client that is still proving takes messages already. */
#include "handles.h"
#include "link.h"
#include "receiving.h"
#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static const char *address_of(const struct haul_link *link)
{
    return link->peer->address;
}

/* One more path that was refused, and why. */
static void add_reason(struct haul_peer *peer, const struct haul_transport *transport,
                       const char *reason)
{
    haul_append_text(peer->why, sizeof peer->why, "%s%s: %s", *peer->why ? "; " : "",
                     transport->name, reason);
}

static void describe_rma(struct haul_link *link, struct haul_transport *transport,
                         struct haul_wire_hello *hello)
{
    const struct haul_rma_ops *ops = transport->provider->rma;
    struct haul_block *block = link->lease;
    struct haul_wire_rma *rma = &hello->rma[hello->rma_count];
    size_t address_bytes = sizeof rma->address, probe_bytes = sizeof rma->probe;
    void *region = block ? haul_slab_regions(block->slab)[transport->slot] : NULL;
    const char *why = NULL;
    if (!region)
        why = block ? transport->unregistered : "there is no memory for what proves it";
    if (region && (ops->address(transport->rma, link, rma->address, &address_bytes) ||
                   ops->offer(region, block->data, sizeof link->nonce, rma->probe, &probe_bytes)))
        why = haul_error_detail();
    if (why) {
        add_reason(link->peer, transport, why);
        return;
    }
    haul_copy_text(rma->name, sizeof rma->name, transport->name);
    rma->address_bytes = (uint16_t)address_bytes;
    rma->probe_bytes = (uint8_t)probe_bytes;
    hello->rma_count++;
}

static bool has_rma(const struct haul_engine *engine)
{
    for (unsigned i = 0; i < engine->transport_count; i++)
        if (engine->transports[i].rma)
            return true;
    return false;
}

/* Puts the nonce of this connection where its peer can read it. Without memory for it there is
 * none, and so no path by rma. */
static int begin_lease(struct haul_link *link)
{
    if (getrandom(&link->nonce, sizeof link->nonce, 0) != sizeof link->nonce)
        return haul_fail(HAUL_SYSTEM, "getrandom: %s", strerror(errno));
    if (has_rma(link->engine) && !haul_pool_alloc(link->engine->offers, sizeof link->nonce,
                                                  HAUL_POOL_RESERVED, &link->lease))
        memcpy(link->lease->data, &link->nonce, sizeof link->nonce);
    return 0;
}

void haul_handshake_end_lease(struct haul_link *link)
{
    if (link->lease)
        atomic_store((atomic_uint_fast64_t *)link->lease->data, 0); /* (blocks are aligned) */
}

static int send_hello(struct haul_link *link, enum haul_frame_type type,
                      struct haul_transport *only, const char *why)
{
    struct haul_engine *engine = link->engine;
    int err = begin_lease(link);
    if (err)
        return err;
    struct haul_wire_hello *hello = calloc(1, sizeof *hello);
    uint8_t *frame = malloc(HAUL_WIRE_HELLO_ENCODED_MAX);
    if (!hello || !frame) {
        free(hello);
        free(frame);
        return haul_fail(HAUL_NO_MEMORY, "no memory for the handshake with %s", address_of(link));
    }
    hello->version = HAUL_WIRE_VERSION;
    hello->nonce = link->nonce;
    hello->pid = (uint64_t)getpid();
    hello->message_max = engine->config.message_max;
    hello->credit_messages = link->granted_messages;
    hello->credit_bytes = link->granted_bytes;
    hello->heartbeat_ns = engine->config.heartbeat_ns;
    for (unsigned i = 0; i < engine->transport_count; i++) {
        struct haul_transport *transport = &engine->transports[i];
        if (transport->rma && (type == HAUL_FRAME_HELLO || transport == only) &&
            hello->rma_count < HAUL_WIRE_RMA_MAX)
            describe_rma(link, transport, hello);
    }
    haul_copy_text(hello->why, sizeof hello->why, why); /* (a provider may just have said it) */
    size_t bytes = haul_hello_encode(hello, type, frame);
    link->transport->provider->channel->send(link->conn, frame, bytes, NULL, 0, NULL);
    free(hello);
    free(frame);
    return 0;
}

int haul_handshake_start(struct haul_link *link)
{
    haul_credit_open(link);
    link->peer->why[0] = '\0'; /* of an earlier connection */
    return send_hello(link, HAUL_FRAME_HELLO, NULL, "");
}

/* ---- The rma path ---------------------------------------------------------------------------- */

/* Attaches to the first provider of `hello` that we have, in our order of preference, and that
 * either proves itself at once or has begun to (link->probing). Without one, link->peer->why says
 * why. */
static void try_rma(struct haul_link *link, const struct haul_wire_hello *hello)
{
    struct haul_engine *engine = link->engine;
    struct haul_peer *peer = link->peer;
    link->choosing = true;
    for (unsigned i = 0; i < engine->transport_count && !link->rma; i++) {
        struct haul_transport *transport = &engine->transports[i];
        const struct haul_wire_rma *rma = NULL;
        for (unsigned k = 0; k < hello->rma_count && transport->rma; k++)
            if (!strcmp(hello->rma[k].name, transport->name))
                rma = &hello->rma[k];
        if (!rma)
            continue;
        int err = transport->provider->rma->attach(transport->rma, rma->address, rma->address_bytes,
                                                   link, &link->rma_peer);
        if (!err) {
            link->rma = transport;
            err = haul_reads_probe(link, rma);
        }
        if (err) {
            add_reason(peer, transport, haul_error_detail());
            haul_handshake_undo(link);
        }
    }
    link->choosing = false;
}

void haul_handshake_undo(struct haul_link *link)
{
    if (link->rma_peer)
        link->rma->provider->rma->detach(link->rma_peer);
    link->rma_peer = NULL;
    link->rma = NULL;
}

static int open_link(struct haul_link *link)
{
    struct haul_engine *engine = link->engine;
    struct haul_peer *peer = link->peer;
    int err = link->server ? send_hello(link, HAUL_FRAME_WELCOME, link->rma, peer->why) : 0;
    if (err)
        return err;
    if (!link->server && !link->rma && !*peer->why && has_rma(engine))
        snprintf(peer->why, sizeof peer->why, "the server shares no rma provider with this side");
    if (!link->server && engine->rma_required && !link->rma)
        return haul_fail(HAUL_PROVIDER, "no common path with provider %s: %s",
                         engine->config.provider, peer->why);
    snprintf(peer->path, sizeof peer->path, "%s%s%s", link->transport->name, link->rma ? "+" : "",
             link->rma ? link->rma->name : "");
    if (*peer->why)
        haul_log(HAUL_LOG_INFO, "%s: path %s, because %s", peer->address, peer->path, peer->why);
    link->state = HAUL_LINK_OPEN;
    haul_link_opened(link);
    return 0;
}

void haul_handshake_probed(struct haul_link *link, int err)
{
    link->probing = false;
    if (link->state == HAUL_LINK_LOST)
        return;
    if (err) {
        char reason[HAUL_DETAIL_MAX];
        snprintf(reason, sizeof reason, "the proving read failed: %s",
                 err == HAUL_CANCELLED ? "it did not end in time" : haul_error_sentence(err));
        add_reason(link->peer, link->rma, reason);
        haul_handshake_undo(link);
    }
    if (link->choosing)
        return; /* it has ended inside read(): try_rma() sees by link->rma how */
    err = open_link(link);
    if (err)
        haul_link_bye(link, err, haul_error_detail());
}

/* ---- Frames ---------------------------------------------------------------------------------- */

/* Why the server refused paths, after our own reasons: "here" and "there" in it are the server's.
 */
static void take_why(struct haul_peer *peer, const char *why)
{
    if (*why)
        haul_append_text(peer->why, sizeof peer->why,
                         "%sthe server says: ", *peer->why ? "; " : "");
    size_t used = strlen(peer->why);
    haul_utf8_clean(peer->why + used, sizeof peer->why - used, why, strlen(why));
}

/* Whether a greeting is one of our own that was sent back to us: it names our memory, and reads of
 * that would prove it. (What our servers say to our clients, and they to them, is no such one.) */
static bool is_reflected(const struct haul_link *link, uint64_t nonce)
{
    HAUL_LIST_EACH(&link->engine->links, node)
    {
        const struct haul_link *own = HAUL_CONTAINER_OF(node, const struct haul_link, node);
        if (own->nonce == nonce && !own->server == !link->server)
            return true;
    }
    return false;
}

static int take_hello(struct haul_link *link, const struct haul_wire_hello *hello)
{
    if (hello->nonce == 0) /* what a lease that has ended reads as */
        return haul_fail(HAUL_PROTOCOL, "a greeting with the nonce 0");
    if (is_reflected(link, hello->nonce))
        return haul_fail(HAUL_PROTOCOL, "the greeting is our own, sent back to us");
    link->peer_nonce = hello->nonce;
    link->message_max = hello->message_max;
    link->window_messages = link->credit_messages = hello->credit_messages;
    link->credit_bytes = hello->credit_bytes;
    if (!link->server)
        take_why(link->peer, hello->why);
    haul_log(HAUL_LOG_DEBUG, "%s: process %llu, which asks after %.3g s of silence (0: never)",
             address_of(link), (unsigned long long)hello->pid,
             (double)hello->heartbeat_ns / (double)HAUL_NS_PER_S);
    try_rma(link, hello);
    return link->probing ? 0 : open_link(link);
}

int haul_handshake_frame(struct haul_link *link, const uint8_t *header, size_t header_bytes)
{
    uint8_t type = haul_prefix_type(header);
    if (type == HAUL_FRAME_BYE) {
        struct haul_wire_control bye;
        int err = haul_control_decode(&bye, header, header_bytes);
        if (err)
            return err;
        err = bye.err == HAUL_VERSION || bye.err == HAUL_PROVIDER ? bye.err : HAUL_UNREACHABLE;
        haul_link_lose(link, err, "%s refused the connection: %s", address_of(link), bye.sentence);
        return err;
    }
    if (link->probing || type != (link->server ? HAUL_FRAME_HELLO : HAUL_FRAME_WELCOME))
        return haul_fail(HAUL_PROTOCOL, "a frame that does not belong to the handshake");
    struct haul_wire_hello *hello = calloc(1, sizeof *hello);
    if (!hello)
        return haul_fail(HAUL_NO_MEMORY, "no memory for the handshake");
    if (link->server)
        haul_credit_open(link);
    int err = haul_hello_decode(hello, header, header_bytes);
    if (!err)
        err = take_hello(link, hello);
    free(hello);
    return err;
}
