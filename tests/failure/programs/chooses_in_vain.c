/* SPDX-License-Identifier: Apache-2.0
 * A plugin that chooses a NIC and then cannot be opened with it. */
#include <haul/provider.h>

static const struct haul_host *core;

static int open_nothing(struct haul_engine *engine, const char *kind, void **instance)
{
    const struct haul_candidate candidate = {.name = "vain0", .pci = ""};
    size_t chosen;
    (void)kind;
    (void)instance;
    if (core->choose_nics(engine, &candidate, 1, &chosen, 1) != 1)
        return core->fail(HAUL_PROVIDER, "nothing was chosen");
    return core->fail(HAUL_PROVIDER, "vain0 does not open");
}

HAUL_API haul_provider_entry_fn haul_provider_entry;
const struct haul_provider *haul_provider_entry(const struct haul_host *host)
{
    static const struct haul_rma_ops rma = {.open = open_nothing};
    static const struct haul_provider provider = {.abi = HAUL_PROVIDER_ABI,
                                                  .size = sizeof provider,
                                                  .name = "chooses_in_vain",
                                                  .description = "a NIC that does not open",
                                                  .rma = &rma};
    core = host;
    return &provider;
}
