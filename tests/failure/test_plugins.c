/* SPDX-License-Identifier: Apache-2.0
 * Plugins that cannot be used are explained, and disturb nobody. */
#include "fixture.h"

#include <haul/provider.h>

#include <signal.h>
#include <unistd.h>

/* What was reported of each plugin in the folder. */
struct report {
    char other_abi[512], needs_vanished[512], no_entry[512];
    bool tcp;
};

static void note(const struct haul_provider_info *info, void *arg)
{
    struct report *report = arg;
    char *reasons[] = {report->other_abi, report->needs_vanished, report->no_entry};
    const char *names[] = {"other_abi", "needs_vanished", "no_entry"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(info->name, names[i]) == 0 && info->reason)
            snprintf(reasons[i], sizeof report->other_abi, "%s", info->reason);
    }
    report->tcp |= strcmp(info->name, "tcp") == 0 && !info->reason && info->channel;
}

struct count {
    const char *name;
    int reports;
};

static void count_report(const struct haul_provider_info *info, void *arg)
{
    struct count *count = arg;
    count->reports += strcmp(info->name, count->name) == 0;
}

/* What is found first is used: not a file of that name in a later folder, nor the same one again.
 */
static void test_each_provider_once(void **state)
{
    const char *const names[] = {"tcp", "shm", "no_entry", "takes_signals"};
    const char *folder = getenv("HAULTEST_UNUSABLE");
    struct haul_options *options;
    char thrice[1024];
    (void)state;
    OK(haul_options_create(&options));
    snprintf(thrice, sizeof thrice, "%s:%s:%s/.", folder, folder, folder);
    OK(haul_options_set(options, "provider_path", thrice));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct count count = {names[i], 0};
        haul_providers_each(options, count_report, &count);
        assert_int_equal(count.reports, 1);
    }
    haul_options_destroy(options);
}

static struct haul_options *options_with(const char *provider)
{
    struct haul_options *options;
    OK(haul_options_create(&options));
    OK(haul_options_set(options, "provider_path", getenv("HAULTEST_UNUSABLE")));
    OK(haul_options_set(options, "provider", provider));
    return options;
}

static void test_reasons_are_reported(void **state)
{
    struct report report = {.tcp = false};
    struct haul_options *options = options_with("tcp");
    char abis[64];
    (void)state;
    haul_providers_each(options, note, &report);
    assert_non_null(strstr(report.needs_vanished, "libvanished.so"));
    snprintf(abis, sizeof abis, "ABI %u, this library has %u", HAUL_PROVIDER_ABI + 1,
             HAUL_PROVIDER_ABI);
    assert_non_null(strstr(report.other_abi, abis));
    assert_non_null(strstr(report.no_entry, "haul_provider_entry"));
    assert_true(report.tcp);
    haul_options_destroy(options);
}

struct alias {
    char reason[512];
};

static void note_alias(const struct haul_provider_info *info, void *arg)
{
    struct alias *alias = arg;
    if (strcmp(info->name, "alias") == 0 && info->reason)
        snprintf(alias->reason, sizeof alias->reason, "%s", info->reason);
}

/* A copy under another name is not used beside the first. */
static void test_a_file_is_named_after_its_provider(void **state)
{
    char folder[] = "/tmp/haul-test-XXXXXX", file[64], target[1024];
    struct alias alias = {.reason = ""};
    struct haul_options *options;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/haul_alias.so", folder);
    snprintf(target, sizeof target, "%s/haul_takes_signals.so", getenv("HAULTEST_UNUSABLE"));
    assert_int_equal(symlink(target, file), 0);
    OK(haul_options_create(&options));
    OK(haul_options_set(options, "provider_path", folder));
    haul_providers_each(options, note_alias, &alias);
    haul_options_destroy(options);
    unlink(file);
    rmdir(folder);
    assert_non_null(strstr(alias.reason, "has to be called haul_takes_signals.so"));
}

static void cannot_open(const char *provider, const char *words)
{
    struct haul_options *options = options_with(provider);
    struct haul_context *context;
    FAILS(HAUL_PROVIDER, words, haul_open(&context, options));
    assert_non_null(strstr(haul_error_detail(), provider));
    haul_options_destroy(options);
}

