/* SPDX-License-Identifier: Apache-2.0
 * The table of core's settings, and options: their values with origins, plus those of providers. */
#include "config.h"

#include "error.h"
#include "log.h"
#include "number.h"
#include "util.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PREFIX "HAUL_"
#define AUTO_TEXT "auto"

enum {
    NAME_BYTES = 64,            /* of a setting's name; longer ones are known to nobody */
    POOL_UNIT = 2 << 20,        /* the pool maps memory in multiples of this */
    POOL_SHARE = 4,             /* pool_max auto: one part in this many of the memory limit */
    SECONDS_PER_DAY = 24 * 3600 /* longest heartbeat */
};

/* The number of a field that is given as "auto", until it is resolved. */
static const uint64_t automatic = UINT64_MAX;

/* ---- The table ------------------------------------------------------------------------------- */

struct field {
    const char *name, *default_value, *help;
    const struct haul_number_kind *kind; /* NULL: plain text */
    size_t offset;                       /* in struct haul_config */
    uint64_t least, most;
    bool takes_auto;
    bool trusted_only; /* the environment of a set-uid program does not set it */
};

#define NO_BOUND (UINT64_MAX - 1) /* UINT64_MAX means auto */

static const struct field core_fields[] = {
    {.name = "provider",
     .default_value = AUTO_TEXT,
     .help = "How bytes travel: auto (the best that both sides have), or the name of a provider, "
             "as \"haul info\" lists them.",
     .offset = offsetof(struct haul_config, provider)},
    {.name = "provider_path",
     .default_value = "",
     .help = "Folders to look for providers in before the installed ones, separated by ':'; the "
             "environment variable is ignored in set-uid programs.",
     .offset = offsetof(struct haul_config, provider_path),
     .trusted_only = true},
    {.name = "pool_max",
     .default_value = AUTO_TEXT,
     .help = "Most memory to receive into, in whole 2 MiB; auto: a quarter of what the machine "
             "and the cgroups allow.",
     .kind = &haul_size_kind,
     .offset = offsetof(struct haul_config, pool_max),
     .least = POOL_UNIT,
     .most = NO_BOUND,
     .takes_auto = true},
    {.name = "message_max",
     .default_value = AUTO_TEXT,
     .help = "Most bytes of arrays in one message that is received, at most pool_max; auto: "
             "pool_max.",
     .kind = &haul_size_kind,
     .offset = offsetof(struct haul_config, message_max),
     .most = NO_BOUND,
     .takes_auto = true},
    {.name = "prepaid_max",
     .default_value = "4M",
     .help = "Most bytes of arrays that a peer may send without being asked for them.",
     .kind = &haul_size_kind,
     .offset = offsetof(struct haul_config, prepaid_max),
     .most = NO_BOUND},
    {.name = "credits",
     .default_value = "16",
     .help = "Messages of one peer that may be received and not yet released.",
     .kind = &haul_count_kind,
     .offset = offsetof(struct haul_config, credits),
     .least = 1,
     .most = 1024},
    {.name = "spin_us",
     .default_value = "50",
     .help = "Longest that a wait spins before it sleeps, in microseconds; 0 in a process that may "
             "use one CPU only.",
     .kind = &haul_count_kind,
     .offset = offsetof(struct haul_config, spin_us),
     .most = 1000000},
    {.name = "heartbeat",
     .default_value = "20",
     .help = "Seconds of silence after which a peer is asked whether it lives, and as long again "
             "until it is given up; 0: never.",
     .kind = &haul_seconds_kind,
     .offset = offsetof(struct haul_config, heartbeat_ns),
     .most = SECONDS_PER_DAY * (uint64_t)HAUL_NS_PER_S},
    {.name = "bind",
     .default_value = AUTO_TEXT,
     .help = "Where memory and haul's threads go: auto (near the NIC that carries the data), none, "
             "numa:NODES, cores:CPUS (lists such as 0-3,8) or pci:ADDRESS (near that device).",
     .offset = offsetof(struct haul_config, bind)},
    {.name = "nic",
     .default_value = "",
     .help =
         "NICs that carry the data: devices or interfaces (\"mlx5_0\", \"eth0,eth1\"); empty: the "
         "best ones that are near.",
     .offset = offsetof(struct haul_config, nic)},
    {.name = "rails",
     .default_value = AUTO_TEXT,
     .help = "NICs to use at once, where a provider can: auto (all that are as near as the best "
             "one) or a number from 1 to 8, also of farther ones.",
     .offset = offsetof(struct haul_config, rails)},
    {.name = "progress_threads",
     .default_value = "1",
     .help = "Threads that drive NICs, where a provider can use several: each drives NICs of its "
             "own, the first is haul's own.",
     .kind = &haul_count_kind,
     .offset = offsetof(struct haul_config, progress_threads),
     .least = 1,
     .most = 8},
    {.name = "hugepages",
     .default_value = AUTO_TEXT,
     .help = "Pages of 2 MiB for the pool: auto (transparent ones), never, or require (to receive "
             "into those that the system has reserved, vm.nr_hugepages, or fail).",
     .offset = offsetof(struct haul_config, hugepages)},
    {.name = "log",
     .default_value = "warning",
     .help = "Least important log lines to write: error, warning, info or debug.",
     .kind = &haul_level_kind,
     .offset = offsetof(struct haul_config, log_level),
     .most = HAUL_LOG_DEBUG},
};

