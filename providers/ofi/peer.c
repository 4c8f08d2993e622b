/* SPDX-License-Identifier: Apache-2.0
 * Addresses: what a peer needs to read from us, and what it sends for us to read from it.
 *
 * The blob: u8 version 2, u8 number of rails, u16 bytes of an address, u32 libfabric's version, u32
 * format of the addresses, u32 protocol of the endpoints, u32 its version; then the address of each
 * rail's exporter. A blob comes from a peer and is believed in nothing. */
#include "ofi.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOB_VERSION = 2, BLOB_HEAD_BYTES = 20 };

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

static bool any_rail_has(const struct haul_ofi *ofi, const char *address)
{
    for (unsigned i = 0; i < ofi->rail_count; i++)
        if (haul_ofi_has_address(ofi->rails[i].info, address))
            return true;
    return false;
}

/* Of several NICs the user's connection says which one is meant, unless a setting does: to a peer
 * that came over another one ours may be out of reach. */
static int check_nic(struct haul_ofi *ofi, struct haul_link *link)
{
    char host[HAUL_HOST_MAX];
    if (*haul_ofi_setting(ofi, "nic") || *haul_ofi_setting(ofi, "advertise"))
        return 0;
    haul_ofi_host->link_host(link, host);
    if (any_rail_has(ofi, host))
        return 0;
    for (const struct fi_info *info = ofi->found; info; info = info->next)
        if (haul_ofi_has_address(info, host))
            return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                       "the connection came to %s, the address of %s, but ofi:%s "
                                       "has opened %s%s: set HAUL_NIC=%s",
                                       host, info->domain_attr->name, ofi->kind, ofi->rails[0].name,
                                       ofi->rail_count > 1 ? " and others" : "",
                                       info->domain_attr->name);
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

/* Writes the address of a rail's exporter; *bytes in: room, out: used. */
static int describe_rail(struct haul_ofi_rail *rail, struct haul_link *link, uint8_t *to,
                         size_t *bytes)
{
    struct sockaddr_in address;
    haul_ofi_lock(rail);
    int err = fi_getname(&rail->exporter.endpoint->fid, to, bytes);
    haul_ofi_unlock(rail);
    if (err)
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "ofi:%s does not know its address: %s",
                                   rail->ofi->kind, haul_ofi_error(err));
    if (rail->info->addr_format == FI_SOCKADDR_IN && *bytes >= sizeof address) {
        memcpy(&address, to, sizeof address);
        if (address.sin_addr.s_addr == INADDR_ANY && set_host(rail->ofi, link, &address))
            return HAUL_UNSUPPORTED;
        memcpy(to, &address, sizeof address);
    }
    return 0;
}

int haul_ofi_describe(void *rma, struct haul_link *link, void *blob, size_t *bytes)
{
    struct haul_ofi *ofi = rma;
    const struct fi_info *info = ofi->rails[0].info;
    uint8_t *to = blob;
    size_t used = BLOB_HEAD_BYTES, one = 0;
    if (check_nic(ofi, link))
        return HAUL_UNSUPPORTED;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        size_t length = *bytes - used;
        if (describe_rail(&ofi->rails[i], link, to + used, &length))
            return HAUL_UNSUPPORTED;
        if (i > 0 && length != one)
            return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                       "the NICs of ofi:%s have addresses of different lengths",
                                       ofi->kind);
        one = length;
        used += length;
    }
    haul_ofi_expect(ofi);
    to[0] = BLOB_VERSION;
    to[1] = (uint8_t)ofi->rail_count;
    haul_put_u16(to + 2, (uint16_t)one);
    haul_put_u32(to + 4, fi_version());
    haul_put_u32(to + 8, info->addr_format);
    haul_put_u32(to + 12, info->ep_attr->protocol);
    haul_put_u32(to + 16, info->ep_attr->protocol_version);
    *bytes = used;
    return 0;
}

/* ---- Theirs --------------------------------------------------------------------------------- */

