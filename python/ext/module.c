/* SPDX-License-Identifier: Apache-2.0
 * The module haul._haul. */
#define HAULPY_IMPORTS_NUMPY
#include "haulpy.h"

PyObject *forward(const char *function, PyObject *self, PyObject *const *args, Py_ssize_t count,
                  PyObject *names)
{
    PyObject *module = PyImport_ImportModule("haul._aio");
    PyObject *callable = module ? PyObject_GetAttrString(module, function) : NULL;
    Py_ssize_t all = count + (names ? PyTuple_GET_SIZE(names) : 0);
    PyObject **with_self = callable ? PyMem_Calloc((size_t)all + 1, sizeof *with_self) : NULL;
    PyObject *result = NULL;
    if (with_self) {
        with_self[0] = self;
        for (Py_ssize_t i = 0; i < all; i++)
            with_self[i + 1] = args[i];
        result = PyObject_Vectorcall(callable, with_self, (size_t)count + 1, names);
    } else if (callable) {
        PyErr_NoMemory();
    }
    PyMem_Free(with_self);
    Py_XDECREF(callable);
    Py_XDECREF(module);
    return result;
}

/* ---- What haul knows of this machine --------------------------------------------------------- */

static PyObject *text_or_none(const char *text)
{
    if (!text)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static void add_provider(const struct haul_provider_info *info, void *arg)
{
    PyObject *list = arg;
    if (PyErr_Occurred())
        return;
    PyObject *provider = Py_BuildValue(
        "{sNsNsNsNsNsN}", "name", text_or_none(info->name), "file", text_or_none(info->file),
        "description", text_or_none(info->description), "reason", text_or_none(info->reason),
        "channel", PyBool_FromLong(info->channel), "rma", PyBool_FromLong(info->rma));
    if (provider)
        PyList_Append(list, provider);
    Py_XDECREF(provider);
}

static void add_setting(const struct haul_setting *setting, void *arg)
{
    PyObject *settings = arg;
    if (PyErr_Occurred())
        return;
    PyObject *entry = Py_BuildValue("{ssssss}", "value", setting->value, "origin", setting->origin,
                                    "help", setting->help);
    if (entry)
        PyDict_SetItemString(settings, setting->name, entry);
    Py_XDECREF(entry);
}

static PyObject *info(PyObject *module, PyObject *none)
{
    struct haul_options *options;
    (void)module;
    (void)none;
    int err = haul_options_create(&options);
    if (err)
        return raise_error(err);
    PyObject *providers = PyList_New(0), *settings = PyDict_New(), *result = NULL;
    if (providers && settings) {
        haul_providers_each(options, add_provider, providers);
        haul_options_each(options, add_setting, settings);
    }
    haul_options_destroy(options);
    if (!PyErr_Occurred())
        result = Py_BuildValue("{sssOsO}", "version", haul_version(), "providers", providers,
                               "settings", settings);
    Py_XDECREF(providers);
    Py_XDECREF(settings);
    return result;
}

static PyMethodDef functions[] = {
    {"info", info, METH_NOARGS,
     "info($module)\n--\n\nVersion, providers (and why others do not load), settings with their "
     "origin."},
    {"log_to", log_to, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "haul._haul",
    .m_size = -1, /* one for the process, as haul itself */
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__haul(void);
PyMODINIT_FUNC PyInit__haul(void)
{
    static const struct {
        const char *name; /* NULL: not for users */
        PyTypeObject *type;
    } types[] = {
        {"Context", &context_type}, {"Server", &server_type}, {"Peer", &peer_type},
        {"Message", &message_type}, {"Op", &op_type},         {"Batch", &batch_type},
        {NULL, &hold_type},         {NULL, &block_type},
    };
    import_array();
    if (arrays_init() || ops_init())
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    bool made = module && errors_init(module) == 0;
    for (size_t i = 0; made && i < sizeof types / sizeof *types; i++)
        made = PyType_Ready(types[i].type) == 0 &&
               (!types[i].name ||
                PyModule_AddObjectRef(module, types[i].name, (PyObject *)types[i].type) == 0);
    if (made)
        made = PyModule_AddStringConstant(module, "version", haul_version()) == 0;
    if (!made)
        Py_CLEAR(module);
    return module;
}
