/* SPDX-License-Identifier: Apache-2.0 */
#include "signals.h"

#include <stdbool.h>
#include <stddef.h>

static void block_signals(sigset_t *before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, before);
}

void haul_signals_save(struct haul_signals *signals)
{
    block_signals(&signals->mask);
    for (int number = 1; number < _NSIG; number++)
        sigaction(number, NULL, &signals->actions[number]); /* (not those of the C library) */
}

static bool same_handler(const struct sigaction *a, const struct sigaction *b)
{
    bool with_info = a->sa_flags & SA_SIGINFO;
    if (with_info != ((b->sa_flags & SA_SIGINFO) != 0))
        return false;
    return with_info ? a->sa_sigaction == b->sa_sigaction : a->sa_handler == b->sa_handler;
}

void haul_signals_restore(const struct haul_signals *signals)
{
    for (int number = 1; number < _NSIG; number++) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0 && !same_handler(&now, &signals->actions[number]))
            sigaction(number, &signals->actions[number], NULL);
    }
    pthread_sigmask(SIG_SETMASK, &signals->mask, NULL);
}
