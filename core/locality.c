/* SPDX-License-Identifier: Apache-2.0
 * Where to work on a machine.
 *
 * The choice, in order:
 *   usable   NICs that are up and have hardware, and are not much slower than the best; those that
 *            the user named are taken as they are
 *   home     the nodes that the user wishes, else those that the process is bound to, else all
 *   groups   NICs with the same nearest nodes belong together; at home comes before away, the same
 *            socket before others, more speed before less
 *   rails    the NICs of the best group; of the next ones only when the user asks for more
 *   memory   on the rails' nodes; threads on these nodes' CPUs, beside those that the process
 *            bound itself to, which belong to its own threads
 * What cannot be is left out and said (`unmet`); nothing here is an error. */
#include "locality.h"

#include "error.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Wishes ---------------------------------------------------------------------------------- */

static int fail_bind(const char *text)
{
    return haul_fail(HAUL_CONFIG,
                     "HAUL_BIND cannot be \"%.100s\": it takes auto, none, numa:NODES, cores:CPUS "
                     "(lists such as 0-3,8) or pci:ADDRESS (such as 0000:41:00.0)",
                     text);
}

/* "41:00.0", "0000:41:00.0", and both without the function; in the topology's spelling. */
static bool parse_pci(const char *text, char pci[static HAUL_PCI_MAX])
{
    unsigned parts[4]; /* domain, bus, device, function */
    bool has_domain = strchr(text, ':') != strrchr(text, ':');
    bool has_function = strchr(text, '.') != NULL;
    parts[0] = 0;
    for (size_t i = has_domain ? 0 : 1; i < (has_function ? 4u : 3u); i++) {
        static const struct {
            size_t digits;
            unsigned most;
            const char *end;
        } forms[] = {{4, 0xffff, ":"}, {2, 0xff, ":"}, {2, 0x1f, "."}, {1, 7, ""}};
        size_t digits = strspn(text, "0123456789abcdefABCDEF");
        bool is_last = i == (has_function ? 3u : 2u);
        if (digits == 0 || digits > forms[i].digits ||
            text[digits] != (is_last ? '\0' : *forms[i].end))
            return false;
        parts[i] = (unsigned)strtoul(text, NULL, 16);
        if (parts[i] > forms[i].most)
            return false;
        text += digits + !is_last;
    }
    int length = snprintf(pci, HAUL_PCI_MAX, "%04x:%02x:%02x", parts[0], parts[1], parts[2]);
    if (has_function)
        snprintf(pci + length, HAUL_PCI_MAX - (size_t)length, ".%x", parts[3]);
    return true;
}

static int parse_bind(const char *text, struct haul_wish *wish)
{
    static const struct {
        const char *prefix;
        enum haul_bind bind;
    } kinds[] = {{"numa:", HAUL_BIND_NUMA}, {"cores:", HAUL_BIND_CORES}, {"pci:", HAUL_BIND_PCI}};
    if (!strcmp(text, "auto") || !strcmp(text, "none")) {
        wish->bind = *text == 'a' ? HAUL_BIND_AUTO : HAUL_BIND_NONE;
        return 0;
    }
    for (size_t i = 0; i < HAUL_COUNT_OF(kinds); i++) {
        size_t length = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, length) != 0)
            continue;
        wish->bind = kinds[i].bind;
        bool parsed = wish->bind == HAUL_BIND_PCI ? parse_pci(text + length, wish->pci)
                                                  : haul_set_parse(text + length, &wish->numbers);
        return parsed ? 0 : fail_bind(text);
    }
    return fail_bind(text);
}

static int parse_nics(const char *text, struct haul_wish *wish)
{
    while (*text) {
        size_t length = strcspn(text, ",");
        if (length == 0 || length >= HAUL_DEVICE_NAME_MAX)
            return haul_fail(HAUL_CONFIG,
                             "HAUL_NIC cannot be \"%.100s\": it takes names of interfaces or "
                             "devices, separated by commas (mlx5_0,mlx5_1)",
                             text);
        if (wish->nic_count == HAUL_WISHED_NICS_MAX)
            return haul_fail(HAUL_CONFIG, "HAUL_NIC names more than %d NICs", HAUL_WISHED_NICS_MAX);
        memcpy(wish->nics[wish->nic_count], text, length);
        wish->nics[wish->nic_count++][length] = '\0';
        text += length;
        if (*text == ',' && !*++text)
            return haul_fail(HAUL_CONFIG, "HAUL_NIC ends in a comma");
    }
    return 0;
}

