/* SPDX-License-Identifier: Apache-2.0
 * What core does for providers that open NICs.
 *
 * A provider chooses from its open(), when it is not known yet whether it can be used: until then
 * the choice is a proposal (site.h). Threads that it starts in its open() go by its own. What it
 * asks later is answered by the choice that was carried out: that of the first provider, or kind of
 * one, that could be opened. */
#include "rail.h"

#include "engine.h"
#include "thread.h"

#include <stdlib.h>

static const struct haul_locality *place_of(const struct haul_engine *engine)
{
    const struct haul_site *site = &engine->site;
    return site->proposed ? &site->proposed->place : &site->chosen.place;
}

/* ---- Choosing -------------------------------------------------------------------------------- */

static int fail_nic(const struct haul_wish *wish, const struct haul_nic *nics, size_t count)
{
    char wished[256] = "", names[256] = "";
    for (size_t i = 0; i < wish->nic_count; i++)
        haul_append_text(wished, sizeof wished, "%s%s", i ? "," : "", wish->nics[i]);
    for (size_t i = 0; i < count; i++)
        haul_append_text(names, sizeof names, "%s%s", i ? ", " : "", nics[i].name);
    if (wish->nic_count == 0)
        return haul_fail(HAUL_PROVIDER, "there is no NIC that can be used");
    return haul_fail(HAUL_PROVIDER, "HAUL_NIC=%s names no NIC that can be used; there are: %s",
                     wished, count ? names : "none");
}

static int propose(struct haul_site *site, const struct haul_nic *nics, size_t count, size_t most)
{
    if (!site->proposed)
        site->proposed = calloc(1, sizeof *site->proposed);
    if (!site->proposed)
        return haul_fail(HAUL_NO_MEMORY, "no memory to choose a NIC");
    int err = haul_site_choose(site, nics, count, most, site->proposed);
    if (!err && site->proposed->place.rail_count == 0)
        err = fail_nic(&site->wish, nics, count);
    if (err)
        haul_site_forget(site);
    return err;
}

size_t haul_rails_choose(struct haul_engine *engine, const struct haul_candidate *candidates,
                         size_t count, size_t *chosen, size_t max)
{
    struct haul_nic *nics = calloc(HAUL_MAX(count, (size_t)1), sizeof *nics);
    if (!nics) {
        haul_fail(HAUL_NO_MEMORY, "no memory to choose a NIC");
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        haul_copy_text(nics[i].name, sizeof nics[i].name, candidates[i].name);
        haul_copy_text(nics[i].pci, sizeof nics[i].pci, candidates[i].pci);
        nics[i].repeats = candidates[i].repeats;
    }
    int err = propose(&engine->site, nics, count, max);
    free(nics);
    if (err)
        return 0;
    const struct haul_locality *place = place_of(engine);
    for (size_t i = 0; i < place->rail_count; i++)
        chosen[i] = place->rails[i].nic;
    return place->rail_count;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* The node that a byte of a slab is on, or will be on when its page is there; -1: not known. */
static int node_of(const struct haul_site *site, const void *memory)
{
    int node = haul_memory_node(memory);
    if (node < 0 && haul_set_count(&site->memory.nodes) == 1)
        node = (int)haul_set_next(&site->memory.nodes, 0);
    return node;
}

unsigned haul_rails_near(struct haul_engine *engine, const void *memory)
{
    const struct haul_locality *place = place_of(engine);
    unsigned all = (1u << place->rail_count) - 1, near = 0;
    int node = place->rail_count > 1 ? node_of(&engine->site, memory) : -1;
    for (size_t i = 0; i < place->rail_count && node >= 0; i++) {
        const struct haul_set *nodes = &place->rails[i].nodes;
        if (haul_set_is_empty(nodes) || haul_set_has(nodes, (unsigned)node))
            near |= 1u << i;
    }
    return near ? near : all;
}

/* ---- Threads --------------------------------------------------------------------------------- */

static void bind_near(struct haul_engine *engine, const struct haul_thread *thread, size_t nic)
{
    const struct haul_locality *place = place_of(engine);
    if (nic >= place->rail_count || haul_set_is_empty(&place->rails[nic].cpus))
        return;
    if (haul_topology_bind_thread(engine->site.topology, thread->id, &place->rails[nic].cpus))
        haul_log(HAUL_LOG_INFO, "placement: %s", haul_error_detail());
}

int haul_rails_thread_start(struct haul_engine *engine, size_t nic, void (*run)(void *arg),
                            void *arg, struct haul_thread **thread)
{
    int err = haul_thread_start(run, arg, thread);
    if (!err)
        bind_near(engine, *thread, nic);
    return err;
}
