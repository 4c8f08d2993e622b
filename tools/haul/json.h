/* SPDX-License-Identifier: Apache-2.0
 * What the command's JSON has in common. */
#ifndef HAUL_TOOL_JSON_H
#define HAUL_TOOL_JSON_H

#include <jansson.h>

/* The text as a string; NULL: null. A path, a variable or a line cut in the middle may be no UTF-8,
 * and so no JSON: then all that is not ASCII in it is '?'. */
json_t *haul_json_text(const char *text);

#endif
