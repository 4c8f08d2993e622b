/* SPDX-License-Identifier: Apache-2.0
 * The rma of `loop`: reads out of memory that another context of the process offers, by memcpy.
 *
 * Who owns what. Registered memory is its registrant's. A region is in the table of the process
 * until dereg(); whoever reads finds it there anew for every piece, by a random key, so nothing of
 * a region is kept across calls. A view made by map() points into the exporter's memory: it is the
 * exporter's core that leaves that memory in place as long as viewed() says so.
 *
 * Which thread. Instances, peers and reads belong to one context. The table is under a lock of its
 * own: shared while a bounded piece is copied, exclusive in reg() and dereg(), so that after
 * dereg() nobody reads the memory any more.
 *
 * How it fails. What a peer sends (a blob, a way) is believed in nothing: it is checked against the
 * table when the bytes are copied, and a read that does not fit ends with HAUL_PROTOCOL. Reads end
 * in progress(), in the order in which they are ready, or with loop_rma_inside in read() itself;
 * fence() ends all that are outstanding. */
#include "loop.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

enum {
    OUTSTANDING_MAX = 16, /* reads of one peer */
    PASS_BYTES = 4 << 20, /* copied in one progress() */
    WAY_BYTES = 24,       /* u64 address, key, length */
    BLOB_BYTES = 16,      /* u64 nonce of the process, instance */
    BUCKETS = 256,
};

struct rma {
    struct haul_engine *engine;
    struct haul_loop_config config;
    uint64_t id;               /* of this instance, in its regions and its blob */
    uint64_t reads;            /* started, for the fault knobs */
    struct read *first, **end; /* outstanding, in turn */
};

/* A view of memory of a region. */
struct mapping {
    LIST_ENTRY(mapping) node;
    uint64_t address, bytes;
    bool orphan; /* its region is gone */
};

/* In the table, until dereg(). */
struct region {
    struct region *next;
    uint64_t owner, key; /* owner: the id of its instance */
    uint8_t *base;
    size_t bytes;
    unsigned access; /* enum haul_rma_access */
    LIST_HEAD(, mapping) views;
};

struct way {
    uint64_t address, key, length;
};

struct read {
    struct read *next;
    struct peer *peer;
    bool active, hangs, fails, cancelled;
    uint64_t due_ns;
    struct way way;
    uint64_t offset;
    uint8_t *to;
    struct region *region;
    size_t bytes; /* that are still to be copied */
    void *cookie;
};

struct peer {
    struct rma *rma;
    uint64_t owner;
    struct read reads[OUTSTANDING_MAX];
};

static struct {
    pthread_rwlock_t lock;
    struct region *buckets[BUCKETS];
    uint64_t nonce; /* of the process; 0: not drawn yet */
    uint64_t last_id;
} table = {.lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A random number that is not 0; 0 if the system has none. */
static uint64_t random_u64(void)
{
    uint64_t value = 0;
    while (value == 0) {
        if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value))
            return 0;
    }
    return value;
}

void haul_loop_rma_forked(void)
{
    const pthread_rwlock_t unlocked = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
    table.lock = unlocked;
    table.nonce = 0;
    memset(table.buckets, 0, sizeof(table.buckets));
}

/* ---- Instances ------------------------------------------------------------------------------ */

static int open_rma(struct haul_engine *engine, const char *kind, void **instance)
{
    (void)kind;
    struct haul_loop_config config = {0};
    int err = haul_loop_configure(engine, &config);
    if (err)
        return err;
    struct rma *rma = haul_loop_alloc(&config, sizeof(*rma));
    if (!rma)
        return HAUL_NO_MEMORY;
    pthread_rwlock_wrlock(&table.lock);
    if (table.nonce == 0)
        table.nonce = random_u64();
    bool random = table.nonce != 0;
    rma->id = ++table.last_id;
    pthread_rwlock_unlock(&table.lock);
    if (!random) {
        free(rma);
        return haul_loop_host->fail(HAUL_SYSTEM, "getrandom() gives no random bytes");
    }
    rma->engine = engine;
    rma->config = config;
    rma->end = &rma->first;
    *instance = rma;
    return 0;
}

static void close_rma(void *rma)
{
    free(rma);
}

/* ---- Registered memory ---------------------------------------------------------------------- */