/* ---- Options --------------------------------------------------------------------------------- */

enum origin { ORIGIN_DEFAULT, ORIGIN_ENVIRONMENT, ORIGIN_OPTIONS };

/* A setting is core's (field), a provider's (no field, but a default), or was set by a name that no
 * provider has brought yet (neither). */
struct setting {
    char *name;
    const struct field *field;
    const char *default_value, *help; /* static: plugins are never unloaded */
    char *text;                       /* as given; NULL: the default */
    enum origin origin;
    uint64_t number;                     /* of core's fields that are not text: as given */
    char in_force[HAUL_NUMBER_TEXT_MAX]; /* likewise, as text: with auto and limits worked out */
};

struct haul_options {
    struct setting *settings; /* core's first, in the order of the table */
    size_t count;
    uint64_t memory_limit_bytes;
    unsigned cpu_limit;
    struct haul_config config; /* core's fields in force; its text belongs to the settings */
};

static bool is_number(const struct field *field)
{
    return field && field->kind;
}

static bool is_known(const struct setting *setting)
{
    return setting->default_value;
}

static const char *given_text(const struct setting *setting)
{
    return setting->text ? setting->text : setting->default_value;
}

static const char *text_in_force(const struct setting *setting)
{
    return is_number(setting->field) ? setting->in_force : given_text(setting);
}

static struct setting *find(const struct haul_options *options, const char *name)
{
    for (size_t i = 0; i < options->count; i++)
        if (strcmp(options->settings[i].name, name) == 0)
            return &options->settings[i];
    return NULL;
}

static void environment_name(const char *name, char variable[static NAME_BYTES])
{
    size_t end = (size_t)snprintf(variable, NAME_BYTES, PREFIX);
    for (; *name && end < NAME_BYTES - 1; name++)
        variable[end++] = (char)toupper((unsigned char)*name);
    variable[end] = '\0';
}

/* What a user would call it: the variable if that is where the value came from. */
static const char *name_for_user(const char *name, enum origin origin,
                                 char buffer[static NAME_BYTES])
{
    if (origin != ORIGIN_ENVIRONMENT)
        return name;
    environment_name(name, buffer);
    return buffer;
}

static int fail_value(const struct field *field, const char *text, enum origin origin)
{
    const struct haul_number_kind *kind = field->kind;
    char variable[NAME_BYTES], least[HAUL_NUMBER_TEXT_MAX], most[HAUL_NUMBER_TEXT_MAX];
    char range[sizeof least + sizeof most + 16] = "";
    kind->format(field->least, least, sizeof least);
    kind->format(field->most, most, sizeof most);
    if (kind->has_range && field->most != NO_BOUND)
        snprintf(range, sizeof range, ", from %s to %s", least, most);
    else if (kind->has_range && field->least > 0)
        snprintf(range, sizeof range, ", at least %s", least);
    return haul_fail(HAUL_CONFIG, "%s cannot be \"%.100s\": it takes %s%s%s",
                     name_for_user(field->name, origin, variable), text, kind->takes, range,
                     field->takes_auto ? ", or " AUTO_TEXT : "");
}

