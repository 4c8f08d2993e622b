/* SPDX-License-Identifier: Apache-2.0
 * See fabric.h. */
#include "fabric.h"

#include <host_basics.h>
#include <stdlib.h>
#include <string.h>

int fabric_close_error, fabric_done_error = -1;

static uint8_t memory[4 << 20];
static struct haul_ofi_region region = {.base = memory, .bytes = sizeof memory, .near = ~0u};

/* ---- libfabric ------------------------------------------------------------------------------ */

static int fine(struct fid *fid)
{
    (void)fid;
    return 0;
}

static int close_endpoint(struct fid *fid)
{
    (void)fid;
    return fabric_close_error;
}

static int bind_fid(struct fid *fid, struct fid *other, uint64_t flags)
{
    (void)fid, (void)other, (void)flags;
    return 0;
}

/* (Endpoints are enabled; queues have no descriptor.) */
static int control(struct fid *fid, int command, void *arg)
{
    (void)arg;
    return command == FI_GETWAIT && fid->fclass == FI_CLASS_CQ ? -FI_ENOSYS : 0;
}

static struct fi_ops ops = {.close = fine, .bind = bind_fid, .control = control};
static struct fi_ops endpoint_ops = {.close = close_endpoint, .bind = bind_fid, .control = control};

static ssize_t take_read(struct fid_ep *endpoint, void *to, size_t bytes, void *desc,
                         fi_addr_t from, uint64_t offset, uint64_t key, void *context)
{
    (void)endpoint, (void)to, (void)bytes, (void)desc, (void)from, (void)offset, (void)key;
    (void)context;
    return 0;
}

static ssize_t read_queue(struct fid_cq *queue, void *entries, size_t count)
{
    (void)queue, (void)entries, (void)count;
    return -FI_EAGAIN;
}

static int insert(struct fid_av *addresses, const void *names, size_t count, fi_addr_t *numbers,
                  uint64_t flags, void *context)
{
    (void)addresses, (void)names, (void)flags, (void)context;
    *numbers = 0;
    return (int)count;
}

static struct fi_ops_rma rma_ops = {.read = take_read};
static struct fi_ops_cq queue_ops = {.read = read_queue};
static struct fi_ops_av address_ops = {.insert = insert};
static struct fid_ep endpoint = {.fid = {.ops = &endpoint_ops}, .rma = &rma_ops};
static struct fid_cq queue = {.fid = {.fclass = FI_CLASS_CQ, .ops = &ops}, .ops = &queue_ops};
static struct fid_av addresses = {.fid = {.ops = &ops}, .ops = &address_ops};

static int open_queue(struct fid_domain *domain, struct fi_cq_attr *attr, struct fid_cq **made,
                      void *context)
{
    (void)domain, (void)attr, (void)context;
    *made = &queue;
    return 0;
}

static int open_addresses(struct fid_domain *domain, struct fi_av_attr *attr, struct fid_av **made,
                          void *context)
{
    (void)domain, (void)attr, (void)context;
    *made = &addresses;
    return 0;
}

static int open_endpoint(struct fid_domain *domain, struct fi_info *info, struct fid_ep **made,
                         void *context)
{
    (void)domain, (void)info, (void)context;
    *made = &endpoint;
    return 0;
}

static struct fi_ops_domain domain_ops = {
    .av_open = open_addresses, .cq_open = open_queue, .endpoint = open_endpoint};
static struct fid_domain domain = {.fid = {.ops = &ops}, .ops = &domain_ops};
static struct fi_ep_attr endpoint_attr = {.max_msg_size = SIZE_MAX};
static struct fi_info info = {.ep_attr = &endpoint_attr};

/* ---- haul ----------------------------------------------------------------------------------- */

static void wake(struct haul_engine *engine)
{
    (void)engine;
}

static void read_done(void *cookie, int err)
{
    (void)cookie;
    fabric_done_error = err;
}

static const struct haul_host host = {.log = host_log,
                                      .fail = host_fail,
                                      .now_ns = host_still_ns,
                                      .wake = wake,
                                      .read_done = read_done};

/* ---- For tests ------------------------------------------------------------------------------ */

struct haul_ofi *fabric_open(unsigned rails)
{
    struct haul_ofi *ofi = calloc(1, sizeof *ofi);
    haul_ofi_host = &host;
    fabric_close_error = 0;
    fabric_done_error = -1;
    ofi->rail_count = rails;
    ofi->fence_ns = UINT64_MAX;
    TAILQ_INIT(&ofi->waiting);
    TAILQ_INIT(&ofi->refused);
    TAILQ_INIT(&ofi->ended);
    TAILQ_INIT(&ofi->unused);
    STAILQ_INIT(&ofi->finished);
    for (unsigned i = 0; i < rails; i++) {
        struct haul_ofi_rail *rail = &ofi->rails[i];
        *rail = (struct haul_ofi_rail){.ofi = ofi, .index = i, .info = &info, .domain = &domain};
        rail->exporter = (struct haul_ofi_side){.domain = &domain, .queue = &queue, .fd = -1};
        TAILQ_INIT(&rail->posted);
        haul_ofi_renew_reader(rail);
    }
    return ofi;
}

void fabric_close(struct haul_ofi *ofi)
{
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        struct haul_ofi_address *address;
        while ((address = LIST_FIRST(&ofi->rails[i].known)) != NULL) {
            LIST_REMOVE(address, node);
            free(address);
        }
    }
    haul_ofi_reads_free(ofi);
    free(ofi);
}

struct haul_ofi_peer *fabric_attach(struct haul_ofi *ofi, const char *name)
{
    struct haul_ofi_peer *peer = calloc(1, sizeof *peer);
    peer->ofi = ofi;
    peer->rails = peer->path_count = ofi->rail_count;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        struct haul_ofi_address *address = calloc(1, sizeof *address + strlen(name));
        address->bytes = strlen(name);
        memcpy(address->name, name, strlen(name));
        LIST_INSERT_HEAD(&ofi->rails[i].known, address, node);
        peer->paths[i] = (struct haul_ofi_path){.address = address, .theirs = i};
    }
    ofi->peers++;
    return peer;
}

void fabric_read(struct haul_ofi_peer *peer, size_t bytes)
{
    uint8_t way[HAUL_RMA_WAY_MAX] = {0};
    haul_put_u64(way + 8, sizeof memory);
    haul_ofi_read(peer, way, 16 + 8 * peer->rails, 0, memory, &region, bytes, NULL);
}

void fabric_end(struct haul_ofi_rail *rail, int error)
{
    struct haul_ofi_piece *piece = TAILQ_FIRST(&rail->posted);
    piece->error = error;
    STAILQ_INSERT_TAIL(&rail->ofi->finished, piece, finished);
    fabric_pass(rail->ofi, 0);
}

void fabric_pass(struct haul_ofi *ofi, uint64_t ms)
{
    host_clock_ns += ms * 1000000;
    haul_ofi_progress(ofi);
}
