/* SPDX-License-Identifier: Apache-2.0
 * libhaul_count.so: preloaded into the benchmark's server, counts allocations and copied bytes.
 *
 * The functions of glibc are interposed; the real ones are called. Each thread counts in a cell of
 * its own, so that counting costs no more than an addition. Compiled with -fno-builtin: the
 * compiler must not turn our own code into calls of what it defines. */
#include "count.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- Cells ----------------------------------------------------------------------------------- */

enum { CELLS = 512, LARGE_BYTES = 4096 };

static struct cell {
    _Alignas(64) _Atomic uint64_t mallocs;
    _Atomic uint64_t large_mallocs;
    _Atomic uint64_t copied_bytes;
} cells[CELLS];
static atomic_uint cells_used;
static _Thread_local struct cell *mine __attribute__((tls_model("initial-exec")));

/* The last cell is shared by all threads that come after the others are taken. */
static struct cell *take_cell(void)
{
    unsigned index = atomic_fetch_add_explicit(&cells_used, 1, memory_order_relaxed);
    mine = &cells[index < CELLS - 1 ? index : CELLS - 1];
    return mine;
}

static void add(_Atomic uint64_t *count, uint64_t n)
{
    if (mine == &cells[CELLS - 1])
        atomic_fetch_add_explicit(count, n, memory_order_relaxed);
    else
        atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                              memory_order_relaxed);
}

static void count_malloc(size_t bytes)
{
    struct cell *cell = mine ? mine : take_cell();
    add(&cell->mallocs, 1);
    if (bytes > LARGE_BYTES)
        add(&cell->large_mallocs, 1);
}

static void count_copy(size_t bytes)
{
    struct cell *cell = mine ? mine : take_cell();
    add(&cell->copied_bytes, bytes);
}

EXPORT void haul_count_read(struct haul_counts *counts);
void haul_count_read(struct haul_counts *counts)
{
    *counts = (struct haul_counts){0};
    for (unsigned i = 0; i < CELLS; i++) {
        counts->mallocs += atomic_load_explicit(&cells[i].mallocs, memory_order_relaxed);
        counts->large_mallocs +=
            atomic_load_explicit(&cells[i].large_mallocs, memory_order_relaxed);
        counts->copied_bytes += atomic_load_explicit(&cells[i].copied_bytes, memory_order_relaxed);
    }
}

/* ---- Allocations ----------------------------------------------------------------------------- */

/* glibc exports its own functions under these names too; dlsym() would itself allocate. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void *__libc_valloc(size_t bytes);
extern void *__libc_pvalloc(size_t bytes);

#define COUNTED_ALLOCATION(name, parameters, total, real) \
    EXPORT void *name parameters;                         \
    void *name parameters                                 \
    {                                                     \
        count_malloc(total);                              \
        return real;                                      \
    }

COUNTED_ALLOCATION(malloc, (size_t bytes), bytes, __libc_malloc(bytes))
COUNTED_ALLOCATION(calloc, (size_t count, size_t bytes), count *bytes, __libc_calloc(count, bytes))
COUNTED_ALLOCATION(realloc, (void *memory, size_t bytes), bytes, __libc_realloc(memory, bytes))
COUNTED_ALLOCATION(memalign, (size_t alignment, size_t bytes), bytes,
                   __libc_memalign(alignment, bytes))
COUNTED_ALLOCATION(aligned_alloc, (size_t alignment, size_t bytes), bytes,
                   __libc_memalign(alignment, bytes))
COUNTED_ALLOCATION(valloc, (size_t bytes), bytes, __libc_valloc(bytes))
COUNTED_ALLOCATION(pvalloc, (size_t bytes), bytes, __libc_pvalloc(bytes))

EXPORT int posix_memalign(void **memory, size_t alignment, size_t bytes);
int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    bool power_of_two = alignment != 0 && (alignment & (alignment - 1)) == 0;
    if (!power_of_two || alignment % sizeof(void *) != 0)
        return EINVAL;
    count_malloc(bytes);
    void *got = __libc_memalign(alignment, bytes);
    if (!got)
        return ENOMEM;
    *memory = got;
    return 0;
}

/* ---- Copies ---------------------------------------------------------------------------------- */

typedef void *copy_fn(void *to, const void *from, size_t bytes);

static void *move_slowly(void *to, const void *from, size_t bytes);

/* memmove() serves for memcpy() as well: glibc's are the same code. The dynamic linker copies
 * before the real one is known. */
static copy_fn *real_move = move_slowly;

static void *move_slowly(void *to, const void *from, size_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((uintptr_t)t <= (uintptr_t)f) {
        for (size_t i = 0; i < bytes; i++)
            t[i] = f[i];
    } else {
        for (size_t i = bytes; i > 0; i--)
            t[i - 1] = f[i - 1];
    }
    return to;
}

__attribute__((constructor)) static void find_real(void)
{
    void *found = dlsym(RTLD_NEXT, "memmove");
    if (found)
        real_move = __extension__(copy_fn *) found;
}

static void *counted_move(void *to, const void *from, size_t bytes)
{
    count_copy(bytes);
    return real_move(to, from, bytes);
}

_Noreturn extern void __chk_fail(void); /* glibc's end for a buffer that overflows */

#define COUNTED_COPY(name, result)                                                      \
    EXPORT void *name(void *to, const void *from, size_t bytes);                        \
    void *name(void *to, const void *from, size_t bytes)                                \
    {                                                                                   \
        counted_move(to, from, bytes);                                                  \
        return result;                                                                  \
    }                                                                                   \
    EXPORT void *__##name##_chk(void *to, const void *from, size_t bytes, size_t room); \
    void *__##name##_chk(void *to, const void *from, size_t bytes, size_t room)         \
    {                                                                                   \
        if (bytes > room)                                                               \
            __chk_fail();                                                               \
        return name(to, from, bytes);                                                   \
    }

COUNTED_COPY(memcpy, to)
COUNTED_COPY(memmove, to)
COUNTED_COPY(mempcpy, (char *)to + bytes)

EXPORT void bcopy(const void *from, void *to, size_t bytes);
void bcopy(const void *from, void *to, size_t bytes)
{
    counted_move(to, from, bytes);
}
