/* SPDX-License-Identifier: Apache-2.0
 * Which NICs to use: the first half of the choice that locality.c describes. */
#include "nics.h"

#include "util.h"

#include <stdlib.h>

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
    size_t usable;               /* rails that the provider can use */
    size_t most;                 /* of them, as the user wishes */
    const struct haul_set *home; /* nodes */
    bool misses_pci; /* what is taken is not at the PCI address that the user binds to */
    struct haul_locality *locality;
};

static bool is_open(const struct option *option)
{
    return option->state == OPTION_OPEN;
}

static struct haul_set nodes_of(const struct option *option)
{
    static const struct haul_set unknown = {{0}};
    return option->device ? option->device->nodes : unknown;
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
                haul_set_has(choice->home, topology->nodes[j].number) &&
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
                         .is_home = haul_set_meets(&nodes, choice->home),
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

/* A provider that can use fewer than are named offers those only that it has settled on (by an
 * address, say): then it is no fault of the others that they are not among them. */
static void say_which_are_missing(struct choice *choice)
{
    const struct haul_wish *wish = choice->wish;
    bool too_many = wish->nic_count > choice->usable;
    for (size_t i = 0; i < wish->nic_count && !too_many; i++)
        if (!option_named(choice, wish->nics[i]))
            haul_locality_unmet(choice->locality, "%s is no NIC that can be used here",
                                wish->nics[i]);
    if (too_many && wish->rails == 0)
        haul_locality_unmet(choice->locality,
                            "%zu NICs are named, and with these settings %zu can be used at once",
                            wish->nic_count, choice->usable);
}

static void take_named(struct choice *choice)
{
    for (size_t i = 0; i < choice->wish->nic_count; i++) {
        struct option *named = option_named(choice, choice->wish->nics[i]);
        if (!named || !is_open(named) || choice->locality->rail_count == choice->most)
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

static bool can_repeat(const struct choice *choice)
{
    for (size_t i = 0; i < choice->count; i++)
        if (choice->options[i].state == OPTION_TAKEN && choice->options[i].nic->repeats)
            return true;
    return false;
}

static void take_rails(struct choice *choice)
{
    if (choice->wish->nic_count > 0) {
        say_which_are_missing(choice);
        take_named(choice);
    } else {
        if (choice->wish->bind == HAUL_BIND_PCI)
            keep_pci(choice);
        leave_out(choice, is_down);
        leave_out(choice, is_virtual);
        leave_out_slow(choice);
        take_near(choice);
    }
    if (choice->wish->rails > 1 && choice->locality->rail_count < choice->wish->rails &&
        !can_repeat(choice))
        haul_locality_unmet(choice->locality, "%u rails are wished, and %zu can be had",
                            choice->wish->rails, choice->locality->rail_count);
}

/* ---- Choosing -------------------------------------------------------------------------------- */

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

bool haul_nics_choose(const struct haul_topology *topology, const struct haul_wish *wish,
                      const struct haul_set *home, const struct haul_nic *nics, size_t nic_count,
                      size_t most, struct haul_locality *locality)
{
    struct choice choice = {
        .topology = topology, .wish = wish, .usable = most, .home = home, .locality = locality};
    choice.most = HAUL_MIN(most, (size_t)(wish->rails ? wish->rails : HAUL_RAILS_MAX));
    choice.options = calloc(HAUL_MAX(nic_count, (size_t)1), sizeof *choice.options);
    if (!choice.options) {
        haul_locality_unmet(locality, "no memory to choose with");
        return true;
    }
    list_options(&choice, nics, nic_count);
    take_rails(&choice);
    free(choice.options);
    return !choice.misses_pci;
}

/* ---- All that there are ---------------------------------------------------------------------- */

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

static size_t list_fitting(const struct haul_topology *topology, const struct haul_wish *wish,
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

size_t haul_nics_list(const struct haul_topology *topology, const struct haul_wish *wish,
                      struct haul_nic *nics, size_t max)
{
    size_t count = list_fitting(topology, wish, is_named, false, nics, max);
    if (count == 0)
        count = list_fitting(topology, wish, is_at_wish, true, nics, max);
    if (count == 0)
        count = list_fitting(topology, wish, is_up_or_network, true, nics, max);
    return count;
}
