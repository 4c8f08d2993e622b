/* SPDX-License-Identifier: Apache-2.0
 * The provider `ofi`: arrays are read out of their sender's memory with libfabric's RMA.
 *
 * This file: the descriptor, and which of libfabric's providers are used. A kind is the name of one
 * of them without what libfabric layers on it ("verbs" for "verbs;ofi_rxm"). Automatic mode takes
 * kinds only that are faster than sockets. Others can be named, but for those that are known not to
 * do. */
#include "ofi.h"

#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct haul_host *haul_ofi_host;

/* The newest API that this file was tested with. */
enum { TESTED_MAJOR = 2, TESTED_MINOR = 6 };

/* Best first. What is not fast is for tests, and by name. */
static const struct haul_ofi_kind preferences[] = {
    {.name = "cxi", .fast = true},
    {.name = "efa", .fast = true},
    {.name = "verbs", .fast = true},
    {.name = "psm3", .fast = true},
    {.name = "opx", .fast = true},
    {.name = "net", .over_sockets = true},
    /* Before, closing an endpoint in the middle of a read ends that read twice, and rxm follows the
     * pointer to nothing: a silent peer could kill us. */
    {.name = "tcp", .over_sockets = true, .sound_since = FI_VERSION(1, 18)},
    {.name = "shm", .by_name_only = true},
};
/* Layers of others; reliability in software, which is slow; old; no RMA, or none that works. */
static const char *const unsuited[] = {"rxm", "rxd", "udp", "sockets", "mrail", "lnx"};

enum { PREFERENCES = sizeof preferences / sizeof *preferences };

static const struct haul_provider_field fields[] = {
    {"advertise", "",
     "IPv4 address that peers read from with ofi:tcp, ofi:net and ofi:verbs; empty: that of the "
     "connection."},
    {"ofi_auto", "",
     "Kinds of ofi that `auto` may use besides those of fabrics (\"net,tcp\"), for peers that "
     "insist."},
    {NULL, NULL, NULL},
};

const char *haul_ofi_error(int error)
{
    return fi_strerror(error < 0 ? -error : error);
}

uint32_t haul_ofi_tested(void)
{
    return FI_VERSION(TESTED_MAJOR, TESTED_MINOR);
}

const char *haul_ofi_setting(const struct haul_ofi *ofi, const char *name)
{
    const char *text = haul_ofi_host->setting(ofi->engine, name);
    return text ? text : "";
}

const struct haul_ofi_kind *haul_ofi_kind_at(size_t index)
{
    return index < PREFERENCES ? &preferences[index] : NULL;
}

const struct haul_ofi_kind *haul_ofi_kind_named(const char *name)
{
    static const struct haul_ofi_kind other = {.name = ""};
    for (size_t i = 0; i < PREFERENCES; i++)
        if (!strcmp(preferences[i].name, name))
            return &preferences[i];
    return &other;
}

bool haul_ofi_is_unsuited(const char *name)
{
    for (size_t i = 0; i < sizeof unsuited / sizeof *unsuited; i++)
        if (!strcmp(unsuited[i], name) ||
            (!strncmp(name, "ofi_", 4) && !strcmp(unsuited[i], name + 4)))
            return true;
    return false;
}

bool haul_ofi_is_sound(const struct haul_ofi_kind *kind)
{
    return fi_version() >= kind->sound_since;
}

const char *haul_ofi_instead(void)
{
    /* (net was there while tcp was made anew.) */
    bool has_net = fi_version() >= FI_VERSION(1, 16) && fi_version() < FI_VERSION(1, 18);
    return has_net ? "ofi:net, or tcp alone" : "tcp alone";
}

/* ---- What libfabric has --------------------------------------------------------------------- */

uint32_t haul_ofi_api(void)
{
    uint32_t api = haul_ofi_tested();
    const uint32_t headers = FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION);
    if (headers < api)
        api = headers;
    return fi_version() < api ? fi_version() : api;
}

static void set_hints(struct fi_info *hints, uint64_t caps, enum fi_threading threading)
{
    hints->caps = caps;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode =
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
    hints->domain_attr->threading = threading;
    hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->av_type = FI_AV_TABLE;
}

int haul_ofi_find(const char *kind, const char *nic, struct fi_info **found)
{
    static const struct {
        uint64_t caps;
        enum fi_threading threading;
    } tries[] = {
        {FI_RMA | FI_READ | FI_REMOTE_READ, FI_THREAD_DOMAIN},
        {FI_RMA | FI_READ | FI_REMOTE_READ, FI_THREAD_SAFE},
        {FI_MSG | FI_RMA | FI_READ | FI_REMOTE_READ, FI_THREAD_SAFE},
    };
    /* Over sockets one endpoint listens on all interfaces: each peer gets the address that its own
     * connection came to. */
    bool everywhere = haul_ofi_kind_named(kind)->over_sockets && !*nic;
    int err = -FI_ENODATA;
    for (size_t i = 0; i < sizeof tries / sizeof *tries && err; i++) {
        struct fi_info *hints = fi_allocinfo();
        if (!hints)
            return -FI_ENOMEM;
        set_hints(hints, tries[i].caps, tries[i].threading);
        hints->fabric_attr->prov_name = strdup(kind);
        if (*nic)
            hints->domain_attr->name = strdup(nic);
        err = fi_getinfo(haul_ofi_api(), everywhere ? "0.0.0.0" : NULL, NULL,
                         everywhere ? FI_SOURCE : 0, hints, found);
        fi_freeinfo(hints);
    }
    return err;
}

