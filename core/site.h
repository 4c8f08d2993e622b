/* SPDX-License-Identifier: Apache-2.0
 * Where an engine works: the choice of locality.c, made once and carried out.
 *
 * It is made as soon as it is known which NIC carries the data: when a provider chooses among its
 * NICs (rail.c) and can use them, when the user's wish names a place, or else with the first
 * connection that comes over one. Until then memory lies where the system puts it. All of it under
 * the drive lock. */
#ifndef HAUL_CORE_SITE_H
#define HAUL_CORE_SITE_H

#include "locality.h"
#include "memory.h"

struct haul_engine;
struct haul_link;
struct haul_slab;

/* A choice, with the names of its NICs. */
struct haul_choice {
    struct haul_locality place;
    char nics[HAUL_RAILS_MAX][HAUL_DEVICE_NAME_MAX]; /* of place.rails */
};

struct haul_site {
    struct haul_wish wish;
    struct haul_topology *topology; /* NULL: it was not needed so far */
    struct haul_choice *proposed;   /* of the provider that is being opened, or NULL */
    struct haul_choice chosen;      /* if settled */
    bool settled;
    struct haul_memory_wish memory; /* of the pools */
    struct haul_page_count pages;   /* of slabs mapped since */
    bool pages_warned;
};

/* Reads the wish. Errors: HAUL_CONFIG. */
int haul_site_open(struct haul_engine *engine);
void haul_site_close(struct haul_engine *engine);
/* All providers are open: settles what needs no connection. Errors: HAUL_NO_MEMORY. */
int haul_site_opened(struct haul_engine *engine);
/* Chooses among NICs, at most `most`, once the machine is known. Errors: HAUL_NO_MEMORY. */
int haul_site_choose(struct haul_site *site, const struct haul_nic *nics, size_t count, size_t most,
                     struct haul_choice *choice);
/* There is no proposal (any more). */
void haul_site_forget(struct haul_site *site);
/* The provider that has proposed a choice was opened, or could not be: settles it, or forgets it.
 */
void haul_site_provider_opened(struct haul_engine *engine, bool opened);
/* A connection was made, and nothing of it has been sent or received yet. */
void haul_site_connected(struct haul_link *link);
/* Looks where the pages of a new slab are. */
void haul_site_check(struct haul_engine *engine, const struct haul_slab *slab);
/* The machine as it is known, found if it was not needed so far. Errors: HAUL_NO_MEMORY. */
int haul_site_look(struct haul_site *site);

#endif
