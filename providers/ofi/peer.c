/* SPDX-License-Identifier: Apache-2.0
 * Addresses: what a peer needs to read from us, and what it sends for us to read from it.
 *
 * The blob: u8 version 1, u8 0, u16 bytes of the address, u32 libfabric's version, u32 format of
 * the address, u32 protocol of the endpoint, u32 its version; then the exporter's address. A blob
 * comes from a peer and is believed in nothing. */
#include "ofi.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOB_VERSION = 1, BLOB_HEAD_BYTES = 20 };

/* ---- Ours ----------------------------------------------------------------------------------- */

bool haul_ofi_has_address(const struct fi_info *info, const char *address)
{
    struct sockaddr_in own;
    struct in_addr wanted;
    if (info->addr_format != FI_SOCKADDR_IN || !info->src_addr || info->src_addrlen < sizeof own ||
        inet_pton(AF_INET, address, &wanted) != 1)
        return false;
    memcpy(&own, info->src_addr, sizeof own);
    return own.sin_addr.s_addr == wanted.s_addr;
}

/* Of several NICs the user's connection says which one is meant, unless a setting does: to a peer
 * that came over another one ours may be out of reach. */
static int check_nic(struct haul_ofi *ofi, struct haul_link *link)
{
    char host[HAUL_HOST_MAX];
    if (*haul_ofi_setting(ofi, "nic") || *haul_ofi_setting(ofi, "advertise"))
        return 0;
    haul_ofi_host->link_host(link, host);
    if (haul_ofi_has_address(ofi->info, host))
        return 0;
    for (const struct fi_info *info = ofi->info->next; info; info = info->next)
        if (haul_ofi_has_address(info, host))
            return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                       "the connection came to %s, the address of %s, but ofi:%s "
                                       "has opened %s: set HAUL_NIC=%s",
                                       host, info->domain_attr->name, ofi->kind,
                                       ofi->info->domain_attr->name, info->domain_attr->name);
    return 0;
}

/* The exporter listens on all interfaces: names the one that this peer's connection came to. */
static int set_host(struct haul_ofi *ofi, struct haul_link *link, struct sockaddr_in *address)
{
    char host[HAUL_HOST_MAX];
    const char *advertised = haul_ofi_setting(ofi, "advertise");
    if (!*advertised)
        advertised = haul_ofi_host->link_host(link, host);
    if (!strcmp(advertised, "::1")) /* this host, which is reached both ways */
        advertised = "127.0.0.1";
    if (inet_pton(AF_INET, advertised, &address->sin_addr) == 1)
        return 0;
    return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                               "\"%s\" is no IPv4 address for ofi:%s: connect by IPv4, or set "
                               "HAUL_ADVERTISE",
                               advertised, ofi->kind);
}

int haul_ofi_describe(void *rma, struct haul_link *link, void *blob, size_t *bytes)
{
    struct haul_ofi *ofi = rma;
    uint8_t *to = blob;
    size_t address_bytes = *bytes - BLOB_HEAD_BYTES;
    struct sockaddr_in address;
    if (check_nic(ofi, link))
        return HAUL_UNSUPPORTED;
    int err = fi_getname(&ofi->exporter.endpoint->fid, to + BLOB_HEAD_BYTES, &address_bytes);
    if (err)
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "ofi:%s does not know its address: %s",
                                   ofi->kind, haul_ofi_error(err));
    if (ofi->info->addr_format == FI_SOCKADDR_IN && address_bytes >= sizeof address) {
        memcpy(&address, to + BLOB_HEAD_BYTES, sizeof address);
        if (address.sin_addr.s_addr == INADDR_ANY && set_host(ofi, link, &address))
            return HAUL_UNSUPPORTED;
        memcpy(to + BLOB_HEAD_BYTES, &address, sizeof address);
    }
    haul_ofi_expect(ofi);
    haul_put_u16(to, BLOB_VERSION);
    haul_put_u16(to + 2, (uint16_t)address_bytes);
    haul_put_u32(to + 4, fi_version());
    haul_put_u32(to + 8, ofi->info->addr_format);
    haul_put_u32(to + 12, ofi->info->ep_attr->protocol);
    haul_put_u32(to + 16, ofi->info->ep_attr->protocol_version);
    *bytes = BLOB_HEAD_BYTES + address_bytes;
    return 0;
}

/* ---- Theirs --------------------------------------------------------------------------------- */

