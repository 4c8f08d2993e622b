/* SPDX-License-Identifier: Apache-2.0
 * Finding, loading and choosing providers.
 *
 * A provider is built in or a file haul_<name>.so in a folder of HAUL_PROVIDER_PATH or in the
 * folder "haul" beside the library. A loaded plugin stays loaded: threads or handlers of the
 * libraries it brought may outlive every context. */
#include "handles.h"
#include "signals.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

haul_provider_entry_fn haul_tcp_entry, haul_shm_entry;

/* The first carries the control of rma providers, which are tried in this order before any plugin.
 */
static const struct built_in {
    const char *name;
    haul_provider_entry_fn *entry;
} built_ins[] = {{"tcp", haul_tcp_entry}, {"shm", haul_shm_entry}};

/* What has been loaded, for the life of the process. */
struct plugin {
    struct haul_list node;
    char *name;
    char *file;
    const struct haul_provider *provider; /* NULL: could not be used */
    char reason[HAUL_DETAIL_MAX];
    unsigned listing; /* in which it came last */
};

static pthread_mutex_t plugins_lock = PTHREAD_MUTEX_INITIALIZER;
static struct haul_list plugins = {&plugins, &plugins};

void haul_plugins_lock(void)
{
    pthread_mutex_lock(&plugins_lock);
}

void haul_plugins_unlock(void)
{
    pthread_mutex_unlock(&plugins_lock);
}

static const char *built_in_file = "built in";

static bool descriptor_is_sound(const struct haul_provider *provider, const char *name,
                                char *reason, size_t size)
{
    if (provider->abi != HAUL_PROVIDER_ABI) {
        snprintf(
            reason, size,
            "it is built for provider ABI %u, this library has %u: install the plugin that came "
            "with this library",
            provider->abi, HAUL_PROVIDER_ABI);
        return false;
    }
    if (provider->size != sizeof *provider || !provider->name ||
        (!provider->channel && !provider->rma)) {
        snprintf(reason, size, "its descriptor is not complete");
        return false;
    }
    if (strcmp(provider->name, name) != 0) { /* a copy, say: it would be used beside the other */
        snprintf(reason, size, "it is provider %.40s: its file has to be called haul_%.40s.so",
                 provider->name, provider->name);
        return false;
    }
    return true;
}

static void ask_entry(struct plugin *plugin, haul_provider_entry_fn *entry)
{
    const struct haul_provider *provider = entry(&haul_host);
    if (!provider)
        haul_copy_text(plugin->reason, sizeof plugin->reason, haul_error_detail());
    else if (descriptor_is_sound(provider, plugin->name, plugin->reason, sizeof plugin->reason))
        plugin->provider = provider;
}

static void load_file(struct plugin *plugin)
{
    void *handle = dlopen(plugin->file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        haul_copy_text(plugin->reason, sizeof plugin->reason, dlerror());
        return;
    }
    haul_provider_entry_fn *entry;
    *(void **)&entry = dlsym(handle, "haul_provider_entry");
    if (entry)
        ask_entry(plugin, entry);
    else
        snprintf(plugin->reason, sizeof plugin->reason,
                 "%s is no haul provider: it has no haul_provider_entry", plugin->file);
}

static const struct built_in *find_built_in(const char *name)
{
    for (size_t i = 0; i < HAUL_COUNT_OF(built_ins); i++)
        if (!strcmp(built_ins[i].name, name))
            return &built_ins[i];
    return NULL;
}

/* The plugin of a file, loaded at the first call. Under plugins_lock. NULL: no memory. */
static struct plugin *get_plugin(const char *name, const char *file)
{
    HAUL_LIST_EACH(&plugins, node)
    {
        struct plugin *plugin = HAUL_CONTAINER_OF(node, struct plugin, node);
        if (!strcmp(plugin->file, file) && !strcmp(plugin->name, name))
            return plugin;
    }
    struct plugin *plugin = calloc(1, sizeof *plugin);
    if (plugin) {
        plugin->name = strdup(name);
        plugin->file = strdup(file);
    }
    if (!plugin || !plugin->name || !plugin->file) {
        if (plugin) {
            free(plugin->name);
            free(plugin->file);
        }
        free(plugin);
        return NULL;
    }
    const struct built_in *built_in = find_built_in(name);
    if (built_in && !strcmp(file, built_in_file))
        ask_entry(plugin, built_in->entry);
    else
        load_file(plugin);
    haul_list_append(&plugins, &plugin->node);
    return plugin;
}

/* ---- Search ---------------------------------------------------------------------------------- */

