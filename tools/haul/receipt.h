/* SPDX-License-Identifier: Apache-2.0
 * The answer of `haul recv` to `haul send`: the dict {"ok": bool, "error": u8[n], UTF-8}. */
#ifndef HAUL_TOOL_RECEIPT_H
#define HAUL_TOOL_RECEIPT_H

#include <haul/haul.h>

/* Answers a message whose sender waits: `error` NULL if all of it is stored, else why not.
 * Returns 0 or a haul error. */
int haul_receipt_give(struct haul_context *context, struct haul_message *message,
                      const char *error);

/* Whether the receiver took the message; else error gets its sentence. Any reply of a program that
 * is not `haul recv` counts as yes. */
bool haul_receipt_read(const struct haul_message *reply, char *error, size_t size);

#endif
