/* SPDX-License-Identifier: Apache-2.0
 * MESSAGE frames: the manifest of a dict of arrays. */
#include "error.h"
#include "frame.h"
#include "keys.h"
#include <inttypes.h>
#include <stdlib.h>

/* An array's entry: a fixed part, the shape, key and description with zeros up to a multiple of 8,
 * and typed records. */
enum {
    ENTRY_FIXED_BYTES = 24,
    ENTRY_LEAST_BYTES = ENTRY_FIXED_BYTES + 8, /* with a key, which has at least a byte */
    EXTENT_BYTES = 8,
    STORAGE_LEAST_BYTES = 1024, /* of what a decoded manifest keeps */
    /* flags */
    ENTRY_FORTRAN = 1,
    ENTRY_OFFERED = 2,
    ENTRY_GIVEN = 4,
};

/* ---- Encode ---------------------------------------------------------------------------------- */

static size_t text_bytes(const struct haul_array *array)
{
    return strlen(array->key) + (array->description ? strlen(array->description) : 0);
}

static size_t records_bytes(const struct haul_manifest_array *entry)
{
    return entry->way_bytes > 0 ? haul_record_encoded_bytes(entry->way_bytes) : 0;
}

static size_t entry_bytes(const struct haul_manifest_array *entry)
{
    return ENTRY_FIXED_BYTES + entry->array.ndim * (size_t)EXTENT_BYTES +
           haul_align_up(text_bytes(&entry->array), 8) + records_bytes(entry);
}

size_t haul_manifest_encoded_bytes(const struct haul_manifest *manifest)
{
    size_t bytes = HAUL_PREFIX_BYTES + haul_frame_fixed_bytes(HAUL_FRAME_MESSAGE);
    for (uint32_t i = 0; i < manifest->count; i++)
        bytes += entry_bytes(&manifest->arrays[i]);
    return bytes;
}

/* Writes key and description and zeros up to a multiple of 8; returns the end. */
static uint8_t *encode_text(const struct haul_array *array, uint8_t *to)
{
    size_t key_bytes = strlen(array->key), bytes = text_bytes(array);
    memcpy(to, array->key, key_bytes);
    if (bytes > key_bytes)
        memcpy(to + key_bytes, array->description, bytes - key_bytes);
    memset(to + bytes, 0, haul_align_up(bytes, 8) - bytes);
    return to + haul_align_up(bytes, 8);
}

/* Returns the end of the entry. */
static uint8_t *encode_entry(const struct haul_manifest_array *entry, uint8_t *to)
{
    const struct haul_array *array = &entry->array;
    size_t key_bytes = strlen(array->key);
    to[0] = (uint8_t)array->dtype;
    to[1] = (uint8_t)array->ndim;
    to[2] = (uint8_t)((array->flags & HAUL_FORTRAN ? ENTRY_FORTRAN : 0) |
                      (entry->offered ? ENTRY_OFFERED : 0) | (entry->given ? ENTRY_GIVEN : 0));
    to[3] = (uint8_t)key_bytes;
    haul_put_u32(to + 4, array->itemsize);
    haul_put_u64(to + 8, array->nbytes);
    haul_put_u16(to + 16, (uint16_t)(text_bytes(array) - key_bytes));
    haul_put_u16(to + 18, 0);
    haul_put_u32(to + 20, (uint32_t)records_bytes(entry));
    to += ENTRY_FIXED_BYTES;
    for (uint32_t axis = 0; axis < array->ndim; axis++, to += EXTENT_BYTES)
        haul_put_u64(to, array->shape[axis]);
    to = encode_text(array, to);
    if (entry->way_bytes > 0)
        memcpy(haul_record_begin(to, HAUL_RECORD_WAY, entry->way_bytes), entry->way,
               entry->way_bytes);
    return to + records_bytes(entry);
}

