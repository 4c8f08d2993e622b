/* SPDX-License-Identifier: Apache-2.0
 * Golden files: each decodes to the fields that are known to be in it, and encodes to the same
 * bytes. */
#include "frames.h"
#include "wire.h"
#include <haul/error.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)

/* ---- Handshake ------------------------------------------------------------------------------- */

static void assert_rma_equal(const struct haul_wire_rma *a, const struct haul_wire_rma *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->address_bytes, b->address_bytes);
    assert_memory_equal(a->address, b->address, b->address_bytes);
    assert_int_equal(a->probe_bytes, b->probe_bytes);
    assert_memory_equal(a->probe, b->probe, b->probe_bytes);
}

static void assert_hello_equal(const struct haul_wire_hello *a, const struct haul_wire_hello *b)
{
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->nonce, b->nonce);
    assert_int_equal(a->pid, b->pid);
    assert_int_equal(a->message_max, b->message_max);
    assert_int_equal(a->credit_messages, b->credit_messages);
    assert_int_equal(a->credit_bytes, b->credit_bytes);
    assert_int_equal(a->heartbeat_ns, b->heartbeat_ns);
    assert_string_equal(a->why, b->why);
    assert_int_equal(a->rma_count, b->rma_count);
    for (uint8_t i = 0; i < a->rma_count; i++)
        assert_rma_equal(&a->rma[i], &b->rma[i]);
}

static void check_hello(const char *name, const struct haul_wire_hello *expected, bool encodes)
{
    struct haul_wire_hello decoded;
    uint8_t encoded[HAUL_WIRE_HELLO_ENCODED_MAX];
    size_t bytes;
    uint8_t *frame = frame_load(name, &bytes);
    assert_int_equal(haul_hello_decode(&decoded, frame, bytes), 0);
    assert_hello_equal(&decoded, expected);
    if (encodes) {
        assert_int_equal(haul_hello_encode(&decoded, haul_prefix_type(frame), encoded), bytes);
        assert_memory_equal(encoded, frame, bytes);
    }
    free(frame);
}

static void test_hello(void **state)
{
    (void)state;
    struct haul_wire_hello hello = {.version = 1,
                                    .nonce = 0x0123456789abcdef,
                                    .pid = 4711,
                                    .message_max = 6 * GIB,
                                    .credit_messages = 64,
                                    .credit_bytes = 32 << 20,
                                    .heartbeat_ns = UINT64_C(20000000000)};
    struct haul_wire_hello simple = {.version = 1,
                                     .nonce = 7,
                                     .pid = 8,
                                     .message_max = 9,
                                     .credit_messages = 10,
                                     .credit_bytes = 11,
                                     .heartbeat_ns = 12};
    check_hello("hello", &hello, true);
    check_hello("hello_unknown_record", &simple, false);
}

static void test_hello_rma(void **state)
{
    (void)state;
    struct haul_wire_hello hello = {
        .version = 1,
        .nonce = UINT64_MAX,
        .pid = 1,
        .rma_count = 2,
        .rma = {{.name = "ofi:verbs", .address_bytes = 32, .probe_bytes = 17},
                {.name = "shm", .probe_bytes = 5, .probe = "probe"}}};
    for (uint8_t i = 0; i < 32; i++)
        hello.rma[0].address[i] = i;
    memset(hello.rma[0].probe, 0xaa, 17);
    check_hello("hello_rma", &hello, true);
}

static void test_welcome(void **state)
{
    (void)state;
    struct haul_wire_hello welcome = {.version = 1,
                                      .nonce = 42,
                                      .pid = 4712,
                                      .message_max = GIB,
                                      .credit_messages = 16,
                                      .credit_bytes = 1 << 20,
                                      .heartbeat_ns = 1000000000};
    strcpy(welcome.why, "shm: another host; ofi: no such plugin \xe2\x80\x93 see docs");
    check_hello("welcome", &welcome, true);
    welcome.nonce = 43;
    welcome.pid = 4713;
    welcome.why[0] = '\0';
    welcome.rma_count = 1;
    welcome.rma[0] = (struct haul_wire_rma){
        .name = "loop", .address_bytes = 7, .address = "address", .probe_bytes = 3, .probe = "way"};
    check_hello("welcome_rma", &welcome, true);
}

