/* SPDX-License-Identifier: Apache-2.0
 * The machine, found with hwloc.
 *
 * hwloc's tree is read once into plain data, so that who decides (locality.c) needs neither hwloc
 * nor this machine. Its handle is kept, because it binds. The tree is loaded with its I/O objects
 * and without what haul does not ask for: caches, GPUs, the backend that moves the calling thread
 * from CPU to CPU to ask each of them, and that of libpciaccess, which leaks (what it would say of
 * NICs is in /sys too). */
#include "topology.h"

#include "error.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>

struct haul_device *haul_topology_device(const struct haul_topology *topology, const char *name)
{
    for (size_t i = 0; i < topology->device_count; i++)
        if (!strcmp(topology->devices[i].name, name))
            return &topology->devices[i];
    return NULL;
}

unsigned haul_topology_node_count(void)
{
    char line[HAUL_SET_TEXT_MAX];
    struct haul_set online;
    FILE *file = fopen("/sys/devices/system/node/online", "re");
    bool got = file && fgets(line, sizeof line, file);
    if (file)
        fclose(file);
    if (!got)
        return 1;
    line[strcspn(line, "\n")] = '\0';
    return haul_set_parse(line, &online) ? haul_set_count(&online) : 1;
}

static struct haul_topology *create(const char *origin)
{
    struct haul_topology *made = calloc(1, sizeof *made);
    if (made)
        haul_copy_text(made->origin, sizeof made->origin, origin);
    return made;
}

static int fail_memory(void)
{
    return haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
}

#ifdef HAUL_HWLOC
#include <errno.h>
#include <hwloc.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Sets ------------------------------------------------------------------------------------ */

static struct haul_set set_of(hwloc_const_bitmap_t bitmap)
{
    struct haul_set set = {{0}};
    if (!bitmap)
        return set;
    for (int number = hwloc_bitmap_first(bitmap); number >= 0 && number < HAUL_SET_MAX;
         number = hwloc_bitmap_next(bitmap, number))
        haul_set_add(&set, (unsigned)number);
    return set;
}

/* NULL: no memory. */
static hwloc_bitmap_t bitmap_of(const struct haul_set *set)
{
    hwloc_bitmap_t bitmap = hwloc_bitmap_alloc();
    for (unsigned number = haul_set_next(set, 0); bitmap && number < HAUL_SET_MAX;
         number = haul_set_next(set, number + 1))
        hwloc_bitmap_set(bitmap, number);
    return bitmap;
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

static bool is_plain_memory(hwloc_obj_t node)
{
    return !node->subtype || !strcmp(node->subtype, "DRAM");
}

/* Whether other ordinary memory is nearer to its CPUs, or as near and comes first. Of memory
 * without a CPU of its own (HBM, CXL) hwloc says to which CPUs it is nearest, which other memory is
 * nearer to. */
static bool is_second_choice(hwloc_topology_t tree, hwloc_obj_t node)
{
    hwloc_obj_t other = NULL;
    while ((other = hwloc_get_next_obj_by_type(tree, HWLOC_OBJ_NUMANODE, other))) {
        if (other == node || hwloc_bitmap_iszero(other->cpuset) ||
            !hwloc_bitmap_isincluded(other->cpuset, node->cpuset))
            continue;
        if (!hwloc_bitmap_isequal(other->cpuset, node->cpuset))
            return true;
        if (is_plain_memory(other) && (!is_plain_memory(node) || other->os_index < node->os_index))
            return true;
    }
    return false;
}

static unsigned package_of(hwloc_topology_t tree, hwloc_obj_t node)
{
    hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(tree, HWLOC_OBJ_PACKAGE, node);
    return package ? package->logical_index : 0;
}

static int read_nodes(hwloc_topology_t tree, struct haul_topology *topology)
{
    int count = hwloc_get_nbobjs_by_type(tree, HWLOC_OBJ_NUMANODE);
    if (count <= 0)
        return 0;
    topology->nodes = calloc((size_t)count, sizeof *topology->nodes);
    if (!topology->nodes)
        return fail_memory();
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(tree, HWLOC_OBJ_NUMANODE, node))) {
        if (node->os_index >= HAUL_SET_MAX)
            return haul_fail(HAUL_INVALID,
                             "%s has a NUMA node of number %u, and haul takes up to %d",
                             topology->origin, node->os_index, HAUL_SET_MAX - 1);
        bool special = hwloc_bitmap_iszero(node->cpuset) || is_second_choice(tree, node);
        topology->nodes[topology->node_count++] =
            (struct haul_node){.number = node->os_index,
                               .package = package_of(tree, node),
                               .bytes = node->attr->numanode.local_memory,
                               .cpus = set_of(node->cpuset),
                               .special = special};
    }
    return 0;
}

