/* SPDX-License-Identifier: Apache-2.0
 * Settings: defaults, the environment, options, and sentences about what is wrong. */
#include "config.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "one_cpu.h"

#define MIB (UINT64_C(1) << 20)

enum { CORE_FIELDS = 14 };

static const struct haul_provider_field zmq_fields[] = {
    {"zmq_io_threads", "1", "Threads of libzmq."},
    {"zmq_linger", "2", "Seconds."},
    {"credits", "9", "Core's name: left alone."},
    {NULL, NULL, NULL},
};

/* The tests' own environment begins without settings. */
static void clear_environment(void)
{
    for (char **entry = environ; *entry;) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*entry, "="), *entry);
        if (strncmp(name, "HAUL_", 5) == 0)
            unsetenv(name);
        else
            entry++;
    }
}

static int make_options(void **state)
{
    clear_environment();
    struct haul_options *options;
    int err = haul_options_create(&options);
    *state = options;
    return err;
}

static int destroy_options(void **state)
{
    haul_options_destroy(*state);
    clear_environment();
    return 0;
}

static int clean(void **state)
{
    (void)state;
    clear_environment();
    return 0;
}

/* What haul_options_each() says about one setting. */
struct report {
    const char *name;
    int found, total;
    char environment[64], value[256], default_value[64], origin[32], help[256];
};

static void report_setting(const struct haul_setting *setting, void *arg)
{
    struct report *report = arg;
    report->total++;
    if (strcmp(setting->name, report->name) != 0)
        return;
    report->found++;
    snprintf(report->environment, sizeof report->environment, "%s", setting->environment);
    snprintf(report->value, sizeof report->value, "%s", setting->value);
    snprintf(report->default_value, sizeof report->default_value, "%s", setting->default_value);
    snprintf(report->origin, sizeof report->origin, "%s", setting->origin);
    snprintf(report->help, sizeof report->help, "%s", setting->help);
}

static struct report report_of(const struct haul_options *options, const char *name)
{
    struct report report = {.name = name};
    haul_options_each(options, report_setting, &report);
    return report;
}

static struct haul_config config_of(const struct haul_options *options)
{
    struct haul_config config;
    assert_int_equal(haul_config_from_options(options, &config), 0);
    return config;
}

static void assert_detail_has(const char *part)
{
    if (!strstr(haul_error_detail(), part))
        fail_msg("\"%s\" is not in \"%s\"", part, haul_error_detail());
}

static void defaults(void **state)
{
    struct haul_config config = config_of(*state);
    uint64_t quarter = haul_memory_limit_bytes() / 4;
    assert_string_equal(config.provider, "auto");
    assert_string_equal(config.provider_path, "");
    assert_in_range(config.pool_max, quarter - 2 * MIB, quarter);
    assert_int_equal(config.message_max, config.pool_max);
    assert_int_equal(config.prepaid_max, 4 * MIB);
    assert_int_equal(config.credits, 16);
    assert_int_equal(config.spin_us, haul_cpu_limit() == 1 ? 0 : 50);
    assert_int_equal(config.heartbeat_ns, UINT64_C(20000000000));
    assert_string_equal(config.rails, "auto");
    assert_int_equal(config.progress_threads, 1);
    assert_int_equal(config.log_level, HAUL_LOG_WARNING);
    haul_config_clear(&config);
}

static void each_reports_what_is_in_force(void **state)
{
    struct report report = report_of(*state, "pool_max");
    struct haul_config config = config_of(*state);
    char value[32];
    snprintf(value, sizeof value, "%llu", (unsigned long long)config.pool_max);
    haul_config_clear(&config);
    assert_int_equal(report.total, CORE_FIELDS);
    assert_int_equal(report.found, 1);
    assert_string_equal(report.environment, "HAUL_POOL_MAX");
    assert_string_equal(report.value, value);
    assert_string_equal(report.default_value, "auto");
    assert_string_equal(report.origin, "default");
    assert_true(strlen(report.help) > 20);
    assert_string_equal(report_of(*state, "heartbeat").value, "20");
    assert_string_equal(report_of(*state, "log").value, "warning");
    assert_string_equal(report_of(*state, "prepaid_max").value, "4194304");
}

