/* SPDX-License-Identifier: Apache-2.0
 * Dicts: the arrays that are sent. */
#include "handles.h"
#include "keys.h"

#include <stdlib.h>

static int make_dict(struct haul_engine *engine, struct haul_dict **dict)
{
    struct haul_dict *made = calloc(1, sizeof *made);
    if (!made)
        return haul_fail(HAUL_NO_MEMORY, "no memory for a dict");
    atomic_init(&made->references, 1);
    made->engine = engine;
    haul_engine_retain(engine);
    *dict = made;
    return 0;
}

int haul_dict_create(struct haul_context *context, struct haul_dict **dict)
{
    struct haul_engine *engine = haul_context_engine(context);
    if (engine->inherited)
        return haul_engine_enter(engine);
    return make_dict(engine, dict);
}

/* ---- Entries --------------------------------------------------------------------------------- */

void haul_dict_entry_free(struct haul_dict_entry *entry)
{
    if (entry->block)
        haul_block_release(entry->block);
    free(entry->text);
    free(entry);
}

/* A copy of the array with its text and shape, its data as given. */
static int make_entry(const struct haul_array *array, struct haul_dict_entry **made)
{
    struct haul_array checked = *array;
    int err = haul_array_check(&checked);
    if (err)
        return err;
    size_t key_bytes = strlen(array->key) + 1;
    size_t description_bytes = array->description ? strlen(array->description) + 1 : 0;
    struct haul_dict_entry *entry = calloc(1, sizeof *entry);
    char *text = malloc(key_bytes + description_bytes);
    if (!entry || !text) {
        free(entry);
        free(text);
        return haul_fail(HAUL_NO_MEMORY, "%s: no memory for an array's entry", array->key);
    }
    haul_list_init(&entry->node);
    entry->text = text;
    memcpy(text, array->key, key_bytes);
    if (description_bytes > 0)
        memcpy(text + key_bytes, array->description, description_bytes);
    if (array->ndim > 0)
        memcpy(entry->shape, array->shape, array->ndim * sizeof *array->shape);
    entry->array = checked;
    entry->array.key = text;
    entry->array.flags &= ~(uint32_t)HAUL_SHARED; /* of where it was received, not of its bytes */
    entry->array.description = description_bytes ? text + key_bytes : NULL;
    entry->array.shape = entry->shape;
    *made = entry;
    return 0;
}

static struct haul_dict_entry *entry_of(const struct haul_array *array)
{
    return HAUL_CONTAINER_OF(array, struct haul_dict_entry, array);
}

static int reserve_entry(struct haul_dict *dict, const char *key)
{
    if (dict->count == HAUL_ARRAYS_MAX)
        return haul_fail(HAUL_INVALID, "%s: a dict has at most %d arrays", key, HAUL_ARRAYS_MAX);
    if (dict->count < dict->capacity)
        return 0;
    size_t capacity = dict->capacity ? 2 * dict->capacity : 8;
    struct haul_dict_entry **entries = realloc(dict->entries, capacity * sizeof *entries);
    if (entries)
        dict->entries = entries;
    const struct haul_array **by_key = realloc(dict->by_key, capacity * sizeof *by_key);
    if (by_key)
        dict->by_key = by_key;
    if (!entries || !by_key)
        return haul_fail(HAUL_NO_MEMORY, "%s: no memory for an array's entry", key);
    dict->capacity = capacity;
    return 0;
}

static void replace_entry(struct haul_dict *dict, size_t place, struct haul_dict_entry *entry)
{
    struct haul_dict_entry *old = entry_of(dict->by_key[place]);
    entry->position = old->position;
    dict->entries[entry->position] = entry;
    dict->by_key[place] = &entry->array;
    haul_dict_entry_free(old);
}

static void append_entry(struct haul_dict *dict, size_t place, struct haul_dict_entry *entry)
{
    const struct haul_array **at = dict->by_key + place;
    memmove(at + 1, at, (dict->count - place) * sizeof *at);
    *at = &entry->array;
    entry->position = dict->count++;
    dict->entries[entry->position] = entry;
}

/* Adds an entry or replaces the one of the same key. Takes it over. */
static int put_entry(struct haul_dict *dict, struct haul_dict_entry *entry)
{
    bool found;
    size_t place = haul_keys_place(dict->by_key, dict->count, entry->array.key, &found);
    int err = found ? 0 : reserve_entry(dict, entry->array.key);
    if (err)
        haul_dict_entry_free(entry);
    else if (found)
        replace_entry(dict, place, entry);
    else
        append_entry(dict, place, entry);
    return err;
}

