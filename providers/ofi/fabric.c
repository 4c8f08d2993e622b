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

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

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

static int find(struct haul_ofi *ofi)
{
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
    return haul_ofi_find_nic(ofi);
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
