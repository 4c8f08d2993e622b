/* SPDX-License-Identifier: Apache-2.0
 * haul/server.h: a server listens, and receives what its peers send. */
#ifndef HAUL_SERVER_H
#define HAUL_SERVER_H

#include <haul/message.h>

#ifdef __cplusplus
extern "C" {
#endif

struct haul_server;

/* Listens. Addresses: host:port, [v6]:port, :port or *:port (all interfaces, IPv4 and IPv6), port 0
 * (a free one), unix:/path (a stale socket file is replaced); a leading tcp:// is accepted. Owned
 * by the caller. Errors: HAUL_ADDRESS (not to be parsed, in use, not this host's), HAUL_SYSTEM. */
HAUL_API int haul_listen(struct haul_context *context, const char *address,
                         struct haul_server **server);
/* The address that clients can use, with the real port. Lives as long as the server. */
HAUL_API const char *haul_server_address(const struct haul_server *server);

/* Receives the next message of any peer. Any thread; several may wait. The caller releases it.
 * Errors: HAUL_TIMEOUT, HAUL_INTERRUPTED, HAUL_CLOSED. */
HAUL_API int haul_recv(struct haul_server *server, struct haul_message **message,
                       int64_t timeout_ns);
/* Receives the next message into the arrays of `destination`, whose memory is haul's from this call
 * until it returns. A message must hold exactly its keys with their dtypes, shapes and order flags;
 * one that does not is refused to its sender with a sentence. The message's arrays point to the
 * destination's. A server whose last receive was of this kind leaves large messages with their
 * senders until the next one names memory; one that came in part when its wait ended is brought to
 * the pool at once, and copied by the next receive. Errors: as haul_recv(), HAUL_INVALID (an array
 * without data, a dict of another context), HAUL_BUSY (the destination is being sent or received
 * into), HAUL_NO_MEMORY. */
HAUL_API int haul_recv_into(struct haul_server *server, struct haul_dict *destination,
                            struct haul_message **message, int64_t timeout_ns);

/* A descriptor that is readable as long as a message waits for haul_recv(), or the server is
 * closed; as haul_context_fd() otherwise. */
HAUL_API int haul_server_fd(struct haul_server *server);

/* The peers connected now: fills at most `max`, each with a reference for haul_peer_release();
 * returns how many there are. */
HAUL_API size_t haul_server_peers(struct haul_server *server, struct haul_peer **peers, size_t max);

/* Ends it: no new peers; its peers are disconnected; waits in other threads end with HAUL_CLOSED.
 * Messages received stay valid. Any thread, any number of times. */
HAUL_API void haul_server_shutdown(struct haul_server *server);
/* The same, and the end of the handle: no other thread may begin a call with it. */
HAUL_API void haul_server_close(struct haul_server *server);

#ifdef __cplusplus
}
#endif
#endif
