/* SPDX-License-Identifier: Apache-2.0
 * What there is on this machine for `ofi`, for people: libfabric's version, and for each kind the
 * devices that libfabric would use, as it describes them. Nothing is opened, so a device that is
 * listed may still fail to open: the path itself shows that. */
#include "ofi.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { OLDEST_MINOR = 11 }; /* of libfabric 1: what this provider asks for is there from then on */

enum { TEXT_BYTES = 512 };

struct examination {
    void (*found)(const struct haul_finding *finding, void *arg);
    void *arg;
};

static void report(const struct examination *examination, enum haul_finding_state state,
                   const char *advice, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void report(const struct examination *examination, enum haul_finding_state state,
                   const char *advice, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const struct haul_finding finding = {.state = state, .found = text, .advice = advice};
    examination->found(&finding, examination->arg);
}

static void examine_version(const struct examination *examination)
{
    const uint32_t version = fi_version(), tested = haul_ofi_tested();
    const char *advice = NULL, *remark = "";
    enum haul_finding_state state = HAUL_FINDING_OK;
    if (version < FI_VERSION(1, OLDEST_MINOR)) {
        state = HAUL_FINDING_BROKEN;
        remark = ", which is too old";
        advice = "install libfabric 1.11 or newer, or use HAUL_PROVIDER=tcp";
    } else if (version > tested) {
        state = HAUL_FINDING_NOTE;
        remark = ", newer than what haul was tested with";
        advice = "if reads by ofi fail, say so to haul's authors; HAUL_PROVIDER=tcp does without";
    }
    report(examination, state, advice, "libfabric %u.%u%s (built with %u.%u, tested up to %u.%u)",
           FI_MAJOR(version), FI_MINOR(version), remark, FI_MAJOR_VERSION, FI_MINOR_VERSION,
           FI_MAJOR(tested), FI_MINOR(tested));
}

/* ---- Devices -------------------------------------------------------------------------------- */

/* Text that grows by parts, and is cut where its room ends. */
struct line {
    char text[TEXT_BYTES];
};

static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct line *line, const char *format, ...)
{
    size_t used = strlen(line->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line->text + used, sizeof line->text - used, format, arguments);
    va_end(arguments);
}

static void add_address(struct line *line, const struct fi_info *info)
{
    char text[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *ipv4 = info->src_addr;
    const struct sockaddr_in6 *ipv6 = info->src_addr;
    if (!info->src_addr)
        return;
    if (info->addr_format == FI_SOCKADDR_IN && ipv4->sin_addr.s_addr == INADDR_ANY)
        add(line, ", on all interfaces");
    else if (info->addr_format == FI_SOCKADDR_IN)
        inet_ntop(AF_INET, &ipv4->sin_addr, text, sizeof text);
    else if (info->addr_format == FI_SOCKADDR_IN6)
        inet_ntop(AF_INET6, &ipv6->sin6_addr, text, sizeof text);
    if (*text)
        add(line, ", address %s", text);
}

static void add_link(struct line *line, const struct fi_link_attr *link)
{
    const char *states[] = {
        [FI_LINK_UNKNOWN] = "unknown", [FI_LINK_DOWN] = "down", [FI_LINK_UP] = "up"};
    bool known = (unsigned)link->state < sizeof states / sizeof *states;
    add(line, ", link %s", known ? states[link->state] : "unknown");
    if (link->speed)
        add(line, ", %.3g Gbit/s", (double)link->speed / 1e9);
    if (link->network_type)
        add(line, ", %s", link->network_type);
}

static void report_device(const struct examination *examination, const char *kind,
                          const struct fi_info *info)
{
    const struct fid_nic *nic = info->nic;
    const struct fi_link_attr *link = nic ? nic->link_attr : NULL;
    bool down = link && link->state == FI_LINK_DOWN;
    const char *domain = info->domain_attr->name ? info->domain_attr->name : kind;
    const char *device = nic && nic->device_attr ? nic->device_attr->name : NULL;
    struct line line = {""};
    add(&line, "%s", kind);
    if (strcmp(domain, kind) != 0) /* (those without devices repeat the kind) */
        add(&line, ": %s", domain);
    if (device && strcmp(device, domain) != 0)
        add(&line, " (%s)", device);
    if (link)
        add_link(&line, link);
    add_address(&line, info);
    report(examination, down ? HAUL_FINDING_WARNING : HAUL_FINDING_OK,
           down ? "look at the cable, the switch and the port's state; HAUL_NIC chooses another "
                  "device"
                : NULL,
           "%s", line.text);
}

/* libfabric lists a device once for each of its addresses and protocols, and by layers that are not
 * those of the first, which is the one that is opened. */
static bool is_another(const struct fi_info *first, const struct fi_info *info)
{
    const char *name = info->domain_attr->name;
    if (strcmp(first->fabric_attr->prov_name, info->fabric_attr->prov_name) != 0)
        return false;
    for (; first != info; first = first->next)
        if (name && first->domain_attr->name && !strcmp(first->domain_attr->name, name))
            return false;
    return true;
}

/* Returns whether there is any. */
static bool examine_kind(const struct examination *examination, const struct haul_ofi_kind *kind)
{
    struct fi_info *found = NULL;
    if (haul_ofi_find(kind->name, "", &found))
        return false;
    if (!haul_ofi_is_sound(kind)) {
        struct line advice = {""};
        add(&advice, "nothing, if you do not need it; else use %s", haul_ofi_instead());
        report(examination, HAUL_FINDING_NOTE, advice.text,
               "%s is not used: it crashes when a peer falls silent, and is sound from libfabric "
               "%u.%u on",
               kind->name, FI_MAJOR(kind->sound_since), FI_MINOR(kind->sound_since));
        fi_freeinfo(found);
        return false;
    }
    for (const struct fi_info *info = found; info; info = info->next)
        if (is_another(found, info))
            report_device(examination, kind->name, info);
    fi_freeinfo(found);
    return true;
}

void haul_ofi_examine(void (*found)(const struct haul_finding *finding, void *arg), void *arg)
{
    const struct examination examination = {found, arg};
    const struct haul_ofi_kind *kind;
    bool any_fast = false;
    struct line missing = {""};
    examine_version(&examination);
    for (size_t i = 0; (kind = haul_ofi_kind_at(i)); i++) {
        bool there = examine_kind(&examination, kind);
        any_fast |= there && kind->fast;
        if (!there && kind->fast)
            add(&missing, "%s%s", *missing.text ? ", " : "", kind->name);
    }
    if (!any_fast)
        report(&examination, HAUL_FINDING_NOTE,
               "nothing, if this machine has no NIC of a fabric; else `fi_info -l` must list its "
               "kind: install its driver, and a libfabric that was built for it",
               "libfabric finds no device of a fabric (%s): arrays go over the channel",
               missing.text);
}