void haul_dict_take_given(struct haul_dict *dict, struct haul_list *given)
{
    size_t kept = 0, sorted = 0;
    for (size_t i = 0; i < dict->count; i++)
        if (!entry_of(dict->by_key[i])->give)
            dict->by_key[sorted++] = dict->by_key[i];
    for (size_t i = 0; i < dict->count; i++) {
        struct haul_dict_entry *entry = dict->entries[i];
        if (entry->give) {
            haul_list_append(given, &entry->node);
            continue;
        }
        entry->position = kept++;
        dict->entries[entry->position] = entry;
    }
    dict->count = kept;
}

static int check_not_receiving(const struct haul_dict *dict)
{
    if (!dict->receiving)
        return 0;
    return haul_fail(HAUL_BUSY, "the dict is being received into; wait, or use another dict");
}

/* Neither received into, nor sent. */
static int check_idle(const struct haul_dict *dict)
{
    int err = check_not_receiving(dict);
    if (err || dict->in_flight == 0)
        return err;
    return haul_fail(HAUL_BUSY,
                     "%u sends of the dict are under way; wait for them, or use another dict",
                     dict->in_flight);
}

/* As put_entry(), if no send has the dict; under the lock. */
static int add_entry(struct haul_dict *dict, struct haul_dict_entry *entry)
{
    int err = check_idle(dict);
    if (!err)
        return put_entry(dict, entry);
    haul_dict_entry_free(entry);
    return err;
}

static int check_engine(const struct haul_dict *dict, const struct haul_engine *engine)
{
    if (dict->engine == engine)
        return 0;
    return haul_fail(HAUL_INVALID, "the dict was made from another context");
}

static int check_data(const struct haul_dict *dict)
{
    for (size_t i = 0; i < dict->count; i++) {
        const struct haul_array *array = &dict->entries[i]->array;
        if (!array->data && array->nbytes > 0)
            return haul_fail(HAUL_INVALID, "%s: %llu bytes, but data is NULL", array->key,
                             (unsigned long long)array->nbytes);
    }
    return 0;
}

int haul_dict_check_sendable(const struct haul_dict *dict, const struct haul_engine *engine)
{
    int err = check_engine(dict, engine);
    if (!err)
        err = check_not_receiving(dict);
    return err ? err : check_data(dict);
}

int haul_dict_check_destination(const struct haul_dict *dict, const struct haul_engine *engine)
{
    int err = check_engine(dict, engine);
    if (!err)
        err = check_idle(dict);
    return err ? err : check_data(dict);
}

struct haul_dict_entry *haul_dict_entry_find(const struct haul_dict *dict, const char *key)
{
    bool found;
    size_t place = haul_keys_place(dict->by_key, dict->count, key, &found);
    return found ? entry_of(dict->by_key[place]) : NULL;
}

/* ---- Public ---------------------------------------------------------------------------------- */

static struct haul_array plain_array(const char *key, enum haul_dtype dtype, uint32_t ndim,
                                     const uint64_t *shape, const void *data)
{
    return (struct haul_array){.key = key,
                               .dtype = dtype,
                               .itemsize = haul_dtype_itemsize(dtype),
                               .ndim = ndim,
                               .shape = shape,
                               .data = (void *)data};
}

int haul_dict_put(struct haul_dict *dict, const char *key, enum haul_dtype dtype, uint32_t ndim,
                  const uint64_t *shape, const void *data)
{
    struct haul_array array = plain_array(key, dtype, ndim, shape, data);
    return haul_dict_put_array(dict, &array);
}

/* Makes the entry of an array; on success the lock is held. */
static int begin_adding(struct haul_dict *dict, const struct haul_array *array,
                        struct haul_dict_entry **entry)
{
    int err = make_entry(array, entry);
    if (err)
        return err;
    err = haul_engine_enter(dict->engine);
    if (err)
        haul_dict_entry_free(*entry);
    return err;
}

static bool lies_in(const struct haul_array *array, const struct haul_block *block)
{
    uintptr_t start = (uintptr_t)array->data, base = (uintptr_t)block->data;
    return start >= base && start - base <= block->bytes &&
           array->nbytes <= block->bytes - (start - base);
}

int haul_dict_put_array(struct haul_dict *dict, const struct haul_array *array)
{
    struct haul_dict_entry *entry;
    int err = begin_adding(dict, array, &entry);
    if (err)
        return err;
    err = add_entry(dict, entry);
    haul_engine_leave(dict->engine);
    return err;
}

int haul_dict_put_block(struct haul_dict *dict, const struct haul_array *array,
                        struct haul_block *block)
{
    struct haul_dict_entry *entry;
    int err = begin_adding(dict, array, &entry);
    if (err)
        return err;
    if (!lies_in(&entry->array, block)) {
        err = haul_fail(HAUL_INVALID, "%s: its bytes do not lie in the block", entry->array.key);
    } else if (haul_block_pool(block) != dict->engine->offers) {
        err = haul_fail(HAUL_INVALID, "%s: the block was made from another context than the dict",
                        entry->array.key);
    }
    if (err) {
        haul_dict_entry_free(entry);
    } else {
        entry->block = haul_block_retain(block);
        err = add_entry(dict, entry);
    }
    haul_engine_leave(dict->engine);
    return err;
}

