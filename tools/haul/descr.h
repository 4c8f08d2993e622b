/* SPDX-License-Identifier: Apache-2.0
 * NumPy's dtype descriptions, as .npy headers ("'descr': ...") and HAUL_OTHER arrays hold them. */
#ifndef HAUL_TOOL_DESCR_H
#define HAUL_TOOL_DESCR_H

#include "literal.h"

#include <haul/dict.h>

struct haul_descr {
    uint32_t dtype; /* enum haul_dtype */
    uint32_t itemsize;
    const char *text; /* HAUL_OTHER: the description, a part of what was parsed; else NULL */
    size_t text_bytes;
};

/* Takes a description from the cursor: '<f4' in quotes, or [('x', '<f4'), ('y', '<i2', (2, 3))]
 * with fields that may nest and have titles. Big-endian numbers and everything that is not one of
 * haul's own dtypes become HAUL_OTHER. Returns NULL, or why it is none that haul carries. */
const char *haul_descr_take(struct haul_literal *literal, struct haul_descr *descr);

/* Checks the description of a HAUL_OTHER array, which may come from another machine: <M8[ns]
 * without quotes, or a list. Returns NULL, or why not. */
const char *haul_descr_check(const char *description, uint32_t itemsize);

/* NumPy's name of one of haul's own dtypes: "<f4"; NULL for HAUL_OTHER. bf16, which NumPy does not
 * know, is "<V2", as its package ml_dtypes saves it. */
const char *haul_descr_of(uint32_t dtype);

#endif
