/* SPDX-License-Identifier: Apache-2.0
 * Where an engine works.
 *
 * Nothing here fails a run: what cannot be had is said once in the log, and in haul_machine. Only
 * wishes that make no sense are errors. hwloc takes long to look at a machine (some ten
 * milliseconds), so it is asked only where there is something to choose: on machines with several
 * NUMA nodes, or when the user names a place. */
#include "engine.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

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
        !haul_topology_bind_thread(site->topology, engine->drive.thread, &cpus))
        return;
    haul_locality_unmet(place, "%s", haul_error_detail());
    place->cpus = (struct haul_set){{0}};
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
    site->memory.topology = site->topology;
    site->memory.nodes = choice->place.nodes;
    bind_thread(engine);
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
    count = haul_locality_nics(site->topology, &site->wish, nics, count);
    err = settle_by(engine, nics, count);
    free(nics);
    return err;
}

/* ---- By the first connection ----------------------------------------------------------------- */

static bool has_address(const struct ifaddrs *interface, const char *host)
{
    char text[INET6_ADDRSTRLEN];
    const struct sockaddr *address = interface->ifa_addr;
    const void *bytes = NULL;
    if (address && address->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address && address->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (!bytes || !inet_ntop(address->sa_family, bytes, text, sizeof text))
        return false;
    size_t length = strcspn(host, "%"); /* behind it: the zone of a link-local address */
    return strlen(text) == length && !strncmp(text, host, length);
}

/* The interface that has an address of ours, but not loopback. */
static bool find_interface(const char *host, struct haul_nic *nic)
{
    struct ifaddrs *interfaces;
    bool found = false, is_local = !strncmp(host, "127.", 4) || !strcmp(host, "::1");
    if (!*host || is_local || getifaddrs(&interfaces))
        return false;
    for (const struct ifaddrs *at = interfaces; at && !found; at = at->ifa_next) {
        if (at->ifa_flags & IFF_LOOPBACK || !has_address(at, host))
            continue;
        haul_copy_text(nic->name, sizeof nic->name, at->ifa_name);
        found = true;
    }
    freeifaddrs(interfaces);
    return found;
}

void haul_site_connected(struct haul_link *link)
{
    char host[HAUL_HOST_MAX];
    struct haul_nic nic = {.pci = ""};
    if (link->engine->site.settled)
        return;
    haul_host.link_host(link, host);
    if (find_interface(host, &nic))
        (void)settle_by(link->engine, &nic, 1);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static int parse_hugepages(const char *text, enum haul_hugepages *hugepages)
{
    static const char *const names[] = {[HAUL_HUGEPAGES_AUTO] = "auto",
                                        [HAUL_HUGEPAGES_NEVER] = "never",
                                        [HAUL_HUGEPAGES_REQUIRE] = "require"};
    for (size_t i = 0; i < HAUL_COUNT_OF(names); i++)
        if (!strcmp(text, names[i])) {
            *hugepages = (enum haul_hugepages)i;
            return 0;
        }
    return haul_fail(HAUL_CONFIG,
                     "HAUL_HUGEPAGES cannot be \"%.100s\": it takes auto, never or require", text);
}

int haul_site_open(struct haul_engine *engine)
{
    const struct haul_config *config = &engine->config;
    int err = parse_hugepages(config->hugepages, &engine->site.memory.hugepages);
    return err ? err
               : haul_wish_parse(config->bind, config->nic, config->rails, &engine->site.wish);
}

int haul_site_opened(struct haul_engine *engine)
{
    struct haul_site *site = &engine->site;
    bool by_wish = names_a_place(&site->wish) || site->wish.nic_count > 0;
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
    return 0;
}

void haul_site_close(struct haul_engine *engine)
{
    haul_topology_free(engine->site.topology);
}
