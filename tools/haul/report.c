/* SPDX-License-Identifier: Apache-2.0
 * What the command says to people, and its exit code to scripts. */
#include "command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

char *haul_clean_text(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        bool c1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0; /* U+0080 to U+009F in UTF-8 */
        if (c1)
            *at++ = '?';
        if (c1 || *at < ' ' || *at == 0x7f)
            *at = '?';
    }
    return text;
}

int haul_report(int code, const char *format, ...)
{
    char sentence[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s: %s\n", program_invocation_name, haul_clean_text(sentence));
    return code;
}

static int exit_code(int err)
{
    switch (err) {
    case HAUL_OK:
        return HAUL_EXIT_OK;
    case HAUL_CONFIG:
    case HAUL_PROVIDER:
        return HAUL_EXIT_USAGE;
    case HAUL_TIMEOUT:
    case HAUL_BORROWED:
        return HAUL_EXIT_TIMEOUT;
    case HAUL_INTERRUPTED:
        return HAUL_EXIT_SIGNAL + haul_interrupt_signal();
    default:
        return HAUL_EXIT_FAILED;
    }
}

int haul_report_error(int err)
{
    return haul_report(exit_code(err), "%s", haul_error_detail());
}

const char *haul_bytes_text(uint64_t bytes, char text[HAUL_BYTES_TEXT])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, HAUL_BYTES_TEXT, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
        return text;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(text, HAUL_BYTES_TEXT, "%.2f %s", value, units[unit]);
    return text;
}
