/* SPDX-License-Identifier: Apache-2.0
 * A machine as `haul info` shows it. The picture has a box for each package (socket); in it are its
 * NUMA nodes, and under each node the NICs that are nearest to it. A recorded machine's names come
 * from somewhere else: what is no plain text in them is not printed. */
#include "machine.h"

#include "command.h"
#include "json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COLUMNS = 80,
    BOX_COLUMNS = COLUMNS - 6, /* without "  | " and " |" */
    TEXT_MAX = 4096,
    NAME_COLUMNS_MAX = 16,
    CPU_COLUMNS_MAX = 40,
    VIRTUAL_MAX = 12, /* a host of containers has hundreds */
};

/* ---- Lists: "0-3,8" -------------------------------------------------------------------------- */

/* Takes the next range off a list. False: there is none left. */
static bool next_range(const char **list, unsigned long range[2])
{
    char *end;
    range[0] = range[1] = strtoul(*list, &end, 10);
    if (end == *list)
        return false; /* the end, or the "..." of a list that was cut */
    if (*end == '-')
        range[1] = strtoul(end + 1, &end, 10);
    *list = *end == ',' ? end + 1 : end;
    return true;
}

static bool lists_meet(const char *a, const char *b)
{
    unsigned long one[2], other[2];
    while (next_range(&a, one))
        for (const char *rest = b; next_range(&rest, other);)
            if (one[0] <= other[1] && other[0] <= one[1])
                return true;
    return false;
}

static bool list_has(const char *list, unsigned number)
{
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    return lists_meet(list, text);
}

static const char *plural(const char *list)
{
    return strpbrk(list, "-,") ? "s" : "";
}

struct cut {
    char text[CPU_COLUMNS_MAX + 1];
};

/* The list as far as it fits into a line. */
static struct cut cut_list(const char *list)
{
    struct cut cut;
    if (snprintf(cut.text, sizeof cut.text, "%s", list) < (int)sizeof cut.text)
        return cut;
    static const char dots[] = "...";
    size_t length = sizeof cut.text - sizeof dots;
    while (length > 0 && cut.text[length - 1] != ',')
        length--;
    memcpy(cut.text + length, dots, sizeof dots);
    return cut;
}

/* ---- Text ------------------------------------------------------------------------------------ */

struct text {
    char bytes[TEXT_MAX];
    size_t length;
};

static void append(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct text *text, const char *format, ...)
{
    size_t room = sizeof text->bytes - text->length;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->bytes + text->length, room, format, arguments);
    va_end(arguments);
    text->length += (size_t)length < room ? (size_t)length : room - 1;
}

/* Broken between words; all lines but the first are set in by so many columns. */
static void print_paragraph(struct text *text, int hang)
{
    const char *rest = haul_clean_text(text->bytes);
    for (int indent = 2; *rest; indent = hang) {
        size_t room = (size_t)(COLUMNS - indent), length = strlen(rest);
        if (length > room) {
            length = room;
            while (length > 0 && rest[length] != ' ')
                length--;
            if (length == 0)
                length = strcspn(rest, " ");
        }
        printf("%*s%.*s\n", indent, "", (int)length, rest);
        rest += length;
        rest += strspn(rest, " ");
    }
}

/* ---- Where haul would work ------------------------------------------------------------------- */

static void describe_nics(struct text *text, const struct haul_place *place)
{
    if (place->nic_count == 0)
        append(text, "no NIC");
    for (size_t i = 0; i < place->nic_count; i++)
        append(text, "%s%s",
               i > 0                  ? ", "
               : place->nic_count > 1 ? "NICs "
                                      : "NIC ",
               place->nics[i]);
}

static void describe_binding(struct text *text, const struct haul_place *place)
{
    if (!*place->nodes && !*place->cpus) {
        append(text, "; nothing is bound");
        return;
    }
    if (*place->nodes)
        append(text, "; memory on node%s %s", plural(place->nodes), place->nodes);
    else
        append(text, "; memory is not bound");
    if (*place->cpus)
        append(text, "; threads on CPU%s %s", plural(place->cpus), cut_list(place->cpus).text);
    else
        append(text, "; threads are not bound");
}

