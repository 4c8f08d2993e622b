/* SPDX-License-Identifier: Apache-2.0
 * The handshake (HELLO, WELCOME) and the control frames. */
#include "error.h"
#include "frame.h"
#include "utf8.h"
#include <inttypes.h>

/* ---- Handshake ------------------------------------------------------------------------------- */

/* The fixed part of version 1. Its first 8 bytes (magic, version) are those of all versions. */
enum { HELLO_FIXED_BYTES = 56, HELLO_MAGIC_BYTES = sizeof(HAUL_WIRE_MAGIC) - 1 };
/* The lengths that an RMA record begins with. */
enum { RMA_HEAD_BYTES = 4 };

_Static_assert(HAUL_PREFIX_BYTES + HELLO_FIXED_BYTES +
                       HAUL_WIRE_RMA_MAX *
                           (HAUL_RECORD_HEAD_BYTES + 8 + sizeof(struct haul_wire_rma)) +
                       HAUL_RECORD_HEAD_BYTES + 8 + HAUL_WIRE_SENTENCE_MAX <=
                   HAUL_WIRE_HELLO_ENCODED_MAX,
               "a HELLO with everything in it fits");

/* Returns the end of the record. */
static uint8_t *encode_rma(const struct haul_wire_rma *rma, uint8_t *to)
{
    size_t name_bytes = strnlen(rma->name, sizeof(rma->name));
    size_t bytes = RMA_HEAD_BYTES + name_bytes + rma->probe_bytes + rma->address_bytes;
    uint8_t *data = haul_record_begin(to, HAUL_RECORD_RMA, bytes);
    data[0] = (uint8_t)name_bytes;
    data[1] = rma->probe_bytes;
    haul_put_u16(data + 2, rma->address_bytes);
    data += RMA_HEAD_BYTES;
    memcpy(data, rma->name, name_bytes);
    memcpy(data + name_bytes, rma->probe, rma->probe_bytes);
    memcpy(data + name_bytes + rma->probe_bytes, rma->address, rma->address_bytes);
    return to + haul_record_encoded_bytes(bytes);
}

size_t haul_hello_encode(const struct haul_wire_hello *hello, enum haul_frame_type type,
                         uint8_t *to)
{
    uint8_t *body = to + HAUL_PREFIX_BYTES, *end = body + HELLO_FIXED_BYTES;
    memcpy(body, HAUL_WIRE_MAGIC, HELLO_MAGIC_BYTES);
    haul_put_u16(body + 4, hello->version);
    haul_put_u16(body + 6, 0);
    haul_put_u64(body + 8, hello->nonce);
    haul_put_u64(body + 16, hello->pid);
    haul_put_u64(body + 24, hello->message_max);
    haul_put_u64(body + 32, hello->credit_messages);
    haul_put_u64(body + 40, hello->credit_bytes);
    haul_put_u64(body + 48, hello->heartbeat_ns);
    for (uint8_t i = 0; i < hello->rma_count; i++)
        end = encode_rma(&hello->rma[i], end);
    end = haul_record_sentence_encode(end, hello->why);
    haul_prefix_encode(to, type, 0, (uint32_t)(end - body), 0);
    return (size_t)(end - to);
}

/* Reads what is the same in all versions. */
static int decode_version(struct haul_wire_hello *hello, const uint8_t *header)
{
    const uint8_t *body = header + HAUL_PREFIX_BYTES;
    uint8_t type = haul_prefix_type(header);
    if (type != HAUL_FRAME_HELLO && type != HAUL_FRAME_WELCOME)
        return haul_fail(HAUL_PROTOCOL, "a %s frame came where a HELLO or WELCOME was expected",
                         haul_frame_name(type));
    if (memcmp(body, HAUL_WIRE_MAGIC, HELLO_MAGIC_BYTES) != 0)
        return haul_fail(HAUL_PROTOCOL,
                         "a %s frame without \"" HAUL_WIRE_MAGIC "\" in it: this is not haul",
                         haul_frame_name(type));
    hello->version = haul_get_u16(body + 4);
    if (hello->version != HAUL_WIRE_VERSION)
        return haul_fail(HAUL_VERSION,
                         "the peer speaks version %u of haul's protocol, this side version %d: "
                         "both need a haul of the same version",
                         hello->version, HAUL_WIRE_VERSION);
    return 0;
}

static int decode_fixed(struct haul_wire_hello *hello, const uint8_t *header)
{
    const uint8_t *body = header + HAUL_PREFIX_BYTES;
    const char *name = haul_frame_name(haul_prefix_type(header));
    if (haul_prefix_body_bytes(header) < HELLO_FIXED_BYTES)
        return haul_fail(HAUL_PROTOCOL, "a %s frame has a body of %" PRIu32 " bytes, but needs %d",
                         name, haul_prefix_body_bytes(header), HELLO_FIXED_BYTES);
    if (haul_get_u16(body + 6) != 0)
        return haul_fail(HAUL_PROTOCOL, "a %s frame has other than zero where only zeros belong",
                         name);
    hello->nonce = haul_get_u64(body + 8);
    hello->pid = haul_get_u64(body + 16);
    hello->message_max = haul_get_u64(body + 24);
    hello->credit_messages = haul_get_u64(body + 32);
    hello->credit_bytes = haul_get_u64(body + 40);
    hello->heartbeat_ns = haul_get_u64(body + 48);
    return 0;
}

