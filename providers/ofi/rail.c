/* SPDX-License-Identifier: Apache-2.0
 * libfabric's calls for a rail: a piece is posted, and the queues are emptied. */
#include "ofi.h"

#include <stdio.h>
#include <string.h>

enum {
    ENTRIES = 32,
    ROUNDS_MAX = 8, /* between looks at what else there is */
};

void haul_ofi_name_rail(struct haul_ofi_rail *rail)
{
    const struct fi_device_attr *device = rail->info->nic ? rail->info->nic->device_attr : NULL;
    const char *name = device && device->name ? device->name : rail->info->domain_attr->name;
    if (name && strcmp(name, rail->ofi->kind) != 0)
        snprintf(rail->name, sizeof rail->name, "%s", name);
    else /* (what has no device repeats the kind) */
        snprintf(rail->name, sizeof rail->name, "%s-%u", rail->ofi->kind, rail->index);
}

bool haul_ofi_rail_reads(const struct haul_ofi_rail *rail)
{
    return rail->reader.endpoint && !rail->stuck;
}

/* (The driver waits here, under the drive lock, while a worker is in libfabric; over sockets that
 * copies what has come, which takes about a millisecond at most.) */
void haul_ofi_lock(struct haul_ofi_rail *rail)
{
    if (!rail->worker)
        return;
    pthread_mutex_lock(&rail->turn);
    pthread_mutex_lock(&rail->lock);
    pthread_mutex_unlock(&rail->turn);
}

void haul_ofi_unlock(struct haul_ofi_rail *rail)
{
    if (rail->worker)
        pthread_mutex_unlock(&rail->lock);
}

int haul_ofi_rail_read(struct haul_ofi_rail *rail, struct haul_ofi_piece *piece, fi_addr_t address,
                       uint64_t from, uint64_t key)
{
    struct fid_mr *mr = piece->read->region->mr[rail->index];
    size_t max = rail->info->ep_attr->max_msg_size;
    piece->asked = piece->bytes < max ? piece->bytes : max;
    haul_ofi_lock(rail);
    ssize_t err = fi_read(rail->reader.endpoint, piece->read->to + piece->start, piece->asked,
                          mr ? fi_mr_desc(mr) : NULL, address, from, key, &piece->context);
    haul_ofi_unlock(rail);
    return (int)err;
}

/* ---- Queues --------------------------------------------------------------------------------- */

static void finish(struct haul_ofi_rail *rail, struct haul_ofi_piece *piece, int error)
{
    struct haul_ofi *ofi = rail->ofi;
    piece->error = error;
    if (ofi->worker_count > 0)
        pthread_mutex_lock(&ofi->finished_lock);
    STAILQ_INSERT_TAIL(&ofi->finished, piece, finished);
    if (ofi->worker_count > 0)
        pthread_mutex_unlock(&ofi->finished_lock);
}

static void log_failure(const struct haul_ofi_rail *rail, const struct fi_cq_err_entry *entry,
                        const struct haul_ofi_side *side)
{
    char buffer[128];
    const char *text =
        fi_cq_strerror(side->queue, entry->prov_errno, entry->err_data, buffer, sizeof buffer);
    haul_ofi_host->log(HAUL_LOG_INFO, "ofi:%s: a read %s: %s (%s)", rail->ofi->kind,
                       side == &rail->reader ? "failed" : "of a peer's from here failed",
                       haul_ofi_error(entry->err), text ? text : "");
}

static bool take_error(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    struct fi_cq_err_entry entry = {0};
    if (fi_cq_readerr(side->queue, &entry, 0) != 1)
        return false;
    log_failure(rail, &entry, side);
    /* Some providers name no read: the one that was meant is found by its silence. */
    if (side == &rail->reader && entry.op_context)
        finish(rail, entry.op_context, entry.err ? entry.err : FI_EOTHER);
    return true;
}

/* Takes what is in a queue, at most ENTRIES. Only the reader's has completions of ours; one without
 * context is no read, but what a peer can make its provider say (that it has written nothing to
 * us). */
static bool drain_some(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    struct fi_cq_entry entries[ENTRIES];
    ssize_t count = side->queue ? fi_cq_read(side->queue, entries, ENTRIES) : 0;
    if (count == -FI_EAVAIL)
        return take_error(rail, side);
    for (ssize_t i = 0; i < count && side == &rail->reader; i++)
        if (entries[i].op_context)
            finish(rail, entries[i].op_context, 0);
    return count > 0;
}

static bool drain(struct haul_ofi_rail *rail, struct haul_ofi_side *side)
{
    bool did = false, more = true;
    for (int round = 0; more && round < ROUNDS_MAX; round++) {
        haul_ofi_lock(rail);
        more = drain_some(rail, side);
        haul_ofi_unlock(rail);
        did |= more;
    }
    return did;
}

bool haul_ofi_rail_drain(struct haul_ofi_rail *rail)
{
    bool did = drain(rail, &rail->reader);
    return drain(rail, &rail->exporter) || did;
}

bool haul_ofi_rail_is_polled(const struct haul_ofi_rail *rail)
{
    return rail->exporter.fd < 0 || (rail->reader.queue && rail->reader.fd < 0);
}

bool haul_ofi_rail_may_sleep(struct haul_ofi_rail *rail)
{
    haul_ofi_lock(rail);
    struct fid *queues[2] = {&rail->exporter.queue->fid};
    int count = 1;
    if (rail->reader.queue)
        queues[count++] = &rail->reader.queue->fid;
    bool may =
        haul_ofi_rail_is_polled(rail) || fi_trywait(rail->fabric, queues, count) != -FI_EAGAIN;
    haul_ofi_unlock(rail);
    return may;
}

/* ---- For people ----------------------------------------------------------------------------- */

size_t haul_ofi_rails(void *rma, struct haul_rail_stats *rails, size_t max)
{
    const struct haul_ofi *ofi = rma;
    for (unsigned i = 0; i < ofi->rail_count && i < max; i++) {
        const struct haul_ofi_rail *rail = &ofi->rails[i];
        rails[i] = (struct haul_rail_stats){
            .bytes_read = rail->bytes_read,
            .usable = haul_ofi_rail_reads(rail) && !rail->failing,
        };
        snprintf(rails[i].name, sizeof rails[i].name, "%s", rail->name);
    }
    return ofi->rail_count;
}
