/* SPDX-License-Identifier: Apache-2.0
 * Contexts, and what is asked of haul as a whole. */
#include "haulpy.h"

#include <stddef.h>

/* ---- Settings -------------------------------------------------------------------------------- */

/* Sets options from keyword arguments: provider="tcp", pool_max="1G", rma=True. */
static int set_options(struct haul_options *options, PyObject *settings)
{
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (settings && PyDict_Next(settings, &at, &name, &value)) {
        PyObject *text = PyBool_Check(value) ? PyUnicode_FromString(value == Py_True ? "on" : "off")
                                             : PyObject_Str(value);
        const char *name_utf8 = PyUnicode_AsUTF8(name);
        const char *text_utf8 = text ? text_without_nul(text) : NULL;
        int err = name_utf8 && text_utf8 ? haul_options_set(options, name_utf8, text_utf8) : 0;
        if (err)
            raise_error(err);
        Py_XDECREF(text);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

static struct haul_options *make_options(PyObject *settings)
{
    struct haul_options *options;
    int err = haul_options_create(&options);
    if (err) {
        raise_error(err);
        return NULL;
    }
    if (set_options(options, settings)) {
        haul_options_destroy(options);
        return NULL;
    }
    return options;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static int open_context(struct context *self, struct haul_options *options)
{
    int err = haul_open(&self->context, options);
    haul_options_destroy(options);
    if (!err)
        haul_context_interrupt(self->context, is_interrupted, NULL);
    return err;
}

static PyObject *context_new(PyTypeObject *type, PyObject *args, PyObject *settings)
{
    if (PyTuple_GET_SIZE(args) > 0) {
        PyErr_SetString(PyExc_TypeError,
                        "settings are keyword arguments: Context(provider=\"tcp\")");
        return NULL;
    }
    struct haul_options *options = make_options(settings);
    struct context *self = options ? handle_make(type, NULL) : NULL;
    if (!self) {
        haul_options_destroy(options);
        return NULL;
    }
    ops_sweep(); /* dropped contexts live as long as their ops */
    int err;
    WITHOUT_GIL(err = open_context(self, options));
    if (err) {
        raise_error(err);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void context_dealloc(PyObject *object)
{
    struct context *self = (struct context *)object;
    handle_forget(object);
    RELEASE(haul_close(self->context));
    handle_free(object);
}

static PyObject *context_close(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    (void)none;
    WITHOUT_GIL(haul_context_shutdown(self->context));
    ops_sweep();
    return none_unless_raised();
}

/* ---- Servers and peers ----------------------------------------------------------------------- */

static PyObject *context_listen(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"address", "writable", NULL};
    struct context *self = (struct context *)object;
    struct haul_server *server;
    const char *address;
    int writable = 0, err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s|$p", names, &address, &writable))
        return NULL;
    WITHOUT_GIL(err = haul_listen(self->context, address, &server));
    return err ? raise_error(err) : server_make(self, server, writable);
}

static PyObject *context_connect(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"address", "timeout", "writable", NULL};
    struct context *self = (struct context *)object;
    struct haul_peer *peer;
    const char *address;
    int64_t timeout_ns = 30 * (int64_t)1000000000;
    int writable = 0, err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s|$O&p", names, &address, as_timeout_ns,
                                     &timeout_ns, &writable))
        return NULL;
    WITHOUT_GIL(err = haul_connect(self->context, address, timeout_ns, &peer));
    return err ? raise_error(err) : peer_make(self, peer, writable);
}

/* empty(shape, dtype=float64) */
static PyObject *context_empty(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"shape", "dtype", NULL};
    PyArray_Dims shape = {NULL, 0};
    PyArray_Descr *dtype = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O&|O&", names, PyArray_IntpConverter, &shape,
                                     PyArray_DescrConverter, &dtype)) {
        PyDimMem_FREE(shape.ptr);
        Py_XDECREF(dtype);
        return NULL;
    }
    if (!dtype)
        dtype = PyArray_DescrFromType(NPY_DOUBLE);
    PyArrayObject *array = block_array((struct context *)object, dtype, shape.len, shape.ptr);
    PyDimMem_FREE(shape.ptr);
    return (PyObject *)array;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

