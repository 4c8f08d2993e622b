/* SPDX-License-Identifier: Apache-2.0
 * Golden frames for the tests of this folder. */
#include "frames.h"
#include "wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint8_t *frame_copy(const uint8_t *frame, size_t bytes)
{
    uint8_t *copy = malloc(bytes);
    assert_non_null(copy);
    return memcpy(copy, frame, bytes);
}

uint8_t *frame_load(const char *name, size_t *bytes)
{
    uint8_t buffer[4096];
    char path[256];
    snprintf(path, sizeof(path), "golden/%s.bin", name);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be opened: run this test in tests/wire", path);
    *bytes = fread(buffer, 1, sizeof(buffer), file);
    fclose(file);
    assert_in_range(*bytes, HAUL_PREFIX_BYTES, sizeof(buffer) - 1);
    return frame_copy(buffer, *bytes);
}

int frame_decode(const uint8_t *frame, size_t bytes)
{
    struct haul_manifest manifest = {0};
    struct haul_wire_control control;
    struct haul_wire_hello hello;
    uint8_t type = bytes > 0 ? haul_prefix_type(frame) : 0;
    if (type == HAUL_FRAME_HELLO || type == HAUL_FRAME_WELCOME)
        return haul_hello_decode(&hello, frame, bytes);
    if (type != HAUL_FRAME_MESSAGE)
        return haul_control_decode(&control, frame, bytes);
    int err = haul_manifest_decode(&manifest, frame, bytes, UINT64_MAX);
    haul_manifest_clear(&manifest);
    return err;
}