static int parse_rails(const char *text, struct haul_wish *wish)
{
    char *end;
    if (!strcmp(text, "auto"))
        return 0;
    unsigned long rails = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || rails < 1 || rails > HAUL_RAILS_MAX)
        return haul_fail(HAUL_CONFIG, "HAUL_RAILS cannot be \"%.100s\": it takes auto or 1 to %d",
                         text, HAUL_RAILS_MAX);
    wish->rails = (unsigned)rails;
    return 0;
}

int haul_wish_parse(const char *bind, const char *nics, const char *rails, struct haul_wish *wish)
{
    *wish = (struct haul_wish){.bind = HAUL_BIND_AUTO};
    int err = parse_bind(bind, wish);
    if (!err)
        err = parse_nics(nics, wish);
    return err ? err : parse_rails(rails, wish);
}

/* ---- The choice ------------------------------------------------------------------------------ */

struct option {
    size_t index; /* of the NIC */
    const struct haul_nic *nic;
    const struct haul_device *device; /* NULL: not in the topology */
    bool left_out;
};

struct choice {
    const struct haul_topology *topology;
    const struct haul_wish *wish;
    struct option *options;
    size_t count;
    struct haul_set home; /* nodes */
    bool is_bound;        /* the process, to a part of the CPUs */
    struct haul_locality *locality;
};

#define WHY(choice, ...) \
    haul_append_text((choice)->locality->why, sizeof(choice)->locality->why, __VA_ARGS__)
#define UNMET(choice, ...)                                                             \
    haul_append_text((choice)->locality->unmet, sizeof(choice)->locality->unmet, "%s", \
                     *(choice)->locality->unmet ? "; " : ""),                          \
        haul_append_text((choice)->locality->unmet, sizeof(choice)->locality->unmet, __VA_ARGS__)

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
        if (!choice->options[i].left_out && choice->options[i].device)
            best = HAUL_MAX(best, choice->options[i].device->mbits);
    return best;
}

/* Leaves those out that have a fault, unless all have it. */
static void leave_out(struct choice *choice, bool (*has_fault)(const struct option *option))
{
    bool some = false;
    for (size_t i = 0; i < choice->count; i++)
        some |= !choice->options[i].left_out && !has_fault(&choice->options[i]);
    for (size_t i = 0; some && i < choice->count; i++)
        choice->options[i].left_out |= has_fault(&choice->options[i]);
}

static void leave_out_slow(struct choice *choice)
{
    uint64_t best = best_mbits(choice);
    for (size_t i = 0; i < choice->count; i++) {
        const struct haul_device *device = choice->options[i].device;
        if (device && device->mbits > 0 && device->mbits < best / 2)
            choice->options[i].left_out = true;
    }
}

/* Only NICs at the address that the user binds to. */
static void keep_pci(struct choice *choice)
{
    bool some = false;
    for (size_t i = 0; i < choice->count; i++)
        some |= !is_elsewhere(choice, &choice->options[i]);
    if (!some) {
        UNMET(choice, "no NIC is at PCI address %s", choice->wish->pci);
        return;
    }
    for (size_t i = 0; i < choice->count; i++)
        choice->options[i].left_out |= is_elsewhere(choice, &choice->options[i]);
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
        if (!choice->options[i].left_out && haul_set_is_equal(&own, nodes))
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
        if (option->left_out)
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
    locality->rails[locality->rail_count++] = option->index;
    option->left_out = true;
}

