/* SPDX-License-Identifier: Apache-2.0
 * Peers: what haul.connect() makes, and who sent a message. */
#include "haulpy.h"

#include <stddef.h>

struct peer {
    PyObject_HEAD PyObject *weak_references;
    struct context *context;
    struct haul_peer *peer;
    bool writable;
};

PyObject *peer_make(struct context *context, struct haul_peer *peer, bool writable)
{
    struct peer *self = PyObject_New(struct peer, &peer_type);
    if (!self) {
        haul_peer_release(peer);
        return NULL;
    }
    self->weak_references = NULL;
    self->context = (struct context *)Py_NewRef(context);
    self->peer = peer;
    self->writable = writable;
    return (PyObject *)self;
}

static void peer_dealloc(PyObject *object)
{
    struct peer *self = (struct peer *)object;
    if (self->weak_references)
        PyObject_ClearWeakRefs(object);
    Py_BEGIN_ALLOW_THREADS haul_peer_release(self->peer);
    Py_END_ALLOW_THREADS Py_DECREF(self->context);
    PyObject_Free(self);
}

/* ---- Sending and receiving ------------------------------------------------------------------- */

static struct sending sending_of(PyObject *object, enum sending_kind kind)
{
    struct peer *self = (struct peer *)object;
    return (struct sending){
        .kind = kind, .context = self->context, .peer = self->peer, .writable = self->writable};
}

static PyObject *peer_send(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct sending sending = sending_of(object, SENDING_SEND);
    return send_now(&sending, args, keywords);
}

static PyObject *peer_call(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct sending sending = sending_of(object, SENDING_CALL);
    return send_now(&sending, args, keywords);
}

static PyObject *peer_send_async(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct sending sending = sending_of(object, SENDING_SEND);
    return send_async(&sending, args, keywords);
}

static PyObject *peer_call_async(PyObject *object, PyObject *args, PyObject *keywords)
{
    struct sending sending = sending_of(object, SENDING_CALL);
    return send_async(&sending, args, keywords);
}

static PyObject *receive(struct peer *self, int64_t timeout_ns)
{
    struct haul_message *message;
    int err;
    Py_BEGIN_ALLOW_THREADS err = haul_peer_recv(self->peer, &message, timeout_ns);
    Py_END_ALLOW_THREADS context_sweep(self->context);
    return err ? raise_error(err) : message_make(self->context, message, self->writable, NULL);
}

static PyObject *peer_recv(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    int64_t timeout_ns = HAUL_FOREVER;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O&", names, as_timeout_ns, &timeout_ns))
        return NULL;
    return receive((struct peer *)object, timeout_ns);
}

static PyObject *peer_next(PyObject *object)
{
    struct peer *self = (struct peer *)object;
    struct haul_message *message;
    int err;
    Py_BEGIN_ALLOW_THREADS err = haul_peer_recv(self->peer, &message, HAUL_FOREVER);
    Py_END_ALLOW_THREADS context_sweep(self->context);
    if (err == HAUL_CLOSED && !PyErr_Occurred())
        return NULL; /* the end of the iteration */
    return err ? raise_error(err) : message_make(self->context, message, self->writable, NULL);
}

FORWARD(peer_asend, "send")
FORWARD(peer_acall, "call")
FORWARD(peer_arecv, "recv")

/* ---- Facts ----------------------------------------------------------------------------------- */

static PyObject *peer_fd(PyObject *object, PyObject *none)
{
    int fd = haul_peer_fd(((struct peer *)object)->peer);
    (void)none;
    return fd < 0 ? raise_error(fd) : PyLong_FromLong(fd);
}

static PyObject *peer_context(PyObject *object, void *none)
{
    (void)none;
    return Py_NewRef(((struct peer *)object)->context);
}

static PyObject *peer_id(PyObject *object, void *none)
{
    (void)none;
    return PyLong_FromUnsignedLongLong(haul_peer_id(((struct peer *)object)->peer));
}

static PyObject *peer_address(PyObject *object, void *none)
{
    (void)none;
    return PyUnicode_DecodeFSDefault(haul_peer_address(((struct peer *)object)->peer));
}