void haul_manifest_encode(struct haul_manifest *manifest, uint8_t *to)
{
    uint8_t *body = to + HAUL_PREFIX_BYTES;
    uint8_t *entries = body + haul_frame_fixed_bytes(HAUL_FRAME_MESSAGE), *end = entries;
    manifest->inline_bytes = manifest->offered_bytes = 0;
    for (uint32_t i = 0; i < manifest->count; i++) {
        const struct haul_manifest_array *entry = &manifest->arrays[i];
        *(entry->offered ? &manifest->offered_bytes : &manifest->inline_bytes) +=
            entry->array.nbytes;
        end = encode_entry(entry, end);
    }
    haul_prefix_encode(to, HAUL_FRAME_MESSAGE, manifest->flags, (uint32_t)(end - body),
                       manifest->inline_bytes);
    haul_put_u64(body, manifest->seq);
    haul_put_u64(body + 8, manifest->reply_to);
    haul_put_u32(body + 16, manifest->count);
    haul_put_u32(body + 20, (uint32_t)(end - entries));
}

/* ---- Decode: storage ------------------------------------------------------------------------- */

/* Makes room for the arrays, and in the storage for the row by_key (twice as long, to be sorted),
 * the shapes and the texts. The last two, with a NUL for each text, take less than the encoded
 * entries, so that the frame's length bounds it all. */
static int reserve(struct haul_manifest *manifest, uint32_t count, uint32_t entries_bytes)
{
    size_t needed = 2 * sizeof(*manifest->by_key) * count + entries_bytes;
    needed = HAUL_MAX(needed, (size_t)STORAGE_LEAST_BYTES);
    if (count > manifest->capacity) {
        if (manifest->capacity > 0)
            free(manifest->arrays);
        manifest->arrays = malloc(count * sizeof(*manifest->arrays));
        manifest->capacity = manifest->arrays ? count : 0;
    }
    if (needed > manifest->storage_bytes) {
        free(manifest->storage);
        manifest->storage = malloc(needed);
        manifest->storage_bytes = manifest->storage ? needed : 0;
    }
    if (count > manifest->capacity || !manifest->storage)
        return haul_fail(HAUL_NO_MEMORY, "there is no memory for a manifest of %" PRIu32 " arrays",
                         count);
    return 0;
}

static char *storage_texts(const struct haul_manifest *manifest, uint32_t count)
{
    return manifest->storage + 2 * sizeof(*manifest->by_key) * count;
}

/* ---- Decode: entries ------------------------------------------------------------------------- */

/* An entry's parts, once they are known to lie within the frame. */
struct entry_parts {
    const uint8_t *fixed, *shape, *text;
    size_t key_bytes, description_bytes;
    struct haul_records records;
};

/* Takes the entry at *at apart and moves *at behind it. */
static int split_entry(const uint8_t **at, const uint8_t *end, uint32_t position,
                       struct entry_parts *parts)
{
    size_t left = (size_t)(end - *at);
    const uint8_t *fixed = *at;
    if (left < ENTRY_LEAST_BYTES)
        return haul_fail(HAUL_PROTOCOL, "a MESSAGE frame ends before its array %" PRIu32, position);
    parts->fixed = fixed;
    parts->key_bytes = fixed[3];
    parts->description_bytes = haul_get_u16(fixed + 16);
    parts->shape = fixed + ENTRY_FIXED_BYTES;
    /* All of these are small: no sum of them overflows. */
    size_t shape_bytes = fixed[1] * (size_t)EXTENT_BYTES;
    size_t text = parts->key_bytes + parts->description_bytes;
    size_t before_records = ENTRY_FIXED_BYTES + shape_bytes + haul_align_up(text, 8);
    uint32_t entry_records_bytes = haul_get_u32(fixed + 20);
    if (before_records > left || entry_records_bytes > left - before_records)
        return haul_fail(HAUL_PROTOCOL, "a MESSAGE frame ends within its array %" PRIu32, position);
    parts->text = parts->shape + shape_bytes;
    parts->records.at = fixed + before_records;
    parts->records.end = parts->records.at + entry_records_bytes;
    parts->records.frame_type = HAUL_FRAME_MESSAGE;
    *at = parts->records.end;
    return 0;
}

