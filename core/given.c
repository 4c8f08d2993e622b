/* SPDX-License-Identifier: Apache-2.0
 * Given arrays: how they come back from an op's peer, which may look at them in place until it
 * releases them. Of a lost peer nothing more is heard: what it may still look at is retired until
 * the provider says that nobody does. */
#include "handles.h"
#include "link.h"
#include "sending.h"

void haul_given_free(struct haul_op *op)
{
    while (!haul_list_empty(&op->given))
        haul_dict_entry_free(
            HAUL_CONTAINER_OF(haul_list_pop(&op->given), struct haul_dict_entry, node));
}

static bool is_viewed(const struct haul_engine *engine, const struct haul_dict_entry *entry,
                      bool unmapping)
{
    void **regions = haul_slab_regions(entry->block->slab);
    for (unsigned i = 0; i < engine->transport_count; i++) {
        const struct haul_transport *transport = &engine->transports[i];
        const struct haul_rma_ops *ops = transport->provider->rma;
        if (transport->rma && ops->viewed && regions[transport->slot] &&
            ops->viewed(regions[transport->slot], entry->array.data, (size_t)entry->array.nbytes,
                        entry->link, unmapping))
            return true;
    }
    return false;
}

void haul_given_retire(struct haul_op *op, const struct haul_link *link)
{
    struct haul_engine *engine = op->engine;
    HAUL_LIST_EACH(&op->given, node)
    {
        struct haul_dict_entry *entry = HAUL_CONTAINER_OF(node, struct haul_dict_entry, node);
        haul_list_remove(node);
        entry->link = link;
        if (is_viewed(engine, entry, false)) {
            haul_list_append(&engine->retired, node);
            haul_engine_timer(engine, haul_now_ns());
        } else {
            haul_dict_entry_free(entry);
        }
    }
}

void haul_given_sweep(struct haul_engine *engine, bool unmapping)
{
    HAUL_LIST_EACH(&engine->retired, node)
    {
        struct haul_dict_entry *entry = HAUL_CONTAINER_OF(node, struct haul_dict_entry, node);
        if (is_viewed(engine, entry, unmapping))
            continue;
        haul_list_remove(node);
        haul_dict_entry_free(entry);
    }
}