/* One of its addresses, of `bytes`. libfabric reads as many as an address of this format has. */
static int check_address(struct haul_ofi_rail *rail, const uint8_t *address, size_t bytes)
{
    uint8_t own[HAUL_RMA_ADDRESS_MAX];
    size_t own_bytes = sizeof own;
    bool text = rail->info->addr_format == FI_ADDR_STR;
    sa_family_t family;
    haul_ofi_lock(rail);
    int err = fi_getname(&rail->exporter.endpoint->fid, own, &own_bytes);
    haul_ofi_unlock(rail);
    if (!text && (err || own_bytes != bytes))
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's address is of another length");
    /* Two spellings would be two addresses to us, and one to libfabric. */
    if (text && (bytes == 0 || memchr(address, '\0', bytes) != address + bytes - 1))
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's address does not end where it "
                                                     "says");
    if (rail->info->addr_format != FI_SOCKADDR_IN)
        return 0;
    memcpy(&family, address, sizeof family);
    return family == AF_INET
               ? 0
               : haul_ofi_host->fail(HAUL_UNSUPPORTED, "the peer's address is of another family");
}

static int check_blob(struct haul_ofi *ofi, const uint8_t *blob, size_t bytes)
{
    const struct fi_info *info = ofi->rails[0].info;
    size_t count = bytes < BLOB_HEAD_BYTES ? 0 : blob[1];
    if (count < 1 || count > HAUL_OFI_RAILS_MAX || blob[0] != BLOB_VERSION ||
        bytes - BLOB_HEAD_BYTES != count * haul_get_u16(blob + 2))
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "its address is not understood");
    uint32_t version = haul_get_u32(blob + 4);
    /* (What the kinds over sockets say to each other changed between versions without notice.) */
    if (ofi->over_sockets && version != fi_version())
        return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                   "libfabric is %u.%u here and %u.%u there: %s needs the same "
                                   "version on both sides",
                                   FI_MAJOR(fi_version()), FI_MINOR(fi_version()),
                                   FI_MAJOR(version), FI_MINOR(version), ofi->kind);
    if (haul_get_u32(blob + 8) != info->addr_format ||
        haul_get_u32(blob + 12) != info->ep_attr->protocol ||
        haul_get_u32(blob + 16) != info->ep_attr->protocol_version)
        return haul_ofi_host->fail(HAUL_UNSUPPORTED,
                                   "the peer's addresses or protocol are of another kind");
    size_t one = haul_get_u16(blob + 2);
    int err = 0;
    for (size_t i = 0; i < count && !err; i++)
        err = check_address(&ofi->rails[0], blob + BLOB_HEAD_BYTES + i * one, one);
    return err;
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

/* Returns whether libfabric takes it; no piece is read from one that it does not take. Under the
 * rail's lock. */
static bool insert(struct haul_ofi_rail *rail, struct haul_ofi_address *address)
{
    struct fid_av *addresses = rail->reader.addresses;
    address->number = FI_ADDR_NOTAVAIL;
    return addresses && fi_av_insert(addresses, address->name, 1, &address->number, 0, NULL) == 1;
}

void haul_ofi_insert_known(struct haul_ofi_rail *rail)
{
    struct haul_ofi_address *address;
    LIST_FOREACH(address, &rail->known, node)
    insert(rail, address);
}

static struct haul_ofi_address *find_address(const struct haul_ofi_rail *rail, const uint8_t *name,
                                             size_t bytes)
{
    struct haul_ofi_address *address;
    LIST_FOREACH(address, &rail->known, node)
    if (address->bytes == bytes && !memcmp(address->name, name, bytes))
        return address;
    return NULL;
}

/* The entry of an address, with a reference for the caller. Errors: HAUL_NO_MEMORY,
 * HAUL_UNSUPPORTED. */
