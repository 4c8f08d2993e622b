/* SPDX-License-Identifier: Apache-2.0
 * Opening one of libfabric's providers: fabric, domain, and two endpoints, each with its addresses
 * and its queue.
 *
 * A reader of its own. Endpoints of one domain share what their provider keeps. net (of 1.16 and
 * 1.17) breaks it when an endpoint is closed in the middle of a read: it frees that read twice, and
 * later reads are mixed up. So over sockets the reader has a domain of its own, which is closed
 * with it. Where memory that reads land in must be registered there can be no two.
 *
 * Waiting. libfabric arms a queue's descriptor when it is asked whether one may sleep. A queue has
 * a descriptor in the event loop where the provider can make one. It is watched for edges:
 * progress() empties the queue in every pass, and some providers leave the descriptor readable for
 * ever (net of 1.17). Where there is none the queue is polled, see read.c.
 */
#include "ofi.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { NICS_MAX = 64, PCI_BYTES = 16 };

static void ready(void *arg, uint32_t events)
{
    (void)arg; /* progress() runs in every pass */
    (void)events;
}

/* ---- Sides ---------------------------------------------------------------------------------- */

static void close_side(struct haul_ofi *ofi, struct haul_ofi_side *side)
{
    if (side->endpoint)
        fi_close(&side->endpoint->fid);
    if (side->watch)
        haul_ofi_host->unwatch(side->watch);
    if (side->queue)
        fi_close(&side->queue->fid);
    if (side->addresses)
        fi_close(&side->addresses->fid);
    if (side->domain && side->domain != ofi->domain)
        fi_close(&side->domain->fid);
    *side = (struct haul_ofi_side){.fd = -1};
}

static int open_domain(struct haul_ofi *ofi, struct haul_ofi_side *side)
{
    struct fid_domain *domain = ofi->domain;
    bool own = side == &ofi->reader && ofi->over_sockets;
    int err = own ? fi_domain(ofi->fabric, ofi->info, &domain, NULL) : 0;
    side->domain = err ? NULL : domain;
    return err;
}

static int open_queue(struct haul_ofi_side *side)
{
    struct fi_cq_attr attr = {.format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_FD};
    int err = fi_cq_open(side->domain, &attr, &side->queue, NULL);
    if (!err && fi_control(&side->queue->fid, FI_GETWAIT, &side->fd) == 0 && side->fd >= 0)
        return 0;
    side->fd = -1;
    if (!err)
        return 0; /* it will be polled */
    attr.wait_obj = FI_WAIT_NONE;
    return fi_cq_open(side->domain, &attr, &side->queue, NULL);
}

static int open_endpoint(struct haul_ofi *ofi, struct haul_ofi_side *side)
{
    struct fi_av_attr attr = {.type = FI_AV_TABLE};
    int err = fi_endpoint(side->domain, ofi->info, &side->endpoint, NULL);
    if (!err)
        err = fi_av_open(side->domain, &attr, &side->addresses, NULL);
    if (!err)
        err = fi_ep_bind(side->endpoint, &side->addresses->fid, 0);
    if (!err)
        err = fi_ep_bind(side->endpoint, &side->queue->fid, FI_TRANSMIT | FI_RECV);
    return err ? err : fi_enable(side->endpoint);
}

/* Returns libfabric's error; then nothing is open. */
static int open_side(struct haul_ofi *ofi, struct haul_ofi_side *side)
{
    int err = open_domain(ofi, side);
    if (!err)
        err = open_queue(side);
    if (!err)
        err = open_endpoint(ofi, side);
    if (!err && side->fd >= 0 &&
        haul_ofi_host->watch(ofi->engine, side->fd, EPOLLIN | EPOLLET, ready, NULL, &side->watch))
        err = -FI_ENOMEM;
    if (err)
        close_side(ofi, side);
    return err;
}

int haul_ofi_renew_reader(struct haul_ofi *ofi)
{
    int err = ofi->reader.endpoint ? fi_close(&ofi->reader.endpoint->fid) : 0;
    if (err) /* its reads may go on */
        return haul_ofi_host->fail(HAUL_BUSY, "ofi:%s: an endpoint could not be closed: %s",
                                   ofi->kind, haul_ofi_error(err));
    ofi->reader.endpoint = NULL;
    close_side(ofi, &ofi->reader);
    err = open_side(ofi, &ofi->reader);
    haul_ofi_insert_known(ofi);
    return err ? haul_ofi_host->fail(HAUL_SYSTEM, "ofi:%s: no new endpoint: %s", ofi->kind,
                                     haul_ofi_error(err))
               : 0;
}

