/* SPDX-License-Identifier: Apache-2.0
 * The benchmark's measuring tools: see ruler.h. */
#include "ruler.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t ruler_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t ruler_cpu_ns(pid_t pid)
{
    clockid_t clock;
    return clock_getcpuclockid(pid, &clock) == 0 ? clock_ns(clock) : 0;
}

double ruler_fairness(const uint64_t *counts, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)counts[i];
        squares += (double)counts[i] * (double)counts[i];
    }
    return squares > 0 ? sum * sum / ((double)n * squares) : 0;
}

void *ruler_map_memory(size_t bytes, bool huge)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (huge)
        madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 1, bytes);
    return memory;
}

void *ruler_map_array(size_t bytes)
{
    return ruler_map_memory(bytes, bytes >= (size_t)4 << 20);
}

void ruler_touch(const void *data, uint64_t bytes)
{
    const unsigned char *at = data;
    uint64_t sum = 0, word;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        memcpy(&word, at, 8);
        sum += word;
    }
    while (bytes-- > 0)
        sum += *at++;
    __asm__ volatile("" : : "r"(sum)); /* the sum has a reader */
}

/* ---- Latencies ------------------------------------------------------------------------------- */

static unsigned bucket_of(uint64_t ns)
{
    unsigned steps = 1u << RULER_STEP_BITS;
    if (ns < steps)
        return (unsigned)ns;
    unsigned octave =
        63u - (unsigned)__builtin_clzll(ns) - RULER_STEP_BITS; /* above the linear part */
    if (octave >= RULER_OCTAVES)
        return RULER_BUCKETS - 1;
    return (octave << RULER_STEP_BITS) + (unsigned)(ns >> octave);
}

/* The middle of a bucket. */
static double bucket_ns(unsigned bucket)
{
    unsigned steps = 1u << RULER_STEP_BITS;
    if (bucket < 2 * steps)
        return bucket;
    unsigned octave = bucket / steps - 1;
    return ((double)(bucket % steps + steps) + 0.5) * (double)(1ull << octave);
}

void ruler_record(struct ruler_histogram *histogram, uint64_t ns)
{
    histogram->count++;
    histogram->buckets[bucket_of(ns)]++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

void ruler_merge(struct ruler_histogram *into, const struct ruler_histogram *from)
{
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (unsigned i = 0; i < RULER_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

double ruler_quantile_us(const struct ruler_histogram *histogram, double share)
{
    uint64_t below = 0;
    for (unsigned i = 0; i < RULER_BUCKETS; i++) {
        below += histogram->buckets[i];
        if (below > 0 && (double)below >= share * (double)histogram->count)
            return bucket_ns(i) / 1000;
    }
    return 0;
}

/* ---- The board ------------------------------------------------------------------------------- */

struct ruler_board *ruler_board_create(uint32_t slots, int *fd)
{
    size_t bytes = sizeof(struct ruler_board) + slots * sizeof(struct ruler_slot);
    *fd = memfd_create("haul-bench", 0);
    if (*fd < 0)
        return NULL;
    if (ftruncate(*fd, (off_t)bytes) != 0)
        return NULL;
    struct ruler_board *board = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (board == MAP_FAILED)
        return NULL;
    board->slot_count = slots;
    return board;
}

struct ruler_board *ruler_board_open(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return NULL;
    struct ruler_board *board =
        mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return board == MAP_FAILED ? NULL : board;
}

void ruler_board_close(struct ruler_board *board)
{
    if (board)
        munmap(board, sizeof(struct ruler_board) + board->slot_count * sizeof(struct ruler_slot));
}

void ruler_board_enter(struct ruler_board *board, enum ruler_phase phase)
{
    atomic_store(&board->phase, (unsigned)phase);
    syscall(SYS_futex, &board->phase, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool ruler_board_await(struct ruler_board *board, enum ruler_phase phase, uint64_t timeout_ns)
{
    uint64_t end_ns = ruler_now_ns() + timeout_ns, now_ns;
    unsigned now;
    while ((now = atomic_load(&board->phase)) < (unsigned)phase) {
        if ((now_ns = ruler_now_ns()) >= end_ns)
            return false;
        uint64_t left_ns = end_ns - now_ns;
        struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000u),
                                .tv_nsec = (long)(left_ns % 1000000000u)};
        syscall(SYS_futex, &board->phase, FUTEX_WAIT, now, &left, NULL, 0);
    }
    return true;
}

/* ---- Results --------------------------------------------------------------------------------- */

static void print_latency(const struct ruler_histogram *latency)
{
    if (!latency || latency->count == 0) {
        printf("\"latency_us\": null, ");
        return;
    }
    printf("\"latency_us\": {\"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f}, ",
           ruler_quantile_us(latency, 0.5), ruler_quantile_us(latency, 0.99),
           ruler_quantile_us(latency, 0.999), (double)latency->max_ns / 1000);
}

void ruler_result_print(const struct ruler_result *result)
{
    double gib = (double)result->bytes / RULER_GIB;
    double per_gib = gib > 0 ? 1 / gib : 0;
    double rate = result->seconds > 0 ? 1 / result->seconds : 0;
    printf("{\"provider\": \"%s\", \"path\": \"%s\", \"clients\": %u, \"mode\": \"%s\", ",
           result->provider, result->path, result->clients, result->mode);
    printf("\"messages\": %llu, \"bytes\": %llu, \"seconds\": %.4f, \"gib_per_s\": %.4f, ",
           (unsigned long long)result->messages, (unsigned long long)result->bytes, result->seconds,
           gib * rate);
    printf("\"rows_per_s\": %.1f, ", (double)result->rows * rate);
    print_latency(result->latency);
    printf("\"cpu_s_per_gib\": {\"server\": %.4f, \"client\": %.4f}, ",
           result->server_cpu_s * per_gib, result->client_cpu_s * per_gib);
    printf("\"minor_faults\": %.4f, \"peak_rss_mib\": %.1f, \"fairness\": %.4f}\n",
           result->minor_faults, result->peak_rss_mib, result->fairness);
}

/* ---- Spans ----------------------------------------------------------------------------------- */

static double clients_cpu_s(const struct ruler_board *board)
{
    uint64_t ns = 0;
    for (uint32_t i = 0; i < board->slot_count; i++)
        ns += ruler_cpu_ns(board->slots[i].pid);
    return (double)ns / 1e9;
}

void ruler_span_begin(struct ruler_span *span, const struct ruler_board *board)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    *span = (struct ruler_span){.minor_faults = usage.ru_minflt,
                                .client_cpu_s = clients_cpu_s(board),
                                .server_cpu_s = (double)ruler_cpu_ns(0) / 1e9,
                                .begin_ns = ruler_now_ns()};
}

void ruler_span_end(const struct ruler_span *span, const struct ruler_board *board,
                    struct ruler_result *result)
{
    struct rusage usage;
    result->seconds = (double)(ruler_now_ns() - span->begin_ns) / 1e9;
    result->server_cpu_s = (double)ruler_cpu_ns(0) / 1e9 - span->server_cpu_s;
    result->client_cpu_s = clients_cpu_s(board) - span->client_cpu_s;
    getrusage(RUSAGE_SELF, &usage);
    result->peak_rss_mib = (double)usage.ru_maxrss / 1024;
    if (result->messages > 0)
        result->minor_faults =
            (double)(usage.ru_minflt - span->minor_faults) / (double)result->messages;
}
