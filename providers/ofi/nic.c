/* SPDX-License-Identifier: Apache-2.0
 * Which NICs are opened, of the list of what libfabric has.
 *
 * Settings may name them, or the address of one; else core chooses among all by where they are.
 * Kinds over sockets are open on all interfaces, unless a setting names some, and as often as
 * HAUL_RAILS says: there a rail is a connection of its own. */
#include "ofi.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NICS_MAX = 64, PCI_BYTES = 16, NAME_BYTES = 64 };

/* ---- What there is --------------------------------------------------------------------------- */

static int fail_find(const struct haul_ofi *ofi, const char *nic, int err)
{
    return haul_ofi_host->fail(
        HAUL_PROVIDER, "libfabric has no provider \"%s\" with RMA%s%s here: %s%s", ofi->kind,
        *nic ? " on " : "", nic, haul_ofi_error(err),
        strcmp(ofi->kind, "shm") != 0 ? ""
                                      : " (shm needs two times 16 MiB in /dev/shm for each "
                                        "process: is it mounted, and has it room?)");
}

/* Takes the next name off a list like "a,b". False after the last. */
static bool next_name(const char **list, char name[static NAME_BYTES])
{
    size_t length = strcspn(*list, ",");
    snprintf(name, NAME_BYTES, "%.*s", (int)length, *list);
    *list += length;
    *list += **list == ',';
    return length > 0;
}

static bool is_in_list(const char *list, const char *wanted)
{
    char name[NAME_BYTES];
    while (next_name(&list, name))
        if (!strcmp(name, wanted))
            return true;
    return false;
}

/* Adds what libfabric has on a NIC ("": on any). */
static int list_nic(struct haul_ofi *ofi, const char *nic)
{
    struct fi_info **end = &ofi->found;
    while (*end)
        end = &(*end)->next;
    int err = haul_ofi_find(ofi->kind, nic, end);
    return err ? fail_find(ofi, nic, err) : 0;
}

/* Over sockets names decide what is listened on; of others all are listed, to choose from. */
static int list_nics(struct haul_ofi *ofi)
{
    const char *names = ofi->over_sockets ? haul_ofi_setting(ofi, "nic") : "";
    char name[NAME_BYTES];
    int err = *names ? 0 : list_nic(ofi, "");
    while (!err && next_name(&names, name))
        err = list_nic(ofi, name);
    return err;
}

/* ---- By address ------------------------------------------------------------------------------ */

static int check_advertised(const char *advertised)
{
    struct in_addr address = {.s_addr = 0};
    if (!*advertised ||
        (inet_pton(AF_INET, advertised, &address) == 1 && address.s_addr != INADDR_ANY))
        return 0;
    return haul_ofi_host->fail(HAUL_CONFIG,
                               "HAUL_ADVERTISE is \"%.40s\": it takes an IPv4 address of this "
                               "host, like 192.0.2.7",
                               advertised);
}

static struct fi_info *find_address(const struct haul_ofi *ofi, const char *address)
{
    struct fi_info *info = ofi->found;
    while (info && !haul_ofi_has_address(info, address))
        info = info->next;
    return info;
}

/* ---- By where they are ----------------------------------------------------------------------- */

/* Those that can be chosen. */
struct nics {
    struct fi_info *infos[NICS_MAX];
    struct haul_candidate candidates[NICS_MAX];
    char names[NICS_MAX][NAME_BYTES], pci[NICS_MAX][PCI_BYTES];
    size_t count;
    bool repeat;
};

/* The device's name, as the system has it: domains are named after it, and some add what they do
 * ("rdmap0s6-rdm"). A user may wish for either. */
static void name_nic(const struct fi_info *info, const char *wishes, char name[static NAME_BYTES])
{
    static const char *const endings[] = {"-rdm", "-dgrm", "-xrc", "-dgram"};
    const struct fi_device_attr *device = info->nic ? info->nic->device_attr : NULL;
    const char *domain = info->domain_attr->name ? info->domain_attr->name : "";
    bool is_wished = is_in_list(wishes, domain);
    bool is_device = device && device->name && !is_wished;
    snprintf(name, NAME_BYTES, "%s", is_device ? device->name : domain);
    if (is_device || is_wished)
        return;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char *end = strrchr(name, '-');
        if (end && !strcmp(end, endings[i]))
            *end = '\0';
    }
}

