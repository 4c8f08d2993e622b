/* SPDX-License-Identifier: Apache-2.0
 * haul/peer.h: the other side of a connection: what haul_connect() makes, or a server's client. */
#ifndef HAUL_PEER_H
#define HAUL_PEER_H

#include <haul/op.h>
#include <haul/stats.h>

#ifdef __cplusplus
extern "C" {
#endif

struct haul_peer;

/* Connects to a server, waiting up to timeout_ns for it to come up. Addresses: host:port,
 * [v6]:port, :port (this host), unix:/path; a leading tcp:// is accepted. The caller owns the peer
 * and releases it. When the connection is lost later, ops under way fail with HAUL_PEER_LOST and
 * haul redials with growing pauses; the next send waits for that within its own timeout. Nothing is
 * sent twice. Errors: HAUL_ADDRESS (cannot be parsed, host not found), HAUL_UNREACHABLE (nobody
 * answered in time; the detail says what the last try met), HAUL_VERSION, HAUL_PROVIDER (no common
 * path). */
HAUL_API int haul_connect(struct haul_context *context, const char *address, int64_t timeout_ns,
                          struct haul_peer **peer);

/* Sends the dict; returns when the receiver holds all of it. A server that has not received or
 * asked for a descriptor yet, or whose last receive named memory, takes a message with its next
 * receive: who sends to a server of the same thread uses haul_send_async(). On HAUL_TIMEOUT and
 * HAUL_INTERRUPTED the send was cancelled and the arrays are the caller's again; the receiver has
 * the message whole or not at all. HAUL_BORROWED: the time ran out, but the provider cannot give
 * the arrays back yet (zmq): see haul_dict_wait(). HAUL_BUSY, also of the functions below: the dict
 * is being received into. */
HAUL_API int haul_send(struct haul_peer *peer, struct haul_dict *dict, int64_t timeout_ns);
/* Starts a send. Never waits. */
HAUL_API int haul_send_async(struct haul_peer *peer, struct haul_dict *dict, struct haul_op **op);

/* Sends the dict and waits for the reply, which the caller releases. */
HAUL_API int haul_call(struct haul_peer *peer, struct haul_dict *dict, struct haul_message **reply,
                       int64_t timeout_ns);
/* Starts a call: haul_op_wait(), then haul_op_reply(). Never waits. */
HAUL_API int haul_call_async(struct haul_peer *peer, struct haul_dict *dict, struct haul_op **op);

/* Receives the next message that the other side sent by itself (not a reply). For peers made by
 * haul_connect(); those of a server arrive at haul_recv(). */
HAUL_API int haul_peer_recv(struct haul_peer *peer, struct haul_message **message,
                            int64_t timeout_ns);

/* A descriptor that is readable as long as a message waits for haul_peer_recv(), or the peer is
 * closed; as haul_context_fd() otherwise. */
HAUL_API int haul_peer_fd(struct haul_peer *peer);

/* A number that no other peer of the context has, now or later; a peer that reconnects to a server
 * is a new peer there. */
HAUL_API uint64_t haul_peer_id(const struct haul_peer *peer);
/* "127.0.0.1:40312": as addressed or accepted. Lives as long as the peer. */
HAUL_API const char *haul_peer_address(const struct haul_peer *peer);
/* The path in use, "tcp" or "tcp+ofi:verbs", copied to text (at most size bytes with the NUL); and
 * why better ones were refused ("" if none was better). Returns 0 or HAUL_FORKED. */
HAUL_API int haul_peer_path(const struct haul_peer *peer, char *path, size_t path_size, char *why,
                            size_t why_size);
/* Whether there is a connection now. */
HAUL_API bool haul_peer_connected(const struct haul_peer *peer);
/* What was counted since it was made, over all its connections. Any thread. */
HAUL_API void haul_peer_stats(const struct haul_peer *peer, struct haul_stats *stats);

/* Another reference to a peer, for one that came with a message or from haul_server_peers(). */
HAUL_API struct haul_peer *haul_peer_retain(struct haul_peer *peer);
/* Gives up a reference. The last one of a peer made by haul_connect() disconnects it; ops under way
 * fail with HAUL_CLOSED. */
HAUL_API void haul_peer_release(struct haul_peer *peer);
/* Cuts the connection now: its ops fail with HAUL_CLOSED. There is no redial after it. */
HAUL_API void haul_peer_disconnect(struct haul_peer *peer);

#ifdef __cplusplus
}
#endif
#endif
