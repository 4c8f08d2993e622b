/* SPDX-License-Identifier: Apache-2.0
 * Arrays: what a mapping holds as haul sends it, and received bytes as NumPy shows them.
 *
 * Sending looks at arrays where they are. What is not contiguous is copied once, into pool memory,
 * and what is not in the wire's byte order is converted. Types that are not haul's own are asked of
 * haul/_dtype.py, both ways. */
#include "haulpy.h"

static PyObject *describe_other, *parse_other; /* of haul._dtype */

int arrays_init(void)
{
    PyObject *module = PyImport_ImportModule("haul._dtype");
    if (!module)
        return -1;
    describe_other = PyObject_GetAttrString(module, "describe");
    parse_other = PyObject_GetAttrString(module, "parse");
    Py_DECREF(module);
    return describe_other && parse_other ? 0 : -1;
}

/* ---- Types ----------------------------------------------------------------------------------- */

/* By kind and size, because two of NumPy's type numbers may be the same type. */
static const struct {
    char kind;
    uint8_t itemsize, dtype;
    int number;
} own_types[] = {
    {'b', 1, HAUL_BOOL, NPY_BOOL},     {'i', 1, HAUL_I8, NPY_INT8},
    {'i', 2, HAUL_I16, NPY_INT16},     {'i', 4, HAUL_I32, NPY_INT32},
    {'i', 8, HAUL_I64, NPY_INT64},     {'u', 1, HAUL_U8, NPY_UINT8},
    {'u', 2, HAUL_U16, NPY_UINT16},    {'u', 4, HAUL_U32, NPY_UINT32},
    {'u', 8, HAUL_U64, NPY_UINT64},    {'f', 2, HAUL_F16, NPY_FLOAT16},
    {'f', 4, HAUL_F32, NPY_FLOAT32},   {'f', 8, HAUL_F64, NPY_FLOAT64},
    {'c', 8, HAUL_C64, NPY_COMPLEX64}, {'c', 16, HAUL_C128, NPY_COMPLEX128},
};
enum { OWN_TYPES = sizeof own_types / sizeof *own_types };

static uint32_t own_dtype(const PyArray_Descr *dtype)
{
    if (dtype->type_num >= NPY_NTYPES_LEGACY)
        return 0; /* somebody else's type, whatever its kind */
    for (int i = 0; i < OWN_TYPES; i++)
        if (own_types[i].kind == dtype->kind &&
            (npy_intp)own_types[i].itemsize == PyDataType_ELSIZE(dtype))
            return own_types[i].dtype;
    return 0;
}

/* As _dtype.describe() says: (haul's dtype, description or None, NumPy's dtype as it is sent). */
static PyArray_Descr *ask_for_description(PyArray_Descr *dtype, const char *key,
                                          struct haul_array *array, PyObject *kept)
{
    PyObject *answer = PyObject_CallFunction(describe_other, "sO", key, (PyObject *)dtype);
    PyObject *description, *sent;
    int number;
    if (!answer || PyList_Append(kept, answer) ||
        !PyArg_ParseTuple(answer, "iOO!", &number, &description, &PyArrayDescr_Type, &sent)) {
        Py_XDECREF(answer);
        return NULL;
    }
    Py_DECREF(answer); /* `kept` has it */
    array->dtype = (uint32_t)number;
    array->description = description == Py_None ? NULL : PyUnicode_AsUTF8(description);
    if (description != Py_None && !array->description)
        return NULL;
    return (PyArray_Descr *)Py_NewRef(sent);
}

PyArray_Descr *describe(PyArray_Descr *dtype, const char *key, struct haul_array *array,
                        PyObject *kept)
{
    PyArray_Descr *sent;
    array->dtype = own_dtype(dtype);
    array->description = NULL;
    if (!array->dtype)
        sent = ask_for_description(dtype, key, array, kept);
    else if (PyArray_ISNBO(dtype->byteorder))
        sent = (PyArray_Descr *)Py_NewRef(dtype);
    else
        sent = PyArray_DescrNewByteorder(dtype, NPY_LITTLE);
    if (sent)
        array->itemsize = (uint32_t)PyDataType_ELSIZE(sent);
    return sent;
}

