/* SPDX-License-Identifier: Apache-2.0
 * haul/haul.h: everything a user of haul needs.
 *
 * haul moves dicts of n-dimensional arrays between processes and machines. Nouns: context, server,
 * peer, dict (what is sent), message (what was received), op (a send under way), batch (rows that
 * messages fill). docs/CONTRACTS.md says who owns what and which thread may do what.
 *
 * Beside the errors that a function names, each that returns an error may return HAUL_FORKED (the
 * handle is a parent process's) and HAUL_CLOSED (its context, server or peer is closed), and each
 * that waits HAUL_TIMEOUT and HAUL_INTERRUPTED. */
#ifndef HAUL_HAUL_H
#define HAUL_HAUL_H

#define HAUL_VERSION_MAJOR 0
#define HAUL_VERSION_MINOR 1
#define HAUL_VERSION_PATCH 0

#include <haul/batch.h>
#include <haul/block.h>
#include <haul/context.h>
#include <haul/dict.h>
#include <haul/error.h>
#include <haul/machine.h>
#include <haul/message.h>
#include <haul/op.h>
#include <haul/peer.h>
#include <haul/server.h>
#include <haul/stats.h>

#endif
