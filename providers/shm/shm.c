/* SPDX-License-Identifier: Apache-2.0
 * The instance, its settings, and the descriptor. */
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

enum { COPY_THREADS_MAX = 64 };

const struct haul_host *haul_shm_host;

static const struct haul_provider_field fields[] = {
    {"shm", "on", "Whether processes on the same host share memory (auto): on or off."},
    {"copy_threads", "1",
     "Threads that copy a large array of a process on the same host, the one that receives "
     "included (shm)."},
    {NULL, NULL, NULL},
};

/* Errors: HAUL_UNSUPPORTED, HAUL_CONFIG. */
static int check_allowed(struct haul_engine *engine)
{
    const char *text = haul_shm_host->setting(engine, "shm");
    if (!strcmp(text, "on"))
        return 0;
    if (!strcmp(text, "off"))
        return haul_shm_host->fail(HAUL_UNSUPPORTED, "HAUL_SHM is off");
    return haul_shm_host->fail(HAUL_CONFIG, "HAUL_SHM is \"%.40s\": it takes on or off", text);
}

/* Errors: HAUL_CONFIG. */
static int read_threads(struct haul_engine *engine, unsigned *threads)
{
    const char *text = haul_shm_host->setting(engine, "copy_threads");
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || value < 1 || value > COPY_THREADS_MAX)
        return haul_shm_host->fail(HAUL_CONFIG, "HAUL_COPY_THREADS is \"%.40s\": it takes 1 to %d",
                                   text, COPY_THREADS_MAX);
    *threads = (unsigned)value;
    return 0;
}

/* Where memory files cannot be made or sealed (an old kernel, a sandbox), there is nothing to share
 * by. */
static int check_files(void)
{
    struct rlimit limit;
    if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur != RLIM_INFINITY)
        return haul_shm_host->fail(HAUL_UNSUPPORTED,
                                   "this process may not make large files, and so no memory "
                                   "files (ulimit -f)");
    int file = memfd_create("haul", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int err = file < 0 || fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE) ? errno : 0;
    if (file >= 0)
        close(file);
    return err ? haul_shm_host->fail(HAUL_UNSUPPORTED, "there are no memory files here: %s",
                                     strerror(err))
               : 0;
}

static void stop(void *rma)
{
    struct haul_shm *shm = rma;
    haul_shm_copier_end_threads(shm->copier);
}

static void close_shm(void *rma)
{
    struct haul_shm *shm = rma;
    haul_shm_unlisten(shm);
    haul_shm_peers_end(shm);
    haul_shm_reads_free(shm);
    haul_shm_regions_free(shm);
    if (shm->copier)
        haul_shm_copier_destroy(shm->copier);
    explicit_bzero(shm->cookie, sizeof shm->cookie);
    free(shm);
}

static int open_shm(struct haul_engine *engine, const char *kind, void **rma)
{
    (void)kind;
    unsigned threads = 1;
    int err = check_allowed(engine);
    if (!err)
        err = read_threads(engine, &threads);
    if (!err)
        err = check_files();
    if (err)
        return err;
    struct haul_shm *shm = calloc(1, sizeof *shm);
    if (!shm)
        return haul_shm_host->fail(HAUL_NO_MEMORY, "no memory for shm");
    shm->engine = engine;
    shm->listener = -1;
    shm->push_again_ns = UINT64_MAX;
    TAILQ_INIT(&shm->peers);
    TAILQ_INIT(&shm->guests);
    TAILQ_INIT(&shm->slabs);
    TAILQ_INIT(&shm->reads);
    TAILQ_INIT(&shm->unused_reads);
    if (getrandom(shm->cookie, sizeof shm->cookie, 0) != sizeof shm->cookie)
        err = haul_shm_host->fail(HAUL_SYSTEM, "getrandom: %s", strerror(errno));
    if (!err)
        err = haul_shm_place_find(&shm->place);
    if (!err)
        err = haul_shm_copier_create(engine, threads, &shm->copier);
    if (!err)
        err = haul_shm_listen(shm);
    if (err) {
        close_shm(shm);
        return err;
    }
    *rma = shm;
    return 0;
}

void haul_shm_due(struct haul_shm *shm, uint64_t due_ns)
{
    if (due_ns >= shm->sleeps_until_ns)
        return;
    shm->sleeps_until_ns = 0;
    haul_shm_host->wake(shm->engine);
}

static bool progress(void *rma)
{
    struct haul_shm *shm = rma;
    shm->sleeps_until_ns = 0;
    haul_shm_listen_progress(shm);
    bool did = haul_shm_push(shm);
    return haul_shm_reads_progress(shm) || did;
}

static uint64_t deadline_ns(void *rma)
{
    struct haul_shm *shm = rma;
    uint64_t due_ns = haul_shm_reads_due_ns(shm);
    uint64_t listen_ns = haul_shm_listen_due_ns(shm);
    due_ns = listen_ns < due_ns ? listen_ns : due_ns;
    due_ns = shm->push_again_ns < due_ns ? shm->push_again_ns : due_ns;
    shm->sleeps_until_ns = due_ns;
    return due_ns;
}

static const struct haul_rma_ops rma_ops = {
    .flags = HAUL_RMA_FILES | HAUL_RMA_CHEAP_REG,
    .open = open_shm,
    .stop = stop,
    .close = close_shm,
    .address = haul_shm_address,
    .attach = haul_shm_attach,
    .detach = haul_shm_detach,
    .lost = haul_shm_lost,
    .reg = haul_shm_reg,
    .dereg = haul_shm_dereg,
    .offer = haul_shm_offer,
    .reads_all = haul_shm_reads_all,
    .read = haul_shm_read,
    .fence = haul_shm_fence,
    .map = haul_shm_map,
    .unmap = haul_shm_unmap,
    .viewed = haul_shm_viewed,
    .progress = progress,
    .deadline_ns = deadline_ns,
};

haul_provider_entry_fn HAUL_PROVIDER_ENTRY_NAME;
const struct haul_provider *HAUL_PROVIDER_ENTRY_NAME(const struct haul_host *host)
{
    static const struct haul_provider provider = {
        .abi = HAUL_PROVIDER_ABI,
        .size = sizeof(struct haul_provider),
        .name = "shm",
        .description = "same host: given arrays in place, others with one copy",
        .rma = &rma_ops,
        .fields = fields,
    };
    haul_shm_host = host;
    return &provider;
}
