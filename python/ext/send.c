/* SPDX-License-Identifier: Apache-2.0
 * Sends, calls and replies: from keyword arguments to haul and back.
 *
 * While a blocking call is under way its arrays are kept by this stack frame. Only when it ends as
 * HAUL_BORROWED do they stay haul's: then an op without a C op keeps them until the dict is idle.
 */
#include "haulpy.h"

/* Ends with the dict destroyed, except as HAUL_BORROWED. */
static int run(const struct sending *sending, const struct outgoing *outgoing, int64_t timeout_ns,
               struct haul_dict **dict, struct haul_message **reply)
{
    int err = outgoing_dict(outgoing, sending->context->context, dict);
    if (err)
        return err;
    switch (sending->kind) {
    case SENDING_SEND:
        err = haul_send(sending->peer->peer, *dict, timeout_ns);
        break;
    case SENDING_CALL:
        err = haul_call(sending->peer->peer, *dict, reply, timeout_ns);
        break;
    case SENDING_REPLY:
        err = haul_reply(sending->message, *dict, timeout_ns);
        break;
    case SENDING_BATCH_REPLY:
        err = haul_batch_reply(sending->batch, sending->row, *dict, timeout_ns);
        break;
    }
    if (err != HAUL_BORROWED)
        haul_dict_destroy(*dict);
    return err;
}

/* Ends with dict and op, or with neither. */
static int start(const struct sending *sending, const struct outgoing *outgoing,
                 struct haul_dict **dict, struct haul_op **op)
{
    int err = outgoing_dict(outgoing, sending->context->context, dict);
    if (err)
        return err;
    if (sending->kind == SENDING_SEND)
        err = haul_send_async(sending->peer->peer, *dict, op);
    else if (sending->kind == SENDING_CALL)
        err = haul_call_async(sending->peer->peer, *dict, op);
    else
        err = haul_reply_async(sending->message, *dict, op);
    if (err)
        haul_dict_destroy(*dict);
    return err;
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
    struct haul_dict *dict;
    struct haul_message *reply = NULL;
    PyObject *arrays = NULL;
    int64_t timeout_ns = HAUL_FOREVER;
    int give = 0, err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O$O&p", names, &arrays, as_timeout_ns,
                                     &timeout_ns, &give) ||
        !take_arrays(&outgoing, sending->context, arrays, give))
        return NULL;
    WITHOUT_GIL(err = run(sending, &outgoing, timeout_ns, &dict, &reply));
    if (err)
        raise_error(err);
    if (err == HAUL_BORROWED)
        keep_borrowed(sending->context, dict, outgoing.kept);
    outgoing_clear(&outgoing);
    ops_sweep();
    return reply ? message_make(sending->context, reply, sending->writable, NULL)
                 : none_unless_raised();
}

PyObject *send_async(const struct sending *sending, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"arrays", "give", NULL};
    struct outgoing outgoing;
    struct haul_dict *dict;
    struct haul_op *op;
    PyObject *arrays = NULL;
    int give = 0, err;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O$p", names, &arrays, &give) ||
        !take_arrays(&outgoing, sending->context, arrays, give))
        return NULL;
    /* An op keeps its peer connected, also when the user drops it. */
    if (sending->peer && PyList_Append(outgoing.kept, (PyObject *)sending->peer)) {
        outgoing_clear(&outgoing);
        return NULL;
    }
    WITHOUT_GIL(err = start(sending, &outgoing, &dict, &op));
    PyObject *made = err ? raise_error(err)
                         : op_make(sending->context, op, dict, Py_NewRef(outgoing.kept),
                                   sending->kind == SENDING_CALL, sending->writable);
    outgoing_clear(&outgoing);
    ops_sweep();
    return made;
}
