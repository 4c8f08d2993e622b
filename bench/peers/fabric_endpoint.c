/* SPDX-License-Identifier: Apache-2.0
 * libfabric as the baseline uses it: an endpoint and what it needs, and registered memory; the same
 * in each process, with the same demands as haul's provider ofi. */
#include "fabric.h"

#include <string.h>

struct fabric fabric = {.queue_fd = -1};

bool fabric_has_mode(int mode)
{
    return fabric.info->domain_attr->mr_mode & mode;
}

/* The newest API that both sides of the interface and this file know. */
static uint32_t api_version(void)
{
    const uint32_t headers = FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION);
    uint32_t version = FI_VERSION(1, 17);
    if (headers < version)
        version = headers;
    return fi_version() < version ? fi_version() : version;
}

static void find_provider(const char *nic)
{
    struct fi_info *hints = fi_allocinfo();
    need("libfabric", hints);
    bool sockets = strcmp(options.kind, "net") == 0 || strcmp(options.kind, "tcp") == 0;
    hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->av_type = FI_AV_TABLE;
    hints->fabric_attr->prov_name = strdup(options.kind);
    if (*nic)
        hints->domain_attr->name = strdup(nic);
    bool here = sockets && !*nic;
    int err = fi_getinfo(api_version(), here ? "127.0.0.1" : NULL, NULL, here ? FI_SOURCE : 0,
                         hints, &fabric.info);
    fi_freeinfo(hints);
    need_fi("libfabric has no such provider with RMA here", err);
}

/* Watched for edges: of some providers the descriptor stays readable for ever. */
static void open_queue(void)
{
    struct fi_cq_attr attr = {.format = FI_CQ_FORMAT_CONTEXT, .wait_obj = FI_WAIT_FD};
    int err = fi_cq_open(fabric.domain, &attr, &fabric.queue, NULL);
    if (!err && fi_control(&fabric.queue->fid, FI_GETWAIT, &fabric.queue_fd) == 0) {
        wait_watch(fabric.queue_fd, EPOLLIN | EPOLLET, NULL);
        return;
    }
    fabric.queue_fd = -1;
    attr.wait_obj = FI_WAIT_NONE;
    if (err)
        need_fi("fi_cq_open", fi_cq_open(fabric.domain, &attr, &fabric.queue, NULL));
}

void fabric_open(const char *nic)
{
    struct fi_av_attr attr = {.type = FI_AV_TABLE};
    wait_open();
    find_provider(nic);
    need_fi("fi_fabric", fi_fabric(fabric.info->fabric_attr, &fabric.fabric, NULL));
    need_fi("fi_domain", fi_domain(fabric.fabric, fabric.info, &fabric.domain, NULL));
    need_fi("fi_av_open", fi_av_open(fabric.domain, &attr, &fabric.addresses, NULL));
    open_queue();
    need_fi("fi_endpoint", fi_endpoint(fabric.domain, fabric.info, &fabric.endpoint, NULL));
    need_fi("fi_ep_bind", fi_ep_bind(fabric.endpoint, &fabric.addresses->fid, 0));
    need_fi("fi_ep_bind", fi_ep_bind(fabric.endpoint, &fabric.queue->fid, FI_TRANSMIT | FI_RECV));
    need_fi("fi_enable", fi_enable(fabric.endpoint));
}

void fabric_close(void)
{
    while (fabric.region_count > 0)
        fi_close(&fabric.regions[--fabric.region_count]->fid);
    struct fid *all[] = {
        fabric.endpoint ? &fabric.endpoint->fid : NULL, fabric.queue ? &fabric.queue->fid : NULL,
        fabric.addresses ? &fabric.addresses->fid : NULL,
        fabric.domain ? &fabric.domain->fid : NULL, fabric.fabric ? &fabric.fabric->fid : NULL};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            fi_close(all[i]);
    if (fabric.info)
        fi_freeinfo(fabric.info);
    fabric = (struct fabric){.queue_fd = -1};
}

struct fid_mr *fabric_register(void *memory, size_t bytes, uint64_t access)
{
    /* Keys are ours to choose, each once; some providers choose their own. */
    struct fid_mr **region = &fabric.regions[fabric.region_count++];
    need_fi("fi_mr_reg", fi_mr_reg(fabric.domain, memory, bytes, access, 0, fabric.region_count, 0,
                                   region, NULL));
    return *region;
}

_Noreturn static void fail_read(void)
{
    struct fi_cq_err_entry entry = {0};
    fi_cq_readerr(fabric.queue, &entry, 0);
    give_up("a read failed", fi_strerror(entry.err < 0 ? -entry.err : entry.err));
}

size_t fabric_completions(struct fi_cq_entry *entries, size_t room)
{
    ssize_t count = fi_cq_read(fabric.queue, entries, room);
    if (count == -FI_EAVAIL)
        fail_read();
    return count > 0 ? (size_t)count : 0;
}
