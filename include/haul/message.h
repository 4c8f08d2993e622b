/* SPDX-License-Identifier: Apache-2.0
 * haul/message.h: a dict of arrays as it was received. */
#ifndef HAUL_MESSAGE_H
#define HAUL_MESSAGE_H

#include <haul/peer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The arrays live until the message is released; they may outlive server and context. Reading is
 * free for any thread; they may be written too, except those with HAUL_SHARED. */

HAUL_API size_t haul_message_count(const struct haul_message *message);
/* The i-th array in the sender's order, or NULL. */
HAUL_API const struct haul_array *haul_message_at(const struct haul_message *message, size_t index);
/* The array of that key, or NULL. */
HAUL_API const struct haul_array *haul_message_find(const struct haul_message *message,
                                                    const char *key);
/* Bytes of all arrays. */
HAUL_API uint64_t haul_message_bytes(const struct haul_message *message);
/* Who sent it. Valid until the message is released (haul_peer_retain() for longer). */
HAUL_API struct haul_peer *haul_message_peer(const struct haul_message *message);
/* Whether the sender waits for a reply (haul_call) and has none yet. */
HAUL_API bool haul_message_wants_reply(const struct haul_message *message);

/* Answers a message sent with haul_call(), once; from any thread, in any order, at any time before
 * its release. Returns when the arrays are the caller's again: as soon as the channel has taken
 * them if the reply is small (64 KiB, 32 KiB over shm), else when the caller holds all of it. A
 * reply that ends by its timeout is taken back, and the call ends with HAUL_NO_REPLY. Errors:
 * HAUL_INVALID (nobody waits for a reply, or it was given), HAUL_PEER_LOST, HAUL_TIMEOUT,
 * HAUL_BORROWED, HAUL_BUSY (the dict is being received into: the reply can be given again). */
HAUL_API int haul_reply(struct haul_message *message, struct haul_dict *dict, int64_t timeout_ns);
/* Starts a reply, whose op ends when haul_reply() would return. Never waits. */
HAUL_API int haul_reply_async(struct haul_message *message, struct haul_dict *dict,
                              struct haul_op **op);

/* Gives the memory back and the sender a credit. A message that wanted a reply and got none ends
 * its call with HAUL_NO_REPLY. */
HAUL_API void haul_message_release(struct haul_message *message);

#ifdef __cplusplus
}
#endif
#endif
