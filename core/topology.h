/* SPDX-License-Identifier: Apache-2.0
 * The machine as plain data: its NUMA nodes, the CPUs and memory that we may use, and its network
 * devices with where they are.
 *
 * Found with hwloc (its I/O objects kept) and, for what hwloc does not say of devices, in /sys.
 * Without hwloc, or on a machine that tells nothing, `nodes` is empty and `unknown` says why: then
 * nothing is placed anywhere, and everything else works. */
#ifndef HAUL_CORE_TOPOLOGY_H
#define HAUL_CORE_TOPOLOGY_H

#include "set.h"

#include <pthread.h>

enum {
    HAUL_DEVICE_NAME_MAX = 64,
    HAUL_PCI_MAX = 20, /* "0000:41:00.0" and its NUL; some domains have up to 8 digits */
};

/* More than any link has: a mistake. */
#define HAUL_MBITS_MAX UINT64_C(100000000)

struct haul_node {
    unsigned number;      /* the system's */
    unsigned package;     /* the socket it is in */
    uint64_t bytes;       /* of its memory */
    struct haul_set cpus; /* nearest to it, also those that we may not use */
    bool special;         /* not where data belongs unasked: no CPU of its own, HBM, CXL */
};

enum haul_device_kind {
    HAUL_DEVICE_NETWORK, /* an interface: "eth0" */
    HAUL_DEVICE_FABRIC,  /* a device of verbs, or of another fabric: "mlx5_0", "hsn0" */
};
enum haul_device_state { HAUL_DEVICE_UNKNOWN, HAUL_DEVICE_UP, HAUL_DEVICE_DOWN };

struct haul_device {
    enum haul_device_kind kind;
    char name[HAUL_DEVICE_NAME_MAX];
    char pci[HAUL_PCI_MAX];             /* "" : it is no PCI device, or nothing says which */
    char carrier[HAUL_DEVICE_NAME_MAX]; /* of a fabric device in software: the interface that it
                                           goes over; else "" */
    enum haul_device_state state;
    uint64_t mbits;        /* per second; 0: not known */
    bool is_virtual;       /* no hardware of its own: lo, veth, bridges */
    struct haul_set nodes; /* nearest to it; empty: not known */
};

struct haul_topology {
    char origin[256];  /* "this machine", or the file that it was read from */
    char unknown[256]; /* why the machine is not known; "" : it is */
    struct haul_node *nodes;
    size_t node_count;
    struct haul_device *devices;
    size_t device_count;
    struct haul_set cpus;      /* that the machine and our cgroups allow */
    struct haul_set mems;      /* nodes whose memory they allow */
    struct haul_set fast_cpus; /* of hybrid machines: without the efficient cores; else as cpus */
    struct haul_set own_cpus;  /* where the thread that looked was bound to */
    bool is_this_machine;      /* threads and memory can be bound */
    void *handle;              /* hwloc's, or NULL */
};

/* file: an XML that hwloc's lstopo wrote, or NULL for this machine. Without hwloc, and where this
 * machine cannot be looked at, `unknown` says so. Any thread. Errors: HAUL_NO_MEMORY; of a file:
 * HAUL_INVALID, HAUL_UNSUPPORTED (built without hwloc). */
int haul_topology_load(const char *file, struct haul_topology **topology);
/* The devices of this machine alone, which is quick: of its nodes `unknown` says that nobody asked.
 * Errors: HAUL_NO_MEMORY. */
int haul_topology_load_devices(struct haul_topology **topology);
void haul_topology_free(struct haul_topology *topology);
/* How many NUMA nodes this machine has, without hwloc, which takes long: 1 where nobody knows. */
unsigned haul_topology_node_count(void);

/* The device of that name, or NULL. */
struct haul_device *haul_topology_device(const struct haul_topology *topology, const char *name);

/* Binds a thread of ours, or a memory range that was not touched yet. Errors: HAUL_SYSTEM, with
 * the reason. */
int haul_topology_bind_thread(const struct haul_topology *topology, pthread_t thread,
                              const struct haul_set *cpus);
int haul_topology_bind_memory(const struct haul_topology *topology, void *base, size_t bytes,
                              const struct haul_set *nodes);

/* A new device with that name. NULL: no memory. Others may move. */
struct haul_device *haul_topology_add_device(struct haul_topology *topology, const char *name);

/* ---- devices.c: what /sys says of network devices -------------------------------------------- */

/* Fills state, speed, carrier and is_virtual, and adds devices that hwloc does not know. root: ""
 * or, in tests, a folder. Errors: HAUL_NO_MEMORY. */
int haul_devices_look(const char *root, struct haul_topology *topology);

#endif