/* What its lengths do not show: its zeros, and that its texts have none. */
static int check_zeros(const struct entry_parts *parts, uint32_t position)
{
    const uint8_t *end = parts->text + parts->key_bytes + parts->description_bytes;
    if (parts->fixed[2] & ~(ENTRY_FORTRAN | ENTRY_OFFERED | ENTRY_GIVEN) ||
        haul_get_u16(parts->fixed + 18) != 0 ||
        !haul_all_zero(end, (size_t)(parts->records.at - end)))
        return haul_fail(HAUL_PROTOCOL,
                         "array %" PRIu32 " of a MESSAGE frame has other than zero where only "
                         "zeros belong",
                         position);
    if (memchr(parts->text, 0, (size_t)(end - parts->text)))
        return haul_fail(HAUL_PROTOCOL,
                         "array %" PRIu32 " of a MESSAGE frame has a NUL in its key or description",
                         position);
    return 0;
}

/* Copies text with a NUL; returns where the next one goes. */
static char *store_text(char *to, const uint8_t *text, size_t bytes)
{
    memcpy(to, text, bytes);
    to[bytes] = '\0';
    return to + bytes + 1;
}

/* Copies shape, key and description to `to`, which is aligned; returns the aligned end. */
static char *store_entry(struct haul_array *array, const struct entry_parts *parts, char *to)
{
    uint64_t *shape = (uint64_t *)(void *)to;
    for (uint32_t axis = 0; axis < array->ndim; axis++)
        shape[axis] = haul_get_u64(parts->shape + axis * (size_t)EXTENT_BYTES);
    array->shape = shape;
    to += array->ndim * sizeof(*shape);
    size_t used = parts->key_bytes + 1;
    array->key = to;
    char *end = store_text(to, parts->text, parts->key_bytes);
    array->description = NULL;
    if (parts->description_bytes > 0) {
        array->description = end;
        store_text(end, parts->text + parts->key_bytes, parts->description_bytes);
        used += parts->description_bytes + 1;
    }
    return to + haul_align_up(used, sizeof(*shape));
}

static int decode_way(struct haul_manifest_array *entry, const struct haul_record *record)
{
    char key[HAUL_KEY_TEXT_BYTES];
    haul_key_format(entry->array.key, key);
    if (!entry->offered)
        return haul_fail(HAUL_PROTOCOL, "array '%s' is inline, but says how it is read by rma",
                         key);
    if (entry->way_bytes > 0)
        return haul_fail(HAUL_PROTOCOL, "array '%s' says twice how it is read by rma", key);
    if (record->bytes == 0 || record->bytes > HAUL_RMA_WAY_MAX)
        return haul_fail(HAUL_PROTOCOL,
                         "array '%s' says how it is read by rma in %" PRIu32
                         " bytes; 1 to %d are possible",
                         key, record->bytes, HAUL_RMA_WAY_MAX);
    entry->way_bytes = (uint8_t)record->bytes;
    memcpy(entry->way, record->data, record->bytes);
    return 0;
}

static int decode_entry_records(struct haul_manifest_array *entry, struct haul_records *records)
{
    struct haul_record record;
    int more;
    while ((more = haul_record_next(records, &record)) > 0) {
        int err = record.type == HAUL_RECORD_WAY ? decode_way(entry, &record)
                                                 : haul_record_skip(records, &record);
        if (err != 0)
            return err;
    }
    return more;
}

/* Decodes an entry; *to is its place in the storage and moves behind what it takes. */
static int decode_entry(struct haul_manifest_array *entry, struct entry_parts *parts, char **to)
{
    struct haul_array *array = &entry->array;
    array->data = NULL;
    array->dtype = parts->fixed[0];
    array->ndim = parts->fixed[1];
    array->flags = parts->fixed[2] & ENTRY_FORTRAN ? HAUL_FORTRAN : 0;
    array->itemsize = haul_get_u32(parts->fixed + 4);
    *to = store_entry(array, parts, *to);
    if (haul_array_check(array) != 0)
        return HAUL_PROTOCOL; /* its sentence fits */
    if (array->nbytes != haul_get_u64(parts->fixed + 8)) {
        char key[HAUL_KEY_TEXT_BYTES], type[128];
        return haul_fail(HAUL_PROTOCOL,
                         "array '%s' is announced with %" PRIu64 " bytes, but %s has %" PRIu64,
                         haul_key_format(array->key, key), haul_get_u64(parts->fixed + 8),
                         haul_array_format(array, type, sizeof(type)), array->nbytes);
    }
    entry->offered = (parts->fixed[2] & ENTRY_OFFERED) != 0;
    entry->given = (parts->fixed[2] & ENTRY_GIVEN) != 0;
    entry->mapped = false;
    entry->way_bytes = 0;
    int err = decode_entry_records(entry, &parts->records);
    if (err == 0 && entry->given && entry->way_bytes == 0) {
        char key[HAUL_KEY_TEXT_BYTES];
        return haul_fail(HAUL_PROTOCOL,
                         "array '%s' is given, but does not say how it is read by rma",
                         haul_key_format(array->key, key));
    }
    return err;
}

