/* SPDX-License-Identifier: Apache-2.0
 * Exceptions: one for each of haul's errors, in the groups of docs/CONTRACTS.md, and also of
 * Python's own kinds where there is one. */
#include "haulpy.h"

#include <ctype.h>
#include <math.h>

static const struct {
    int code;
    const char *name;
} codes[] = {
#define CODE(name, value, sentence) {value, #name},
    HAUL_ERRORS(CODE)
#undef CODE
};
enum { CODES = sizeof codes / sizeof *codes };
static PyObject *classes[CODES];

/* What is lost, from this code down. */
static const struct {
    int from;
    const char *name, *doc;
} groups[] = {
    {-1, "CallError", "The call is lost; nothing else has changed."},
    {-20, "OpError", "The message is lost; the peer is still there."},
    {-40, "PeerError", "The peer is lost; the other peers go on."},
    {-60, "ContextError", "The context is lost, or could not be made."},
};
enum { GROUPS = sizeof groups / sizeof *groups };

/* "HAUL_PEER_LOST" as "PeerLost". */
static void class_name(const char *code, char *name)
{
    bool upper = true;
    for (const char *at = code + strlen("HAUL_"); *at; at++) {
        if (*at == '_') {
            upper = true;
            continue;
        }
        *name++ = (char)(upper ? *at : tolower((unsigned char)*at));
        upper = false;
    }
    *name = '\0';
}

static PyObject *builtin_kind(int code)
{
    switch (code) {
    case HAUL_INVALID:
    case HAUL_CONFIG:
        return PyExc_ValueError;
    case HAUL_TIMEOUT:
        return PyExc_TimeoutError;
    case HAUL_INTERRUPTED:
        return PyExc_InterruptedError;
    case HAUL_NO_MEMORY:
        return PyExc_MemoryError;
    case HAUL_NOT_FOUND:
        return PyExc_LookupError;
    case HAUL_PEER_LOST:
    case HAUL_UNREACHABLE:
        return PyExc_ConnectionError;
    case HAUL_SYSTEM:
        return PyExc_OSError;
    default:
        return NULL;
    }
}

/* A class haul.<name>, in the module under that name. */
static PyObject *add_class(PyObject *module, const char *name, const char *doc, PyObject *bases)
{
    char full[64];
    snprintf(full, sizeof full, "haul.%s", name);
    PyObject *class = bases ? PyErr_NewExceptionWithDoc(full, doc, bases, NULL) : NULL;
    Py_XDECREF(bases);
    if (class && PyModule_AddObjectRef(module, name, class)) {
        Py_DECREF(class);
        return NULL;
    }
    return class;
}

static int set_code(PyObject *class, const char *code)
{
    PyObject *text = PyUnicode_FromString(code);
    int err = text ? PyObject_SetAttrString(class, "code", text) : -1;
    Py_XDECREF(text);
    return err;
}

static PyObject *group_of(int code, PyObject *const made[GROUPS])
{
    PyObject *group = made[0];
    for (int i = 0; i < GROUPS; i++)
        if (code <= groups[i].from)
            group = made[i];
    return group;
}

int errors_init(PyObject *module)
{
    PyObject *made[GROUPS];
    PyObject *base =
        add_class(module, "Error",
                  "What haul's calls raise. `code` is the C error's name (\"HAUL_PEER_LOST\").",
                  PyTuple_Pack(1, PyExc_Exception));
    if (!base || set_code(base, ""))
        return -1;
    for (int i = 0; i < GROUPS; i++) {
        made[i] = add_class(module, groups[i].name, groups[i].doc, PyTuple_Pack(1, base));
        if (!made[i])
            return -1;
    }
    for (int i = 0; i < CODES; i++) {
        char name[32];
        PyObject *kind = builtin_kind(codes[i].code), *group = group_of(codes[i].code, made);
        class_name(codes[i].name, name);
        classes[i] = add_class(module, name, haul_error_sentence(codes[i].code),
                               kind ? PyTuple_Pack(2, group, kind) : PyTuple_Pack(1, group));
        if (!classes[i] || set_code(classes[i], codes[i].name))
            return -1;
    }
    return 0;
}

PyObject *raise_error_with(int err, const char *detail)
{
    if (PyErr_Occurred())
        return NULL;
    for (int i = 0; i < CODES; i++) {
        if (codes[i].code != err)
            continue;
        PyObject *text = text_of(detail);
        PyObject *error = text ? PyObject_CallOneArg(classes[i], text) : NULL;
        if (error)
            PyErr_SetObject(classes[i], error);
        Py_XDECREF(error);
        Py_XDECREF(text);
        return NULL;
    }
    PyErr_Format(PyExc_SystemError, "haul returned %d, which is no error of its own", err);
    return NULL;
}

bool is_raised(int err)
{
    for (int i = 0; i < CODES; i++)
        if (codes[i].code == err)
            return PyErr_ExceptionMatches(classes[i]);
    return false;
}

PyObject *raise_error(int err)
{
    return raise_error_with(err, haul_error_detail());
}

int as_timeout_ns(PyObject *seconds, void *timeout_ns)
{
    int64_t *ns = timeout_ns;
    *ns = HAUL_FOREVER;
    if (seconds == Py_None)
        return 1;
    double value = PyFloat_AsDouble(seconds);
    if (value == -1 && PyErr_Occurred())
        return 0;
    if (isnan(value) || value < 0) {
        PyErr_SetString(PyExc_ValueError,
                        "a timeout is a number of seconds from 0 on, or None: for ever");
        return 0;
    }
    if (value < 9e9)
        *ns = (int64_t)(value * 1e9);
    return 1;
}
