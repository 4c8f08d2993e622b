/* SPDX-License-Identifier: Apache-2.0
 * Batches: rows of arrays that messages fill on arrival. */
#include "handles.h"
#include "inbox.h"
#include "receiving.h"

#include <stdlib.h>

struct haul_batch {
    struct haul_engine *engine;
    struct haul_dict *row0;
    struct haul_array *arrays; /* per array of it: shape [rows, ...] */
    uint64_t (*shapes)[HAUL_NDIM_MAX];
    struct haul_destination destination;
    struct haul_server *server; /* NULL: not posted */
    size_t filled;
};

/* ---- Life ------------------------------------------------------------------------------------ */

static int describe(struct haul_batch *batch, uint64_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < batch->row0->count; i++) {
        const struct haul_array *array = &batch->row0->entries[i]->array;
        uint64_t all = array->nbytes;
        if (array->ndim == HAUL_NDIM_MAX || array->flags & HAUL_FORTRAN)
            return haul_fail(HAUL_INVALID, "%s: a row has at most %d axes and is in C order",
                             array->key, HAUL_NDIM_MAX - 1);
        batch->arrays[i] = *array;
        batch->shapes[i][0] = batch->destination.rows;
        if (array->ndim > 0)
            memcpy(&batch->shapes[i][1], array->shape, array->ndim * sizeof *array->shape);
        batch->arrays[i].shape = batch->shapes[i];
        batch->arrays[i].ndim++;
        if (!haul_mul_u64(&all, batch->destination.rows) ||
            !haul_add_u64(bytes, haul_align_up((size_t)all, HAUL_POOL_ALIGNMENT)) ||
            all > SIZE_MAX / 2)
            return haul_fail(HAUL_TOO_LARGE, "%s: the batch is too large", array->key);
        batch->arrays[i].nbytes = all;
    }
    return 0;
}

static int allocate(struct haul_batch *batch)
{
    struct haul_destination *destination = &batch->destination;
    size_t count = HAUL_MAX(batch->row0->count, (size_t)1);
    uint64_t bytes;
    batch->arrays = calloc(count, sizeof *batch->arrays);
    batch->shapes = calloc(count, sizeof *batch->shapes);
    destination->message = calloc(destination->rows, sizeof *destination->message);
    if (!batch->arrays || !batch->shapes || !destination->message)
        return haul_fail(HAUL_NO_MEMORY, "no memory for a batch");
    int err = describe(batch, &bytes);
    if (!err)
        err = haul_pool_alloc(batch->engine->pool, (size_t)bytes, 0, &destination->block);
    if (err)
        return err;
    char *at = destination->block->data;
    for (size_t i = 0; i < batch->row0->count; i++) {
        batch->row0->entries[i]->array.data = batch->arrays[i].data = at;
        at += haul_align_up((size_t)batch->arrays[i].nbytes, HAUL_POOL_ALIGNMENT);
    }
    destination->row0 = batch->row0;
    return 0;
}

static void free_batch(struct haul_batch *batch)
{
    struct haul_engine *engine = batch->engine;
    if (batch->destination.block)
        haul_block_release(batch->destination.block);
    if (batch->row0)
        haul_dict_unreference(batch->row0);
    free(batch->arrays);
    free(batch->shapes);
    free(batch->destination.message);
    free(batch);
    haul_engine_release(engine);
}

int haul_batch_create(struct haul_context *context, const struct haul_dict *row, size_t rows,
                      struct haul_batch **made)
{
    struct haul_engine *engine = haul_context_engine(context);
    if (rows == 0)
        return haul_fail(HAUL_INVALID, "a batch has at least one row");
    int err = haul_context_enter(context);
    if (err)
        return err;
    struct haul_batch *batch = calloc(1, sizeof *batch);
    haul_engine_retain(engine);
    if (batch) {
        batch->engine = engine;
        batch->destination.rows = rows;
        haul_list_init(&batch->destination.node);
        err = haul_dict_copy_types(engine, row, &batch->row0);
        if (!err)
            err = allocate(batch);
        if (err)
            free_batch(batch);
        else
            *made = batch;
    } else {
        err = haul_fail(HAUL_NO_MEMORY, "no memory for a batch");
        haul_engine_release(engine);
    }
    haul_engine_leave(engine);
    return err;
}

/* ---- Filling --------------------------------------------------------------------------------- */

static void release_rows(struct haul_batch *batch)
{
    struct haul_destination *destination = &batch->destination;
    for (size_t row = 0; row < destination->rows; row++) {
        struct haul_message *message = destination->message[row];
        if (!message)
            continue;
        haul_inbound_no_reply(message);
        haul_message_free(message); /* vacates the row */
    }
    batch->filled = 0;
}

