/* SPDX-License-Identifier: Apache-2.0
 * haul/error.h: what can go wrong, grouped by what is lost. */
#ifndef HAUL_ERROR_H
#define HAUL_ERROR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAUL_API __attribute__((visibility("default")))

/* X(NAME, value, sentence). A call returns 0 or one of these (all negative). */
#define HAUL_ERRORS(X)                                                                  \
    /* The call is lost; nothing else has changed. */                                   \
    X(HAUL_INVALID, -1, "an argument is not valid")                                     \
    X(HAUL_TIMEOUT, -2, "the time ran out")                                             \
    X(HAUL_INTERRUPTED, -3, "a signal ended the wait")                                  \
    X(HAUL_BUSY, -4, "it is still in use")                                              \
    X(HAUL_NO_MEMORY, -5, "there is not enough memory")                                 \
    X(HAUL_NOT_FOUND, -6, "there is nothing of that name")                              \
    X(HAUL_FORKED, -8, "this handle was made before fork() and is its parent's")        \
    X(HAUL_UNSUPPORTED, -9, "this provider or machine cannot do that")                  \
    /* The op is lost: its message was not delivered; the peer is still there. */       \
    X(HAUL_REFUSED, -20, "the receiver refused the message")                            \
    X(HAUL_TOO_LARGE, -21, "the message is larger than the receiver takes")             \
    X(HAUL_CANCELLED, -22, "the op was cancelled")                                      \
    X(HAUL_NO_REPLY, -23, "the receiver released the message without a reply")          \
    X(HAUL_BORROWED, -24, "the time ran out while the provider still holds the arrays") \
    /* The peer is lost: all its ops fail; the other peers go on. */                    \
    X(HAUL_PEER_LOST, -40, "the connection to the peer is gone")                        \
    X(HAUL_UNREACHABLE, -41, "the peer cannot be reached")                              \
    X(HAUL_VERSION, -42, "the peer speaks another version of the protocol")             \
    X(HAUL_PROTOCOL, -43, "the peer broke the protocol")                                \
    X(HAUL_ADDRESS, -44, "the address cannot be used")                                  \
    /* The context is lost, or could not be made. */                                    \
    X(HAUL_PROVIDER, -60, "the provider cannot be used")                                \
    X(HAUL_CONFIG, -61, "a setting is not valid")                                       \
    X(HAUL_SYSTEM, -62, "the system refused a call")                                    \
    X(HAUL_CLOSED, -63, "it was closed")

enum haul_err {
    HAUL_OK = 0,
#define HAUL_ERROR_ENUM(name, value, sentence) name = value,
    HAUL_ERRORS(HAUL_ERROR_ENUM)
#undef HAUL_ERROR_ENUM
};

/* A timeout_ns that never ends. Every timeout is relative, in nanoseconds; 0 means "do not wait".
 */
#define HAUL_FOREVER INT64_MAX

/* The name of an error ("HAUL_TIMEOUT"); "HAUL_OK" for 0. Never NULL, static. */
HAUL_API const char *haul_error_name(int err);

/* The general sentence of an error. Never NULL, static. */
HAUL_API const char *haul_error_sentence(int err);

/* What happened in the calling thread's last call that failed: which peer or file, why, and what to
 * do about it. Belongs to the thread, valid until its next haul call that fails. Never NULL. */
HAUL_API const char *haul_error_detail(void);

#ifdef __cplusplus
}
#endif
#endif
