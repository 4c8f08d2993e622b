/* SPDX-License-Identifier: Apache-2.0
 * Settings: one table of fields feeds the environment, haul_options, `haul info --config` and
 * docs/CONFIG.md. */
#ifndef HAUL_CORE_CONFIG_H
#define HAUL_CORE_CONFIG_H

#include <haul/context.h>
#include <haul/provider.h>

/* The parsed values of core's fields; see the table in config.c for their meaning. */
struct haul_config {
    char *provider;           /* "auto", "tcp", "zmq", "ofi:verbs", ... */
    char *provider_path;      /* folders, separated by ':'; "" in set-uid programs */
    uint64_t pool_max;        /* bytes; resolved: never 0 */
    uint64_t message_max;     /* bytes of one message's arrays; resolved: <= pool_max */
    uint64_t prepaid_max;     /* bytes that a peer may send unasked, at most */
    uint64_t credits;         /* messages that a peer may have unreleased with us */
    uint64_t spin_us;         /* longest spin before a sleep; 0: never */
    uint64_t heartbeat_ns;    /* silence after which a peer is asked, and as long again until it is
                                 given up; 0: never */
    char *bind, *nic, *rails; /* see haul_wish_parse() */
    uint64_t progress_threads;
    char *hugepages; /* "auto", "never" or "require" */
    int log_level;   /* enum haul_log_level */
};

/* Values with their origins; core's fields first, then those that providers brought. */
struct haul_options;

/* Adds a provider's fields (values from options set by name, the environment, the default). Fields
 * already there are left alone. */
int haul_options_add_fields(struct haul_options *options, const struct haul_provider_field *fields);
/* The value of a field as it is in force (sizes in bytes, heartbeat in seconds), or NULL. Valid
 * until the next set. */
const char *haul_options_get(const struct haul_options *options, const char *name);
int haul_options_copy(const struct haul_options *from, struct haul_options **copy);
/* To be called when all providers have added their fields: fails with HAUL_CONFIG if
 * haul_options_set() named a field that nobody has. */
int haul_options_check_names(const struct haul_options *options);
/* Likewise for the environment: logs a warning for each HAUL_ variable that no field has. Once per
 * process; later calls do nothing. */
void haul_options_warn_environment(const struct haul_options *options);
/* Parses core's fields into `config`. Errors: HAUL_CONFIG. */
int haul_config_from_options(const struct haul_options *options, struct haul_config *config);
void haul_config_clear(struct haul_config *config);

/* Memory this process may use: the smallest of the machine's and of every cgroup limit (v1 and v2)
 * above it. */
uint64_t haul_memory_limit_bytes(void);
/* CPUs this process may use: its affinity, and a cgroup's quota rounded up. At least 1. */
unsigned haul_cpu_limit(void);
/* The cgroups' part of both, for a file system that begins at `root` ("" or, in tests, a folder).
 * UINT64_MAX: no limit. */
uint64_t haul_cgroup_memory_bytes(const char *root);
uint64_t haul_cgroup_cpus(const char *root);

#endif
