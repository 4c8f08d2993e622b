/* SPDX-License-Identifier: Apache-2.0
 * What all frames have in common: the prefix, and the typed records that end each body. */
#include "frame.h"
#include "error.h"
#include "utf8.h"
#include <inttypes.h>

/* What each type of frame may look like. */
static const struct {
    const char *name;
    uint8_t flags; /* those it knows */
    bool payload;
    uint32_t fixed_bytes; /* the body's least */
    uint32_t body_max;
} frames[] = {
    /* Of a HELLO only the first 8 bytes are the same in all versions; the rest is checked later. */
    [HAUL_FRAME_HELLO] = {"HELLO", 0, false, 8, HAUL_WIRE_HELLO_BODY_MAX},
    [HAUL_FRAME_WELCOME] = {"WELCOME", 0, false, 8, HAUL_WIRE_HELLO_BODY_MAX},
    [HAUL_FRAME_BYE] = {"BYE", 0, false, 8, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_MESSAGE] = {"MESSAGE", HAUL_MESSAGE_WANTS_ACK | HAUL_MESSAGE_WANTS_REPLY, true, 24,
                            HAUL_WIRE_BODY_MAX},
    [HAUL_FRAME_FETCH] = {"FETCH", 0, false, 32, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_DATA] = {"DATA", 0, true, 24, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_ACK] = {"ACK", 0, false, 16, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_CREDIT] = {"CREDIT", 0, false, 16, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_CANCEL] = {"CANCEL", 0, false, 8, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_PING] = {"PING", 0, false, 8, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_PONG] = {"PONG", 0, false, 8, HAUL_WIRE_CONTROL_BODY_MAX},
    [HAUL_FRAME_RELEASE] = {"RELEASE", 0, false, 8, HAUL_WIRE_CONTROL_BODY_MAX},
};

const char *haul_frame_name(uint8_t type)
{
    return type < HAUL_COUNT_OF(frames) ? frames[type].name : NULL;
}

size_t haul_frame_fixed_bytes(uint8_t type)
{
    return frames[type].fixed_bytes;
}

/* ---- Prefix ---------------------------------------------------------------------------------- */

void haul_prefix_encode(uint8_t *to, enum haul_frame_type type, uint8_t flags, uint32_t body_bytes,
                        uint64_t payload_bytes)
{
    to[0] = (uint8_t)type;
    to[1] = flags;
    haul_put_u16(to + 2, 0);
    haul_put_u32(to + 4, body_bytes);
    haul_put_u64(to + 8, payload_bytes);
}

int haul_prefix_check(const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    uint8_t type = haul_prefix_type(prefix);
    uint32_t body_bytes = haul_prefix_body_bytes(prefix);
    const char *name = haul_frame_name(type), *foreign = haul_prefix_foreign(prefix);
    if (foreign)
        return haul_fail(
            HAUL_PROTOCOL,
            "this looks like %s, not like a frame of haul (it begins with %02x %02x %02x %02x)",
            foreign, prefix[0], prefix[1], prefix[2], prefix[3]);
    if (haul_prefix_flags(prefix) & ~frames[type].flags)
        return haul_fail(HAUL_PROTOCOL, "a %s frame has unknown flags 0x%02x", name,
                         (unsigned)(haul_prefix_flags(prefix) & ~frames[type].flags));
    if (body_bytes > frames[type].body_max || body_bytes % 8 != 0)
        return haul_fail(HAUL_PROTOCOL,
                         "a %s frame announces a body of %" PRIu32
                         " bytes; multiples of 8 up to %" PRIu32 " are possible",
                         name, body_bytes, frames[type].body_max);
    if (!frames[type].payload && haul_prefix_payload_bytes(prefix) > 0)
        return haul_fail(HAUL_PROTOCOL, "a %s frame announces a payload, but can have none", name);
    return 0;
}

/* First bytes of what else may arrive at, or answer on, the port of a haul server. */
static const struct {
    const char *start, *looks_like;
} foreigners[] = {
    {"GET ", "an HTTP request"},     {"HEAD ", "an HTTP request"},
    {"POST ", "an HTTP request"},    {"PUT ", "an HTTP request"},
    {"DELETE ", "an HTTP request"},  {"CONNECT ", "an HTTP request"},
    {"OPTIONS ", "an HTTP request"}, {"TRACE ", "an HTTP request"},
    {"PATCH ", "an HTTP request"},   {"PRI * HTTP/2", "an HTTP request"},
    {"HTTP/", "an HTTP response"},   {"SSH-", "an SSH banner"},
};

const char *haul_prefix_foreign(const uint8_t prefix[HAUL_PREFIX_BYTES])
{
    /* The reserved zeros tell apart a protocol that begins with a small number. */
    if (haul_frame_name(prefix[0]) && haul_get_u16(prefix + 2) == 0)
        return NULL;
    for (size_t i = 0; i < HAUL_COUNT_OF(foreigners); i++)
        if (memcmp(prefix, foreigners[i].start, strlen(foreigners[i].start)) == 0)
            return foreigners[i].looks_like;
    if (prefix[0] == 0xff && prefix[9] == 0x7f)
        return "a ZeroMQ greeting (ZMTP)";
    if (prefix[0] == 0x16 && prefix[1] == 3)
        return "a TLS client hello";
    return "something else";
}

