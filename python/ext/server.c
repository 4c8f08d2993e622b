/* SPDX-License-Identifier: Apache-2.0
 * Servers. */
#include "haulpy.h"

#include <stddef.h>

PyObject *server_make(struct context *context, struct haul_server *server, bool writable)
{
    struct source *self = handle_make(&server_type, context);
    if (!self) {
        haul_server_close(server);
        return NULL;
    }
    self->server = server;
    self->writable = writable;
    return (PyObject *)self;
}

static void server_dealloc(PyObject *object)
{
    handle_forget(object);
    RELEASE(haul_server_close(((struct source *)object)->server));
    handle_free(object);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static int receive_into(struct source *self, const struct outgoing *outgoing, int64_t timeout_ns,
                        struct haul_message **message)
{
    struct haul_dict *dict;
    int err = outgoing_dict(outgoing, self->handle.context->context, &dict);
    if (err)
        return err;
    err = haul_recv_into(self->server, dict, message, timeout_ns);
    haul_dict_destroy(dict);
    return err;
}

static PyObject *server_recv_into(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"arrays", "timeout", NULL};
    struct source *self = (struct source *)object;
    struct outgoing outgoing;
    struct haul_message *message;
    PyObject *arrays;
    int64_t timeout_ns = HAUL_FOREVER;
    int err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O&", names, &arrays, as_timeout_ns,
                                     &timeout_ns) ||
        !outgoing_take(&outgoing, self->handle.context, arrays, FOR_RECEIVING, false))
        return NULL;
    WITHOUT_GIL(err = receive_into(self, &outgoing, timeout_ns, &message));
    PyObject *result =
        err ? raise_error(err) : message_make(self->handle.context, message, true, outgoing.items);
    outgoing_clear(&outgoing);
    ops_sweep();
    return result;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

static PyObject *server_address(PyObject *object, void *none)
{
    (void)none;
    return PyUnicode_DecodeFSDefault(haul_server_address(((struct source *)object)->server));
}

/* All connected peers, in an array that the caller frees; NULL with an exception set. */
static struct haul_peer **list_peers(struct haul_server *server, size_t *count)
{
    size_t room = 64;
    for (;;) {
        struct haul_peer **peers = PyMem_Calloc(room, sizeof *peers);
        if (!peers) {
            PyErr_NoMemory();
            *count = 0;
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
    struct source *self = (struct source *)object;
    size_t count = 0;
    (void)none;
    struct haul_peer **peers = list_peers(self->server, &count);
    PyObject *list = peers ? PyList_New(0) : NULL;
    for (size_t i = 0; i < count; i++) {
        PyObject *peer = peer_make(self->handle.context, peers[i], self->writable);
        if (!peer || !list || PyList_Append(list, peer))
            Py_CLEAR(list);
        Py_XDECREF(peer);
    }
    PyMem_Free(peers);
    return list;
}

static PyObject *server_close(PyObject *object, PyObject *none)
{
    struct source *self = (struct source *)object;
    (void)none;
    WITHOUT_GIL(haul_server_shutdown(self->server));
    ops_sweep();
    return none_unless_raised();
}

static PyObject *server_repr(PyObject *object)
{
    return PyUnicode_FromFormat("<haul.Server %s>",
                                haul_server_address(((struct source *)object)->server));
}

static PyMethodDef server_methods[] = {
    {"recv", KEYWORDS(source_recv),
     "recv($self, timeout=None)\n--\n\nThe next message of any peer."},
    {"recv_into", KEYWORDS(server_recv_into),
     "recv_into($self, arrays, timeout=None)\n--\n\nReceives the next message into a dict of "
     "writable "
     "arrays, which it has to fit exactly; returns it."},
    {"arecv", FORWARDED(source_arecv), "arecv($self, timeout=None)\n--\n\nrecv() as a coroutine."},
    {"close", server_close, METH_NOARGS,
     "close($self)\n--\n\nDisconnects its peers; waits in other threads end. Messages stay valid."},
    {"__enter__", handle_self, METH_NOARGS, NULL},
    {"__exit__", server_close, METH_VARARGS, NULL},
    {"_fd", source_fd, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_properties[] = {
    {"address", server_address, NULL, "The address for clients, with the real port.", NULL},
    {"peers", server_peers, NULL, "The peers that are connected now.", NULL},
    {"_context", handle_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject server_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "haul.Server",
    .tp_doc =
        "Receives messages of its peers. Iterating it (also with `async for`) gives them until "
        "it is closed.",
    .tp_basicsize = sizeof(struct source),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = server_dealloc,
    .tp_repr = server_repr,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = source_next,
    .tp_as_async = &source_async,
    .tp_methods = server_methods,
    .tp_getset = server_properties,
    .tp_weaklistoffset = offsetof(struct source, handle.weak_references),
};
