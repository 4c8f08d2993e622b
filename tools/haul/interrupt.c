/* SPDX-License-Identifier: Apache-2.0
 * Signals that ask the command to stop. */
#include "command.h"

#include <signal.h>

static volatile sig_atomic_t received;

static void remember(int signal_number)
{
    received = signal_number;
}

void haul_interrupt_catch(void)
{
    /* No SA_RESTART: a wait must end. SA_RESETHAND: whoever is impatient asks twice. */
    struct sigaction action = {.sa_handler = remember, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (signal(SIGHUP, SIG_IGN) != SIG_IGN) /* else nohup started us */
        sigaction(SIGHUP, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit (ulimit -f) is an error like a full disk */
}

int haul_interrupt_signal(void)
{
    return received;
}
