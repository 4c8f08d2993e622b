/* SPDX-License-Identifier: Apache-2.0
 * Registered memory and the ways to it.
 *
 * Offered memory can be read by whoever has its key, and by nothing else than reads. Where the
 * application chooses keys (no FI_MR_PROV_KEY) the key is the only secret: random bits, as many as
 * the provider takes. Memory that reads land in is registered only where libfabric asks for it
 * (FI_MR_LOCAL). */
#include "ofi.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>

enum { WAY_HEAD_BYTES = 16, KEY_BYTES = 8, KEY_TRIES = 16 };

/* A key that is hard to guess, of as many bits as the provider takes. */
static uint64_t random_key(const struct haul_ofi_rail *rail)
{
    size_t bytes = rail->info->domain_attr->mr_key_size;
    uint64_t key = 0;
    if (getrandom(&key, sizeof key, 0) != (ssize_t)sizeof key)
        return 0;
    return bytes < sizeof key ? key & ((UINT64_C(1) << 8 * bytes) - 1) : key;
}

/* (All rails have the same.) */
static bool has_mode(const struct haul_ofi *ofi, int mode)
{
    return ofi->rails[0].info->domain_attr->mr_mode & mode;
}

/* Registers with a key that no other region has. Returns libfabric's error. */
static int register_with(struct haul_ofi_rail *rail, const struct haul_ofi_region *region,
                         uint64_t access, struct fid_mr **mr)
{
    int err = -FI_ENOKEY;
    for (int tries = 0; err == -FI_ENOKEY && tries < KEY_TRIES; tries++)
        err = fi_mr_reg(rail->domain, region->base, region->bytes, access, 0, random_key(rail), 0,
                        mr, NULL);
    if (err || !has_mode(rail->ofi, FI_MR_ENDPOINT))
        return err;
    struct fid_ep *endpoint =
        access & FI_REMOTE_READ ? rail->exporter.endpoint : rail->reader.endpoint;
    err = endpoint ? fi_mr_bind(*mr, &endpoint->fid, 0) : -FI_EOPBADSTATE;
    if (!err)
        err = fi_mr_enable(*mr);
    if (err)
        fi_close(&(*mr)->fid);
    return err;
}

static void deregister(struct haul_ofi_region *region)
{
    int err = 0;
    for (unsigned i = 0; i < region->ofi->rail_count; i++) {
        if (!region->mr[i])
            continue;
        haul_ofi_lock(&region->ofi->rails[i]);
        int failed = fi_close(&region->mr[i]->fid);
        haul_ofi_unlock(&region->ofi->rails[i]);
        err = failed ? failed : err;
    }
    if (err)
        haul_ofi_host->log(HAUL_LOG_ERROR, "ofi:%s: memory could not be deregistered: %s",
                           region->ofi->kind, haul_ofi_error(err));
}

/* With all rails or none. Returns libfabric's error. */
static int register_memory(struct haul_ofi_region *region, uint64_t access)
{
    int err = 0;
    for (unsigned i = 0; i < region->ofi->rail_count && !err; i++) {
        struct haul_ofi_rail *rail = &region->ofi->rails[i];
        struct fid_mr *mr = NULL;
        haul_ofi_lock(rail);
        err = register_with(rail, region, access, &mr);
        haul_ofi_unlock(rail);
        region->mr[i] = err ? NULL : mr;
    }
    if (err)
        deregister(region);
    return err;
}

/* Rails near memory that reads land in. */
static unsigned near_rails(const struct haul_ofi *ofi, const void *memory)
{
    unsigned nics = haul_ofi_host->near_nics(ofi->engine, memory), rails = 0;
    for (unsigned i = 0; i < ofi->rail_count; i++)
        if (nics & 1u << ofi->rails[i].nic)
            rails |= 1u << i;
    return rails;
}

static int registration_failed(const struct haul_ofi *ofi, size_t bytes, int error)
{
    struct rlimit limit;
    if (error == -FI_ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY)
        return haul_ofi_host->fail(
            HAUL_NO_MEMORY,
            "%zu KiB could not be registered with ofi:%s: this process may lock %llu KiB (ulimit "
            "-l); set \"ulimit -l unlimited\", or a line \"* - memlock unlimited\" in "
            "/etc/security/limits.conf",
            bytes >> 10, ofi->kind, (unsigned long long)limit.rlim_cur >> 10);
    return haul_ofi_host->fail(HAUL_SYSTEM, "%zu KiB could not be registered with ofi:%s: %s",
                               bytes >> 10, ofi->kind, haul_ofi_error(error));
}

int haul_ofi_reg(void *rma, void *base, size_t bytes, unsigned access, int file, void **result)
{
    (void)file; /* NICs read addresses */
    struct haul_ofi *ofi = rma;
    uint64_t flags = 0;
    struct haul_ofi_region *region = calloc(1, sizeof *region);
    if (!region)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory to register memory");
    *region = (struct haul_ofi_region){.ofi = ofi, .base = base, .bytes = bytes};
    if (access & HAUL_RMA_OFFER)
        flags |= FI_REMOTE_READ;
    if (access & HAUL_RMA_LAND && has_mode(ofi, FI_MR_LOCAL))
        flags |= FI_READ;
    if (access & HAUL_RMA_LAND && ofi->rail_count > 1)
        region->near = near_rails(ofi, base);
    int err = flags ? register_memory(region, flags) : 0;
    if (err) {
        free(region);
        return registration_failed(ofi, bytes, err);
    }
    *result = region;
    return 0;
}

void haul_ofi_dereg(void *handle)
{
    struct haul_ofi_region *region = handle;
    deregister(region);
    free(region);
}

/* The way is what fi_read() takes: where the bytes begin, as the provider counts, how many there
 * are, and their key for each rail. */
int haul_ofi_offer(void *handle, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes)
{
    const struct haul_ofi_region *region = handle;
    const struct haul_ofi *ofi = region->ofi;
    uint64_t offset = (uint64_t)((const uint8_t *)start - region->base);
    uint64_t base = has_mode(ofi, FI_MR_VIRT_ADDR) ? (uintptr_t)region->base : 0;
    size_t needed = WAY_HEAD_BYTES + KEY_BYTES * ofi->rail_count;
    if (!region->mr[0] || *way_bytes < needed)
        return haul_ofi_host->fail(HAUL_INVALID, "this memory was not registered to be offered");
    haul_put_u64(way, base + offset);
    haul_put_u64(way + 8, bytes);
    for (unsigned i = 0; i < ofi->rail_count; i++)
        haul_put_u64(way + WAY_HEAD_BYTES + KEY_BYTES * i, fi_mr_key(region->mr[i]));
    *way_bytes = needed;
    return 0;
}

int haul_ofi_way_parse(const uint8_t *way, size_t way_bytes, unsigned rails,
                       struct haul_ofi_way *parsed)
{
    size_t needed = WAY_HEAD_BYTES + KEY_BYTES * rails;
    if (way_bytes != needed)
        return haul_ofi_host->fail(HAUL_PROTOCOL,
                                   "the peer's way has %zu bytes; with its %u rails it has %zu",
                                   way_bytes, rails, needed);
    parsed->address = haul_get_u64(way);
    parsed->bytes = haul_get_u64(way + 8);
    for (unsigned i = 0; i < rails; i++)
        parsed->keys[i] = haul_get_u64(way + WAY_HEAD_BYTES + KEY_BYTES * i);
    return 0;
}
