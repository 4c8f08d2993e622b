/* SPDX-License-Identifier: Apache-2.0
 * Which NIC is opened: the first in the list of what libfabric has, once it was put there.
 *
 * A setting may name it, or its address; else core chooses among all by where they are. Kinds over
 * sockets are open on all interfaces, unless a setting names one. */
#include "ofi.h"

#include <arpa/inet.h>
#include <stdio.h>
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

/* Over sockets the name decides what is listened on; of others all are listed, to choose from. */
static int list_nics(struct haul_ofi *ofi)
{
    char nic[NAME_BYTES] = "";
    if (ofi->over_sockets)
        snprintf(nic, sizeof nic, "%s", haul_ofi_setting(ofi, "nic"));
    nic[strcspn(nic, ",")] = '\0'; /* the first of a list */
    int err = haul_ofi_find(ofi->kind, nic, &ofi->info);
    return err ? fail_find(ofi, nic, err) : 0;
}

static void put_first(struct haul_ofi *ofi, struct fi_info *first)
{
    struct fi_info **at = &ofi->info;
    while (*at != first)
        at = &(*at)->next;
    *at = first->next;
    first->next = ofi->info;
    ofi->info = first;
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

static int put_advertised_first(struct haul_ofi *ofi, const char *advertised)
{
    for (struct fi_info *info = ofi->info; info; info = info->next) {
        if (!haul_ofi_has_address(info, advertised))
            continue;
        put_first(ofi, info);
        return 0;
    }
    return haul_ofi_host->fail(HAUL_PROVIDER,
                               "ofi:%s: no device has the address %s (HAUL_ADVERTISE)", ofi->kind,
                               advertised);
}

/* ---- By where they are ----------------------------------------------------------------------- */

struct nics {
    struct fi_info *infos[NICS_MAX];
    struct haul_candidate candidates[NICS_MAX];
    char names[NICS_MAX][NAME_BYTES], pci[NICS_MAX][PCI_BYTES];
    size_t count;
};

/* The device's name, as the system has it: domains are named after it, and some add what they do
 * ("rdmap0s6-rdm"). A user may mean either. */
static void name_nic(const struct fi_info *info, const char *wished, char name[static NAME_BYTES])
{
    static const char *const endings[] = {"-rdm", "-dgrm", "-xrc", "-dgram"};
    const struct fi_device_attr *device = info->nic ? info->nic->device_attr : NULL;
    const char *domain = info->domain_attr->name ? info->domain_attr->name : "";
    bool is_device = device && device->name && strcmp(domain, wished) != 0;
    snprintf(name, NAME_BYTES, "%s", is_device ? device->name : domain);
    if (is_device || !strcmp(domain, wished))
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
static void add_nic(struct nics *nics, struct fi_info *info, const char *wished)
{
    char name[NAME_BYTES];
    name_nic(info, wished, name);
    for (size_t i = 0; i < nics->count; i++)
        if (!strcmp(nics->names[i], name))
            return;
    if (!*name || nics->count == NICS_MAX)
        return;
    memcpy(nics->names[nics->count], name, sizeof name);
    format_pci(info, nics->pci[nics->count]);
    nics->candidates[nics->count] =
        (struct haul_candidate){.name = nics->names[nics->count], .pci = nics->pci[nics->count]};
    nics->infos[nics->count++] = info;
}

/* only_first: it is chosen already, and core is to know. */
static int put_chosen_first(struct haul_ofi *ofi, bool only_first)
{
    struct nics nics = {.count = 0};
    size_t chosen;
    for (struct fi_info *info = ofi->info; info && !(only_first && nics.count); info = info->next)
        add_nic(&nics, info, haul_ofi_setting(ofi, "nic"));
    if (nics.count == 0)
        return 0; /* none has a name: there is nothing to choose by */
    if (haul_ofi_host->choose_nics(ofi->engine, nics.candidates, nics.count, &chosen, 1) == 0)
        return HAUL_PROVIDER;
    put_first(ofi, nics.infos[chosen]);
    return 0;
}

int haul_ofi_find_nic(struct haul_ofi *ofi)
{
    const char *advertised = haul_ofi_setting(ofi, "advertise");
    int err = check_advertised(advertised);
    if (!err)
        err = list_nics(ofi);
    if (err)
        return err;
    if (haul_ofi_has_address(ofi->info, "0.0.0.0") || !strcmp(ofi->kind, "shm"))
        return 0; /* all of them, or none */
    bool by_address = *advertised && ofi->info->addr_format == FI_SOCKADDR_IN;
    if (by_address)
        err = put_advertised_first(ofi, advertised);
    return err ? err : put_chosen_first(ofi, by_address);
}
