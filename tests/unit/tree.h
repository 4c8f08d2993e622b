/* SPDX-License-Identifier: Apache-2.0
 * For tests that look at made-up machines: a folder that stands for the root of their files. */
#ifndef HAUL_TESTS_TREE_H
#define HAUL_TESTS_TREE_H

enum { TREE_ROOT_BYTES = 64 };

/* These two return what a set-up and a tear-down of cmocka do. */
int tree_make(char root[static TREE_ROOT_BYTES]);
int tree_remove(const char *root);
/* The folders of a path, up to its last slash. */
void tree_make_folders(const char *path);
/* Makes the file root/<path>, with a line. */
void tree_put(const char *root, const char *path, const char *line);

#endif