bool haul_ofi_may_sleep(struct haul_ofi *ofi)
{
    struct fid *queues[] = {&ofi->exporter.queue->fid, &ofi->reader.queue->fid};
    size_t count = ofi->reader.queue ? 2 : 1;
    if (ofi->exporter.fd < 0 || (count == 2 && ofi->reader.fd < 0))
        return true; /* polled */
    return fi_trywait(ofi->fabric, queues, (int)count) != -FI_EAGAIN;
}

/* ---- The instance --------------------------------------------------------------------------- */

/* What is opened is the first in the list. */
static void put_first(struct haul_ofi *ofi, struct fi_info *first)
{
    struct fi_info **at = &ofi->info;
    while (*at != first)
        at = &(*at)->next;
    *at = first->next;
    first->next = ofi->info;
    ofi->info = first;
}

/* False: no NIC has the address HAUL_ADVERTISE. */
static bool put_advertised_first(struct haul_ofi *ofi, const char *advertised)
{
    for (struct fi_info *info = ofi->info; info; info = info->next) {
        if (!haul_ofi_has_address(info, advertised))
            continue;
        put_first(ofi, info);
        return true;
    }
    return false;
}

static void format_pci(const struct fi_info *info, char text[static PCI_BYTES])
{
    const struct fi_bus_attr *bus = info->nic ? info->nic->bus_attr : NULL;
    text[0] = '\0';
    if (bus && bus->bus_type == FI_BUS_PCI)
        snprintf(text, PCI_BYTES, "%04x:%02x:%02x.%01x", bus->attr.pci.domain_id,
                 bus->attr.pci.bus_id, bus->attr.pci.device_id, bus->attr.pci.function_id & 0xf);
}

/* Core chooses among the NICs; libfabric may have several entries of one, and the first is its
 * best. only_first: it is chosen already. Errors: HAUL_CONFIG. */
static int put_chosen_first(struct haul_ofi *ofi, bool only_first)
{
    struct haul_candidate candidates[NICS_MAX];
    struct fi_info *infos[NICS_MAX];
    char pci[NICS_MAX][PCI_BYTES];
    size_t count = 0, chosen;
    for (struct fi_info *info = ofi->info; info && count < (only_first ? 1 : NICS_MAX);
         info = info->next) {
        const char *name = info->domain_attr->name;
        bool known = !name;
        for (size_t i = 0; i < count && !known; i++)
            known = !strcmp(candidates[i].name, name);
        if (known)
            continue;
        format_pci(info, pci[count]);
        infos[count] = info;
        candidates[count] = (struct haul_candidate){.name = name, .pci = pci[count]};
        count++;
    }
    if (haul_ofi_host->choose_nics(ofi->engine, candidates, count, &chosen, 1) == 0)
        return HAUL_CONFIG;
    put_first(ofi, infos[chosen]);
    return 0;
}

