/* SPDX-License-Identifier: Apache-2.0
 * Messages: a read-only mapping of str to arrays that look at received memory. */
#include "haulpy.h"

#include <stddef.h>

/* ---- Holds: the base of received arrays ------------------------------------------------------ */

struct hold {
    PyObject_HEAD struct haul_message *message;
};

static void hold_dealloc(PyObject *object)
{
    struct haul_message *message = ((struct hold *)object)->message;
    RELEASE(haul_message_release(message));
    PyObject_Free(object);
}

PyTypeObject hold_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul._haul.Hold",
    .tp_doc = "Keeps received memory; the base of a message's arrays.",
    .tp_basicsize = sizeof(struct hold),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = hold_dealloc,
};

/* ---- Messages -------------------------------------------------------------------------------- */

struct message {
    struct handle handle;
    struct hold *hold; /* NULL: released */
    PyObject *named;   /* dict of our own: the arrays that it was received into, or NULL */
    PyObject *copies;  /* by key: of shared arrays, where writable ones are wanted; or NULL */
    bool writable;
};

PyObject *message_make(struct context *context, struct haul_message *message, bool writable,
                       PyObject *named)
{
    struct hold *hold = PyErr_Occurred() ? NULL : PyObject_New(struct hold, &hold_type);
    if (!hold) {
        haul_message_release(message);
        return NULL;
    }
    hold->message = message;
    struct message *self = handle_make(&message_type, context);
    if (!self) {
        Py_DECREF(hold);
        return NULL;
    }
    self->hold = hold;
    self->writable = writable;
    if (named && (!(self->named = PyDict_New()) || PyDict_MergeFromSeq2(self->named, named, 1)))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void message_dealloc(PyObject *object)
{
    struct message *self = (struct message *)object;
    handle_forget(object);
    Py_XDECREF(self->hold);
    Py_XDECREF(self->named);
    Py_XDECREF(self->copies);
    handle_free(object);
}

/* The C message, or NULL with an exception set. */
static struct haul_message *get(PyObject *object)
{
    struct message *self = (struct message *)object;
    if (self->hold)
        return self->hold->message;
    PyErr_SetString(PyExc_ValueError, "the message was released");
    return NULL;
}

/* What a message needs while Python may run: another thread may release it meanwhile. */
struct grip {
    struct hold *hold;
    PyObject *named, *copies;
};

static bool take_grip(PyObject *object, struct grip *grip)
{
    struct message *self = (struct message *)object;
    if (!get(object) || (!self->copies && !(self->copies = PyDict_New())))
        return false;
    *grip = (struct grip){(struct hold *)Py_NewRef(self->hold), Py_XNewRef(self->named),
                          Py_NewRef(self->copies)};
    return true;
}

static void let_go(struct grip *grip)
{
    Py_DECREF(grip->hold);
    Py_XDECREF(grip->named);
    Py_DECREF(grip->copies);
}

/* A writable array of a message whose memory its sender may still see: a copy, always the same. */
static PyObject *copy_once(PyObject *copies, PyObject *key, const struct haul_array *array)
{
    PyObject *copy = PyDict_GetItemWithError(copies, key);
    if (copy || PyErr_Occurred())
        return Py_XNewRef(copy);
    copy = array_copy(array);
    /* (Another thread may have made one meanwhile.) */
    PyObject *kept = copy ? PyDict_SetDefault(copies, key, copy) : NULL;
    Py_XINCREF(kept);
    Py_XDECREF(copy);
    return kept;
}

static PyObject *array_of(const struct grip *grip, PyObject *key, bool writable)
{
    const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
    const struct haul_array *array = name ? haul_message_find(grip->hold->message, name) : NULL;
    if (PyErr_Occurred())
        return NULL;
    if (!array) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    if (grip->named)
        return PyObject_GetItem(grip->named, key);
    if (writable && array->flags & HAUL_SHARED)
        return copy_once(grip->copies, key, array);
    return array_view(array, (PyObject *)grip->hold, writable);
}

static PyObject *message_subscript(PyObject *object, PyObject *key)
{
    struct grip grip;
    if (!take_grip(object, &grip))
        return NULL;
    PyObject *array = array_of(&grip, key, ((struct message *)object)->writable);
    let_go(&grip);
    return array;
}

static Py_ssize_t message_length(PyObject *object)
{
    struct haul_message *message = get(object);
    return message ? (Py_ssize_t)haul_message_count(message) : -1;
}

static int message_contains(PyObject *object, PyObject *key)
{
    struct haul_message *message = get(object);
    if (!message)
        return -1;
    const char *name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
    if (PyErr_Occurred())
        return -1;
    return name && haul_message_find(message, name);
}

static PyObject *key_list(PyObject *object)
{
    struct grip grip;
    if (!take_grip(object, &grip))
        return NULL;
    struct haul_message *message = grip.hold->message;
    PyObject *keys = PyList_New(0);
    for (size_t i = 0; keys && i < haul_message_count(message); i++) {
        PyObject *key = PyUnicode_FromString(haul_message_at(message, i)->key);
        if (!key || PyList_Append(keys, key))
            Py_CLEAR(keys);
        Py_XDECREF(key);
    }
    let_go(&grip);
    return keys;
}

static PyObject *message_iter(PyObject *object)
{
    PyObject *keys = key_list(object);
    PyObject *iterator = keys ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

/* collections.abc.<name>(message) */
static PyObject *view(PyObject *object, const char *name)
{
    PyObject *abc = get(object) ? PyImport_ImportModule("collections.abc") : NULL;
    PyObject *made = abc ? PyObject_CallMethod(abc, name, "O", object) : NULL;
    Py_XDECREF(abc);
    return made;
}

static PyObject *message_keys(PyObject *object, PyObject *none)
{
    (void)none;
    return view(object, "KeysView");
}

static PyObject *message_values(PyObject *object, PyObject *none)
{
    (void)none;
    return view(object, "ValuesView");
}

static PyObject *message_items(PyObject *object, PyObject *none)
{
    (void)none;
    return view(object, "ItemsView");
}

static PyObject *message_get(PyObject *object, PyObject *args)
{
    PyObject *key, *instead = Py_None;
    if (!PyArg_ParseTuple(args, "O|O", &key, &instead))
        return NULL;
    int contains = message_contains(object, key);
    if (contains < 0)
        return NULL;
    return contains ? message_subscript(object, key) : Py_NewRef(instead);
}

static PyObject *message_copy(PyObject *object, PyObject *none)
{
    struct grip grip;
    (void)none;
    if (!take_grip(object, &grip))
        return NULL;
    struct haul_message *message = grip.hold->message;
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < haul_message_count(message); i++) {
        const struct haul_array *array = haul_message_at(message, i);
        PyObject *copy = array_copy(array);
        if (!copy || PyDict_SetItemString(dict, array->key, copy))
            Py_CLEAR(dict);
        Py_XDECREF(copy);
    }
    let_go(&grip);
    return dict;
}

static PyObject *message_release(PyObject *object, PyObject *none)
{
    struct message *self = (struct message *)object;
    (void)none;
    Py_CLEAR(self->named);
    Py_CLEAR(self->copies);
    Py_CLEAR(self->hold);
    Py_RETURN_NONE;
}

static PyObject *message_enter(PyObject *object, PyObject *none)
{
    (void)none;
    return get(object) ? Py_NewRef(object) : NULL;
}

/* ---- Replies --------------------------------------------------------------------------------- */

/* Where a reply goes; `hold` is a new reference, because others may release the message. */
static bool start_reply(PyObject *object, struct sending *sending, struct hold **hold)
{
    struct message *self = (struct message *)object;
    *sending = (struct sending){.kind = SENDING_REPLY,
                                .context = self->handle.context,
                                .message = get(object),
                                .writable = self->writable};
    if (!sending->message)
        return false;
    *hold = (struct hold *)Py_NewRef(self->hold);
    return true;
}

static PyObject *message_reply(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct sending sending;
    struct hold *hold;
    if (!start_reply(object, &sending, &hold))
        return NULL;
    PyObject *result = send_now(&sending, args, keywords);
    Py_DECREF(hold);
    return result;
}

static PyObject *message_reply_async(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct sending sending;
    struct hold *hold;
    if (!start_reply(object, &sending, &hold))
        return NULL;
    PyObject *op = send_async(&sending, args, keywords);
    Py_DECREF(hold);
    return op;
}

static FORWARD(message_areply, "reply");

/* ---- The type
   -------------------------------------------------------------------------------- */

static PyObject *message_peer(PyObject *object, void *none)
{
    struct message *self = (struct message *)object;
    struct haul_message *message = get(object);
    (void)none;
    return message ? peer_make(self->handle.context, haul_peer_retain(haul_message_peer(message)),
                               self->writable)
                   : NULL;
}

static PyObject *message_wants_reply(PyObject *object, void *none)
{
    struct haul_message *message = get(object);
    (void)none;
    return message ? PyBool_FromLong(haul_message_wants_reply(message)) : NULL;
}

static PyObject *message_nbytes(PyObject *object, void *none)
{
    struct haul_message *message = get(object);
    (void)none;
    return message ? PyLong_FromUnsignedLongLong(haul_message_bytes(message)) : NULL;
}

static PyObject *message_repr(PyObject *object)
{
    struct message *self = (struct message *)object;
    if (!self->hold)
        return PyUnicode_FromString("<haul.Message, released>");
    PyObject *keys = key_list(object);
    PyObject *text = keys ? PyUnicode_FromFormat("<haul.Message of %R>", keys) : NULL;
    Py_XDECREF(keys);
    return text;
}

static PyMethodDef message_methods[] = {
    {"keys", message_keys, METH_NOARGS, NULL},
    {"values", message_values, METH_NOARGS, NULL},
    {"items", message_items, METH_NOARGS, NULL},
    {"get", message_get, METH_VARARGS, "get($self, key, default=None, /)\n--\n\n"},
    {"copy", message_copy, METH_NOARGS,
     "copy($self)\n--\n\nA dict of writable arrays that do not depend on the message."},
    {"reply", KEYWORDS(message_reply),
     "reply($self, arrays={}, *, timeout=None, give=False)\n--\n\nAnswers a call, once. Returns "
     "when the "
     "arrays are the caller's again."},
    {"reply_async", KEYWORDS(message_reply_async),
     "reply_async($self, arrays={}, *, give=False)\n--\n\nStarts an answer. Returns a haul.Op."},
    {"areply", FORWARDED(message_areply),
     "areply($self, arrays={}, *, timeout=None, give=False)\n--\n\nreply() as a coroutine."},
    {"release", message_release, METH_NOARGS,
     "release($self)\n--\n\nEnds the message. Its memory and credit go back now, or as soon as no "
     "array "
     "of it is alive any more."},
    {"__enter__", message_enter, METH_NOARGS, NULL},
    {"__exit__", message_release, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef message_properties[] = {
    {"peer", message_peer, NULL, "Who sent it.", NULL},
    {"wants_reply", message_wants_reply, NULL, "Whether its sender waits for a reply.", NULL},
    {"nbytes", message_nbytes, NULL, "Bytes of all arrays.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMappingMethods message_mapping = {
    .mp_length = message_length,
    .mp_subscript = message_subscript,
};
static PySequenceMethods message_sequence = {.sq_contains = message_contains};

PyTypeObject message_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul.Message",
    .tp_doc =
        "A received dict of arrays: a mapping whose arrays look at received memory and keep it. "
        "Read-only, unless the server or peer was made with writable=True.",
    .tp_basicsize = sizeof(struct message),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_MAPPING,
    .tp_dealloc = message_dealloc,
    .tp_repr = message_repr,
    .tp_iter = message_iter,
    .tp_as_mapping = &message_mapping,
    .tp_as_sequence = &message_sequence,
    .tp_methods = message_methods,
    .tp_getset = message_properties,
    .tp_weaklistoffset = offsetof(struct message, handle.weak_references),
};
