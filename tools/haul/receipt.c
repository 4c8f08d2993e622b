/* SPDX-License-Identifier: Apache-2.0
 * The answer of `haul recv` to `haul send`. */
#include "receipt.h"

#include <stdio.h>
#include <string.h>

/* Small enough for the room that every call sets aside for its reply: giving it does not wait. */
static const int64_t give_timeout_ns = 5 * INT64_C(1000000000);

int haul_receipt_give(struct haul_context *context, struct haul_message *message, const char *error)
{
    if (!haul_message_wants_reply(message))
        return HAUL_OK;
    struct haul_dict *dict;
    bool ok = error == NULL;
    const uint64_t bytes = error ? strlen(error) : 0;
    int err = haul_dict_create(context, &dict);
    if (err)
        return err;
    err = haul_dict_put(dict, "ok", HAUL_BOOL, 0, NULL, &ok);
    if (!err && error)
        err = haul_dict_put(dict, "error", HAUL_U8, 1, &bytes, error);
    if (!err)
        err = haul_reply(message, dict, give_timeout_ns);
    haul_dict_destroy(dict);
    return err;
}

bool haul_receipt_read(const struct haul_message *reply, char *error, size_t size)
{
    const struct haul_array *ok = haul_message_find(reply, "ok");
    if (!ok || ok->dtype != HAUL_BOOL || ok->nbytes != 1 || *(const uint8_t *)ok->data)
        return true;
    const struct haul_array *text = haul_message_find(reply, "error");
    if (text && text->dtype == HAUL_U8 && text->nbytes > 0)
        snprintf(error, size, "%.*s", (int)(text->nbytes < size ? text->nbytes : size),
                 (const char *)text->data);
    else
        snprintf(error, size, "it did not say why");
    return false;
}
