/* SPDX-License-Identifier: Apache-2.0
 * Network devices of machines that are folders: what /sys would hold there. */
#include "topology.h"
#include "tree.h"
#include "util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct machine {
    char root[TREE_ROOT_BYTES];
    struct haul_topology topology;
};

/* ---- The folder ------------------------------------------------------------------------------ */

/* root/sys/<file>, with a line. */
static void put(const struct machine *machine, const char *file, const char *line)
{
    char path[512];
    snprintf(path, sizeof path, "sys/%s", file);
    tree_put(machine->root, path, line);
}

/* root/sys/<from> leads to root/sys/<to>, which is made. */
static void lead(const struct machine *machine, const char *from, const char *to)
{
    char path[512], target[512];
    snprintf(path, sizeof path, "%s/sys/%s", machine->root, from);
    snprintf(target, sizeof target, "%s/sys/%s/", machine->root, to);
    tree_make_folders(path);
    tree_make_folders(target);
    assert_int_equal(symlink(target, path), 0);
}

static int set_up(void **state)
{
    struct machine *machine = calloc(1, sizeof *machine);
    *state = machine;
    return tree_make(machine->root);
}

static int tear_down(void **state)
{
    struct machine *machine = *state;
    int err = tree_remove(machine->root);
    free(machine->topology.devices);
    free(machine);
    return err;
}

/* ---- What is found --------------------------------------------------------------------------- */

static const struct haul_device *look_for(struct machine *machine, const char *name)
{
    if (machine->topology.device_count == 0)
        assert_int_equal(haul_devices_look(machine->root, &machine->topology), 0);
    const struct haul_device *device = haul_topology_device(&machine->topology, name);
    if (!device)
        fail_msg("%s is not found", name);
    return device;
}

static void assert_nodes(const struct haul_device *device, const char *nodes)
{
    char text[HAUL_SET_TEXT_MAX];
    assert_string_equal(haul_set_format(&device->nodes, text, sizeof text), nodes);
}

static void test_interfaces(void **state)
{
    struct machine *machine = *state;
    put(machine, "class/net/eth0/operstate", "up");
    put(machine, "class/net/eth0/speed", "25000");
    lead(machine, "class/net/eth0/device", "devices/pci0000:40/0000:40:01.0/0000:41:00.1");
    put(machine, "devices/pci0000:40/0000:40:01.0/0000:41:00.1/numa_node", "1");
    put(machine, "class/net/eth1/operstate", "down");
    put(machine, "class/net/eth1/speed", "-1");
    lead(machine, "class/net/eth1/device", "devices/pci0000:00/0000:00:03.0/virtio0");
    put(machine, "devices/pci0000:00/0000:00:03.0/virtio0/numa_node", "-1");
    put(machine, "class/net/lo/operstate", "unknown");
    put(machine, "class/net/bonding_masters", "a file beside them");

    const struct haul_device *device = look_for(machine, "eth0");
    assert_int_equal(device->kind, HAUL_DEVICE_NETWORK);
    assert_int_equal(device->state, HAUL_DEVICE_UP);
    assert_int_equal(device->mbits, 25000);
    assert_string_equal(device->pci, "0000:41:00.1");
    assert_false(device->is_virtual);
    assert_nodes(device, "1");
    device = look_for(machine, "eth1");
    assert_int_equal(device->state, HAUL_DEVICE_DOWN);
    assert_int_equal(device->mbits, 0);
    assert_string_equal(device->pci, "0000:00:03.0");
    assert_false(device->is_virtual);
    assert_nodes(device, "");
    device = look_for(machine, "lo");
    assert_int_equal(device->state, HAUL_DEVICE_UNKNOWN);
    assert_true(device->is_virtual);
    assert_null(haul_topology_device(&machine->topology, "bonding_masters"));
}

/* A VLAN on a bond of two NICs is where these are; a bridge without parts is nowhere. */
static void test_stacked_interfaces(void **state)
{
    struct machine *machine = *state;
    for (int i = 0; i < 2; i++) {
        char file[128], to[128];
        snprintf(file, sizeof file, "class/net/nic%d/operstate", i);
        put(machine, file, "up");
        snprintf(file, sizeof file, "class/net/nic%d/device", i);
        snprintf(to, sizeof to, "devices/pci0000:%d0/0000:%d1:00.0", i, i);
        lead(machine, file, to);
        snprintf(file, sizeof file, "devices/pci0000:%d0/0000:%d1:00.0/numa_node", i, i);
        put(machine, file, i ? "3" : "2");
        snprintf(file, sizeof file, "class/net/bond0/lower_nic%d", i);
        snprintf(to, sizeof to, "class/net/nic%d", i);
        lead(machine, file, to);
    }
    put(machine, "class/net/a-vlan/operstate", "up"); /* read before what is below it */
    lead(machine, "class/net/a-vlan/lower_bond0", "class/net/bond0");
    put(machine, "class/net/br0/operstate", "down");
    assert_nodes(look_for(machine, "bond0"), "2-3");
    assert_false(look_for(machine, "bond0")->is_virtual);
    assert_nodes(look_for(machine, "a-vlan"), "2-3");
    assert_false(look_for(machine, "a-vlan")->is_virtual);
    assert_true(look_for(machine, "br0")->is_virtual);
}

