# SPDX-License-Identifier: Apache-2.0
"""What is sent arrives: every dtype, shape and order, on every provider."""

import array

import ml_dtypes
import numpy as np
import pytest

from values import assert_same, filled

DTYPES = [
    "?",
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "g",
    "M8[ns]",
    "m8[3s]",
    "S7",
    "U5",
    "V3",
    [("a", "f4"), ("b", "u1", (2, 3))],
    [("x", [("y", "<i8")]), ("é", "S2")],
    {"names": ["p", "q"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 24},
]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (5, 7)])
def test_dtypes_and_shapes(pair, shape):
    arrays = {f"{i}": filled(dtype, shape, i) for i, dtype in enumerate(DTYPES)}
    message = pair.carry(arrays)
    assert list(message) == list(arrays)
    for key, sent in arrays.items():
        assert_same(message[key], sent)


def test_many_axes(pair):
    sent = filled("f4", (2,) + (1,) * 31)
    assert_same(pair.carry({"x": sent})["x"], sent)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # NumPy has more of them than haul
        with pytest.raises(ValueError, match="x: 33 axes are more than 32"):
            pair.peer.send({"x": np.zeros((1,) * 33)})


def test_order_and_strides(pair):
    base = filled("f4", (8, 9, 10))
    arrays = {
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2, 1::3],
        "reversed": base[::-1],
        "broadcast": np.broadcast_to(base[0], (4, 9, 10)),
        "big_endian": base.astype(">f4"),
        "big_fields": filled([("a", ">f4"), ("b", ">i2")], (3,)),
    }
    message = pair.carry(arrays)
    for key, sent in arrays.items():
        assert_same(message[key], sent)
    assert message["fortran"].flags.f_contiguous
    assert message["transposed"].flags.f_contiguous  # sent as it is


def test_values_that_are_no_arrays(pair):
    class WithArray:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3)

    class WithDlpack:
        def __dlpack__(self, **keywords):
            return np.arange(4.0).__dlpack__(**keywords)

        def __dlpack_device__(self):
            return np.arange(4.0).__dlpack_device__()

    message = pair.carry(
        {
            "int": 3,
            "float": 2.5,
            "bool": True,
            "complex": 1j,
            "str": "hé",
            "empty": "",
            "bytes": b"a\0",
            "no_bytes": b"",
            "bytearray": bytearray(b"xyz"),
            "list": [1, 2],
            "numpy": np.float32(4),
            "stdlib": array.array("d", [1, 2]),
            "array": WithArray(),
            "dlpack": WithDlpack(),
            "memory": memoryview(b"mem"),
        }
    )
    assert (message["int"], message["float"], message["complex"]) == (3, 2.5, 1j)
    assert message["bool"] and message["bool"].dtype == bool
    assert (str(message["str"]), str(message["empty"])) == ("hé", "")
    assert (bytes(message["bytes"]), bytes(message["no_bytes"])) == (b"a\0", b"")
    assert bytes(message["bytearray"]) == b"xyz" and bytes(message["memory"]) == b"mem"
    assert message["list"].tolist() == [1, 2] and message["stdlib"].tolist() == [1, 2]
    assert message["numpy"] == 4 and message["numpy"].dtype == np.float32
    assert message["array"].tolist() == [0, 1, 2] and message["dlpack"].tolist() == [0, 1, 2, 3]


def nested(depth):
    """A structured dtype of so many levels."""
    return np.dtype([("a", nested(depth - 1))]) if depth else np.dtype("f4")


def test_bfloat16(pair):
    sent = np.arange(10).astype(ml_dtypes.bfloat16)
    got = pair.carry({"x": sent})["x"]
    assert got.dtype == ml_dtypes.bfloat16
    assert got.tobytes() == sent.tobytes()


@pytest.mark.parametrize(
    "value, words",
    [
        (np.array([object()]), "x: objects"),
        (np.zeros(3, [("a", "O")]), "x: objects"),
        (object(), "x: objects"),
        (np.zeros(2, "V0"), "0 bytes"),
        (np.zeros(2, nested(20)), "x: .* too deep"),
        (np.zeros(2, [("a\ud800", "f4")]), "x: .* does not print"),
    ],
)
def test_what_cannot_be_sent(pair, value, words):
    with pytest.raises(TypeError, match=words):
        pair.peer.send({"x": value})


def test_deep_fields(pair):
    sent = np.zeros(2, nested(7))
    assert pair.carry({"x": sent})["x"].dtype == sent.dtype


class LooksMasked(np.ndarray):
    mask = filled = None


def test_only_masked_arrays_are_masked(pair):
    sent = np.arange(3).view(LooksMasked)
    assert (pair.carry({"x": sent})["x"] == np.arange(3)).all()


class Broken:
    def __array__(self, *args, **keywords):
        raise RuntimeError("out of order")


@pytest.mark.parametrize(
    "value, error, words",
    [
        (np.ma.masked_array([1, 2, 3], [0, 1, 0]), TypeError, "mask"),
        (Broken(), RuntimeError, "out of order"),
        ([[1], [2, 3]], ValueError, "inhomogeneous"),
    ],
)
def test_an_error_says_which_value_it_is_of(pair, value, error, words):
    with pytest.raises(error, match=words) as raised:
        pair.peer.send({"good": 1, "bad one": value})
    assert 'the key "bad one"' in raised.value.__notes__[0]


def test_fields_that_overlap_are_refused(pair):
    overlapping = np.zeros(2, {"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 2]})
    with pytest.raises((TypeError, ValueError), match="x"):
        pair.peer.send({"x": overlapping})


@pytest.mark.parametrize(
    "arrays, error",
    [
        ({1: 2}, TypeError),
        ([1, 2], TypeError),
        (3, TypeError),
        ({"a\0": 1}, ValueError),
        ({"": 1}, ValueError),
        ({"k" * 256: 1}, ValueError),
    ],
)
def test_bad_keys(pair, arrays, error):
    with pytest.raises(error):
        pair.peer.send(arrays)


def test_any_mapping_can_be_sent(pair):
    message = pair.carry({"a": 1, "b": [2, 3]})
    forwarded = pair.carry(message)
    assert dict(forwarded.items()).keys() == {"a", "b"}
    assert forwarded["b"].tolist() == [2, 3]


def test_many_arrays(pair):
    arrays = {f"k{i}": np.full(i % 7, i) for i in range(4096)}
    message = pair.carry(arrays)
    assert len(message) == 4096
    assert all(np.array_equal(message[key], value) for key, value in arrays.items())
