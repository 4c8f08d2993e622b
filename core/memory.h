/* SPDX-License-Identifier: Apache-2.0
 * Memory from the system: with huge pages and on the NUMA nodes that are wished for, and with its
 * pages present before anybody sees it. */
#ifndef HAUL_CORE_MEMORY_H
#define HAUL_CORE_MEMORY_H

#include "topology.h"

enum { HAUL_SLAB_UNIT = 2 << 20 }; /* mappings are multiples of this, and so aligned: a huge page */

enum haul_hugepages {
    HAUL_HUGEPAGES_AUTO,    /* transparent ones where the kernel makes them */
    HAUL_HUGEPAGES_NEVER,   /* small pages */
    HAUL_HUGEPAGES_REQUIRE, /* of private memory those that the system has reserved, or it fails */
};

/* "auto", "never" or "require". Errors: HAUL_CONFIG. */
int haul_hugepages_parse(const char *text, enum haul_hugepages *hugepages);

struct haul_memory_wish {
    enum haul_hugepages hugepages;
    const struct haul_topology *topology; /* NULL: no node is chosen */
    struct haul_set nodes;                /* empty: none is chosen */
};

struct haul_mapping {
    char *base;
    size_t bytes;
    int file; /* the memory file that it is all of, or -1: it is private memory */
};

/* Maps memory (bytes: a multiple of HAUL_SLAB_UNIT) with every page present; but those of private
 * memory of more than 64 MiB come as they are used, unless they are reserved huge pages.
 *
 * as_file: see struct haul_pool_hooks; private memory where no descriptor is left. wish NULL:
 * transparent huge pages, from anywhere. Nodes that memory cannot be bound to are no error.
 * Errors: HAUL_NO_MEMORY. */
int haul_memory_map(size_t bytes, bool as_file, const struct haul_memory_wish *wish,
                    struct haul_mapping *mapping);
/* Also of one that is unmapped already. */
void haul_memory_unmap(struct haul_mapping *mapping);

/* How many pages are where. */
struct haul_page_count {
    size_t looked, present;
    size_t on_nodes; /* of the present ones, on nodes of the set */
};

/* Where the pages of a range are: of at most so many samples, evenly over the range. False, and
 * nothing was counted: the kernel does not tell, as in many containers. */
bool haul_memory_count_pages(const void *base, size_t bytes, const struct haul_set *nodes,
                             size_t samples, struct haul_page_count *count);

/* The NUMA node of the page that a byte lies in. -1: the kernel does not tell, or there is no page.
 */
int haul_memory_node(const void *byte);

#endif