static PyArray_Descr *dtype_of(const struct haul_array *array)
{
    for (int i = 0; i < OWN_TYPES; i++)
        if (own_types[i].dtype == array->dtype)
            return PyArray_DescrFromType(own_types[i].number);
    PyObject *parsed = PyObject_CallFunction(parse_other, "izI", (int)array->dtype,
                                             array->description, (unsigned int)array->itemsize);
    if (parsed && !PyArray_DescrCheck(parsed)) {
        PyErr_SetString(PyExc_SystemError, "_dtype.parse() gives no dtype");
        Py_CLEAR(parsed);
    }
    return (PyArray_Descr *)parsed;
}

/* ---- Sending --------------------------------------------------------------------------------- */

/* Whether it is one of numpy.ma's. That is not imported for it: who has made one has. -1: an
 * exception is set. */
static int is_masked(PyObject *array)
{
    if (PyArray_CheckExact(array))
        return 0;
    PyObject *name = PyUnicode_FromString("numpy.ma");
    PyObject *module = name ? PyImport_GetModule(name) : NULL;
    PyObject *type = module ? PyObject_GetAttrString(module, "MaskedArray") : NULL;
    int masked = type ? PyObject_IsInstance(array, type) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(type);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return masked;
}

/* An array that is sent as it is. */
static PyArrayObject *take_array(PyObject *array)
{
    int masked = is_masked(array);
    if (masked > 0)
        PyErr_SetString(PyExc_TypeError, "a masked array would lose its mask: send what .filled() "
                                         "gives, or .data and .mask");
    return masked ? NULL : (PyArrayObject *)Py_NewRef(array);
}

/* Anything as an array, where it is if possible. */
static PyArrayObject *as_array(PyObject *value)
{
    if (PyArray_Check(value))
        return take_array(value);
    bool is_bytes = PyBytes_Check(value) || PyByteArray_Check(value);
    if (is_bytes && !PyArray_IsScalar(value, Generic)) {
        /* As bytes: NumPy's own type for them forgets NULs at the end. */
        return (PyArrayObject *)PyArray_FromBuffer(value, PyArray_DescrFromType(NPY_UINT8), -1, 0);
    }
    if (!PyObject_HasAttrString(value, "__array__") &&
        PyObject_HasAttrString(value, "__dlpack__")) {
        PyObject *numpy = PyImport_ImportModule("numpy");
        PyObject *array = numpy ? PyObject_CallMethod(numpy, "from_dlpack", "O", value) : NULL;
        Py_XDECREF(numpy);
        return (PyArrayObject *)array;
    }
    return (PyArrayObject *)PyArray_FromAny(value, NULL, 0, 0, 0, NULL);
}

/* Says in the exception that is set (which may be of the value's own code) which value it was. */
static void note_key(const char *key)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *note = PyUnicode_FromFormat("(haul: the value of the key \"%s\")", key);
    PyObject *none = note ? PyObject_CallMethod(value, "add_note", "O", note) : NULL;
    Py_XDECREF(note);
    Py_XDECREF(none);
    PyErr_Restore(type, value, trace);
}

static bool is_contiguous(PyArrayObject *array)
{
    return PyArray_IS_C_CONTIGUOUS(array) || PyArray_IS_F_CONTIGUOUS(array);
}

/* A contiguous copy in pool memory, in the wire's byte order. Takes over both references. */
static PyArrayObject *copy_to_block(struct context *context, PyArrayObject *array,
                                    PyArray_Descr *dtype)
{
    PyArrayObject *copy = block_array(context, dtype, PyArray_NDIM(array), PyArray_SHAPE(array));
    if (copy && PyArray_CopyInto(copy, array))
        Py_CLEAR(copy);
    Py_DECREF(array);
    return copy;
}

