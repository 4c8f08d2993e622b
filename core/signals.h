/* SPDX-License-Identifier: Apache-2.0
 * A process's signal handlers, kept while libraries are loaded.
 *
 * Handlers belong to the program. Some libraries install their own when they are loaded or opened
 * (those for PSM, which libfabric loads, take SIGINT, SIGTERM and SIGSEGV to print a backtrace):
 * then Ctrl-C would kill a Python that had wanted to raise KeyboardInterrupt. One of these handlers
 * calls exit(), which hangs for ever where libfabric is in the middle of its work: so signals wait
 * until the program's handlers are there again. (Those of another thread that does not block them
 * do not.) */
#ifndef HAUL_CORE_SIGNALS_H
#define HAUL_CORE_SIGNALS_H

#include <signal.h>

struct haul_signals {
    struct sigaction actions[_NSIG];
    sigset_t mask;
};

/* From here to haul_signals_restore() this thread takes no signals but those of its own faults. */
void haul_signals_save(struct haul_signals *signals);
/* Sets again those that have changed. What another thread has changed meanwhile is lost: programs
 * set their handlers before they open contexts, or after. */
void haul_signals_restore(const struct haul_signals *signals);

#endif