int haul_frame_check(const uint8_t *header, size_t header_bytes)
{
    if (header_bytes < HAUL_PREFIX_BYTES)
        return haul_fail(HAUL_PROTOCOL, "a frame ends after %zu of the %d bytes of its prefix",
                         header_bytes, HAUL_PREFIX_BYTES);
    int err = haul_prefix_check(header);
    if (err != 0)
        return err;
    uint8_t type = haul_prefix_type(header);
    if (haul_prefix_body_bytes(header) != header_bytes - HAUL_PREFIX_BYTES)
        return haul_fail(HAUL_PROTOCOL,
                         "a %s frame announces a body of %" PRIu32 " bytes, but has %zu",
                         haul_frame_name(type), haul_prefix_body_bytes(header),
                         header_bytes - HAUL_PREFIX_BYTES);
    if (haul_prefix_body_bytes(header) < frames[type].fixed_bytes)
        return haul_fail(
            HAUL_PROTOCOL, "a %s frame has a body of %" PRIu32 " bytes, but needs %" PRIu32,
            haul_frame_name(type), haul_prefix_body_bytes(header), frames[type].fixed_bytes);
    return 0;
}

/* ---- Typed records --------------------------------------------------------------------------- */

int haul_record_next(struct haul_records *records, struct haul_record *record)
{
    size_t left = (size_t)(records->end - records->at);
    if (left == 0)
        return 0;
    if (left < HAUL_RECORD_HEAD_BYTES)
        return haul_fail(HAUL_PROTOCOL, "a record in a %s frame ends within its head",
                         haul_frame_name(records->frame_type));
    record->type = haul_get_u16(records->at);
    record->flags = haul_get_u16(records->at + 2);
    record->bytes = haul_get_u32(records->at + 4);
    record->data = records->at + HAUL_RECORD_HEAD_BYTES;
    left -= HAUL_RECORD_HEAD_BYTES;
    /* First the length alone: its rounding up must not overflow. */
    if (record->bytes > left || haul_align_up(record->bytes, 8) > left)
        return haul_fail(HAUL_PROTOCOL,
                         "a record in a %s frame announces %" PRIu32 " bytes, but %zu are left",
                         haul_frame_name(records->frame_type), record->bytes, left);
    if (record->flags & ~HAUL_RECORD_CRITICAL)
        return haul_fail(HAUL_PROTOCOL, "a record in a %s frame has unknown flags",
                         haul_frame_name(records->frame_type));
    size_t padded = haul_align_up(record->bytes, 8);
    if (!haul_all_zero(record->data + record->bytes, padded - record->bytes))
        return haul_fail(HAUL_PROTOCOL, "a record in a %s frame is padded with other than zeros",
                         haul_frame_name(records->frame_type));
    records->at = record->data + padded;
    return 1;
}

int haul_record_skip(const struct haul_records *records, const struct haul_record *record)
{
    if (!(record->flags & HAUL_RECORD_CRITICAL))
        return 0;
    return haul_fail(HAUL_PROTOCOL,
                     "a %s frame has a record of type %u, which must be understood and is not: "
                     "the peer uses a feature that this version of haul lacks",
                     haul_frame_name(records->frame_type), record->type);
}

uint8_t *haul_record_begin(uint8_t *to, enum haul_record_type type, size_t data_bytes)
{
    haul_put_u16(to, (uint16_t)type);
    haul_put_u16(to + 2, 0);
    haul_put_u32(to + 4, (uint32_t)data_bytes);
    uint8_t *data = to + HAUL_RECORD_HEAD_BYTES;
    memset(data + data_bytes, 0, haul_align_up(data_bytes, 8) - data_bytes);
    return data;
}

uint8_t *haul_record_sentence_encode(uint8_t *to, const char *sentence)
{
    char clean[HAUL_WIRE_SENTENCE_MAX + 1];
    size_t bytes =
        haul_utf8_clean(clean, sizeof(clean), sentence, strnlen(sentence, sizeof(clean)));
    if (bytes == 0)
        return to;
    memcpy(haul_record_begin(to, HAUL_RECORD_SENTENCE, bytes), clean, bytes);
    return to + haul_record_encoded_bytes(bytes);
}

int haul_record_sentence_decode(const struct haul_records *records,
                                const struct haul_record *record,
                                char sentence[HAUL_WIRE_SENTENCE_MAX + 1])
{
    const char *frame = haul_frame_name(records->frame_type);
    if (*sentence != '\0')
        return haul_fail(HAUL_PROTOCOL, "a %s frame has two sentences", frame);
    if (record->bytes == 0 || record->bytes > HAUL_WIRE_SENTENCE_MAX)
        return haul_fail(HAUL_PROTOCOL,
                         "a %s frame has a sentence of %" PRIu32 " bytes; 1 to %d are possible",
                         frame, record->bytes, HAUL_WIRE_SENTENCE_MAX);
    haul_utf8_clean(sentence, HAUL_WIRE_SENTENCE_MAX + 1, (const char *)record->data,
                    record->bytes);
    return 0;
}
