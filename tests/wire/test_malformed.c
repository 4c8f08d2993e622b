/* SPDX-License-Identifier: Apache-2.0
 * Broken and hostile frames: each is refused with the right error and a sentence that says why. */
#include "frames.h"
#include "util.h"
#include "wire.h"
#include <haul/error.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_detail_has(const char *part, const char *what)
{
    if (!strstr(haul_error_detail(), part))
        fail_msg("%s: \"%s\" is not in the sentence \"%s\"", what, part, haul_error_detail());
}

/* ---- Mutations of golden frames -------------------------------------------------------------- */

/* `bytes` bytes at `at` become `value`, little-endian; bytes 0: no patch. */
struct patch {
    uint16_t at;
    uint8_t bytes;
    uint64_t value;
};

struct mutation {
    const char *frame;
    const char *sentence; /* a part of it */
    struct patch patches[3];
};

/* Offsets in the frames. */
enum {
    FLAGS = 1,
    RESERVED = 2,
    BODY_BYTES = 4,
    PAYLOAD_BYTES = 8,
    BODY = 16,
    SEQ = 16,
    REPLY_TO = 24,
    COUNT = 32,
    ENTRIES_BYTES = 36,
    /* the fields of an entry */
    DTYPE = 0,
    NDIM = 1,
    ENTRY_FLAGS = 2,
    KEY_BYTES = 3,
    ITEMSIZE = 4,
    NBYTES = 8,
    DESCRIPTION_BYTES = 16,
    ENTRY_RESERVED = 18,
    RECORDS_BYTES = 20,
    SHAPE = 24,
    /* the entries of message_frames */
    FOO = 40,
    FOO_KEY = FOO + SHAPE + 4 * 8,
    BAR = FOO_KEY + 8,
    BAR_KEY = BAR + SHAPE + 2 * 8,
    BAZ = BAR_KEY + 8,
    BAZ_KEY = BAZ + SHAPE + 8,
    /* of message_offered */
    OFFERED_FOO = 40,
    OFFERED_WAY = OFFERED_FOO + SHAPE + 4 * 8 + 8,
    /* of message_kinds */
    SCALAR = 40,
    EMPTY = SCALAR + SHAPE + 8,
    FORTRAN = EMPTY + SHAPE + 2 * 8 + 8,
    SIZES = FORTRAN + SHAPE + 2 * 8 + 8,
    SIZES_TEXT = SIZES + SHAPE + 8,
    /* of message_unknown_records */
    IGNORED = 40 + SHAPE + 8 + 8,
    IGNORED_TOO = IGNORED + 16,
    IGNORED_LAST = IGNORED_TOO + 8,
    /* of HELLO and WELCOME */
    VERSION = BODY + 4,
    HELLO_RECORDS = BODY + 56,
};

