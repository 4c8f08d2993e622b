/* SPDX-License-Identifier: Apache-2.0
 * Batches: arrays of rows that messages fill on arrival. haul/_batch.py has the class for users;
 * this is its C batch, of one context. Its arrays look at the batch's memory and keep it; a later
 * filling writes the same memory anew. */
#include "haulpy.h"

struct batch {
    struct handle handle;
    struct haul_batch *batch;
    PyObject *server; /* that fills it now, or NULL */
};

static int create(struct context *context, const struct outgoing *types, size_t rows,
                  struct haul_batch **batch)
{
    struct haul_dict *row;
    int err = outgoing_dict(types, context->context, &row);
    if (err)
        return err;
    err = haul_batch_create(context->context, row, rows, batch);
    haul_dict_destroy(row);
    return err;
}

/* Batch(context, types, rows): types are arrays whose data is not looked at. */
static PyObject *batch_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"context", "types", "rows", NULL};
    struct context *context;
    struct outgoing outgoing;
    struct haul_batch *made;
    PyObject *types;
    Py_ssize_t rows;
    int err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!On", names, &context_type, &context, &types,
                                     &rows) ||
        !outgoing_take(&outgoing, context, types, FOR_TYPES, false))
        return NULL;
    WITHOUT_GIL(err = create(context, &outgoing, rows < 0 ? 0 : (size_t)rows, &made));
    outgoing_clear(&outgoing);
    if (err)
        return raise_error(err);
    struct batch *self = handle_make(type, context);
    if (!self) {
        haul_batch_destroy(made);
        return NULL;
    }
    self->batch = made;
    return (PyObject *)self;
}

static void batch_dealloc(PyObject *object)
{
    struct batch *self = (struct batch *)object;
    RELEASE(haul_batch_destroy(self->batch));
    Py_XDECREF(self->server);
    handle_free(object);
}

static PyObject *batch_post(PyObject *object, PyObject *server)
{
    struct batch *self = (struct batch *)object;
    int err;
    if (!Py_IS_TYPE(server, &server_type)) {
        PyErr_SetString(PyExc_TypeError, "a batch is posted to a haul.Server");
        return NULL;
    }
    WITHOUT_GIL(err = haul_batch_post(self->batch, ((struct source *)server)->server));
    if (err)
        return raise_error(err);
    Py_XSETREF(self->server, Py_NewRef(server));
    Py_RETURN_NONE;
}

/* Returns the number of rows filled, also when the time ran out. */
static PyObject *batch_wait(PyObject *object, PyObject *args)
{
    struct batch *self = (struct batch *)object;
    int64_t timeout_ns = HAUL_FOREVER;
    int err;
    if (!PyArg_ParseTuple(args, "|O&", as_timeout_ns, &timeout_ns))
        return NULL;
    WITHOUT_GIL(err = haul_batch_wait(self->batch, timeout_ns));
    if (err && err != HAUL_TIMEOUT)
        raise_error(err);
    Py_CLEAR(self->server);
    ops_sweep();
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(haul_batch_rows(self->batch));
}

static PyObject *batch_array(PyObject *object, PyObject *key)
{
    struct batch *self = (struct batch *)object;
    const char *name = PyUnicode_AsUTF8(key);
    const struct haul_array *array = name ? haul_batch_find(self->batch, name) : NULL;
    if (!array && !PyErr_Occurred())
        PyErr_SetObject(PyExc_KeyError, key);
    return array ? array_view(array, object, true) : NULL;
}

/* The row's number among the filled ones; false with an exception set. */
static bool filled_row(struct batch *self, PyObject *number, size_t *row)
{
    *row = PyLong_AsSize_t(number);
    if (PyErr_Occurred())
        return false;
    if (*row < haul_batch_rows(self->batch))
        return true;
    PyErr_Format(PyExc_IndexError, "row %zu is not filled: %zu are", *row,
                 haul_batch_rows(self->batch));
    return false;
}

static PyObject *batch_peer(PyObject *object, PyObject *number)
{
    struct batch *self = (struct batch *)object;
    size_t row;
    if (!filled_row(self, number, &row))
        return NULL;
    return peer_make(self->handle.context, haul_peer_retain(haul_batch_peer(self->batch, row)),
                     false);
}

/* reply(row, arrays={}, *, timeout=None, give=False) */
static PyObject *batch_reply(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct batch *self = (struct batch *)object;
    struct sending sending = {
        .kind = SENDING_BATCH_REPLY, .context = self->handle.context, .batch = self->batch};
    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(PyExc_TypeError, "reply() needs the number of a row");
        return NULL;
    }
    if (!filled_row(self, PyTuple_GET_ITEM(args, 0), &sending.row))
        return NULL;
    PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    PyObject *result = rest ? send_now(&sending, rest, keywords) : NULL;
    Py_XDECREF(rest);
    return result;
}

static PyObject *batch_filled(PyObject *object, void *none)
{
    (void)none;
    return PyLong_FromSize_t(haul_batch_rows(((struct batch *)object)->batch));
}

static PyObject *batch_is_posted(PyObject *object, void *none)
{
    (void)none;
    return PyBool_FromLong(((struct batch *)object)->server != NULL);
}

static PyGetSetDef batch_properties[] = {
    {"is_posted", batch_is_posted, NULL, "Whether a server fills it.", NULL},
    {"filled", batch_filled, NULL, "Rows that are whole, after wait().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef batch_methods[] = {
    {"post", batch_post, METH_O, NULL},     {"wait", batch_wait, METH_VARARGS, NULL},
    {"array", batch_array, METH_O, NULL},   {"peer", batch_peer, METH_O, NULL},
    {"reply", KEYWORDS(batch_reply), NULL}, {NULL, NULL, 0, NULL},
};

PyTypeObject batch_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul._haul.Batch",
    .tp_basicsize = sizeof(struct batch),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = batch_new,
    .tp_dealloc = batch_dealloc,
    .tp_methods = batch_methods,
    .tp_getset = batch_properties,
};
