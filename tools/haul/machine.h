/* SPDX-License-Identifier: Apache-2.0
 * A machine as `haul info` shows it: a picture for people, an object for scripts. */
#ifndef HAUL_TOOL_MACHINE_H
#define HAUL_TOOL_MACHINE_H

#include <haul/haul.h>
#include <jansson.h>

/* Where haul would work, and what is near to what. */
void haul_machine_draw(const struct haul_machine *machine);
/* All that is known. The caller owns it. */
json_t *haul_machine_json(const struct haul_machine *machine);

#endif
