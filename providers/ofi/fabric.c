/* SPDX-License-Identifier: Apache-2.0
 * Opening one of libfabric's providers: for each rail fabric, domain, and two endpoints, each with
 * its addresses and its queue.
 *
 * A reader of its own. Endpoints of one domain share what their provider keeps. net (of 1.16 and
 * 1.17) breaks it when an endpoint is closed in the middle of a read: it frees that read twice, and
 * later reads are mixed up. So over sockets the reader has a domain of its own, which is closed
 * with it. Where memory that reads land in must be registered there can be no two.
 *
 * Waiting. libfabric arms a queue's descriptor when it is asked whether one may sleep. A queue has
 * a descriptor in the event loop (or in its worker's set) where the provider can make one. It is
 * watched for edges: progress() empties the queue in every pass, and some providers leave the
 * descriptor readable for ever (net of 1.17). Where there is none the queue is polled, see read.c.
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

static void close_side(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    if (side->endpoint)
        fi_close(&side->endpoint->fid);
    if (side->watch)
        haul_ofi_host->unwatch(side->watch);
    if (side->queue)
        fi_close(&side->queue->fid);
    if (side->addresses)
        fi_close(&side->addresses->fid);
    if (side->domain && side->domain != rail->domain)
        fi_close(&side->domain->fid);
    *side = (struct haul_ofi_side){.fd = -1};
}

static int open_domain(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    struct fid_domain *domain = rail->domain;
    bool own = side == &rail->reader && rail->ofi->over_sockets;
    int err = own ? fi_domain(rail->fabric, rail->info, &domain, NULL) : 0;
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

static int open_endpoint(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    struct fi_av_attr attr = {.type = FI_AV_TABLE};
    int err = fi_endpoint(side->domain, rail->info, &side->endpoint, NULL);
    if (!err)
        err = fi_av_open(side->domain, &attr, &side->addresses, NULL);
    if (!err)
        err = fi_ep_bind(side->endpoint, &side->addresses->fid, 0);
    if (!err)
        err = fi_ep_bind(side->endpoint, &side->queue->fid, FI_TRANSMIT | FI_RECV);
    return err ? err : fi_enable(side->endpoint);
}

static bool watch_side(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    if (rail->worker)
        return haul_ofi_worker_watch(rail->worker, side->fd);
    return haul_ofi_host->watch(rail->ofi->engine, side->fd, EPOLLIN | EPOLLET, ready, NULL,
                                &side->watch) == 0;
}

/* Returns libfabric's error; then nothing is open. */
static int open_side(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    int err = open_domain(rail, side);
    if (!err)
        err = open_queue(side);
    if (!err)
        err = open_endpoint(rail, side);
    if (!err && side->fd >= 0 && !watch_side(rail, side))
        err = -FI_ENOMEM;
    if (err)
        close_side(rail, side);
    return err;
}

/* Returns whether it is closed; else its reads may go on. */
static bool close_reader(struct haul_ofi_rail *rail)
{
    int err = rail->reader.endpoint ? fi_close(&rail->reader.endpoint->fid) : 0;
    if (err && !rail->stuck)
        haul_ofi_host->log(HAUL_LOG_ERROR,
                           "ofi:%s: reads over NIC %s do not end, and their endpoint cannot be "
                           "closed: %s. Their memory is kept, and haul_close() waits, until it can "
                           "be; nothing else is read over it",
                           rail->ofi->kind, rail->name, haul_ofi_error(err));
    rail->stuck = err != 0;
    if (err)
        return false;
    rail->reader.endpoint = NULL;
    close_side(rail, &rail->reader);
    return true;
}

static int renew_reader(struct haul_ofi_rail *rail)
{
    const char *kind = rail->ofi->kind;
    bool had_one = rail->reader.endpoint != NULL;
    if (!close_reader(rail))
        return HAUL_BUSY;
    int err = open_side(rail, &rail->reader);
    haul_ofi_insert_known(rail);
    if (err && had_one)
        haul_ofi_host->log(
            HAUL_LOG_ERROR,
            "ofi:%s: nothing can be read over NIC %s until it has a new endpoint: %s", kind,
            rail->name, haul_ofi_error(err));
    if (!err && !had_one)
        haul_ofi_host->log(HAUL_LOG_INFO, "ofi:%s: NIC %s has an endpoint again", kind, rail->name);
    return err ? haul_ofi_host->fail(HAUL_SYSTEM, "ofi:%s: no new endpoint: %s", kind,
                                     haul_ofi_error(err))
               : 0;
}

int haul_ofi_renew_reader(struct haul_ofi_rail *rail)
{
    haul_ofi_lock(rail);
    int err = renew_reader(rail);
    haul_ofi_unlock(rail);
    haul_ofi_worker_wake(rail->worker); /* it has a new queue */
    return err;
}

/* ---- Rails ---------------------------------------------------------------------------------- */