static int parse(const struct field *field, const char *text, enum origin origin, uint64_t *number)
{
    if (field->takes_auto && strcmp(text, AUTO_TEXT) == 0) {
        *number = automatic;
        return 0;
    }
    bool parsed = field->kind->parse(text, number);
    if (!parsed || *number < field->least || *number > field->most)
        return fail_value(field, text, origin);
    return 0;
}

static int fail_memory(void)
{
    return haul_fail(HAUL_NO_MEMORY, "there is no memory for a setting");
}

static int give_value(struct setting *setting, const char *text, enum origin origin)
{
    uint64_t number = 0;
    int err = is_number(setting->field) ? parse(setting->field, text, origin, &number) : 0;
    if (err)
        return err;
    char *copy = strdup(text);
    if (!copy)
        return fail_memory();
    free(setting->text);
    setting->text = copy;
    setting->origin = origin;
    setting->number = number;
    return 0;
}

/* An empty variable counts as one that is not set. */
static int give_environment(struct setting *setting)
{
    char variable[NAME_BYTES];
    environment_name(setting->name, variable);
    bool trusted_only = setting->field && setting->field->trusted_only;
    const char *text = trusted_only ? secure_getenv(variable) : getenv(variable);
    return text && *text ? give_value(setting, text, ORIGIN_ENVIRONMENT) : 0;
}

/* Appends a setting with a name and nothing else. */
static int append(struct haul_options *options, const char *name, struct setting **appended)
{
    struct setting *settings =
        realloc(options->settings, (options->count + 1) * sizeof *options->settings);
    if (!settings)
        return fail_memory();
    options->settings = settings;
    char *copy = strdup(name);
    if (!copy)
        return fail_memory();
    *appended = &settings[options->count++];
    **appended = (struct setting){.name = copy};
    return 0;
}

/* ---- Values in force ------------------------------------------------------------------------- */

static void store(struct haul_config *config, const struct setting *setting)
{
    void *member = (char *)config + setting->field->offset;
    if (!setting->field->kind)
        *(const char **)member = given_text(setting);
    else if (setting->field->kind == &haul_level_kind)
        *(int *)member = (int)setting->number;
    else
        *(uint64_t *)member = setting->number;
}

/* Of a field that is plain text; else NULL. */
static char **text_member(struct haul_config *config, const struct field *field)
{
    return field->kind ? NULL : (char **)(void *)((char *)config + field->offset);
}

static uint64_t load_number(const struct haul_config *config, const struct field *field)
{
    const void *member = (const char *)config + field->offset;
    return field->kind == &haul_level_kind ? (uint64_t) * (const int *)member
                                           : *(const uint64_t *)member;
}

/* Works out what depends on the machine or on other fields. */
static void resolve(struct haul_options *options)
{
    struct haul_config *config = &options->config;
    for (size_t i = 0; i < HAUL_COUNT_OF(core_fields); i++)
        store(config, &options->settings[i]);
    if (config->pool_max == automatic)
        config->pool_max = HAUL_MAX(options->memory_limit_bytes / POOL_SHARE, POOL_UNIT);
    config->pool_max -= config->pool_max % POOL_UNIT;
    if (config->message_max == automatic)
        config->message_max = config->pool_max;
    if (options->cpu_limit == 1)
        config->spin_us = 0;
    for (size_t i = 0; i < HAUL_COUNT_OF(core_fields); i++) {
        struct setting *setting = &options->settings[i];
        if (is_number(setting->field))
            setting->field->kind->format(load_number(config, setting->field), setting->in_force,
                                         sizeof setting->in_force);
    }
}

/* ---- Making, changing, reading --------------------------------------------------------------- */

static int append_core_field(struct haul_options *options, const struct field *field)
{
    struct setting *setting = NULL;
    int err = append(options, field->name, &setting);
    if (err)
        return err;
    setting->field = field;
    setting->default_value = field->default_value;
    setting->help = field->help;
    if (is_number(field))
        err = parse(field, field->default_value, ORIGIN_DEFAULT, &setting->number);
    return err ? err : give_environment(setting);
}