static void take_named(struct choice *choice)
{
    for (size_t i = 0; i < choice->wish->nic_count; i++) {
        struct option *named = NULL;
        for (size_t j = 0; j < choice->count && !named; j++)
            if (!strcmp(choice->options[j].nic->name, choice->wish->nics[i]))
                named = &choice->options[j];
        if (!named)
            UNMET(choice, "%s is no NIC that can be used here", choice->wish->nics[i]);
        else if (choice->locality->rail_count < HAUL_RAILS_MAX && !named->left_out &&
                 (choice->wish->rails == 0 || choice->locality->rail_count < choice->wish->rails)) {
            if (choice->wish->bind == HAUL_BIND_PCI && is_elsewhere(choice, named))
                UNMET(choice, "%s is not at PCI address %s", named->nic->name, choice->wish->pci);
            take_rail(choice, named);
        }
    }
}

/* The NICs of the best group in their order, and while more are wished those of the next. */
static void take_near(struct choice *choice)
{
    unsigned most = choice->wish->rails ? choice->wish->rails : HAUL_RAILS_MAX;
    struct option *best = best_option(choice);
    while (best && choice->locality->rail_count < most) {
        const struct haul_set group = nodes_of(best);
        for (size_t i = 0; i < choice->count && choice->locality->rail_count < most; i++) {
            struct option *option = &choice->options[i];
            const struct haul_set nodes = nodes_of(option);
            if (!option->left_out && haul_set_is_equal(&nodes, &group))
                take_rail(choice, option);
        }
        best = choice->wish->rails ? best_option(choice) : NULL;
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
        UNMET(choice, "%u rails are wished, and there are %zu", choice->wish->rails,
              choice->locality->rail_count);
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
        for (size_t j = 0; j < choice->count; j++)
            if (choice->options[j].index == choice->locality->rails[i]) {
                const struct haul_set own = nodes_of(&choice->options[j]);
                nodes = haul_set_either(&nodes, &own);
            }
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
        UNMET(choice, "%s %s are not there or not allowed", cores ? "CPUs" : "NUMA nodes",
              haul_set_format(&missing, text, sizeof text));
    if (haul_set_is_empty(&allowed)) {
        WHY(choice, "what HAUL_BIND says cannot be");
        return;
    }
    WHY(choice, "HAUL_BIND says so");
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
    if (wished && *choice->locality->unmet) {
        WHY(choice, "what HAUL_BIND says cannot be");
    } else if (haul_set_count(&choice->topology->mems) == 1 && !wished) {
        WHY(choice, "there is one NUMA node that may be used");
    } else if (choice->locality->rail_count == 0) {
        WHY(choice, "no NIC says where");
    } else if (haul_set_is_empty(&nodes)) {
        WHY(choice, "nothing tells where the NIC is");
    } else {
        place_on(choice, &nodes);
        WHY(choice, "%s", wished ? "HAUL_BIND says so" : "that is where the NIC is");
        if (haul_set_is_empty(&choice->locality->nodes))
            WHY(choice, "; its memory is not allowed");
        if (haul_set_is_empty(&choice->locality->cpus))
            WHY(choice, "; its CPUs are not allowed");
    }
}

static void place(struct choice *choice)
{
    if (choice->wish->bind != HAUL_BIND_NONE && *choice->topology->unknown) {
        WHY(choice, "%s", choice->topology->unknown);
        if (choice->wish->bind != HAUL_BIND_AUTO)
            UNMET(choice, "HAUL_BIND: %s", choice->topology->unknown);
        return;
    }
    switch (choice->wish->bind) {
    case HAUL_BIND_NONE:
        WHY(choice, "HAUL_BIND=none");
        return;
    case HAUL_BIND_NUMA:
    case HAUL_BIND_CORES:
        place_on_numbers(choice);
        return;
    case HAUL_BIND_AUTO:
    case HAUL_BIND_PCI:
        place_by_rails(choice);
    }
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
                          const struct haul_nic *nics, size_t nic_count,
                          struct haul_locality *locality)
{
    struct choice choice = {.topology = topology, .wish = wish, .locality = locality};
    *locality = (struct haul_locality){.rail_count = 0};
    choice.options = calloc(HAUL_MAX(nic_count, (size_t)1), sizeof *choice.options);
    if (!choice.options) {
        UNMET(&choice, "no memory to choose with");
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
