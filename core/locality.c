/* SPDX-License-Identifier: Apache-2.0
 * Where to work on a machine.
 *
 * The choice, in order (that of NICs is made in nics.c):
 *   usable   NICs that are up and have hardware, and are not much slower than the best; those that
 *            the user named are taken as they are
 *   home     the nodes that the user wishes, else those that the process is bound to, else all
 *   groups   NICs with the same nearest nodes belong together; at home comes before away, the same
 *            socket before others, more speed before less
 *   rails    the NICs of the best group, but one alone where its place is not known or it is
 *            virtual; those of the next groups only when the user asks for so many
 *   memory   on the rails' nodes; threads on these nodes' CPUs, beside those that the process
 *            bound itself to, which belong to its own threads; a rail's own thread on those of the
 *            rail's nodes
 * What cannot be is left out and said (`unmet`); nothing here is an error. */
#include "locality.h"

#include "nics.h"
#include "util.h"

struct choice {
    const struct haul_topology *topology;
    const struct haul_wish *wish;
    bool is_bound; /* the process, to a part of the CPUs */
    bool has_pci;  /* the rails are at the PCI address that the user binds to, if he does */
    struct haul_locality *locality;
};

static void because(struct choice *choice, const char *reason)
{
    haul_append_text(choice->locality->why, sizeof choice->locality->why, "%s", reason);
}

void haul_locality_unmet(struct haul_locality *locality, const char *format, ...)
{
    char text[sizeof locality->unmet];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    haul_append_text(locality->unmet, sizeof locality->unmet, "%s%s", *locality->unmet ? "; " : "",
                     text);
}

static struct haul_set nodes_of_cpus(const struct haul_topology *topology,
                                     const struct haul_set *cpus)
{
    struct haul_set nodes = {{0}};
    for (size_t i = 0; i < topology->node_count; i++)
        if (!topology->nodes[i].special && haul_set_meets(&topology->nodes[i].cpus, cpus))
            haul_set_add(&nodes, topology->nodes[i].number);
    return nodes;
}

static struct haul_set cpus_of_nodes(const struct haul_topology *topology,
                                     const struct haul_set *nodes)
{
    struct haul_set cpus = {{0}};
    for (size_t i = 0; i < topology->node_count; i++)
        if (haul_set_has(nodes, topology->nodes[i].number))
            cpus = haul_set_either(&cpus, &topology->nodes[i].cpus);
    return haul_set_both(&cpus, &topology->cpus);
}

/* ---- Memory and threads ---------------------------------------------------------------------- */

static struct haul_set without_special(const struct choice *choice, const struct haul_set *nodes)
{
    struct haul_set special = {{0}};
    for (size_t i = 0; i < choice->topology->node_count; i++)
        if (choice->topology->nodes[i].special)
            haul_set_add(&special, choice->topology->nodes[i].number);
    return haul_set_without(nodes, &special);
}

static struct haul_set nodes_of_rails(const struct choice *choice)
{
    struct haul_set nodes = {{0}};
    for (size_t i = 0; i < choice->locality->rail_count; i++)
        nodes = haul_set_either(&nodes, &choice->locality->rails[i].nodes);
    return nodes;
}

/* Takes what is not in `part` out of *set, unless that leaves nothing. */
static void prefer(struct haul_set *set, const struct haul_set *part)
{
    const struct haul_set both = haul_set_both(set, part);
    if (!haul_set_is_empty(&both))
        *set = both;
}

/* Threads run on the nodes' quick cores, and leave those to the user that he bound himself to. */
static struct haul_set cpus_for_threads(const struct choice *choice, const struct haul_set *nodes)
{
    const struct haul_topology *topology = choice->topology;
    struct haul_set cpus = cpus_of_nodes(topology, nodes);
    prefer(&cpus, &topology->fast_cpus);
    if (choice->is_bound) {
        const struct haul_set others = haul_set_without(&topology->cpus, &topology->own_cpus);
        prefer(&cpus, &others);
    }
    return cpus;
}

static void place_on(struct choice *choice, const struct haul_set *nodes)
{
    const struct haul_set ordinary = without_special(choice, nodes);
    choice->locality->nodes = haul_set_both(&ordinary, &choice->topology->mems);
    choice->locality->cpus = cpus_for_threads(choice, &ordinary);
}