int haul_options_create(struct haul_options **options)
{
    if (!options)
        return haul_fail(HAUL_INVALID, "haul_options_create() needs a place for the options");
    struct haul_options *made = calloc(1, sizeof *made);
    if (!made)
        return fail_memory();
    made->memory_limit_bytes = haul_memory_limit_bytes();
    made->cpu_limit = haul_cpu_limit();
    for (size_t i = 0; i < HAUL_COUNT_OF(core_fields); i++) {
        int err = append_core_field(made, &core_fields[i]);
        if (err) {
            haul_options_destroy(made);
            return err;
        }
    }
    resolve(made);
    *options = made;
    return 0;
}

int haul_options_set(struct haul_options *options, const char *name, const char *value)
{
    if (!options || !name || !*name || !value)
        return haul_fail(HAUL_INVALID, "haul_options_set() needs options, a name and a value");
    struct setting *setting = find(options, name);
    /* A provider that is loaded later may bring the name; haul_options_check_names() has the last
     * word. */
    int err = setting ? 0 : append(options, name, &setting);
    if (!err)
        err = give_value(setting, value, ORIGIN_OPTIONS);
    if (!err)
        resolve(options);
    return err;
}

void haul_options_destroy(struct haul_options *options)
{
    if (!options)
        return;
    for (size_t i = 0; i < options->count; i++) {
        free(options->settings[i].name);
        free(options->settings[i].text);
    }
    free(options->settings);
    free(options);
}

void haul_options_each(const struct haul_options *options,
                       void (*visit)(const struct haul_setting *setting, void *arg), void *arg)
{
    static const char *const origins[] = {
        [ORIGIN_DEFAULT] = "default",
        [ORIGIN_ENVIRONMENT] = "environment",
        [ORIGIN_OPTIONS] = "options",
    };
    for (size_t i = 0; i < options->count; i++) {
        const struct setting *setting = &options->settings[i];
        if (!is_known(setting))
            continue;
        char variable[NAME_BYTES];
        environment_name(setting->name, variable);
        visit(&(struct haul_setting){.name = setting->name,
                                     .environment = variable,
                                     .value = text_in_force(setting),
                                     .default_value = setting->default_value,
                                     .origin = origins[setting->origin],
                                     .help = setting->help},
              arg);
    }
}

static int add_provider_field(struct haul_options *options, const struct haul_provider_field *field)
{
    struct setting *setting = find(options, field->name);
    if (setting && is_known(setting))
        return 0;
    int err = setting ? 0 : append(options, field->name, &setting);
    if (err)
        return err;
    setting->default_value = field->default_value ? field->default_value : "";
    setting->help = field->help ? field->help : "";
    return setting->text ? 0 : give_environment(setting);
}

int haul_options_add_fields(struct haul_options *options, const struct haul_provider_field *fields)
{
    int err = 0;
    for (; fields && fields->name && !err; fields++)
        err = add_provider_field(options, fields);
    return err;
}

const char *haul_options_get(const struct haul_options *options, const char *name)
{
    const struct setting *setting = find(options, name);
    return setting && is_known(setting) ? text_in_force(setting) : NULL;
}

static int append_copy(struct haul_options *options, const struct setting *from)
{
    struct setting *setting = NULL;
    int err = append(options, from->name, &setting);
    if (err)
        return err;
    char *name = setting->name;
    *setting = *from;
    setting->name = name;
    setting->text = from->text ? strdup(from->text) : NULL;
    return from->text && !setting->text ? fail_memory() : 0;
}

int haul_options_copy(const struct haul_options *from, struct haul_options **copy)
{
    struct haul_options *made = calloc(1, sizeof *made);
    if (!made)
        return fail_memory();
    made->memory_limit_bytes = from->memory_limit_bytes;
    made->cpu_limit = from->cpu_limit;
    for (size_t i = 0; i < from->count; i++) {
        int err = append_copy(made, &from->settings[i]);
        if (err) {
            haul_options_destroy(made);
            return err;
        }
    }
    resolve(made);
    *copy = made;
    return 0;
}

