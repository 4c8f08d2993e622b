/* SPDX-License-Identifier: Apache-2.0
 * Servers. */
#include "haulpy.h"

#include <stddef.h>

PyObject *server_make(struct context *context, struct haul_server *server, bool writable)
{
    struct server *self = PyObject_New(struct server, &server_type);
    if (!self) {
        haul_server_close(server);
        return NULL;
    }
    self->weak_references = NULL;
    self->context = (struct context *)Py_NewRef(context);
    self->server = server;
    self->writable = writable;
    return (PyObject *)self;
}

static void server_dealloc(PyObject *object)
{
    struct server *self = (struct server *)object;
    if (self->weak_references)
        PyObject_ClearWeakRefs(object);
    Py_BEGIN_ALLOW_THREADS haul_server_close(self->server);
    Py_END_ALLOW_THREADS Py_DECREF(self->context);
    PyObject_Free(self);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static int receive(struct server *self, int64_t timeout_ns, PyObject **result)
{
    struct haul_message *message;
    int err;
    Py_BEGIN_ALLOW_THREADS err = haul_recv(self->server, &message, timeout_ns);
    Py_END_ALLOW_THREADS context_sweep(self->context);
    *result = err ? NULL : message_make(self->context, message, self->writable, NULL);
    return err;
}

static PyObject *server_recv(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    int64_t timeout_ns = HAUL_FOREVER;
    PyObject *message;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O&", names, as_timeout_ns, &timeout_ns))
        return NULL;
    int err = receive((struct server *)object, timeout_ns, &message);
    return err ? raise_error(err) : message;
}

static PyObject *server_next(PyObject *object)
{
    PyObject *message;
    int err = receive((struct server *)object, HAUL_FOREVER, &message);
    if (err == HAUL_CLOSED && !PyErr_Occurred())
        return NULL; /* the end of the iteration */
    return err ? raise_error(err) : message;
}

static PyObject *server_recv_into(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"arrays", "timeout", NULL};
    struct server *self = (struct server *)object;
    struct outgoing outgoing;
    struct haul_dict *dict = NULL;
    struct haul_message *message;
    PyObject *arrays;
    int64_t timeout_ns = HAUL_FOREVER;
    int err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O&", names, &arrays, as_timeout_ns,
                                     &timeout_ns) ||
        !outgoing_take(&outgoing, self->context, arrays, FOR_RECEIVING, false))
        return NULL;
    Py_BEGIN_ALLOW_THREADS err = outgoing_dict(&outgoing, self->context->context, &dict);
    if (!err) {
        err = haul_recv_into(self->server, dict, &message, timeout_ns);
        haul_dict_destroy(dict);
    }
    Py_END_ALLOW_THREADS outgoing_clear(&outgoing);
    context_sweep(self->context);
    return err ? raise_error(err) : message_make(self->context, message, true, arrays);
}

FORWARD(server_arecv, "recv")

static PyObject *server_aiter(PyObject *object)
{
    return Py_NewRef(object);
}

static PyObject *server_anext(PyObject *object)
{
    return forward("next_message", object, NULL, 0, NULL);
}

/* ---- Facts ----------------------------------------------------------------------------------- */

static PyObject *server_fd(PyObject *object, PyObject *none)
{
    int fd = haul_server_fd(((struct server *)object)->server);
    (void)none;
    return fd < 0 ? raise_error(fd) : PyLong_FromLong(fd);
}

static PyObject *server_context(PyObject *object, void *none)
{
    (void)none;
    return Py_NewRef(((struct server *)object)->context);
}

static PyObject *server_address(PyObject *object, void *none)
{
    (void)none;
    return PyUnicode_DecodeFSDefault(haul_server_address(((struct server *)object)->server));
}

/* All connected peers, in an array that the caller frees; NULL with an exception set. */
static struct haul_peer **list_peers(struct haul_server *server, size_t *count)
{
    size_t room = 64;
    for (;;) {
        struct haul_peer **peers = PyMem_Calloc(room, sizeof *peers);
        if (!peers) {
            PyErr_NoMemory();
            return NULL;
        }
        *count = haul_server_peers(server, peers, room);
        if (*count <= room)
            return peers;
        for (size_t i = 0; i < room; i++)
            haul_peer_release(peers[i]);
        PyMem_Free(peers);
        room = *count + 64;
    }
}

static PyObject *server_peers(PyObject *object, void *none)
{
    struct server *self = (struct server *)object;
    size_t count = 0;
    (void)none;
    struct haul_peer **peers = list_peers(self->server, &count);
    PyObject *list = peers ? PyList_New(0) : NULL;
    for (size_t i = 0; i < count; i++) {
        PyObject *peer = peer_make(self->context, peers[i], self->writable);
        if (!peer || !list || PyList_Append(list, peer))
            Py_CLEAR(list);
        Py_XDECREF(peer);
    }
    PyMem_Free(peers);
    return list;
}

static PyObject *server_close(PyObject *object, PyObject *none)
{
    struct server *self = (struct server *)object;
    (void)none;
    Py_BEGIN_ALLOW_THREADS haul_server_shutdown(self->server);
    Py_END_ALLOW_THREADS context_sweep(self->context);
    Py_RETURN_NONE;
}

static PyObject *server_enter(PyObject *self, PyObject *none)
{
    (void)none;
    return Py_NewRef(self);
}

static PyObject *server_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return server_close(self, NULL);
}

static PyObject *server_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<haul.Server %s>",
                                haul_server_address(((struct server *)object)->server));
}

static PyMethodDef server_methods[] = {
    {"recv", KEYWORDS(server_recv), "recv(timeout=None)\n--\n\nThe next message of any peer."},
    {"recv_into", KEYWORDS(server_recv_into),
     "recv_into(arrays, timeout=None)\n--\n\nReceives the next message into a dict of writable "
     "arrays, which it has to fit exactly; returns it."},
    {"arecv", FORWARDED(server_arecv), "arecv(timeout=None)\n--\n\nrecv() as a coroutine."},
    {"close", server_close, METH_NOARGS,
     "close()\n--\n\nDisconnects its peers; waits in other threads end. Messages stay valid."},
    {"__enter__", server_enter, METH_NOARGS, NULL},
    {"__exit__", server_exit, METH_VARARGS, NULL},
    {"_fd", server_fd, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_properties[] = {
    {"address", server_address, NULL, "The address for clients, with the real port.", NULL},
    {"peers", server_peers, NULL, "The peers that are connected now.", NULL},
    {"_context", server_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyAsyncMethods server_async = {.am_aiter = server_aiter, .am_anext = server_anext};

PyTypeObject server_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul.Server",
    .tp_doc =
        "Receives messages of its peers. Iterating it (also with `async for`) gives them until "
        "it is closed.",
    .tp_basicsize = sizeof(struct server),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = server_dealloc,
    .tp_repr = server_repr,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = server_next,
    .tp_as_async = &server_async,
    .tp_methods = server_methods,
    .tp_getset = server_properties,
    .tp_weaklistoffset = offsetof(struct server, weak_references),
};