static void close_rail(struct haul_ofi_rail *rail)
{
    close_side(rail, &rail->reader);
    close_side(rail, &rail->exporter);
    if (rail->domain)
        fi_close(&rail->domain->fid);
    if (rail->fabric)
        fi_close(&rail->fabric->fid);
    pthread_mutex_destroy(&rail->lock);
    pthread_mutex_destroy(&rail->turn);
}

/* A way has one address, and a peer's address one format, for all rails. */
static bool is_like(const struct fi_info *one, const struct fi_info *other)
{
    return one->addr_format == other->addr_format &&
           one->ep_attr->protocol == other->ep_attr->protocol &&
           one->ep_attr->protocol_version == other->ep_attr->protocol_version &&
           one->domain_attr->mr_mode == other->domain_attr->mr_mode;
}

/* Returns libfabric's error, of what; then nothing is open. */
static int open_rail(struct haul_ofi_rail *rail, const char **what)
{
    const struct haul_ofi_rail *first = rail->ofi->rails;
    int err = is_like(first->info, rail->info) ? 0 : -FI_EOPNOTSUPP;
    *what = "its protocol is not that of the first";
    pthread_mutex_init(&rail->turn, NULL);
    pthread_mutex_init(&rail->lock, NULL);
    if (!err) {
        *what = "its fabric cannot be opened";
        err = fi_fabric(rail->info->fabric_attr, &rail->fabric, NULL);
    }
    if (!err) {
        *what = "its domain cannot be opened";
        err = fi_domain(rail->fabric, rail->info, &rail->domain, NULL);
    }
    if (!err) {
        *what = "its endpoint cannot be opened";
        err = open_side(rail, &rail->reader);
    }
    if (!err)
        err = open_side(rail, &rail->exporter);
    if (err)
        close_rail(rail);
    else
        haul_ofi_note_network(rail);
    return err;
}

/* ---- The instance --------------------------------------------------------------------------- */

static int find(struct haul_ofi *ofi, struct haul_ofi_nics *nics)
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
    return haul_ofi_find_nics(ofi, nics);
}

/* Opens those that can be; errors: none can. */
static int open_rails(struct haul_ofi *ofi, const struct haul_ofi_nics *nics)
{
    const char *what = "", *advice = "";
    int err = 0;
    for (size_t i = 0; i < nics->count; i++) {
        struct haul_ofi_rail *rail = &ofi->rails[ofi->rail_count];
        *rail = (struct haul_ofi_rail){
            .ofi = ofi,
            .index = ofi->rail_count,
            .nic = nics->numbers[i],
            .info = nics->infos[i],
            .worker = haul_ofi_worker_of(ofi, ofi->rail_count),
            .reader.fd = -1,
            .exporter.fd = -1,
        };
        TAILQ_INIT(&rail->posted);
        haul_ofi_name_rail(rail);
        err = open_rail(rail, &what);
        if (!err)
            ofi->rail_count++;
        else if (nics->count > 1)
            haul_ofi_host->log(HAUL_LOG_WARNING, "ofi:%s: NIC %s is not used: %s: %s", ofi->kind,
                               rail->name, what, haul_ofi_error(err));
    }
    /* rxm's queue has 256 entries for each of FI_UNIVERSE_SIZE peers (1024), which libfabric lets
     * nobody else say; the queues of some devices (rxe) hold less. */
    if (err == -FI_EINVAL && strstr(nics->infos[0]->fabric_attr->prov_name, "rxm"))
        advice = "; if the device's queues are small, set FI_UNIVERSE_SIZE=64";
    return ofi->rail_count > 0 ? 0
                               : haul_ofi_host->fail(HAUL_PROVIDER, "ofi:%s: %s: %s%s", ofi->kind,
                                                     what, haul_ofi_error(err), advice);
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
    struct haul_ofi_nics nics = {.count = 0};
    if (check_process())
        return HAUL_UNSUPPORTED;
    struct haul_ofi *ofi = calloc(1, sizeof *ofi);
    if (!ofi)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for the provider ofi");
    ofi->engine = engine;
    strncpy(ofi->kind, kind, sizeof ofi->kind - 1);
    ofi->fence_ns = UINT64_MAX;
    TAILQ_INIT(&ofi->waiting);
    TAILQ_INIT(&ofi->refused);
    TAILQ_INIT(&ofi->ended);
    TAILQ_INIT(&ofi->unused);
    STAILQ_INIT(&ofi->finished);
    pthread_mutex_init(&ofi->finished_lock, NULL);
    int err = find(ofi, &nics);
    if (!err)
        err = haul_ofi_workers_make(ofi, nics.count);
    if (!err)
        err = open_rails(ofi, &nics);
    if (!err)
        err = haul_ofi_workers_start(ofi);
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
    haul_ofi_workers_stop(ofi);
    for (unsigned i = 0; i < ofi->rail_count; i++)
        close_rail(&ofi->rails[i]);
    fi_freeinfo(ofi->found);
    haul_ofi_reads_free(ofi);
    pthread_mutex_destroy(&ofi->finished_lock);
    free(ofi);
}
