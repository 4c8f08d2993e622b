/* SPDX-License-Identifier: Apache-2.0
 * haul/batch.h: rows of arrays that messages fill on arrival. */
#ifndef HAUL_BATCH_H
#define HAUL_BATCH_H

#include <haul/server.h>

#ifdef __cplusplus
extern "C" {
#endif

struct haul_batch;

/* A batch has, for each array of `row` (data is not looked at; of any context), one array of shape
 * [rows, ...]. Each message that arrives fills one row of all of them; it must hold exactly the
 * keys of `row` with their dtypes and shapes, or is refused to its sender. The memory is the
 * pool's. Owned by the caller. Errors: HAUL_INVALID (rows 0, HAUL_FORTRAN, HAUL_NDIM_MAX axes),
 * HAUL_TOO_LARGE, HAUL_NO_MEMORY. */
HAUL_API int haul_batch_create(struct haul_context *context, const struct haul_dict *row,
                               size_t rows, struct haul_batch **batch);
/* Gives the batch to the server to be filled: the rows of an earlier filling are released (peers
 * that wait for a reply get HAUL_NO_REPLY). Several batches may be posted; they are filled in turn.
 * Errors: HAUL_BUSY (posted already), HAUL_INVALID (the server is another context's). */
HAUL_API int haul_batch_post(struct haul_batch *batch, struct haul_server *server);
/* Waits until all rows are filled. HAUL_TIMEOUT, HAUL_INTERRUPTED and HAUL_CLOSED end it too, with
 * the rows that are whole (0 or more), moved to the front; messages that came in part go on
 * elsewhere, for the next receive. After it the arrays are the caller's until the next post. */
HAUL_API int haul_batch_wait(struct haul_batch *batch, int64_t timeout_ns);
/* Filled rows, known after haul_batch_wait(). */
HAUL_API size_t haul_batch_rows(const struct haul_batch *batch);
/* The array of that key with shape [rows, ...], or NULL. Lives as long as the batch. */
HAUL_API const struct haul_array *haul_batch_find(const struct haul_batch *batch, const char *key);
/* How many arrays it has, and the i-th of them (the order of `row`), or NULL. */
HAUL_API size_t haul_batch_count(const struct haul_batch *batch);
HAUL_API const struct haul_array *haul_batch_at(const struct haul_batch *batch, size_t index);
/* Who filled a row; valid until the next post. NULL if the row is not filled. */
HAUL_API struct haul_peer *haul_batch_peer(const struct haul_batch *batch, size_t row);
/* Answers the call that filled a row, as haul_reply(). */
HAUL_API int haul_batch_reply(struct haul_batch *batch, size_t row, struct haul_dict *dict,
                              int64_t timeout_ns);
/* Also of one that is posted: it is withdrawn. Rows that were not replied to end their calls. */
HAUL_API void haul_batch_destroy(struct haul_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