static void print_place(const struct haul_machine *machine)
{
    const struct haul_place *place = &machine->place;
    struct text text = {.length = 0}, why = {.length = 0}, unmet = {.length = 0};
    describe_nics(&text, place);
    describe_binding(&text, place);
    print_paragraph(&text, 4);
    append(&why, "why: %s", place->why);
    print_paragraph(&why, 4);
    append(&unmet, "not possible: %s", place->unmet);
    if (*place->unmet)
        print_paragraph(&unmet, 4);
    if (strcmp(machine->own_cpus, machine->cpus) == 0)
        return;
    struct text own = {.length = 0};
    append(&own, "this process is bound to CPU%s %s", plural(machine->own_cpus),
           cut_list(machine->own_cpus).text);
    print_paragraph(&own, 4);
}

/* ---- The picture ----------------------------------------------------------------------------- */

/* Where a NIC is drawn. */
struct spot {
    enum { AT_NODE, IN_PACKAGE, AT_PACKAGES, ELSEWHERE } kind;
    unsigned number; /* of the node or package */
};

struct drawing {
    const struct haul_machine *machine;
    bool in_box;
    bool has_mark, has_forbidden, has_special; /* what the legend is to explain */
    int name_columns, bus_columns;             /* widest of all NICs */
};

static void print_row(const struct drawing *drawing, struct text *text)
{
    while (text->length > 0 && text->bytes[text->length - 1] == ' ')
        text->bytes[--text->length] = '\0';
    haul_clean_text(text->bytes);
    if (drawing->in_box)
        printf("  | %-*s |\n", BOX_COLUMNS, text->bytes);
    else
        printf("  %s\n", text->bytes);
}

static void print_border(const char *title)
{
    static const char line[] =
        "-------------------------------------------------------------------------------";
    int rest = BOX_COLUMNS + 2 - (int)strlen(title);
    printf("  +%s%.*s+\n", title, rest > 0 ? rest : 0, line);
}

static const char *mark(struct drawing *drawing, bool marked)
{
    drawing->has_mark |= marked;
    return marked ? "*" : " ";
}

static bool is_chosen(const struct haul_machine *machine, const struct haul_machine_nic *nic)
{
    for (size_t i = 0; i < machine->place.nic_count; i++)
        if (strcmp(machine->place.nics[i], nic->name) == 0)
            return true;
    return false;
}

/* The only ordinary node that a NIC is near to, or the package that all of them are in. Special
 * memory is near to much: it counts only if there is nothing else. */
static struct spot spot_of(const struct haul_machine *machine, const struct haul_machine_nic *nic)
{
    for (int special = 0; special < 2; special++) {
        const struct haul_machine_node *found = NULL;
        struct spot spot = {.kind = ELSEWHERE};
        for (size_t i = 0; i < machine->node_count; i++) {
            const struct haul_machine_node *node = &machine->nodes[i];
            if (node->special != (special == 1) || !list_has(nic->nodes, node->number))
                continue;
            if (!found)
                spot = (struct spot){AT_NODE, node->number};
            else if (spot.kind != AT_PACKAGES && node->package == found->package)
                spot = (struct spot){IN_PACKAGE, node->package};
            else
                spot = (struct spot){.kind = AT_PACKAGES};
            found = node;
        }
        if (found)
            return spot;
    }
    return (struct spot){.kind = ELSEWHERE};
}

static void append_speed(struct text *text, uint64_t mbits)
{
    char speed[32] = "-";
    if (mbits >= 1000 && mbits % 1000 == 0)
        snprintf(speed, sizeof speed, "%" PRIu64 " Gbit/s", mbits / 1000);
    else if (mbits >= 1000)
        snprintf(speed, sizeof speed, "%.1f Gbit/s", (double)mbits / 1000);
    else if (mbits > 0)
        snprintf(speed, sizeof speed, "%" PRIu64 " Mbit/s", mbits);
    append(text, "%-10s  ", speed);
}

/* A device in software has an interface instead of a place on the bus. */
static void append_bus(struct text *text, const struct haul_machine_nic *nic, int columns)
{
    char bus[256] = "-";
    if (*nic->carrier)
        snprintf(bus, sizeof bus, "over %s", nic->carrier);
    else if (*nic->pci)
        snprintf(bus, sizeof bus, "%s", nic->pci);
    append(text, "%-*s  ", columns, bus);
}

