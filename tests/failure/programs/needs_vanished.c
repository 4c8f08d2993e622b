/* SPDX-License-Identifier: Apache-2.0
 * A plugin whose library is not on the machine, as zmq without libzmq. */
#include <haul/provider.h>

int vanished(void);

HAUL_API haul_provider_entry_fn haul_provider_entry;
const struct haul_provider *haul_provider_entry(const struct haul_host *host)
{
    host->fail(HAUL_PROVIDER, "vanished() is %d", vanished());
    return NULL;
}