static void test_another_version(void **state)
{
    (void)state;
    struct haul_wire_hello hello;
    size_t bytes;
    uint8_t *frame = frame_load("hello_version_2", &bytes);
    assert_int_equal(haul_hello_decode(&hello, frame, bytes), HAUL_VERSION);
    assert_int_equal(hello.version, 2);
    assert_non_null(strstr(haul_error_detail(), "version 2"));
    assert_non_null(strstr(haul_error_detail(), "version 1"));
    free(frame);
}

/* ---- Control --------------------------------------------------------------------------------- */

static void check_control(const char *name, const struct haul_wire_control *expected)
{
    struct haul_wire_control decoded;
    uint8_t encoded[HAUL_WIRE_CONTROL_ENCODED_MAX];
    size_t bytes;
    uint8_t *frame = frame_load(name, &bytes);
    assert_int_equal(haul_control_decode(&decoded, frame, bytes), 0);
    assert_int_equal(decoded.type, expected->type);
    assert_int_equal(decoded.seq, expected->seq);
    assert_int_equal(decoded.offset, expected->offset);
    assert_int_equal(decoded.bytes, expected->bytes);
    assert_int_equal(decoded.transfer, expected->transfer);
    assert_int_equal(decoded.err, expected->err);
    assert_int_equal(decoded.credit_messages, expected->credit_messages);
    assert_int_equal(decoded.credit_bytes, expected->credit_bytes);
    assert_string_equal(decoded.sentence, expected->sentence);
    assert_int_equal(haul_control_encode(&decoded, encoded), bytes);
    assert_memory_equal(encoded, frame, bytes);
    free(frame);
}