static void draw_nic(struct drawing *drawing, const struct haul_machine_nic *nic, bool with_nodes)
{
    struct text text = {.length = 0};
    append(&text, "   %s %-*s  %-7s  ", mark(drawing, is_chosen(drawing->machine, nic)),
           drawing->name_columns, nic->name, nic->kind);
    append_bus(&text, nic, drawing->bus_columns);
    append_speed(&text, nic->mbits);
    append(&text, "%-4s", strcmp(nic->state, "unknown") ? nic->state : "-");
    if (with_nodes && *nic->nodes)
        append(&text, "  node%s %s", plural(nic->nodes), cut_list(nic->nodes).text);
    print_row(drawing, &text);
}

/* heading: NULL for the NICs of one node, who stand below it. */
static void draw_nics(struct drawing *drawing, struct spot spot, const char *heading)
{
    const struct haul_machine *machine = drawing->machine;
    bool is_first = true;
    for (size_t i = 0; i < machine->nic_count; i++) {
        const struct haul_machine_nic *nic = &machine->nics[i];
        const struct spot own = spot_of(machine, nic);
        if (nic->is_virtual || own.kind != spot.kind || own.number != spot.number)
            continue;
        struct text text = {.length = 0};
        append(&text, "%s", heading ? heading : "");
        if (heading && is_first)
            print_row(drawing, &text);
        is_first = false;
        draw_nic(drawing, nic, heading != NULL);
    }
}

/* What the CPUs near it are; those of special memory are the ones of another node. */
static void append_cpus(struct drawing *drawing, struct text *text,
                        const struct haul_machine_node *node)
{
    bool used = !node->special && lists_meet(drawing->machine->place.cpus, node->cpus);
    append(text, "   %s ", mark(drawing, used));
    if (*node->cpus)
        append(text, "CPU%s %s", plural(node->cpus), cut_list(node->cpus).text);
    else
        append(text, "no CPUs");
}

static void draw_node(struct drawing *drawing, const struct haul_machine_node *node)
{
    const double gib = 1024.0 * 1024 * 1024;
    bool used = list_has(drawing->machine->place.nodes, node->number);
    struct text text = {.length = 0};
    append(&text, "node %-4u %s ", node->number, mark(drawing, used));
    if (node->bytes > 0)
        append(&text, "%6.1f GiB", (double)node->bytes / gib);
    else
        append(&text, "%10s", "unknown");
    append_cpus(drawing, &text, node);
    if (!node->memory_allowed)
        append(&text, "  [not allowed]");
    if (node->special)
        append(&text, "  [special]");
    drawing->has_forbidden |= !node->memory_allowed;
    drawing->has_special |= node->special;
    print_row(drawing, &text);
}

static void draw_package(struct drawing *drawing, unsigned package)
{
    const struct haul_machine *machine = drawing->machine;
    char title[32];
    snprintf(title, sizeof title, "- package %u ", package);
    print_border(title);
    drawing->in_box = true;
    for (size_t i = 0; i < machine->node_count; i++) {
        if (machine->nodes[i].package != package)
            continue;
        draw_node(drawing, &machine->nodes[i]);
        draw_nics(drawing, (struct spot){AT_NODE, machine->nodes[i].number}, NULL);
    }
    draw_nics(drawing, (struct spot){IN_PACKAGE, package}, "several nodes");
    drawing->in_box = false;
    print_border("");
}

/* The least number that is not below `from`; -1: there is none. */
static long next_package(const struct haul_machine *machine, long from)
{
    long next = -1;
    for (size_t i = 0; i < machine->node_count; i++) {
        long package = machine->nodes[i].package;
        if (package >= from && (next < 0 || package < next))
            next = package;
    }
    return next;
}

static void draw_virtual(struct drawing *drawing)
{
    const struct haul_machine *machine = drawing->machine;
    struct text text = {.length = 0};
    size_t listed = 0, left = 0;
    for (size_t i = 0; i < machine->nic_count; i++) {
        const struct haul_machine_nic *nic = &machine->nics[i];
        bool chosen = is_chosen(machine, nic);
        if (!nic->is_virtual)
            continue;
        if (listed >= VIRTUAL_MAX && !chosen) {
            left++;
            continue;
        }
        append(&text, "%s%s%s",
               listed++ > 0 ? ", " : "virtual: ", chosen ? mark(drawing, chosen) : "", nic->name);
        if (*nic->carrier)
            append(&text, " over %s", nic->carrier);
    }
    if (left > 0)
        append(&text, " and %zu more", left);
    print_paragraph(&text, 4);
}

