/* SPDX-License-Identifier: Apache-2.0
 * Ops: sends and calls under way. Until it has ended each is in `under_way`, which keeps it alive,
 * and with it what it sends, its peer and its context, whatever of these the user has dropped. */
#include "haulpy.h"

#include <stddef.h>

static PyObject *under_way; /* list of the ops of all contexts that have not ended */

int ops_init(void)
{
    under_way = PyList_New(0);
    return under_way ? 0 : -1;
}

PyObject *op_make(struct context *context, struct haul_op *op, struct haul_dict *dict,
                  PyObject *kept, bool is_call, bool writable)
{
    struct op *self = handle_make(&op_type, context);
    if (!self) { /* (haul goes on without the handles; what is sent is leaked, not freed) */
        return NULL;
    }
    self->op = op;
    self->dict = dict;
    self->kept = kept;
    self->is_call = is_call;
    self->writable = writable;
    if (PyList_Append(under_way, (PyObject *)self)) {
        self->kept = Py_NewRef(kept); /* leaked, not freed: it is being sent */
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void release(struct op *self)
{
    haul_message_release(self->reply);
    haul_dict_destroy(self->dict);
    haul_op_release(self->op);
}

static void op_dealloc(PyObject *object)
{
    struct op *self = (struct op *)object;
    handle_forget(object);
    RELEASE(release(self));
    Py_XDECREF(self->kept);
    Py_XDECREF(self->detail);
    handle_free(object);
}

/* Keeps the result, and lets the rest go. */
static void finish(struct op *self, int result, struct haul_message *reply)
{
    self->done = true;
    self->result = result;
    self->reply = reply;
    if (result)
        self->detail = text_of(haul_error_detail());
    if (result && !self->detail)
        PyErr_Clear();    /* no memory for it: raise_result() has the general sentence */
    Py_CLEAR(self->kept); /* (the handles stay: other threads may be waiting with them) */
}

/* Whatever keeps haul from telling: what may still be read is not freed. */
static bool is_borrowed(struct haul_dict *dict)
{
    int err = haul_dict_wait(dict, 0);
    return err && err != HAUL_FORKED;
}

/* With the GIL held, so that one thread asks at a time. */
bool op_test(struct op *self)
{
    struct haul_message *reply = NULL;
    int result;
    if (self->done)
        return true;
    if (self->op)
        result = haul_op_test(self->op);
    else
        result = is_borrowed(self->dict) ? HAUL_BUSY : 0;
    if (result == 0 && self->is_call)
        result = haul_op_reply(self->op, &reply);
    if (result != HAUL_BUSY)
        finish(self, result, reply);
    return self->done;
}

/* Forgets the ops that have ended: those of a context, or (NULL) those that no event loop awaits.
 */
static void forget_ended(const struct context *context)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    for (Py_ssize_t i = PyList_GET_SIZE(under_way); i-- > 0;) {
        /* (What is let go may run Python code, which may come here too.) */
        if (i >= PyList_GET_SIZE(under_way))
            continue;
        struct op *op = (struct op *)Py_NewRef(PyList_GET_ITEM(under_way, i));
        bool asked = context ? op->handle.context == context : !op->awaited;
        if (asked && op_test(op) && i < PyList_GET_SIZE(under_way) &&
            PyList_GET_ITEM(under_way, i) == (PyObject *)op)
            PySequence_DelItem(under_way, i);
        Py_DECREF(op);
    }
    PyErr_Restore(type, value, trace);
}

void ops_sweep(void)
{
    forget_ended(NULL);
}

void ops_collect(const struct context *context)
{
    forget_ended(context);
}

static PyObject *raise_result(struct op *self)
{
    const char *detail = self->detail ? PyUnicode_AsUTF8(self->detail) : NULL;
    return raise_error_with(self->result, detail ? detail : haul_error_sentence(self->result));
}

/* What a finished op returns. */
static PyObject *result_of(struct op *self)
{
    if (self->result)
        return raise_result(self);
    if (!self->is_call)
        Py_RETURN_NONE;
    struct haul_message *reply = self->reply;
    self->reply = NULL;
    if (reply)
        return message_make(self->handle.context, reply, self->writable, NULL);
    PyErr_SetString(PyExc_ValueError, "the reply was taken already");
    return NULL;
}

static FORWARD(op_ended, "ended");

/* op_test() for users: event loops that await the op are told of its end. False with an exception
 * set, too. */
static bool ask(struct op *self)
{
    bool knew = self->done;
    bool done = op_test(self);
    if (knew || !done || !self->awaited)
        return done;
    PyObject *told = op_ended((PyObject *)self, NULL, 0, NULL);
    Py_XDECREF(told);
    return told != NULL;
}

static PyObject *op_result(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    struct op *self = (struct op *)object;
    int64_t timeout_ns = HAUL_FOREVER;
    int err = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O&", names, as_timeout_ns, &timeout_ns))
        return NULL;
    if (!self->done)
        WITHOUT_GIL(err = self->op ? haul_op_wait(self->op, timeout_ns)
                                   : haul_dict_wait(self->dict, timeout_ns));
    if (PyErr_Occurred())
        return NULL;
    char detail[1024]; /* of the wait, before the op is looked at */
    snprintf(detail, sizeof detail, "%s", err ? haul_error_detail() : "");
    if (!ask(self))
        return PyErr_Occurred() ? NULL : raise_error_with(err, detail);
    ops_sweep();
    return result_of(self);
}

static PyObject *op_done(PyObject *object, PyObject *none)
{
    (void)none;
    bool done = ask((struct op *)object);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(done);
}

static PyObject *op_cancel(PyObject *object, PyObject *none)
{
    struct op *self = (struct op *)object;
    (void)none;
    if (!self->done && self->op)
        WITHOUT_GIL(haul_op_cancel(self->op));
    Py_RETURN_NONE;
}

static FORWARD(op_wait, "wait_op");

static PyObject *op_await(PyObject *object)
{
    PyObject *coroutine = op_wait(object, NULL, 0, NULL);
    PyObject *iterator = coroutine ? PyObject_CallMethod(coroutine, "__await__", NULL) : NULL;
    Py_XDECREF(coroutine);
    return iterator;
}

static PyObject *op_set_awaited(PyObject *object, PyObject *awaited)
{
    ((struct op *)object)->awaited = awaited == Py_True;
    Py_RETURN_NONE;
}

static PyMethodDef op_methods[] = {
    {"_set_awaited", op_set_awaited, METH_O, NULL},
    {"result", KEYWORDS(op_result),
     "result($self, timeout=None)\n--\n\nWaits for the end. Returns the reply of a call, None for "
     "a send; "
     "raises what it failed with, or haul.Timeout, after which it is still under way."},
    {"done", op_done, METH_NOARGS, "done($self)\n--\n\nWhether it has ended."},
    {"cancel", op_cancel, METH_NOARGS,
     "cancel($self)\n--\n\nAsks for an early end; result() then raises haul.Cancelled, unless it "
     "had "
     "ended before."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Of the type of its result."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef op_properties[] = {
    {"_context", handle_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyAsyncMethods op_async = {.am_await = op_await};

PyTypeObject op_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul.Op",
    .tp_doc = "A send or call under way. Can be awaited. What it sends stays alive until it has "
              "ended, also when the op is dropped.",
    .tp_basicsize = sizeof(struct op),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = op_dealloc,
    .tp_methods = op_methods,
    .tp_getset = op_properties,
    .tp_as_async = &op_async,
    .tp_weaklistoffset = offsetof(struct op, handle.weak_references),
};
