/* SPDX-License-Identifier: Apache-2.0
 * Golden frames for the tests of this folder. */
#ifndef HAUL_TESTS_WIRE_FRAMES_H
#define HAUL_TESTS_WIRE_FRAMES_H

#include <stddef.h>
#include <stdint.h>

/* Reads golden/<name>.bin into memory of exactly its size, so that a sanitizer sees reads beyond
 * it; fails the test if that is not possible. The caller frees it. */
uint8_t *frame_load(const char *name, size_t *bytes);
/* A copy of exactly `bytes` bytes; the caller frees it. */
uint8_t *frame_copy(const uint8_t *frame, size_t bytes);

/* Decodes a frame with the decoder of its type and forgets what it said. */
int frame_decode(const uint8_t *frame, size_t bytes);

#endif