static bool fill_in(struct outgoing_array *out, PyArrayObject *array)
{
    int ndim = PyArray_NDIM(array);
    if (ndim > HAUL_NDIM_MAX) {
        PyErr_Format(PyExc_ValueError, "%s: %d axes are more than %d", out->array.key, ndim,
                     HAUL_NDIM_MAX);
        return false;
    }
    for (int i = 0; i < ndim; i++)
        out->shape[i] = (uint64_t)PyArray_DIM(array, i);
    out->array.shape = out->shape;
    out->array.ndim = (uint32_t)ndim;
    out->array.flags = PyArray_IS_C_CONTIGUOUS(array) ? 0 : HAUL_FORTRAN;
    out->array.data = PyArray_DATA(array);
    return true;
}

static bool take_for_sending(struct outgoing *outgoing, struct context *context,
                             struct outgoing_array *out, PyObject *value)
{
    PyArrayObject *array = as_array(value);
    if (!array) {
        note_key(out->array.key);
        return false;
    }
    PyArray_Descr *dtype =
        describe(PyArray_DESCR(array), out->array.key, &out->array, outgoing->kept);
    if (!dtype) {
        Py_DECREF(array);
        return false;
    }
    if (!is_contiguous(array) || !PyArray_EquivTypes(dtype, PyArray_DESCR(array)))
        array = copy_to_block(context, array, dtype);
    else
        Py_DECREF(dtype);
    if (!array || PyList_Append(outgoing->kept, (PyObject *)array)) {
        Py_XDECREF(array);
        return false;
    }
    Py_DECREF(array); /* `kept` has it */
    struct block *block = block_of(context, array);
    out->block = block ? block->block : NULL;
    if (outgoing->give && block)
        PyArray_CLEARFLAGS(array, NPY_ARRAY_WRITEABLE);
    return fill_in(out, array);
}

static bool take_for_receiving(struct outgoing *outgoing, struct outgoing_array *out,
                               PyObject *value, bool is_type)
{
    PyArrayObject *array = (PyArrayObject *)value;
    if (!PyArray_Check(value) ||
        (!is_type && (!PyArray_ISWRITEABLE(array) || !is_contiguous(array)))) {
        PyErr_Format(PyExc_ValueError,
                     "%s: to be received into it has to be a writable, contiguous NumPy array",
                     out->array.key);
        return false;
    }
    PyArray_Descr *dtype =
        describe(PyArray_DESCR(array), out->array.key, &out->array, outgoing->kept);
    if (!dtype)
        return false;
    bool as_sent = PyArray_EquivTypes(dtype, PyArray_DESCR(array));
    Py_DECREF(dtype);
    if (!as_sent) {
        PyErr_Format(PyExc_ValueError, "%s: arrays are received in little-endian byte order only",
                     out->array.key);
        return false;
    }
    if (PyList_Append(outgoing->kept, value) || !fill_in(out, array))
        return false;
    if (is_type)
        out->array.flags = 0; /* rows are in C order */
    return true;
}

/* One key and value of the mapping. */
static bool take(struct outgoing *outgoing, struct context *context, PyObject *key, PyObject *value,
                 enum outgoing_use use)
{
    struct outgoing_array *out = &outgoing->arrays[outgoing->count];
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a key has to be a str, not %.100s", Py_TYPE(key)->tp_name);
        return false;
    }
    *out = (struct outgoing_array){.array = {.key = text_without_nul(key)}};
    if (!out->array.key || PyList_Append(outgoing->kept, key))
        return false;
    outgoing->count++;
    return use == FOR_SENDING ? take_for_sending(outgoing, context, out, value)
                              : take_for_receiving(outgoing, out, value, use == FOR_TYPES);
}

static bool take_items(struct outgoing *outgoing, struct context *context, PyObject *items,
                       enum outgoing_use use)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            PyErr_SetString(PyExc_TypeError, "items() of a mapping gives pairs");
            return false;
        }
        if (!take(outgoing, context, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1), use))
            return false;
    }
    return true;
}

