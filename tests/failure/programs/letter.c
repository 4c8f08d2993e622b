/* SPDX-License-Identifier: Apache-2.0
 * Messages whose every byte follows from who sent them and their number. */
#include "letter.h"

static uint64_t draw(const struct letter *letter, uint64_t what)
{
    uint64_t number = 0;
    fill(&number, sizeof number, letter->client << 40 ^ letter->number << 8 ^ what << 4);
    return number >> 16;
}

static unsigned part_count(const struct letter *letter)
{
    if (letter->least == letter->most)
        return 1;
    return (unsigned)(draw(letter, 0) % (LETTER_PARTS_MAX + 1));
}

/* Small ones are as likely as large ones. */
static size_t part_bytes(const struct letter *letter, unsigned part)
{
    uint64_t span = letter->most - letter->least, number = draw(letter, 1 + part);
    while (span > 64 && number & 1) {
        span /= 8;
        number >>= 1;
    }
    return (size_t)(letter->least + (number >> 1) % (span + 1));
}

static uint64_t part_seed(const struct letter *letter, unsigned part)
{
    return draw(letter, 1 + LETTER_PARTS_MAX + part);
}

static void part_key(unsigned part, char key[16])
{
    snprintf(key, 16, "part %u", part);
}

size_t letter_room(const struct letter *letter)
{
    return LETTER_PARTS_MAX * (size_t)letter->most;
}

static void give_part(struct haul_dict *dict, const char *key, uint64_t bytes, uint64_t seed)
{
    void *data;
    OK(haul_dict_alloc(dict, key, HAUL_U8, 1, &bytes, &data));
    fill(data, bytes, seed);
    OK(haul_dict_give(dict, key));
}

void letter_write(struct letter *letter, struct haul_dict *dict, uint8_t *room)
{
    const uint64_t shape = sizeof *letter / sizeof letter->client;
    OK(haul_dict_put(dict, "letter", HAUL_U64, 1, &shape, letter));
    for (unsigned part = 0; part < part_count(letter); part++) {
        char key[16];
        part_key(part, key);
        size_t bytes = part_bytes(letter, part);
        uint64_t seed = part_seed(letter, part);
        if (room)
            put_bytes(dict, key, room + part * letter->most, bytes, seed);
        else
            give_part(dict, key, bytes, seed);
    }
}

bool letter_read(const struct haul_message *message, struct letter *letter)
{
    const struct haul_array *array = haul_message_find(message, "letter");
    if (!array)
        return false;
    REQUIRE(array->dtype == HAUL_U64 && array->nbytes == sizeof *letter);
    memcpy(letter, array->data, sizeof *letter);
    REQUIRE(haul_message_count(message) == 1 + part_count(letter));
    for (unsigned part = 0; part < part_count(letter); part++) {
        char key[16];
        part_key(part, key);
        array = haul_message_find(message, key);
        REQUIRE(array && array->nbytes == part_bytes(letter, part));
        REQUIRE(is_filled(array->data, array->nbytes, part_seed(letter, part)));
    }
    return true;
}

static void reply(struct haul_message *message, struct haul_dict *dict)
{
    int err = haul_reply(message, dict, WAIT_NS);
    if (err != HAUL_PEER_LOST) /* it may have been killed */
        OK(err);
    haul_dict_destroy(dict);
}

int letter_try_answer(struct haul_context *context, struct haul_message *message,
                      const struct letter *letter)
{
    struct haul_dict *dict;
    const uint64_t shape = 1;
    uint64_t number = letter->number;
    if (!haul_message_wants_reply(message))
        return 0;
    OK(haul_dict_create(context, &dict));
    OK(haul_dict_put(dict, "number", HAUL_U64, 1, &shape, &number));
    int err = haul_reply(message, dict, WAIT_NS);
    haul_dict_destroy(dict);
    return err;
}

void letter_answer(struct haul_context *context, struct haul_message *message,
                   const struct letter *letter)
{
    int err = letter_try_answer(context, message, letter);
    if (err != HAUL_PEER_LOST) /* it may have been killed */
        OK(err);
}

void letter_return(struct haul_context *context, struct haul_message *message,
                   const struct letter *letter)
{
    struct haul_dict *dict;
    struct letter same = *letter;
    OK(haul_dict_create(context, &dict));
    letter_write(&same, dict, NULL);
    reply(message, dict);
}