static const struct mutation mutations[] = {
    /* The prefix */
    {"ping", "something else", {{0, 1, 0}}},
    {"ping", "something else", {{0, 1, 13}}},
    {"ping", "something else", {{0, 1, 255}}},
    {"ping", "something else", {{RESERVED, 2, 1}}},
    {"ping", "unknown flags 0x01", {{FLAGS, 1, 1}}},
    {"ping", "announces a payload", {{PAYLOAD_BYTES, 8, 1}}},
    {"ping", "announces a body of 16 bytes, but has 8", {{BODY_BYTES, 4, 16}}},
    {"ping", "multiples of 8", {{BODY_BYTES, 4, 9}}},
    {"ping", "multiples of 8 up to 4096", {{BODY_BYTES, 4, 4104}}},
    {"hello", "up to 65536", {{BODY_BYTES, 4, 65544}}},
    {"message_frames", "up to 16777216", {{BODY_BYTES, 4, 0xfffffff8}}},
    {"message_frames", "unknown flags 0x84", {{FLAGS, 1, 0x86}}},
    {"ping", "needs 32", {{0, 1, HAUL_FRAME_FETCH}}},
    {"ack", "needs 24", {{0, 1, HAUL_FRAME_MESSAGE}}},

    /* Control */
    {"fetch", "other than zero", {{BODY + 20, 4, 1}}},
    {"fetch", "seq 0", {{SEQ, 8, 0}}},
    {"fetch", "no such range", {{BODY + 24, 8, 0}}},
    {"fetch", "no such range", {{BODY + 8, 8, UINT64_MAX}}},
    {"data", "other than zero", {{BODY + 20, 4, 1}}},
    {"data", "no such range", {{PAYLOAD_BYTES, 8, 0}}},
    {"data", "no such range", {{PAYLOAD_BYTES, 8, UINT64_MAX}}},
    {"ack", "seq 0", {{SEQ, 8, 0}}},
    {"ack", "errors are negative", {{BODY + 8, 4, 1}}},
    {"ack", "other than zero", {{BODY + 12, 4, 1}}},
    {"bye", "other than zero", {{BODY + 4, 4, 1}}},
    {"bye", "errors are negative", {{BODY, 4, 63}}},
    {"cancel", "seq 0", {{SEQ, 8, 0}}},
    {"ack_refused", "are left", {{BODY + 20, 4, 49}}},
    {"ack_refused", "are left", {{BODY + 20, 4, UINT32_MAX}}},
    {"ack_refused", "padded", {{BODY + 20, 4, 44}}},
    {"ack_refused", "unknown flags", {{BODY + 18, 2, 2}}},
    {"ack_refused", "must be understood", {{BODY + 16, 4, 0x0001ffff}}},

    /* Handshake */
    {"hello", "this is not haul", {{BODY, 1, 'h'}}},
    {"hello", "other than zero", {{BODY + 6, 2, 1}}},
    {"hello_version_2", "needs 56", {{VERSION, 2, 1}}},
    {"hello_unknown_record", "must be understood", {{HELLO_RECORDS + 2, 2, 1}}},
    {"hello_rma", "wrong lengths", {{HELLO_RECORDS + 8, 1, 0}}},
    {"hello_rma", "wrong lengths", {{HELLO_RECORDS + 8, 1, 8}}},
    {"hello_rma", "wrong lengths", {{HELLO_RECORDS + 8, 1, 32}, {HELLO_RECORDS + 10, 2, 9}}},
    {"hello_rma", "wrong lengths", {{HELLO_RECORDS + 9, 1, 255}}},
    {"hello_rma", "wrong lengths", {{HELLO_RECORDS + 10, 2, UINT16_MAX}}},
    {"hello_rma", "unprintable name", {{HELLO_RECORDS + 12, 1, '\n'}}},
    {"hello_rma", "more than 1 rma", {{0, 1, HAUL_FRAME_WELCOME}}},

    /* The fixed part of a manifest */
    {"message_frames", "its seq is 0", {{SEQ, 8, 0}}},
    {"message_frames", "both an ACK and a reply", {{FLAGS, 1, 3}}},
    {"message_frames", "is a reply and wants a reply", {{REPLY_TO, 8, 1}}},
    {"message_frames", "4294967295 arrays; at most 65536", {{COUNT, 4, UINT32_MAX}}},
    {"message_frames", "65537 arrays; at most 65536", {{COUNT, 4, 65537}}},
    {"message_frames", "65536 arrays in 152 bytes", {{COUNT, 4, 65536}}},
    {"message_frames", "ends before its array 3", {{COUNT, 4, 4}}},
    {"message_frames", "40 bytes left over", {{COUNT, 4, 2}}},
    {"message_frames", "4294967288 bytes, but", {{ENTRIES_BYTES, 4, 0xfffffff8}}},
    {"message_frames", "160 bytes, but 152 are left", {{ENTRIES_BYTES, 4, 160}}},
    {"message_frames", "151 bytes", {{ENTRIES_BYTES, 4, 151}}},
    {"message_frames", "ends within its array 2", {{ENTRIES_BYTES, 4, 144}}},
    {"message_frames", "announces a payload of 0 bytes", {{PAYLOAD_BYTES, 8, 0}}},
    {"message_frames", "announces a payload of", {{PAYLOAD_BYTES, 8, UINT64_MAX}}},
    {"message_offered", "wants no answer", {{FLAGS, 1, 0}}},

    /* An entry's lengths */
    {"message_frames", "ends within its array 0", {{FOO + KEY_BYTES, 1, 255}}},
    {"message_frames", "ends within its array 0", {{FOO + NDIM, 1, 255}}},
    {"message_frames", "ends within its array 0", {{FOO + DESCRIPTION_BYTES, 2, UINT16_MAX}}},
    {"message_frames", "ends within its array 0", {{FOO + RECORDS_BYTES, 4, UINT32_MAX}}},
    {"message_frames", "ends within its array 2", {{BAZ + RECORDS_BYTES, 4, 8}}},
    /* Where its key was is a record of type 0. */
    {"message_frames",
     "no key",
     {{FOO + KEY_BYTES, 1, 0}, {FOO + RECORDS_BYTES, 4, 8}, {FOO_KEY, 8, 0}}},

    /* An entry's values */
    {"message_frames", "where only zeros belong", {{FOO + ENTRY_RESERVED, 2, 1}}},
    {"message_frames", "where only zeros belong", {{FOO + ENTRY_FLAGS, 1, 8}}},
    {"message_frames", "where only zeros belong", {{FOO_KEY + 7, 1, 1}}},
    {"message_frames", "no dtype 0", {{FOO + DTYPE, 1, 0}}},
    {"message_frames", "no dtype 17", {{FOO + DTYPE, 1, 17}}},
    {"message_frames", "no dtype 255", {{FOO + DTYPE, 1, 255}}},
    {"message_frames",
     "'foo': an element of dtype u8 has 1 bytes, not 2",
     {{FOO + ITEMSIZE, 4, 2}}},
    {"message_frames",
     "'bar': an element of dtype f32 has 4 bytes, not 0",
     {{BAR + ITEMSIZE, 4, 0}}},
    {"message_frames",
     "'bar' is announced with 4194305 bytes, but f32[1024,1024] has 4194304",
     {{BAR + NBYTES, 8, 4194305}}},
    {"message_frames", "'bar' is announced with 0 bytes", {{BAR + NBYTES, 8, 0}}},
    {"message_frames", "more than 2^63 - 1", {{FOO + SHAPE, 8, UINT64_C(1) << 63}}},
    {"message_frames", "more than 2^63 - 1", {{FOO + SHAPE, 8, UINT64_MAX}}},
    {"message_frames",
     "more than 2^63 - 1",
     {{BAR + SHAPE, 8, UINT64_C(1) << 31}, {BAR + SHAPE + 8, 8, UINT64_C(1) << 30}}},
    /* 2^62 * 2^62 * 4 is 0 modulo 2^64, and nbytes says so. */
    {"message_frames",
     "more than 2^63 - 1",
     {{BAR + SHAPE, 8, UINT64_C(1) << 62},
      {BAR + SHAPE + 8, 8, UINT64_C(1) << 62},
      {BAR + NBYTES, 8, 0}}},
    /* The same with an extent of 0 before: as in NumPy. */
    {"message_frames",
     "more than 2^63 - 1",
     {{FOO + SHAPE, 8, 0}, {FOO + SHAPE + 8, 8, UINT64_C(1) << 63}, {FOO + NBYTES, 8, 0}}},
    {"message_frames",
     "only dtype other has a description",
     {{FOO + KEY_BYTES, 1, 2}, {FOO + DESCRIPTION_BYTES, 2, 1}}},

    /* Keys and descriptions */
    {"message_frames", "have the key 'foo'", {{BAZ_KEY, 3, 0x6f6f66}}},
    {"message_frames", "NUL in its key", {{BAZ_KEY + 1, 1, 0}}},
    {"message_frames", "'b?z': its key is not valid UTF-8", {{BAZ_KEY + 1, 1, 0x80}}},
    {"message_frames", "not valid UTF-8", {{BAZ_KEY, 2, 0x80c0}}},   /* an overlong NUL */
    {"message_frames", "not valid UTF-8", {{BAZ_KEY, 3, 0x80a0ed}}}, /* a surrogate */
    {"message_frames", "not valid UTF-8", {{BAZ_KEY + 2, 1, 0xc3}}}, /* cut */
    {"message_kinds", "needs at least 1 byte", {{SIZES + ITEMSIZE, 4, 0}}},
    {"message_kinds", "needs a description", {{SCALAR + DTYPE, 1, HAUL_OTHER}}},
    {"message_kinds", "not printable", {{SIZES_TEXT + 23, 1, '\n'}}},
    {"message_kinds", "not printable", {{SIZES_TEXT + 23, 2, 0x85c2}}}, /* a C1 control */

    /* Typed records */
    {"message_offered", "is inline, but says how", {{OFFERED_FOO + ENTRY_FLAGS, 1, 0}}},
    {"message_offered", "are left", {{OFFERED_WAY + 4, 4, 129}}},
    {"message_offered", "says twice", {{OFFERED_WAY + 4, 4, 120}, {OFFERED_WAY + 128, 8, 1}}},
    {"message_offered", "in 0 bytes", {{OFFERED_WAY + 4, 4, 0}}},
    {"message_unknown_records", "must be understood", {{IGNORED + 2, 2, 1}}},
    {"message_unknown_records", "must be understood", {{IGNORED_LAST + 2, 2, 1}}},
    {"message_unknown_records", "unknown flags", {{IGNORED + 2, 2, 0x8000}}},
    {"message_unknown_records", "are left", {{IGNORED_TOO + 4, 4, 1}}},
    {"message_unknown_records", "are left", {{IGNORED_LAST + 4, 4, 17}}},
    {"message_unknown_records", "padded", {{IGNORED_LAST + 16, 8, UINT64_MAX}}},
};

