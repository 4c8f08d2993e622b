#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The client in docs/WIRE.md makes the golden frames, and reads all kinds of arrays back."""
import sys

from page import golden, load_client

import numpy

client = load_client()
encode, decode = client["encode"], client["decode"]

# What it sends
frames = {"foo": numpy.zeros((1024, 64, 64, 3), "u1"), "bar": numpy.zeros((1024, 1024), "f4"),
          "baz": numpy.zeros(1024, "f4")}
parts = encode(frames, 2, client["WANTS_REPLY"])
assert parts[0] == golden("message_frames")
assert [part.nbytes for part in parts[1:]] == [array.nbytes for array in frames.values()]
assert all(numpy.shares_memory(*pair) for pair in zip(parts[1:], frames.values()))
assert encode({"x": numpy.zeros(16, "f4")})[0] == golden("message_plain")

# What it reads
kinds = {
    "scalar": numpy.int64(-7), "empty": numpy.zeros((0, 3), "f2"),
    "Fortran": numpy.asfortranarray(numpy.arange(6, dtype="f4").reshape(2, 3)),
    "strided": numpy.arange(20)[::3], "bool": numpy.array([True, False]),
    "complex": numpy.array([1 + 2j]), "big-endian": numpy.arange(3, dtype=">i4"),
    "Zeit": numpy.array(["2024-02-29T12:00"], "M8[ns]"), "text": numpy.array(["ä", "b\0c"]),
    "records": numpy.array([(1.5, 2)], numpy.dtype([("a", "<f4"), ("b", "<i8")], align=True)),
}
parts = encode(kinds)
seq, arrays = decode([bytes(part) for part in parts])
assert seq == 0 and list(arrays) == list(kinds)
for key, array in arrays.items():
    sent = numpy.asarray(kinds[key])
    assert array.dtype == sent.dtype and array.shape == sent.shape, key
    assert numpy.array_equal(array, sent), key
assert arrays["Fortran"].flags.f_contiguous

seq, arrays = decode([golden("message_reply"), b"\x01"])
assert seq == 2 and arrays["done"] == 1

inline = [bytes(size) for size in (8, 24, 40, 24, 1)]
_, arrays = decode([golden("message_kinds"), *inline])
assert arrays["Größe/größte [µm]"].dtype == numpy.dtype("M8[ns]")
assert arrays["k" * 255].dtype == numpy.dtype([("a", "<f4"), ("b", "<i8")])
assert arrays["huge"].shape == (2**62, 0, 1)
assert decode([golden("message_unknown_records"), b"ab"])[1]["a"].tobytes() == b"ab"

try:
    decode([golden("ack_refused")])
    sys.exit("an ACK with an error was taken for an answer")
except RuntimeError as refused:
    assert str(refused) == "message 6: error -20: bar: expected f32[1024,1024], got f64[1024,1024]"