static void draw_legend(const struct drawing *drawing)
{
    if (drawing->has_mark)
        puts("  *              what haul would use: NICs, memory, CPUs for its threads");
    if (drawing->has_forbidden)
        puts("  [not allowed]  memory that this process may not use");
    if (drawing->has_special)
        puts("  [special]      memory used only if HAUL_BIND asks for it: HBM, CXL, a "
             "GPU's");
}

static void measure(struct drawing *drawing)
{
    for (size_t i = 0; i < drawing->machine->nic_count; i++) {
        const struct haul_machine_nic *nic = &drawing->machine->nics[i];
        size_t carrier = strlen(nic->carrier);
        int name = (int)strlen(nic->name);
        int bus = (int)(carrier > 0 ? carrier + strlen("over ") : strlen(nic->pci));
        if (nic->is_virtual)
            continue;
        if (name > drawing->name_columns)
            drawing->name_columns = name < NAME_COLUMNS_MAX ? name : NAME_COLUMNS_MAX;
        if (bus > drawing->bus_columns)
            drawing->bus_columns = bus < NAME_COLUMNS_MAX ? bus : NAME_COLUMNS_MAX;
    }
}

static void draw_plain_list(struct drawing *drawing)
{
    struct text text = {.length = 0};
    append(&text, "%s",
           *drawing->machine->unknown ? drawing->machine->unknown : "no NUMA node is known");
    print_paragraph(&text, 4);
    for (size_t i = 0; i < drawing->machine->nic_count; i++)
        if (!drawing->machine->nics[i].is_virtual)
            draw_nic(drawing, &drawing->machine->nics[i], true);
}

void haul_machine_draw(const struct haul_machine *machine)
{
    struct drawing drawing = {.machine = machine};
    print_place(machine);
    putchar('\n');
    measure(&drawing);
    if (*machine->unknown || machine->node_count == 0) {
        draw_plain_list(&drawing);
    } else {
        for (long at = next_package(machine, 0); at >= 0; at = next_package(machine, at + 1))
            draw_package(&drawing, (unsigned)at);
        draw_nics(&drawing, (struct spot){.kind = AT_PACKAGES}, "several packages");
        draw_nics(&drawing, (struct spot){.kind = ELSEWHERE}, "node not known");
    }
    draw_virtual(&drawing);
    draw_legend(&drawing);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *json_of(const char *bytes)
{
    struct text text = {.length = 0};
    append(&text, "%s", bytes);
    return haul_json_text(haul_clean_text(text.bytes));
}

static json_t *json_of_nodes(const struct haul_machine *machine)
{
    json_t *nodes = json_array();
    for (size_t i = 0; i < machine->node_count; i++) {
        const struct haul_machine_node *node = &machine->nodes[i];
        json_array_append_new(nodes, json_pack("{si si sI so sb sb}", "number", (int)node->number,
                                               "package", (int)node->package, "bytes",
                                               (json_int_t)node->bytes, "cpus", json_of(node->cpus),
                                               "memory_allowed", node->memory_allowed, "special",
                                               node->special));
    }
    return nodes;
}

static json_t *json_of_nics(const struct haul_machine *machine)
{
    json_t *nics = json_array();
    for (size_t i = 0; i < machine->nic_count; i++) {
        const struct haul_machine_nic *nic = &machine->nics[i];
        json_array_append_new(nics,
                              json_pack("{so so so so so sI sb so}", "name", json_of(nic->name),
                                        "kind", json_of(nic->kind), "pci", json_of(nic->pci),
                                        "carrier", json_of(nic->carrier), "state",
                                        json_of(nic->state), "mbits", (json_int_t)nic->mbits,
                                        "virtual", nic->is_virtual, "nodes", json_of(nic->nodes)));
    }
    return nics;
}

static json_t *json_of_place(const struct haul_place *place)
{
    json_t *nics = json_array();
    for (size_t i = 0; i < place->nic_count; i++)
        json_array_append_new(nics, json_of(place->nics[i]));
    return json_pack("{so so so so so}", "nics", nics, "nodes", json_of(place->nodes), "cpus",
                     json_of(place->cpus), "why", json_of(place->why), "unmet",
                     json_of(place->unmet));
}

json_t *haul_machine_json(const struct haul_machine *machine)
{
    return json_pack("{so so so so so so so}", "origin", json_of(machine->origin), "unknown",
                     json_of(machine->unknown), "cpus", json_of(machine->cpus), "own_cpus",
                     json_of(machine->own_cpus), "nodes", json_of_nodes(machine), "nics",
                     json_of_nics(machine), "place", json_of_place(&machine->place));
}