/* The folder "haul" beside the library, where plugins are installed. */
static bool installed_folder(char *folder, size_t size)
{
    Dl_info info;
    char file[PATH_MAX];
    if (!dladdr((void *)&built_ins, &info) || !info.dli_fname || !realpath(info.dli_fname, file))
        return false;
    char *slash = strrchr(file, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return snprintf(folder, size, "%s/haul", file) < (int)size;
}

/* Calls visit(folder, arg) for each folder that is searched; stops at true. */
static bool each_folder(const char *path, bool (*visit)(const char *folder, void *arg), void *arg)
{
    char folder[PATH_MAX];
    while (*path) {
        size_t length = strcspn(path, ":");
        if (length > 0 && length < sizeof folder) {
            memcpy(folder, path, length);
            folder[length] = '\0';
            if (visit(folder, arg))
                return true;
        }
        path += length + (path[length] == ':');
    }
    return installed_folder(folder, sizeof folder) && visit(folder, arg);
}

struct search {
    const char *name;
    struct plugin *found;
};

static bool look_in_folder(const char *folder, void *arg)
{
    struct search *search = arg;
    char file[PATH_MAX];
    if (snprintf(file, sizeof file, "%s/haul_%s.so", folder, search->name) >= (int)sizeof file)
        return false;
    if (access(file, F_OK))
        return false;
    search->found = get_plugin(search->name, file);
    return true;
}

static bool name_is_plain(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return length > 0 && name[length] == '\0';
}

/* Under plugins_lock. */
static struct plugin *find_plugin(const char *path, const char *name)
{
    if (find_built_in(name))
        return get_plugin(name, built_in_file);
    struct search search = {.name = name};
    if (name_is_plain(name))
        each_folder(path, look_in_folder, &search);
    return search.found;
}

struct listing {
    unsigned number;
    void (*visit)(struct plugin *plugin, void *arg);
    void *arg;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_plugin_file(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 8 && !strncmp(entry->d_name, "haul_", 5) &&
           !strcmp(entry->d_name + length - 3, ".so");
}

/* Whether what the name stands for has been listed: what is built in, or a file that is found
 * first.
 */
static bool is_listed(const struct listing *listing, const char *name)
{
    HAUL_LIST_EACH(&plugins, node)
    {
        const struct plugin *plugin = HAUL_CONTAINER_OF(node, const struct plugin, node);
        if (plugin->listing == listing->number && !strcmp(plugin->name, name))
            return true;
    }
    return false;
}

static void list_plugin(const struct listing *listing, const char *name, const char *file)
{
    struct plugin *plugin = is_listed(listing, name) ? NULL : get_plugin(name, file);
    if (!plugin)
        return;
    plugin->listing = listing->number;
    listing->visit(plugin, listing->arg);
}

static void list_file(const struct listing *listing, const char *folder, const char *base)
{
    char name[NAME_MAX], file[PATH_MAX];
    size_t length = strlen(base) - 8;
    memcpy(name, base + 5, length);
    name[length] = '\0';
    if (snprintf(file, sizeof file, "%s/%s", folder, base) < (int)sizeof file)
        list_plugin(listing, name, file);
}

static bool list_folder(const char *folder, void *arg)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_plugin_file, by_name);
    for (int i = 0; i < count; i++) {
        list_file(arg, folder, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return false;
}

/* All that can be found: built in, then by folder. Under plugins_lock. */
static void each_plugin(const char *path, void (*visit)(struct plugin *plugin, void *arg),
                        void *arg)
{
    static unsigned listings;
    struct listing listing = {++listings, visit, arg};
    for (size_t i = 0; i < HAUL_COUNT_OF(built_ins); i++)
        list_plugin(&listing, built_ins[i].name, built_in_file);
    each_folder(path, list_folder, &listing);
}

struct report {
    struct haul_options *options;
    void (*visit)(const struct haul_provider_info *info, void *arg);
    void *arg;
};

static void report_plugin(struct plugin *plugin, void *arg)
{
    struct report *report = arg;
    const struct haul_provider *provider = plugin->provider;
    const struct haul_provider_info info = {
        .name = provider ? provider->name : plugin->name,
        .file = plugin->file,
        .description = provider ? provider->description : NULL,
        .reason = provider ? NULL : plugin->reason,
        .channel = provider && provider->channel,
        .rma = provider && provider->rma,
    };
    if (provider && provider->fields)
        haul_options_add_fields(report->options, provider->fields);
    report->visit(&info, report->arg);
}

static const char *provider_path(const struct haul_options *options)
{
    const char *path = haul_options_get(options, "provider_path");
    return path ? path : "";
}

/* Calls visit() for all that can be found; takes plugins_lock. */
static void with_plugins(const struct haul_options *options,
                         void (*visit)(struct plugin *plugin, void *arg), void *arg)
{
    struct haul_signals before;
    pthread_mutex_lock(&plugins_lock);
    haul_signals_save(&before);
    each_plugin(provider_path(options), visit, arg);
    haul_signals_restore(&before);
    pthread_mutex_unlock(&plugins_lock);
}

void haul_providers_each(struct haul_options *options,
                         void (*visit)(const struct haul_provider_info *info, void *arg), void *arg)
{
    struct report report = {options, visit, arg};
    with_plugins(options, report_plugin, &report);
}

struct examination {
    const char *provider;
    void (*found)(const char *provider, const struct haul_finding *finding, void *arg);
    void *arg;
};

static void pass_finding(const struct haul_finding *finding, void *arg)
{
    struct examination *examination = arg;
    examination->found(examination->provider, finding, examination->arg);
}

static void examine_plugin(struct plugin *plugin, void *arg)
{
    struct examination *examination = arg;
    if (!plugin->provider || !plugin->provider->examine)
        return;
    examination->provider = plugin->provider->name;
    plugin->provider->examine(pass_finding, examination);
}

void haul_providers_examine(const struct haul_options *options,
                            void (*found)(const char *provider, const struct haul_finding *finding,
                                          void *arg),
                            void *arg)
{
    struct examination examination = {.found = found, .arg = arg};
    with_plugins(options, examine_plugin, &examination);
}

/* ---- Choice ---------------------------------------------------------------------------------- */

struct names {
    const char *wanted;
    char text[256];
};

static void append_name(struct plugin *plugin, void *arg)
{
    struct names *names = arg;
    size_t used = strlen(names->text);
    const struct haul_provider *provider = plugin->provider;
    if (!provider)
        return;
    used += (size_t)snprintf(names->text + used, sizeof names->text - used, "%s%s",
                             used ? ", " : "", provider->name);
    if (provider->rma && provider->rma->kind && used < sizeof names->text)
        snprintf(names->text + used, sizeof names->text - used,
                 " (\"%s:%.24s\" if that is a kind of it)", provider->name, names->wanted);
}

static int unknown_provider(const char *path, const char *name)
{
    struct names names = {.wanted = name};
    each_plugin(path, append_name, &names);
    return haul_fail(HAUL_PROVIDER,
                     "there is no provider \"%s\"; there are: auto, %s (HAUL_PROVIDER chooses, "
                     "HAUL_PROVIDER_PATH says where plugins are, `haul info` shows them)",
                     name, names.text);
}

/* Opens the instances of a provider that the engine uses, as transport number transport_count.
 * kind: of its rma, "" if it has no kinds, NULL to leave it out. */
static int open_transport(struct haul_engine *engine, const struct haul_provider *provider,
                          bool channel, const char *kind)
{
    if (engine->transport_count == HAUL_TRANSPORTS_MAX)
        return haul_fail(HAUL_PROVIDER, "too many providers at once");
    struct haul_transport *transport = &engine->transports[engine->transport_count];
    *transport = (struct haul_transport){.provider = provider, .slot = engine->transport_count};
    snprintf(transport->name, sizeof transport->name, "%s%s%s", provider->name,
             kind && *kind ? ":" : "", kind ? kind : "");
    int err = 0;
    if (provider->fields)
        err = haul_options_add_fields(engine->options, provider->fields);
    if (!err && channel)
        err = provider->channel->open(engine, &transport->channel);
    if (!err && kind)
        err = provider->rma->open(engine, kind, &transport->rma);
    if (err && transport->channel)
        provider->channel->close(transport->channel);
    haul_site_provider_opened(engine, !err);
    if (!err)
        engine->transport_count++;
    return err;
}

/* In automatic mode a log line names the provider. */
static int nothing_to_use(const struct haul_provider *provider, bool automatic)
{
    if (automatic)
        return haul_fail(HAUL_PROVIDER, "it finds nothing here that it could use");
    return haul_fail(HAUL_PROVIDER, "provider %s finds nothing here that it could use",
                     provider->name);
}

/* Opens the rma of a provider, in all of its kinds that work here; in automatic mode only in those
 * that are better than a channel. Fails if none does. */
static int open_kinds(struct haul_engine *engine, const struct haul_provider *provider,
                      bool automatic)
{
    char kind[HAUL_RMA_KIND_MAX];
    unsigned count = engine->transport_count;
    if (!provider->rma->kind)
        return open_transport(engine, provider, false, "");
    int end = provider->fields ? haul_options_add_fields(engine->options, provider->fields) : 0;
    if (end)
        return end;
    int err = nothing_to_use(provider, automatic);
    for (unsigned i = 0; !(end = provider->rma->kind(engine, i, automatic, kind)); i++) {
        err = open_transport(engine, provider, false, kind);
        if (err)
            haul_log(HAUL_LOG_INFO, "provider %s:%s is not used: %s", provider->name, kind,
                     haul_error_detail());
    }
    if (end != HAUL_UNSUPPORTED)
        return end;
    return engine->transport_count > count ? 0 : err;
}

static int open_named(struct haul_engine *engine, const char *name, const char *kind)
{
    struct plugin *plugin = find_plugin(engine->config.provider_path, name);
    if (!plugin)
        return unknown_provider(engine->config.provider_path, name);
    if (!plugin->provider)
        return haul_fail(HAUL_PROVIDER, "provider %s (%s) cannot be used: %s", name, plugin->file,
                         plugin->reason);
    const struct haul_provider *provider = plugin->provider;
    if (*kind && (!provider->rma || !provider->rma->kind))
        return haul_fail(HAUL_PROVIDER,
                         "provider %s has no kinds to choose from: \":%s\" says too "
                         "much",
                         name, kind);
    if (provider->channel)
        return open_transport(engine, provider, true, provider->rma ? "" : NULL);
    engine->rma_required = true;
    int err = open_named(engine, built_ins[0].name, "");
    if (err)
        return err;
    return *kind ? open_transport(engine, provider, false, kind)
                 : open_kinds(engine, provider, false);
}

struct automatic {
    struct haul_engine *engine;
    int err; /* what the user must mend: HAUL_CONFIG */
};

static void open_if_rma(struct plugin *plugin, void *arg)
{
    struct automatic *automatic = arg;
    const struct haul_provider *provider = plugin->provider;
    if (!provider || provider->channel || automatic->err)
        return;
    int err = open_kinds(automatic->engine, provider, true);
    if (err == HAUL_CONFIG)
        automatic->err = err;
    else if (err)
        haul_log(HAUL_LOG_INFO, "provider %s is not used: %s", provider->name, haul_error_detail());
}

static int open_auto(struct haul_engine *engine)
{
    struct automatic automatic = {engine, open_named(engine, built_ins[0].name, "")};
    if (!automatic.err)
        each_plugin(engine->config.provider_path, open_if_rma, &automatic);
    return automatic.err;
}

/* What follows the colon of "ofi:verbs". (libfabric takes more, and means other things by it.) */
static int check_kind(const char *name, const char *kind)
{
    size_t length = strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    if (length > 0 && !kind[length] && length < HAUL_RMA_KIND_MAX)
        return 0;
    return haul_fail(HAUL_PROVIDER,
                     "\"%.40s\" is no kind of provider %s: a kind is a word in lower case, like "
                     "\"verbs\" in \"ofi:verbs\"",
                     kind, name);
}

int haul_transports_open(struct haul_engine *engine)
{
    char name[64];
    const char *wanted = engine->config.provider;
    size_t length = strcspn(wanted, ":");
    if (length >= sizeof name)
        return haul_fail(HAUL_PROVIDER, "the provider's name \"%.80s\" is too long", wanted);
    memcpy(name, wanted, length);
    name[length] = '\0';
    const char *kind = wanted[length] ? wanted + length + 1 : "";
    if (wanted[length] && check_kind(name, kind))
        return HAUL_PROVIDER;
    struct haul_signals before;
    pthread_mutex_lock(&plugins_lock);
    haul_signals_save(&before);
    int err = strcmp(name, "auto") ? open_named(engine, name, kind) : open_auto(engine);
    haul_signals_restore(&before);
    pthread_mutex_unlock(&plugins_lock);
    if (err)
        haul_transports_close(engine);
    return err;
}

void haul_transports_stop(struct haul_engine *engine)
{
    for (unsigned i = 0; i < engine->transport_count; i++) {
        const struct haul_transport *transport = &engine->transports[i];
        if (transport->rma && transport->provider->rma->stop)
            transport->provider->rma->stop(transport->rma);
    }
}

void haul_transports_close(struct haul_engine *engine)
{
    while (engine->transport_count > 0) {
        struct haul_transport *transport = &engine->transports[--engine->transport_count];
        if (transport->rma)
            transport->provider->rma->close(transport->rma);
        if (transport->channel)
            transport->provider->channel->close(transport->channel);
        transport->rma = transport->channel = NULL;
    }
}
