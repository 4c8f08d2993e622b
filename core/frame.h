/* SPDX-License-Identifier: Apache-2.0
 * What all frames have in common: the prefix, and the typed records that end each body. */
#ifndef HAUL_CORE_FRAME_H
#define HAUL_CORE_FRAME_H

#include "util.h"
#include "wire.h"

/* Types of records; one numbering for all frames. */
enum haul_record_type {
    HAUL_RECORD_WAY = 1,      /* of an array in a MESSAGE: how an rma peer reads it */
    HAUL_RECORD_RMA = 2,      /* HELLO, WELCOME: an rma provider */
    HAUL_RECORD_SENTENCE = 3, /* WELCOME, BYE, ACK: why */
};
enum { HAUL_RECORD_CRITICAL = 1 }; /* flags: who does not know the type must refuse the frame */
enum { HAUL_RECORD_HEAD_BYTES = 8 };

/* "MESSAGE"; NULL for what is no type of frame. */
const char *haul_frame_name(uint8_t type);
/* Bytes of the fixed part that a body begins with; 8 for HELLO and WELCOME, of which only those are
 * the same in all versions. */
size_t haul_frame_fixed_bytes(uint8_t type);
/* Checks the prefix, the length of the body, and that the fixed part of its type is there. */
int haul_frame_check(const uint8_t *header, size_t header_bytes);
static inline bool haul_all_zero(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (from[i] != 0)
            return false;
    return true;
}

struct haul_record {
    uint16_t type;
    uint16_t flags;
    uint32_t bytes;
    const uint8_t *data;
};

/* The records that lie in [at, end). */
struct haul_records {
    const uint8_t *at, *end;
    uint8_t frame_type; /* for sentences */
};
/* Reads the next record: 1, or 0 at the end, or HAUL_PROTOCOL. */
int haul_record_next(struct haul_records *records, struct haul_record *record);
/* For a record of a type that is unknown there: 0 if it may be skipped, or HAUL_PROTOCOL. */
int haul_record_skip(const struct haul_records *records, const struct haul_record *record);

static inline size_t haul_record_encoded_bytes(size_t data_bytes)
{
    return HAUL_RECORD_HEAD_BYTES + haul_align_up(data_bytes, 8);
}
/* Writes head and padding; returns where the data belongs. */
uint8_t *haul_record_begin(uint8_t *to, enum haul_record_type type, size_t data_bytes);
/* Writes a sentence, unless it is empty; returns the end. */
uint8_t *haul_record_sentence_encode(uint8_t *to, const char *sentence);
/* Copies a frame's one sentence, "" before, cleaned: it is a peer's, and will be logged. Returns 0
 * or HAUL_PROTOCOL. */
int haul_record_sentence_decode(const struct haul_records *records,
                                const struct haul_record *record,
                                char sentence[HAUL_WIRE_SENTENCE_MAX + 1]);

#endif
