/* SPDX-License-Identifier: Apache-2.0
 * Sources of messages: what servers and peers have in common. */
#include "haulpy.h"

static PyObject *receive(PyObject *object, int64_t timeout_ns)
{
    struct source *self = (struct source *)object;
    struct haul_message *message;
    int err;
    WITHOUT_GIL(err = self->server ? haul_recv(self->server, &message, timeout_ns)
                                   : haul_peer_recv(self->peer, &message, timeout_ns));
    PyObject *result =
        err ? raise_error(err) : message_make(self->handle.context, message, self->writable, NULL);
    ops_sweep();
    return result;
}

PyObject *source_recv(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    int64_t timeout_ns = HAUL_FOREVER;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O&", names, as_timeout_ns, &timeout_ns))
        return NULL;
    return receive(object, timeout_ns);
}

PyObject *source_next(PyObject *object)
{
    PyObject *message = receive(object, HAUL_FOREVER);
    if (!message && is_raised(HAUL_CLOSED))
        PyErr_Clear(); /* the end of the iteration */
    return message;
}

FORWARD(source_arecv, "recv");

static PyObject *source_anext(PyObject *object)
{
    return forward("next_message", object, NULL, 0, NULL);
}

PyAsyncMethods source_async = {.am_aiter = PyObject_SelfIter, .am_anext = source_anext};

PyObject *source_fd(PyObject *object, PyObject *none)
{
    struct source *self = (struct source *)object;
    int fd = self->server ? haul_server_fd(self->server) : haul_peer_fd(self->peer);
    (void)none;
    return fd < 0 ? raise_error(fd) : PyLong_FromLong(fd);
}
