/* SPDX-License-Identifier: Apache-2.0
 * Where to work on a machine.
 *
 * The choice, in order:
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

#include "util.h"

#include <stdlib.h>

/* ---- The choice ------------------------------------------------------------------------------ */

enum option_state { OPTION_OPEN, OPTION_LEFT_OUT, OPTION_TAKEN };

struct option {
    size_t index; /* of the NIC */
    const struct haul_nic *nic;
    const struct haul_device *device; /* NULL: not in the topology */
    enum option_state state;
};

struct choice {
    const struct haul_topology *topology;
    const struct haul_wish *wish;
    struct option *options;
    size_t count;
    size_t most;          /* rails */
    struct haul_set home; /* nodes */
    bool is_bound;        /* the process, to a part of the CPUs */
    bool misses_pci;      /* what is taken is not at the PCI address that the user binds to */
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

static bool is_open(const struct option *option)
{
    return option->state == OPTION_OPEN;
}

static struct haul_set nodes_of(const struct option *option)
{
    static const struct haul_set unknown = {{0}};
    return option->device ? option->device->nodes : unknown;
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

/* ---- Which NICs can be used ------------------------------------------------------------------ */

static bool is_down(const struct option *option)
{
    return option->device && option->device->state == HAUL_DEVICE_DOWN;
}

static bool is_virtual(const struct option *option)
{
    return option->device && option->device->is_virtual;
}

/* A wish without function means them all. */
static bool is_at(const char *pci, const struct haul_wish *wish)
{
    return strncmp(pci, wish->pci, strlen(wish->pci)) == 0;
}

static bool is_elsewhere(const struct choice *choice, const struct option *option)
{
    const char *pci = *option->nic->pci ? option->nic->pci
                      : option->device  ? option->device->pci
                                        : "";
    return !is_at(pci, choice->wish);
}

static uint64_t best_mbits(const struct choice *choice)
{
    uint64_t best = 0;
    for (size_t i = 0; i < choice->count; i++)
        if (is_open(&choice->options[i]) && choice->options[i].device)
            best = HAUL_MAX(best, choice->options[i].device->mbits);
    return best;
}

/* Leaves those out that have a fault, unless all have it. */
static void leave_out(struct choice *choice, bool (*has_fault)(const struct option *option))
{
    bool some = false;
    for (size_t i = 0; i < choice->count; i++)
        some |= is_open(&choice->options[i]) && !has_fault(&choice->options[i]);
    for (size_t i = 0; some && i < choice->count; i++)
        if (has_fault(&choice->options[i]))
            choice->options[i].state = OPTION_LEFT_OUT;
}

static void leave_out_slow(struct choice *choice)
{
    uint64_t best = best_mbits(choice);
    for (size_t i = 0; i < choice->count; i++) {
        const struct haul_device *device = choice->options[i].device;
        if (device && device->mbits > 0 && device->mbits < best / 2)
            choice->options[i].state = OPTION_LEFT_OUT;
    }
}

/* Only NICs at the address that the user binds to. */
static void keep_pci(struct choice *choice)
{
    bool some = false;
    for (size_t i = 0; i < choice->count; i++)
        some |= !is_elsewhere(choice, &choice->options[i]);
    if (!some) {
        haul_locality_unmet(choice->locality, "no NIC is at PCI address %s", choice->wish->pci);
        choice->misses_pci = true;
        return;
    }
    for (size_t i = 0; i < choice->count; i++)
        if (is_elsewhere(choice, &choice->options[i]))
            choice->options[i].state = OPTION_LEFT_OUT;
}

/* ---- Groups ---------------------------------------------------------------------------------- */

/* How good the group of a NIC is: of two, the one with the greater rank is taken. */
struct rank {
    bool is_known, is_home, is_same_package;
    uint64_t speed;
    unsigned first_node;
};

static bool in_package_of_home(const struct choice *choice, const struct haul_set *nodes)
{
    const struct haul_topology *topology = choice->topology;
    for (size_t i = 0; i < topology->node_count; i++)
        for (size_t j = 0; j < topology->node_count; j++)
            if (!topology->nodes[i].special && haul_set_has(nodes, topology->nodes[i].number) &&
                haul_set_has(&choice->home, topology->nodes[j].number) &&
                topology->nodes[i].package == topology->nodes[j].package)
                return true;
    return false;
}

/* A NIC whose speed nobody knows counts a little, so that more of them are better than fewer. */
static uint64_t speed_of_group(const struct choice *choice, const struct haul_set *nodes)
{
    uint64_t speed = 0;
    for (size_t i = 0; i < choice->count; i++) {
        const struct haul_set own = nodes_of(&choice->options[i]);
        if (is_open(&choice->options[i]) && haul_set_is_equal(&own, nodes))
            speed += HAUL_MAX(choice->options[i].device ? choice->options[i].device->mbits : 0,
                              UINT64_C(1));
    }
    return speed;
}

static struct rank rank_of(const struct choice *choice, const struct option *option)
{
    const struct haul_set nodes = nodes_of(option);
    return (struct rank){.is_known = !haul_set_is_empty(&nodes),
                         .is_home = haul_set_meets(&nodes, &choice->home),
                         .is_same_package = in_package_of_home(choice, &nodes),
                         .speed = speed_of_group(choice, &nodes),
                         .first_node = haul_set_next(&nodes, 0)};
}

static bool is_better(const struct rank *a, const struct rank *b)
{
    if (a->is_known != b->is_known)
        return a->is_known;
    if (a->is_home != b->is_home)
        return a->is_home;
    if (a->is_same_package != b->is_same_package)
        return a->is_same_package;
    if (a->speed != b->speed)
        return a->speed > b->speed;
    return a->first_node < b->first_node;
}

/* The first NIC of the best group that is left, or NULL. */
static struct option *best_option(struct choice *choice)
{
    struct option *best = NULL;
    struct rank best_rank = {.speed = 0};
    for (size_t i = 0; i < choice->count; i++) {
        struct option *option = &choice->options[i];
        if (!is_open(option))
            continue;
        struct rank rank = rank_of(choice, option);
        if (!best || is_better(&rank, &best_rank)) {
            best = option;
            best_rank = rank;
        }
    }
    return best;
}

/* ---- Rails ----------------------------------------------------------------------------------- */

static void take_rail(struct choice *choice, struct option *option)
{
    struct haul_locality *locality = choice->locality;
    locality->rails[locality->rail_count++] =
        (struct haul_rail){.nic = option->index, .nodes = nodes_of(option)};
    option->state = OPTION_TAKEN;
}

static struct option *option_named(const struct choice *choice, const char *name)
{
    for (size_t i = 0; i < choice->count; i++)
        if (!strcmp(choice->options[i].nic->name, name))
            return &choice->options[i];
    return NULL;
}

static void take_named(struct choice *choice)
{
    for (size_t i = 0; i < choice->wish->nic_count; i++) {
        struct option *named = option_named(choice, choice->wish->nics[i]);
        if (!named) {
            haul_locality_unmet(choice->locality, "%s is no NIC that can be used here",
                                choice->wish->nics[i]);
            continue;
        }
        if (!is_open(named) || choice->locality->rail_count == choice->most)
            continue;
        if (choice->wish->bind == HAUL_BIND_PCI && is_elsewhere(choice, named)) {
            haul_locality_unmet(choice->locality, "%s is not at PCI address %s", named->nic->name,
                                choice->wish->pci);
            choice->misses_pci = true;
        }
        take_rail(choice, named);
    }
}

/* Whether more NICs like this one are not worth it unless the user says so: nothing tells that they
 * are as near, or they may go over the same hardware. */
static bool is_for_itself(const struct option *option)
{
    const struct haul_set nodes = nodes_of(option);
    return haul_set_is_empty(&nodes) || is_virtual(option);
}

static void take_group(struct choice *choice, const struct haul_set *group, size_t most)
{
    for (size_t i = 0; i < choice->count && choice->locality->rail_count < most; i++) {
        const struct haul_set nodes = nodes_of(&choice->options[i]);
        if (is_open(&choice->options[i]) && haul_set_is_equal(&nodes, group))
            take_rail(choice, &choice->options[i]);
    }
}

/* The NICs of the best group in their order, and while more are wished those of the next. */
static void take_near(struct choice *choice)
{
    bool automatic = choice->wish->rails == 0;
    struct option *best = best_option(choice);
    size_t most = automatic && best && is_for_itself(best) ? 1 : choice->most;
    while (best && choice->locality->rail_count < most) {
        const struct haul_set group = nodes_of(best);
        take_group(choice, &group, most);
        best = automatic ? NULL : best_option(choice);
    }
}

static void choose_rails(struct choice *choice)
{
    if (choice->wish->nic_count > 0) {
        take_named(choice);
    } else {
        if (choice->wish->bind == HAUL_BIND_PCI)
            keep_pci(choice);
        leave_out(choice, is_down);
        leave_out(choice, is_virtual);
        leave_out_slow(choice);
        take_near(choice);
    }
    if (choice->wish->rails > 1 && choice->locality->rail_count < choice->wish->rails)
        haul_locality_unmet(choice->locality, "%u rails are wished, and %zu can be had",
                            choice->wish->rails, choice->locality->rail_count);
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
    if (choice->misses_pci) {
        because(choice, "what HAUL_BIND says cannot be");
    } else if (haul_set_count(&choice->topology->mems) == 1 && !wished) {
        because(choice, "there is one NUMA node that may be used");
    } else if (choice->locality->rail_count == 0) {
        because(choice, "no NIC says where");
    } else if (haul_set_is_empty(&nodes)) {
        because(choice, "nothing tells where the NIC is");
    } else {
        place_on(choice, &nodes);
        because(choice, wished ? "HAUL_BIND says so" : "that is where the NIC is");
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

static void find_home(struct choice *choice)
{
    const struct haul_topology *topology = choice->topology;
    choice->is_bound = !haul_set_is_equal(&topology->own_cpus, &topology->cpus);
    if (choice->wish->bind == HAUL_BIND_NUMA)
        choice->home = choice->wish->numbers;
    else if (choice->wish->bind == HAUL_BIND_CORES)
        choice->home = nodes_of_cpus(topology, &choice->wish->numbers);
    else /* of an unbound process too: it may be confined to a part of the machine */
        choice->home = nodes_of_cpus(topology, &topology->own_cpus);
}

static const struct haul_device *device_of(const struct haul_topology *topology,
                                           const struct haul_nic *nic)
{
    const struct haul_device *device = haul_topology_device(topology, nic->name);
    for (size_t i = 0; i < topology->device_count && !device && *nic->pci; i++)
        if (!strcmp(topology->devices[i].pci, nic->pci))
            device = &topology->devices[i];
    return device;
}

/* In the topology's order, which is that of the PCI bus; those that it does not know come last. */
static int compare_options(const void *a, const void *b)
{
    const struct option *left = a, *right = b;
    if (!left->device != !right->device)
        return left->device ? -1 : 1;
    if (left->device != right->device)
        return left->device < right->device ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

static void list_options(struct choice *choice, const struct haul_nic *nics, size_t count)
{
    for (size_t i = 0; i < count; i++)
        choice->options[i] = (struct option){
            .index = i, .nic = &nics[i], .device = device_of(choice->topology, &nics[i])};
    choice->count = count;
    qsort(choice->options, count, sizeof *choice->options, compare_options);
}

void haul_locality_choose(const struct haul_topology *topology, const struct haul_wish *wish,
                          const struct haul_nic *nics, size_t nic_count, size_t most,
                          struct haul_locality *locality)
{
    struct choice choice = {.topology = topology, .wish = wish, .locality = locality};
    choice.most = HAUL_MIN(most, (size_t)(wish->rails ? wish->rails : HAUL_RAILS_MAX));
    *locality = (struct haul_locality){.rail_count = 0};
    choice.options = calloc(HAUL_MAX(nic_count, (size_t)1), sizeof *choice.options);
    if (!choice.options) {
        haul_locality_unmet(locality, "no memory to choose with");
        return;
    }
    list_options(&choice, nics, nic_count);
    find_home(&choice);
    choose_rails(&choice);
    place(&choice);
    free(choice.options);
}

static bool is_named(const struct haul_device *device, const struct haul_wish *wish)
{
    for (size_t i = 0; i < wish->nic_count; i++)
        if (!strcmp(device->name, wish->nics[i]))
            return true;
    return false;
}

static bool is_at_wish(const struct haul_device *device, const struct haul_wish *wish)
{
    return wish->nic_count == 0 && wish->bind == HAUL_BIND_PCI && *device->pci &&
           is_at(device->pci, wish);
}

/* A fabric without a link is not where data would go while there is an interface. */
static bool is_up_or_network(const struct haul_device *device, const struct haul_wish *wish)
{
    (void)wish;
    return device->kind == HAUL_DEVICE_NETWORK || device->state != HAUL_DEVICE_DOWN;
}

static size_t list_nics(const struct haul_topology *topology, const struct haul_wish *wish,
                        bool (*fits)(const struct haul_device *device,
                                     const struct haul_wish *wish),
                        bool fabrics_first, struct haul_nic *nics, size_t max)
{
    bool fabric = false;
    size_t count = 0;
    for (size_t i = 0; i < topology->device_count; i++)
        fabric |=
            topology->devices[i].kind == HAUL_DEVICE_FABRIC && fits(&topology->devices[i], wish);
    for (size_t i = 0; i < topology->device_count && count < max; i++) {
        const struct haul_device *device = &topology->devices[i];
        bool passed = fabrics_first && fabric && device->kind != HAUL_DEVICE_FABRIC;
        if (passed || !fits(device, wish))
            continue;
        haul_copy_text(nics[count].name, sizeof nics[count].name, device->name);
        haul_copy_text(nics[count].pci, sizeof nics[count].pci, device->pci);
        count++;
    }
    return count;
}

size_t haul_locality_nics(const struct haul_topology *topology, const struct haul_wish *wish,
                          struct haul_nic *nics, size_t max)
{
    size_t count = list_nics(topology, wish, is_named, false, nics, max);
    if (count == 0)
        count = list_nics(topology, wish, is_at_wish, true, nics, max);
    if (count == 0)
        count = list_nics(topology, wish, is_up_or_network, true, nics, max);
    return count;
}