static int decode_entries(struct haul_manifest *manifest, const uint8_t *at, const uint8_t *end,
                          uint32_t count)
{
    char *to = storage_texts(manifest, count);
    for (uint32_t i = 0; i < count; i++) {
        struct haul_manifest_array *entry = &manifest->arrays[i];
        struct entry_parts parts;
        int err = split_entry(&at, end, i, &parts);
        if (err == 0)
            err = check_zeros(&parts, i);
        if (err == 0)
            err = decode_entry(entry, &parts, &to);
        if (err != 0)
            return err;
        if (!haul_add_u64(entry->offered ? &manifest->offered_bytes : &manifest->inline_bytes,
                          entry->array.nbytes))
            return haul_fail(HAUL_PROTOCOL, "the arrays of a MESSAGE frame add up to more than "
                                            "2^64 - 1 bytes");
        if (entry->offered && manifest->flags == 0)
            return haul_fail(HAUL_PROTOCOL, "a MESSAGE frame offers arrays, but wants no answer: "
                                            "its sender could not know when they are free");
    }
    if (at != end)
        return haul_fail(HAUL_PROTOCOL,
                         "a MESSAGE frame has %td bytes left over after its %" PRIu32 " arrays",
                         end - at, count);
    return 0;
}

/* ---- Decode: the frame ----------------------------------------------------------------------- */

/* What seq, reply_to and the flags say together. */
static int check_numbers(const struct haul_manifest *manifest)
{
    const uint8_t both = HAUL_MESSAGE_WANTS_ACK | HAUL_MESSAGE_WANTS_REPLY;
    if (manifest->seq == 0 && manifest->flags != 0)
        return haul_fail(HAUL_PROTOCOL,
                         "a MESSAGE frame wants an answer, but its seq is 0: it needs a number");
    if ((manifest->flags & both) == both)
        return haul_fail(HAUL_PROTOCOL, "a MESSAGE frame wants both an ACK and a reply");
    if (manifest->reply_to != 0 && manifest->flags & HAUL_MESSAGE_WANTS_REPLY)
        return haul_fail(HAUL_PROTOCOL, "a MESSAGE frame is a reply and wants a reply");
    return 0;
}

/* Before anything is allocated for them. */
static int check_count(uint32_t count, uint32_t entries_bytes, size_t left)
{
    if (count > HAUL_ARRAYS_MAX)
        return haul_fail(HAUL_PROTOCOL,
                         "a MESSAGE frame announces %" PRIu32 " arrays; at most %d are possible",
                         count, HAUL_ARRAYS_MAX);
    if (entries_bytes > left || entries_bytes % 8 != 0 || count > entries_bytes / ENTRY_LEAST_BYTES)
        return haul_fail(HAUL_PROTOCOL,
                         "a MESSAGE frame announces %" PRIu32 " arrays in %" PRIu32
                         " bytes, but %zu are left",
                         count, entries_bytes, left);
    return 0;
}

/* The sums, once all entries are decoded. */
static int check_sums(const struct haul_manifest *manifest, uint64_t payload_bytes)
{
    uint64_t total = manifest->inline_bytes;
    if (payload_bytes != manifest->inline_bytes)
        return haul_fail(HAUL_PROTOCOL,
                         "a MESSAGE frame announces a payload of %" PRIu64
                         " bytes, but its inline arrays have %" PRIu64,
                         payload_bytes, manifest->inline_bytes);
    if (!haul_add_u64(&total, manifest->offered_bytes))
        return haul_fail(HAUL_PROTOCOL,
                         "the arrays of a MESSAGE frame add up to more than 2^64 - 1 bytes");
    return 0;
}