/* ---- Devices --------------------------------------------------------------------------------- */

static const char *info(hwloc_obj_t object, const char *name)
{
    const char *text = hwloc_obj_get_info_by_name(object, name);
    return text ? text : "";
}

/* Recorded machines may carry what is in /sys on a living one. */
static void read_link_state(hwloc_obj_t object, struct haul_device *device)
{
    const char *port = info(object, "Port1State"), *state = info(object, "HaulState");
    if (!strcmp(state, "up") || !strcmp(port, "4")) /* 4: active, see IB_PORT_ACTIVE */
        device->state = HAUL_DEVICE_UP;
    else if (*state || *port)
        device->state = HAUL_DEVICE_DOWN;
    uint64_t mbits = strtoull(info(object, "HaulMbits"), NULL, 10);
    device->mbits = mbits <= HAUL_MBITS_MAX ? mbits : 0;
}

static void read_pci(hwloc_obj_t object, struct haul_device *device)
{
    while (object && object->type != HWLOC_OBJ_PCI_DEVICE)
        object = object->parent;
    if (!object)
        return;
    const struct hwloc_pcidev_attr_s *pci = &object->attr->pcidev;
    snprintf(device->pci, sizeof device->pci, "%04x:%02x:%02x.%01x", (unsigned)pci->domain,
             pci->bus, pci->dev, pci->func & 0xfu);
}

/* A device whose place nobody knows hangs at the top, from where all nodes are equally near. */
static void read_device_nodes(hwloc_topology_t tree, hwloc_obj_t object, struct haul_device *device)
{
    hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(tree, object);
    if (place && (place->parent || hwloc_get_nbobjs_by_type(tree, HWLOC_OBJ_NUMANODE) == 1))
        device->nodes = set_of(place->nodeset);
}

static bool is_nic(hwloc_obj_t object)
{
    return object->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK ||
           object->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
}

static int read_devices(hwloc_topology_t tree, struct haul_topology *topology)
{
    hwloc_obj_t object = NULL;
    while ((object = hwloc_get_next_osdev(tree, object))) {
        if (!is_nic(object) || !object->name)
            continue;
        struct haul_device *device = haul_topology_add_device(topology, object->name);
        if (!device)
            return fail_memory();
        if (object->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS)
            device->kind = HAUL_DEVICE_FABRIC;
        read_link_state(object, device);
        read_pci(object, device);
        read_device_nodes(tree, object, device);
    }
    return 0;
}

/* ---- CPUs ------------------------------------------------------------------------------------ */

struct cpu_kind {
    bool efficient;
    unsigned long capacity; /* as Linux rates it; 0: not rated */
    hwloc_bitmap_t cpus;
};

static void read_cpu_kind(hwloc_topology_t tree, unsigned index, struct cpu_kind *kind)
{
    struct hwloc_info_s *infos;
    unsigned count;
    int efficiency;
    if (hwloc_cpukinds_get_info(tree, index, kind->cpus, &efficiency, &count, &infos, 0))
        return;
    for (unsigned i = 0; i < count; i++) {
        if (!strcmp(infos[i].name, "CoreType"))
            kind->efficient = !strcmp(infos[i].value, "IntelAtom");
        else if (!strcmp(infos[i].name, "LinuxCapacity"))
            kind->capacity = strtoul(infos[i].value, NULL, 10);
    }
}

/* Kinds that differ in their highest frequency only are all fast: on many servers a few cores turn
 * a little quicker than the rest. */
static void read_fast_cpus(hwloc_topology_t tree, struct haul_topology *topology)
{
    unsigned long most = 0;
    int count = hwloc_cpukinds_get_nr(tree, 0);
    topology->fast_cpus = topology->cpus;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < count; i++) {
            struct cpu_kind kind = {.cpus = hwloc_bitmap_alloc()};
            if (!kind.cpus)
                return;
            read_cpu_kind(tree, (unsigned)i, &kind);
            const struct haul_set cpus = set_of(kind.cpus);
            hwloc_bitmap_free(kind.cpus);
            if (pass == 0)
                most = HAUL_MAX(most, kind.capacity);
            else if (kind.efficient || kind.capacity < most)
                topology->fast_cpus = haul_set_without(&topology->fast_cpus, &cpus);
        }
    }
}