/* The table is locked. */
static struct region **find_region(uint64_t key)
{
    struct region **place = &table.buckets[key % BUCKETS];
    while (*place && (*place)->key != key)
        place = &(*place)->next;
    return place;
}

static int reg(void *instance, void *base, size_t bytes, unsigned access, int file, void **result)
{
    (void)file; /* it is one process: nothing to map */
    struct rma *rma = instance;
    struct region *region = haul_loop_alloc(&rma->config, sizeof(*region));
    if (!region)
        return HAUL_NO_MEMORY;
    *region = (struct region){.owner = rma->id, .base = base, .bytes = bytes, .access = access};
    pthread_rwlock_wrlock(&table.lock);
    do {
        region->key = random_u64();
    } while (*find_region(region->key));
    if (region->key != 0)
        *find_region(region->key) = region;
    pthread_rwlock_unlock(&table.lock);
    *result = region;
    if (region->key != 0)
        return 0;
    free(region);
    return haul_loop_host->fail(HAUL_SYSTEM, "getrandom() gives no random bytes");
}

static void dereg(void *handle)
{
    struct region *region = handle;
    pthread_rwlock_wrlock(&table.lock);
    struct region **place = find_region(region->key);
    struct mapping *mapping;
    *place = region->next;
    while ((mapping = LIST_FIRST(&region->views)) != NULL) {
        LIST_REMOVE(mapping, node);
        mapping->orphan = true;
    }
    pthread_rwlock_unlock(&table.lock);
    free(region);
}

static bool inside(const struct region *region, uint64_t address, uint64_t bytes)
{
    uint64_t base = (uintptr_t)region->base;
    return address >= base && address - base <= region->bytes &&
           bytes <= region->bytes - (address - base);
}

static int offer(void *handle, const void *start, size_t bytes, uint8_t *way, size_t *way_bytes)
{
    const struct region *region = handle;
    if (!(region->access & HAUL_RMA_OFFER) || !inside(region, (uintptr_t)start, bytes) ||
        *way_bytes < WAY_BYTES)
        return haul_loop_host->fail(HAUL_INVALID, "this memory was not registered to be offered");
    haul_put_u64(way, (uintptr_t)start);
    haul_put_u64(way + 8, region->key);
    haul_put_u64(way + 16, bytes);
    *way_bytes = WAY_BYTES;
    return 0;
}

/* The region that a way of `owner` leads to, if it offers `bytes` from `offset`; else NULL with the
 * error detail set. The table is locked. */
static struct region *follow(const struct way *way, uint64_t owner, uint64_t offset, size_t bytes)
{
    struct region *region = *find_region(way->key);
    const char *why = NULL;
    if (!region || region->owner != owner || !(region->access & HAUL_RMA_OFFER))
        why = "its key is not, or no longer, of memory that the peer offers";
    else if (!inside(region, way->address, way->length))
        why = "it leads out of the memory that it names";
    else if (offset > way->length || bytes > way->length - offset)
        why = "it offers fewer bytes than are read";
    if (!why)
        return region;
    haul_loop_host->fail(HAUL_PROTOCOL, "the peer's way to its memory cannot be used: %s", why);
    return NULL;
}

static int parse_way(const uint8_t *bytes, size_t count, struct way *way)
{
    *way = (struct way){0};
    if (count != WAY_BYTES)
        return haul_loop_host->fail(HAUL_PROTOCOL, "the peer's way has %zu bytes, loop's have %d",
                                    count, WAY_BYTES);
    *way = (struct way){haul_get_u64(bytes), haul_get_u64(bytes + 8), haul_get_u64(bytes + 16)};
    return 0;
}

/* ---- Peers ---------------------------------------------------------------------------------- */

/* With loop_rma off neither side of a connection finds an rma to share: that is what core must
 * meet, and not a context that cannot be opened. */
static int check_allowed(const struct rma *rma)
{
    return rma->config.rma ? 0 : haul_loop_host->fail(HAUL_UNSUPPORTED, "loop_rma is off");
}

static int address(void *instance, struct haul_link *link, void *blob, size_t *bytes)
{
    (void)link;
    const struct rma *rma = instance;
    if (check_allowed(rma))
        return HAUL_UNSUPPORTED;
    if (*bytes < BLOB_BYTES)
        return haul_loop_host->fail(HAUL_INVALID, "loop's rma address takes %d bytes", BLOB_BYTES);
    uint8_t *to = blob;
    haul_put_u64(to, table.nonce); /* does not change after open */
    haul_put_u64(to + 8, rma->id);
    *bytes = BLOB_BYTES;
    return 0;
}