static int decode_rma(struct haul_wire_hello *hello, uint8_t type, const struct haul_record *record)
{
    const char *frame = haul_frame_name(type);
    /* A WELCOME names the one chosen. */
    if (hello->rma_count == (type == HAUL_FRAME_WELCOME ? 1 : HAUL_WIRE_RMA_MAX))
        return haul_fail(HAUL_PROTOCOL, "a %s frame has more than %u rma providers", frame,
                         (unsigned)hello->rma_count);
    struct haul_wire_rma *rma = &hello->rma[hello->rma_count];
    const uint8_t *data = record->data;
    size_t head = record->bytes < RMA_HEAD_BYTES ? 0 : RMA_HEAD_BYTES;
    size_t name_bytes = head ? data[0] : 0, probe_bytes = head ? data[1] : 0;
    size_t address_bytes = head ? haul_get_u16(data + 2) : 0;
    if (head + name_bytes + probe_bytes + address_bytes != record->bytes || name_bytes == 0 ||
        name_bytes >= sizeof(rma->name) || probe_bytes > sizeof(rma->probe) ||
        address_bytes > sizeof(rma->address))
        return haul_fail(HAUL_PROTOCOL, "a %s frame has an rma provider with wrong lengths", frame);
    data += head;
    if (!haul_utf8_printable((const char *)data, name_bytes))
        return haul_fail(HAUL_PROTOCOL, "a %s frame has an rma provider with an unprintable name",
                         frame);
    memcpy(rma->name, data, name_bytes);
    memcpy(rma->probe, data + name_bytes, probe_bytes);
    memcpy(rma->address, data + name_bytes + probe_bytes, address_bytes);
    rma->name[name_bytes] = '\0';
    rma->probe_bytes = (uint8_t)probe_bytes;
    rma->address_bytes = (uint16_t)address_bytes;
    hello->rma_count++;
    return 0;
}

static int decode_hello_records(struct haul_wire_hello *hello, struct haul_records records)
{
    struct haul_record record;
    int more, err = 0;
    while ((more = haul_record_next(&records, &record)) > 0) {
        if (record.type == HAUL_RECORD_RMA)
            err = decode_rma(hello, records.frame_type, &record);
        else if (record.type == HAUL_RECORD_SENTENCE && records.frame_type == HAUL_FRAME_WELCOME)
            err = haul_record_sentence_decode(&records, &record, hello->why);
        else
            err = haul_record_skip(&records, &record);
        if (err != 0)
            return err;
    }
    return more;
}

int haul_hello_decode(struct haul_wire_hello *hello, const uint8_t *header, size_t header_bytes)
{
    *hello = (struct haul_wire_hello){0};
    int err = haul_frame_check(header, header_bytes);
    if (err == 0)
        err = decode_version(hello, header);
    if (err == 0)
        err = decode_fixed(hello, header);
    if (err != 0)
        return err;
    const uint8_t *records = header + HAUL_PREFIX_BYTES + HELLO_FIXED_BYTES;
    return decode_hello_records(
        hello, (struct haul_records){records, header + header_bytes, haul_prefix_type(header)});
}

/* ---- Control --------------------------------------------------------------------------------- */

/* Where each type of frame has its fields, as offsets into the body. All other bytes of the fixed
 * part are zero. */
#define FIELD(frame, at, member)                                                 \
    {                                                                            \
        HAUL_FRAME_##frame, at, sizeof(((struct haul_wire_control *)0)->member), \
            offsetof(struct haul_wire_control, member)                           \
    }
static const struct {
    uint8_t frame, at, bytes;
    size_t member;
} fields[] = {
    FIELD(BYE, 0, err),
    FIELD(FETCH, 0, seq),
    FIELD(FETCH, 8, offset),
    FIELD(FETCH, 16, transfer),
    FIELD(FETCH, 24, bytes),
    FIELD(DATA, 0, seq),
    FIELD(DATA, 8, offset),
    FIELD(DATA, 16, transfer),
    FIELD(ACK, 0, seq),
    FIELD(ACK, 8, err),
    FIELD(CREDIT, 0, credit_messages),
    FIELD(CREDIT, 8, credit_bytes),
    FIELD(CANCEL, 0, seq),
    FIELD(PING, 0, seq),
    FIELD(PONG, 0, seq),
    FIELD(RELEASE, 0, seq),
};
enum { CONTROL_FIXED_MAX = 32 };

