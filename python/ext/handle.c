/* SPDX-License-Identifier: Apache-2.0
 * Handles: what the types have in common. */
#include "haulpy.h"

#include <unistd.h>

/* ---- Waits ----------------------------------------------------------------------------------- */

_Thread_local bool is_deallocating;

bool is_interrupted(void *arg)
{
    (void)arg;
    /* Python runs signal handlers in its main thread only: the first of the process, and in a child
     * of fork() the one that forked. (Python's own answer needs the GIL.) */
    if (is_deallocating || gettid() != getpid())
        return false;
    PyGILState_STATE state = PyGILState_Ensure();
    bool interrupted = PyErr_Occurred() || PyErr_CheckSignals();
    PyGILState_Release(state);
    return interrupted;
}

/* ---- Life ------------------------------------------------------------------------------------ */

void *handle_make(PyTypeObject *type, struct context *context)
{
    struct handle *self = (struct handle *)type->tp_alloc(type, 0);
    if (self)
        self->context = (struct context *)Py_XNewRef(context);
    return self;
}

void handle_forget(PyObject *object)
{
    if (((struct handle *)object)->weak_references)
        PyObject_ClearWeakRefs(object);
}

void handle_free(PyObject *object)
{
    Py_XDECREF(((struct handle *)object)->context);
    Py_TYPE(object)->tp_free(object);
}

/* ---- Methods --------------------------------------------------------------------------------- */

PyObject *handle_self(PyObject *object, PyObject *none)
{
    (void)none;
    return Py_NewRef(object);
}

PyObject *handle_context(PyObject *object, void *none)
{
    (void)none;
    return Py_NewRef(((struct handle *)object)->context);
}

PyObject *none_unless_raised(void)
{
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

const char *text_without_nul(PyObject *text)
{
    Py_ssize_t bytes;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &bytes);
    if (!utf8 || strlen(utf8) == (size_t)bytes)
        return utf8;
    PyErr_Format(PyExc_ValueError, "%R: there is a NUL character in it", text);
    return NULL;
}

PyObject *text_of(const char *text)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}