static void apply(uint8_t *frame, size_t frame_bytes, const struct patch *patch)
{
    assert_true(patch->at + (size_t)patch->bytes <= frame_bytes);
    for (uint8_t i = 0; i < patch->bytes; i++)
        frame[patch->at + i] = (uint8_t)(patch->value >> 8 * i);
}

static void test_mutations(void **state)
{
    (void)state;
    for (size_t i = 0; i < HAUL_COUNT_OF(mutations); i++) {
        const struct mutation *mutation = &mutations[i];
        size_t bytes;
        uint8_t *frame = frame_load(mutation->frame, &bytes);
        for (size_t patch = 0; patch < HAUL_COUNT_OF(mutation->patches); patch++)
            apply(frame, bytes, &mutation->patches[patch]);
        int err = frame_decode(frame, bytes);
        if (err != HAUL_PROTOCOL)
            fail_msg("mutation %zu of %s: %s instead of HAUL_PROTOCOL (%s)", i, mutation->frame,
                     haul_error_name(err), mutation->sentence);
        assert_detail_has(mutation->sentence, mutation->frame);
        free(frame);
    }
}

/* ---- Truncation ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool ends_with_records; /* cut between two of them, it is another good frame */
} golden[] = {
    {"hello", false},
    {"hello_rma", true},
    {"hello_unknown_record", true},
    {"welcome", true},
    {"welcome_rma", true},
    {"bye", true},
    {"message_empty", false},
    {"message_frames", false},
    {"message_plain", false},
    {"message_reply", false},
    {"message_offered", false},
    {"message_kinds", false},
    {"message_unknown_records", true},
    {"fetch", false},
    {"data", false},
    {"ack", false},
    {"ack_refused", true},
    {"credit", false},
    {"cancel", false},
    {"ping", false},
    {"pong", false},
};