static int attach(void *instance, const void *blob, size_t bytes, struct haul_link *link,
                  void **result)
{
    (void)link; /* loop has nothing more to exchange */
    struct rma *rma = instance;
    const uint8_t *from = blob;
    if (check_allowed(rma))
        return HAUL_UNSUPPORTED;
    if (bytes != BLOB_BYTES || haul_get_u64(from) != table.nonce)
        return haul_loop_host->fail(HAUL_UNSUPPORTED, "loop reads inside one process only");
    struct peer *peer = haul_loop_alloc(&rma->config, sizeof(*peer));
    if (!peer)
        return HAUL_NO_MEMORY;
    peer->rma = rma;
    peer->owner = haul_get_u64(from + 8);
    *result = peer;
    return 0;
}

static void detach(void *peer)
{
    free(peer);
}

/* ---- Reads ---------------------------------------------------------------------------------- */

static void append_read(struct rma *rma, struct read *read)
{
    read->next = NULL;
    *rma->end = read;
    rma->end = &read->next;
}

static struct read *pop_read(struct rma *rma)
{
    struct read *read = rma->first;
    rma->first = read->next;
    if (!rma->first)
        rma->end = &rma->first;
    return read;
}

static bool every(uint64_t n, uint64_t number)
{
    return n > 0 && number % n == 0;
}

static bool ready(const struct read *read, uint64_t now_ns)
{
    return read->cancelled || (!read->hangs && read->due_ns <= now_ns);
}

/* Copies the next piece of a read. Returns 0 or why the read has failed. */
static int copy_piece(struct read *read, size_t *copied)
{
    size_t n = min_u64(read->bytes, read->peer->rma->config.piece_bytes);
    if (read->cancelled)
        return haul_loop_host->fail(HAUL_CANCELLED, "the read was fenced");
    if (read->fails)
        return haul_loop_host->fail(HAUL_SYSTEM, "loop_rma_fail_every failed the read");
    if (!(read->region->access & HAUL_RMA_LAND) ||
        !inside(read->region, (uintptr_t)read->to, read->bytes))
        return haul_loop_host->fail(HAUL_INVALID, "reads cannot land in this memory");
    pthread_rwlock_rdlock(&table.lock);
    bool found = follow(&read->way, read->peer->owner, read->offset, read->bytes) != NULL;
    if (found && n > 0)
        memcpy(read->to, (const uint8_t *)(uintptr_t)read->way.address + read->offset, n);
    pthread_rwlock_unlock(&table.lock);
    read->to += n;
    read->offset += n;
    read->bytes -= n;
    *copied += n;
    return found ? 0 : HAUL_PROTOCOL;
}

/* All of it at once: read_done() comes before read() returns. */
static void end_inside(struct read *read)
{
    size_t copied = 0;
    int err;
    do
        err = copy_piece(read, &copied);
    while (!err && read->bytes > 0);
    read->active = false;
    haul_loop_host->read_done(read->cookie, err);
}

static int start_read(void *handle, const uint8_t *way, size_t way_bytes, uint64_t offset, void *to,
                      void *region, size_t bytes, void *cookie)
{
    struct peer *peer = handle;
    struct rma *rma = peer->rma;
    struct read *read = peer->reads;
    while (read < peer->reads + OUTSTANDING_MAX && read->active)
        read++;
    if (read == peer->reads + OUTSTANDING_MAX)
        return HAUL_BUSY;
    uint64_t number = ++rma->reads;
    uint64_t delay_ns = rma->config.rma_delay_ns;
    *read = (struct read){.peer = peer,
                          .active = true,
                          .hangs = every(rma->config.rma_hang_every, number),
                          .fails = every(rma->config.rma_fail_every, number),
                          .due_ns = delay_ns > 0 ? haul_loop_host->now_ns() + delay_ns : 0,
                          .offset = offset,
                          .to = to,
                          .region = region,
                          .bytes = bytes,
                          .cookie = cookie};
    /* A way that is no way leaves a key of 0, which no region has: the read fails in its turn. */
    parse_way(way, way_bytes, &read->way);
    if (rma->config.rma_inside && delay_ns == 0 && !read->hangs) {
        end_inside(read);
        return 0;
    }
    if (!rma->first)
        haul_loop_host->wake(rma->engine);
    append_read(rma, read);
    return 0;
}

