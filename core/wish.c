/* SPDX-License-Identifier: Apache-2.0
 * What users wish of the place to work at: settings taken apart. */
#include "wish.h"

#include "error.h"
#include "utf8.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>

static int fail_bind(const char *text)
{
    return haul_fail(HAUL_CONFIG,
                     "HAUL_BIND cannot be \"%.100s\": it takes auto, none, numa:NODES, cores:CPUS "
                     "(lists such as 0-3,8) or pci:ADDRESS (such as 0000:41:00.0)",
                     text);
}

/* "41:00.0", "0000:41:00.0", and both without the function; in the topology's spelling. */
static bool parse_pci(const char *text, char pci[static HAUL_PCI_MAX])
{
    unsigned parts[4]; /* domain, bus, device, function */
    bool has_domain = strchr(text, ':') != strrchr(text, ':');
    bool has_function = strchr(text, '.') != NULL;
    parts[0] = 0;
    for (size_t i = has_domain ? 0 : 1; i < (has_function ? 4u : 3u); i++) {
        static const struct {
            size_t digits;
            unsigned most;
            const char *end;
        } forms[] = {{8, 0xffffffff, ":"}, {2, 0xff, ":"}, {2, 0x1f, "."}, {1, 7, ""}};
        size_t digits = strspn(text, "0123456789abcdefABCDEF");
        bool is_last = i == (has_function ? 3u : 2u);
        if (digits == 0 || digits > forms[i].digits ||
            text[digits] != (is_last ? '\0' : *forms[i].end))
            return false;
        parts[i] = (unsigned)strtoul(text, NULL, 16);
        if (parts[i] > forms[i].most)
            return false;
        text += digits + !is_last;
    }
    int length = snprintf(pci, HAUL_PCI_MAX, "%04x:%02x:%02x", parts[0], parts[1], parts[2]);
    if (has_function)
        snprintf(pci + length, HAUL_PCI_MAX - (size_t)length, ".%x", parts[3]);
    return true;
}

static int parse_bind(const char *text, struct haul_wish *wish)
{
    static const struct {
        const char *prefix;
        enum haul_bind bind;
    } kinds[] = {{"numa:", HAUL_BIND_NUMA}, {"cores:", HAUL_BIND_CORES}, {"pci:", HAUL_BIND_PCI}};
    if (!strcmp(text, "auto") || !strcmp(text, "none")) {
        wish->bind = *text == 'a' ? HAUL_BIND_AUTO : HAUL_BIND_NONE;
        return 0;
    }
    for (size_t i = 0; i < HAUL_COUNT_OF(kinds); i++) {
        size_t length = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, length) != 0)
            continue;
        wish->bind = kinds[i].bind;
        bool parsed = wish->bind == HAUL_BIND_PCI ? parse_pci(text + length, wish->pci)
                                                  : haul_set_parse(text + length, &wish->numbers);
        return parsed ? 0 : fail_bind(text);
    }
    return fail_bind(text);
}

static int parse_nics(const char *text, struct haul_wish *wish)
{
    if (!haul_utf8_printable(text, strlen(text)))
        return haul_fail(HAUL_CONFIG, "HAUL_NIC has bytes that are no text");
    while (*text) {
        size_t length = strcspn(text, ",");
        if (length == 0 || length >= HAUL_DEVICE_NAME_MAX)
            return haul_fail(HAUL_CONFIG,
                             "HAUL_NIC cannot be \"%.100s\": it takes names of interfaces or "
                             "devices, separated by commas (mlx5_0,mlx5_1)",
                             text);
        if (wish->nic_count == HAUL_WISHED_NICS_MAX)
            return haul_fail(HAUL_CONFIG, "HAUL_NIC names more than %d NICs", HAUL_WISHED_NICS_MAX);
        memcpy(wish->nics[wish->nic_count], text, length);
        wish->nics[wish->nic_count++][length] = '\0';
        text += length;
        if (*text == ',' && !*++text)
            return haul_fail(HAUL_CONFIG, "HAUL_NIC ends in a comma");
    }
    return 0;
}

static int parse_rails(const char *text, struct haul_wish *wish)
{
    char *end;
    if (!strcmp(text, "auto"))
        return 0;
    unsigned long rails = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || rails < 1 || rails > HAUL_RAILS_MAX)
        return haul_fail(HAUL_CONFIG, "HAUL_RAILS cannot be \"%.100s\": it takes auto or 1 to %d",
                         text, HAUL_RAILS_MAX);
    wish->rails = (unsigned)rails;
    return 0;
}

int haul_wish_parse(const char *bind, const char *nics, const char *rails, struct haul_wish *wish)
{
    *wish = (struct haul_wish){.bind = HAUL_BIND_AUTO};
    int err = parse_bind(bind, wish);
    if (!err)
        err = parse_nics(nics, wish);
    return err ? err : parse_rails(rails, wish);
}