int haul_batch_post(struct haul_batch *batch, struct haul_server *server)
{
    struct haul_engine *engine = batch->engine;
    if (server->engine != engine)
        return haul_fail(HAUL_INVALID, "the batch was made from another context than the server");
    int err = haul_engine_enter(engine);
    if (err)
        return err;
    if (batch->server) {
        err = haul_fail(HAUL_BUSY, "the batch is posted already: wait for it first");
    } else {
        release_rows(batch);
        batch->server = server;
        haul_server_retain(server);
        haul_destination_post(&server->inbox, &batch->destination);
    }
    haul_engine_leave(engine);
    return err;
}

static bool is_filled(void *arg)
{
    struct haul_batch *batch = arg;
    return batch->server->inbox.closed || batch->destination.whole == batch->destination.rows;
}

static void move_row(struct haul_batch *batch, size_t from, size_t to)
{
    struct haul_message *message = batch->destination.message[from];
    for (size_t i = 0; i < batch->row0->count; i++) {
        const struct haul_array *row0 = &batch->row0->entries[i]->array;
        char *rows = row0->data;
        if (row0->nbytes > 0)
            memcpy(rows + to * row0->nbytes, rows + from * row0->nbytes, (size_t)row0->nbytes);
    }
    HAUL_COUNT(message->peer, bytes_copied, haul_message_bytes(message));
    message->row = to;
    batch->destination.message[to] = message;
    batch->destination.message[from] = NULL;
}

/* The whole rows to the front. */
static void close_gaps(struct haul_batch *batch)
{
    size_t filled = 0;
    for (size_t row = 0; row < batch->destination.rows; row++) {
        if (!batch->destination.message[row])
            continue;
        if (row != filled)
            move_row(batch, row, filled);
        filled++;
    }
    batch->filled = filled;
}

static void unpost(struct haul_batch *batch)
{
    haul_server_release(batch->server);
    batch->server = NULL;
}

int haul_batch_wait(struct haul_batch *batch, int64_t timeout_ns)
{
    struct haul_engine *engine = batch->engine;
    int err = haul_engine_enter(engine);
    if (err)
        return err;
    if (!batch->server) {
        haul_engine_leave(engine);
        return haul_fail(HAUL_INVALID, "the batch is not posted");
    }
    err = haul_drive_wait(&engine->drive, is_filled, batch, haul_deadline_ns(timeout_ns));
    haul_destination_withdraw(&batch->destination);
    close_gaps(batch);
    if (!err && batch->filled < batch->destination.rows)
        err = HAUL_CLOSED;
    unpost(batch);
    if (err)
        haul_fail(err, "%s: %zu of %zu rows were filled", haul_error_sentence(err), batch->filled,
                  batch->destination.rows);
    haul_engine_leave(engine);
    return err;
}

void haul_batch_destroy(struct haul_batch *batch)
{
    if (!batch || batch->engine->inherited)
        return;
    struct haul_engine *engine = batch->engine;
    haul_engine_retain(engine);
    haul_drive_enter(&engine->drive);
    if (batch->server) {
        haul_destination_withdraw(&batch->destination);
        unpost(batch);
    }
    release_rows(batch);
    free_batch(batch);
    haul_drive_leave(&engine->drive);
    haul_engine_release(engine);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

size_t haul_batch_rows(const struct haul_batch *batch)
{
    return batch->filled;
}

size_t haul_batch_count(const struct haul_batch *batch)
{
    return batch->row0->count;
}

const struct haul_array *haul_batch_at(const struct haul_batch *batch, size_t index)
{
    return index < batch->row0->count ? &batch->arrays[index] : NULL;
}

const struct haul_array *haul_batch_find(const struct haul_batch *batch, const char *key)
{
    const struct haul_dict_entry *entry = haul_dict_entry_find(batch->row0, key);
    return entry ? &batch->arrays[entry->position] : NULL;
}

struct haul_peer *haul_batch_peer(const struct haul_batch *batch, size_t row)
{
    return row < batch->filled ? batch->destination.message[row]->peer : NULL;
}

int haul_batch_reply(struct haul_batch *batch, size_t row, struct haul_dict *dict,
                     int64_t timeout_ns)
{
    if (row >= batch->filled)
        return haul_fail(HAUL_INVALID, "row %zu is not filled (%zu are)", row, batch->filled);
    return haul_reply(batch->destination.message[row], dict, timeout_ns);
}
