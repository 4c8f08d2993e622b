/* SPDX-License-Identifier: Apache-2.0
 * The extension haul._haul: Python's handles on what include/haul offers, and NumPy arrays on both
 * sides of it. module.c makes the module; each noun has a file; handle.c has what they share.
 *
 * Who owns what. A handle holds its C object and the Python objects that must live as long: a peer
 * or server its context, a block its context, an op the arrays that it sends. A received array
 * refers to a Hold (message.c), which owns the C message: its memory goes back to the pool with the
 * last array, or with the message if that lives longer. An op that is under way keeps itself
 * (op.c), so that what it sends stays alive when the user drops it; each call looks whether some
 * have ended.
 *
 * Threads. The GIL guards everything in these structures. It is released around every call of haul
 * that may wait or copy; those that only look, as whether an op has ended, keep it, and take haul's
 * lock, whose holders never wait for the GIL. Nothing here is called by haul's own thread, except
 * the log sink (log.c), which takes no GIL; the question whether a wait is interrupted (handle.c)
 * comes from waiting threads, with no lock of haul held.
 *
 * How it fails. C's error codes become the exceptions of errors.c, with haul's sentence. A signal's
 * handler may raise in any wait, also in one that succeeds: then what it brought is given up. */
#ifndef HAULPY_H
#define HAULPY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <haul/haul.h>

#define NPY_NO_DEPRECATED_API NPY_1_23_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL haulpy_numpy
#ifndef HAULPY_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

/* ---- handle.c: what handles have in common --------------------------------------------------- */

/* How each handle begins. */
struct handle {
    PyObject_HEAD PyObject *weak_references;
    struct context *context; /* whose engine it works with; NULL in a context itself */
};

/* A new one whose other fields are 0, or NULL with an exception set. */
void *handle_make(PyTypeObject *type, struct context *context);
/* The begin and the end of a dealloc. */
void handle_forget(PyObject *object);
void handle_free(PyObject *object);
/* __enter__; the property _context. (__exit__ is what ends a handle: it ignores its arguments.) */
PyObject *handle_self(PyObject *object, PyObject *none);
PyObject *handle_context(PyObject *object, void *none);

/* Runs a statement of haul's while other threads run Python. */
#define WITHOUT_GIL(...)                              \
    do {                                              \
        PyThreadState *thread_ = PyEval_SaveThread(); \
        __VA_ARGS__;                                  \
        PyEval_RestoreThread(thread_);                \
    } while (0)

/* The same in a dealloc, out of which no exception may come: Ctrl-C is seen after it. */
#define RELEASE(...)              \
    do {                          \
        is_deallocating = true;   \
        WITHOUT_GIL(__VA_ARGS__); \
        is_deallocating = false;  \
    } while (0)
extern _Thread_local bool is_deallocating;

/* Whether a signal's handler has raised: what haul asks while it waits. */
bool is_interrupted(void *arg);
/* None, unless it has. */
PyObject *none_unless_raised(void);

PyObject *text_of(const char *text);
/* A str as UTF-8, or NULL with an exception set: C's texts have no NUL. */
const char *text_without_nul(PyObject *text);

/* ---- errors.c: exceptions and time ----------------------------------------------------------- */

/* Adds the exceptions to the module. */
int errors_init(PyObject *module);
/* Raises the exception of a C error, with the calling thread's detail; a pending KeyboardInterrupt
 * (or what else a signal handler has raised) goes before. Returns NULL. */
PyObject *raise_error(int err);
/* The same with another sentence. */
PyObject *raise_error_with(int err, const char *detail);
/* Whether it is the exception that is set. */
bool is_raised(int err);
/* Seconds, or None for ever; to be used as a converter ("O&"). */
int as_timeout_ns(PyObject *seconds, void *timeout_ns);

/* ---- context.c ------------------------------------------------------------------------------- */

struct context {
    struct handle handle;
    struct haul_context *context;
};
extern PyTypeObject context_type;

/* ---- block.c: memory of the pool ------------------------------------------------------------- */

struct block {
    struct handle handle;
    struct haul_block *block;
};
extern PyTypeObject block_type;

/* A new array of this dtype (whose reference is taken over) in a block of the context's pool. */
PyArrayObject *block_array(struct context *context, PyArray_Descr *dtype, int ndim,
                           const npy_intp *shape);
/* The block of this context that an array lies in, or NULL (no error). */
struct block *block_of(struct context *context, PyArrayObject *array);

/* ---- arrays.c: between NumPy and haul -------------------------------------------------------- */

/* What is to be sent, taken out of a mapping under the GIL; made a dict without it. */
struct outgoing {
    Py_ssize_t count;
    struct outgoing_array {
        struct haul_array array;
        uint64_t shape[HAUL_NDIM_MAX];
        struct haul_block *block; /* that it lies in, or NULL */
    } * arrays, few[4];
    bool give;
    PyObject *items; /* the mapping's, as a list of pairs; in `kept` */
    PyObject *kept;  /* what the arrays point into: keys, NumPy arrays, descriptions */
};

/* What for: to send (anything that can be made an array), to receive into (writable arrays as they
 * are), or as the types of a batch's rows (only arrays, whose data is not looked at). */
enum outgoing_use { FOR_SENDING, FOR_RECEIVING, FOR_TYPES };

