/* SPDX-License-Identifier: Apache-2.0
 * The wire format, byte by byte in docs/WIRE.md. Encoders and decoders only: no sockets, no memory
 * of messages. Everything is little-endian. A decoder validates all of a frame before it reports
 * any of it, and sets the error detail to a sentence about what is wrong. */
#ifndef HAUL_CORE_WIRE_H
#define HAUL_CORE_WIRE_H

#include <haul/dict.h>
#include <haul/provider.h>

enum { HAUL_WIRE_VERSION = 1 };
#define HAUL_WIRE_MAGIC "HAUL"

enum haul_frame_type {
    HAUL_FRAME_HELLO = 1,   /* client to server, first frame */
    HAUL_FRAME_WELCOME = 2, /* server to client, the answer */
    HAUL_FRAME_BYE = 3,     /* either way: the connection ends, and why */
    HAUL_FRAME_MESSAGE =
        4, /* a manifest; payload: the inline arrays' bytes, in order, without gaps */
    HAUL_FRAME_FETCH = 5,  /* receiver to sender: send these bytes of a message's offered arrays */
    HAUL_FRAME_DATA = 6,   /* payload: those bytes */
    HAUL_FRAME_ACK = 7,    /* receiver to sender: a message's end, good or bad */
    HAUL_FRAME_CREDIT = 8, /* receiver to sender: how much more it may send */
    HAUL_FRAME_CANCEL = 9, /* sender to receiver: forget this message */
    HAUL_FRAME_PING = 10,
    HAUL_FRAME_PONG = 11,
    HAUL_FRAME_RELEASE = 12, /* receiver to sender: a message's given arrays are its own again */
};

/* The limits that decoders keep. */
enum {
    HAUL_WIRE_BODY_MAX = 16 << 20,        /* bytes of a body */
    HAUL_WIRE_HELLO_BODY_MAX = 64 << 10,  /* of the first frame */
    HAUL_WIRE_CONTROL_BODY_MAX = 4 << 10, /* of all frames but HELLO, WELCOME and MESSAGE */
    HAUL_WIRE_SENTENCE_MAX = 511,         /* bytes of a sentence in BYE and ACK */
    HAUL_WIRE_RMA_MAX = 8,                /* rma offers in a HELLO */
};

void haul_prefix_encode(uint8_t *to, enum haul_frame_type type, uint8_t flags, uint32_t body_bytes,
                        uint64_t payload_bytes);
static inline uint8_t haul_prefix_type(const uint8_t *prefix)
{
    return prefix[0];
}
static inline uint8_t haul_prefix_flags(const uint8_t *prefix)
{
    return prefix[1];
}
/* All that a prefix alone shows: a known type, its flags, reserved zeros, the limits of both
 * lengths. To be called before a body is buffered. Errors: HAUL_PROTOCOL. */
int haul_prefix_check(const uint8_t prefix[HAUL_PREFIX_BYTES]);
/* What the first bytes of a connection look like if they are not haul's ("an HTTP request"), for
 * "this looks like %s"; NULL if they could be haul's. A peer that stops short of 16 bytes may have
 * the rest zero: a ZeroMQ client sends ten and waits. Static. */
const char *haul_prefix_foreign(const uint8_t prefix[HAUL_PREFIX_BYTES]);

/* ---- Manifest (HAUL_FRAME_MESSAGE) ----------------------------------------------------------- */

/* Prefix flags of a MESSAGE. */
enum {
    HAUL_MESSAGE_WANTS_ACK = 1, /* the sender's op ends with the ACK */
    HAUL_MESSAGE_WANTS_REPLY =
        2, /* the sender's op ends with a MESSAGE whose reply_to is this seq */
};

struct haul_manifest_array {
    struct haul_array array; /* data: not wire; NULL after decode */
    bool offered;            /* its bytes are fetched or read; else they are in the payload */
    bool given;              /* offered with a way, and may be looked at in place until RELEASE */
    bool mapped;             /* not wire: it is looked at in place */
    uint8_t way_bytes;       /* how an rma peer reads it; 0: on the channel only */
    uint8_t way[HAUL_RMA_WAY_MAX];
};

/* A manifest, as encode reads it and decode writes it. Zero-initialise. What decode allocates is
 * reused by the next decode: no malloc in the steady state. */
struct haul_manifest {
    uint64_t seq;      /* per sender and connection, increasing from 1; 0: from a plain client */
    uint64_t reply_to; /* the seq of the call that this answers, or 0 */
    uint8_t flags;     /* HAUL_MESSAGE_* */
    uint32_t count;
    struct haul_manifest_array *arrays;
    uint64_t inline_bytes;  /* sum over inline arrays: the payload. Computed by both */
    uint64_t offered_bytes; /* sum over offered arrays: the stream that FETCH and DATA count in */
    uint32_t capacity;      /* of arrays; 0: they are the caller's and not freed by clear */
    size_t storage_bytes;
    char *storage;                    /* of by_key and of what decoded arrays point to */
    const struct haul_array **by_key; /* decoded arrays, sorted by their keys (keys.h) */
};

/* Bytes of the header (prefix + body). Beyond HAUL_PREFIX_BYTES + HAUL_WIRE_BODY_MAX no receiver
 * takes it: the caller refuses to send it. */
