/* SPDX-License-Identifier: Apache-2.0
 * `haul doctor`: the path that a connection takes. It is not guessed: one is made, to the server,
 * or to a server of this process's own, as this process is configured. What haul logs meanwhile
 * says which paths were left out and why.
 *
 * The log's sink is called from any thread; it only keeps lines, under a lock, and they become
 * findings when nothing logs any more. */
#include "command.h"
#include "doctor.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What haul logs ------------------------------------------------------------------------- */

enum { LINES_MAX = 32, LINE_BYTES = 1024 };

struct lines {
    pthread_mutex_t lock;
    unsigned count;
    struct {
        enum haul_log_level level;
        char text[LINE_BYTES];
    } line[LINES_MAX];
};

/* Of a line about a provider that is left out: why; else NULL. */
static const char *reason_of(const char *line)
{
    static const char left_out[] = "is not used: ";
    const char *found = strstr(line, left_out);
    return found ? found + sizeof left_out - 1 : NULL;
}

static bool say_the_same(const char *a, const char *b)
{
    const char *reason_a = reason_of(a), *reason_b = reason_of(b);
    return !strcmp(reason_a ? reason_a : a, reason_b ? reason_b : b);
}

/* Both contexts of this process say the same, and of a provider with one kind both are left out. */
static bool is_known(const struct lines *lines, const char *line)
{
    for (unsigned i = 0; i < lines->count; i++)
        if (say_the_same(lines->line[i].text, line))
            return true;
    return false;
}

/* At info only what is left out matters here. */
static bool is_of_use(enum haul_log_level level, const char *line)
{
    return level < HAUL_LOG_INFO || (level == HAUL_LOG_INFO && reason_of(line));
}

static void keep(enum haul_log_level level, const char *line, void *arg)
{
    struct lines *lines = arg;
    pthread_mutex_lock(&lines->lock);
    if (lines->count < LINES_MAX && is_of_use(level, line) && !is_known(lines, line)) {
        lines->line[lines->count].level = level;
        snprintf(lines->line[lines->count].text, LINE_BYTES, "%s", line);
        lines->count++;
    }
    pthread_mutex_unlock(&lines->lock);
}

/* What is left out on a machine without a fabric is left out as it should be, and only there. */
static void report_lines(struct haul_doctor *doctor, const struct lines *lines)
{
    bool fabric = haul_doctor_has_rdma(doctor);
    for (unsigned i = 0; i < lines->count; i++) {
        bool note = lines->line[i].level == HAUL_LOG_INFO && !fabric;
        haul_doctor_find(doctor, note ? HAUL_FINDING_NOTE : HAUL_FINDING_WARNING, "path",
                         note ? NULL
                              : "mend what the line names, with the findings above, and look again",
                         "haul says: %s", lines->line[i].text);
    }
}

/* ---- The connection ------------------------------------------------------------------------- */

static const char *advice_of(int err)
{
    switch (err) {
    case HAUL_ADDRESS:
        return "correct the address: host:port, [v6]:port, :port, unix:/path";
    case HAUL_UNREACHABLE:
        return "if the reason is one of this side, mend it; else start the server, look at "
               "firewalls between (haul uses the one port that is named), and give both sides the "
               "same HAUL_PROVIDER";
    case HAUL_PROTOCOL:
        return "start haul there, if it is something else, and give both sides the same "
               "HAUL_PROVIDER";
    case HAUL_VERSION:
        return "install the same haul on both sides";
    case HAUL_PROVIDER:
        return "set HAUL_PROVIDER to what works here and there, or to auto: the findings above "
               "tell what there is and what is wrong with it";
    case HAUL_CONFIG:
        return "correct the setting: `haul info --config` shows them all";
    default:
        return "look at the findings above";
    }
}

static void report_failure(struct haul_doctor *doctor, int err)
{
    char detail[1024];
    snprintf(detail, sizeof detail, "%s", haul_error_detail());
    haul_doctor_find(doctor, HAUL_FINDING_BROKEN, "path", advice_of(err), "%s", detail);
}

