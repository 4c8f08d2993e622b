/* SPDX-License-Identifier: Apache-2.0
 * A libfabric that does as it is told: rails whose reads end when a test says so, and a clock that
 * a test moves. */
#ifndef HAUL_TESTS_OFI_FABRIC_H
#define HAUL_TESTS_OFI_FABRIC_H

#include <providers/ofi/ofi.h>

struct haul_ofi *fabric_open(unsigned rails);
void fabric_close(struct haul_ofi *ofi);
/* A peer that each rail reads from. */
struct haul_ofi_peer *fabric_attach(struct haul_ofi *ofi, const char *name);
/* Starts a read of this peer's. */
void fabric_read(struct haul_ofi_peer *peer, size_t bytes);
/* The first piece that a rail has ends: 0, or libfabric's error. */
void fabric_end(struct haul_ofi_rail *rail, int error);
void fabric_pass(struct haul_ofi *ofi, uint64_t ms);

extern int fabric_close_error; /* of readers; 0: they can be closed */
extern int fabric_done_error;  /* of the read that core was told of last; -1: none */

#endif