static void options_over_environment_over_default(void **state)
{
    (void)state;
    struct haul_options *options;
    clear_environment();
    setenv("HAUL_CREDITS", "3", 1);
    setenv("HAUL_PROVIDER", "tcp", 1);
    setenv("HAUL_LOG", "", 1);
    assert_int_equal(haul_options_create(&options), 0);
    assert_int_equal(haul_options_set(options, "provider", "ofi:verbs"), 0);
    assert_string_equal(report_of(options, "credits").value, "3");
    assert_string_equal(report_of(options, "credits").origin, "environment");
    assert_string_equal(report_of(options, "provider").value, "ofi:verbs");
    assert_string_equal(report_of(options, "provider").origin, "options");
    assert_string_equal(report_of(options, "log").origin, "default");
    struct haul_config config = config_of(options);
    assert_string_equal(config.provider, "ofi:verbs");
    assert_int_equal(config.credits, 3);
    haul_config_clear(&config);
    haul_options_destroy(options);
}

struct sample {
    const char *name, *text, *value; /* value NULL: not taken */
};

static void values_are_parsed(void **state)
{
    static const struct sample samples[] = {
        {"prepaid_max", "0", "0"},
        {"prepaid_max", "123", "123"},
        {"prepaid_max", "2K", "2048"},
        {"prepaid_max", "2k", "2048"},
        {"prepaid_max", "3MiB", "3145728"},
        {"prepaid_max", "1G", "1073741824"},
        {"prepaid_max", "1T", "1099511627776"},
        {"prepaid_max", "16777215T", "18446742974197923840"},
        {"prepaid_max", "16777216T", NULL},
        {"prepaid_max", "18446744073709551614", "18446744073709551614"},
        {"prepaid_max", "18446744073709551615", NULL},
        {"prepaid_max", "99999999999999999999", NULL},
        {"prepaid_max", "auto", NULL},
        {"prepaid_max", "", NULL},
        {"prepaid_max", "M", NULL},
        {"prepaid_max", "-1", NULL},
        {"prepaid_max", "1.5M", NULL},
        {"prepaid_max", "4MB", NULL},
        {"prepaid_max", "4M ", NULL},
        {"prepaid_max", "4X", NULL},
        {"pool_max", "2M", "2097152"},
        {"pool_max", "5M", "4194304"},
        {"pool_max", "1M", NULL},
        {"credits", "1", "1"},
        {"credits", "1024", "1024"},
        {"credits", "0", NULL},
        {"credits", "1025", NULL},
        {"credits", "1K", NULL},
        {"heartbeat", "0", "0"},
        {"heartbeat", "0.5", "0.5"},
        {"heartbeat", "20.", "20"},
        {"heartbeat", "100.25", "100.25"},
        {"heartbeat", "0.000000001", "0.000000001"},
        {"heartbeat", "0.0000000001", NULL},
        {"heartbeat", "86400", "86400"},
        {"heartbeat", "86401", NULL},
        {"heartbeat", "99999999999", NULL},
        {"heartbeat", ".5", NULL},
        {"heartbeat", "20s", NULL},
        {"heartbeat", "nan", NULL},
        {"log", "error", "error"},
        {"log", "debug", "debug"},
        {"log", "loud", NULL},
        {"provider_path", "", ""},
        {"provider_path", "/a:/b", "/a:/b"},
    };
    for (size_t i = 0; i < HAUL_COUNT_OF(samples); i++) {
        const struct sample *sample = &samples[i];
        struct report before = report_of(*state, sample->name);
        int err = haul_options_set(*state, sample->name, sample->text);
        if (err != (sample->value ? 0 : HAUL_CONFIG))
            fail_msg("%s=%s: %d", sample->name, sample->text, err);
        assert_string_equal(report_of(*state, sample->name).value,
                            sample->value ? sample->value : before.value);
        if (!sample->value)
            assert_detail_has(sample->name);
    }
}

