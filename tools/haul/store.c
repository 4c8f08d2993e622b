/* SPDX-License-Identifier: Apache-2.0
 * The folder that `haul recv` fills. */
#include "store.h"

#include "command.h"
#include "npy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAGE_PREFIX ".haul-recv-"
#define SUFFIX ".npy"
enum {
    FILE_NAME_MAX = HAUL_KEY_MAX + sizeof(SUFFIX), /* with the NUL */
    STAGE_NAME_MAX = 64,
    WRITE_BYTES = 32 << 20, /* per call, so that a signal is noticed soon */
};

/* A message on its way to its place. */
struct stage {
    struct haul_store *store;
    const struct haul_message *message;
    char name[STAGE_NAME_MAX];
    int folder;
};

static int fail(struct haul_store *store, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fail(struct haul_store *store, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(store->why, sizeof(store->why), format, arguments);
    va_end(arguments);
    haul_clean_text(store->why);
    return code;
}

static int fail_system(struct haul_store *store, const char *what, const char *name)
{
    return fail(store, HAUL_EXIT_FILE, "cannot %s %s%s%s: %s", what, store->path, *name ? "/" : "",
                name, strerror(errno));
}

/* ---- Names ---- */

static void file_name(const struct haul_array *array, char name[FILE_NAME_MAX])
{
    snprintf(name, FILE_NAME_MAX, "%s" SUFFIX, array->key);
}

static const char *why_no_file_name(const struct haul_store *store, const char *key)
{
    if (*key == 0)
        return "it is empty";
    if (*key == '.')
        return "it begins with a dot";
    if (strchr(key, '/'))
        return "it contains a slash";
    char clean[HAUL_KEY_MAX + 1];
    snprintf(clean, sizeof(clean), "%s", key);
    if (strcmp(haul_clean_text(clean), key) != 0)
        return "it contains a control character";
    return strlen(key) + strlen(SUFFIX) > store->name_max ? "it is too long" : NULL;
}

/* Whether a final name is free, or holds a file that may be replaced. */
static int check_free(struct haul_store *store, const char *name)
{
    struct stat status;
    if (fstatat(store->folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : fail_system(store, "look at", name);
    if (!store->overwrite)
        return fail(store, HAUL_EXIT_FILE, "%s/%s exists already; --overwrite would replace it",
                    store->path, name);
    if (S_ISDIR(status.st_mode))
        return fail(store, HAUL_EXIT_FILE, "%s/%s exists already and is a folder", store->path,
                    name);
    return 0;
}

static int check_array(struct haul_store *store, const struct haul_array *array)
{
    char name[FILE_NAME_MAX];
    const char *why = why_no_file_name(store, array->key);
    if (why)
        return fail(store, HAUL_EXIT_FAILED, "the key \"%s\" cannot be a file name: %s", array->key,
                    why);
    why = haul_npy_check(array);
    if (why)
        return fail(store, HAUL_EXIT_FAILED, "the array \"%s\" cannot be a .npy file: %s",
                    array->key, why);
    file_name(array, name);
    return store->flat ? check_free(store, name) : 0;
}

static int check_message(struct haul_store *store, const struct haul_message *message)
{
    int code = 0;
    for (size_t i = 0; !code && i < haul_message_count(message); i++)
        code = check_array(store, haul_message_at(message, i));
    return code;
}

/* ---- Removing ---- */

/* Removes a folder of ours with the files in it. */
static void remove_stage(int folder, const char *name)
{
    int stage = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *files = stage < 0 ? NULL : fdopendir(stage);
    if (files) {
        for (struct dirent *file; (file = readdir(files)) != NULL;)
            unlinkat(stage, file->d_name, 0);
        closedir(files);
    } else if (stage >= 0) {
        close(stage);
    }
    unlinkat(folder, name, AT_REMOVEDIR);
}

/* Every receiver holds a shared lock on the folder; who gets an exclusive one is alone, and what
 * stages there are belong to nobody. */
static void remove_litter(struct haul_store *store)
{
    int copy = openat(store->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *names = copy < 0 ? NULL : fdopendir(copy);
    if (names && flock(store->folder, LOCK_EX | LOCK_NB) == 0) {
        for (struct dirent *entry; (entry = readdir(names)) != NULL;) {
            if (strncmp(entry->d_name, STAGE_PREFIX, strlen(STAGE_PREFIX)) == 0)
                remove_stage(store->folder, entry->d_name);
        }
    }
    flock(store->folder, LOCK_SH);
    if (names)
        closedir(names);
    else if (copy >= 0)
        close(copy);
}

/* ---- Writing ---- */

static int stage_begin(struct stage *stage)
{
    static unsigned serial;
    struct haul_store *store = stage->store;
    do {
        snprintf(stage->name, sizeof(stage->name), STAGE_PREFIX "%d-%u", getpid(), ++serial);
        if (mkdirat(store->folder, stage->name, 0777) == 0) {
            stage->folder = openat(store->folder, stage->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (stage->folder >= 0)
                return 0;
            unlinkat(store->folder, stage->name, AT_REMOVEDIR);
            break;
        }
    } while (errno == EEXIST); /* another machine's receiver, by chance */
    return fail_system(store, "write to", "");
}

static void stage_end(struct stage *stage)
{
    close(stage->folder);
    remove_stage(stage->store->folder, stage->name);
}

/* Writes all bytes, unless a signal asks to stop. */
static int write_bytes(struct haul_store *store, int file, const char *name, const void *data,
                       uint64_t bytes, uint64_t offset)
{
    const char *at = data;
    while (bytes > 0) {
        int signal_number = haul_interrupt_signal();
        if (signal_number)
            return fail(store, HAUL_EXIT_SIGNAL + signal_number, "the receiver was stopped");
        ssize_t n = pwrite(file, at, bytes < WRITE_BYTES ? bytes : WRITE_BYTES, (off_t)offset);
        if (n < 0 && errno != EINTR)
            return fail_system(store, "write", name);
        if (n > 0) {
            at += n;
            bytes -= (uint64_t)n;
            offset += (uint64_t)n;
        }
    }
    return 0;
}

/* Reserves the space, so that a full disk is found before bytes are written. */
static int reserve(struct haul_store *store, int file, const char *name, uint64_t bytes)
{
    int result;
    do
        result = fallocate(file, 0, 0, (off_t)bytes);
    while (result != 0 && errno == EINTR && !haul_interrupt_signal());
    if (result == 0 || errno == EOPNOTSUPP || errno == EINTR)
        return 0; /* not every file system can; then the write tells */
    return fail_system(store, "write", name);
}

static int write_array(struct haul_store *store, int file, const char *name,
                       const struct haul_array *array)
{
    size_t header_bytes;
    void *header = haul_npy_header(array, &header_bytes);
    if (!header)
        return fail_system(store, "write", name);
    int code = reserve(store, file, name, header_bytes + array->nbytes);
    if (!code)
        code = write_bytes(store, file, name, header, header_bytes, 0);
    free(header);
    if (!code)
        code = write_bytes(store, file, name, array->data, array->nbytes, header_bytes);
    if (!code && store->sync && fsync(file) != 0)
        code = fail_system(store, "write", name);
    return code;
}

static int stage_array(struct stage *stage, const struct haul_array *array)
{
    char name[FILE_NAME_MAX];
    file_name(array, name);
    int file =
        openat(stage->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file < 0)
        return fail_system(stage->store, "write", name);
    int code = write_array(stage->store, file, name, array);
    if (close(file) != 0 && !code) /* where network file systems report a full disk */
        code = fail_system(stage->store, "write", name);
    return code;
}

/* ---- Giving the final names ---- */

/* Moves a file to a name that must be free. Not every file system knows RENAME_NOREPLACE; those
 * that do not have hard links, which never replace either. */
static int move_new(int from, const char *name, int to)
{
    if (renameat2(from, name, to, name, RENAME_NOREPLACE) == 0)
        return 0;
    return errno == EINVAL ? linkat(from, name, to, name, 0) : -1;
}

static int publish_files(struct stage *stage)
{
    struct haul_store *store = stage->store;
    char name[FILE_NAME_MAX];
    for (size_t i = 0; i < haul_message_count(stage->message); i++) {
        file_name(haul_message_at(stage->message, i), name);
        int result = store->overwrite ? renameat(stage->folder, name, store->folder, name)
                                      : move_new(stage->folder, name, store->folder);
        if (result == 0)
            continue;
        int code = fail_system(store, "write", name);
        while (i-- > 0 && !store->overwrite) { /* all or nothing */
            file_name(haul_message_at(stage->message, i), name);
            unlinkat(store->folder, name, 0);
        }
        return code;
    }
    return 0;
}

/* Renames the stage to the next free number. A folder with files in it is never replaced. */
static int publish_folder(struct stage *stage, char place[HAUL_STORE_PLACE_MAX])
{
    struct haul_store *store = stage->store;
    int result;
    do {
        snprintf(place, HAUL_STORE_PLACE_MAX, "%06" PRIu64, store->next_number++);
        result = renameat(store->folder, stage->name, store->folder, place);
    } while (result != 0 && (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR));
    if (result != 0)
        return fail_system(store, "write", place);
    strcat(place, "/");
    return 0;
}

static int publish(struct stage *stage, char place[HAUL_STORE_PLACE_MAX])
{
    struct haul_store *store = stage->store;
    place[0] = 0;
    if (store->sync && fsync(stage->folder) != 0)
        return fail_system(store, "write to", "");
    int code = store->flat ? publish_files(stage) : publish_folder(stage, place);
    if (!code && store->sync && fsync(store->folder) != 0)
        code = fail_system(store, "write to", "");
    return code;
}

int haul_store_message(struct haul_store *store, const struct haul_message *message,
                       char place[HAUL_STORE_PLACE_MAX])
{
    struct stage stage = {.store = store, .message = message};
    int code = check_message(store, message);
    if (!code)
        code = stage_begin(&stage);
    if (code)
        return code;
    for (size_t i = 0; !code && i < haul_message_count(message); i++)
        code = stage_array(&stage, haul_message_at(message, i));
    if (!code)
        code = publish(&stage, place);
    stage_end(&stage);
    return code;
}

/* ---- The folder ---- */

/* One more than the largest number that is taken. */
static uint64_t first_free_number(int folder)
{
    uint64_t largest = 0;
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *names = copy < 0 ? NULL : fdopendir(copy);
    for (struct dirent *entry; names && (entry = readdir(names)) != NULL;) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        bool digits = entry->d_name[0] >= '0' && entry->d_name[0] <= '9'; /* no sign, no space */
        if (digits && *end == 0 && number > largest && number < UINT64_MAX)
            largest = number;
    }
    if (names)
        closedir(names);
    return largest + 1;
}

int haul_store_open(struct haul_store *store)
{
    struct stage probe = {.store = store};
    if (mkdir(store->path, 0777) != 0 && errno != EEXIST) {
        store->folder = -1;
        return fail_system(store, "make the folder", "");
    }
    store->folder = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->folder < 0)
        return fail_system(store, "open the folder", "");
    remove_litter(store);
    long name_max = fpathconf(store->folder, _PC_NAME_MAX);
    store->name_max = name_max > 0 ? (size_t)name_max : NAME_MAX;
    store->next_number = first_free_number(store->folder);
    int code = stage_begin(&probe);
    if (!code)
        stage_end(&probe);
    else
        haul_store_close(store);
    return code;
}

void haul_store_close(struct haul_store *store)
{
    if (store->folder >= 0)
        close(store->folder);
    store->folder = -1;
}
