/* SPDX-License-Identifier: Apache-2.0
 * Names and sentences of errors, and the calling thread's error detail. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char thread_detail[HAUL_DETAIL_MAX];

const char *haul_error_name(int err)
{
    switch (err) {
    case HAUL_OK:
        return "HAUL_OK";
#define HAUL_ERROR_NAME(name, value, sentence) \
    case name:                                 \
        return #name;
        HAUL_ERRORS(HAUL_ERROR_NAME)
#undef HAUL_ERROR_NAME
    default:
        return "HAUL_UNKNOWN";
    }
}

const char *haul_error_sentence(int err)
{
    switch (err) {
    case HAUL_OK:
        return "nothing went wrong";
#define HAUL_ERROR_SENTENCE(name, value, sentence) \
    case name:                                     \
        return sentence;
        HAUL_ERRORS(HAUL_ERROR_SENTENCE)
#undef HAUL_ERROR_SENTENCE
    default:
        return "this error number is not known to this version of haul";
    }
}

const char *haul_error_detail(void)
{
    return thread_detail;
}

/* Shows that a sentence was cut, without leaving half a UTF-8 character behind. */
static void mark_as_cut(char text[HAUL_DETAIL_MAX])
{
    static const char mark[] = "...";
    size_t end = HAUL_DETAIL_MAX - sizeof mark;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(text + end, mark, sizeof mark);
}

int haul_fail(int err, const char *format, ...)
{
    int caller_errno = errno;
    /* Apart from the detail, because the arguments may include the present one. */
    char text[HAUL_DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= HAUL_DETAIL_MAX)
        mark_as_cut(text);
    memcpy(thread_detail, text, strlen(text) + 1);
    errno = caller_errno;
    return err;
}

int haul_fail_with(int err, const char *detail)
{
    bool given = detail && detail[0];
    return haul_fail(err, "%s", given ? detail : haul_error_sentence(err));
}