int haul_config_from_options(const struct haul_options *options, struct haul_config *config)
{
    const struct haul_config *in_force = &options->config;
    if (in_force->message_max > in_force->pool_max) {
        char variable[NAME_BYTES];
        const char *name = "message_max";
        name = name_for_user(name, find(options, name)->origin, variable);
        return haul_fail(HAUL_CONFIG,
                         "%s is %" PRIu64 " bytes, more than pool_max, %" PRIu64
                         ": lower it or raise pool_max (" PREFIX "POOL_MAX)",
                         name, in_force->message_max, in_force->pool_max);
    }
    *config = *in_force;
    bool copied = true;
    for (size_t i = 0; i < HAUL_COUNT_OF(core_fields); i++) {
        char **text = text_member(config, &core_fields[i]);
        if (text)
            copied &= (*text = strdup(*text)) != NULL;
    }
    if (copied)
        return 0;
    haul_config_clear(config);
    return fail_memory();
}

void haul_config_clear(struct haul_config *config)
{
    for (size_t i = 0; i < HAUL_COUNT_OF(core_fields); i++) {
        char **text = text_member(config, &core_fields[i]);
        if (text) {
            free(*text);
            *text = NULL;
        }
    }
}

/* ---- Names that nobody knows ----------------------------------------------------------------- */

/* Levenshtein's distance of two names shorter than NAME_BYTES. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES + 1]; /* row[j]: from what was seen of a to b's first j characters */
    size_t columns = strlen(b);
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < columns; j++) {
            size_t replaced = diagonal + (a[i] != b[j]);
            size_t shorter = HAUL_MIN(row[j], row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = HAUL_MIN(replaced, shorter);
        }
    }
    return row[columns];
}

/* The known name that is most like `name`, given as setting or as variable, or NULL. */
static const char *nearest(const struct haul_options *options, const char *name)
{
    char lower[NAME_BYTES];
    size_t prefix = strlen(PREFIX);
    name += strncasecmp(name, PREFIX, prefix) == 0 ? prefix : 0;
    size_t length = strlen(name);
    if (length >= sizeof lower)
        return NULL;
    for (size_t i = 0; i <= length; i++)
        lower[i] = (char)tolower((unsigned char)name[i]);
    const char *best = NULL;
    size_t best_distance = HAUL_MAX(length / 3, 1) + 1; /* farther ones are no misspelling */
    for (size_t i = 0; i < options->count; i++) {
        const struct setting *setting = &options->settings[i];
        if (!is_known(setting) || strlen(setting->name) >= NAME_BYTES)
            continue;
        size_t distance = edit_distance(lower, setting->name);
        if (distance < best_distance) {
            best_distance = distance;
            best = setting->name;
        }
    }
    return best;
}

int haul_options_check_names(const struct haul_options *options)
{
    for (size_t i = 0; i < options->count; i++) {
        const char *name = options->settings[i].name;
        if (is_known(&options->settings[i]))
            continue;
        const char *known = nearest(options, name);
        return haul_fail(HAUL_CONFIG,
                         "no setting of haul or of a provider in use is called \"%.100s\"%s%s%s",
                         name, known ? ": did you mean \"" : "; \"haul info --config\" lists all",
                         known ? known : "", known ? "\"?" : "");
    }
    return 0;
}

static void warn_if_unknown(const struct haul_options *options, const char *variable, size_t length)
{
    char name[NAME_BYTES], suggestion[NAME_BYTES] = "";
    for (size_t i = 0; i < options->count; i++) {
        environment_name(options->settings[i].name, name);
        if (is_known(&options->settings[i]) && strlen(name) == length &&
            memcmp(name, variable, length) == 0)
            return;
    }
    snprintf(name, sizeof name, "%.*s", (int)length, variable);
    const char *known = nearest(options, name);
    if (known)
        environment_name(known, suggestion);
    haul_log(HAUL_LOG_WARNING,
             "the environment variable %.*s is no setting of haul or of a provider in "
             "use%s%s%s",
             (int)length, variable, known ? ": did you mean " : "; haul info --config lists all",
             suggestion, known ? "?" : "");
}

void haul_options_warn_environment(const struct haul_options *options)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&warned))
        return;
    for (char **entry = environ; entry && *entry; entry++)
        if (strncmp(*entry, PREFIX, strlen(PREFIX)) == 0)
            warn_if_unknown(options, *entry, strcspn(*entry, "="));
}
