/* SPDX-License-Identifier: Apache-2.0
 * haul/dict.h: arrays, and the dicts of arrays that are sent. */
#ifndef HAUL_DICT_H
#define HAUL_DICT_H

#include <haul/block.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Element types. The values are wire format (docs/WIRE.md). HAUL_OTHER is everything else that
 * NumPy can describe without objects: item size + NumPy's dtype description, carried as is. */
enum haul_dtype {
    HAUL_BOOL = 1,
    HAUL_I8 = 2,
    HAUL_I16 = 3,
    HAUL_I32 = 4,
    HAUL_I64 = 5,
    HAUL_U8 = 6,
    HAUL_U16 = 7,
    HAUL_U32 = 8,
    HAUL_U64 = 9,
    HAUL_F16 = 10,
    HAUL_BF16 = 11,
    HAUL_F32 = 12,
    HAUL_F64 = 13,
    HAUL_C64 = 14,
    HAUL_C128 = 15,
    HAUL_OTHER = 16,
};

enum {
    HAUL_NDIM_MAX = 32,
    HAUL_KEY_MAX = 255,          /* bytes of UTF-8, without the final NUL; at least 1 */
    HAUL_DESCRIPTION_MAX = 4096, /* bytes of a dtype description */
    HAUL_ARRAYS_MAX = 65536,     /* arrays in one dict */
};

/* haul_array.flags */
enum {
    HAUL_FORTRAN = 1, /* the bytes are in column-major order (first axis fastest) */
    HAUL_SHARED = 2,  /* received: in memory that the sender gave and may still see; do not write */
};

/* An array: a name, a type, a shape and contiguous little-endian bytes. */
struct haul_array {
    const char *key; /* UTF-8, NUL-terminated, 1 to HAUL_KEY_MAX bytes */
    const char
        *description; /* HAUL_OTHER: NumPy's description ("<M8[ns]", "[('a', '<f4')]"), else NULL */
    const uint64_t *shape; /* ndim extents; may be NULL if ndim is 0 */
    void *data;        /* nbytes of C-order (or HAUL_FORTRAN) bytes; may be NULL if nbytes is 0 */
    uint64_t nbytes;   /* product(shape) * itemsize */
    uint32_t dtype;    /* enum haul_dtype */
    uint32_t itemsize; /* bytes of an element; > 0 */
    uint32_t ndim;     /* 0 (a scalar) to HAUL_NDIM_MAX */
    uint32_t flags;    /* HAUL_FORTRAN, HAUL_SHARED */
};

/* Bytes of an element; 0 for HAUL_OTHER and for what is no dtype. */
HAUL_API uint32_t haul_dtype_itemsize(uint32_t dtype);
/* "f32"; "other" for HAUL_OTHER; NULL for what is no dtype. Static. */
HAUL_API const char *haul_dtype_name(uint32_t dtype);
/* The dtype of a name, or 0. */
HAUL_API uint32_t haul_dtype_parse(const char *name);

struct haul_dict;

/* An empty dict. Owned by the caller; used by one thread at a time, except that any number of sends
 * of it may be under way, or one receive into it. Meanwhile put, alloc, give and clear answer
 * HAUL_BUSY; so does a send while it is received into. Errors: HAUL_NO_MEMORY. */
HAUL_API int haul_dict_create(struct haul_context *context, struct haul_dict **dict);

/* Adds an array, or replaces the one of the same key. Key and shape are copied; `data` is borrowed:
 * it must stay as it is from a send until that send's op has finished. It may be NULL in a dict
 * that only says types (haul_batch_create). Errors: HAUL_INVALID (key length, ndim, dtype, a size
 * that overflows), HAUL_BUSY, HAUL_NO_MEMORY.
 */
HAUL_API int haul_dict_put(struct haul_dict *dict, const char *key, enum haul_dtype dtype,
                           uint32_t ndim, const uint64_t *shape, const void *data);
/* The same from a filled-in array (any dtype, any flag). nbytes is computed, not read. */
HAUL_API int haul_dict_put_array(struct haul_dict *dict, const struct haul_array *array);

/* Adds an array in pool memory: 64-byte aligned, not initialised, registered with the NIC where
 * there is one. *data is the dict's until the array is replaced or given or the dict cleared or
 * destroyed. Errors: as put, and HAUL_NO_MEMORY when the pool is exhausted (HAUL_POOL_MAX). */
HAUL_API int haul_dict_alloc(struct haul_dict *dict, const char *key, enum haul_dtype dtype,
                             uint32_t ndim, const uint64_t *shape, void **data);
/* The same from an array whose data and nbytes are filled in on success. */
HAUL_API int haul_dict_alloc_array(struct haul_dict *dict, struct haul_array *array);

/* As haul_dict_put_array() for an array whose bytes lie in a block of this context's pool. The
 * dict, and what is sent of it, has a reference to the block of its own. Errors: HAUL_INVALID (they
 * do not lie in it, or it is of another context). */
HAUL_API int haul_dict_put_block(struct haul_dict *dict, const struct haul_array *array,
                                 struct haul_block *block);

/* Gives an array from haul_dict_alloc() or haul_dict_put_block() with the next send: when that send
 * starts the array leaves the dict, and the dict's reference to its memory ends when the receiver
 * has released it (in place on shared memory) or has all of it. Nobody may write to it after the
 * send has started. Errors: HAUL_NOT_FOUND, HAUL_INVALID (put with haul_dict_put()), HAUL_BUSY. */
HAUL_API int haul_dict_give(struct haul_dict *dict, const char *key);

/* How many arrays it has. */
HAUL_API size_t haul_dict_count(const struct haul_dict *dict);
/* The i-th array, or NULL. Valid until the dict changes. */
HAUL_API const struct haul_array *haul_dict_at(const struct haul_dict *dict, size_t index);

/* Removes all arrays. Errors: HAUL_BUSY. */
HAUL_API int haul_dict_clear(struct haul_dict *dict);

/* Waits until no send of the dict is under way, so that its arrays are the caller's again: what to
 * do after HAUL_BORROWED. Errors: HAUL_TIMEOUT, HAUL_INTERRUPTED. */
HAUL_API int haul_dict_wait(struct haul_dict *dict, int64_t timeout_ns);

/* Ends the dict. Sends under way keep what they need of it; borrowed arrays stay borrowed by them.
 * A receive into it goes on; but its arrays from haul_dict_alloc() are gone when that returns, also
 * for the message. */
HAUL_API void haul_dict_destroy(struct haul_dict *dict);

#ifdef __cplusplus
}
#endif
#endif