bool outgoing_take(struct outgoing *outgoing, struct context *context, PyObject *mapping,
                   enum outgoing_use use, bool give)
{
    *outgoing = (struct outgoing){.give = give, .kept = PyList_New(0)};
    outgoing->arrays = outgoing->few;
    PyObject *items = NULL;
    if (PyMapping_Check(mapping) && PyObject_HasAttrString(mapping, "items"))
        items = PyMapping_Items(mapping);
    else
        PyErr_Format(PyExc_TypeError, "a dict of arrays is needed, not %.100s",
                     Py_TYPE(mapping)->tp_name);
    if (!items || !outgoing->kept) {
        Py_XDECREF(items);
        Py_CLEAR(outgoing->kept);
        return false;
    }
    size_t count = (size_t)PyList_GET_SIZE(items);
    if (count > sizeof outgoing->few / sizeof *outgoing->few)
        outgoing->arrays = PyMem_Calloc(count, sizeof *outgoing->arrays);
    bool taken = outgoing->arrays != NULL;
    outgoing->items = items;
    if (!taken)
        PyErr_NoMemory();
    taken = taken && PyList_Append(outgoing->kept, items) == 0 &&
            take_items(outgoing, context, items, use);
    Py_DECREF(items); /* `kept` has it: the values' own memory, as that of bytes, lives as long */
    if (!taken)
        outgoing_clear(outgoing);
    return taken;
}

void outgoing_clear(struct outgoing *outgoing)
{
    if (outgoing->arrays != outgoing->few)
        PyMem_Free(outgoing->arrays);
    outgoing->arrays = NULL;
    Py_CLEAR(outgoing->kept);
}

static int put(struct haul_dict *dict, const struct outgoing_array *out, bool give)
{
    if (!out->block)
        return haul_dict_put_array(dict, &out->array);
    int err = haul_dict_put_block(dict, &out->array, out->block);
    return !err && give ? haul_dict_give(dict, out->array.key) : err;
}

int outgoing_dict(const struct outgoing *outgoing, struct haul_context *context,
                  struct haul_dict **dict)
{
    int err = haul_dict_create(context, dict);
    for (Py_ssize_t i = 0; i < outgoing->count && !err; i++) {
        err = put(*dict, &outgoing->arrays[i], outgoing->give);
        if (err)
            haul_dict_destroy(*dict);
    }
    return err;
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static int dims_of(const struct haul_array *array, npy_intp *dims)
{
    for (uint32_t i = 0; i < array->ndim; i++) {
        if (array->shape[i] > NPY_MAX_INTP) {
            PyErr_Format(PyExc_ValueError, "%s: an extent is larger than NumPy's arrays can have",
                         array->key);
            return -1;
        }
        dims[i] = (npy_intp)array->shape[i];
    }
    return 0;
}

static PyArrayObject *make_array(const struct haul_array *array, void *data, int flags)
{
    npy_intp dims[HAUL_NDIM_MAX];
    PyArray_Descr *dtype = dims_of(array, dims) ? NULL : dtype_of(array);
    if (!dtype)
        return NULL;
    if (array->flags & HAUL_FORTRAN)
        flags |= NPY_ARRAY_F_CONTIGUOUS;
    PyObject *made =
        PyArray_NewFromDescr(&PyArray_Type, dtype, (int)array->ndim, dims, NULL, data, flags, NULL);
    return (PyArrayObject *)made;
}

PyObject *array_view(const struct haul_array *array, PyObject *base, bool writable)
{
    bool empty = array->nbytes == 0; /* there is no memory to look at */
    PyArrayObject *view =
        empty ? make_array(array, NULL, 0) : make_array(array, array->data, NPY_ARRAY_WRITEABLE);
    if (view && !empty && PyArray_SetBaseObject(view, Py_NewRef(base)))
        Py_CLEAR(view);
    if (view && !writable)
        PyArray_CLEARFLAGS(view, NPY_ARRAY_WRITEABLE);
    if (view)
        PyArray_UpdateFlags(view, NPY_ARRAY_ALIGNED);
    return (PyObject *)view;
}

PyObject *array_copy(const struct haul_array *array)
{
    PyArrayObject *copy = make_array(array, NULL, 0);
    if (copy && array->nbytes > 0)
        WITHOUT_GIL(memcpy(PyArray_DATA(copy), array->data, (size_t)array->nbytes));
    return (PyObject *)copy;
}
