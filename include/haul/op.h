/* SPDX-License-Identifier: Apache-2.0
 * haul/op.h: an op is a send or a call under way. */
#ifndef HAUL_OP_H
#define HAUL_OP_H

#include <haul/dict.h>

#ifdef __cplusplus
extern "C" {
#endif

struct haul_op;
struct haul_message;

/* An op finishes exactly once. A send has finished when the receiver holds the whole message, a
 * call when its reply is here; then the arrays are the caller's again. The caller owns the op and
 * releases it. Any thread. */

/* Waits for the end; returns the op's result, or HAUL_TIMEOUT or HAUL_INTERRUPTED, which leave the
 * op under way. On failure haul_error_detail() is the op's sentence. */
HAUL_API int haul_op_wait(struct haul_op *op, int64_t timeout_ns);
/* The op's result, or HAUL_BUSY while it is under way. Does not wait. */
HAUL_API int haul_op_test(struct haul_op *op);
/* Takes the reply of a finished call (once). Errors: HAUL_BUSY, the op's error, HAUL_NOT_FOUND (no
 * call, or the reply was taken). */
HAUL_API int haul_op_reply(struct haul_op *op, struct haul_message **reply);
/* Asks for an early end with HAUL_CANCELLED. The op may finish at once, later (memory that a NIC or
 * a library still reads comes back only when they are done), or as if not cancelled. */
HAUL_API void haul_op_cancel(struct haul_op *op);
/* Gives up the handle; an op under way goes on by itself. An untaken reply is released. */
HAUL_API void haul_op_release(struct haul_op *op);

#ifdef __cplusplus
}
#endif
#endif
