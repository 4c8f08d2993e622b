/* SPDX-License-Identifier: Apache-2.0
 * A progress bar with the rate. */
#include "progress.h"

#include "command.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { COLUMNS_DEFAULT = 80, BAR_MAX = 40, TEXT_COLUMNS = 52 };
static const double redraw_s = 0.1;

double haul_progress_clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void haul_progress_start(struct haul_progress *progress, bool wanted, uint64_t total_bytes)
{
    double now_s = haul_progress_clock_s();
    *progress = (struct haul_progress){
        .shown = wanted && isatty(STDERR_FILENO),
        .total_bytes = total_bytes,
        .start_s = now_s,
        .drawn_s = now_s,
    };
}

static int bar_columns(void)
{
    struct winsize size;
    int columns = COLUMNS_DEFAULT;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        columns = size.ws_col;
    int bar = columns - TEXT_COLUMNS;
    return bar > BAR_MAX ? BAR_MAX : bar > 0 ? bar : 0;
}

void haul_progress_show(struct haul_progress *progress, uint64_t done_bytes)
{
    double now_s = haul_progress_clock_s();
    if (!progress->shown || progress->total_bytes == 0 || now_s - progress->drawn_s < redraw_s)
        return;
    progress->drawn_s = now_s;
    double rate = (double)done_bytes / (now_s - progress->start_s);
    double part = (double)done_bytes / (double)progress->total_bytes;
    int columns = bar_columns();
    int filled = (int)(part * columns);
    char bar[BAR_MAX + 1] = "", done[HAUL_BYTES_TEXT], total[HAUL_BYTES_TEXT];
    memset(bar, ' ', (size_t)columns);
    memset(bar, '#', (size_t)filled);
    fprintf(stderr, "\r%3.0f%% [%s] %s of %s  %.2f GiB/s\033[K", part * 100, bar,
            haul_bytes_text(done_bytes, done), haul_bytes_text(progress->total_bytes, total),
            rate / (1 << 30));
    fflush(stderr);
}

void haul_progress_end(struct haul_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}