/* Cuts the frame after every byte. As it is, the prefix tells that something is missing; with a
 * prefix that fits the rest, what is inside must. The copies are exact: a sanitizer sees reads
 * beyond them. */
static void test_truncation(void **state)
{
    (void)state;
    for (size_t i = 0; i < HAUL_COUNT_OF(golden); i++) {
        size_t bytes;
        uint8_t *frame = frame_load(golden[i].name, &bytes);
        for (size_t left = 0; left < bytes; left++) {
            uint8_t *cut = frame_copy(frame, left);
            assert_int_equal(frame_decode(cut, left), HAUL_PROTOCOL);
            if (left >= HAUL_PREFIX_BYTES) {
                haul_put_u32(cut + BODY_BYTES, (uint32_t)(left - HAUL_PREFIX_BYTES));
                int err = frame_decode(cut, left);
                if (err != HAUL_PROTOCOL && !(err == 0 && golden[i].ends_with_records))
                    fail_msg("%s cut to %zu bytes: %s", golden[i].name, left, haul_error_name(err));
            }
            free(cut);
        }
        free(frame);
    }
}

/* Every value of every byte: any answer, but an answer. */
static void test_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < HAUL_COUNT_OF(golden); i++) {
        size_t bytes;
        uint8_t *frame = frame_load(golden[i].name, &bytes);
        for (size_t at = 0; at < bytes; at++) {
            uint8_t original = frame[at];
            for (unsigned value = 0; value < 256; value++) {
                frame[at] = (uint8_t)value;
                int err = frame_decode(frame, bytes);
                if (err != 0 && err != HAUL_PROTOCOL && err != HAUL_VERSION)
                    fail_msg("%s with 0x%02x at %zu: %s", golden[i].name, value, at,
                             haul_error_name(err));
            }
            frame[at] = original;
        }
        free(frame);
    }
}

