/* SPDX-License-Identifier: Apache-2.0
 * The .npy files that `haul send` sends. Their bytes go from the page cache straight to the
 * provider. */
#include "source.h"

#include "command.h"
#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX ".npy"

struct source {
    const char *path;
    char *key; /* the file's name without .npy */
    void *map;
    size_t map_bytes;
    struct haul_npy npy;
};

struct haul_sources {
    size_t count;
    struct source source[];
};

/* The pages of a file that became shorter, or that its disk cannot read, are gone: so is the send.
 */
static void map_failed(int signal_number)
{
    static const char sentence[] =
        "haul send: a file became shorter while it was sent, or its disk "
        "failed\n";
    (void)signal_number;
    ssize_t written = write(STDERR_FILENO, sentence, sizeof(sentence) - 1);
    (void)written;
    _exit(HAUL_EXIT_FILE);
}

static int fail_system(const char *path)
{
    return haul_report(HAUL_EXIT_FILE, "cannot read %s: %s", path, strerror(errno));
}

static int map_file(struct source *source, int file)
{
    struct stat status;
    if (fstat(file, &status) != 0)
        return fail_system(source->path);
    if (!S_ISREG(status.st_mode))
        return haul_report(HAUL_EXIT_FILE, "cannot send %s: it is no regular file", source->path);
    if (status.st_size == 0)
        return 0;
    void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (map == MAP_FAILED)
        return fail_system(source->path);
    source->map = map;
    source->map_bytes = (size_t)status.st_size;
    /* Advice: what the kernel makes of it changes the speed only. */
    madvise(map, source->map_bytes, MADV_SEQUENTIAL);
    madvise(map, source->map_bytes, MADV_WILLNEED);
    return 0;
}

static int open_source(struct source *source, const char *path)
{
    source->path = path;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return fail_system(path);
    int code = map_file(source, file);
    close(file);
    if (code)
        return code;
    if (!haul_npy_parse(&source->npy, source->map, source->map_bytes))
        return haul_report(HAUL_EXIT_FILE, "cannot send %s: %s", path, source->npy.why);
    source->key = strdup(basename(path));
    if (!source->key)
        return fail_system(path);
    size_t bytes = strlen(source->key);
    if (bytes > strlen(SUFFIX) && strcmp(source->key + bytes - strlen(SUFFIX), SUFFIX) == 0)
        source->key[bytes - strlen(SUFFIX)] = 0;
    source->npy.array.key = source->key;
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    const struct source *const *left = a, *const *right = b;
    return strcmp((*left)->key, (*right)->key);
}

/* Two files of one name would be one array: the other would be lost. */
static int check_keys(struct haul_sources *sources)
{
    struct source **sorted = malloc(sources->count * sizeof(struct source *));
    if (!sorted)
        return haul_report(HAUL_EXIT_FAILED, "%s", strerror(errno));
    for (size_t i = 0; i < sources->count; i++)
        sorted[i] = &sources->source[i];
    qsort(sorted, sources->count, sizeof(sorted[0]), compare_keys);
    int code = 0;
    for (size_t i = 1; !code && i < sources->count; i++) {
        if (compare_keys(&sorted[i - 1], &sorted[i]) == 0)
            code = haul_report(HAUL_EXIT_USAGE, "%s and %s would both be sent as \"%s\"",
                               sorted[i - 1]->path, sorted[i]->path, sorted[i]->key);
    }
    free(sorted);
    return code;
}

int haul_sources_open(char *const *paths, size_t count, struct haul_sources **sources)
{
    struct haul_sources *new = calloc(1, sizeof(*new) + count * sizeof(struct source));
    if (!new)
        return haul_report(HAUL_EXIT_FAILED, "%s", strerror(errno));
    struct sigaction action = {.sa_handler = map_failed};
    sigaction(SIGBUS, &action, NULL);
    new->count = count;
    int code = 0;
    for (size_t i = 0; !code && i < count; i++)
        code = open_source(&new->source[i], paths[i]);
    if (!code)
        code = check_keys(new);
    if (code)
        haul_sources_close(new);
    else
        *sources = new;
    return code;
}

int haul_sources_put(const struct haul_sources *sources, struct haul_dict *dict)
{
    for (size_t i = 0; i < sources->count; i++) {
        int err = haul_dict_put_array(dict, &sources->source[i].npy.array);
        if (err)
            return haul_report(HAUL_EXIT_FILE, "cannot send %s: %s", sources->source[i].path,
                               haul_error_detail());
    }
    return 0;
}

uint64_t haul_sources_bytes(const struct haul_sources *sources)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < sources->count; i++)
        bytes += sources->source[i].npy.array.nbytes;
    return bytes;
}

void haul_sources_close(struct haul_sources *sources)
{
    for (size_t i = 0; i < sources->count; i++) {
        free(sources->source[i].key);
        if (sources->source[i].map)
            munmap(sources->source[i].map, sources->source[i].map_bytes);
    }
    free(sources);
}
