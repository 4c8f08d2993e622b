/* SPDX-License-Identifier: Apache-2.0
 * `haul doctor`: RDMA devices with their ports and GIDs, and network interfaces, as sysfs shows
 * them. What libfabric makes of them is the provider's to say. */
#include "doctor.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INFINIBAND "/sys/class/infiniband"

enum { ADVICE_BYTES = 1024 };

/* ---- Ports ---------------------------------------------------------------------------------- */

struct port {
    const char *device, *number;
    bool active, ethernet; /* else InfiniBand */
    char state[HAUL_DOCTOR_TEXT], physical[HAUL_DOCTOR_TEXT], rate[HAUL_DOCTOR_TEXT];
    char interface[HAUL_DOCTOR_TEXT]; /* of Ethernet; "its interface": not known */
};

/* sysfs writes "4: ACTIVE". */
static void read_state(const struct haul_doctor *doctor, const struct port *port, const char *file,
                       char state[HAUL_DOCTOR_TEXT])
{
    char line[HAUL_DOCTOR_TEXT];
    bool there = haul_doctor_line(doctor, line, INFINIBAND "/%s/ports/%s/%s", port->device,
                                  port->number, file);
    const char *colon = there ? strchr(line, ':') : NULL;
    snprintf(state, HAUL_DOCTOR_TEXT, "%s", colon ? colon + 1 + strspn(colon + 1, " ") : "unknown");
}

static void read_port(const struct haul_doctor *doctor, const char *device, const char *number,
                      struct port *port)
{
    char layer[HAUL_DOCTOR_TEXT];
    *port = (struct port){.device = device, .number = number};
    port->ethernet =
        haul_doctor_line(doctor, layer, INFINIBAND "/%s/ports/%s/link_layer", device, number) &&
        !strcmp(layer, "Ethernet");
    read_state(doctor, port, "state", port->state);
    read_state(doctor, port, "phys_state", port->physical);
    port->active = !strcmp(port->state, "ACTIVE");
    if (!haul_doctor_line(doctor, port->rate, INFINIBAND "/%s/ports/%s/rate", device, number))
        strcpy(port->rate, "unknown rate");
    if (!haul_doctor_line(doctor, port->interface, INFINIBAND "/%s/ports/%s/gid_attrs/ndevs/0",
                          device, number))
        strcpy(port->interface, "its interface");
}

static void each_port(struct haul_doctor *doctor,
                      void (*visit)(struct haul_doctor *doctor, const struct port *port, void *arg),
                      void *arg)
{
    struct haul_doctor_names devices = haul_doctor_names(doctor, INFINIBAND);
    for (int i = 0; i < devices.count; i++) {
        const char *device = devices.entries[i]->d_name;
        struct haul_doctor_names ports = haul_doctor_names(doctor, INFINIBAND "/%s/ports", device);
        for (int k = 0; k < ports.count; k++) {
            struct port port;
            read_port(doctor, device, ports.entries[k]->d_name, &port);
            visit(doctor, &port, arg);
        }
        haul_doctor_names_free(&ports);
    }
    haul_doctor_names_free(&devices);
}

/* ---- GIDs ----------------------------------------------------------------------------------- */

/* Connections by IPv4 address go over RoCE v2, from the GID that holds the address. */
static bool gid_is_good(const struct haul_doctor *doctor, const struct port *port,
                        const char *index)
{
    static const char mapped[] = "0000:0000:0000:0000:0000:ffff:";
    char type[HAUL_DOCTOR_TEXT], gid[HAUL_DOCTOR_TEXT];
    return haul_doctor_line(doctor, type, INFINIBAND "/%s/ports/%s/gid_attrs/types/%s",
                            port->device, port->number, index) &&
           !strcmp(type, "RoCE v2") &&
           haul_doctor_line(doctor, gid, INFINIBAND "/%s/ports/%s/gids/%s", port->device,
                            port->number, index) &&
           !strncmp(gid, mapped, sizeof mapped - 1);
}