/* ---- Manifests that are made for it ---------------------------------------------------------- */

static int pass_over_the_wire(struct haul_manifest *sent, struct haul_manifest *received,
                              uint64_t message_max)
{
    size_t bytes = haul_manifest_encoded_bytes(sent);
    uint8_t *frame = malloc(bytes);
    assert_non_null(frame);
    haul_manifest_encode(sent, frame);
    int err = haul_manifest_decode(received, frame, bytes, message_max);
    free(frame);
    return err;
}

static struct haul_manifest_array bytes_array(const char *key, const uint64_t *extent)
{
    return (struct haul_manifest_array){.array = {.key = key,
                                                  .dtype = HAUL_U8,
                                                  .itemsize = 1,
                                                  .ndim = 1,
                                                  .shape = extent,
                                                  .nbytes = *extent}};
}

/* The same for a manifest that must be refused. */
static void assert_refused(struct haul_manifest *sent, const char *sentence)
{
    struct haul_manifest received = {0};
    assert_int_equal(pass_over_the_wire(sent, &received, UINT64_MAX), HAUL_PROTOCOL);
    assert_detail_has(sentence, "manifest");
    assert_int_equal(received.count, 0);
    haul_manifest_clear(&received);
}

/* A message over the receiver's limit can be refused by its number. */
static void test_too_large(void **state)
{
    (void)state;
    const uint64_t extent = 600;
    struct haul_manifest_array arrays[] = {bytes_array("a", &extent), bytes_array("b", &extent)};
    struct haul_manifest received = {0}, sent = {.seq = 77,
                                                 .flags = HAUL_MESSAGE_WANTS_REPLY,
                                                 .count = 2,
                                                 .arrays = arrays};
    arrays[1].offered = true;
    assert_int_equal(pass_over_the_wire(&sent, &received, 1199), HAUL_TOO_LARGE);
    assert_detail_has("1200 bytes of arrays; the receiver takes at most 1199", "too large");
    assert_int_equal(received.seq, 77);
    assert_int_equal(received.flags, HAUL_MESSAGE_WANTS_REPLY);
    assert_int_equal(received.inline_bytes, 600);
    assert_int_equal(received.offered_bytes, 600);
    assert_int_equal(received.count, 2);
    assert_int_equal(pass_over_the_wire(&sent, &received, 1200), 0);
    assert_int_equal(received.count, 2);
    haul_manifest_clear(&received);
}

/* Also of no bytes. */
static void test_offered_without_an_answer(void **state)
{
    (void)state;
    const uint64_t extents[] = {0, 5};
    for (size_t i = 0; i < HAUL_COUNT_OF(extents); i++) {
        struct haul_manifest_array array = bytes_array("a", &extents[i]);
        struct haul_manifest manifest = {.seq = 1, .count = 1, .arrays = &array};
        array.offered = true;
        assert_refused(&manifest, "offers arrays, but wants no answer");
    }
}

/* Arrays that are possible one by one, but not together. */
static void test_sums_overflow(void **state)
{
    (void)state;
    const uint64_t huge = INT64_MAX;
    struct haul_manifest_array arrays[] = {bytes_array("a", &huge), bytes_array("b", &huge),
                                           bytes_array("c", &huge)};
    struct haul_manifest manifest = {
        .seq = 1, .flags = HAUL_MESSAGE_WANTS_ACK, .count = 3, .arrays = arrays};
    assert_refused(&manifest, "more than 2^64 - 1");
    arrays[1].offered = true; /* now neither sum alone overflows */
    assert_refused(&manifest, "more than 2^64 - 1");
}

