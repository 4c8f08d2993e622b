/* SPDX-License-Identifier: Apache-2.0
 * Where an engine works.
 *
 * Nothing here fails a run: what cannot be had is said once in the log. Only wishes that make no
 * sense are errors. hwloc takes long to look at a machine (some ten milliseconds), so it is asked
 * only where there is something to choose, on machines with several NUMA nodes or when the user
 * names a place, and while the context is being opened: connections do not wait for it. */
#include "address.h"
#include "handles.h"
#include "interface.h"
#include "link.h"
#include "nics.h"
#include "thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages looked at in each slab; fewer on the nodes than this part of them is worth a warning. */
enum { PAGES_PER_SLAB = 64, NEAR_PERCENT = 99 };

static bool names_a_place(const struct haul_wish *wish)
{
    return wish->bind == HAUL_BIND_NUMA || wish->bind == HAUL_BIND_CORES ||
           wish->bind == HAUL_BIND_PCI;
}

int haul_site_look(struct haul_site *site)
{
    if (site->topology)
        return 0;
    return names_a_place(&site->wish) || haul_topology_node_count() > 1
               ? haul_topology_load(NULL, &site->topology)
               : haul_topology_load_devices(&site->topology);
}

/* ---- Carrying it out ------------------------------------------------------------------------- */

/* The CPUs near the rails that the engine's own thread drives: with several threads (see
 * progress_threads) those of every so many-th rail. */
static struct haul_set cpus_of_thread(const struct haul_engine *engine)
{
    const struct haul_locality *place = &engine->site.chosen.place;
    struct haul_set cpus = {{0}};
    if (engine->config.progress_threads == 1 || place->rail_count == 0)
        return place->cpus;
    for (size_t i = 0; i < place->rail_count; i += engine->config.progress_threads)
        cpus = haul_set_either(&cpus, &place->rails[i].cpus);
    return cpus;
}

static void bind_thread(struct haul_engine *engine)
{
    struct haul_site *site = &engine->site;
    struct haul_locality *place = &site->chosen.place;
    const struct haul_set cpus = cpus_of_thread(engine);
    if (haul_set_is_empty(&cpus) ||
        !haul_topology_bind_thread(site->topology, engine->drive.thread->id, &cpus))
        return;
    haul_locality_unmet(place, "%s", haul_error_detail());
    place->cpus = (struct haul_set){{0}};
}

/* Tried with a page, so that nothing is claimed where the system refuses it. */
static void bind_memory(struct haul_site *site)
{
    struct haul_locality *place = &site->chosen.place;
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = haul_set_is_empty(&place->nodes) ? MAP_FAILED
                                                  : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return;
    if (haul_topology_bind_memory(site->topology, page, bytes, &place->nodes)) {
        haul_locality_unmet(place, "%s", haul_error_detail());
        place->nodes = (struct haul_set){{0}};
    }
    munmap(page, bytes);
    site->memory.topology = site->topology;
    site->memory.nodes = place->nodes;
}

static void say(const struct haul_site *site)
{
    char nodes[HAUL_SET_TEXT_MAX], cpus[HAUL_SET_TEXT_MAX], nics[256] = "";
    const struct haul_locality *place = &site->chosen.place;
    for (size_t i = 0; i < place->rail_count; i++)
        haul_append_text(nics, sizeof nics, "%s%s", i ? "," : "", site->chosen.nics[i]);
    if (*place->unmet)
        haul_log(HAUL_LOG_WARNING, "placement: not possible: %s", place->unmet);
    haul_log(HAUL_LOG_INFO, "placement: NIC %s, memory on nodes %s, threads on CPUs %s: %s",
             *nics ? nics : "any",
             haul_set_is_empty(&place->nodes) ? "any"
                                              : haul_set_format(&place->nodes, nodes, sizeof nodes),
             haul_set_is_empty(&place->cpus) ? "any"
                                             : haul_set_format(&place->cpus, cpus, sizeof cpus),
             place->why);
}

static void settle(struct haul_engine *engine, const struct haul_choice *choice)
{
    struct haul_site *site = &engine->site;
    site->settled = true;
    site->chosen = *choice;
    bind_thread(engine);
    bind_memory(site);
    say(site);
}

static void settle_nowhere(struct haul_site *site, const char *why)
{
    site->settled = true;
    haul_copy_text(site->chosen.place.why, sizeof site->chosen.place.why, why);
    say(site);
}

void haul_site_check(struct haul_engine *engine, const struct haul_slab *slab)
{
    struct haul_site *site = &engine->site;
    struct haul_page_count count;
    char nodes[HAUL_SET_TEXT_MAX];
    if (haul_set_is_empty(&site->memory.nodes) ||
        !haul_memory_count_pages(haul_slab_base(slab), haul_slab_bytes(slab), &site->memory.nodes,
                                 PAGES_PER_SLAB, &count))
        return;
    site->pages.looked += count.looked;
    site->pages.present += count.present;
    site->pages.on_nodes += count.on_nodes;
    if (site->pages_warned || site->pages.on_nodes * 100 >= site->pages.present * NEAR_PERCENT)
        return;
    site->pages_warned = true;
    haul_log(
        HAUL_LOG_WARNING,
        "placement: of %zu pages looked at only %zu are on NUMA nodes %s: is their memory full, "
        "or kept from this process?",
        site->pages.present, site->pages.on_nodes,
        haul_set_format(&site->memory.nodes, nodes, sizeof nodes));
}