static void encode_fixed(const struct haul_wire_control *control, uint8_t *body)
{
    memset(body, 0, haul_frame_fixed_bytes(control->type));
    for (size_t i = 0; i < HAUL_COUNT_OF(fields); i++) {
        const char *member = (const char *)control + fields[i].member;
        if (fields[i].frame != control->type)
            continue;
        if (fields[i].bytes == sizeof(uint64_t))
            haul_put_u64(body + fields[i].at, *(const uint64_t *)(const void *)member);
        else
            haul_put_u32(body + fields[i].at, *(const uint32_t *)(const void *)member);
    }
}

static void decode_control_fixed(struct haul_wire_control *control, const uint8_t *body)
{
    for (size_t i = 0; i < HAUL_COUNT_OF(fields); i++) {
        char *member = (char *)control + fields[i].member;
        if (fields[i].frame != control->type)
            continue;
        if (fields[i].bytes == sizeof(uint64_t))
            *(uint64_t *)(void *)member = haul_get_u64(body + fields[i].at);
        else
            *(uint32_t *)(void *)member = haul_get_u32(body + fields[i].at);
    }
}

size_t haul_control_encode(const struct haul_wire_control *control, uint8_t *to)
{
    uint8_t *body = to + HAUL_PREFIX_BYTES, *end = body + haul_frame_fixed_bytes(control->type);
    encode_fixed(control, body);
    if (control->type == HAUL_FRAME_BYE || control->type == HAUL_FRAME_ACK)
        end = haul_record_sentence_encode(end, control->sentence);
    haul_prefix_encode(to, control->type, 0, (uint32_t)(end - body),
                       control->type == HAUL_FRAME_DATA ? control->bytes : 0);
    return (size_t)(end - to);
}

/* Whether the type is one of those that are neither handshake nor manifest. */
static bool is_control(uint8_t type)
{
    return type != HAUL_FRAME_HELLO && type != HAUL_FRAME_WELCOME && type != HAUL_FRAME_MESSAGE;
}

static int check_control(const struct haul_wire_control *control, const uint8_t *body)
{
    uint8_t type = control->type, as_it_should_be[CONTROL_FIXED_MAX];
    const char *name = haul_frame_name(type);
    uint64_t end = control->offset;
    encode_fixed(control, as_it_should_be);
    if (memcmp(body, as_it_should_be, haul_frame_fixed_bytes(type)) != 0)
        return haul_fail(HAUL_PROTOCOL, "a %s frame has other than zero where only zeros belong",
                         name);
    if (control->err > 0)
        return haul_fail(HAUL_PROTOCOL, "a %s frame has %" PRId32 " as error; errors are negative",
                         name, control->err);
    bool names_message = type != HAUL_FRAME_BYE && type != HAUL_FRAME_CREDIT &&
                         type != HAUL_FRAME_PING && type != HAUL_FRAME_PONG;
    if (names_message && control->seq == 0)
        return haul_fail(HAUL_PROTOCOL, "a %s frame is about the message with seq 0: there is none",
                         name);
    bool names_range = type == HAUL_FRAME_FETCH || type == HAUL_FRAME_DATA;
    if (names_range && (control->bytes == 0 || !haul_add_u64(&end, control->bytes)))
        return haul_fail(HAUL_PROTOCOL,
                         "a %s frame is about %" PRIu64 " bytes from %" PRIu64
                         ": no such range is possible",
                         name, control->bytes, control->offset);
    return 0;
}

static int decode_control_records(struct haul_wire_control *control, struct haul_records records)
{
    bool has_sentence = control->type == HAUL_FRAME_BYE || control->type == HAUL_FRAME_ACK;
    struct haul_record record;
    int more;
    while ((more = haul_record_next(&records, &record)) > 0) {
        int err = 0;
        if (has_sentence && record.type == HAUL_RECORD_SENTENCE)
            err = haul_record_sentence_decode(&records, &record, control->sentence);
        else
            err = haul_record_skip(&records, &record);
        if (err != 0)
            return err;
    }
    return more;
}

int haul_control_decode(struct haul_wire_control *control, const uint8_t *header,
                        size_t header_bytes)
{
    *control = (struct haul_wire_control){0};
    int err = haul_frame_check(header, header_bytes);
    if (err != 0)
        return err;
    const uint8_t *body = header + HAUL_PREFIX_BYTES;
    control->type = haul_prefix_type(header);
    if (!is_control(control->type))
        return haul_fail(HAUL_PROTOCOL, "a %s frame came where a control frame was expected",
                         haul_frame_name(control->type));
    decode_control_fixed(control, body);
    if (control->type == HAUL_FRAME_DATA)
        control->bytes = haul_prefix_payload_bytes(header);
    err = check_control(control, body);
    if (err != 0)
        return err;
    return decode_control_records(
        control, (struct haul_records){body + haul_frame_fixed_bytes(control->type),
                                       header + header_bytes, control->type});
}