static void test_over_the_limits(void **state)
{
    (void)state;
    uint64_t ones[HAUL_NDIM_MAX + 1];
    char description[HAUL_DESCRIPTION_MAX + 2] = {0};
    memset(description, 'V', HAUL_DESCRIPTION_MAX + 1);
    for (size_t i = 0; i < HAUL_COUNT_OF(ones); i++)
        ones[i] = 1;
    struct haul_manifest_array array = bytes_array("a", ones);
    struct haul_manifest received = {0}, sent = {.count = 1, .arrays = &array};
    array.array.ndim = HAUL_NDIM_MAX + 1;
    assert_refused(&sent, "33 axes are more than 32");

    array.array.ndim = 1;
    array.array.dtype = HAUL_OTHER;
    array.array.description = description;
    assert_refused(&sent, "description is longer than 4096 bytes");
    description[HAUL_DESCRIPTION_MAX] = '\0';
    assert_int_equal(pass_over_the_wire(&sent, &received, UINT64_MAX), 0);
    assert_string_equal(received.arrays[0].array.description, description);
    haul_manifest_clear(&received);
}

/* ---- Many arrays ----------------------------------------------------------------------------- */

struct many {
    struct haul_manifest_array *arrays;
    char (*keys)[16];
};

/* As many arrays as there may be, with different keys in an order that is not sorted. */
static struct many many_create(void)
{
    static const uint64_t extent = 1;
    struct many many = {calloc(HAUL_ARRAYS_MAX, sizeof(*many.arrays)),
                        calloc(HAUL_ARRAYS_MAX, sizeof(*many.keys))};
    assert_non_null(many.arrays);
    assert_non_null(many.keys);
    for (uint32_t i = 0; i < HAUL_ARRAYS_MAX; i++) {
        /* An odd factor makes all different modulo a power of two. */
        snprintf(many.keys[i], sizeof(many.keys[i]), "key%05x", i * 40503 % HAUL_ARRAYS_MAX);
        many.arrays[i] = bytes_array(many.keys[i], &extent);
    }
    return many;
}

static void many_destroy(struct many *many)
{
    free(many->arrays);
    free(many->keys);
}

static void test_many_keys(void **state)
{
    (void)state;
    struct many many = many_create();
    struct haul_manifest received = {0};
    struct haul_manifest sent = {.count = HAUL_ARRAYS_MAX, .arrays = many.arrays};
    assert_int_equal(pass_over_the_wire(&sent, &received, UINT64_MAX), 0);
    assert_int_equal(received.count, HAUL_ARRAYS_MAX);
    for (uint32_t i = 0; i < HAUL_ARRAYS_MAX; i++)
        assert_string_equal(received.arrays[i].array.key, many.keys[i]);
    haul_manifest_clear(&received);
    many_destroy(&many);
}

/* Wherever the two equal keys are, they are found. */
static void test_equal_keys(void **state)
{
    (void)state;
    static const uint32_t pairs[][2] = {
        {0, 1}, {0, HAUL_ARRAYS_MAX - 1}, {HAUL_ARRAYS_MAX - 2, HAUL_ARRAYS_MAX - 1}, {31, 40000}};
    struct many many = many_create();
    struct haul_manifest manifest = {.count = HAUL_ARRAYS_MAX, .arrays = many.arrays};
    for (size_t i = 0; i < HAUL_COUNT_OF(pairs); i++) {
        char part[64], *first = many.keys[pairs[i][0]], *second = many.keys[pairs[i][1]];
        char kept[sizeof(*many.keys)];
        memcpy(kept, second, sizeof(kept));
        memcpy(second, first, sizeof(kept));
        snprintf(part, sizeof(part), "two arrays of a MESSAGE frame have the key '%s'", first);
        assert_refused(&manifest, part);
        memcpy(second, kept, sizeof(kept));
    }
    many_destroy(&many);
}

/* ---- Other protocols, and text from others --------------------------------------------------- */

