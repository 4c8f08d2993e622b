/* SPDX-License-Identifier: Apache-2.0
 * What core does for providers that open NICs, one or several: chooses them, says which are near a
 * piece of memory, and starts threads near them. The functions are those of struct haul_host with
 * the same names; all under the drive lock. */
#ifndef HAUL_CORE_RAIL_H
#define HAUL_CORE_RAIL_H

#include <haul/provider.h>

size_t haul_rails_choose(struct haul_engine *engine, const struct haul_candidate *candidates,
                         size_t count, size_t *chosen, size_t max);
unsigned haul_rails_near(struct haul_engine *engine, const void *memory);
int haul_rails_thread_start(struct haul_engine *engine, size_t nic, void (*run)(void *arg),
                            void *arg, struct haul_thread **thread);

#endif