static void test_verbs(void **state)
{
    struct machine *machine = *state;
    put(machine, "class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE");
    put(machine, "class/infiniband/mlx5_0/ports/1/rate", "100 Gb/sec (4X EDR)");
    lead(machine, "class/infiniband/mlx5_0/device", "devices/pci0000:80/0000:81:00.0");
    put(machine, "devices/pci0000:80/0000:81:00.0/numa_node", "1");
    put(machine, "class/infiniband/mlx5_1/ports/1/state", "1: DOWN");
    lead(machine, "class/infiniband/mlx5_1/device", "devices/pci0000:80/0000:81:00.1");
    const struct haul_device *device = look_for(machine, "mlx5_0");
    assert_int_equal(device->kind, HAUL_DEVICE_FABRIC);
    assert_int_equal(device->state, HAUL_DEVICE_UP);
    assert_int_equal(device->mbits, 100000);
    assert_string_equal(device->pci, "0000:81:00.0");
    assert_string_equal(device->carrier, "");
    assert_nodes(device, "1");
    assert_int_equal(look_for(machine, "mlx5_1")->state, HAUL_DEVICE_DOWN);
}

/* A device is as good as its best port, whichever that is. */
static void test_second_port(void **state)
{
    struct machine *machine = *state;
    put(machine, "class/infiniband/mlx4_0/ports/1/state", "1: DOWN");
    put(machine, "class/infiniband/mlx4_0/ports/1/rate", "40 Gb/sec (4X QDR)");
    put(machine, "class/infiniband/mlx4_0/ports/2/state", "4: ACTIVE");
    put(machine, "class/infiniband/mlx4_0/ports/2/rate", "10 Gb/sec (4X)");
    put(machine, "class/infiniband/mlx4_1/ports/1/state", "4: ACTIVE");
    put(machine, "class/infiniband/mlx4_1/ports/1/rate", "40 Gb/sec (4X QDR)");
    put(machine, "class/infiniband/mlx4_1/ports/2/state", "1: DOWN");
    put(machine, "class/infiniband/mlx4_1/ports/2/rate", "100 Gb/sec (4X EDR)");
    assert_int_equal(look_for(machine, "mlx4_0")->state, HAUL_DEVICE_UP);
    assert_int_equal(look_for(machine, "mlx4_0")->mbits, 10000);
    assert_int_equal(look_for(machine, "mlx4_1")->state, HAUL_DEVICE_UP);
    assert_int_equal(look_for(machine, "mlx4_1")->mbits, 40000);
}

/* Behind Intel's VMD domains have more than 16 bits. */
static void test_large_domain(void **state)
{
    struct machine *machine = *state;
    put(machine, "class/net/eth0/operstate", "up");
    lead(machine, "class/net/eth0/device", "devices/pci10000:e0/10000:e0:03.0/10000:e1:00.0");
    assert_string_equal(look_for(machine, "eth0")->pci, "10000:e1:00.0");
}

/* In the order of their names, and not of the folder. */
static void test_order(void **state)
{
    static const char *const names[] = {"veth7", "eth1", "veth0", "br0"};
    static const char *const sorted[] = {"br0", "eth1", "veth0", "veth7"};
    struct machine *machine = *state;
    for (size_t i = 0; i < HAUL_COUNT_OF(names); i++) {
        char file[128];
        snprintf(file, sizeof file, "class/net/%s/operstate", names[i]);
        put(machine, file, "up");
    }
    assert_int_equal(haul_devices_look(machine->root, &machine->topology), 0);
    for (size_t i = 0; i < HAUL_COUNT_OF(sorted); i++)
        assert_string_equal(machine->topology.devices[i].name, sorted[i]);
}

/* Soft-RoCE has no hardware of its own: it is where its interface is. */
static void test_verbs_in_software(void **state)
{
    struct machine *machine = *state;
    put(machine, "class/net/eth0/operstate", "up");
    put(machine, "class/net/eth0/speed", "10000");
    lead(machine, "class/net/eth0/device", "devices/pci0000:00/0000:00:05.0");
    put(machine, "devices/pci0000:00/0000:00:05.0/numa_node", "0");
    put(machine, "class/infiniband/rxe0/ports/1/state", "4: ACTIVE");
    put(machine, "class/infiniband/rxe0/ports/1/gid_attrs/ndevs/0", "eth0");
    const struct haul_device *device = look_for(machine, "rxe0");
    assert_string_equal(device->carrier, "eth0");
    assert_int_equal(device->mbits, 10000);
    assert_false(device->is_virtual);
    assert_nodes(device, "0");
}

/* What hwloc has found is kept; what it does not say is added. */
static void test_devices_that_are_known(void **state)
{
    struct machine *machine = *state;
    struct haul_device *known = haul_topology_add_device(&machine->topology, "eth0");
    haul_set_add(&known->nodes, 5);
    put(machine, "class/net/eth0/operstate", "up");
    lead(machine, "class/net/eth0/device", "devices/pci0000:00/0000:00:05.0");
    put(machine, "devices/pci0000:00/0000:00:05.0/numa_node", "0");
    assert_int_equal(haul_devices_look(machine->root, &machine->topology), 0);
    assert_int_equal(machine->topology.device_count, 1);
    assert_nodes(&machine->topology.devices[0], "5");
    assert_int_equal(machine->topology.devices[0].state, HAUL_DEVICE_UP);
    assert_string_equal(machine->topology.devices[0].pci, "0000:00:05.0");
}

static void test_nothing_there(void **state)
{
    struct machine *machine = *state;
    assert_int_equal(haul_devices_look(machine->root, &machine->topology), 0);
    assert_int_equal(machine->topology.device_count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_second_port),       TEST(test_large_domain),           TEST(test_order),
        TEST(test_interfaces),        TEST(test_stacked_interfaces),     TEST(test_verbs),
        TEST(test_verbs_in_software), TEST(test_devices_that_are_known), TEST(test_nothing_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