static void test_control(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct haul_wire_control control;
    } cases[] = {
        {"bye", {.type = HAUL_FRAME_BYE, .err = HAUL_CLOSED, .sentence = "the server was closed"}},
        {"fetch",
         {.type = HAUL_FRAME_FETCH, .seq = 5, .offset = 8 * GIB, .bytes = 1 << 20, .transfer = 3}},
        {"data",
         {.type = HAUL_FRAME_DATA, .seq = 5, .offset = 8 * GIB, .bytes = 1 << 20, .transfer = 3}},
        {"ack", {.type = HAUL_FRAME_ACK, .seq = 5}},
        {"ack_refused",
         {.type = HAUL_FRAME_ACK,
          .seq = 6,
          .err = HAUL_REFUSED,
          .sentence = "bar: expected f32[1024,1024], got f64[1024,1024]"}},
        {"credit",
         {.type = HAUL_FRAME_CREDIT, .credit_messages = 1000, .credit_bytes = 1024 * GIB}},
        {"cancel", {.type = HAUL_FRAME_CANCEL, .seq = 7}},
        {"ping", {.type = HAUL_FRAME_PING, .seq = 8}},
        {"pong", {.type = HAUL_FRAME_PONG, .seq = UINT64_MAX}},
        {"release", {.type = HAUL_FRAME_RELEASE, .seq = 9}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_control(cases[i].name, &cases[i].control);
}

/* ---- Manifests ------------------------------------------------------------------------------- */

#define SHAPE(...) ((const uint64_t[]){__VA_ARGS__})
#define OF(type, bytes_of_element) .dtype = HAUL_##type, .itemsize = (bytes_of_element)
#define FOO .key = "foo", OF(U8, 1), .ndim = 4, .shape = SHAPE(1024, 64, 64, 3), .nbytes = 12 << 20
#define BAR .key = "bar", OF(F32, 4), .ndim = 2, .shape = SHAPE(1024, 1024), .nbytes = 4 << 20
#define BAZ .key = "baz", OF(F32, 4), .ndim = 1, .shape = SHAPE(1024), .nbytes = 4096

static void assert_entry_equal(const struct haul_manifest_array *a,
                               const struct haul_manifest_array *b)
{
    assert_string_equal(a->array.key, b->array.key);
    assert_true(haul_array_same_type(&a->array, &b->array));
    if (b->array.description)
        assert_string_equal(a->array.description, b->array.description);
    else
        assert_null(a->array.description);
    assert_null(a->array.data);
    assert_int_equal(a->array.nbytes, b->array.nbytes);
    assert_int_equal(a->offered, b->offered);
    assert_int_equal(a->way_bytes, b->way_bytes);
    assert_memory_equal(a->way, b->way, b->way_bytes);
}

static void check_encodes(struct haul_manifest *manifest, const uint8_t *frame, size_t bytes)
{
    assert_int_equal(haul_manifest_encoded_bytes(manifest), bytes);
    uint8_t *encoded = frame_copy(frame, bytes);
    memset(encoded, 0xee, bytes);
    haul_manifest_encode(manifest, encoded);
    assert_memory_equal(encoded, frame, bytes);
    free(encoded);
}

static void check_manifest(const char *name, const struct haul_manifest *expected, bool encodes)
{
    struct haul_manifest decoded = {0};
    size_t bytes;
    uint8_t *frame = frame_load(name, &bytes);
    assert_int_equal(haul_manifest_decode(&decoded, frame, bytes, UINT64_MAX), 0);
    assert_int_equal(decoded.seq, expected->seq);
    assert_int_equal(decoded.reply_to, expected->reply_to);
    assert_int_equal(decoded.flags, expected->flags);
    assert_int_equal(decoded.inline_bytes, expected->inline_bytes);
    assert_int_equal(decoded.offered_bytes, expected->offered_bytes);
    assert_int_equal(decoded.count, expected->count);
    for (uint32_t i = 0; i < decoded.count; i++)
        assert_entry_equal(&decoded.arrays[i], &expected->arrays[i]);
    if (encodes)
        check_encodes(&decoded, frame, bytes);
    haul_manifest_clear(&decoded);
    free(frame);
}

static void test_manifest(void **state)
{
    (void)state;
    struct haul_manifest_array frames[] = {{.array = {FOO}}, {.array = {BAR}}, {.array = {BAZ}}};
    struct haul_manifest_array plain[] = {
        {.array = {.key = "x", OF(F32, 4), .ndim = 1, .shape = SHAPE(16), .nbytes = 64}}};
    struct haul_manifest_array done[] = {{.array = {.key = "done", OF(U8, 1), .nbytes = 1}}};
    struct haul_manifest_array a[] = {
        {.array = {.key = "a", OF(U8, 1), .ndim = 1, .shape = SHAPE(2), .nbytes = 2}}};
    const struct haul_manifest empty = {.seq = 1, .flags = HAUL_MESSAGE_WANTS_ACK};
    const struct haul_manifest three = {.seq = 2,
                                        .flags = HAUL_MESSAGE_WANTS_REPLY,
                                        .count = 3,
                                        .arrays = frames,
                                        .inline_bytes = (16 << 20) + 4096};
    const struct haul_manifest from_plain = {.count = 1, .arrays = plain, .inline_bytes = 64};
    const struct haul_manifest reply = {
        .seq = 3, .reply_to = 2, .count = 1, .arrays = done, .inline_bytes = 1};
    const struct haul_manifest unknown = {.seq = 10, .count = 1, .arrays = a, .inline_bytes = 2};
    check_manifest("message_empty", &empty, true);
    check_manifest("message_frames", &three, true);
    check_manifest("message_plain", &from_plain, true);
    check_manifest("message_reply", &reply, true);
    check_manifest("message_unknown_records", &unknown, false);
}

static void test_offered(void **state)
{
    (void)state;
    struct haul_manifest_array arrays[] = {
        {.array = {FOO}, .offered = true, .given = true, .way_bytes = HAUL_RMA_WAY_MAX},
        {.array = {BAR}, .offered = true},
        {.array = {BAZ}}};
    for (uint8_t i = 0; i < HAUL_RMA_WAY_MAX; i++)
        arrays[0].way[i] = i;
    const struct haul_manifest manifest = {.seq = 0x0102030405060708,
                                           .flags = HAUL_MESSAGE_WANTS_ACK,
                                           .count = 3,
                                           .arrays = arrays,
                                           .inline_bytes = 4096,
                                           .offered_bytes = 16 << 20};
    check_manifest("message_offered", &manifest, true);
}

static void test_kinds(void **state)
{
    (void)state;
    char long_key[HAUL_KEY_MAX + 1] = {0};
    uint64_t ones[HAUL_NDIM_MAX];
    memset(long_key, 'k', HAUL_KEY_MAX);
    for (size_t i = 0; i < HAUL_NDIM_MAX; i++)
        ones[i] = 1;
    struct haul_manifest_array arrays[] = {
        {.array = {.key = "scalar", OF(I64, 8), .nbytes = 8}},
        {.array = {.key = "empty", OF(F16, 2), .ndim = 2, .shape = SHAPE(0, 3)}},
        {.array = {.key = "Fortran",
                   OF(F32, 4),
                   .ndim = 2,
                   .shape = SHAPE(2, 3),
                   .nbytes = 24,
                   .flags = HAUL_FORTRAN}},
        {.array = {.key = "Gr\xc3\xb6\xc3\x9f"
                          "e/gr\xc3\xb6\xc3\x9fte [\xc2\xb5m]",
                   OF(OTHER, 8),
                   .description = "<M8[ns]",
                   .ndim = 1,
                   .shape = SHAPE(5),
                   .nbytes = 40}},
        {.array = {.key = long_key,
                   OF(OTHER, 12),
                   .description = "[('a', '<f4'), ('b', '<i8')]",
                   .ndim = 1,
                   .shape = SHAPE(2),
                   .nbytes = 24}},
        {.array = {.key = "axes", OF(U8, 1), .ndim = 32, .shape = ones, .nbytes = 1}},
        {.array = {.key = "huge", OF(U8, 1), .ndim = 3, .shape = SHAPE(UINT64_C(1) << 62, 0, 1)}},
    };
    const struct haul_manifest manifest = {.seq = 9,
                                           .flags = HAUL_MESSAGE_WANTS_ACK,
                                           .count = 7,
                                           .arrays = arrays,
                                           .inline_bytes = 8 + 24 + 40 + 24 + 1};
    check_manifest("message_kinds", &manifest, true);
}

/* One manifest object takes turns with frames of all sizes; nothing of one shows in the next. */
static void test_reuse(void **state)
{
    (void)state;
    static const char *const names[] = {"message_plain",   "message_kinds",  "message_empty",
                                        "message_offered", "message_frames", "message_kinds"};
    struct haul_manifest manifest = {0};
    const char *storage = NULL;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            size_t bytes;
            uint8_t *frame = frame_load(names[i], &bytes);
            assert_int_equal(haul_manifest_decode(&manifest, frame, bytes, UINT64_MAX), 0);
            check_encodes(&manifest, frame, bytes);
            free(frame);
            if (round == 1)
                assert_ptr_equal(manifest.storage, storage);
            storage = manifest.storage;
        }
    }
    haul_manifest_clear(&manifest);
    assert_null(manifest.storage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),   cmocka_unit_test(test_hello_rma),
        cmocka_unit_test(test_welcome), cmocka_unit_test(test_another_version),
        cmocka_unit_test(test_control), cmocka_unit_test(test_manifest),
        cmocka_unit_test(test_offered), cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_reuse),
    };
    return cmocka_run_group_tests_name("wire: golden files", tests, NULL, NULL);
}