static PyObject *path_part(PyObject *object, bool why)
{
    char path[64], reason[1024];
    int err =
        haul_peer_path(((struct peer *)object)->peer, path, sizeof path, reason, sizeof reason);
    const char *text = why ? reason : path;
    return err ? raise_error(err) : PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *peer_path(PyObject *object, void *none)
{
    (void)none;
    return path_part(object, false);
}

static PyObject *peer_why(PyObject *object, void *none)
{
    (void)none;
    return path_part(object, true);
}

static PyObject *peer_connected(PyObject *object, void *none)
{
    (void)none;
    return PyBool_FromLong(haul_peer_connected(((struct peer *)object)->peer));
}

static PyObject *peer_stats(PyObject *object, PyObject *none)
{
    struct haul_stats stats;
    (void)none;
    haul_peer_stats(((struct peer *)object)->peer, &stats);
    return stats_dict(&stats);
}

static PyObject *peer_close(PyObject *object, PyObject *none)
{
    struct peer *self = (struct peer *)object;
    (void)none;
    Py_BEGIN_ALLOW_THREADS haul_peer_disconnect(self->peer);
    Py_END_ALLOW_THREADS context_sweep(self->context);
    Py_RETURN_NONE;
}

static PyObject *peer_enter(PyObject *self, PyObject *none)
{
    (void)none;
    return Py_NewRef(self);
}

static PyObject *peer_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return peer_close(self, NULL);
}

static PyObject *peer_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<haul.Peer %s>", haul_peer_address(((struct peer *)object)->peer));
}

/* Handles of one peer are equal: each message makes one. */
static PyObject *peer_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, &peer_type) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    bool same = ((struct peer *)a)->peer == ((struct peer *)b)->peer;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t peer_hash(PyObject *object)
{
    return _Py_HashPointer(((struct peer *)object)->peer);
}

static PyMethodDef peer_methods[] = {
    {"send", KEYWORDS(peer_send),
     "send(arrays={}, *, timeout=None, give=False)\n--\n\nSends a dict of arrays. Returns when the "
     "receiver holds all of it. On haul.Timeout it has all or nothing of it."},
    {"call", KEYWORDS(peer_call),
     "call(arrays={}, *, timeout=None, give=False)\n--\n\nSends a dict of arrays and returns the "
     "reply, a haul.Message."},
    {"send_async", KEYWORDS(peer_send_async),
     "send_async(arrays={}, *, give=False)\n--\n\nStarts a send. Returns a haul.Op."},
    {"call_async", KEYWORDS(peer_call_async),
     "call_async(arrays={}, *, give=False)\n--\n\nStarts a call. Returns a haul.Op."},
    {"recv", KEYWORDS(peer_recv),
     "recv(timeout=None)\n--\n\nThe next message that the server sent by itself."},
    {"asend", FORWARDED(peer_asend),
     "asend(arrays={}, *, timeout=None, give=False)\n--\n\nsend() as a coroutine."},
    {"acall", FORWARDED(peer_acall),
     "acall(arrays={}, *, timeout=None, give=False)\n--\n\ncall() as a coroutine."},
    {"arecv", FORWARDED(peer_arecv), "arecv(timeout=None)\n--\n\nrecv() as a coroutine."},
    {"stats", peer_stats, METH_NOARGS, "stats()\n--\n\nCounters, see haul/stats.h."},
    {"close", peer_close, METH_NOARGS, "close()\n--\n\nDisconnects, for good."},
    {"__enter__", peer_enter, METH_NOARGS, NULL},
    {"__exit__", peer_exit, METH_VARARGS, NULL},
    {"_fd", peer_fd, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef peer_properties[] = {
    {"address", peer_address, NULL, "As addressed or accepted.", NULL},
    {"connected", peer_connected, NULL, "Whether there is a connection now.", NULL},
    {"id", peer_id, NULL, "A number that no other peer of the context has.", NULL},
    {"path", peer_path, NULL, "How bytes travel: \"tcp\", \"tcp+shm\".", NULL},
    {"why", peer_why, NULL, "Why no better path is used; \"\" if there is none.", NULL},
    {"_context", peer_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject peer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul.Peer",
    .tp_doc = "The other side of a connection. Iterating it gives the messages that a server sent "
              "by itself, until it is closed.",
    .tp_basicsize = sizeof(struct peer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = peer_dealloc,
    .tp_repr = peer_repr,
    .tp_hash = peer_hash,
    .tp_richcompare = peer_compare,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = peer_next,
    .tp_methods = peer_methods,
    .tp_getset = peer_properties,
    .tp_weaklistoffset = offsetof(struct peer, weak_references),
};