static void test_foreign(void **state)
{
    (void)state;
    static const struct {
        const char *looks_like;
        uint8_t prefix[HAUL_PREFIX_BYTES];
    } cases[] = {
        {"an HTTP request", "GET / HTTP/1.1\r"},
        {"an HTTP request", "OPTIONS * HTTP/"},
        {"an HTTP request", "PRI * HTTP/2.0\r"},
        {"an HTTP response", "HTTP/1.1 400 Ba"},
        {"an SSH banner", "SSH-2.0-OpenSSH"},
        {"a ZeroMQ greeting (ZMTP)", {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f}},
        {"a ZeroMQ greeting (ZMTP)", {0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1, 'N', 'U'}},
        {"a TLS client hello", {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}},
        {"something else", "hello, world!"},
        {"something else", {0}},
        {"something else", {HAUL_FRAME_HELLO, 0, 1}},
    };
    for (size_t i = 0; i < HAUL_COUNT_OF(cases); i++) {
        assert_string_equal(haul_prefix_foreign(cases[i].prefix), cases[i].looks_like);
        assert_int_equal(haul_prefix_check(cases[i].prefix), HAUL_PROTOCOL);
        assert_detail_has(cases[i].looks_like, "prefix");
    }
    for (uint8_t type = HAUL_FRAME_HELLO; type <= HAUL_FRAME_RELEASE; type++)
        assert_null(haul_prefix_foreign((const uint8_t[HAUL_PREFIX_BYTES]){type}));
}

/* A decoder is not used for frames of another kind. */
static void test_wrong_decoder(void **state)
{
    (void)state;
    struct haul_manifest manifest = {0};
    struct haul_wire_control control;
    struct haul_wire_hello hello;
    size_t bytes;
    uint8_t *frame = frame_load("ack", &bytes);
    assert_int_equal(haul_manifest_decode(&manifest, frame, bytes, UINT64_MAX), HAUL_PROTOCOL);
    assert_detail_has("ACK frame came where a MESSAGE", "manifest");
    assert_int_equal(haul_hello_decode(&hello, frame, bytes), HAUL_PROTOCOL);
    assert_detail_has("ACK frame came where a HELLO or WELCOME", "hello");
    free(frame);
    frame = frame_load("message_plain", &bytes);
    assert_int_equal(haul_control_decode(&control, frame, bytes), HAUL_PROTOCOL);
    assert_detail_has("MESSAGE frame came where a control frame", "control");
    free(frame);
}

/* A peer's sentence may be anything; what is shown of it is printable. */
static void test_sentence_is_cleaned(void **state)
{
    (void)state;
    struct haul_wire_control control;
    size_t bytes;
    uint8_t *frame = frame_load("ack_refused", &bytes);
    memcpy(frame + BODY + 24, "\x1b[1m\n\xff\xc3\xa9", 8);
    assert_int_equal(haul_control_decode(&control, frame, bytes), 0);
    assert_memory_equal(control.sentence, "?[1m??\xc3\xa9", 8);
    free(frame);
}

/* An ACK with these records behind its fixed part. */
static int decode_ack(const uint8_t *records, size_t bytes)
{
    struct haul_wire_control control;
    uint8_t frame[BODY + 16 + 64];
    size_t ack_bytes;
    uint8_t *ack = frame_load("ack", &ack_bytes);
    assert_int_equal(ack_bytes, BODY + 16);
    assert_true(bytes <= 64);
    memcpy(frame, ack, ack_bytes);
    memcpy(frame + ack_bytes, records, bytes);
    frame[BODY_BYTES] = (uint8_t)(16 + bytes);
    free(ack);
    return haul_control_decode(&control, frame, ack_bytes + bytes);
}

static void test_one_sentence(void **state)
{
    (void)state;
    const uint8_t one[16] = {3, 0, 0, 0, 2, 0, 0, 0, 'n', 'o'};
    const uint8_t two[32] = {3, 0, 0, 0, 2, 0, 0, 0, 'n', 'o', 0, 0,   0,
                             0, 0, 0, 3, 0, 0, 0, 2, 0,   0,   0, 'n', 'o'};
    const uint8_t empty[8] = {3};
    assert_int_equal(decode_ack(one, sizeof one), 0);
    assert_int_equal(decode_ack(two, sizeof two), HAUL_PROTOCOL);
    assert_detail_has("two sentences", "ack");
    assert_int_equal(decode_ack(empty, sizeof empty), HAUL_PROTOCOL);
    assert_detail_has("a sentence of 0 bytes", "ack");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_offered_without_an_answer),
        cmocka_unit_test(test_sums_overflow),
        cmocka_unit_test(test_over_the_limits),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_equal_keys),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_wrong_decoder),
        cmocka_unit_test(test_sentence_is_cleaned),
        cmocka_unit_test(test_one_sentence),
    };
    return cmocka_run_group_tests_name("wire: malformed frames", tests, NULL, NULL);
}