static void seconds_and_levels_reach_the_config(void **state)
{
    assert_int_equal(haul_options_set(*state, "heartbeat", "0.25"), 0);
    assert_int_equal(haul_options_set(*state, "log", "debug"), 0);
    struct haul_config config = config_of(*state);
    assert_int_equal(config.heartbeat_ns, 250000000);
    assert_int_equal(config.log_level, HAUL_LOG_DEBUG);
    haul_config_clear(&config);
}

static void bad_environment_is_named(void **state)
{
    (void)state;
    struct haul_options *options;
    clear_environment();
    setenv("HAUL_CREDITS", "many", 1);
    assert_int_equal(haul_options_create(&options), HAUL_CONFIG);
    assert_string_equal(haul_error_detail(), "HAUL_CREDITS cannot be \"many\": it takes a whole "
                                             "number, from 1 to 1024");
    clear_environment();
    setenv("HAUL_POOL_MAX", "lots", 1);
    assert_int_equal(haul_options_create(&options), HAUL_CONFIG);
    assert_detail_has("HAUL_POOL_MAX cannot be \"lots\": it takes a size in bytes");
    assert_detail_has("or auto");
}

static void message_max_fits_the_pool(void **state)
{
    struct haul_config config;
    assert_int_equal(haul_options_set(*state, "message_max", "64M"), 0);
    assert_int_equal(haul_options_set(*state, "pool_max", "32M"), 0);
    assert_int_equal(haul_config_from_options(*state, &config), HAUL_CONFIG);
    assert_detail_has("message_max is 67108864 bytes, more than pool_max, 33554432");
    assert_int_equal(haul_options_set(*state, "message_max", "32M"), 0);
    config = config_of(*state);
    assert_int_equal(config.message_max, 32 * MIB);
    haul_config_clear(&config);
    assert_int_equal(haul_options_set(*state, "message_max", "auto"), 0);
    assert_int_equal(haul_options_set(*state, "pool_max", "8M"), 0);
    assert_string_equal(report_of(*state, "message_max").value, "8388608");
}

static void one_cpu_never_spins(void **state)
{
    (void)state;
    struct haul_options *options;
    cpu_set_t before = use_one_cpu();
    int err = haul_options_create(&options);
    use_cpus(&before);
    assert_int_equal(err, 0);
    assert_string_equal(report_of(options, "spin_us").value, "0");
    haul_options_destroy(options);
}

static void provider_fields_join(void **state)
{
    setenv("HAUL_ZMQ_LINGER", "7", 1);
    setenv("HAUL_ZMQ_IO_THREADS", "8", 1);
    assert_int_equal(haul_options_set(*state, "zmq_io_threads", "4"), 0);
    assert_null(haul_options_get(*state, "zmq_io_threads"));
    assert_int_equal(report_of(*state, "zmq_io_threads").found, 0);
    assert_int_equal(haul_options_add_fields(*state, zmq_fields), 0);
    assert_int_equal(haul_options_add_fields(*state, zmq_fields), 0);
    assert_string_equal(haul_options_get(*state, "zmq_io_threads"), "4");
    assert_string_equal(report_of(*state, "zmq_io_threads").origin, "options");
    assert_string_equal(report_of(*state, "zmq_io_threads").default_value, "1");
    assert_string_equal(report_of(*state, "zmq_linger").value, "7");
    assert_string_equal(report_of(*state, "zmq_linger").origin, "environment");
    assert_string_equal(report_of(*state, "zmq_linger").environment, "HAUL_ZMQ_LINGER");
    assert_string_equal(report_of(*state, "credits").value, "16");
    assert_int_equal(report_of(*state, "").total, CORE_FIELDS + 2);
    assert_int_equal(haul_options_set(*state, "zmq_linger", "3"), 0);
    assert_string_equal(haul_options_get(*state, "zmq_linger"), "3");
    assert_string_equal(haul_options_get(*state, "prepaid_max"), "4194304");
    assert_null(haul_options_get(*state, "nothing"));
}

