/* SPDX-License-Identifier: Apache-2.0
 * The server's reads: the messages that are due wait for their turn; as many are read at a time as
 * memory allows, each in pieces, as haul's provider ofi reads. */
#include "fabric.h"

#include <stdlib.h>
#include <string.h>

enum {
    ENTRIES = 32,
    /* As haul reads (docs/PROVIDERS.md, ofi): */
    READS_PER_PEER = 16,
    PIECE_BYTES = 8 << 20,
    BYTES_IN_FLIGHT = 64 << 20,
};

struct piece {
    struct fi_context2 context; /* first: the piece is found by it */
    struct message *message;
    size_t bytes; /* 0: not under way */
};

/* One that is being read, and its memory. */
struct message {
    struct connection *from; /* NULL: none */
    unsigned char *memory;
    unsigned array; /* what is read next */
    size_t offset;
    unsigned reads; /* under way */
    bool to_check;
    struct piece pieces[READS_PER_PEER];
};

static struct {
    bool ending;             /* no more messages are begun */
    struct connection **due; /* a ring: whose messages are to be read, in turn */
    size_t due_room, due_first, due_count;
    struct message *messages;
    size_t message_count;
    void *descriptor; /* of all their memory, where libfabric wants one */
    size_t bytes_in_flight;
} reads;

/* Memory for as many messages as may be in flight, or can be due. */
void reads_open(void)
{
    reads.due_room = (size_t)workload.clients * STREAM_WINDOW;
    reads.due = calloc(reads.due_room, sizeof *reads.due);
    size_t fit = BYTES_IN_FLIGHT / workload.message_bytes;
    reads.message_count = fit == 0 ? 1 : fit < reads.due_room ? fit : reads.due_room;
    if (workload.mode != STREAM && reads.message_count > workload.clients)
        reads.message_count = workload.clients;
    reads.messages = calloc(reads.message_count, sizeof *reads.messages);
    size_t bytes = reads.message_count * layout.bytes;
    unsigned char *memory = ruler_map_memory(bytes, true);
    need("memory", reads.due && reads.messages && memory);
    for (size_t i = 0; i < reads.message_count; i++)
        reads.messages[i].memory = memory + i * layout.bytes;
    if (fabric_has_mode(FI_MR_LOCAL))
        reads.descriptor = fi_mr_desc(fabric_register(memory, bytes, FI_READ));
}

void reads_close(void)
{
    free(reads.due);
    free(reads.messages);
}

void reads_add(struct connection *from)
{
    reads.due[(reads.due_first + reads.due_count) % reads.due_room] = from;
    reads.due_count++;
}

void reads_begin_no_more(void)
{
    reads.ending = true;
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

static struct piece *unused_piece(struct message *message)
{
    struct piece *piece = message->pieces;
    while (piece->bytes > 0)
        piece++;
    return piece;
}

/* How much of the array that is read now may be read at once, as long as nothing else is. */
static size_t next_bytes(const struct message *message)
{
    size_t max = fabric.info->ep_attr->max_msg_size;
    size_t bytes = workload.arrays[message->array] - message->offset;
    if (bytes > PIECE_BYTES)
        bytes = PIECE_BYTES;
    return bytes < max ? bytes : max;
}

/* Posts the next piece of a message. False: there is none, or not now. */
static bool post_piece(struct message *message)
{
    struct connection *from = message->from;
    while (message->array < workload.array_count &&
           message->offset == workload.arrays[message->array]) {
        message->array++;
        message->offset = 0;
    }
    if (message->array == workload.array_count || from->reads == READS_PER_PEER)
        return false;
    size_t bytes = next_bytes(message);
    if (reads.bytes_in_flight > 0 && reads.bytes_in_flight + bytes > BYTES_IN_FLIGHT)
        return false;
    struct piece *piece = unused_piece(message);
    ssize_t err =
        fi_read(fabric.endpoint, message->memory + layout.places[message->array] + message->offset,
                bytes, reads.descriptor, from->address,
                from->offer.arrays[message->array].address + message->offset,
                from->offer.arrays[message->array].key, &piece->context);
    if (err == -FI_EAGAIN)
        return false;
    need_fi("fi_read", err);
    piece->message = message;
    piece->bytes = bytes;
    message->offset += bytes;
    message->reads++;
    from->reads++;
    reads.bytes_in_flight += bytes;
    return true;
}

static void end_piece(struct piece *piece)
{
    struct message *message = piece->message;
    reads.bytes_in_flight -= piece->bytes;
    piece->bytes = 0;
    message->from->reads--;
    message->reads--;
}

/* Takes what the queue has. */
static bool take_completions(void)
{
    struct fi_cq_entry entries[ENTRIES];
    size_t count = fabric_completions(entries, ENTRIES);
    for (size_t i = 0; i < count; i++)
        end_piece(entries[i].op_context);
    return count > 0;
}

/* ---- Messages -------------------------------------------------------------------------------- */

static void begin_message(struct message *message)
{
    struct connection *from = reads.due[reads.due_first];
    reads.due_first = (reads.due_first + 1) % reads.due_room;
    reads.due_count--;
    message->from = from;
    message->array = 0;
    message->offset = 0;
    message->to_check = from->to_check;
    from->to_check = false;
    if (message->to_check)
        memset(message->memory, 0, layout.bytes);
}

static void end_message(struct message *message)
{
    struct connection *from = message->from;
    if (message->to_check && !pattern_is_there(message->memory, from->offer.client))
        give_up("reads bring wrong bytes", options.kind);
    for (unsigned i = 0; workload.touch && i < workload.array_count; i++)
        ruler_touch(message->memory + layout.places[i], workload.arrays[i]);
    message->from = NULL;
    server_answer(from);
}

bool reads_go_on(void)
{
    bool did = take_completions();
    for (size_t i = 0; i < reads.message_count; i++) {
        struct message *message = &reads.messages[i];
        if (!message->from && reads.due_count > 0 && !reads.ending)
            begin_message(message);
        while (message->from && post_piece(message))
            did = true;
        if (message->from && message->array == workload.array_count && message->reads == 0) {
            end_message(message);
            did = true;
        }
    }
    return did;
}

bool reads_posted(void)
{
    return reads.bytes_in_flight > 0;
}

bool reads_any_begun(void)
{
    for (size_t i = 0; i < reads.message_count; i++)
        if (reads.messages[i].from)
            return true;
    return false;
}

bool reads_any_to_check(void)
{
    for (size_t i = 0; i < reads.message_count; i++)
        if (reads.messages[i].from && reads.messages[i].to_check)
            return true;
    return false;
}