static int decode_records(struct haul_records records)
{
    struct haul_record record;
    int more;
    while ((more = haul_record_next(&records, &record)) > 0) {
        int err = haul_record_skip(&records, &record); /* none is known yet */
        if (err != 0)
            return err;
    }
    return more;
}

static int sort_by_key(struct haul_manifest *manifest, uint32_t count)
{
    manifest->by_key = (const struct haul_array **)(void *)manifest->storage;
    for (uint32_t i = 0; i < count; i++)
        manifest->by_key[i] = &manifest->arrays[i].array;
    const char *equal = haul_keys_sort(manifest->by_key, count);
    char key[HAUL_KEY_TEXT_BYTES];
    return equal ? haul_fail(HAUL_PROTOCOL, "two arrays of a MESSAGE frame have the key '%s'",
                             haul_key_format(equal, key))
                 : 0;
}

static int decode_body(struct haul_manifest *manifest, const uint8_t *body, const uint8_t *end,
                       uint32_t count)
{
    const uint8_t *entries = body + haul_frame_fixed_bytes(HAUL_FRAME_MESSAGE);
    uint32_t entries_bytes = haul_get_u32(body + 20);
    int err = check_numbers(manifest);
    if (err == 0)
        err = check_count(count, entries_bytes, (size_t)(end - entries));
    if (err == 0)
        err = reserve(manifest, count, entries_bytes);
    if (err == 0)
        err = decode_entries(manifest, entries, entries + entries_bytes, count);
    if (err == 0)
        err =
            decode_records((struct haul_records){entries + entries_bytes, end, HAUL_FRAME_MESSAGE});
    if (err != 0)
        return err;
    return sort_by_key(manifest, count);
}

int haul_manifest_decode(struct haul_manifest *manifest, const uint8_t *header, size_t header_bytes,
                         uint64_t message_max)
{
    manifest->seq = manifest->reply_to = manifest->inline_bytes = manifest->offered_bytes = 0;
    manifest->count = 0;
    manifest->flags = 0;
    int err = haul_frame_check(header, header_bytes);
    if (err != 0)
        return err;
    if (haul_prefix_type(header) != HAUL_FRAME_MESSAGE)
        return haul_fail(HAUL_PROTOCOL, "a %s frame came where a MESSAGE was expected",
                         haul_frame_name(haul_prefix_type(header)));
    const uint8_t *body = header + HAUL_PREFIX_BYTES;
    uint32_t count = haul_get_u32(body + 16);
    manifest->flags = haul_prefix_flags(header);
    manifest->seq = haul_get_u64(body);
    manifest->reply_to = haul_get_u64(body + 8);
    err = decode_body(manifest, body, header + header_bytes, count);
    if (err == 0)
        err = check_sums(manifest, haul_prefix_payload_bytes(header));
    if (err != 0)
        return err;
    manifest->count = count;
    uint64_t total = manifest->inline_bytes + manifest->offered_bytes;
    if (total > message_max)
        return haul_fail(HAUL_TOO_LARGE,
                         "the message has %" PRIu64 " bytes of arrays; the receiver takes at most "
                         "%" PRIu64,
                         total, message_max);
    return 0;
}

const struct haul_array *haul_manifest_find(const struct haul_manifest *manifest, const char *key)
{
    bool found;
    size_t place = haul_keys_place(manifest->by_key, manifest->count, key, &found);
    return found ? manifest->by_key[place] : NULL;
}

uint64_t haul_manifest_prepaid_bytes(const struct haul_manifest *manifest)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < manifest->count; i++)
        if (!manifest->arrays[i].offered)
            bytes += haul_prepaid_array_bytes(&manifest->arrays[i].array);
    return bytes;
}

size_t haul_manifest_memory(const struct haul_manifest *manifest)
{
    return manifest->capacity * sizeof(*manifest->arrays) + manifest->storage_bytes;
}

void haul_manifest_clear(struct haul_manifest *manifest)
{
    if (manifest->capacity > 0)
        free(manifest->arrays);
    free(manifest->storage);
    *manifest = (struct haul_manifest){0};
}
