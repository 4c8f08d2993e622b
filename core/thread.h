/* SPDX-License-Identifier: Apache-2.0
 * Threads of haul's own, core's and the providers'. */
#ifndef HAUL_CORE_THREAD_H
#define HAUL_CORE_THREAD_H

#include <pthread.h>

struct haul_thread {
    pthread_t id;
    void (*run)(void *arg);
    void *arg;
};

/* It is named "haul", and runs where the calling thread may. Errors: HAUL_SYSTEM, HAUL_NO_MEMORY.
 */
int haul_thread_start(void (*run)(void *arg), void *arg, struct haul_thread **thread);
/* Waits for its end, and frees it. */
void haul_thread_join(struct haul_thread *thread);

#endif
