/* SPDX-License-Identifier: Apache-2.0
 * See tree.h. */
#include "tree.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

int tree_make(char root[static TREE_ROOT_BYTES])
{
    strcpy(root, "/tmp/haul-tree-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

int tree_remove(const char *root)
{
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void tree_make_folders(const char *path)
{
    char folder[PATH_MAX];
    for (const char *slash = path; (slash = strchr(slash + 1, '/'));) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        assert_true(mkdir(folder, 0755) == 0 || errno == EEXIST);
    }
}

void tree_put(const char *root, const char *path, const char *line)
{
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s/%s", root, path);
    tree_make_folders(full);
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fprintf(file, "%s\n", line);
    assert_int_equal(fclose(file), 0);
}