static int check_blob(struct haul_ofi *ofi, const uint8_t *blob, size_t bytes)
{
    uint8_t own[HAUL_RMA_ADDRESS_MAX];
    size_t own_bytes = sizeof own;
    if (bytes < BLOB_HEAD_BYTES || haul_get_u16(blob) != BLOB_VERSION ||
        bytes - BLOB_HEAD_BYTES != haul_get_u16(blob + 2))
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "its address is not understood");
    uint32_t version = haul_get_u32(blob + 4);
    /* (What the kinds over sockets say to each other changed between versions without notice.) */
    if (ofi->over_sockets && version != fi_version())
        return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                   "libfabric is %u.%u here and %u.%u there: %s needs the same "
                                   "version on both sides",
                                   FI_MAJOR(fi_version()), FI_MINOR(fi_version()),
                                   FI_MAJOR(version), FI_MINOR(version), ofi->kind);
    if (haul_get_u32(blob + 8) != ofi->info->addr_format ||
        haul_get_u32(blob + 12) != ofi->info->ep_attr->protocol ||
        haul_get_u32(blob + 16) != ofi->info->ep_attr->protocol_version)
        return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                   "the peer's addresses or protocol are of another kind");
    /* libfabric reads as many bytes as an address of this format has. */
    bool text = ofi->info->addr_format == FI_ADDR_STR;
    sa_family_t family;
    memcpy(&family, blob + BLOB_HEAD_BYTES, sizeof family); /* (blob has HAUL_RMA_ADDRESS_MAX) */
    if (ofi->info->addr_format == FI_SOCKADDR_IN && family != AF_INET)
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's address is of another family");
    if (!text && (fi_getname(&ofi->exporter.endpoint->fid, own, &own_bytes) ||
                  own_bytes != bytes - BLOB_HEAD_BYTES))
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's address is of another length");
    /* Two spellings would be two addresses to us, and one to libfabric. */
    if (text && memchr(blob + BLOB_HEAD_BYTES, '\0', bytes - BLOB_HEAD_BYTES) != blob + bytes - 1)
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's address does not end where it "
                                                     "says");
    return 0;
}

/* libfabric's shm follows a pointer to nothing when it reads from a peer whose region in /dev/shm
 * is not there (the peer has ended, or lies). The address is "fi_shm://" and the region's name. */
static int check_region(const char *address)
{
    char path[HAUL_RMA_ADDRESS_MAX + 16];
    struct stat info;
    const char *name = strstr(address, "://");
    snprintf(path, sizeof path, "/dev/shm/%s", name ? name + 3 : "");
    if (name && !strchr(name + 3, '/') && stat(path, &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_size > 0)
        return 0;
    return haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's memory is not in /dev/shm: it has "
                                                 "ended, or is in another container");
}

/* Returns whether libfabric takes it; reads of one that it does not take fail. */
static bool insert(struct haul_ofi *ofi, struct haul_ofi_address *address)
{
    address->number = FI_ADDR_NOTAVAIL;
    return ofi->reader.addresses &&
           fi_av_insert(ofi->reader.addresses, address->name, 1, &address->number, 0, NULL) == 1;
}

void haul_ofi_insert_known(struct haul_ofi *ofi)
{
    struct haul_ofi_address *address;
    LIST_FOREACH(address, &ofi->known, node)
    insert(ofi, address);
}

static int refused(struct haul_ofi *ofi)
{
    return haul_ofi_host->fail(HAUL_UNSUPPORTED, "ofi:%s does not take the peer's address",
                               ofi->kind);
}

/* The entry of an address, with a reference for the caller. Errors: HAUL_NO_MEMORY,
 * HAUL_UNSUPPORTED. */
static int take_address(struct haul_ofi *ofi, const uint8_t *name, size_t bytes,
                        struct haul_ofi_address **result)
{
    struct haul_ofi_address *address;
    LIST_FOREACH(address, &ofi->known, node)
    {
        if (address->bytes != bytes || memcmp(address->name, name, bytes) != 0)
            continue;
        if (address->number == FI_ADDR_NOTAVAIL && !insert(ofi, address))
            return refused(ofi);
        address->references++;
        *result = address;
        return 0;
    }
    address = calloc(1, sizeof *address + bytes);
    if (!address)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for a peer");
    address->references = 1;
    address->bytes = bytes;
    memcpy(address->name, name, bytes);
    if (!insert(ofi, address)) {
        free(address);
        return refused(ofi);
    }
    LIST_INSERT_HEAD(&ofi->known, address, node);
    *result = address;
    return 0;
}

static void give_address(struct haul_ofi *ofi, struct haul_ofi_address *address)
{
    if (--address->references > 0)
        return;
    if (address->number != FI_ADDR_NOTAVAIL)
        fi_av_remove(ofi->reader.addresses, &address->number, 1, 0);
    LIST_REMOVE(address, node);
    free(address);
}

int haul_ofi_attach(void *rma, const void *blob, size_t bytes, struct haul_link *link,
                    void **result)
{
    (void)link; /* all that is needed is in the blob */
    struct haul_ofi *ofi = rma;
    int err = check_blob(ofi, blob, bytes);
    if (!err && !strcmp(ofi->kind, "shm"))
        err = check_region((const char *)blob + BLOB_HEAD_BYTES);
    if (!err && !ofi->reader.endpoint) /* it could not be renewed: once more */
        err = haul_ofi_renew_reader(ofi);
    if (err)
        return err;
    struct haul_ofi_peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for a peer");
    peer->ofi = ofi;
    err = take_address(ofi, (const uint8_t *)blob + BLOB_HEAD_BYTES, bytes - BLOB_HEAD_BYTES,
                       &peer->address);
    if (err) {
        free(peer);
        return err;
    }
    ofi->peers++;
    haul_ofi_expect(ofi);
    *result = peer;
    return 0;
}

void haul_ofi_detach(void *handle)
{
    struct haul_ofi_peer *peer = handle;
    peer->ofi->peers--;
    give_address(peer->ofi, peer->address);
    free(peer);
}