static void read_own_cpus(hwloc_topology_t tree, struct haul_topology *topology)
{
    topology->own_cpus = topology->cpus;
    hwloc_bitmap_t bound = topology->is_this_machine ? hwloc_bitmap_alloc() : NULL;
    if (bound && hwloc_get_cpubind(tree, bound, HWLOC_CPUBIND_THREAD) == 0) {
        const struct haul_set own = set_of(bound);
        topology->own_cpus = haul_set_both(&own, &topology->cpus);
    }
    hwloc_bitmap_free(bound);
}

/* ---- Loading --------------------------------------------------------------------------------- */

static void leave_out(hwloc_topology_t tree)
{
    static const char *const components[] = {"x86",    "pci", "cuda", "nvml",
                                             "opencl", "gl",  "rsmi", "levelzero"};
    for (size_t i = 0; i < HAUL_COUNT_OF(components); i++)
        (void)hwloc_topology_set_components(tree, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                            components[i]);
    hwloc_topology_set_cache_types_filter(tree, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_io_types_filter(tree, HWLOC_TYPE_FILTER_KEEP_ALL);
}

/* A file that is none would be waited for (a FIFO), or is explained badly. */
static int check_file(const char *file)
{
    struct stat found;
    if (stat(file, &found))
        return haul_fail(HAUL_INVALID, "%s cannot be read: %s", file, strerror(errno));
    return S_ISREG(found.st_mode) ? 0 : haul_fail(HAUL_INVALID, "%s is no regular file", file);
}

/* hwloc writes to standard error where it finds nothing of this. */
static int check_machine(void)
{
    if (!access("/sys/devices/system/cpu/cpu0/topology", F_OK) ||
        !access("/sys/bus/cpu/devices/cpu0/topology", F_OK))
        return 0;
    return haul_fail(HAUL_SYSTEM, "/sys, which tells of CPUs and memory, is hidden");
}

static int load_tree(const char *file, hwloc_topology_t *tree)
{
    int err = file ? check_file(file) : check_machine();
    if (err)
        return err;
    if (hwloc_topology_init(tree))
        return fail_memory();
    leave_out(*tree);
    (void)hwloc_topology_set_flags(*tree, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if ((!file || hwloc_topology_set_xml(*tree, file) == 0) && hwloc_topology_load(*tree) == 0)
        return 0;
    int error = errno;
    hwloc_topology_destroy(*tree);
    *tree = NULL;
    if (file)
        return haul_fail(HAUL_INVALID,
                         "%s: hwloc cannot load it (%s): is it an XML file of lstopo?", file,
                         strerror(error));
    return haul_fail(HAUL_SYSTEM, "hwloc cannot look at this machine: %s", strerror(error));
}

static int read_tree(hwloc_topology_t tree, struct haul_topology *topology)
{
    topology->handle = tree;
    topology->is_this_machine = hwloc_topology_is_thissystem(tree);
    topology->cpus = set_of(hwloc_topology_get_allowed_cpuset(tree));
    topology->mems = set_of(hwloc_topology_get_allowed_nodeset(tree));
    read_fast_cpus(tree, topology);
    read_own_cpus(tree, topology);
    int err = read_nodes(tree, topology);
    return err ? err : read_devices(tree, topology);
}

static int look(const char *file, struct haul_topology *topology)
{
    hwloc_topology_t tree;
    int err = load_tree(file, &tree);
    if (!err)
        err = read_tree(tree, topology);
    if (err == HAUL_SYSTEM || (err == HAUL_INVALID && !file)) {
        haul_copy_text(topology->unknown, sizeof topology->unknown, haul_error_detail());
        return 0;
    }
    if (!err && !file && !topology->is_this_machine)
        haul_copy_text(topology->unknown, sizeof topology->unknown,
                       "hwloc was told of another machine (HWLOC_XMLFILE, HWLOC_SYNTHETIC)");
    return err;
}

/* ---- Binding --------------------------------------------------------------------------------- */

int haul_topology_bind_thread(const struct haul_topology *topology, pthread_t thread,
                              const struct haul_set *cpus)
{
    char text[HAUL_SET_TEXT_MAX];
    hwloc_bitmap_t bitmap = bitmap_of(cpus);
    int refused = !bitmap || !topology->is_this_machine ||
                  hwloc_set_thread_cpubind(topology->handle, thread, bitmap, 0);
    int error = errno;
    hwloc_bitmap_free(bitmap);
    if (!refused)
        return 0;
    return haul_fail(HAUL_SYSTEM, "threads cannot be bound to CPUs %s: %s",
                     haul_set_format(cpus, text, sizeof text), strerror(error));
}

int haul_topology_bind_memory(const struct haul_topology *topology, void *base, size_t bytes,
                              const struct haul_set *nodes)
{
    char text[HAUL_SET_TEXT_MAX];
    hwloc_bitmap_t bitmap = bitmap_of(nodes);
    int refused = !bitmap || !topology->is_this_machine ||
                  hwloc_set_area_membind(topology->handle, base, bytes, bitmap, HWLOC_MEMBIND_BIND,
                                         HWLOC_MEMBIND_BYNODESET);
    int error = errno;
    hwloc_bitmap_free(bitmap);
    if (!refused)
        return 0;
    return haul_fail(HAUL_SYSTEM, "memory cannot be bound to NUMA nodes %s: %s",
                     haul_set_format(nodes, text, sizeof text), strerror(error));
}

static void destroy_handle(void *handle)
{
    if (handle)
        hwloc_topology_destroy(handle);
}

#else

static const char without_hwloc[] = "haul was built without hwloc";

static int look(const char *file, struct haul_topology *topology)
{
    if (file)
        return haul_fail(HAUL_UNSUPPORTED, "%s, which reads recorded machines", without_hwloc);
    haul_copy_text(topology->unknown, sizeof topology->unknown, without_hwloc);
    return 0;
}

int haul_topology_bind_thread(const struct haul_topology *topology, pthread_t thread,
                              const struct haul_set *cpus)
{
    (void)topology;
    (void)thread;
    (void)cpus;
    return haul_fail(HAUL_SYSTEM, "threads cannot be bound: %s", without_hwloc);
}

int haul_topology_bind_memory(const struct haul_topology *topology, void *base, size_t bytes,
                              const struct haul_set *nodes)
{
    (void)topology;
    (void)base;
    (void)bytes;
    (void)nodes;
    return haul_fail(HAUL_SYSTEM, "memory cannot be bound: %s", without_hwloc);
}

static void destroy_handle(void *handle)
{
    (void)handle;
}

#endif

/* ---- Life ------------------------------------------------------------------------------------ */

struct haul_device *haul_topology_add_device(struct haul_topology *topology, const char *name)
{
    size_t bytes = (topology->device_count + 1) * sizeof *topology->devices;
    struct haul_device *devices = realloc(topology->devices, bytes);
    if (!devices)
        return NULL;
    topology->devices = devices;
    struct haul_device *added = &devices[topology->device_count++];
    *added = (struct haul_device){.kind = HAUL_DEVICE_NETWORK};
    haul_copy_text(added->name, sizeof added->name, name);
    return added;
}

int haul_topology_load(const char *file, struct haul_topology **topology)
{
    struct haul_topology *made = create(file ? file : "this machine");
    if (!made)
        return fail_memory();
    int err = look(file, made);
    if (!err && !file)
        err = haul_devices_look("", made);
    if (err) {
        haul_topology_free(made);
        return err;
    }
    if (!*made->unknown && made->node_count == 0)
        haul_copy_text(made->unknown, sizeof made->unknown,
                       "the system does not say where its memory is");
    *topology = made;
    return 0;
}

int haul_topology_load_devices(struct haul_topology **topology)
{
    struct haul_topology *made = create("this machine");
    if (!made)
        return fail_memory();
    haul_copy_text(made->unknown, sizeof made->unknown, "there is nothing to choose");
    int err = haul_devices_look("", made);
    if (err)
        haul_topology_free(made);
    else
        *topology = made;
    return err;
}

void haul_topology_free(struct haul_topology *topology)
{
    if (!topology)
        return;
    destroy_handle(topology->handle);
    free(topology->nodes);
    free(topology->devices);
    free(topology);
}
