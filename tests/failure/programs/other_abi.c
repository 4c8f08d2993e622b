/* SPDX-License-Identifier: Apache-2.0
 * A plugin of the next ABI: nothing behind the number can be understood. */
#include <haul/provider.h>

HAUL_API haul_provider_entry_fn haul_provider_entry;
const struct haul_provider *haul_provider_entry(const struct haul_host *host)
{
    static const struct haul_provider provider = {.abi = HAUL_PROVIDER_ABI + 1};
    (void)host;
    return &provider;
}
