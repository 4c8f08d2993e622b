/* SPDX-License-Identifier: Apache-2.0
 * Messages whose every byte follows from who sent them and their number. */
#ifndef HAUL_TESTS_LETTER_H
#define HAUL_TESTS_LETTER_H

#include "fixture.h"

/* Ends the process if it is not so. (Outside a test of cmocka's its own assertions are silent.) */
#define REQUIRE(condition)                                                          \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(EXIT_FAILURE);                                                     \
        }                                                                           \
    } while (0)

struct letter {
    uint64_t client, number;
    uint64_t least, most; /* bytes of an array; most: at least 1. The same: one array */
};

enum { LETTER_PARTS_MAX = 3 };

/* Memory that holds any letter of these limits, for letter_write(). */
size_t letter_room(const struct letter *letter);
/* Puts its arrays into the empty dict; `room` is borrowed by it, and so is the letter. room NULL:
 * into memory of haul's pool, which is given. */
void letter_write(struct letter *letter, struct haul_dict *dict, uint8_t *room);
/* Reads what was written and checks every byte. Ends the process if anything is wrong. Returns
 * false if the message is no letter: somebody else's. */
bool letter_read(const struct haul_message *message, struct letter *letter);
/* If it was sent as a call: replies with its number. */
void letter_answer(struct haul_context *context, struct haul_message *message,
                   const struct letter *letter);
/* The same; returns how that ended, whatever it is. */
int letter_try_answer(struct haul_context *context, struct haul_message *message,
                      const struct letter *letter);
/* It was sent as a call: replies with the same letter, given. */
void letter_return(struct haul_context *context, struct haul_message *message,
                   const struct letter *letter);

#endif
