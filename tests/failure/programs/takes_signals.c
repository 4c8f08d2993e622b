/* SPDX-License-Identifier: Apache-2.0
 * A plugin whose libraries take a signal for themselves, once they are loaded and once they are
 * opened or asked. It finds nothing that it could use. */
#include <haul/provider.h>

#include <signal.h>
#include <stdlib.h>

static void take(int number)
{
    (void)number;
    abort();
}

__attribute__((constructor)) static void loaded(void)
{
    signal(SIGINT, take);
}

static int open_nothing(struct haul_engine *engine, const char *kind, void **instance)
{
    (void)engine;
    (void)kind;
    (void)instance;
    if (signal(SIGTERM, take) != SIG_DFL)
        raise(SIGTERM); /* it comes while the library has it: the program's handler is to get it */
    return HAUL_PROVIDER;
}

static void examine(void (*found)(const struct haul_finding *finding, void *arg), void *arg)
{
    const struct haul_finding finding = {HAUL_FINDING_NOTE, "nothing is here", "look elsewhere"};
    signal(SIGHUP, take);
    found(&finding, arg);
}

HAUL_API haul_provider_entry_fn haul_provider_entry;
const struct haul_provider *haul_provider_entry(const struct haul_host *host)
{
    static const struct haul_rma_ops rma = {.open = open_nothing};
    static const struct haul_provider provider = {.abi = HAUL_PROVIDER_ABI,
                                                  .size = sizeof provider,
                                                  .name = "takes_signals",
                                                  .description = "signals",
                                                  .rma = &rma,
                                                  .examine = examine};
    (void)host;
    return &provider;
}
