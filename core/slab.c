/* SPDX-License-Identifier: Apache-2.0
 * Slabs: memory from the system, faulted in before anybody sees it, cut into blocks. A very large
 * one is faulted in as it is used (but a file, which has to be whole): it takes long, under the
 * drive lock, and for a peer's word only.
 */
#include "slab.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define FAULT_IN_MAX ((size_t)64 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* Under AddressSanitizer free blocks are poisoned, so that a use after release is found. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAUL_POISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAUL_POISON 1
#endif
#ifdef HAUL_POISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

/* mmap aligns to pages only: maps more than needed and gives the ends back. */
static char *map_aligned(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t extra = HAUL_SLAB_UNIT - page;
    char *start =
        mmap(NULL, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    size_t head = haul_align_up((size_t)start, HAUL_SLAB_UNIT) - (size_t)start;
    if (head > 0)
        munmap(start, head);
    if (head < extra)
        munmap(start + head + bytes, extra - head);
    return start + head;
}

/* A memory file. -1: no descriptor is left for one; of half of them connections have the use. */
static int open_file(void)
{
    struct rlimit limit;
    int file = memfd_create("haul", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0 || getrlimit(RLIMIT_NOFILE, &limit) || (rlim_t)file < limit.rlim_cur / 2)
        return file;
    close(file);
    return -1;
}

/* Gives it its size. One page in each unit is there: huge pages are made of units that are not
 * empty. */
static bool size_file(int file, size_t bytes)
{
    bool done = !ftruncate(file, (off_t)bytes);
    for (size_t at = 0; done && at < bytes; at += HAUL_SLAB_UNIT)
        done = pwrite(file, "", 1, (off_t)at) == 1;
    return done;
}

static bool allocate_file(int file, size_t bytes)
{
    int refused;
    do
        refused = fallocate(file, 0, 0, (off_t)bytes);
    while (refused && errno == EINTR);
    return !refused;
}

/* Puts the file where the slab is, with all of its pages. What is sealed after that: its size (and
 * with it that no page can be taken away), and that it is written through this mapping only.
 *
 * Huge pages are asked for before the others come (a wish, Linux 6.1): that is quicker than to make
 * them of small ones, and than to have those. Without being told files get none, unless
 * shmem_enabled says otherwise. */
static bool map_file(const struct haul_slab *slab)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    if (mmap(slab->base, slab->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, slab->file,
             0) == MAP_FAILED)
        return false;
    (void)madvise(slab->base, slab->bytes, MADV_COLLAPSE);
    return allocate_file(slab->file, slab->bytes) && fcntl(slab->file, F_ADD_SEALS, seals) == 0;
}

static void touch_pages(char *base, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t offset = 0; offset < bytes; offset += page)
        *(volatile char *)(base + offset) = 0;
}

static bool fault_in(char *base, size_t bytes)
{
    /* A wish: without huge pages it works too. */
    (void)madvise(base, bytes, MADV_HUGEPAGE);
    int refused;
    do
        refused = madvise(base, bytes, MADV_POPULATE_WRITE);
    while (refused && (errno == EINTR || errno == EAGAIN));
    if (refused && errno == EINVAL) { /* a kernel before 5.14 */
        touch_pages(base, bytes);
        return true;
    }
    return !refused;
}

static int fail_map(size_t bytes)
{
    return haul_fail(HAUL_NO_MEMORY,
                     "the system has no memory for %zu MiB more of the pool (%s): lower "
                     "HAUL_POOL_MAX or free memory",
                     bytes >> 20, strerror(errno));
}

static size_t most_blocks(size_t slab_bytes)
{
    return slab_bytes > HAUL_SLAB_UNIT ? 1 : HAUL_SLAB_UNIT / HAUL_BLOCK_MIN;
}

static bool map_memory(struct haul_slab *slab, bool as_file)
{
    slab->base = map_aligned(slab->bytes);
    if (!slab->base)
        return false;
    if (as_file)
        slab->file = open_file();
    if (slab->file >= 0)
        return size_file(slab->file, slab->bytes) && map_file(slab) &&
               fault_in(slab->base, slab->bytes);
    return slab->bytes > FAULT_IN_MAX || fault_in(slab->base, slab->bytes);
}

static void unmap_memory(struct haul_slab *slab)
{
    if (slab->base)
        munmap(slab->base, slab->bytes);
    if (slab->file >= 0)
        close(slab->file);
}

int haul_slab_map(size_t bytes, bool as_file, struct haul_slab **slab)
{
    size_t blocks = most_blocks(bytes);
    struct haul_slab *made = calloc(1, sizeof *made + blocks * sizeof made->blocks[0]);
    if (!made)
        return fail_map(bytes);
    made->bytes = bytes;
    made->file = -1;
    if (!map_memory(made, as_file)) {
        int err = fail_map(bytes);
        unmap_memory(made);
        free(made);
        return err;
    }
    /* Written now, so that the first use of a block does not fault either. */
    for (size_t i = 0; i < blocks; i++)
        made->blocks[i].block.slab = made;
    haul_list_init(&made->all);
    haul_list_init(&made->place);
    haul_list_init(&made->idle);
    ASAN_POISON_MEMORY_REGION(made->base, bytes);
    *slab = made;
    return 0;
}

void haul_slab_share(struct haul_slab *slab)
{
    slab->shared = true;
    ASAN_UNPOISON_MEMORY_REGION(slab->base, slab->bytes);
}

void haul_slab_unmap(struct haul_slab *slab)
{
    ASAN_UNPOISON_MEMORY_REGION(slab->base, slab->bytes);
    unmap_memory(slab);
    free(slab);
}

void haul_slab_cut(struct haul_slab *slab, size_t block_bytes)
{
    slab->block_bytes = block_bytes;
    slab->capacity = (uint32_t)(slab->bytes / block_bytes);
    slab->untouched = 0;
    slab->free = NULL;
}

struct haul_slab_block *haul_slab_take(struct haul_slab *slab)
{
    struct haul_slab_block *taken = slab->free;
    if (taken) {
        slab->free = taken->next_free;
    } else {
        taken = &slab->blocks[slab->untouched];
        taken->block.data = slab->base + slab->untouched * slab->block_bytes;
        taken->block.bytes = slab->block_bytes;
        slab->untouched++;
    }
    slab->used++;
    ASAN_UNPOISON_MEMORY_REGION(taken->block.data, taken->block.bytes);
    return taken;
}

void haul_slab_put(struct haul_slab_block *block)
{
    struct haul_slab *slab = block->block.slab;
    if (!block->block.slab->shared)
        ASAN_POISON_MEMORY_REGION(block->block.data, block->block.bytes);
    block->next_free = slab->free;
    slab->free = block;
    slab->used--;
}

void *haul_slab_base(const struct haul_slab *slab)
{
    return slab->base;
}

size_t haul_slab_bytes(const struct haul_slab *slab)
{
    return slab->bytes;
}

int haul_slab_file(const struct haul_slab *slab)
{
    return slab->file;
}

void **haul_slab_regions(struct haul_slab *slab)
{
    return slab->regions;
}