static void unknown_names_are_found_at_the_end(void **state)
{
    assert_int_equal(haul_options_set(*state, "zmq_io_threads", "4"), 0);
    assert_int_equal(haul_options_check_names(*state), HAUL_CONFIG);
    assert_int_equal(haul_options_add_fields(*state, zmq_fields), 0);
    assert_int_equal(haul_options_check_names(*state), 0);
    assert_int_equal(haul_options_set(*state, "HAUL_POOLMAX", "4M"), 0);
    assert_int_equal(haul_options_check_names(*state), HAUL_CONFIG);
    assert_detail_has("\"HAUL_POOLMAX\": did you mean \"pool_max\"?");
}

static void names_like_nothing_get_no_suggestion(void **state)
{
    assert_int_equal(haul_options_set(*state, "qqqqqq", "1"), 0);
    assert_int_equal(haul_options_check_names(*state), HAUL_CONFIG);
    assert_detail_has("\"qqqqqq\"");
    assert_null(strstr(haul_error_detail(), "did you mean"));
}

static void a_copy_is_equal_and_independent(void **state)
{
    struct haul_options *copy;
    assert_int_equal(haul_options_set(*state, "provider", "tcp"), 0);
    assert_int_equal(haul_options_set(*state, "pool_max", "16M"), 0);
    assert_int_equal(haul_options_set(*state, "zmq_linger", "5"), 0);
    assert_int_equal(haul_options_copy(*state, &copy), 0);
    assert_int_equal(haul_options_set(*state, "provider", "zmq"), 0);
    struct haul_config config = config_of(copy);
    assert_string_equal(config.provider, "tcp");
    assert_int_equal(config.pool_max, 16 * MIB);
    haul_config_clear(&config);
    assert_string_equal(report_of(copy, "pool_max").origin, "options");
    assert_int_equal(haul_options_check_names(copy), HAUL_CONFIG);
    assert_int_equal(haul_options_add_fields(copy, zmq_fields), 0);
    assert_string_equal(haul_options_get(copy, "zmq_linger"), "5");
    haul_options_destroy(copy);
}

static void bad_arguments_are_refused(void **state)
{
    assert_int_equal(haul_options_create(NULL), HAUL_INVALID);
    assert_int_equal(haul_options_set(NULL, "log", "info"), HAUL_INVALID);
    assert_int_equal(haul_options_set(*state, NULL, "info"), HAUL_INVALID);
    assert_int_equal(haul_options_set(*state, "", "info"), HAUL_INVALID);
    assert_int_equal(haul_options_set(*state, "log", NULL), HAUL_INVALID);
    haul_options_destroy(NULL);
}

static void append_line(enum haul_log_level level, const char *line, void *arg)
{
    (void)level;
    char *lines = arg;
    strncat(lines, line, 1000 - strlen(lines));
    strncat(lines, "\n", 1000 - strlen(lines));
}

static void unknown_variables_are_warned_of_once(void **state)
{
    char lines[1024] = "";
    setenv("HAUL_PROVDER", "tcp", 1);
    setenv("HAUL_ZMQ_LINGER", "1", 1);
    setenv("HAUL_XYZZYXYZZY", "1", 1);
    setenv("HAUL", "not ours", 1);
    assert_int_equal(haul_options_add_fields(*state, zmq_fields), 0);
    haul_log_set(append_line, lines);
    haul_options_warn_environment(*state);
    haul_options_warn_environment(*state);
    haul_log_set(NULL, NULL);
    unsetenv("HAUL");
    assert_non_null(strstr(lines, "HAUL_PROVDER is no setting"));
    assert_non_null(strstr(lines, "did you mean HAUL_PROVIDER?"));
    assert_non_null(strstr(lines, "HAUL_XYZZYXYZZY"));
    assert_null(strstr(lines, "LINGER"));
    int count = 0;
    for (const char *end = lines; (end = strchr(end, '\n')); end++)
        count++;
    assert_int_equal(count, 2);
}

/* ---- Set-uid programs: this program runs itself as one --------------------------------------- */