PyObject *stats_dict(const struct haul_stats *stats)
{
    PyObject *dict = PyDict_New();
#define ADD(field, help)                                             \
    if (dict) {                                                      \
        PyObject *value = PyLong_FromUnsignedLongLong(stats->field); \
        if (!value || PyDict_SetItemString(dict, #field, value))     \
            Py_CLEAR(dict);                                          \
        Py_XDECREF(value);                                           \
    }
    HAUL_STATS(ADD)
#undef ADD
    return dict;
}

static PyObject *context_stats(PyObject *object, PyObject *none)
{
    struct context *self = (struct context *)object;
    struct haul_stats stats;
    (void)none;
    WITHOUT_GIL(haul_context_stats(self->context, &stats));
    return stats_dict(&stats);
}

static PyObject *context_rails(PyObject *object, PyObject *none)
{
    enum { MOST = 64 };
    struct context *self = (struct context *)object;
    struct haul_rail_stats rails[MOST];
    size_t count;
    (void)none;
    WITHOUT_GIL(count = haul_context_rails(self->context, rails, MOST));
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < count && i < MOST; i++) {
        PyObject *rail = Py_BuildValue("{s:s, s:K, s:N}", "name", rails[i].name, "bytes_read",
                                       (unsigned long long)rails[i].bytes_read, "usable",
                                       PyBool_FromLong(rails[i].usable));
        if (!rail || PyList_Append(list, rail))
            Py_CLEAR(list);
        Py_XDECREF(rail);
    }
    return list;
}

static PyObject *context_ops_fd(PyObject *object, PyObject *none)
{
    int fd = haul_context_ops_fd(((struct context *)object)->context);
    (void)none;
    return fd < 0 ? raise_error(fd) : PyLong_FromLong(fd);
}

static PyObject *context_collect(PyObject *object, PyObject *none)
{
    (void)none;
    ops_collect((struct context *)object);
    Py_RETURN_NONE;
}

static PyMethodDef context_methods[] = {
    {"listen", KEYWORDS(context_listen),
     "listen($self, address, *, writable=False)\n--\n\nA server at the address."},
    {"connect", KEYWORDS(context_connect),
     "connect($self, address, *, timeout=30, writable=False)\n--\n\nA peer: the server at the "
     "address, "
     "which may come up within the timeout."},
    {"empty", KEYWORDS(context_empty),
     "empty($self, shape, dtype=float)\n--\n\nAn array in pool memory, which is sent without a "
     "copy or "
     "registration."},
    {"stats", context_stats, METH_NOARGS, "stats($self)\n--\n\nCounters, see haul/stats.h."},
    {"rails", context_rails, METH_NOARGS,
     "rails($self)\n--\n\nWhat came over each NIC (or connection) that arrays are read over."},
    {"close", context_close, METH_NOARGS,
     "close($self)\n--\n\nCloses its servers and peers; waits of other threads end with "
     "haul.Closed."},
    {"__enter__", handle_self, METH_NOARGS, NULL},
    {"__exit__", context_close, METH_VARARGS, NULL},
    {"_ops_fd", context_ops_fd, METH_NOARGS, NULL},
    {"_collect", context_collect, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject context_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul._haul.Context",
    .tp_doc = "Context(**settings)\n--\n\nHolds the memory pool, the providers and the progress of "
              "what is made from it. Settings as in docs/CONFIG.md: Context(provider=\"tcp\").",
    .tp_basicsize = sizeof(struct context),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, /* haul.Context */
    .tp_new = context_new,
    .tp_dealloc = context_dealloc,
    .tp_methods = context_methods,
    .tp_weaklistoffset = offsetof(struct context, handle.weak_references),
};
