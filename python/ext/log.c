/* SPDX-License-Identifier: Apache-2.0
 * haul's log lines, to a pipe that a thread of Python's reads (haul/_log.py). Written from any
 * thread of haul's, some with its locks held: so no GIL is taken here, and a full pipe loses the
 * line. */
#include "haulpy.h"

#include <stdatomic.h>
#include <unistd.h>

static atomic_int pipe_fd = -1;

static void write_line(enum haul_log_level level, const char *line, void *arg)
{
    char text[2048]; /* less than PIPE_BUF: written whole or not at all */
    (void)arg;
    int bytes = snprintf(text, sizeof text, "%d %s", (int)level, line);
    if (bytes > (int)sizeof text - 2)
        bytes = (int)sizeof text - 2;
    text[bytes++] = '\n';
    (void)!write(atomic_load(&pipe_fd), text, (size_t)bytes);
}

PyObject *log_to(PyObject *module, PyObject *fd)
{
    int number = (int)PyLong_AsLong(fd);
    (void)module;
    if (PyErr_Occurred())
        return NULL;
    atomic_store(&pipe_fd, number);
    haul_log_set(number < 0 ? NULL : write_line, NULL);
    Py_RETURN_NONE;
}