static void fence(void *handle)
{
    struct peer *peer = handle;
    bool lets = peer->rma->config.rma_fence_lets;
    for (int i = 0; i < OUTSTANDING_MAX; i++) {
        struct read *read = &peer->reads[i];
        if (lets && !read->hangs)
            read->due_ns = 0;
        else
            read->cancelled = true;
    }
    haul_loop_host->wake(peer->rma->engine);
}

/* Gives each outstanding read one turn. Callbacks may start reads (they come after ours) and fence,
 * but not detach a peer that has reads outstanding. */
static bool progress(void *instance)
{
    struct rma *rma = instance;
    if (!rma->first)
        return false;
    uint64_t now_ns = haul_loop_host->now_ns();
    size_t copied = 0, turns = 0;
    bool did = false;
    for (struct read *read = rma->first; read; read = read->next)
        turns++;
    while (turns-- > 0) {
        struct read *read = pop_read(rma);
        bool run = ready(read, now_ns) && copied < PASS_BYTES;
        int err = run ? copy_piece(read, &copied) : 0;
        did |= run;
        if (err || (run && read->bytes == 0)) {
            read->active = false;
            haul_loop_host->read_done(read->cookie, err);
        } else {
            append_read(rma, read);
        }
    }
    return did;
}

static uint64_t deadline_ns(void *instance)
{
    const struct rma *rma = instance;
    uint64_t deadline_ns = UINT64_MAX;
    for (const struct read *read = rma->first; read; read = read->next) {
        if (read->cancelled || !read->hangs)
            deadline_ns = min_u64(deadline_ns, read->cancelled ? 0 : read->due_ns);
    }
    return deadline_ns;
}

/* ---- Views ---------------------------------------------------------------------------------- */

static int map(void *handle, const uint8_t *way_bytes, size_t way_count, size_t bytes,
               const void **data, void **result)
{
    struct peer *peer = handle;
    struct way way;
    if (!peer->rma->config.rma_map)
        return haul_loop_host->fail(HAUL_UNSUPPORTED, "loop_rma_map is off");
    if (parse_way(way_bytes, way_count, &way))
        return HAUL_PROTOCOL;
    struct mapping *mapping = haul_loop_alloc(&peer->rma->config, sizeof(*mapping));
    if (!mapping)
        return HAUL_NO_MEMORY;
    mapping->address = way.address;
    mapping->bytes = bytes;
    pthread_rwlock_wrlock(&table.lock);
    struct region *region = follow(&way, peer->owner, 0, bytes);
    if (region)
        LIST_INSERT_HEAD(&region->views, mapping, node);
    pthread_rwlock_unlock(&table.lock);
    if (!region) {
        free(mapping);
        return HAUL_PROTOCOL;
    }
    *data = (const void *)(uintptr_t)way.address;
    *result = mapping;
    return 0;
}

static void unmap(void *handle)
{
    struct mapping *mapping = handle;
    pthread_rwlock_wrlock(&table.lock);
    if (!mapping->orphan)
        LIST_REMOVE(mapping, node);
    pthread_rwlock_unlock(&table.lock);
    free(mapping);
}

/* In one process a view is of the exporter's own mapping: that must stay as well. */
static bool viewed(void *handle, const void *start, size_t bytes, const void *link, bool unmapping)
{
    const struct region *region = handle;
    const struct mapping *mapping;
    uint64_t address = (uintptr_t)start;
    bool found = false;
    (void)link;
    (void)unmapping;
    pthread_rwlock_rdlock(&table.lock);
    LIST_FOREACH(mapping, &region->views, node)
    found |= mapping->address < address + bytes && address < mapping->address + mapping->bytes;
    pthread_rwlock_unlock(&table.lock);
    return found;
}

const struct haul_rma_ops haul_loop_rma = {
    .open = open_rma,
    .close = close_rma,
    .address = address,
    .attach = attach,
    .detach = detach,
    .reg = reg,
    .dereg = dereg,
    .offer = offer,
    .read = start_read,
    .fence = fence,
    .map = map,
    .unmap = unmap,
    .viewed = viewed,
    .progress = progress,
    .deadline_ns = deadline_ns,
};
