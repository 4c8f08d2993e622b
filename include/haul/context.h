/* SPDX-License-Identifier: Apache-2.0
 * haul/context.h: a context holds the memory pool, the providers and the progress of everything
 * made from it; options configure it. */
#ifndef HAUL_CONTEXT_H
#define HAUL_CONTEXT_H

#include <haul/error.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct haul_context;
struct haul_options;

/* The library's version, "0.1.0". */
HAUL_API const char *haul_version(void);

/* Settings for contexts. A new options object holds, for each field, the value of the environment
 * variable HAUL_<NAME> or else the default; haul_options_set() overrides both. docs/CONFIG.md lists
 * the fields. Owned by the caller, used by one thread at a time; a context copies what it needs.
 * Errors: HAUL_CONFIG (an environment variable holds something else than its field takes). */
HAUL_API int haul_options_create(struct haul_options **options);
/* Sets field `name` ("provider", "pool_max", ...: lower case, without HAUL_) from text.
 * Errors: HAUL_CONFIG with the field and what it takes. */
HAUL_API int haul_options_set(struct haul_options *options, const char *name, const char *value);
HAUL_API void haul_options_destroy(struct haul_options *options);

/* One setting, as haul_options_each() reports it. All text is valid during the callback only. */
struct haul_setting {
    const char *name;          /* "pool_max" */
    const char *environment;   /* "HAUL_POOL_MAX" */
    const char *value;         /* as it is in force, "6442450944" */
    const char *default_value; /* as documented, "auto" */
    const char *origin;        /* "default", "environment" or "options" */
    const char *help;          /* one sentence */
};
/* Visits all settings: core's, and those of providers that haul_providers_each() has added. */
HAUL_API void haul_options_each(const struct haul_options *options,
                                void (*visit)(const struct haul_setting *setting, void *arg),
                                void *arg);

/* One provider that was looked for, as haul_providers_each() reports it. */
struct haul_provider_info {
    const char *name; /* "tcp" */
    const char *file; /* the plugin's file, or "built in" */
    const char
        *description;   /* one line, with the version of the library it uses; NULL if not loaded */
    const char *reason; /* NULL if it can be used, else why not and what to do */
    bool channel;       /* it implements the channel table */
    bool rma;           /* it implements the rma table */
};
/* Visits all providers that can be found and adds the settings of those that load to `options`. The
 * callback must not call haul. */
HAUL_API void haul_providers_each(struct haul_options *options,
                                  void (*visit)(const struct haul_provider_info *info, void *arg),
                                  void *arg);

/* What a provider found out about this machine, as haul_providers_examine() reports it. */
enum haul_finding_state {
    HAUL_FINDING_OK,
    HAUL_FINDING_NOTE,    /* good to know; nothing has to be done */
    HAUL_FINDING_WARNING, /* something is not as good as it could be */
    HAUL_FINDING_BROKEN,  /* something does not work */
};
struct haul_finding {
    enum haul_finding_state state;
    const char *found;  /* one line: "verbs: mlx5_0, link up, 100 Gbit/s" */
    const char *advice; /* what to do, one line; NULL: nothing */
};
/* Asks all providers that can be found and loaded what they find on this machine: versions of
 * libraries, devices, their links. Calls found() for each answer; its text is valid during the call
 * only, and it must not call haul. May take seconds, because devices are looked at. Any thread; not
 * in a child of fork() whose parent used a provider. Reports no errors: a provider that does not
 * load has no findings, and haul_providers_each() says why. */
HAUL_API void haul_providers_examine(const struct haul_options *options,
                                     void (*found)(const char *provider,
                                                   const struct haul_finding *finding, void *arg),
                                     void *arg);

/* Opens a context. `options` NULL: the environment alone. The caller owns it and closes it;
 * messages received may outlive it. Any thread. Errors: HAUL_CONFIG, HAUL_PROVIDER (unknown, not
 * loadable, another ABI), HAUL_NO_MEMORY, HAUL_SYSTEM. */
HAUL_API int haul_open(struct haul_context **context, const struct haul_options *options);

/* Ends what it does: servers and peers are closed, their ops fail with HAUL_CLOSED, waits in other
 * threads end with HAUL_CLOSED. Bounded: at most 2 s, to hand over what is on its way out; beyond
 * that only while rma reads that were fenced have not ended, since what they write to is nobody's
 * memory until then. The handles of servers, peers, ops and batches made from it stay to be
 * released by their owners. */
HAUL_API void haul_context_shutdown(struct haul_context *context);
/* The same, and the end of the handle: no other thread may begin a call with it. */
HAUL_API void haul_close(struct haul_context *context);

/* A descriptor for poll/select/epoll: readable (level-triggered) as long as the context is shut
 * down, a message waits to be received or a finished op of haul_send_async(), haul_call_async() or
 * haul_reply_async() has not been waited for, tested or released. Never read from it or close it.
 * Asking for it says that messages are to come, as haul_recv() would; where the last receive named
 * memory, large ones go on waiting for the next. Belongs to the context. Returns the descriptor or
 * a negative error (HAUL_SYSTEM, HAUL_FORKED, HAUL_CLOSED). */
HAUL_API int haul_context_fd(struct haul_context *context);
/* The same for finished ops alone; for messages alone there are haul_server_fd() and
 * haul_peer_fd(). For event loops that do not always want the next message: what nobody collects
 * keeps haul_context_fd() readable. */
HAUL_API int haul_context_ops_fd(struct haul_context *context);

/* For languages whose signal handlers run between their statements: from now on no signal ends a
 * wait by itself. Instead each thread that waits calls `interrupted` when a signal has come, and
 * about ten times a second, with no lock of haul held; true ends its wait with HAUL_INTERRUPTED. It
 * may call haul. NULL: as before. */
HAUL_API void haul_context_interrupt(struct haul_context *context, bool (*interrupted)(void *arg),
                                     void *arg);

/* Log lines go to standard error by default (level: setting "log": error, warning, info, debug).
 * `sink` NULL restores that. Process-wide. The sink is called from any thread, must not call haul.
 */
enum haul_log_level { HAUL_LOG_ERROR = 1, HAUL_LOG_WARNING, HAUL_LOG_INFO, HAUL_LOG_DEBUG };
HAUL_API void haul_log_set(void (*sink)(enum haul_log_level level, const char *line, void *arg),
                           void *arg);

#ifdef __cplusplus
}
#endif
#endif