int haul_dict_alloc(struct haul_dict *dict, const char *key, enum haul_dtype dtype, uint32_t ndim,
                    const uint64_t *shape, void **data)
{
    struct haul_array array = plain_array(key, dtype, ndim, shape, NULL);
    int err = haul_dict_alloc_array(dict, &array);
    if (!err)
        *data = array.data;
    return err;
}

int haul_dict_alloc_array(struct haul_dict *dict, struct haul_array *array)
{
    struct haul_dict_entry *entry;
    int err = begin_adding(dict, array, &entry);
    if (err)
        return err;
    err = haul_engine_alloc(dict->engine, (size_t)entry->array.nbytes, &entry->block);
    if (err) {
        haul_dict_entry_free(entry);
    } else {
        void *data = entry->array.data = entry->block->data;
        uint64_t nbytes = entry->array.nbytes;
        err = add_entry(dict, entry);
        if (!err) {
            array->data = data;
            array->nbytes = nbytes;
        }
    }
    haul_engine_leave(dict->engine);
    return err;
}

int haul_dict_give(struct haul_dict *dict, const char *key)
{
    int err = haul_engine_enter(dict->engine);
    if (err)
        return err;
    struct haul_dict_entry *entry = haul_dict_entry_find(dict, key);
    err = check_idle(dict);
    if (!entry)
        err = haul_fail(HAUL_NOT_FOUND, "the dict has no array \"%s\"", key);
    else if (!err && !entry->block)
        err = haul_fail(HAUL_INVALID, "%s: only arrays in pool memory can be given", key);
    else if (!err)
        entry->give = true;
    haul_engine_leave(dict->engine);
    return err;
}

size_t haul_dict_count(const struct haul_dict *dict)
{
    return dict->count;
}

const struct haul_array *haul_dict_at(const struct haul_dict *dict, size_t index)
{
    return index < dict->count ? &dict->entries[index]->array : NULL;
}

static void free_entries(struct haul_dict *dict)
{
    while (dict->count > 0)
        haul_dict_entry_free(dict->entries[--dict->count]);
}

int haul_dict_clear(struct haul_dict *dict)
{
    int err = haul_engine_enter(dict->engine);
    if (err)
        return err;
    err = check_idle(dict);
    if (!err)
        free_entries(dict);
    haul_engine_leave(dict->engine);
    return err;
}

int haul_dict_copy_types(struct haul_engine *engine, const struct haul_dict *dict,
                         struct haul_dict **made)
{
    struct haul_dict *copy = NULL;
    int err = make_dict(engine, &copy);
    for (size_t i = 0; i < dict->count && !err; i++) {
        struct haul_dict_entry *entry;
        err = make_entry(&dict->entries[i]->array, &entry);
        if (err)
            continue;
        entry->array.data = NULL;
        err = put_entry(copy, entry);
    }
    if (!err)
        *made = copy;
    else if (copy)
        haul_dict_unreference(copy);
    return err;
}

static bool has_no_sends(void *arg)
{
    return ((struct haul_dict *)arg)->in_flight == 0;
}

int haul_dict_wait(struct haul_dict *dict, int64_t timeout_ns)
{
    struct haul_engine *engine = dict->engine;
    int err = haul_engine_enter(engine);
    if (err)
        return err;
    haul_engine_retain(engine);
    atomic_fetch_add(&dict->references, 1); /* it may be destroyed meanwhile */
    err = haul_drive_wait(&engine->drive, has_no_sends, dict, haul_deadline_ns(timeout_ns));
    if (err)
        haul_fail(err, "%u sends of the dict are still under way", dict->in_flight);
    haul_dict_unreference(dict);
    haul_engine_leave(engine);
    haul_engine_release(engine);
    return err;
}

void haul_dict_unreference(struct haul_dict *dict)
{
    struct haul_engine *engine = dict->engine;
    if (atomic_fetch_sub(&dict->references, 1) != 1)
        return;
    free_entries(dict);
    free(dict->by_key);
    free(dict->entries);
    free(dict);
    haul_engine_release(engine);
}

void haul_dict_destroy(struct haul_dict *dict)
{
    if (!dict || dict->engine->inherited)
        return;
    struct haul_engine *engine = dict->engine;
    haul_engine_retain(engine);
    haul_drive_enter(&engine->drive);
    haul_dict_unreference(dict);
    haul_drive_leave(&engine->drive);
    haul_engine_release(engine);
}