size_t haul_manifest_encoded_bytes(const struct haul_manifest *manifest);
/* Writes the header; sets inline_bytes and offered_bytes. `to` has room for encoded_bytes. */
void haul_manifest_encode(struct haul_manifest *manifest, uint8_t *to);
/* Reads a header of header_bytes (prefix included). Checks everything: lengths, reserved zeros,
 * UTF-8 and uniqueness of keys, dtype against itemsize, ndim, flags, every product and sum,
 * nbytes == product(shape) * itemsize, the payload against the inline arrays, unknown critical
 * records. Errors: HAUL_PROTOCOL (the frame is broken), HAUL_TOO_LARGE (more than message_max bytes
 * of arrays), HAUL_NO_MEMORY. After HAUL_TOO_LARGE all is set; after the others count is 0, and
 * seq, reply_to and flags are set as far as the frame reaches, so that it can be refused. */
int haul_manifest_decode(struct haul_manifest *manifest, const uint8_t *header, size_t header_bytes,
                         uint64_t message_max);
/* The decoded array of this key, or NULL. */
const struct haul_array *haul_manifest_find(const struct haul_manifest *manifest, const char *key);
void haul_manifest_clear(struct haul_manifest *manifest);
/* Bytes of heap that it keeps for reuse. */
size_t haul_manifest_memory(const struct haul_manifest *manifest);
/* What a message takes of the prepaid bytes: its inline arrays, each rounded up to 64 bytes as the
 * receiver places it. */
uint64_t haul_manifest_prepaid_bytes(const struct haul_manifest *manifest);
static inline uint64_t haul_prepaid_array_bytes(const struct haul_array *array)
{
    return (array->nbytes + 63) & ~(uint64_t)63;
}

/* Checks one array, but not its data, and computes nbytes (used by decode and by dicts). As in
 * NumPy the product of itemsize and all non-zero extents must stay below 2^63, also if there is a
 * zero extent. Errors: HAUL_INVALID with a sentence that names the key. */
int haul_array_check(struct haul_array *array);
/* Whether two arrays have the same dtype, itemsize, description, shape and order. */
bool haul_array_same_type(const struct haul_array *a, const struct haul_array *b);
/* "f32[1024,1024]", "<M8[ns][5]", "u8[]", "f32[2,3] in Fortran order": for sentences; cut with
 * "..." where size is too small. The array is one that passed haul_array_check(). Returns text. */
const char *haul_array_format(const struct haul_array *array, char *text, size_t size);
/* A key as sentences and logs may show it: what is not printable becomes '?', a long one is cut.
 * Returns text. */
enum { HAUL_KEY_TEXT_BYTES = 64 };
const char *haul_key_format(const char *key, char text[HAUL_KEY_TEXT_BYTES]);

/* ---- Handshake ------------------------------------------------------------------------------- */

struct haul_wire_rma {
    char name[32]; /* provider, "ofi:verbs" */
    uint16_t address_bytes;
    uint8_t address[HAUL_RMA_ADDRESS_MAX]; /* for attach() */
    uint8_t probe_bytes;
    uint8_t probe[HAUL_RMA_WAY_MAX]; /* a way to 8 bytes that hold the nonce */
};

/* HELLO and WELCOME have the same fields. */
struct haul_wire_hello {
    uint16_t version;     /* HAUL_WIRE_VERSION; a HELLO of another version decodes this much */
    uint64_t nonce;       /* of the session, random */
    uint64_t pid;         /* of the process, for log lines */
    uint64_t message_max; /* bytes of arrays that the sender of this frame takes in one message */
    uint64_t credit_messages; /* what the receiver of this frame may send, as in CREDIT */
    uint64_t credit_bytes;
    uint64_t heartbeat_ns; /* silence after which the sender of this frame asks; 0: never */
    uint8_t rma_count;     /* HELLO: what it has, best first. WELCOME: the one chosen, or none */
    struct haul_wire_rma rma[HAUL_WIRE_RMA_MAX];
    char why[HAUL_WIRE_SENTENCE_MAX + 1]; /* WELCOME: why no better path was taken */
};
enum { HAUL_WIRE_HELLO_ENCODED_MAX = 12 << 10 };
/* type: HELLO or WELCOME. Returns the bytes written, at most HAUL_WIRE_HELLO_ENCODED_MAX. */
size_t haul_hello_encode(const struct haul_wire_hello *hello, enum haul_frame_type type,
                         uint8_t *to);
/* Errors: HAUL_PROTOCOL (no haul at all, or broken), HAUL_VERSION (version is set). */
int haul_hello_decode(struct haul_wire_hello *hello, const uint8_t *header, size_t header_bytes);

/* ---- Control --------------------------------------------------------------------------------- */

/* All frames but handshake and manifest. Which fields a type uses is in the comments. */
struct haul_wire_control {
    uint8_t type;
    uint64_t seq;             /* FETCH DATA ACK CANCEL RELEASE: the message; PING PONG: a number */
    uint64_t offset;          /* FETCH DATA: in the stream of the message's offered arrays */
    uint64_t bytes;           /* FETCH: how many; DATA: the payload_bytes of the prefix */
    uint32_t transfer;        /* FETCH DATA: which try this is; DATA echoes FETCH */
    int32_t err;              /* ACK BYE: 0 or enum haul_err */
    uint64_t credit_messages; /* CREDIT: messages that may be sent, counted from the connection's
                                 start */
    uint64_t credit_bytes;    /* CREDIT: prepaid bytes that may be sent, likewise */
    char sentence[HAUL_WIRE_SENTENCE_MAX + 1]; /* ACK BYE: why; "" if err is 0 */
};
enum { HAUL_WIRE_CONTROL_ENCODED_MAX = 1024 };
/* Returns the bytes written. For DATA the payload follows on the channel. */
size_t haul_control_encode(const struct haul_wire_control *control, uint8_t *to);
/* Errors: HAUL_PROTOCOL. */
int haul_control_decode(struct haul_wire_control *control, const uint8_t *header,
                        size_t header_bytes);

#endif