static void test_they_cannot_be_opened(void **state)
{
    (void)state;
    cannot_open("needs_vanished", "libvanished.so");
    cannot_open("other_abi", "install the plugin that came with this library");
    cannot_open("no_entry", "no haul provider");
    cannot_open("nowhere", "there are: auto, tcp");
    cannot_open("../unusable/haul_other_abi", "there is no provider");
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

/* What the libraries of a plugin set up for themselves is undone: handlers belong to the program,
 * and get the signals that come meanwhile. */
static void test_signal_handlers_stay(void **state)
{
    struct sigaction now, mine = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    (void)state;
    sigaction(SIGINT, &mine, NULL);
    sigaction(SIGTERM, &mine, NULL);
    struct haul_options *options = options_with("takes_signals");
    struct haul_context *context;
    assert_int_equal(haul_open(&context, options), HAUL_PROVIDER);
    haul_options_destroy(options);
    assert_int_equal(signals, 1); /* it came in the middle of the library's work */
    sigaction(SIGINT, NULL, &now);
    assert_true(now.sa_handler == count_signal && now.sa_flags & SA_RESTART);
    sigaction(SIGTERM, NULL, &now);
    assert_true(now.sa_handler == count_signal);
}

struct findings {
    int count;
    char provider[64], found[64], advice[64];
    enum haul_finding_state state;
};

static void note_finding(const char *provider, const struct haul_finding *finding, void *arg)
{
    struct findings *findings = arg;
    findings->count++;
    findings->state = finding->state;
    snprintf(findings->provider, sizeof findings->provider, "%s", provider);
    snprintf(findings->found, sizeof findings->found, "%s", finding->found);
    snprintf(findings->advice, sizeof findings->advice, "%s", finding->advice);
}

/* Of all in the folder one loads and can be asked. */
static void test_findings(void **state)
{
    struct sigaction now, mine = {.sa_handler = count_signal};
    struct findings findings = {.count = 0};
    struct haul_options *options = options_with("tcp");
    (void)state;
    sigaction(SIGHUP, &mine, NULL);
    haul_providers_examine(options, note_finding, &findings);
    assert_int_equal(findings.count, 1);
    assert_string_equal(findings.provider, "takes_signals");
    assert_int_equal(findings.state, HAUL_FINDING_NOTE);
    assert_string_equal(findings.found, "nothing is here");
    assert_string_equal(findings.advice, "look elsewhere");
    sigaction(SIGHUP, NULL, &now);
    assert_true(now.sa_handler == count_signal);
    haul_options_destroy(options);
}

struct lines {
    char text[8192];
};

static void keep_line(enum haul_log_level level, const char *line, void *arg)
{
    struct lines *lines = arg;
    size_t used = strlen(lines->text);
    (void)level;
    snprintf(lines->text + used, sizeof lines->text - used, "%s\n", line);
}

/* A provider that chose a NIC and could not be opened leaves memory and threads where they are. */
static void test_a_failed_open_places_nothing(void **state)
{
    struct lines lines = {.text = ""};
    struct haul_context *context;
    struct haul_options *options = options_with("auto");
    (void)state;
    OK(haul_options_set(options, "log", "info"));
    haul_log_set(keep_line, &lines);
    OK(haul_open(&context, options));
    haul_close(context);
    haul_log_set(NULL, NULL);
    haul_options_destroy(options);
    assert_non_null(strstr(lines.text, "vain0 does not open")); /* it was tried */
    assert_null(strstr(lines.text, "NIC vain0"));
}

/* tcp works beside them: by its name, and as what is left for auto. */
static void test_others_work(void **state)
{
    const char *const providers[] = {"tcp", "auto"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct haul_options *options = options_with(providers[i]);
        struct haul_context *context;
        struct haul_server *server;
        struct haul_peer *peer;
        OK(haul_open(&context, options));
        OK(haul_listen(context, "127.0.0.1:0", &server));
        OK(haul_connect(context, haul_server_address(server), WAIT_NS, &peer));
        haul_peer_release(peer);
        haul_server_close(server);
        haul_close(context);
        haul_options_destroy(options);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signal_handlers_stay), /* before another has loaded that plugin */
        cmocka_unit_test(test_reasons_are_reported),
        cmocka_unit_test(test_each_provider_once),
        cmocka_unit_test(test_a_file_is_named_after_its_provider),
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_they_cannot_be_opened),
        cmocka_unit_test(test_a_failed_open_places_nothing),
        cmocka_unit_test(test_others_work),
    };
    return cmocka_run_group_tests_name("plugins", tests, NULL, NULL);
}
