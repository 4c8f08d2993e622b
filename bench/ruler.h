/* SPDX-License-Identifier: Apache-2.0
 * What the benchmark and its baselines share: the phases of a run, latency histograms, fairness and
 * CPU time. No haul, no allocation: the baselines must stand on their own. */
#ifndef BENCH_RULER_H
#define BENCH_RULER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RULER_GIB 1073741824.0

uint64_t ruler_now_ns(void);
/* CPU time that a process (0: this one) has used, user and system; 0 if it is gone. */
uint64_t ruler_cpu_ns(pid_t pid);
/* Jain's index over n counts: 1 if all are equal, 1/n if one has everything. */
double ruler_fairness(const uint64_t *counts, size_t n);
/* Memory of its own, faulted in; huge: of huge pages where there are any. NULL: errno. */
void *ruler_map_memory(size_t bytes, bool huge);
/* For an array of a client's: as NumPy has it, which asks for huge pages from 4 MiB on. */
void *ruler_map_array(size_t bytes);
/* Reads every byte. */
void ruler_touch(const void *data, uint64_t bytes);

/* ---- Latencies ------------------------------------------------------------------------------- */

/* Log-linear: each octave is cut into 64 steps, so a value is known to within 1.6 %. */
enum {
    RULER_STEP_BITS = 6,
    RULER_OCTAVES = 42,
    RULER_BUCKETS = (RULER_OCTAVES + 1) << RULER_STEP_BITS
};

struct ruler_histogram {
    uint64_t count;
    uint64_t max_ns;
    uint64_t buckets[RULER_BUCKETS];
};

void ruler_record(struct ruler_histogram *histogram, uint64_t ns);
void ruler_merge(struct ruler_histogram *into, const struct ruler_histogram *from);
/* The latency in microseconds below which `share` of all values lie; 0 if there are none. */
double ruler_quantile_us(const struct ruler_histogram *histogram, double share);

/* ---- The board: memory that the processes of a run share --------------------------------------
 */

enum ruler_phase {
    RULER_START,   /* the server is coming up */
    RULER_CONNECT, /* its address is known */
    RULER_WARMUP,  /* all clients are connected: they send */
    RULER_MEASURE,
    RULER_OVER, /* clients finish what is under way and leave */
};

enum { RULER_SENTENCE = 512, RULER_ADDRESS = 256, RULER_PATH = 64 };

/* One per client process; written by it, read by the server's process. */
struct ruler_slot {
    _Atomic pid_t pid;
    atomic_uint connected; /* peers that this process has connected so far */
    uint64_t messages;     /* finished in the measured time */
    struct ruler_histogram latency;
    char path[RULER_PATH];      /* that its messages take */
    char error[RULER_SENTENCE]; /* what ended it too early; "" if nothing did */
};

struct ruler_board {
    atomic_uint phase; /* enum ruler_phase; a futex word */
    uint32_t slot_count;
    char address[RULER_ADDRESS]; /* the server's, from RULER_CONNECT on */
    struct ruler_slot slots[];
};

/* A board in a memfd that is inherited by fork and exec; *fd may be passed on. NULL: errno. */
struct ruler_board *ruler_board_create(uint32_t slots, int *fd);
/* The board of an inherited descriptor, which is closed. NULL: errno. */
struct ruler_board *ruler_board_open(int fd);
void ruler_board_close(struct ruler_board *board);
/* Enters a phase and wakes who waits for it. */
void ruler_board_enter(struct ruler_board *board, enum ruler_phase phase);
/* Waits until the phase is at least that. False: it did not come in time. */
bool ruler_board_await(struct ruler_board *board, enum ruler_phase phase, uint64_t timeout_ns);
static inline bool ruler_board_in(const struct ruler_board *board, enum ruler_phase phase)
{
    return atomic_load_explicit(&board->phase, memory_order_relaxed) == (unsigned)phase;
}

/* ---- Results --------------------------------------------------------------------------------- */

/* What every baseline prints, as one line of JSON, and `haul bench` reads. */
struct ruler_result {
    const char *provider; /* "sockets" */
    const char *path;     /* how: "spinning receiver, one sender at a time" */
    const char *mode;
    unsigned clients;
    uint64_t messages;
    uint64_t bytes;
    uint64_t rows;
    double seconds;
    double server_cpu_s;
    double client_cpu_s;
    double minor_faults; /* per message, in the server */
    double peak_rss_mib; /* of the server */
    double fairness;
    const struct ruler_histogram *latency; /* NULL: not measured */
};
void ruler_result_print(const struct ruler_result *result);

/* What a server process and its clients use in the measured time. */
struct ruler_span {
    uint64_t begin_ns;
    double server_cpu_s, client_cpu_s;
    long minor_faults;
};
void ruler_span_begin(struct ruler_span *span, const struct ruler_board *board);
/* Adds seconds, CPU times, faults and peak memory to a result that has its messages. */
void ruler_span_end(const struct ruler_span *span, const struct ruler_board *board,
                    struct ruler_result *result);

#endif
