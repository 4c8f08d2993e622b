# SPDX-License-Identifier: Apache-2.0
"""Arrays to send, and whether what came is the same."""

import numpy as np


def filled(dtype, shape, seed=0):
    """An array of random bits; where not all are valid, of valid ones."""
    array = np.zeros(shape, dtype)
    fill(array, np.random.default_rng(seed))
    return array


def fill(array, random):
    if array.dtype.fields:
        for name in array.dtype.names:
            fill(array[name], random)
    elif array.dtype.kind == "?":
        array[...] = random.integers(0, 2, array.shape)
    elif array.dtype.kind == "U":
        array[...] = random.integers(32, 999, array.shape).astype("U")
    else:
        octets = random.integers(0, 256, array.nbytes, np.uint8)
        array[...] = np.frombuffer(octets, array.dtype).reshape(array.shape)


def assert_same(got, sent):
    """The same bits, in the byte order that arrays are sent in."""
    sent = np.asarray(sent)
    assert got.dtype == sent.dtype.newbyteorder("<")
    assert got.shape == sent.shape
    for part, part_sent in zip(parts(got), parts(sent)):
        assert part.tobytes() == part_sent.astype(part.dtype).tobytes()


def parts(array):
    """The array, or those of its fields: what lies between fields is not sent."""
    if not array.dtype.fields:
        return [array]
    return [part for name in array.dtype.names for part in parts(array[name])]