static bool has_good_gid(const struct haul_doctor *doctor, const struct port *port)
{
    struct haul_doctor_names gids =
        haul_doctor_names(doctor, INFINIBAND "/%s/ports/%s/gids", port->device, port->number);
    bool good = false;
    for (int i = 0; i < gids.count && !good; i++)
        good = gid_is_good(doctor, port, gids.entries[i]->d_name);
    haul_doctor_names_free(&gids);
    return good;
}

static void check_gids(struct haul_doctor *doctor, const struct port *port)
{
    char advice[ADVICE_BYTES];
    const char *chosen = getenv("FI_VERBS_GID_IDX");
    if (!has_good_gid(doctor, port)) {
        snprintf(advice, sizeof advice,
                 "give %s an IPv4 address (ip address add ADDRESS/BITS dev %s); if it has one, "
                 "switch RoCE v2 on in the driver or the NIC's firmware",
                 port->interface, port->interface);
        haul_doctor_find(doctor, HAUL_FINDING_WARNING, "rdma", advice,
                         "%s port %s has no GID of RoCE v2 with an IPv4 address: connections by "
                         "IPv4 cannot use it",
                         port->device, port->number);
    } else if (chosen && *chosen && !gid_is_good(doctor, port, chosen)) {
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "rdma",
                         "unset FI_VERBS_GID_IDX: the GID is found by the address",
                         "FI_VERBS_GID_IDX=%s is no GID of RoCE v2 with an IPv4 address on %s "
                         "port %s",
                         chosen, port->device, port->number);
    }
}

/* ---- RDMA ----------------------------------------------------------------------------------- */

static void count_active(struct haul_doctor *doctor, const struct port *port, void *arg)
{
    (void)doctor;
    *(unsigned *)arg += port->active;
}

static void report_down(struct haul_doctor *doctor, const struct port *port, bool another)
{
    char advice[ADVICE_BYTES];
    if (port->ethernet)
        snprintf(advice, sizeof advice,
                 "bring its interface up (ip link set %s up); if it is, look at the cable and the "
                 "switch",
                 port->interface);
    else if (!strcmp(port->state, "INIT") || !strcmp(port->state, "ARMED"))
        strcpy(advice, "the link is there, but no subnet manager configures it: start opensm on "
                       "one machine of the fabric, or ask its administrator");
    else
        strcpy(advice, "look at the cable and the switch (ibstat shows the port)");
    haul_doctor_find(doctor, another ? HAUL_FINDING_NOTE : HAUL_FINDING_WARNING, "rdma", advice,
                     "%s port %s is not active: %s (%s)", port->device, port->number, port->state,
                     port->physical);
}

static void check_port(struct haul_doctor *doctor, const struct port *port, void *arg)
{
    const unsigned *active = arg;
    if (!port->active) {
        report_down(doctor, port, *active > 0);
        return;
    }
    haul_doctor_find(doctor, HAUL_FINDING_OK, "rdma", NULL, "%s port %s is active: %s, %s",
                     port->device, port->number, port->ethernet ? "Ethernet" : "InfiniBand",
                     port->rate);
    if (port->ethernet)
        check_gids(doctor, port);
}

/* Programs reach devices through files that a container may not have. */
static void check_device_files(struct haul_doctor *doctor)
{
    struct haul_doctor_names verbs = haul_doctor_names(doctor, "/sys/class/infiniband_verbs");
    bool any = false,
         reachable = haul_doctor_access(doctor, R_OK | W_OK, "/dev/infiniband/rdma_cm");
    for (int i = 0; i < verbs.count; i++) {
        const char *name = verbs.entries[i]->d_name;
        if (strncmp(name, "uverbs", 6) != 0)
            continue;
        any = true;
        reachable &= haul_doctor_access(doctor, R_OK | W_OK, "/dev/infiniband/%s", name);
    }
    haul_doctor_names_free(&verbs);
    if (!any || !reachable)
        haul_doctor_find(
            doctor, HAUL_FINDING_WARNING, "rdma",
            "load the modules (modprobe -a ib_uverbs rdma_ucm), give the user access "
            "to /dev/infiniband, and containers the devices (--device=/dev/infiniband)",
            "there are RDMA devices, but their files /dev/infiniband/uverbs* and "
            "rdma_cm %s",
            any ? "are not all there for this user" : "are missing");
}

