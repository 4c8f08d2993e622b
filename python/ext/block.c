/* SPDX-License-Identifier: Apache-2.0
 * Blocks: what NumPy arrays in pool memory have as their base. */
#include "haulpy.h"

static struct block *block_make(struct context *context, size_t bytes)
{
    struct haul_block *made;
    int err;
    WITHOUT_GIL(err = haul_block_alloc(context->context, bytes, &made));
    if (err) {
        raise_error(err);
        return NULL;
    }
    struct block *self = handle_make(&block_type, context);
    if (!self) {
        haul_block_release(made);
        return NULL;
    }
    self->block = made;
    return self;
}

static void block_dealloc(PyObject *object)
{
    haul_block_release(((struct block *)object)->block);
    handle_free(object);
}

/* The bytes of an array, or -1 if there is no such array. */
static npy_intp bytes_of(const PyArray_Descr *dtype, int ndim, const npy_intp *shape)
{
    npy_intp bytes = PyDataType_ELSIZE(dtype);
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(bytes, shape[i], &bytes))
            return -1;
    return bytes;
}

PyArrayObject *block_array(struct context *context, PyArray_Descr *dtype, int ndim,
                           const npy_intp *shape)
{
    npy_intp bytes = bytes_of(dtype, ndim, shape);
    if (bytes < 0 || PyDataType_REFCHK(dtype)) {
        PyErr_SetString(PyExc_ValueError, bytes < 0 ? "there is no array of that shape"
                                                    : "pool memory holds no Python objects");
        Py_DECREF(dtype);
        return NULL;
    }
    struct block *block = block_make(context, (size_t)bytes);
    if (!block) {
        Py_DECREF(dtype);
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)PyArray_NewFromDescr(
        &PyArray_Type, dtype, ndim, (npy_intp *)shape, NULL, haul_block_data(block->block),
        NPY_ARRAY_CARRAY, NULL);
    if (!array)
        Py_DECREF(block);
    else if (PyArray_SetBaseObject(array, (PyObject *)block))
        Py_CLEAR(array);
    return array;
}

struct block *block_of(struct context *context, PyArrayObject *array)
{
    PyObject *base = PyArray_BASE(array);
    while (base && PyArray_Check(base))
        base = PyArray_BASE((PyArrayObject *)base);
    if (!base || !Py_IS_TYPE(base, &block_type) ||
        ((struct block *)base)->handle.context != context)
        return NULL;
    return (struct block *)base;
}

PyTypeObject block_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul._haul.Block",
    .tp_doc = "Memory of a context's pool; the base of arrays made by haul.empty().",
    .tp_basicsize = sizeof(struct block),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = block_dealloc,
};
