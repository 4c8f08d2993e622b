/* SPDX-License-Identifier: Apache-2.0
 * Network devices as /sys shows them: whether their link is up, how fast it is, which are virtual,
 * and where those are that hwloc does not know. Files that are not there, as in many containers,
 * leave their answer open. */
#include "topology.h"

#include "error.h"
#include "util.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A stacked device (a bond of VLANs) takes its place from those below it, level by level. */
enum { LEVELS_MAX = 4 };

struct look {
    const char *root;
    struct haul_topology *topology;
};

/* ---- Files ----------------------------------------------------------------------------------- */

/* The first line of root/sys/class/<class>/<name>/<file>; "" if there is none. */
static char *read_text(const struct look *look, const char *class, const char *name,
                       const char *file, char text[static HAUL_DEVICE_NAME_MAX])
{
    char path[PATH_MAX];
    text[0] = '\0';
    snprintf(path, sizeof path, "%s/sys/class/%s/%s/%s", look->root, class, name, file);
    FILE *opened = fopen(path, "re");
    if (!opened)
        return text;
    if (!fgets(text, HAUL_DEVICE_NAME_MAX, opened))
        text[0] = '\0';
    fclose(opened);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static bool is_pci_address(const char *text, size_t length)
{
    unsigned domain, bus, device, function;
    int used = 0;
    return length > 0 && length < HAUL_PCI_MAX &&
           sscanf(text, "%x:%x:%x.%x%n", &domain, &bus, &device, &function, &used) == 4 &&
           (size_t)used == length;
}

/* The link "device" leads to the hardware: the last PCI address on its way is that of the device
 * (behind it may be what the driver made of it: "virtio0"). Returns whether there is hardware. */
static bool read_hardware(const struct look *look, const char *class, const char *name,
                          char pci[static HAUL_PCI_MAX])
{
    char path[PATH_MAX], real[PATH_MAX];
    snprintf(path, sizeof path, "%s/sys/class/%s/%s/device", look->root, class, name);
    if (!realpath(path, real))
        return false;
    for (const char *part = real; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t length = strcspn(part, "/");
        if (is_pci_address(part, length))
            snprintf(pci, HAUL_PCI_MAX, "%.*s", (int)length, part);
    }
    return true;
}

static int is_name(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && strlen(entry->d_name) < HAUL_DEVICE_NAME_MAX;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool is_folder(const char *in, const char *name)
{
    char path[PATH_MAX];
    struct stat info; /* of what a link leads to */
    return snprintf(path, sizeof path, "%s/%s", in, name) < (int)sizeof path &&
           stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Calls visit for each folder in root/sys/class/<class>[/<name>], in the order of their names.
 * Errors: those of visit. */
static int each_entry(const struct look *look, const char *class, const char *name,
                      int (*visit)(const struct look *look, const char *entry, void *arg),
                      void *arg)
{
    char path[PATH_MAX];
    struct dirent **entries;
    snprintf(path, sizeof path, "%s/sys/class/%s/%s", look->root, class, name);
    int err = 0, count = scandir(path, &entries, is_name, by_name);
    for (int i = 0; i < count; i++) {
        if (!err && is_folder(path, entries[i]->d_name))
            err = visit(look, entries[i]->d_name, arg);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return err;
}

/* ---- All devices ----------------------------------------------------------------------------- */

static void read_node(const struct look *look, const char *class, struct haul_device *device)
{
    char text[HAUL_DEVICE_NAME_MAX];
    read_text(look, class, device->name, "device/numa_node", text);
    if (haul_set_is_empty(&device->nodes) && isdigit((unsigned char)text[0])) /* -1: not known */
        haul_set_add(&device->nodes, (unsigned)strtoul(text, NULL, 10));
}

/* The entry of a class, with its hardware; hwloc may know it already. */
static struct haul_device *take(const struct look *look, const char *class, const char *name)
{
    char pci[HAUL_PCI_MAX] = "";
    struct haul_device *device = haul_topology_device(look->topology, name);
    if (!device)
        device = haul_topology_add_device(look->topology, name);
    if (!device)
        return NULL;
    device->is_virtual = !read_hardware(look, class, name, pci);
    if (!*device->pci)
        haul_copy_text(device->pci, sizeof device->pci, pci);
    read_node(look, class, device);
    return device;
}

/* ---- Interfaces ------------------------------------------------------------------------------ */

static int take_interface(const struct look *look, const char *name, void *arg)
{
    char text[HAUL_DEVICE_NAME_MAX];
    (void)arg;
    struct haul_device *device = take(look, "net", name);
    if (!device)
        return haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    read_text(look, "net", name, "operstate", text);
    if (!strcmp(text, "up"))
        device->state = HAUL_DEVICE_UP;
    else if (!strcmp(text, "down") || !strcmp(text, "lowerlayerdown"))
        device->state = HAUL_DEVICE_DOWN;
    read_text(look, "net", name, "speed", text);
    if (isdigit((unsigned char)text[0])) /* -1, or an error: not known */
        device->mbits = strtoull(text, NULL, 10);
    return 0;
}

/* An entry "lower_eth0" of a stacked interface (VLAN, bond, bridge): it is where its parts are. */
static int take_lower(const struct look *look, const char *entry, void *arg)
{
    static const char prefix[] = "lower_";
    struct haul_device *upper = arg;
    if (strncmp(entry, prefix, sizeof prefix - 1) != 0)
        return 0;
    const struct haul_device *lower =
        haul_topology_device(look->topology, entry + sizeof prefix - 1);
    if (!lower)
        return 0;
    upper->nodes = haul_set_either(&upper->nodes, &lower->nodes);
    upper->is_virtual &= lower->is_virtual;
    return 0;
}

static void take_lowers(const struct look *look)
{
    for (size_t i = 0; i < look->topology->device_count; i++) {
        struct haul_device *device = &look->topology->devices[i];
        if (device->is_virtual && device->kind == HAUL_DEVICE_NETWORK)
            (void)each_entry(look, "net", device->name, take_lower, device);
    }
}

/* ---- Devices of fabrics ---------------------------------------------------------------------- */

/* RDMA in software (rxe, siw) goes over an interface, and is where that is. */
static void read_carrier(const struct look *look, struct haul_device *device)
{
    read_text(look, "infiniband", device->name, "ports/1/gid_attrs/ndevs/0", device->carrier);
    const struct haul_device *carrier = haul_topology_device(look->topology, device->carrier);
    if (!carrier)
        return;
    device->nodes = carrier->nodes;
    device->is_virtual = carrier->is_virtual;
    device->mbits = carrier->mbits;
}

/* A device is as good as its best port: up if one is, and as fast as the fastest of those. */
static int take_port(const struct look *look, const char *port, void *arg)
{
    char file[HAUL_DEVICE_NAME_MAX + 16], state[HAUL_DEVICE_NAME_MAX], rate[HAUL_DEVICE_NAME_MAX];
    struct haul_device *device = arg;
    snprintf(file, sizeof file, "ports/%s/state", port);
    read_text(look, "infiniband", device->name, file, state); /* "4: ACTIVE" */
    snprintf(file, sizeof file, "ports/%s/rate", port);
    read_text(look, "infiniband", device->name, file, rate); /* "100 Gb/sec (4X EDR)" */
    uint64_t mbits = (uint64_t)(strtod(rate, NULL) * 1000);
    bool is_up = state[0] == '4';
    if (is_up && device->state != HAUL_DEVICE_UP)
        device->mbits = 0; /* of ports that are down */
    if (is_up || device->state != HAUL_DEVICE_UP)
        device->mbits = HAUL_MAX(device->mbits, mbits);
    if (is_up)
        device->state = HAUL_DEVICE_UP;
    else if (isdigit((unsigned char)state[0]) && device->state != HAUL_DEVICE_UP)
        device->state = HAUL_DEVICE_DOWN;
    return 0;
}

static int take_verbs(const struct look *look, const char *name, void *arg)
{
    char ports[HAUL_DEVICE_NAME_MAX + 16];
    (void)arg;
    struct haul_device *device = take(look, "infiniband", name);
    if (!device)
        return haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    device->kind = HAUL_DEVICE_FABRIC;
    device->state = HAUL_DEVICE_UNKNOWN; /* hwloc may have told of the first port */
    device->mbits = 0;
    snprintf(ports, sizeof ports, "%s/ports", name);
    (void)each_entry(look, "infiniband", ports, take_port, device);
    if (device->is_virtual)
        read_carrier(look, device);
    return 0;
}

static int take_cxi(const struct look *look, const char *name, void *arg)
{
    (void)arg;
    struct haul_device *device = take(look, "cxi", name);
    if (!device)
        return haul_fail(HAUL_NO_MEMORY, "no memory to describe the machine");
    device->kind = HAUL_DEVICE_FABRIC;
    return 0;
}

int haul_devices_look(const char *root, struct haul_topology *topology)
{
    const struct look look = {root, topology};
    int err = each_entry(&look, "net", "", take_interface, NULL);
    for (int level = 0; level < LEVELS_MAX; level++)
        take_lowers(&look);
    if (!err)
        err = each_entry(&look, "infiniband", "", take_verbs, NULL);
    return err ? err : each_entry(&look, "cxi", "", take_cxi, NULL);
}
