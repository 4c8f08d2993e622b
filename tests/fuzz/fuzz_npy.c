/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a .npy file: what is read must survive being written and read again. */
#include "npy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

static int same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void require_same(const struct haul_array *a, const struct haul_array *b)
{
    require(a->dtype == b->dtype && a->itemsize == b->itemsize && a->flags == b->flags);
    require(same_text(a->description, b->description));
    require(a->ndim == b->ndim && a->nbytes == b->nbytes);
    require(memcmp(a->shape, b->shape, a->ndim * sizeof(a->shape[0])) == 0);
    require(memcmp(a->data, b->data, a->nbytes) == 0);
}

static void round_trip(const struct haul_array *array)
{
    static struct haul_npy again;
    size_t header_bytes;
    require(haul_npy_check(array) == NULL);
    char *header = haul_npy_header(array, &header_bytes);
    require(header != NULL && header_bytes % HAUL_NPY_ALIGNMENT == 0);
    char *file = malloc(header_bytes + array->nbytes);
    require(file != NULL);
    memcpy(file, header, header_bytes);
    memcpy(file + header_bytes, array->data, array->nbytes);
    require(haul_npy_parse(&again, file, header_bytes + array->nbytes));
    require_same(array, &again.array);
    free(file);
    free(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct haul_npy npy;
    if (haul_npy_parse(&npy, data, size))
        round_trip(&npy.array);
    else
        require(npy.why[0] != 0);
    return 0;
}
