/* SPDX-License-Identifier: Apache-2.0
 * What `haul bench` sends: arrays as the user described them, and patterns that can be checked. */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char rl_frames[] = "foo:u8[1024,64,64,3],bar:f32[1024,1024],baz:f32[1024]";

#define STAMP_KEY "haul.stamp" /* u64[2]: client, number */

/* ---- Parsing --------------------------------------------------------------------------------- */

/* An array with room for its key and shape. */
struct described {
    char key[HAUL_KEY_MAX + 1];
    uint64_t shape[HAUL_NDIM_MAX];
};

/* Reads "[d0,d1,...]" at *at. */
static bool parse_shape(const char **at, struct haul_array *array, uint64_t *shape)
{
    const char *c = *at;
    if (*c++ != '[')
        return false;
    while (*c != ']') {
        char *end;
        uint64_t extent = strtoull(c, &end, 10);
        if (*c < '0' || *c > '9' || array->ndim == HAUL_NDIM_MAX || (*end != ',' && *end != ']'))
            return false;
        shape[array->ndim++] = extent;
        if (__builtin_mul_overflow(array->nbytes, extent, &array->nbytes))
            return false;
        c = *end == ',' ? end + 1 : end;
    }
    *at = c + 1;
    return true;
}

/* Reads "key:dtype[d0,d1,...]" at *at. */
static bool parse_array(const char **at, struct haul_array *array)
{
    struct described *described = calloc(1, sizeof(*described));
    if (!described)
        return false;
    *array = (struct haul_array){.key = described->key, .shape = described->shape};
    size_t key_bytes = strcspn(*at, ":");
    const char *type = *at + key_bytes + 1;
    if (key_bytes == 0 || key_bytes > HAUL_KEY_MAX || (*at)[key_bytes] != ':')
        return false;
    memcpy(described->key, *at, key_bytes);
    size_t type_bytes = strcspn(type, "[");
    char name[16] = "";
    if (type_bytes >= sizeof(name))
        return false;
    memcpy(name, type, type_bytes);
    array->dtype = haul_dtype_parse(name);
    array->itemsize = haul_dtype_itemsize(array->dtype);
    array->nbytes = array->itemsize;
    *at = type + type_bytes;
    return array->itemsize > 0 && parse_shape(at, array, described->shape);
}

static bool has_key_before(const struct bench_workload *workload, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(workload->arrays[i].key, workload->arrays[index].key) == 0)
            return true;
    return false;
}

static bool parse_arrays(struct bench_workload *workload, const char *text)
{
    for (const char *at = text;;) {
        size_t bytes = (workload->count + 1) * sizeof(*workload->arrays);
        struct haul_array *arrays = realloc(workload->arrays, bytes);
        if (!arrays)
            return false;
        workload->arrays = arrays;
        struct haul_array *array = &arrays[workload->count++];
        if (!parse_array(&at, array) || has_key_before(workload, workload->count - 1) ||
            __builtin_add_overflow(workload->bytes, array->nbytes, &workload->bytes))
            return false;
        if (*at == '\0')
            return true;
        if (*at++ != ',')
            return false;
    }
}

bool bench_workload_parse(struct bench_workload *workload, const char *text, bool verify,
                          char *error, size_t error_size)
{
    if (strcmp(text, "rl-frames") == 0)
        text = rl_frames;
    *workload = (struct bench_workload){.text = text, .rows = 1};
    if (!parse_arrays(workload, text)) {
        snprintf(
            error, error_size,
            "--workload takes rl-frames or \"key:dtype[d0,d1,...],...\" with keys that differ, "
            "\"%s\" for example; not \"%s\"",
            rl_frames, text);
        return false;
    }
    if (workload->arrays[0].ndim > 0)
        workload->rows = workload->arrays[0].shape[0];
    const char *stamp = STAMP_KEY ":u64[2]";
    return !verify || parse_arrays(workload, stamp);
}

void bench_workload_clear(struct bench_workload *workload)
{
    for (size_t i = 0; i < workload->count; i++)
        free((void *)(uintptr_t)workload->arrays[i].key); /* with the shape */
    free(workload->arrays);
    *workload = (struct bench_workload){0};
}

/* ---- Patterns -------------------------------------------------------------------------------- */

/* Word i of an array is seed + i * STEP: no two arrays, messages or places in them look alike. */
#define STEP UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t seed_of(size_t index, uint64_t client, uint64_t number)
{
    return mix(mix(mix(index + 1) + client) + number);
}

static bool is_stamp(const struct bench_workload *workload, size_t index)
{
    return strcmp(workload->arrays[index].key, STAMP_KEY) == 0;
}

void bench_fill(const struct bench_workload *workload, size_t index, void *data, uint64_t client,
                uint64_t number)
{
    uint64_t bytes = workload->arrays[index].nbytes, word = seed_of(index, client, number);
    unsigned char *at = data;
    if (is_stamp(workload, index)) {
        memcpy(at, &client, 8);
        memcpy(at + 8, &number, 8);
        return;
    }
    for (; bytes >= 8; bytes -= 8, at += 8, word += STEP)
        memcpy(at, &word, 8);
    memcpy(at, &word, bytes);
}

bool bench_check(const struct bench_workload *workload, size_t index, const void *data,
                 uint64_t client, uint64_t number)
{
    uint64_t bytes = workload->arrays[index].nbytes, want = seed_of(index, client, number);
    const unsigned char *at = data;
    uint64_t wrong = 0, word;
    if (is_stamp(workload, index))
        return true; /* it is what client and number come from */
    for (; bytes >= 8; bytes -= 8, at += 8, want += STEP) {
        memcpy(&word, at, 8);
        wrong |= word ^ want;
    }
    return wrong == 0 && memcmp(at, &want, bytes) == 0;
}

void bench_stamp_read(const void *stamp, uint64_t *client, uint64_t *number)
{
    memcpy(client, stamp, 8);
    memcpy(number, (const char *)stamp + 8, 8);
}
