/* SPDX-License-Identifier: Apache-2.0
 * The .npy files that `haul send` sends, mapped into memory. */
#ifndef HAUL_TOOL_SOURCE_H
#define HAUL_TOOL_SOURCE_H

#include <haul/haul.h>

struct haul_sources;

/* Maps and checks all files. Returns 0, or an exit code after the error is reported. */
int haul_sources_open(char *const *paths, size_t count, struct haul_sources **sources);
/* Puts an array for each file into the dict, which borrows the mapped memory. As open. */
int haul_sources_put(const struct haul_sources *sources, struct haul_dict *dict);
/* Bytes of all arrays. */
uint64_t haul_sources_bytes(const struct haul_sources *sources);
void haul_sources_close(struct haul_sources *sources);

#endif