static int take_address(struct haul_ofi_rail *rail, const uint8_t *name, size_t bytes,
                        struct haul_ofi_address **result)
{
    struct haul_ofi_address *known = find_address(rail, name, bytes), *address = known;
    if (!known)
        address = calloc(1, sizeof *address + bytes);
    if (!address)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for a peer");
    if (!known) {
        address->number = FI_ADDR_NOTAVAIL;
        address->bytes = bytes;
        memcpy(address->name, name, bytes);
    }
    haul_ofi_lock(rail);
    /* (Where there is no reader the next one will be told.) */
    bool taken =
        address->number != FI_ADDR_NOTAVAIL || !rail->reader.endpoint || insert(rail, address);
    haul_ofi_unlock(rail);
    if (!taken) {
        if (!known)
            free(address);
        return haul_ofi_host->fail(HAUL_UNSUPPORTED, "ofi:%s does not take the peer's address",
                                   rail->ofi->kind);
    }
    if (!known)
        LIST_INSERT_HEAD(&rail->known, address, node);
    if (!known && rail->failing)
        haul_ofi_shun(address);
    address->references++;
    *result = address;
    return 0;
}

static void give_address(struct haul_ofi_rail *rail, struct haul_ofi_address *address)
{
    if (--address->references > 0)
        return;
    haul_ofi_lock(rail);
    if (address->number != FI_ADDR_NOTAVAIL)
        fi_av_remove(rail->reader.addresses, &address->number, 1, 0);
    haul_ofi_unlock(rail);
    LIST_REMOVE(address, node);
    free(address);
}

static void give_addresses(struct haul_ofi_peer *peer)
{
    for (unsigned i = 0; i < peer->ofi->rail_count; i++)
        if (peer->paths[i].address)
            give_address(&peer->ofi->rails[i], peer->paths[i].address);
}

/* Of the rails that are paired with one of the peer's. Errors: none of them takes its address. */
static int take_addresses(struct haul_ofi_peer *peer, const uint8_t *names, size_t bytes)
{
    struct haul_ofi *ofi = peer->ofi;
    unsigned theirs[HAUL_OFI_RAILS_MAX];
    int err = HAUL_UNSUPPORTED;
    haul_ofi_pair(ofi, names, bytes, peer->rails, theirs);
    for (unsigned i = 0; i < ofi->rail_count && err != HAUL_NO_MEMORY; i++) {
        if (theirs[i] == HAUL_OFI_NO_RAIL)
            continue;
        peer->paths[i].theirs = theirs[i];
        err =
            take_address(&ofi->rails[i], names + theirs[i] * bytes, bytes, &peer->paths[i].address);
        peer->path_count += !err;
    }
    return peer->path_count > 0 ? 0 : err;
}

bool haul_ofi_can_read(const struct haul_ofi_peer *peer, unsigned rail)
{
    const struct haul_ofi_address *address = peer->paths[rail].address;
    return address && address->number != FI_ADDR_NOTAVAIL &&
           haul_ofi_rail_reads(&peer->ofi->rails[rail]);
}

/* Readers that could not be renewed: once more. Errors: there is none. */
static int make_readers(struct haul_ofi *ofi)
{
    int err = 0;
    bool any = false;
    for (unsigned i = 0; i < ofi->rail_count; i++) {
        if (!ofi->rails[i].reader.endpoint)
            err = haul_ofi_renew_reader(&ofi->rails[i]);
        any |= ofi->rails[i].reader.endpoint != NULL;
    }
    return any ? 0 : err;
}

int haul_ofi_attach(void *rma, const void *blob, size_t bytes, struct haul_link *link,
                    void **result)
{
    (void)link; /* all that is needed is in the blob */
    struct haul_ofi *ofi = rma;
    const uint8_t *head = blob, *names = head + BLOB_HEAD_BYTES;
    int err = check_blob(ofi, blob, bytes);
    if (!err && !strcmp(ofi->kind, "shm"))
        err = check_region((const char *)names);
    if (!err)
        err = make_readers(ofi);
    if (err)
        return err;
    struct haul_ofi_peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return haul_ofi_host->fail(HAUL_NO_MEMORY, "no memory for a peer");
    peer->ofi = ofi;
    peer->rails = head[1];
    err = take_addresses(peer, names, haul_get_u16(head + 2));
    if (err) {
        give_addresses(peer);
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
    give_addresses(peer);
    free(peer);
}
