/* SPDX-License-Identifier: Apache-2.0
 * Sends, calls and replies: from keyword arguments to haul and back.
 *
 * While a blocking call is under way its arrays are kept by this stack frame. Only when it ends as
 * HAUL_BORROWED do they stay haul's: then an op without a C op keeps them until the dict is idle.
 */
#include "haulpy.h"

static int run(const struct sending *sending, struct haul_dict *dict, int64_t timeout_ns,
               struct haul_message **reply)
{
    switch (sending->kind) {
    case SENDING_SEND:
        return haul_send(sending->peer, dict, timeout_ns);
    case SENDING_CALL:
        return haul_call(sending->peer, dict, reply, timeout_ns);
    case SENDING_REPLY:
        return haul_reply(sending->message, dict, timeout_ns);
    default:
        return haul_batch_reply(sending->batch, sending->row, dict, timeout_ns);
    }
}

static int start(const struct sending *sending, struct haul_dict *dict, struct haul_op **op)
{
    switch (sending->kind) {
    case SENDING_SEND:
        return haul_send_async(sending->peer, dict, op);
    case SENDING_CALL:
        return haul_call_async(sending->peer, dict, op);
    default:
        return haul_reply_async(sending->message, dict, op);
    }
}

static bool take_arrays(struct outgoing *outgoing, struct context *context, PyObject *arrays,
                        bool give)
{
    PyObject *mapping = arrays ? Py_NewRef(arrays) : PyDict_New();
    bool taken = mapping && outgoing_take(outgoing, context, mapping, FOR_SENDING, give);
    Py_XDECREF(mapping);
    return taken;
}

/* Keeps what is being sent until haul has let go of it; with the exception that is set. */
static void keep_borrowed(struct context *context, struct haul_dict *dict, PyObject *kept)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    Py_XDECREF(op_make(context, NULL, dict, Py_NewRef(kept), false, false));
    PyErr_Restore(type, value, trace);
}

PyObject *send_now(const struct sending *sending, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"arrays", "timeout", "give", NULL};
    struct outgoing outgoing;
    struct haul_dict *dict = NULL;
    struct haul_message *reply = NULL;
    PyObject *arrays = NULL;
    int64_t timeout_ns = HAUL_FOREVER;
    int give = 0, err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O$O&p", names, &arrays, as_timeout_ns,
                                     &timeout_ns, &give) ||
        !take_arrays(&outgoing, sending->context, arrays, give))
        return NULL;
    Py_BEGIN_ALLOW_THREADS err = outgoing_dict(&outgoing, sending->context->context, &dict);
    if (!err) {
        err = run(sending, dict, timeout_ns, &reply);
        if (err != HAUL_BORROWED)
            haul_dict_destroy(dict);
    }
    Py_END_ALLOW_THREADS if (err) raise_error(err);
    if (err == HAUL_BORROWED)
        keep_borrowed(sending->context, dict, outgoing.kept);
    outgoing_clear(&outgoing);
    if (err)
        return NULL;
    if (PyList_GET_SIZE(sending->context->under_way) > 0)
        context_sweep(sending->context);
    if (sending->kind == SENDING_CALL)
        return message_make(sending->context, reply, sending->writable, NULL);
    Py_RETURN_NONE;
}

PyObject *send_async(const struct sending *sending, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"arrays", "give", NULL};
    struct outgoing outgoing;
    struct haul_dict *dict = NULL;
    struct haul_op *op;
    PyObject *arrays = NULL;
    int give = 0, err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O$p", names, &arrays, &give) ||
        !take_arrays(&outgoing, sending->context, arrays, give))
        return NULL;
    Py_BEGIN_ALLOW_THREADS err = outgoing_dict(&outgoing, sending->context->context, &dict);
    if (!err) {
        err = start(sending, dict, &op);
        if (err)
            haul_dict_destroy(dict);
    }
    Py_END_ALLOW_THREADS if (err)
    {
        outgoing_clear(&outgoing);
        return raise_error(err);
    }
    context_sweep(sending->context);
    PyObject *made = op_make(sending->context, op, dict, Py_NewRef(outgoing.kept),
                             sending->kind == SENDING_CALL, sending->writable);
    outgoing_clear(&outgoing);
    return made;
}