static void place_on_numbers(struct choice *choice)
{
    const struct haul_topology *topology = choice->topology;
    const struct haul_set *wished = &choice->wish->numbers;
    bool cores = choice->wish->bind == HAUL_BIND_CORES;
    const struct haul_set *there = cores ? &topology->cpus : &topology->mems;
    const struct haul_set allowed = haul_set_both(wished, there);
    const struct haul_set missing = haul_set_without(wished, there);
    char text[HAUL_SET_TEXT_MAX];
    if (!haul_set_is_empty(&missing))
        haul_locality_unmet(choice->locality, "%s %s are not there or not allowed",
                            cores ? "CPUs" : "NUMA nodes",
                            haul_set_format(&missing, text, sizeof text));
    if (haul_set_is_empty(&allowed)) {
        because(choice, "what HAUL_BIND says cannot be");
        return;
    }
    because(choice, "HAUL_BIND says so");
    if (!cores) {
        choice->locality->nodes = allowed;
        choice->locality->cpus = cpus_for_threads(choice, &allowed);
        return;
    }
    const struct haul_set nodes = nodes_of_cpus(topology, &allowed);
    choice->locality->nodes = haul_set_both(&nodes, &topology->mems);
    choice->locality->cpus = allowed;
}

/* Near the rails, if that is anywhere. */
static void place_by_rails(struct choice *choice)
{
    const struct haul_set nodes = nodes_of_rails(choice);
    bool wished = choice->wish->bind == HAUL_BIND_PCI;
    if (!choice->has_pci) {
        because(choice, "what HAUL_BIND says cannot be");
    } else if (haul_set_count(&choice->topology->mems) == 1 && !wished) {
        because(choice, "there is one NUMA node that may be used");
    } else if (choice->locality->rail_count == 0) {
        because(choice, "no NIC says where");
    } else if (haul_set_is_empty(&nodes)) {
        because(choice, "nothing tells where the NIC is");
    } else {
        place_on(choice, &nodes);
        because(choice, wished                             ? "HAUL_BIND says so"
                        : choice->locality->rail_count > 1 ? "that is where the NICs are"
                                                           : "that is where the NIC is");
        if (haul_set_is_empty(&choice->locality->nodes))
            because(choice, "; its memory is not allowed");
        if (haul_set_is_empty(&choice->locality->cpus))
            because(choice, "; its CPUs are not allowed");
    }
}

/* The CPUs of all threads that are near the rail, by the same rule; all of them if none is. */
static struct haul_set cpus_of_rail(const struct choice *choice, const struct haul_rail *rail)
{
    const struct haul_set *all = &choice->locality->cpus;
    struct haul_set nodes = without_special(choice, &rail->nodes);
    if (choice->wish->bind == HAUL_BIND_NUMA)
        nodes = haul_set_both(&nodes, &choice->wish->numbers);
    struct haul_set cpus = choice->wish->bind == HAUL_BIND_CORES
                               ? cpus_of_nodes(choice->topology, &nodes)
                               : cpus_for_threads(choice, &nodes);
    if (choice->wish->bind == HAUL_BIND_CORES)
        cpus = haul_set_both(&cpus, all);
    return haul_set_is_empty(&cpus) ? *all : cpus;
}

static void place(struct choice *choice)
{
    if (choice->wish->bind != HAUL_BIND_NONE && *choice->topology->unknown) {
        because(choice, choice->topology->unknown);
        if (choice->wish->bind != HAUL_BIND_AUTO)
            haul_locality_unmet(choice->locality, "HAUL_BIND: %s", choice->topology->unknown);
        return;
    }
    switch (choice->wish->bind) {
    case HAUL_BIND_NONE:
        because(choice, "HAUL_BIND=none");
        break;
    case HAUL_BIND_NUMA:
    case HAUL_BIND_CORES:
        place_on_numbers(choice);
        break;
    case HAUL_BIND_AUTO:
    case HAUL_BIND_PCI:
        place_by_rails(choice);
    }
    if (haul_set_is_empty(&choice->locality->cpus))
        return;
    for (size_t i = 0; i < choice->locality->rail_count; i++)
        choice->locality->rails[i].cpus = cpus_of_rail(choice, &choice->locality->rails[i]);
}

/* ---- All of it ------------------------------------------------------------------------------- */

static struct haul_set find_home(const struct haul_topology *topology, const struct haul_wish *wish)
{
    if (wish->bind == HAUL_BIND_NUMA)
        return wish->numbers;
    if (wish->bind == HAUL_BIND_CORES)
        return nodes_of_cpus(topology, &wish->numbers);
    /* Of an unbound process too: it may be confined to a part of the machine. */
    return nodes_of_cpus(topology, &topology->own_cpus);
}

void haul_locality_choose(const struct haul_topology *topology, const struct haul_wish *wish,
                          const struct haul_nic *nics, size_t nic_count, size_t most,
                          struct haul_locality *locality)
{
    struct choice choice = {.topology = topology, .wish = wish, .locality = locality};
    const struct haul_set home = find_home(topology, wish);
    *locality = (struct haul_locality){.rail_count = 0};
    choice.is_bound = !haul_set_is_equal(&topology->own_cpus, &topology->cpus);
    choice.has_pci = haul_nics_choose(topology, wish, &home, nics, nic_count, most, locality);
    place(&choice);
}