static int find(struct haul_ofi *ofi)
{
    const char *advertised = haul_ofi_setting(ofi, "advertise");
    const struct haul_ofi_kind *kind = haul_ofi_kind_named(ofi->kind);
    ofi->over_sockets = kind->over_sockets;
    if (haul_ofi_is_unsuited(ofi->kind))
        return haul_ofi_host->fail(HAUL_PROVIDER,
                                   "ofi:%s is not used: it is a layer of other providers, slow, or "
                                   "without reads that work",
                                   ofi->kind);
    if (!haul_ofi_is_sound(kind))
        return haul_ofi_host->fail(HAUL_PROVIDER,
                                   "ofi:%s of libfabric %u.%u crashes when a peer falls silent; it "
                                   "is usable from %u.%u on: use %s",
                                   ofi->kind, FI_MAJOR(fi_version()), FI_MINOR(fi_version()),
                                   FI_MAJOR(kind->sound_since), FI_MINOR(kind->sound_since),
                                   haul_ofi_instead());
    struct in_addr address = {.s_addr = 0};
    if (*advertised &&
        (inet_pton(AF_INET, advertised, &address) != 1 || address.s_addr == INADDR_ANY))
        return haul_ofi_host->fail(HAUL_CONFIG,
                                   "HAUL_ADVERTISE is \"%.40s\": it takes an IPv4 address of this "
                                   "host, like 192.0.2.7",
                                   advertised);
    char nic[HAUL_HOST_MAX];
    snprintf(nic, sizeof nic, "%s", haul_ofi_setting(ofi, "nic"));
    nic[strcspn(nic, ",")] = '\0'; /* the first of a list */
    int err = haul_ofi_find(ofi->kind, nic, &ofi->info);
    if (err)
        return haul_ofi_host->fail(
            HAUL_PROVIDER, "libfabric has no provider \"%s\" with RMA%s%s here: %s%s", ofi->kind,
            *nic ? " on " : "", nic, haul_ofi_error(err),
            strcmp(ofi->kind, "shm") != 0 ? ""
                                          : " (shm needs two times 16 MiB in /dev/shm for each "
                                            "process: is it mounted, and has it room?)");
    bool anywhere = haul_ofi_has_address(ofi->info, "0.0.0.0");
    if (*advertised && ofi->info->addr_format == FI_SOCKADDR_IN && !anywhere &&
        !put_advertised_first(ofi, advertised))
        return haul_ofi_host->fail(HAUL_PROVIDER,
                                   "ofi:%s: no device has the address %s (HAUL_ADVERTISE)",
                                   ofi->kind, advertised);
    bool no_nic = anywhere || !strcmp(ofi->kind, "shm");
    return no_nic ? 0 : put_chosen_first(ofi, *advertised);
}

static int open_all(struct haul_ofi *ofi)
{
    const char *what = "fabric";
    int err = fi_fabric(ofi->info->fabric_attr, &ofi->fabric, NULL);
    if (!err) {
        what = "domain";
        err = fi_domain(ofi->fabric, ofi->info, &ofi->domain, NULL);
    }
    if (!err) {
        what = "endpoint";
        err = open_side(ofi, &ofi->reader);
    }
    if (!err)
        err = open_side(ofi, &ofi->exporter);
    /* rxm's queue has 256 entries for each of FI_UNIVERSE_SIZE peers (1024), which libfabric lets
     * nobody else say; the queues of some devices (rxe) hold less. */
    const char *advice = err == -FI_EINVAL && strstr(ofi->info->fabric_attr->prov_name, "rxm")
                             ? "; if the device's queues are small, set FI_UNIVERSE_SIZE=64"
                             : "";
    return err ? haul_ofi_host->fail(HAUL_PROVIDER, "ofi:%s: its %s cannot be opened: %s%s",
                                     ofi->kind, what, haul_ofi_error(err), advice)
               : 0;
}

/* libfabric and what lies below it do not survive a fork(). */
static int check_process(void)
{
    static _Atomic pid_t first;
    pid_t none = 0;
    if (atomic_compare_exchange_strong(&first, &none, getpid()) || none == getpid())
        return 0;
    return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                               "libfabric was used before fork(): exec first, or use tcp");
}

int haul_ofi_open(struct haul_engine *engine, const char *kind, void **rma)
{
    if (check_process())
        return HAUL_UNSUPPORTED;
    struct haul_ofi *ofi = calloc(1, sizeof *ofi);
    if (!ofi)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for the provider ofi");
    ofi->engine = engine;
    strncpy(ofi->kind, kind, sizeof ofi->kind - 1);
    ofi->reader.fd = ofi->exporter.fd = -1;
    ofi->fence_ns = UINT64_MAX;
    TAILQ_INIT(&ofi->waiting);
    TAILQ_INIT(&ofi->posted);
    TAILQ_INIT(&ofi->ended);
    TAILQ_INIT(&ofi->unused);
    int err = find(ofi);
    if (!err)
        err = open_all(ofi);
    if (err) {
        haul_ofi_close(ofi);
        return err;
    }
    *rma = ofi;
    return 0;
}

void haul_ofi_close(void *rma)
{
    struct haul_ofi *ofi = rma;
    close_side(ofi, &ofi->reader);
    close_side(ofi, &ofi->exporter);
    if (ofi->domain)
        fi_close(&ofi->domain->fid);
    if (ofi->fabric)
        fi_close(&ofi->fabric->fid);
    if (ofi->info)
        fi_freeinfo(ofi->info);
    haul_ofi_reads_free(ofi);
    free(ofi);
}