/* Which of the preferences there are, found once: libfabric looks at all devices for it. Each is
 * asked for by name, because they need different hints. */
static bool available[PREFERENCES];
static pthread_once_t looked = PTHREAD_ONCE_INIT;

static void look(void)
{
    for (size_t i = 0; i < PREFERENCES; i++) {
        struct fi_info *found = NULL;
        available[i] = haul_ofi_is_sound(&preferences[i]) &&
                       haul_ofi_find(preferences[i].name, "", &found) == 0;
        fi_freeinfo(found);
    }
}

/* Without a device of a fabric there is no fast kind, and libfabric, which takes long to find that
 * out, need not be asked. */
static bool fabric_devices_exist(void)
{
    static const char *const patterns[] = {"/sys/class/infiniband/*", "/sys/class/cxi/*",
                                           "/dev/hfi1*"};
    bool found = false;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && !found; i++) {
        glob_t paths;
        found = glob(patterns[i], GLOB_NOSORT, NULL, &paths) == 0;
        if (found)
            globfree(&paths);
    }
    return found;
}

/* The kinds that are named in a list like "net,tcp", a bit each. Errors: HAUL_CONFIG. */
static int parse_kinds(const char *list, unsigned *kinds)
{
    *kinds = 0;
    while (*list) {
        size_t i = 0, length = strcspn(list, ",");
        while (i < PREFERENCES && (strlen(preferences[i].name) != length ||
                                   strncmp(preferences[i].name, list, length) != 0))
            i++;
        if (i == PREFERENCES)
            return haul_ofi_host->fail(HAUL_CONFIG,
                                       "HAUL_OFI_AUTO names \"%.*s\", which is no kind of ofi: it "
                                       "takes a list like \"net,tcp\" (`haul doctor` shows those "
                                       "that are here)",
                                       (int)length, list);
        *kinds |= 1u << i;
        list += length + (list[length] == ',');
    }
    return 0;
}

static int kind_at(struct haul_engine *engine, unsigned index, bool automatic,
                   char kind[HAUL_RMA_KIND_MAX])
{
    unsigned more;
    int err = parse_kinds(haul_ofi_host->setting(engine, "ofi_auto"), &more);
    if (err)
        return err;
    if (automatic && !more && !fabric_devices_exist())
        return HAUL_UNSUPPORTED;
    pthread_once(&looked, look);
    for (size_t i = 0; i < PREFERENCES; i++) {
        bool wanted =
            automatic ? preferences[i].fast || more & 1u << i : !preferences[i].by_name_only;
        if (!available[i] || !wanted || index-- > 0)
            continue;
        snprintf(kind, HAUL_RMA_KIND_MAX, "%s", preferences[i].name);
        return 0;
    }
    return HAUL_UNSUPPORTED;
}

/* ---- The descriptor ------------------------------------------------------------------------- */

static const struct haul_rma_ops rma_ops = {
    .kind = kind_at,
    .open = haul_ofi_open,
    .stop = haul_ofi_workers_stop,
    .close = haul_ofi_close,
    .address = haul_ofi_describe,
    .attach = haul_ofi_attach,
    .detach = haul_ofi_detach,
    .reg = haul_ofi_reg,
    .dereg = haul_ofi_dereg,
    .offer = haul_ofi_offer,
    .read = haul_ofi_read,
    .fence = haul_ofi_fence,
    .progress = haul_ofi_progress,
    .deadline_ns = haul_ofi_deadline_ns,
    .rails = haul_ofi_rails,
};

HAUL_API haul_provider_entry_fn haul_provider_entry;
HAUL_API const struct haul_provider *haul_provider_entry(const struct haul_host *host)
{
    static char description[64];
    static const struct haul_provider provider = {
        .abi = HAUL_PROVIDER_ABI,
        .size = sizeof(struct haul_provider),
        .name = "ofi",
        .description = description,
        .rma = &rma_ops,
        .fields = fields,
        .examine = haul_ofi_examine,
    };
    haul_ofi_host = host;
    snprintf(description, sizeof description, "libfabric %u.%u: reads by the NIC",
             FI_MAJOR(fi_version()), FI_MINOR(fi_version()));
    return &provider;
}
