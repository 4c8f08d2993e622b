/* SPDX-License-Identifier: Apache-2.0
 * Peers: what haul.connect() makes, and who sent a message. */
#include "haulpy.h"

#include <stddef.h>

PyObject *peer_make(struct context *context, struct haul_peer *peer, bool writable)
{
    struct source *self = handle_make(&peer_type, context);
    if (!self) {
        haul_peer_release(peer);
        return NULL;
    }
    self->peer = peer;
    self->writable = writable;
    return (PyObject *)self;
}

static void peer_dealloc(PyObject *object)
{
    handle_forget(object);
    RELEASE(haul_peer_release(((struct source *)object)->peer));
    handle_free(object);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static struct sending sending_of(PyObject *object, enum sending_kind kind)
{
    struct source *self = (struct source *)object;
    return (struct sending){
        .kind = kind, .context = self->handle.context, .peer = self, .writable = self->writable};
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

static FORWARD(peer_asend, "send");
static FORWARD(peer_acall, "call");

/* ---- Facts ----------------------------------------------------------------------------------- */

static PyObject *peer_id(PyObject *object, void *none)
{
    (void)none;
    return PyLong_FromUnsignedLongLong(haul_peer_id(((struct source *)object)->peer));
}

static PyObject *peer_address(PyObject *object, void *none)
{
    (void)none;
    return PyUnicode_DecodeFSDefault(haul_peer_address(((struct source *)object)->peer));
}

static PyObject *path_part(PyObject *object, bool why)
{
    char path[64], reason[1024];
    int err =
        haul_peer_path(((struct source *)object)->peer, path, sizeof path, reason, sizeof reason);
    const char *text = why ? reason : path;
    return err ? raise_error(err) : text_of(text);
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
    return PyBool_FromLong(haul_peer_connected(((struct source *)object)->peer));
}

static PyObject *peer_stats(PyObject *object, PyObject *none)
{
    struct haul_stats stats;
    (void)none;
    haul_peer_stats(((struct source *)object)->peer, &stats);
    return stats_dict(&stats);
}

static PyObject *peer_close(PyObject *object, PyObject *none)
{
    struct source *self = (struct source *)object;
    (void)none;
    WITHOUT_GIL(haul_peer_disconnect(self->peer));
    ops_sweep();
    return none_unless_raised();
}

static PyObject *peer_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<haul.Peer %s>",
                                haul_peer_address(((struct source *)object)->peer));
}

/* Handles of one peer are equal: each message makes one. */
static PyObject *peer_compare(PyObject *a, PyObject *b, int op)
{
    if (!Py_IS_TYPE(b, &peer_type) || (op != Py_EQ && op != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    bool same = ((struct source *)a)->peer == ((struct source *)b)->peer;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t peer_hash(PyObject *object)
{
    return _Py_HashPointer(((struct source *)object)->peer);
}

static PyMethodDef peer_methods[] = {
    {"send", KEYWORDS(peer_send),
     "send($self, arrays={}, *, timeout=None, give=False)\n--\n\nSends a dict of arrays. Returns "
     "when the "
     "receiver holds all of it. On haul.Timeout it has all or nothing of it."},
    {"call", KEYWORDS(peer_call),
     "call($self, arrays={}, *, timeout=None, give=False)\n--\n\nSends a dict of arrays and "
     "returns the "
     "reply, a haul.Message."},
    {"send_async", KEYWORDS(peer_send_async),
     "send_async($self, arrays={}, *, give=False)\n--\n\nStarts a send. Returns a haul.Op."},
    {"call_async", KEYWORDS(peer_call_async),
     "call_async($self, arrays={}, *, give=False)\n--\n\nStarts a call. Returns a haul.Op."},
    {"recv", KEYWORDS(source_recv),
     "recv($self, timeout=None)\n--\n\nThe next message that the server sent by itself."},
    {"asend", FORWARDED(peer_asend),
     "asend($self, arrays={}, *, timeout=None, give=False)\n--\n\nsend() as a coroutine."},
    {"acall", FORWARDED(peer_acall),
     "acall($self, arrays={}, *, timeout=None, give=False)\n--\n\ncall() as a coroutine."},
    {"arecv", FORWARDED(source_arecv), "arecv($self, timeout=None)\n--\n\nrecv() as a coroutine."},
    {"stats", peer_stats, METH_NOARGS, "stats($self)\n--\n\nCounters, see haul/stats.h."},
    {"close", peer_close, METH_NOARGS, "close($self)\n--\n\nDisconnects, for good."},
    {"__enter__", handle_self, METH_NOARGS, NULL},
    {"__exit__", peer_close, METH_VARARGS, NULL},
    {"_fd", source_fd, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef peer_properties[] = {
    {"address", peer_address, NULL, "As addressed or accepted.", NULL},
    {"connected", peer_connected, NULL, "Whether there is a connection now.", NULL},
    {"id", peer_id, NULL, "A number that no other peer of the context has.", NULL},
    {"path", peer_path, NULL, "How bytes travel: \"tcp\", \"tcp+shm\".", NULL},
    {"why", peer_why, NULL, "Why no better path is used; \"\" if there is none.", NULL},
    {"_context", handle_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject peer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul.Peer",
    .tp_doc = "The other side of a connection. Iterating it (also with `async for`) gives the "
              "messages that a server sent by itself, until it is closed.",
    .tp_basicsize = sizeof(struct source),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = peer_dealloc,
    .tp_repr = peer_repr,
    .tp_hash = peer_hash,
    .tp_richcompare = peer_compare,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = source_next,
    .tp_as_async = &source_async,
    .tp_methods = peer_methods,
    .tp_getset = peer_properties,
    .tp_weaklistoffset = offsetof(struct source, handle.weak_references),
};