bool haul_doctor_has_rdma(const struct haul_doctor *doctor)
{
    struct haul_doctor_names devices = haul_doctor_names(doctor, INFINIBAND);
    haul_doctor_names_free(&devices);
    return devices.count > 0;
}

void haul_doctor_rdma(struct haul_doctor *doctor)
{
    unsigned active = 0;
    if (!haul_doctor_has_rdma(doctor)) {
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "rdma",
                         "nothing, if this machine has no RDMA NIC; else load its driver (`rdma "
                         "link` lists devices), or let the container see the host's",
                         "no RDMA device (" INFINIBAND " is empty)");
        return;
    }
    each_port(doctor, count_active, &active);
    each_port(doctor, check_port, &active);
    check_device_files(doctor);
}

/* ---- Interfaces ----------------------------------------------------------------------------- */

static void check_nic_setting(struct haul_doctor *doctor)
{
    char nics[HAUL_DOCTOR_TEXT], *rest;
    haul_doctor_setting(doctor, "nic", nics);
    for (char *nic = strtok_r(nics, ",", &rest); nic; nic = strtok_r(NULL, ",", &rest))
        if (!haul_doctor_access(doctor, F_OK, "/sys/class/net/%s", nic) &&
            !haul_doctor_access(doctor, F_OK, INFINIBAND "/%s", nic))
            haul_doctor_find(
                doctor, HAUL_FINDING_BROKEN, "interface",
                "set HAUL_NIC to one of `ls /sys/class/net /sys/class/infiniband`, or "
                "unset it",
                "HAUL_NIC: %s is neither an interface nor an RDMA device of this machine", nic);
}

static bool list_has(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || !at[length]))
            return true;
    return false;
}

static void check_interface(struct haul_doctor *doctor, const char *name, const char *nics)
{
    char state[HAUL_DOCTOR_TEXT], speed[HAUL_DOCTOR_TEXT], advice[ADVICE_BYTES];
    if (!haul_doctor_line(doctor, state, "/sys/class/net/%s/operstate", name))
        return; /* no interface: a file beside them */
    bool chosen = list_has(nics, name);
    if (!strcmp(state, "up") || !strcmp(state, "unknown")) { /* (some drivers never tell) */
        int mbit =
            haul_doctor_line(doctor, speed, "/sys/class/net/%s/speed", name) ? atoi(speed) : -1;
        if (mbit > 0)
            haul_doctor_find(doctor, HAUL_FINDING_OK, "interface", NULL, "%s is up, %g Gbit/s",
                             name, mbit / 1e3);
        else
            haul_doctor_find(doctor, HAUL_FINDING_OK, "interface", NULL, "%s is up", name);
    } else if (chosen || haul_doctor_access(doctor, F_OK, "/sys/class/net/%s/device", name)) {
        /* (Of virtual ones many are down for good.) */
        snprintf(
            advice, sizeof advice,
            "if it is to be used: ip link set %s up; if it is, look at the cable and the switch",
            name);
        haul_doctor_find(doctor, chosen ? HAUL_FINDING_BROKEN : HAUL_FINDING_NOTE, "interface",
                         advice, "%s is %s%s", name, state,
                         chosen ? ", and HAUL_NIC names it" : "");
    }
}

void haul_doctor_interfaces(struct haul_doctor *doctor)
{
    char nics[HAUL_DOCTOR_TEXT];
    struct haul_doctor_names names = haul_doctor_names(doctor, "/sys/class/net");
    haul_doctor_setting(doctor, "nic", nics);
    check_nic_setting(doctor);
    for (int i = 0; i < names.count; i++)
        if (strcmp(names.entries[i]->d_name, "lo") != 0)
            check_interface(doctor, names.entries[i]->d_name, nics);
    haul_doctor_names_free(&names);
}