enum { PATH_TAKEN = 10, PATH_IGNORED, NOT_SECURE };

/* What a set-uid program sees of HAUL_PROVIDER_PATH, as an exit status. */
static int run_as_child(bool expect_secure)
{
    struct haul_options *options;
    if (expect_secure && !getauxval(AT_SECURE))
        return NOT_SECURE;
    if (haul_options_create(&options))
        return EXIT_FAILURE;
    bool taken = strcmp(haul_options_get(options, "provider_path"), "/evil") == 0;
    bool other_taken = strcmp(haul_options_get(options, "credits"), "5") == 0;
    haul_options_destroy(options);
    return !other_taken ? EXIT_FAILURE : taken ? PATH_TAKEN : PATH_IGNORED;
}

static int exit_status_of(const char *program, const char *mode)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl(program, program, mode, (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Copies this program to a file of another user with the set-uid bit. */
static bool make_set_uid_copy(const char *path)
{
    char buffer[1 << 16];
    const uid_t nobody = 65534;
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    bool copied = from >= 0 && to >= 0;
    for (ssize_t n; copied && (n = read(from, buffer, sizeof buffer)) > 0;)
        copied = write(to, buffer, (size_t)n) == n;
    copied = copied && fchown(to, nobody, nobody) == 0 && fchmod(to, 04755) == 0;
    close(from);
    close(to);
    return copied;
}

static void set_uid_programs_ignore_the_path(void **state)
{
    (void)state;
    char folder[] = "/tmp/haul-config-XXXXXX", program[64];
    setenv("HAUL_PROVIDER_PATH", "/evil", 1);
    setenv("HAUL_CREDITS", "5", 1);
    assert_int_equal(exit_status_of("/proc/self/exe", "--plain"), PATH_TAKEN);
    if (geteuid() != 0) {
        print_message("only root can make a set-uid program of another user\n");
        skip();
    }
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chmod(folder, 0755), 0);
    snprintf(program, sizeof program, "%s/program", folder);
    bool made = make_set_uid_copy(program);
    int status = made ? exit_status_of(program, "--secure") : 0;
    unlink(program);
    rmdir(folder);
    assert_true(made);
    if (status == NOT_SECURE) {
        print_message("/tmp is mounted nosuid\n");
        skip();
    }
    assert_int_equal(status, PATH_IGNORED);
}

int main(int argc, char **argv)
{
    if (argc == 2) /* _exit: a leak checker cannot look into a set-uid process */
        _exit(run_as_child(strcmp(argv[1], "--secure") == 0));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults, make_options, destroy_options),
        cmocka_unit_test_setup_teardown(each_reports_what_is_in_force, make_options,
                                        destroy_options),
        cmocka_unit_test_teardown(options_over_environment_over_default, clean),
        cmocka_unit_test_setup_teardown(values_are_parsed, make_options, destroy_options),
        cmocka_unit_test_setup_teardown(seconds_and_levels_reach_the_config, make_options,
                                        destroy_options),
        cmocka_unit_test_teardown(bad_environment_is_named, clean),
        cmocka_unit_test_setup_teardown(message_max_fits_the_pool, make_options, destroy_options),
        cmocka_unit_test_setup_teardown(one_cpu_never_spins, clean, clean),
        cmocka_unit_test_setup_teardown(provider_fields_join, make_options, destroy_options),
        cmocka_unit_test_setup_teardown(unknown_names_are_found_at_the_end, make_options,
                                        destroy_options),
        cmocka_unit_test_setup_teardown(names_like_nothing_get_no_suggestion, make_options,
                                        destroy_options),
        cmocka_unit_test_setup_teardown(a_copy_is_equal_and_independent, make_options,
                                        destroy_options),
        cmocka_unit_test_setup_teardown(bad_arguments_are_refused, make_options, destroy_options),
        cmocka_unit_test_setup_teardown(unknown_variables_are_warned_of_once, make_options,
                                        destroy_options),
        cmocka_unit_test_setup_teardown(set_uid_programs_ignore_the_path, clean, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
