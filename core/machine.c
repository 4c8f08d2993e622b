/* SPDX-License-Identifier: Apache-2.0
 * The machine and the place, for users: haul/machine.h out of the topology. */
#include "engine.h"
#include "nics.h"

#include <haul/machine.h>
#include <stdlib.h>

/* What a struct haul_machine points to. */
struct loaded {
    struct haul_machine machine;
    struct haul_machine_node *nodes;
    struct haul_machine_nic *nics;
    const char *rails[HAUL_RAILS_MAX];
    struct haul_topology *topology; /* has the devices' names */
    struct text {
        struct text *next;
        char bytes[];
    } * texts;
    bool failed; /* a text found no memory */
};

/* A copy that lives as long as the machine. */
static const char *keep(struct loaded *loaded, const char *bytes)
{
    size_t size = strlen(bytes) + 1;
    struct text *text = malloc(sizeof *text + size);
    if (!text) {
        loaded->failed = true;
        return "";
    }
    memcpy(text->bytes, bytes, size);
    text->next = loaded->texts;
    loaded->texts = text;
    return text->bytes;
}

static const char *keep_set(struct loaded *loaded, const struct haul_set *set)
{
    char text[4 * HAUL_SET_MAX]; /* every other number has at most as many digits, and a comma */
    return keep(loaded, haul_set_format(set, text, sizeof text));
}

static void describe_node(struct loaded *loaded, const struct haul_node *node)
{
    const struct haul_topology *topology = loaded->topology;
    const struct haul_set cpus = haul_set_both(&node->cpus, &topology->cpus);
    loaded->nodes[loaded->machine.node_count++] =
        (struct haul_machine_node){.number = node->number,
                                   .package = node->package,
                                   .bytes = node->bytes,
                                   .cpus = keep_set(loaded, &cpus),
                                   .memory_allowed = haul_set_has(&topology->mems, node->number),
                                   .special = node->special};
}

static void describe_nic(struct loaded *loaded, const struct haul_device *device)
{
    static const char *const kinds[] = {
        [HAUL_DEVICE_NETWORK] = "network", [HAUL_DEVICE_FABRIC] = "fabric"};
    static const char *const states[] = {
        [HAUL_DEVICE_UNKNOWN] = "unknown", [HAUL_DEVICE_UP] = "up", [HAUL_DEVICE_DOWN] = "down"};
    loaded->nics[loaded->machine.nic_count++] =
        (struct haul_machine_nic){.name = device->name,
                                  .kind = kinds[device->kind],
                                  .pci = device->pci,
                                  .carrier = device->carrier,
                                  .state = states[device->state],
                                  .mbits = device->mbits,
                                  .is_virtual = device->is_virtual,
                                  .nodes = keep_set(loaded, &device->nodes)};
}

static int describe(struct loaded *loaded)
{
    const struct haul_topology *topology = loaded->topology;
    struct haul_machine *machine = &loaded->machine;
    loaded->nodes = calloc(topology->node_count + 1, sizeof *loaded->nodes);
    loaded->nics = calloc(topology->device_count + 1, sizeof *loaded->nics);
    if (!loaded->nodes || !loaded->nics)
        return haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    machine->origin = topology->origin;
    machine->unknown = topology->unknown;
    machine->nodes = loaded->nodes;
    machine->nics = loaded->nics;
    machine->cpus = keep_set(loaded, &topology->cpus);
    machine->own_cpus = keep_set(loaded, &topology->own_cpus);
    for (size_t i = 0; i < topology->node_count; i++)
        describe_node(loaded, &topology->nodes[i]);
    for (size_t i = 0; i < topology->device_count; i++)
        describe_nic(loaded, &topology->devices[i]);
    return 0;
}

static void describe_place(struct loaded *loaded, const struct haul_locality *place)
{
    loaded->machine.place.nics = loaded->rails;
    loaded->machine.place.nodes = keep_set(loaded, &place->nodes);
    loaded->machine.place.cpus = keep_set(loaded, &place->cpus);
    loaded->machine.place.why = keep(loaded, place->why);
    loaded->machine.place.unmet = keep(loaded, place->unmet);
}

/* The place that the settings would choose. */
static int choose(struct loaded *loaded, const struct haul_wish *wish)
{
    const struct haul_topology *topology = loaded->topology;
    struct haul_locality place;
    size_t count = topology->device_count;
    struct haul_nic *nics = calloc(count + 1, sizeof *nics);
    if (!nics)
        return haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    count = haul_nics_list(topology, wish, nics, count);
    haul_locality_choose(topology, wish, nics, count, HAUL_RAILS_MAX, &place);
    for (size_t i = 0; i < place.rail_count; i++)
        loaded->rails[i] = keep(loaded, nics[place.rails[i].nic].name);
    loaded->machine.place.nic_count = place.rail_count;
    describe_place(loaded, &place);
    free(nics);
    return 0;
}

static int load(const char *file, const struct haul_options *options, struct loaded *loaded)
{
    struct haul_wish wish;
    enum haul_hugepages hugepages;
    int err = haul_hugepages_parse(haul_options_get(options, "hugepages"), &hugepages);
    if (!err)
        err = haul_wish_parse(haul_options_get(options, "bind"), haul_options_get(options, "nic"),
                              haul_options_get(options, "rails"), &wish);
    if (!err)
        err = haul_topology_load(file, &loaded->topology);
    if (!err)
        err = describe(loaded);
    if (!err)
        err = choose(loaded, &wish);
    if (!err && loaded->failed)
        err = haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    return err;
}

int haul_machine_load(const char *file, const struct haul_options *options,
                      struct haul_machine **machine)
{
    struct haul_options *own = NULL;
    int err = options ? 0 : haul_options_create(&own);
    if (err)
        return err;
    struct loaded *loaded = calloc(1, sizeof *loaded);
    err = loaded ? load(file, options ? options : own, loaded)
                 : haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    haul_options_destroy(own);
    if (err && loaded)
        haul_machine_free(&loaded->machine);
    if (!err)
        *machine = &loaded->machine;
    return err;
}

void haul_machine_free(struct haul_machine *machine)
{
    if (!machine)
        return;
    struct loaded *loaded = HAUL_CONTAINER_OF(machine, struct loaded, machine);
    while (loaded->texts) {
        struct text *text = loaded->texts;
        loaded->texts = text->next;
        free(text);
    }
    haul_topology_free(loaded->topology);
    free(loaded->nodes);
    free(loaded->nics);
    free(loaded);
}
