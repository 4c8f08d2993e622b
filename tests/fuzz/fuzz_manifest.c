/* SPDX-License-Identifier: Apache-2.0
 * Fuzzes the decoder of MESSAGE frames: no crash, and what it accepts survives a round trip. */
#include "util.h"
#include "wire.h"
#include <stdlib.h>

static void require(bool condition)
{
    if (!condition)
        abort();
}

static uint8_t *encode(struct haul_manifest *manifest, size_t *bytes)
{
    *bytes = haul_manifest_encoded_bytes(manifest);
    uint8_t *frame = malloc(*bytes);
    require(frame != NULL);
    haul_manifest_encode(manifest, frame);
    return frame;
}

static void require_same_arrays(const struct haul_manifest *a, const struct haul_manifest *b)
{
    require(a->seq == b->seq && a->reply_to == b->reply_to && a->flags == b->flags);
    require(a->inline_bytes == b->inline_bytes && a->offered_bytes == b->offered_bytes);
    require(a->count == b->count);
    for (uint32_t i = 0; i < a->count; i++) {
        const struct haul_manifest_array *one = &a->arrays[i], *other = &b->arrays[i];
        require(strcmp(one->array.key, other->array.key) == 0);
        require(haul_array_same_type(&one->array, &other->array));
        require(one->array.nbytes == other->array.nbytes && one->offered == other->offered);
        require(one->way_bytes == other->way_bytes &&
                memcmp(one->way, other->way, one->way_bytes) == 0);
    }
}

/* `again` is reused for all inputs, as a connection does; the other manifest is always new, so that
 * a sanitizer sees writes beyond what this input needs. */
static void decode(const uint8_t *frame, size_t bytes)
{
    static struct haul_manifest again;
    struct haul_manifest manifest = {0};
    if (haul_manifest_decode(&manifest, frame, bytes, UINT64_MAX) == 0) {
        size_t encoded_bytes;
        uint8_t *encoded = encode(&manifest, &encoded_bytes);
        require(haul_manifest_decode(&again, encoded, encoded_bytes, UINT64_MAX) == 0);
        require_same_arrays(&manifest, &again);
        free(encoded);
    } else {
        require(manifest.count == 0);
    }
    haul_manifest_clear(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    uint8_t *frame = malloc(bytes); /* of exactly the size */
    require(frame != NULL);
    memcpy(frame, data, bytes);
    decode(frame, bytes);
    if (bytes >= HAUL_PREFIX_BYTES) { /* once more with a prefix that fits, to get beyond it */
        frame[0] = HAUL_FRAME_MESSAGE;
        haul_put_u32(frame + 4, (uint32_t)(bytes - HAUL_PREFIX_BYTES));
        decode(frame, bytes);
    }
    free(frame);
    return 0;
}
