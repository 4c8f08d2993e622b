/* SPDX-License-Identifier: Apache-2.0
 * Sends `haul recv` what `haul send` never would, and prints the answer:
 *   strange_sender ADDR KEY                        the dict {"good": u8[3], KEY: u8[3]}
 *   strange_sender ADDR KEY DESCRIPTION ITEMSIZE   KEY of a dtype with this description
 *   strange_sender ADDR                            a dict without arrays
 * Prints "ok" or "refused: SENTENCE" and exits 0; exits 1 if there was no answer. */
#include <haul/haul.h>

#include <stdio.h>
#include <stdlib.h>

static const int64_t timeout_ns = 60 * INT64_C(1000000000);
static const uint64_t extent = 3;
static char bytes[3 * 64] = "abc";

static void require(int err)
{
    if (err) {
        fprintf(stderr, "strange_sender: %s\n", haul_error_detail());
        exit(1);
    }
}

static void fill(struct haul_dict *dict, int argc, char **argv)
{
    struct haul_array array = {
        .key = "good", .dtype = HAUL_U8, .itemsize = 1, .ndim = 1, .shape = &extent, .data = bytes};
    if (argc < 3)
        return;
    require(haul_dict_put_array(dict, &array));
    array.key = argv[2];
    if (argc > 4) {
        array.dtype = HAUL_OTHER;
        array.description = argv[3];
        array.itemsize = (uint32_t)atoi(argv[4]);
    }
    require(haul_dict_put_array(dict, &array));
}

static void print_answer(const struct haul_message *reply)
{
    const struct haul_array *ok = haul_message_find(reply, "ok");
    const struct haul_array *error = haul_message_find(reply, "error");
    if (ok && *(const char *)ok->data)
        puts("ok");
    else
        printf("refused: %.*s\n", error ? (int)error->nbytes : 0,
               error ? (const char *)error->data : "");
}

int main(int argc, char **argv)
{
    struct haul_context *context;
    struct haul_peer *peer;
    struct haul_dict *dict;
    struct haul_message *reply;
    if (argc < 2)
        return 2;
    require(haul_open(&context, NULL));
    require(haul_connect(context, argv[1], timeout_ns, &peer));
    require(haul_dict_create(context, &dict));
    fill(dict, argc, argv);
    require(haul_call(peer, dict, &reply, timeout_ns));
    print_answer(reply);
    haul_message_release(reply);
    haul_dict_destroy(dict);
    haul_peer_release(peer);
    haul_close(context);
    return 0;
}