static void report_path(struct haul_doctor *doctor, const char *path, const char *why)
{
    char provider[HAUL_DOCTOR_TEXT], to[HAUL_DOCTOR_TEXT];
    haul_doctor_setting(doctor, "provider", provider);
    snprintf(to, sizeof to, "%s", doctor->address ? doctor->address : "a process of this machine");
    doctor->path = json_pack("{ss ss}", "path", path, "why", why);
    if (*why) /* a better one was there, and refused */
        haul_doctor_find(doctor, HAUL_FINDING_WARNING, "path",
                         "mend what the reason says, here or there (run haul doctor there, too)",
                         "to %s: %s, because a better one was refused: %s", to, path, why);
    else if (strchr(path, '+'))
        haul_doctor_find(doctor, HAUL_FINDING_OK, "path", NULL,
                         "to %s: %s; arrays are read out of the sender's memory", to, path);
    else if (strcmp(provider, "auto") != 0)
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "path",
                         "HAUL_PROVIDER=auto takes the best that both sides have",
                         "to %s: %s, because HAUL_PROVIDER=%s asks for nothing better", to, path,
                         provider);
    else
        haul_doctor_find(doctor, HAUL_FINDING_NOTE, "path",
                         "nothing, if there is no fabric between; else see the findings above",
                         "to %s: %s, because this machine has nothing better to offer", to, path);
}

/* A server of our own, for want of another. It has a context of its own, as in another process. */
static int listen_here(struct haul_doctor *doctor, struct haul_context **context,
                       struct haul_server **server)
{
    int err = haul_open(context, doctor->options);
    if (err) {
        *context = NULL;
        return err;
    }
    return haul_listen(*context, "127.0.0.1:0", server);
}

static int connect_and_report(struct haul_doctor *doctor, struct haul_context *context,
                              const char *address)
{
    char path[HAUL_DOCTOR_TEXT], why[1024];
    struct haul_peer *peer;
    int err = haul_connect(context, address, doctor->timeout_ns, &peer);
    if (err)
        return err;
    haul_peer_path(peer, path, sizeof path, why, sizeof why);
    report_path(doctor, haul_clean_text(path), haul_clean_text(why));
    haul_peer_release(peer);
    return 0;
}

/* A signal ends the wait also if it comes just before it. */
static bool is_interrupted(void *arg)
{
    (void)arg;
    return haul_interrupt_signal() != 0;
}

static void try_path(struct haul_doctor *doctor)
{
    struct haul_context *context, *server_context = NULL;
    struct haul_server *server = NULL;
    int err = haul_open(&context, doctor->options);
    if (err) {
        report_failure(doctor, err);
        return;
    }
    haul_context_interrupt(context, is_interrupted, NULL);
    if (!doctor->address)
        err = listen_here(doctor, &server_context, &server);
    if (!err)
        err = connect_and_report(doctor, context,
                                 server ? haul_server_address(server) : doctor->address);
    if (err && err != HAUL_INTERRUPTED)
        report_failure(doctor, err);
    if (server)
        haul_server_close(server);
    if (server_context)
        haul_close(server_context);
    haul_close(context);
}

int haul_doctor_path(struct haul_doctor *doctor)
{
    struct lines *lines = calloc(1, sizeof *lines);
    if (!lines)
        return haul_report(HAUL_EXIT_FAILED, "no memory");
    pthread_mutex_init(&lines->lock, NULL);
    haul_options_set(doctor->options, "log", "info");
    haul_log_set(keep, lines);
    try_path(doctor);
    haul_log_set(NULL, NULL);
    report_lines(doctor, lines);
    pthread_mutex_destroy(&lines->lock);
    free(lines);
    int signal = haul_interrupt_signal();
    return signal ? HAUL_EXIT_SIGNAL + signal : 0;
}
