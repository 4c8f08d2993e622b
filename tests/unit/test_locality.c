/* SPDX-License-Identifier: Apache-2.0
 * Where haul would work on machines that we do not have (tests/topology/models.py writes them), the
 * wishes that users give, and the sets that both are told in. */
#include "locality.h"

#include "error.h"
#include "nics.h"
#include "util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TEXT_MAX = 512, NICS_MAX = 64 };

/* ---- Machines -------------------------------------------------------------------------------- */

struct row {
    const char *model;
    const char *own;                /* CPUs that the process is bound to; NULL: it is not */
    const char *nics;               /* candidates; NULL: those of haul_nics_list() */
    const char *without;            /* names of devices that have no hardware; new ones are added */
    bool repeats;                   /* each of them can be several rails */
    size_t most;                    /* NICs that the provider can use; 0: HAUL_RAILS_MAX */
    const char *bind, *nic, *rails; /* the wish; NULL: nothing is wished */
    const char *used, *nodes, *cpus; /* what is chosen; NULL: nothing */
    const char *rail_cpus;           /* of each rail's own thread, "0-3;4-7"; NULL: not looked at */
    const char *why;                 /* words in it; NULL: any */
    const char *unmet;               /* words in it; NULL: all is met */
};

static const struct row rows[] = {
    /* One node: there is nothing to bind to, unless a user wants it. The cable of the laptop is
     * out, and Docker's bridge has no hardware. */
    {.model = "laptop", .without = "docker0", .used = "wlp0s20f3", .why = "one NUMA node"},
    {.model = "laptop", .bind = "none", .used = "wlp0s20f3"},
    /* Efficient cores (12-19) are for others, and so are those that the process is bound to... */
    {.model = "laptop", .bind = "numa:0", .used = "wlp0s20f3", .nodes = "0", .cpus = "0-11"},
    {.model = "laptop",
     .own = "0-3",
     .bind = "numa:0",
     .used = "wlp0s20f3",
     .nodes = "0",
     .cpus = "4-11"},
    /* ...as long as others remain, of the fast ones. */
    {.model = "laptop",
     .own = "0-11",
     .bind = "numa:0",
     .used = "wlp0s20f3",
     .nodes = "0",
     .cpus = "0-11"},
    {.model = "laptop", .bind = "cores:12-15", .used = "wlp0s20f3", .nodes = "0", .cpus = "12-15"},
    {.model = "laptop", .bind = "pci:00:14.3", .used = "wlp0s20f3", .nodes = "0", .cpus = "0-11"},
    /* Both are down: then it matters which has hardware. */
    {.model = "laptop",
     .nics = "docker0,enp0s31f6",
     .without = "docker0",
     .used = "enp0s31f6",
     .why = "one NUMA node"},
    {.model = "laptop", .nics = "docker0", .without = "docker0", .used = "docker0"},
    {.model = "laptop", .without = "docker0", .nic = "docker0", .used = "docker0"},
    {.model = "arm_board", .bind = "numa:0", .used = "enP4p65s0", .nodes = "0", .cpus = "4-7"},
    {.model = "arm_board",
     .bind = "pci:4:41:0.0",
     .used = "enP4p65s0",
     .nodes = "0",
     .cpus = "4-7"},
    {.model = "cloud_vm", .used = "eth0", .why = "one NUMA node"},
    {.model = "cloud_vm", .own = "0-3", .used = "eth0", .why = "one NUMA node"},
    {.model = "cloud_vm", .without = "lo,veth0", .used = "eth0", .why = "one NUMA node"},
    {.model = "cloud_vm", .bind = "numa:0", .used = "eth0", .nodes = "0", .cpus = "0-7"},
    {.model = "cloud_vm",
     .own = "0-3",
     .bind = "numa:0",
     .used = "eth0",
     .nodes = "0",
     .cpus = "4-7"},
    {.model = "cloud_vm", .bind = "numa:1", .used = "eth0", .unmet = "1"},

    /* Nothing tells where the NIC is: nothing is bound, unless a user says where. */
    {.model = "vm_two_nodes", .used = "eth0", .why = "nothing tells where"},
    {.model = "vm_two_nodes", .own = "0-3", .used = "eth0", .why = "nothing tells where"},
    {.model = "vm_two_nodes", .bind = "numa:1", .used = "eth0", .nodes = "1", .cpus = "8-15"},
    {.model = "vm_two_nodes", .bind = "cores:6-9", .used = "eth0", .nodes = "0-1", .cpus = "6-9"},
    {.model = "no_io"},
    {.model = "no_io", .nics = "eth0", .used = "eth0", .why = "nothing tells where"},
    {.model = "no_io", .nics = "b,a", .rails = "2", .used = "b,a", .why = "nothing tells where"},
    /* More rails than NICs: over sockets they are connections. */
    {.model = "no_io", .nics = "b,a", .rails = "3", .used = "b,a", .unmet = "3 rails are wished"},
    {.model = "no_io", .nics = "b,a", .repeats = true, .rails = "3", .used = "b,a"},
    {.model = "no_io",
     .nics = "eth0",
     .bind = "cores:0-3",
     .used = "eth0",
     .nodes = "0",
     .cpus = "0-3"},
    {.model = "no_io", .nics = "eth0", .bind = "pci:41:00.0", .used = "eth0", .unmet = "41:00"},

    /* Not all is allowed: CPUs 2-5 of node 0, 18 and 19 of node 1, where the NIC is. */
    {.model = "container", .used = "mlx5_0", .nodes = "1", .cpus = "18-19"},
    {.model = "container", .own = "2-5,18-19", .used = "mlx5_0", .nodes = "1", .cpus = "18-19"},
    {.model = "container", .own = "18", .used = "mlx5_0", .nodes = "1", .cpus = "19"},
    {.model = "container", .own = "18-19", .used = "mlx5_0", .nodes = "1", .cpus = "18-19"},
    {.model = "container", .bind = "numa:0", .used = "mlx5_0", .nodes = "0", .cpus = "2-5"},
    {.model = "container",
     .bind = "cores:0-3",
     .used = "mlx5_0",
     .nodes = "0",
     .cpus = "2-3",
     .unmet = "0-1"},
    {.model = "container", .bind = "cores:8-11", .used = "mlx5_0", .unmet = "8-11"},
    {.model = "container_one_node", .used = "mlx5_0", .why = "one NUMA node"},
    {.model = "container_one_node", .bind = "numa:1", .used = "mlx5_0", .unmet = "1"},
    {.model = "container_one_node",
     .bind = "numa:0-1",
     .used = "mlx5_0",
     .nodes = "0",
     .cpus = "0-7",
     .unmet = "1"},

    /* All allowed CPUs (24-31) are in node 1, and the memory of both nodes is allowed. */
    {.model = "pod", .used = "mlx5_1", .nodes = "1", .cpus = "24-31"},
    {.model = "pod", .nics = "mlx5_0", .used = "mlx5_0", .nodes = "0", .why = "CPUs"},
    {.model = "pod", .bind = "numa:1", .used = "mlx5_1", .nodes = "1", .cpus = "24-31"},
    {.model = "pod", .bind = "cores:24-25", .used = "mlx5_1", .nodes = "1", .cpus = "24-25"},
    {.model = "pod", .bind = "pci:b1:00.0", .used = "mlx5_1", .nodes = "1", .cpus = "24-31"},

    /* One HCA, on node 1 (CPUs 16-31), and a slow interface on node 0. */
    {.model = "hca_on_node_1", .used = "mlx5_0", .nodes = "1", .cpus = "16-31"},
    {.model = "hca_on_node_1", .own = "0-3", .used = "mlx5_0", .nodes = "1", .cpus = "16-31"},
    {.model = "hca_on_node_1", .own = "16-19", .used = "mlx5_0", .nodes = "1", .cpus = "20-31"},
    {.model = "hca_on_node_1", .own = "16-31", .used = "mlx5_0", .nodes = "1", .cpus = "16-31"},
    {.model = "hca_on_node_1",
     .nics = "eno1,mlx5_0",
     .own = "0-3",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "hca_on_node_1", .nics = "eno1", .used = "eno1", .nodes = "0", .cpus = "0-15"},
    {.model = "hca_on_node_1", .nic = "eno1", .used = "eno1", .nodes = "0", .cpus = "0-15"},
    {.model = "hca_on_node_1", .nic = "ib0", .used = "ib0", .nodes = "1", .cpus = "16-31"},
    {.model = "hca_on_node_1",
     .nic = "mlx5_0,eno1",
     .used = "mlx5_0,eno1",
     .nodes = "0-1",
     .cpus = "0-31"},
    {.model = "hca_on_node_1",
     .nic = "mlx5_7,mlx5_0",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31",
     .unmet = "mlx5_7"},
    {.model = "hca_on_node_1", .nic = "mlx5_7", .unmet = "mlx5_7"},
    /* The provider has settled on one of those that are named (HAUL_ADVERTISE): what is said is
     * that, unless one is all that is wished, and not that the others could not be used. */
    {.model = "hca_on_node_1",
     .nics = "mlx5_0",
     .most = 1,
     .nic = "eno1,mlx5_0",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31",
     .unmet = "2 NICs are named, and with these settings 1 can be used at once"},
    {.model = "hca_on_node_1",
     .nics = "mlx5_0",
     .most = 1,
     .nic = "eno1,mlx5_0",
     .rails = "1",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "hca_on_node_1",
     .nics = "mlx5_0",
     .most = 1,
     .nic = "mlx5_0",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "hca_on_node_1",
     .nics = "mlx5_0",
     .nic = "mlx5_7,mlx5_0",
     .rails = "1",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31",
     .unmet = "mlx5_7"},
    {.model = "hca_on_node_1",
     .bind = "pci:b1:00.0",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "hca_on_node_1",
     .nics = "eno1,mlx5_0",
     .bind = "pci:0000:04:00",
     .used = "eno1",
     .nodes = "0",
     .cpus = "0-15"},
    /* Two wishes that contradict each other: the NIC is taken, and nothing is bound. */
    {.model = "hca_on_node_1",
     .nic = "mlx5_0",
     .bind = "pci:04:00.0",
     .used = "mlx5_0",
     .why = "cannot be",
     .unmet = "mlx5_0 is not at PCI address 0000:04:00.0"},
    /* An interface, though there is a fabric: the user says so. */
    {.model = "hca_on_node_1", .bind = "pci:04:00.0", .used = "eno1", .nodes = "0", .cpus = "0-15"},
    {.model = "hca_on_node_1",
     .nics = "mlx5_0",
     .bind = "pci:04:00.0",
     .used = "mlx5_0",
     .unmet = "04:00.0"},
    {.model = "hca_on_node_1", .bind = "none", .used = "mlx5_0"},
    {.model = "hca_on_node_1", .bind = "numa:0", .used = "mlx5_0", .nodes = "0", .cpus = "0-15"},
    {.model = "hca_on_node_1",
     .own = "0-3",
     .bind = "numa:0",
     .used = "mlx5_0",
     .nodes = "0",
     .cpus = "4-15"},
    {.model = "hca_on_node_1",
     .bind = "numa:0-1",
     .used = "mlx5_0",
     .nodes = "0-1",
     .cpus = "0-31"},
    {.model = "hca_on_node_1",
     .bind = "numa:1,7",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31",
     .unmet = "7"},
    {.model = "hca_on_node_1", .bind = "numa:2", .used = "mlx5_0", .unmet = "2"},
    {.model = "hca_on_node_1", .bind = "cores:0-3", .used = "mlx5_0", .nodes = "0", .cpus = "0-3"},
    {.model = "hca_on_node_1",
     .own = "0-3",
     .bind = "cores:14-17",
     .used = "mlx5_0",
     .nodes = "0-1",
     .cpus = "14-17"},
    {.model = "hca_on_node_1",
     .bind = "cores:30-40",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "30-31",
     .unmet = "32-40"},
    {.model = "hca_on_node_1", .bind = "cores:64", .used = "mlx5_0", .unmet = "64"},
    {.model = "hca_on_node_1",
     .rails = "2",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31",
     .unmet = "2"},
    /* Candidates that the machine does not know come last. */
    {.model = "hca_on_node_1",
     .nics = "foo,mlx5_0",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "hca_on_node_1",
     .nics = "foo,mlx5_0",
     .rails = "2",
     .used = "mlx5_0,foo",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "hca_on_node_1", .nics = "foo", .used = "foo", .why = "nothing tells where"},
    {.model = "hca_on_node_1",
     .nics = "mlx5_0,foo",
     .nic = "foo",
     .used = "foo",
     .why = "nothing tells where"},

    /* Cores that turn a little slower are no efficient ones. */
    {.model = "favored_cores", .used = "mlx5_0", .nodes = "1", .cpus = "16-31"},

    /* An HCA on each node: 0-15,32-47 and 16-31,48-63. */
    {.model = "hca_on_each", .used = "mlx5_0", .nodes = "0", .cpus = "0-15,32-47"},
    {.model = "hca_on_each",
     .own = "16-19,48-51",
     .used = "mlx5_1",
     .nodes = "1",
     .cpus = "20-31,52-63"},
    {.model = "hca_on_each", .own = "16-31", .used = "mlx5_1", .nodes = "1", .cpus = "48-63"},
    {.model = "hca_on_each", .own = "0-31", .used = "mlx5_0", .nodes = "0", .cpus = "32-47"},
    {.model = "hca_on_each", .own = "0-63", .used = "mlx5_0", .nodes = "0", .cpus = "0-15,32-47"},
    {.model = "hca_on_each",
     .bind = "numa:1",
     .used = "mlx5_1",
     .nodes = "1",
     .cpus = "16-31,48-63"},
    {.model = "hca_on_each", .bind = "cores:50", .used = "mlx5_1", .nodes = "1", .cpus = "50"},
    /* What a user wishes comes before what the process is bound to. */
    {.model = "hca_on_each",
     .own = "0-15",
     .bind = "cores:50",
     .used = "mlx5_1",
     .nodes = "1",
     .cpus = "50"},
    {.model = "hca_on_each", .rails = "2", .used = "mlx5_0,mlx5_1", .nodes = "0-1", .cpus = "0-63"},
    {.model = "hca_on_each",
     .own = "16-19",
     .rails = "2",
     .used = "mlx5_1,mlx5_0",
     .nodes = "0-1",
     .cpus = "0-15,20-63"},
    {.model = "hca_on_each", .rails = "1", .used = "mlx5_0", .nodes = "0", .cpus = "0-15,32-47"},
    {.model = "hca_on_each",
     .rails = "3",
     .used = "mlx5_0,mlx5_1",
     .nodes = "0-1",
     .cpus = "0-63",
     .unmet = "3"},
    {.model = "hca_on_each",
     .nic = "mlx5_1,mlx5_0",
     .used = "mlx5_1,mlx5_0",
     .nodes = "0-1",
     .cpus = "0-63"},
    {.model = "hca_on_each",
     .own = "16-19",
     .nic = "mlx5_0",
     .used = "mlx5_0",
     .nodes = "0",
     .cpus = "0-15,32-47"},
    {.model = "hca_on_each",
     .bind = "numa:1",
     .nic = "mlx5_0",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31,48-63"},
    {.model = "hca_on_each", .own = "16-19", .bind = "none", .used = "mlx5_1"},
    {.model = "hca_on_each",
     .own = "0-3",
     .bind = "pci:B1:00.0",
     .used = "mlx5_1",
     .nodes = "1",
     .cpus = "16-31,48-63"},
    {.model = "hca_on_each",
     .own = "16-19",
     .bind = "pci:b2:00.0",
     .used = "mlx5_1",
     .unmet = "b2:00.0"},

    /* The second has twice the speed of the first, which is not less than half. */
    {.model = "epyc_nps1", .used = "mlx5_1", .nodes = "1", .cpus = "64-127,192-255"},
    {.model = "epyc_nps1", .own = "0-7", .used = "mlx5_0", .nodes = "0", .cpus = "8-63,128-191"},
    {.model = "epyc_nps1", .rails = "2", .used = "mlx5_1,mlx5_0", .nodes = "0-1", .cpus = "0-255"},

    /* HCAs on nodes 3 and 7, the last ones of both sockets. */
    {.model = "epyc_nps4", .used = "mlx5_0", .nodes = "3", .cpus = "48-63"},
    {.model = "epyc_nps4", .own = "0-15", .used = "mlx5_0", .nodes = "3", .cpus = "48-63"},
    {.model = "epyc_nps4", .own = "80-95", .used = "mlx5_1", .nodes = "7", .cpus = "112-127"},
    {.model = "epyc_nps4", .own = "112-115", .used = "mlx5_1", .nodes = "7", .cpus = "116-127"},
    {.model = "epyc_nps4", .own = "0-3,64-67", .used = "mlx5_0", .nodes = "3", .cpus = "48-63"},
    {.model = "epyc_nps4", .bind = "numa:5", .used = "mlx5_1", .nodes = "5", .cpus = "80-95"},
    {.model = "epyc_nps4",
     .own = "64-67",
     .rails = "2",
     .used = "mlx5_1,mlx5_0",
     .nodes = "3,7",
     .cpus = "48-63,112-127"},

    /* An HCA on node 5 (CPUs 70-83); its HBM, node 13, is for who asks for it. */
    {.model = "xeon_max", .used = "mlx5_0", .nodes = "5", .cpus = "70-83"},
    {.model = "xeon_max", .own = "70-73", .used = "mlx5_0", .nodes = "5", .cpus = "74-83"},
    {.model = "xeon_max", .bind = "numa:13", .used = "mlx5_0", .nodes = "13", .cpus = "70-83"},
    {.model = "xeon_max", .bind = "cores:0-3", .used = "mlx5_0", .nodes = "0", .cpus = "0-3"},
    {.model = "xeon_max_untold", .used = "mlx5_0", .nodes = "5", .cpus = "70-83"},
    {.model = "xeon_max_untold", .bind = "cores:0", .used = "mlx5_0", .nodes = "0", .cpus = "0"},

    /* The HCA is as near to both nodes of its socket: both are used. */
    {.model = "snc2", .used = "mlx5_0", .nodes = "2-3", .cpus = "36-71"},
    {.model = "snc2", .own = "54-57", .used = "mlx5_0", .nodes = "2-3", .cpus = "36-53,58-71"},
    {.model = "snc2", .own = "0-3", .used = "mlx5_0", .nodes = "2-3", .cpus = "36-71"},

    /* Eight sockets, HCAs on nodes 2 and 5: from node 4 both are as far. */
    {.model = "eight_sockets", .used = "mlx5_0", .nodes = "2", .cpus = "48-71"},
    {.model = "eight_sockets", .own = "120-123", .used = "mlx5_1", .nodes = "5", .cpus = "124-143"},
    {.model = "eight_sockets", .own = "96-99", .used = "mlx5_0", .nodes = "2", .cpus = "48-71"},
    {.model = "eight_sockets",
     .rails = "2",
     .used = "mlx5_0,mlx5_1",
     .nodes = "2,5",
     .cpus = "48-71,120-143"},
    {.model = "eight_sockets",
     .bind = "pci:0005:12:00",
     .used = "mlx5_1",
     .nodes = "5",
     .cpus = "120-143"},
    /* Without a domain it is domain 0, where there is none. */
    {.model = "eight_sockets", .bind = "pci:12:00.0", .used = "mlx5_0", .unmet = "12:00.0"},

    /* Two ports of one HCA, the second of which is down. */
    {.model = "dual_port", .used = "mlx5_0", .nodes = "1", .cpus = "16-31"},
    {.model = "dual_port",
     .rails = "2",
     .used = "mlx5_0",
     .nodes = "1",
     .cpus = "16-31",
     .unmet = "2"},
    {.model = "dual_port", .bind = "pci:b1:00", .used = "mlx5_0", .nodes = "1", .cpus = "16-31"},
    {.model = "dual_port", .bind = "pci:b1:00.1", .used = "mlx5_1", .nodes = "1", .cpus = "16-31"},
    {.model = "dual_port",
     .nics = "mlx5_0,mlx5_1",
     .bind = "pci:b1:00.1",
     .used = "mlx5_1",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "dual_port", .nics = "mlx5_1", .used = "mlx5_1", .nodes = "1", .cpus = "16-31"},
    {.model = "dual_port",
     .nic = "mlx5_1,mlx5_0",
     .used = "mlx5_1,mlx5_0",
     .nodes = "1",
     .cpus = "16-31"},
    {.model = "dual_port", .nics = "mlx5_1,foo", .used = "foo", .why = "nothing tells where"},

    /* 10 and 25 Gbit/s on node 0, 50 and one that does not tell on node 1: only the first is slower
     * than half of the fastest. */
    {.model = "mixed_speeds", .used = "eth2,eth3", .nodes = "1", .cpus = "12-23"},
    {.model = "mixed_speeds", .own = "0-3", .used = "eth1", .nodes = "0", .cpus = "4-11"},
    {.model = "mixed_speeds", .nics = "eth1,eth0", .used = "eth1", .nodes = "0", .cpus = "0-11"},
    {.model = "mixed_speeds", .nics = "eth3,eth0", .used = "eth0", .nodes = "0", .cpus = "0-11"},
    {.model = "mixed_speeds",
     .rails = "3",
     .used = "eth2,eth3,eth1",
     .nodes = "0-1",
     .cpus = "0-23"},
    {.model = "mixed_speeds",
     .rails = "4",
     .used = "eth2,eth3,eth1",
     .nodes = "0-1",
     .cpus = "0-23",
     .unmet = "4"},
    /* None tells its speed: more of them are better. */
    {.model = "untold_speeds", .used = "eth1,eth2", .nodes = "1", .cpus = "12-23"},
    {.model = "untold_speeds", .own = "0-3", .used = "eth0", .nodes = "0", .cpus = "4-11"},
    {.model = "untold_speeds", .rails = "1", .used = "eth1", .nodes = "1", .cpus = "12-23"},

    /* An HCA on each of nodes 0 and 1, and node 2 is memory that is near to nobody. */
    {.model = "cxl_memory", .used = "mlx5_0", .nodes = "0", .cpus = "0-31"},
    {.model = "cxl_memory", .own = "32-35", .used = "mlx5_1", .nodes = "1", .cpus = "36-63"},
    {.model = "cxl_memory", .bind = "cores:32", .used = "mlx5_1", .nodes = "1", .cpus = "32"},
    {.model = "cxl_memory_untold", .used = "mlx5_0", .nodes = "0", .cpus = "0-31"},
    {.model = "cxl_memory_untold", .own = "32-35", .used = "mlx5_1", .nodes = "1", .cpus = "36-63"},
    {.model = "cxl_memory_untold", .bind = "cores:9", .used = "mlx5_0", .nodes = "0", .cpus = "9"},

    /* A NIC at each of four nodes: cxi2, cxi1, cxi3 and cxi0. */
    {.model = "frontier", .used = "cxi2", .nodes = "0", .cpus = "0-15,64-79"},
    {.model = "frontier", .own = "48-55", .used = "cxi0", .nodes = "3", .cpus = "56-63,112-127"},
    {.model = "frontier",
     .rails = "4",
     .used = "cxi2,cxi1,cxi3,cxi0",
     .nodes = "0-3",
     .cpus = "0-127"},
    {.model = "frontier",
     .own = "16-23",
     .nics = "hsn0,hsn1,hsn2,hsn3",
     .used = "hsn1",
     .nodes = "1",
     .cpus = "24-31,80-95"},
    {.model = "frontier", .bind = "cores:32-39", .used = "cxi3", .nodes = "2", .cpus = "32-39"},
    {.model = "frontier", .nic = "cxi0", .used = "cxi0", .nodes = "3", .cpus = "48-63,112-127"},
    {.model = "frontier",
     .own = "0-7",
     .rails = "2",
     .used = "cxi2,cxi1",
     .nodes = "0-1",
     .cpus = "8-31,64-95"},

    /* Four HCAs at each of two sockets (0-55,112-167 and 56-111,168-223), and a slow interface. */
    {.model = "ai_node",
     .used = "mlx5_0,mlx5_1,mlx5_2,mlx5_3",
     .nodes = "0",
     .cpus = "0-55,112-167"},
    {.model = "ai_node",
     .own = "56-63",
     .used = "mlx5_4,mlx5_5,mlx5_6,mlx5_7",
     .nodes = "1",
     .cpus = "64-111,168-223"},
    {.model = "ai_node",
     .rails = "8",
     .used = "mlx5_0,mlx5_1,mlx5_2,mlx5_3,mlx5_4,mlx5_5,mlx5_6,mlx5_7",
     .nodes = "0-1",
     .cpus = "0-223"},
    {.model = "ai_node",
     .own = "56-63",
     .rails = "5",
     .used = "mlx5_4,mlx5_5,mlx5_6,mlx5_7,mlx5_0",
     .nodes = "0-1",
     .cpus = "0-55,64-223"},
    {.model = "ai_node",
     .rails = "2",
     .used = "mlx5_0,mlx5_1",
     .nodes = "0",
     .cpus = "0-55,112-167"},
    /* In the machine's order, whatever that of the candidates. */
    {.model = "ai_node",
     .nics = "mlx5_3,eno3,mlx5_1",
     .used = "mlx5_1,mlx5_3",
     .nodes = "0",
     .cpus = "0-55,112-167"},
    {.model = "ai_node",
     .own = "0-3",
     .nics = "eno3,mlx5_6",
     .used = "mlx5_6",
     .nodes = "1",
     .cpus = "56-111,168-223"},
    {.model = "ai_node",
     .bind = "pci:9a:00.0",
     .used = "mlx5_4",
     .nodes = "1",
     .cpus = "56-111,168-223"},
    {.model = "ai_node",
     .nic = "mlx5_5,mlx5_2",
     .used = "mlx5_5,mlx5_2",
     .nodes = "0-1",
     .cpus = "0-223"},
    /* mlx5_2 is down: the second socket has more. */
    {.model = "ai_node_port_down",
     .used = "mlx5_4,mlx5_5,mlx5_6,mlx5_7",
     .nodes = "1",
     .cpus = "56-111,168-223"},
    {.model = "ai_node_port_down",
     .own = "0-3",
     .used = "mlx5_0,mlx5_1,mlx5_3",
     .nodes = "0",
     .cpus = "4-55,112-167"},
    {.model = "ai_node_port_down",
     .rails = "8",
     .used = "mlx5_4,mlx5_5,mlx5_6,mlx5_7,mlx5_0,mlx5_1,mlx5_3",
     .nodes = "0-1",
     .cpus = "0-223",
     .unmet = "8"},
    {.model = "ai_node_port_down",
     .nic = "mlx5_2",
     .used = "mlx5_2",
     .nodes = "0",
     .cpus = "0-55,112-167"},

    {.model = "grace_grace", .used = "mlx5_0", .nodes = "0", .cpus = "0-71"},
    {.model = "grace_grace", .own = "72-79", .used = "mlx5_0", .nodes = "0", .cpus = "0-71"},
    {.model = "grace_grace",
     .bind = "pci:0002:01:00.0",
     .used = "mlx5_0",
     .nodes = "0",
     .cpus = "0-71"},
    {.model = "grace_grace", .bind = "pci:01:00.0", .used = "mlx5_0", .unmet = "01:00.0"},

    /* Two nodes are allowed, the second of which is the GPU's memory. */
    {.model = "grace_hopper", .used = "mlx5_0", .nodes = "0", .cpus = "0-71"},
    {.model = "grace_hopper", .own = "0-7", .used = "mlx5_0", .nodes = "0", .cpus = "8-71"},
    {.model = "grace_hopper", .bind = "cores:0-7", .used = "mlx5_0", .nodes = "0", .cpus = "0-7"},
    {.model = "grace_hopper_at_top", .used = "mlx5_0"},

    {.model = "efa_p4d", .used = "rdmap16s27,rdmap32s27", .nodes = "0", .cpus = "0-23,48-71"},
    {.model = "efa_p4d",
     .own = "24-27",
     .used = "rdmap144s27,rdmap160s27",
     .nodes = "1",
     .cpus = "28-47,72-95"},
    {.model = "efa_p4d",
     .rails = "4",
     .used = "rdmap16s27,rdmap32s27,rdmap144s27,rdmap160s27",
     .nodes = "0-1",
     .cpus = "0-95"},
    {.model = "efa_p4d",
     .bind = "pci:a0:1b",
     .used = "rdmap160s27",
     .nodes = "1",
     .cpus = "24-47,72-95"},
    /* Sixteen are near: the first eight are used. */
    {.model = "efa_p5",
     .used = "rdmap64s0,rdmap65s0,rdmap66s0,rdmap67s0,rdmap68s0,rdmap69s0,rdmap70s0,rdmap71s0",
     .nodes = "0",
     .cpus = "0-47,96-143"},
    {.model = "efa_p5",
     .own = "48-95",
     .used = "rdmap80s0,rdmap81s0,rdmap82s0,rdmap83s0,rdmap84s0,rdmap85s0,rdmap86s0,rdmap87s0",
     .nodes = "1",
     .cpus = "144-191"},

    /* Recorded in guests of QEMU's (tests/topology/record.sh), whose NICs tell no speed. */
    {.model = "one_node", .used = "eth0", .why = "one NUMA node"},
    {.model = "one_node", .bind = "numa:0", .used = "eth0", .nodes = "0", .cpus = "0-1"},
    {.model = "nic_on_each_node", .used = "eth1", .nodes = "0", .cpus = "0-1"},
    {.model = "nic_on_each_node", .own = "2-3", .used = "eth0", .nodes = "1", .cpus = "2-3"},
    {.model = "nic_on_each_node", .own = "2", .used = "eth0", .nodes = "1", .cpus = "3"},
    {.model = "nic_on_each_node", .nic = "eth0", .used = "eth0", .nodes = "1", .cpus = "2-3"},
    {.model = "nic_on_each_node", .rails = "2", .used = "eth1,eth0", .nodes = "0-1", .cpus = "0-3"},
    {.model = "nic_on_second_node", .own = "0", .used = "eth0", .nodes = "1", .cpus = "2-3"},
    {.model = "nic_on_second_node", .bind = "none", .own = "0", .used = "eth0"},
    {.model = "nic_at_no_node", .used = "eth0", .why = "nothing tells"},
    {.model = "two_sockets_of_two_nodes", .used = "eth1", .nodes = "1", .cpus = "2-3"},
    /* The other socket's NIC is not nearer than that of the neighbour node. */
    {.model = "two_sockets_of_two_nodes", .own = "0", .used = "eth1", .nodes = "1", .cpus = "2-3"},
    {.model = "two_sockets_of_two_nodes", .own = "4", .used = "eth0", .nodes = "3", .cpus = "6-7"},
    {.model = "threads_and_two_nics", .used = "eth0,eth1", .nodes = "0", .cpus = "0-3"},
    {.model = "threads_and_two_nics",
     .own = "0-1",
     .bind = "pci:22:00.0",
     .used = "eth1",
     .nodes = "0",
     .cpus = "2-3"},
    {.model = "nic_on_each_of_eight", .own = "5", .used = "eth2", .nodes = "5", .cpus = "5"},
    {.model = "memory_without_cpus", .used = "eth0", .nodes = "0", .cpus = "0"},
    {.model = "memory_without_cpus", .bind = "numa:2", .used = "eth0", .nodes = "2"},

    /* Rails, and where the thread of each goes. Of NICs of unknown place one is used unasked, and
     * of virtual ones. */
    {.model = "vm_two_nodes", .nics = "eth0,eth1", .used = "eth0", .rail_cpus = ""},
    {.model = "vm_two_nodes", .nics = "eth0,eth1", .rails = "2", .used = "eth0,eth1"},
    {.model = "vm_two_nodes",
     .nics = "eth0,eth1",
     .rails = "2",
     .bind = "numa:1",
     .used = "eth0,eth1",
     .nodes = "1",
     .cpus = "8-15",
     .rail_cpus = "8-15;8-15"},
    {.model = "cloud_vm", .nics = "veth0,veth1", .without = "veth0,veth1", .used = "veth0"},
    {.model = "cloud_vm",
     .nics = "veth0,veth1",
     .without = "veth0,veth1",
     .rails = "2",
     .used = "veth0,veth1"},
    {.model = "hca_on_each",
     .rails = "2",
     .used = "mlx5_0,mlx5_1",
     .nodes = "0-1",
     .cpus = "0-63",
     .rail_cpus = "0-15,32-47;16-31,48-63"},
    /* Beside the process's own CPUs; where those are a whole node, among them. */
    {.model = "hca_on_each",
     .own = "16-31,48-63",
     .rails = "2",
     .used = "mlx5_1,mlx5_0",
     .nodes = "0-1",
     .cpus = "0-15,32-47",
     .rail_cpus = "16-31,48-63;0-15,32-47"},
    {.model = "hca_on_each",
     .rails = "2",
     .bind = "cores:0-3,16-17",
     .used = "mlx5_0,mlx5_1",
     .nodes = "0-1",
     .cpus = "0-3,16-17",
     .rail_cpus = "0-3;16-17"},
    {.model = "hca_on_each",
     .rails = "2",
     .bind = "numa:1",
     .used = "mlx5_1,mlx5_0",
     .nodes = "1",
     .cpus = "16-31,48-63",
     .rail_cpus = "16-31,48-63;16-31,48-63"},
    {.model = "hca_on_each",
     .rails = "2",
     .bind = "none",
     .used = "mlx5_0,mlx5_1",
     .rail_cpus = ";"},
    /* Fewer rails than wished do not undo the place. */
    {.model = "hca_on_each",
     .rails = "2",
     .bind = "pci:b1:00.0",
     .used = "mlx5_1",
     .nodes = "1",
     .cpus = "16-31,48-63",
     .rail_cpus = "16-31,48-63",
     .unmet = "2 rails are wished, and 1 can be had"},
    {.model = "container",
     .nics = "mlx5_0,foo",
     .rails = "2",
     .used = "mlx5_0,foo",
     .nodes = "1",
     .cpus = "18-19",
     .rail_cpus = "18-19;18-19"},
    {.model = "frontier",
     .rails = "4",
     .used = "cxi2,cxi1,cxi3,cxi0",
     .nodes = "0-3",
     .cpus = "0-127",
     .rail_cpus = "0-15,64-79;16-31,80-95;32-47,96-111;48-63,112-127"},
    {.model = "eight_sockets",
     .rails = "2",
     .used = "mlx5_0,mlx5_1",
     .nodes = "2,5",
     .cpus = "48-71,120-143",
     .rail_cpus = "48-71;120-143"},
    {.model = "epyc_nps4",
     .rails = "2",
     .used = "mlx5_0,mlx5_1",
     .nodes = "3,7",
     .cpus = "48-63,112-127",
     .rail_cpus = "48-63;112-127"},
    {.model = "ai_node",
     .rails = "5",
     .used = "mlx5_0,mlx5_1,mlx5_2,mlx5_3,mlx5_4",
     .nodes = "0-1",
     .cpus = "0-223",
     .rail_cpus = "0-55,112-167;0-55,112-167;0-55,112-167;0-55,112-167;56-111,168-223"},
    {.model = "efa_p4d",
     .own = "24-27",
     .used = "rdmap144s27,rdmap160s27",
     .nodes = "1",
     .cpus = "28-47,72-95",
     .rail_cpus = "28-47,72-95;28-47,72-95"},
    {.model = "epyc_nps1",
     .rails = "2",
     .used = "mlx5_1,mlx5_0",
     .nodes = "0-1",
     .cpus = "0-255",
     .rail_cpus = "64-127,192-255;0-63,128-191"},
    {.model = "mixed_speeds",
     .rails = "3",
     .used = "eth2,eth3,eth1",
     .nodes = "0-1",
     .cpus = "0-23",
     .rail_cpus = "12-23;12-23;0-11"},
    {.model = "nic_on_each_node",
     .rails = "2",
     .used = "eth1,eth0",
     .nodes = "0-1",
     .cpus = "0-3",
     .rail_cpus = "0-1;2-3"},
    {.model = "two_sockets_of_two_nodes",
     .rails = "2",
     .used = "eth1,eth0",
     .nodes = "1,3",
     .cpus = "2-3,6-7",
     .rail_cpus = "2-3;6-7"},
    {.model = "threads_and_two_nics",
     .used = "eth0,eth1",
     .nodes = "0",
     .cpus = "0-3",
     .rail_cpus = "0-3;0-3"},
};

static const char *text_or(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

/* Copies the next name of a comma list; false at its end. */
static bool next_name(const char **list, char name[static HAUL_DEVICE_NAME_MAX])
{
    size_t length = strcspn(*list, ",");
    if (length == 0)
        return false;
    assert_true(length < HAUL_DEVICE_NAME_MAX);
    snprintf(name, HAUL_DEVICE_NAME_MAX, "%.*s", (int)length, *list);
    *list += length + ((*list)[length] == ',');
    return true;
}

static bool has_words(const char *text, const char *words)
{
    char word[64];
    for (int used; sscanf(words, " %63s%n", word, &used) == 1; words += used)
        if (!strstr(text, word))
            return false;
    return true;
}

/* NULL: it cannot be read here, and why was said. */
static struct haul_topology *load(const char *model)
{
    char path[4096];
    struct haul_topology *topology;
    const char *folder = getenv("HAULTEST_TOPOLOGIES");
    if (!folder) {
        print_message("HAULTEST_TOPOLOGIES, the folder that models.py wrote to, is not set\n");
        return NULL;
    }
    snprintf(path, sizeof path, "%s/%s.xml", folder, model);
    int err = haul_topology_load(path, &topology);
    if (err == HAUL_UNSUPPORTED) {
        print_message("%s\n", haul_error_detail());
        return NULL;
    }
    if (err)
        fail_msg("%s: %s", model, haul_error_detail());
    assert_string_equal(topology->unknown, "");
    assert_false(topology->is_this_machine);
    return topology;
}

/* A file tells neither where a process runs nor which devices have no hardware. */
static void complete(const struct row *row, struct haul_topology *topology)
{
    char name[HAUL_DEVICE_NAME_MAX];
    if (row->own)
        assert_true(haul_set_parse(row->own, &topology->own_cpus));
    for (const char *list = text_or(row->without, ""); next_name(&list, name);) {
        if (!haul_topology_device(topology, name))
            assert_non_null(haul_topology_add_device(topology, name));
        for (size_t i = 0; i < topology->device_count; i++)
            if (!strcmp(topology->devices[i].name, name))
                topology->devices[i].is_virtual = true;
    }
}

static size_t list_nics(const struct row *row, const struct haul_topology *topology,
                        const struct haul_wish *wish, struct haul_nic nics[static NICS_MAX])
{
    size_t count = 0;
    const char *list = row->nics;
    if (!list)
        return haul_nics_list(topology, wish, nics, NICS_MAX);
    while (next_name(&list, nics[count].name)) {
        nics[count].pci[0] = '\0';
        nics[count++].repeats = row->repeats;
    }
    return count;
}

static void choose(const struct row *row, struct haul_topology *topology,
                   struct haul_locality *chosen, char used[static TEXT_MAX])
{
    struct haul_nic nics[NICS_MAX];
    struct haul_wish wish;
    complete(row, topology);
    if (haul_wish_parse(text_or(row->bind, "auto"), text_or(row->nic, ""),
                        text_or(row->rails, "auto"), &wish))
        fail_msg("%s", haul_error_detail());
    size_t count = list_nics(row, topology, &wish, nics);
    haul_locality_choose(topology, &wish, nics, count, row->most ? row->most : HAUL_RAILS_MAX,
                         chosen);
    used[0] = '\0';
    for (size_t i = 0; i < chosen->rail_count; i++) {
        assert_true(chosen->rails[i].nic < count);
        haul_append_text(used, TEXT_MAX, "%s%s", i ? "," : "", nics[chosen->rails[i].nic].name);
    }
}

static bool is_same(const char *what, const char *found, const char *expected)
{
    bool same = strcmp(found, text_or(expected, "")) == 0;
    if (!same)
        print_error("    %s: \"%s\", not \"%s\"\n", what, found, text_or(expected, ""));
    return same;
}

static bool says(const char *what, const char *found, const char *words)
{
    bool said = has_words(found, words) && *found;
    if (!said)
        print_error("    %s: \"%s\" has not all of \"%s\"\n", what, found, words);
    return said;
}

static bool has_rail_cpus(const struct row *row, const struct haul_locality *chosen)
{
    char text[TEXT_MAX] = "", cpus[HAUL_SET_TEXT_MAX];
    for (size_t i = 0; i < chosen->rail_count; i++)
        haul_append_text(text, sizeof text, "%s%s", i ? ";" : "",
                         haul_set_format(&chosen->rails[i].cpus, cpus, sizeof cpus));
    return !row->rail_cpus || is_same("CPUs of rails", text, row->rail_cpus);
}

static bool is_as_expected(const struct row *row, const struct haul_locality *chosen,
                           const char *used)
{
    char nodes[HAUL_SET_TEXT_MAX], cpus[HAUL_SET_TEXT_MAX];
    haul_set_format(&chosen->nodes, nodes, sizeof nodes);
    haul_set_format(&chosen->cpus, cpus, sizeof cpus);
    bool right = is_same("NICs", used, row->used);
    right &= is_same("nodes", nodes, row->nodes);
    right &= is_same("CPUs", cpus, row->cpus);
    right &= has_rail_cpus(row, chosen);
    right &= says("why", chosen->why, text_or(row->why, ""));
    right &=
        row->unmet ? says("unmet", chosen->unmet, row->unmet) : is_same("unmet", chosen->unmet, "");
    return right;
}

static bool check_row(size_t number, struct haul_topology *topology)
{
    const struct row *row = &rows[number];
    struct haul_locality chosen;
    char used[TEXT_MAX];
    choose(row, topology, &chosen, used);
    bool right = is_as_expected(row, &chosen, used);
    if (!right)
        print_error(
            "  so differs row %zu: %s, own CPUs %s, candidates %s, HAUL_BIND=%s HAUL_NIC=%s "
            "HAUL_RAILS=%s\n",
            number, row->model, text_or(row->own, "(all)"), text_or(row->nics, "(any)"),
            text_or(row->bind, ""), text_or(row->nic, ""), text_or(row->rails, ""));
    return right;
}

static void machines_are_worked_on_in_the_right_place(void **state)
{
    (void)state;
    size_t wrong = 0;
    for (size_t i = 0; i < HAUL_COUNT_OF(rows); i++) {
        struct haul_topology *topology = load(rows[i].model);
        if (!topology)
            skip();
        wrong += !check_row(i, topology);
        haul_topology_free(topology);
    }
    if (wrong)
        fail_msg("%zu of %zu rows differ", wrong, HAUL_COUNT_OF(rows));
}

/* ---- Wishes ---------------------------------------------------------------------------------- */

static void assert_detail_has(const char *words)
{
    if (!has_words(haul_error_detail(), words))
        fail_msg("\"%s\" has not all of \"%s\"", haul_error_detail(), words);
}

static struct haul_wish wish_of(const char *bind, const char *nics, const char *rails)
{
    struct haul_wish wish;
    if (haul_wish_parse(bind, nics, rails, &wish))
        fail_msg("%s; %s; %s: %s", bind, nics, rails, haul_error_detail());
    return wish;
}

static void places_are_parsed(void **state)
{
    static const struct {
        const char *text;
        enum haul_bind bind;
        const char *numbers;
    } samples[] = {
        {"auto", HAUL_BIND_AUTO, ""},
        {"none", HAUL_BIND_NONE, ""},
        {"numa:0", HAUL_BIND_NUMA, "0"},
        {"numa:3,1", HAUL_BIND_NUMA, "1,3"},
        {"cores:0-3,8", HAUL_BIND_CORES, "0-3,8"},
        {"cores:4095", HAUL_BIND_CORES, "4095"},
    };
    (void)state;
    for (size_t i = 0; i < HAUL_COUNT_OF(samples); i++) {
        char numbers[HAUL_SET_TEXT_MAX];
        struct haul_wish wish = wish_of(samples[i].text, "", "auto");
        assert_int_equal(wish.bind, samples[i].bind);
        assert_string_equal(haul_set_format(&wish.numbers, numbers, sizeof numbers),
                            samples[i].numbers);
        assert_int_equal(wish.nic_count, 0);
        assert_int_equal(wish.rails, 0);
    }
}

static void addresses_are_parsed(void **state)
{
    static const char *const good[] = {"pci:0000:41:00.0", "pci:41:00.0",      "pci:0000:41:00",
                                       "pci:41:00",        "pci:0002:AB:1f.7", "pci:0:1:2.3",
                                       "pci:10000:e1:00.0"};
    (void)state;
    for (size_t i = 0; i < HAUL_COUNT_OF(good); i++)
        assert_int_equal(wish_of(good[i], "", "auto").bind, HAUL_BIND_PCI);
}

static void bad_places_are_named(void **state)
{
    static const char *const bad[] = {
        "",           "Auto",        "auto ",        "numa",        "numa:",
        "numa:x",     "numa:3-1",    "numa:1,,2",    "numa:4096",   "numa:-1",
        "cores:",     "cores:0-",    "cores:0,",     "cores:1.5",   "cpus:0",
        "pci:",       "pci:41",      "pci:41:",      "pci:zz:00.0", "pci:41:00.0x",
        "pci:41:00.", "pci:-1:00.0", "pci: 41:00.0", "pci:41:00.8", "pci:41:20.0",
        "pci:mlx5_0", "mlx5_0",      "pci:0x1:00.0", "pci:41-00.0", "pci:0000:41:00.0:1",
    };
    (void)state;
    struct haul_wish wish;
    size_t taken = 0;
    for (size_t i = 0; i < HAUL_COUNT_OF(bad); i++) {
        int err = haul_wish_parse(bad[i], "", "auto", &wish);
        if (err != HAUL_CONFIG) {
            print_error("  HAUL_BIND=%s is taken\n", bad[i]);
            taken++;
            continue;
        }
        assert_detail_has("HAUL_BIND auto none numa: cores: pci:");
        assert_non_null(strstr(haul_error_detail(), bad[i]));
    }
    assert_int_equal(taken, 0);
}

static void nics_are_parsed(void **state)
{
    (void)state;
    struct haul_wish wish = wish_of("none", "mlx5_1,mlx5_0,hsn0", "2");
    assert_int_equal(wish.nic_count, 3);
    assert_string_equal(wish.nics[0], "mlx5_1");
    assert_string_equal(wish.nics[1], "mlx5_0");
    assert_string_equal(wish.nics[2], "hsn0");
    assert_int_equal(wish.rails, 2);
    assert_int_equal(wish_of("auto", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", "auto").nic_count,
                     HAUL_WISHED_NICS_MAX);
}

static void bad_nics_are_named(void **state)
{
    char name[HAUL_DEVICE_NAME_MAX + 1];
    const char *const bad[] = {",",  ",a",      "a,",    "a,,b",
                               name, "eth\xff", "eth\n", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"};
    (void)state;
    struct haul_wish wish;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (size_t i = 0; i < HAUL_COUNT_OF(bad); i++) {
        if (haul_wish_parse("auto", bad[i], "auto", &wish) != HAUL_CONFIG)
            fail_msg("HAUL_NIC=%s is taken", bad[i]);
        assert_detail_has("HAUL_NIC");
    }
    assert_detail_has("16");
    name[HAUL_DEVICE_NAME_MAX - 1] = '\0'; /* the longest that there is */
    assert_string_equal(wish_of("auto", name, "auto").nics[0], name);
}

static void rails_are_parsed(void **state)
{
    static const char *const bad[] = {"",   "0",   "9",    "-1",   "+1",  " 1",
                                      "1 ", "1.5", "many", "AUTO", "0x1", "99999999999999999999"};
    (void)state;
    struct haul_wish wish;
    assert_int_equal(wish_of("auto", "", "auto").rails, 0);
    assert_int_equal(wish_of("auto", "", "1").rails, 1);
    assert_int_equal(wish_of("auto", "", "8").rails, HAUL_RAILS_MAX);
    for (size_t i = 0; i < HAUL_COUNT_OF(bad); i++) {
        if (haul_wish_parse("auto", "", bad[i], &wish) != HAUL_CONFIG)
            fail_msg("HAUL_RAILS=%s is taken", bad[i]);
        assert_detail_has("HAUL_RAILS auto 8");
        assert_non_null(strstr(haul_error_detail(), bad[i]));
    }
}

/* ---- Sets ------------------------------------------------------------------------------------ */

static struct haul_set set_of(const char *text)
{
    struct haul_set set;
    if (!haul_set_parse(text, &set))
        fail_msg("\"%s\" is no set", text);
    return set;
}

static void assert_set_is(struct haul_set set, const char *expected)
{
    char text[HAUL_SET_TEXT_MAX];
    assert_string_equal(haul_set_format(&set, text, sizeof text), expected);
}

static void lists_are_parsed_and_formatted(void **state)
{
    static const struct {
        const char *text, *formatted;
        unsigned count;
    } samples[] = {
        {"0", "0", 1},
        {"4095", "4095", 1},
        {"0-4095", "0-4095", 4096},
        {"0-3,8", "0-3,8", 5},
        {"3-3", "3", 1},
        {"8,0-3", "0-3,8", 5},
        {"1,1,1", "1", 1},
        {"0-2,2-4", "0-4", 5},
        {"1,2,3", "1-3", 3},
        {"62-65", "62-65", 4},
        {"63,64", "63-64", 2},
        {"0,2,4", "0,2,4", 3},
        {"007", "7", 1},
        {"0,4095", "0,4095", 2},
        {"4094-4095", "4094-4095", 2},
        {"0-1,3-4", "0-1,3-4", 4},
    };
    (void)state;
    for (size_t i = 0; i < HAUL_COUNT_OF(samples); i++) {
        struct haul_set set = set_of(samples[i].text);
        assert_set_is(set, samples[i].formatted);
        assert_int_equal(haul_set_count(&set), samples[i].count);
    }
    assert_set_is((struct haul_set){{0}}, "");
}

static void bad_lists_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        ",",
        "1,",
        ",1",
        "1,,2",
        "-",
        "1-",
        "-1",
        "3-1",
        "1-2-",
        "1-2-3",
        "1--2",
        "a",
        "1a",
        "a1",
        " 1",
        "1 ",
        "1, 2",
        "+1",
        "0x1",
        "1.5",
        "1;2",
        "1:2",
        "1\n",
        "4096",
        "0,4096",
        "4000-4096",
        "4294967296",
        "4294967297",
        "18446744073709551616",
        "99999999999999999999999",
    };
    (void)state;
    struct haul_set set;
    for (size_t i = 0; i < HAUL_COUNT_OF(bad); i++)
        if (haul_set_parse(bad[i], &set))
            fail_msg("\"%s\" is taken", bad[i]);
}

static void long_sets_end_in_dots(void **state)
{
    static const struct {
        const char *set;
        size_t size;
        const char *formatted;
    } samples[] = {
        {"0,2,4,6,8", 10, "0,2,4,6,8"}, /* just fits */
        {"0,2,4,6,8", 9, "0,2,4..."},
        {"0,2,4,6,8", 8, "0,2..."},
        {"0-3", 4, "0-3"},
        {"4095", 5, "4095"},
        {"4095", 4, "..."},
    };
    (void)state;
    size_t wrong = 0;
    for (size_t i = 0; i < HAUL_COUNT_OF(samples); i++) {
        char text[16];
        memset(text, '#', sizeof text);
        struct haul_set set = set_of(samples[i].set);
        haul_set_format(&set, text, samples[i].size);
        assert_int_equal(text[samples[i].size], '#');
        wrong += !is_same(samples[i].set, text, samples[i].formatted);
    }
    assert_int_equal(wrong, 0);
}

static void even_numbers_do_not_fit(void **state)
{
    (void)state;
    char text[HAUL_SET_TEXT_MAX];
    struct haul_set set = {{0}};
    for (unsigned number = 0; number < HAUL_SET_MAX; number += 2)
        haul_set_add(&set, number);
    assert_int_equal(haul_set_count(&set), HAUL_SET_MAX / 2);
    haul_set_format(&set, text, sizeof text);
    assert_true(strlen(text) < sizeof text);
    assert_memory_equal(text, "0,2,4,", 6);
    assert_string_equal(text + strlen(text) - 3, "...");
}

static void numbers_beyond_the_end_are_left_out(void **state)
{
    (void)state;
    struct haul_set set = {{0}};
    haul_set_add(&set, HAUL_SET_MAX);
    haul_set_add(&set, UINT32_MAX);
    assert_true(haul_set_is_empty(&set));
    assert_false(haul_set_has(&set, HAUL_SET_MAX));
    assert_false(haul_set_has(&set, UINT32_MAX));
    assert_int_equal(haul_set_next(&set, 0), HAUL_SET_MAX);
    haul_set_add(&set, HAUL_SET_MAX - 1);
    assert_true(haul_set_has(&set, HAUL_SET_MAX - 1));
    assert_int_equal(haul_set_next(&set, 0), HAUL_SET_MAX - 1);
    assert_int_equal(haul_set_next(&set, HAUL_SET_MAX - 1), HAUL_SET_MAX - 1);
    assert_int_equal(haul_set_next(&set, HAUL_SET_MAX), HAUL_SET_MAX);
    assert_int_equal(haul_set_next(&set, UINT32_MAX), HAUL_SET_MAX);
}

static void sets_are_combined(void **state)
{
    (void)state;
    const struct haul_set a = set_of("0-3,100"), b = set_of("2-5,200"), part = set_of("0,100");
    const struct haul_set none = {{0}};
    assert_set_is(haul_set_both(&a, &b), "2-3");
    assert_set_is(haul_set_either(&a, &b), "0-5,100,200");
    assert_set_is(haul_set_without(&a, &b), "0-1,100");
    assert_true(haul_set_meets(&a, &b));
    assert_false(haul_set_meets(&b, &part));
    assert_false(haul_set_meets(&a, &none));
    assert_true(haul_set_is_equal(&a, &a));
    assert_false(haul_set_is_equal(&a, &b));
    assert_int_equal(haul_set_next(&a, 4), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_are_worked_on_in_the_right_place),
        cmocka_unit_test(places_are_parsed),
        cmocka_unit_test(addresses_are_parsed),
        cmocka_unit_test(bad_places_are_named),
        cmocka_unit_test(nics_are_parsed),
        cmocka_unit_test(bad_nics_are_named),
        cmocka_unit_test(rails_are_parsed),
        cmocka_unit_test(lists_are_parsed_and_formatted),
        cmocka_unit_test(bad_lists_are_refused),
        cmocka_unit_test(long_sets_end_in_dots),
        cmocka_unit_test(even_numbers_do_not_fit),
        cmocka_unit_test(numbers_beyond_the_end_are_left_out),
        cmocka_unit_test(sets_are_combined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
