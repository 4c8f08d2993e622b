/* SPDX-License-Identifier: Apache-2.0
 * The folder that `haul recv` fills. A message is written to a folder of its own inside it,
 * ".haul-recv-PID-N", and gets its final names when all of it is there: by renaming that folder, or
 * (flat) file by file. What a killed receiver has left is removed by the next one. */
#ifndef HAUL_TOOL_STORE_H
#define HAUL_TOOL_STORE_H

#include <haul/message.h>

enum { HAUL_STORE_WHY_MAX = 1024 };

struct haul_store {
    const char *path; /* as the user wrote it */
    bool flat;        /* PATH/key.npy; else PATH/000001/key.npy, PATH/000002/key.npy, ... */
    bool overwrite;   /* flat: replace files that exist */
    bool sync;        /* a message is stored when it is on the disk */
    int folder;
    size_t name_max;      /* bytes of a file name there */
    uint64_t next_number; /* not flat: of the next folder */
    char why[HAUL_STORE_WHY_MAX];
};

/* Makes the folder if it is missing, and checks that it can be written to. path, flat, overwrite
 * and sync are set by the caller. Returns 0, or an exit code with `why` set. */
int haul_store_open(struct haul_store *store);

/* Writes a message: all of it or nothing. Returns 0, or an exit code with `why` set:
 * HAUL_EXIT_FAILED when the message is at fault, HAUL_EXIT_FILE when the folder is,
 * HAUL_EXIT_SIGNAL + n when a signal came. On success `place` is where its files are: "" or
 * "000001/". */
enum { HAUL_STORE_PLACE_MAX = 32 };
int haul_store_message(struct haul_store *store, const struct haul_message *message,
                       char place[HAUL_STORE_PLACE_MAX]);

void haul_store_close(struct haul_store *store);

#endif