/* ---- Choosing -------------------------------------------------------------------------------- */

int haul_site_choose(struct haul_site *site, const struct haul_nic *nics, size_t count, size_t most,
                     struct haul_choice *choice)
{
    int err = haul_site_look(site);
    if (err)
        return err;
    haul_locality_choose(site->topology, &site->wish, nics, count, most, &choice->place);
    for (size_t i = 0; i < choice->place.rail_count; i++)
        haul_copy_text(choice->nics[i], sizeof choice->nics[i],
                       nics[choice->place.rails[i].nic].name);
    return 0;
}

void haul_site_forget(struct haul_site *site)
{
    free(site->proposed);
    site->proposed = NULL;
}

void haul_site_provider_opened(struct haul_engine *engine, bool opened)
{
    struct haul_site *site = &engine->site;
    if (site->proposed && opened && !site->settled)
        settle(engine, site->proposed);
    haul_site_forget(site);
}

/* By a list of NICs that nobody has to open. */
static int settle_by(struct haul_engine *engine, const struct haul_nic *nics, size_t count)
{
    struct haul_choice choice;
    int err = haul_site_choose(&engine->site, nics, count, HAUL_RAILS_MAX, &choice);
    if (!err)
        settle(engine, &choice);
    return err;
}

/* The user names a place, or NICs: any device of this machine may be meant. */
static int settle_by_wish(struct haul_engine *engine)
{
    struct haul_site *site = &engine->site;
    int err = haul_site_look(site);
    if (err)
        return err;
    size_t count = site->topology->device_count;
    struct haul_nic *nics = calloc(HAUL_MAX(count, (size_t)1), sizeof *nics);
    if (!nics)
        return haul_fail(HAUL_NO_MEMORY, "no memory to choose a NIC");
    count = haul_nics_list(site->topology, &site->wish, nics, count);
    err = settle_by(engine, nics, count);
    free(nics);
    return err;
}

/* ---- By the first connection ----------------------------------------------------------------- */

/* The host of an address, "" of a Unix socket. */
static const char *host_of(const char *text, struct haul_address *address)
{
    return haul_address_parse(text, address) ? "" : address->host;
}

/* The interface that a connection of ours comes over. A connection within this host comes over
 * none, whatever address it was made to. (Of one that was made to a host's name nothing tells where
 * it ends.) */
void haul_site_connected(struct haul_link *link)
{
    char host[HAUL_HOST_MAX];
    struct haul_address peer;
    struct haul_nic nic = {.pci = ""};
    if (link->engine->site.settled)
        return;
    haul_host.link_host(link, host);
    if (!haul_interface_has(host_of(link->peer->address, &peer)) &&
        haul_interface_find(host, nic.name))
        (void)settle_by(link->engine, &nic, 1);
}

/* ---- Life ------------------------------------------------------------------------------------ */

int haul_site_open(struct haul_engine *engine)
{
    const struct haul_config *config = &engine->config;
    int err = haul_hugepages_parse(config->hugepages, &engine->site.memory.hugepages);
    return err ? err
               : haul_wish_parse(config->bind, config->nic, config->rails, &engine->site.wish);
}

/* Rails are wished, or threads for them: some provider in use must have any. */
static void check_rails(const struct haul_engine *engine)
{
    bool wished = engine->site.wish.rails > 1 || engine->config.progress_threads > 1;
    for (unsigned i = 0; i < engine->transport_count && wished; i++) {
        const struct haul_transport *transport = &engine->transports[i];
        wished = !transport->rma || !transport->provider->rma->rails;
    }
    if (wished)
        haul_log(HAUL_LOG_WARNING,
                 "HAUL_RAILS and HAUL_PROGRESS_THREADS do nothing here: no provider in use reads "
                 "over several NICs (ofi does)");
}

int haul_site_opened(struct haul_engine *engine)
{
    struct haul_site *site = &engine->site;
    bool by_wish = names_a_place(&site->wish) || site->wish.nic_count > 0;
    check_rails(engine);
    if (site->settled)
        return 0;
    if (by_wish)
        return settle_by_wish(engine);
    /* Where nothing is to be bound, or there is nothing to choose, no connection has to say more.
     */
    if (site->wish.bind == HAUL_BIND_NONE)
        settle_nowhere(site, "HAUL_BIND=none");
    else if (haul_topology_node_count() == 1)
        settle_nowhere(site, "there is one NUMA node");
    return site->settled ? 0 : haul_site_look(site);
}

void haul_site_close(struct haul_engine *engine)
{
    haul_topology_free(engine->site.topology);
}
