/* SPDX-License-Identifier: Apache-2.0 */
#include "thread.h"

#include "error.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* (Named from inside: run() may name it otherwise.) */
static void *thread_main(void *arg)
{
    struct haul_thread *thread = arg;
    pthread_setname_np(pthread_self(), "haul");
    thread->run(thread->arg);
    return NULL;
}

/* Signals are for the program's threads: a new one inherits what is blocked, so that none comes to
 * it before it could block them itself. */
static int create(struct haul_thread *thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread->id, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int haul_thread_start(void (*run)(void *arg), void *arg, struct haul_thread **thread)
{
    struct haul_thread *made = calloc(1, sizeof *made);
    if (!made)
        return haul_fail(HAUL_NO_MEMORY, "no memory for a thread");
    *made = (struct haul_thread){.run = run, .arg = arg};
    int error = create(made);
    if (error) {
        free(made);
        return haul_fail(HAUL_SYSTEM, "cannot start a thread: %s", strerror(error));
    }
    *thread = made;
    return 0;
}

void haul_thread_join(struct haul_thread *thread)
{
    pthread_join(thread->id, NULL);
    free(thread);
}