/* Returns false with an exception set. */
bool outgoing_take(struct outgoing *outgoing, struct context *context, PyObject *mapping,
                   enum outgoing_use use, bool give);
void outgoing_clear(struct outgoing *outgoing);
/* Without the GIL. Returns a C error. */
int outgoing_dict(const struct outgoing *outgoing, struct haul_context *context,
                  struct haul_dict **dict);
/* Fills in dtype, itemsize and description from NumPy's dtype; what the description points into is
 * appended to `kept`. A reference to the dtype in the byte order of the wire, or NULL. */
PyArray_Descr *describe(PyArray_Descr *dtype, const char *key, struct haul_array *array,
                        PyObject *kept);
/* An array that looks at received bytes and keeps `base` alive. */
PyObject *array_view(const struct haul_array *array, PyObject *base, bool writable);
/* The same as a copy of its own. */
PyObject *array_copy(const struct haul_array *array);
int arrays_init(void);

/* ---- op.c ------------------------------------------------------------------------------------ */

struct op {
    struct handle handle;
    struct haul_op *op; /* NULL: only `dict` is waited for */
    struct haul_dict *dict;
    PyObject *kept; /* what is sent, and the peer; NULL: it has ended */
    bool is_call, writable, done;
    bool awaited; /* by an event loop */
    int result;
    PyObject *detail; /* of a failure */
    struct haul_message *reply;
};
extern PyTypeObject op_type;

/* Takes over the op (NULL: what a call that ended as HAUL_BORROWED left), dict and `kept`. */
PyObject *op_make(struct context *context, struct haul_op *op, struct haul_dict *dict,
                  PyObject *kept, bool is_call, bool writable);
/* Whether it has ended; if so, what it sent is let go. */
bool op_test(struct op *op);
/* Forgets the ops that have ended, except those that an event loop awaits: it has to see their end
 * on their context's descriptor. Cheap when there are none. A pending exception stays. */
void ops_sweep(void);
/* Forgets all of a context that have ended: after it, that descriptor is readable for new ends
 * only.
 */
void ops_collect(const struct context *context);
int ops_init(void);

/* ---- send.c: sends, calls and replies -------------------------------------------------------- */

enum sending_kind { SENDING_SEND, SENDING_CALL, SENDING_REPLY, SENDING_BATCH_REPLY };

/* What is to be sent where. The caller keeps all of it alive. */
struct sending {
    enum sending_kind kind;
    struct context *context;
    struct source *peer;          /* SEND, CALL */
    struct haul_message *message; /* REPLY */
    struct haul_batch *batch;     /* BATCH_REPLY */
    size_t row;
    bool writable; /* the arrays of a reply that comes */
};
/* (arrays={}, *, timeout=None, give=False): waits; returns the reply of a call, else None. */
PyObject *send_now(const struct sending *sending, PyObject *args, PyObject *keywords);
/* (arrays={}, *, give=False): returns an op. Not for batches. */
PyObject *send_async(const struct sending *sending, PyObject *args, PyObject *keywords);

/* ---- message.c ------------------------------------------------------------------------------- */

extern PyTypeObject hold_type, message_type;
/* Takes over the message. named: the mapping of arrays that it was received into, or NULL. Returns
 * NULL with an exception set, also if one was pending. */
PyObject *message_make(struct context *context, struct haul_message *message, bool writable,
                       PyObject *named);

/* ---- source.c: what servers and peers have in common ----------------------------------------- */

struct source {
    struct handle handle;
    struct haul_server *server; /* one of the two */
    struct haul_peer *peer;
    bool writable; /* the arrays of its messages */
};

/* recv(timeout=None), __next__, arecv(timeout=None), async for, _fd() */
PyObject *source_recv(PyObject *object, PyObject *args, PyObject *keywords);
PyObject *source_next(PyObject *object);
PyObject *source_arecv(PyObject *object, PyObject *const *args, Py_ssize_t count, PyObject *names);
extern PyAsyncMethods source_async;
PyObject *source_fd(PyObject *object, PyObject *none);

/* ---- peer.c, server.c, batch.c --------------------------------------------------------------- */

extern PyTypeObject peer_type, server_type, batch_type;
/* Takes over the reference. */
PyObject *peer_make(struct context *context, struct haul_peer *peer, bool writable);
PyObject *server_make(struct context *context, struct haul_server *server, bool writable);

/* stats of whatever kind, as a dict. */
PyObject *stats_dict(const struct haul_stats *stats);

/* ---- log.c ----------------------------------------------------------------------------------- */

/* log_to(fd): lines go to a pipe as "LEVEL text\n", or with -1 to standard error. */
PyObject *log_to(PyObject *module, PyObject *fd);

/* A method that a function of the package haul._aio implements. */
PyObject *forward(const char *function, PyObject *self, PyObject *const *args, Py_ssize_t count,
                  PyObject *names);
#define FORWARD(method, function)                                                              \
    PyObject *method(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) \
    {                                                                                          \
        return forward(function, self, args, count, names);                                    \
    }                                                                                          \
    _Static_assert(1, "takes the semicolon")
#define FORWARDED(method) ((PyCFunction)(void (*)(void))(method)), METH_FASTCALL | METH_KEYWORDS
#define KEYWORDS(method) ((PyCFunction)(void (*)(void))(method)), METH_VARARGS | METH_KEYWORDS

#endif
