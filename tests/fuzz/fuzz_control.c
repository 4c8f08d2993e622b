/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the decoders of handshake and control frames: no crash, and what they accept survives
 * encode and decode. */
#include "utf8.h"
#include "util.h"
#include "wire.h"
#include <stdlib.h>

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void decode_hello(const uint8_t *frame, size_t bytes)
{
    static struct haul_wire_hello hello, again;
    static uint8_t encoded[HAUL_WIRE_HELLO_ENCODED_MAX], twice[HAUL_WIRE_HELLO_ENCODED_MAX];
    if (haul_hello_decode(&hello, frame, bytes) != 0)
        return;
    enum haul_frame_type type = haul_prefix_type(frame);
    require(hello.version == HAUL_WIRE_VERSION && hello.rma_count <= HAUL_WIRE_RMA_MAX);
    require(haul_utf8_printable(hello.why, strlen(hello.why)));
    size_t encoded_bytes = haul_hello_encode(&hello, type, encoded);
    require(encoded_bytes <= sizeof(encoded));
    require(haul_hello_decode(&again, encoded, encoded_bytes) == 0);
    require(haul_hello_encode(&again, type, twice) == encoded_bytes);
    require(memcmp(encoded, twice, encoded_bytes) == 0);
}

static void decode_control(const uint8_t *frame, size_t bytes)
{
    struct haul_wire_control control, again;
    uint8_t encoded[HAUL_WIRE_CONTROL_ENCODED_MAX], twice[HAUL_WIRE_CONTROL_ENCODED_MAX];
    if (haul_control_decode(&control, frame, bytes) != 0)
        return;
    require(haul_utf8_printable(control.sentence, strlen(control.sentence)));
    size_t encoded_bytes = haul_control_encode(&control, encoded);
    require(encoded_bytes <= sizeof(encoded));
    require(haul_control_decode(&again, encoded, encoded_bytes) == 0);
    require(haul_control_encode(&again, twice) == encoded_bytes);
    require(memcmp(encoded, twice, encoded_bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    uint8_t *frame = malloc(bytes); /* of exactly the size */
    require(frame != NULL);
    memcpy(frame, data, bytes);
    decode_hello(frame, bytes);
    decode_control(frame, bytes);
    if (bytes >= HAUL_PREFIX_BYTES) { /* once more with a prefix that fits, to get beyond it */
        haul_put_u32(frame + 4, (uint32_t)(bytes - HAUL_PREFIX_BYTES));
        decode_hello(frame, bytes);
        decode_control(frame, bytes);
    }
    free(frame);
    return 0;
}