static void format_pci(const struct fi_info *info, char text[static PCI_BYTES])
{
    const struct fi_bus_attr *bus = info->nic ? info->nic->bus_attr : NULL;
    text[0] = '\0';
    if (bus && bus->bus_type == FI_BUS_PCI)
        snprintf(text, PCI_BYTES, "%04x:%02x:%02x.%01x", bus->attr.pci.domain_id,
                 bus->attr.pci.bus_id, bus->attr.pci.device_id, bus->attr.pci.function_id & 0xfu);
}

/* libfabric may have several entries of one; the first is its best. */
static void add_nic(struct nics *nics, struct fi_info *info, const char *wishes)
{
    char name[NAME_BYTES];
    name_nic(info, wishes, name);
    for (size_t i = 0; i < nics->count; i++)
        if (!strcmp(nics->names[i], name))
            return;
    if (!*name || nics->count == NICS_MAX)
        return;
    memcpy(nics->names[nics->count], name, sizeof name);
    format_pci(info, nics->pci[nics->count]);
    nics->candidates[nics->count] = (struct haul_candidate){
        .name = nics->names[nics->count], .pci = nics->pci[nics->count], .repeats = nics->repeat};
    nics->infos[nics->count++] = info;
}

/* Those that core chooses, or (only) the one that has the address of a setting. */
static int choose(struct haul_ofi *ofi, struct fi_info *only, struct haul_ofi_nics *result)
{
    struct nics nics = {.repeat = ofi->over_sockets};
    const char *wishes = haul_ofi_setting(ofi, "nic");
    size_t chosen[HAUL_OFI_RAILS_MAX];
    for (struct fi_info *info = ofi->found; info && !only; info = info->next)
        add_nic(&nics, info, wishes);
    if (only)
        add_nic(&nics, only, wishes);
    if (nics.count == 0) { /* none has a name: there is nothing to choose by */
        result->infos[result->count++] = only ? only : ofi->found;
        return 0;
    }
    if (only && *wishes && !is_in_list(wishes, nics.names[0]))
        return haul_ofi_host->fail(HAUL_PROVIDER,
                                   "ofi:%s: HAUL_ADVERTISE is the address of %s, but HAUL_NIC is "
                                   "\"%.100s\": unset one of them",
                                   ofi->kind, nics.names[0], wishes);
    result->count = haul_ofi_host->choose_nics(ofi->engine, nics.candidates, nics.count, chosen,
                                               only ? 1 : HAUL_OFI_RAILS_MAX);
    for (size_t i = 0; i < result->count; i++) {
        result->infos[i] = nics.infos[chosen[i]];
        result->numbers[i] = i;
    }
    return result->count > 0 ? 0 : HAUL_PROVIDER;
}

/* ---- Over sockets ---------------------------------------------------------------------------- */

/* As many connections as are wished, over the NICs in turn. */
static void repeat(const struct haul_ofi *ofi, struct haul_ofi_nics *nics)
{
    size_t wished = (size_t)strtoul(haul_ofi_setting(ofi, "rails"), NULL, 10); /* "auto": 0 */
    for (size_t given = nics->count; nics->count < wished; nics->count++) {
        nics->infos[nics->count] = nics->infos[nics->count - given];
        nics->numbers[nics->count] = nics->numbers[nics->count - given];
    }
}

/* ---- All together ---------------------------------------------------------------------------- */

/* There is nothing to choose: what listens on all interfaces, or on none. */
static bool is_everywhere(const struct haul_ofi *ofi)
{
    return haul_ofi_has_address(ofi->found, "0.0.0.0") || !strcmp(ofi->kind, "shm");
}

int haul_ofi_find_nics(struct haul_ofi *ofi, struct haul_ofi_nics *nics)
{
    const char *advertised = haul_ofi_setting(ofi, "advertise");
    struct fi_info *only = NULL;
    int err = check_advertised(advertised);
    if (!err)
        err = list_nics(ofi);
    if (err)
        return err;
    if (is_everywhere(ofi)) {
        nics->infos[nics->count++] = ofi->found;
    } else {
        if (*advertised && ofi->found->addr_format == FI_SOCKADDR_IN) {
            only = find_address(ofi, advertised);
            if (!only)
                return haul_ofi_host->fail(HAUL_PROVIDER,
                                           "ofi:%s: no device has the address %s (HAUL_ADVERTISE)",
                                           ofi->kind, advertised);
        }
        err = choose(ofi, only, nics);
    }
    if (!err && ofi->over_sockets)
        repeat(ofi, nics);
    return err;
}
