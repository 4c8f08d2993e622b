# SPDX-License-Identifier: Apache-2.0
"""Any dict of arrays that can be sent arrives as it was: dtype, shape, values, over each provider."""

import contextlib
import os
import string

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from conftest import WAIT, Echo, Pair, providers
from values import assert_same, filled

SIMPLE = st.one_of(
    numpy_st.boolean_dtypes(),
    numpy_st.integer_dtypes(),
    numpy_st.unsigned_integer_dtypes(),
    numpy_st.floating_dtypes(),
    numpy_st.complex_number_dtypes(),
    numpy_st.datetime64_dtypes(),
    numpy_st.timedelta64_dtypes(),
    numpy_st.byte_string_dtypes(min_len=1),
    numpy_st.unicode_string_dtypes(min_len=1),
    st.integers(1, 20).map(lambda size: np.dtype(f"V{size}")),
)
FIELD_NAMES = st.text(string.ascii_letters + " é\"'\\", min_size=1, max_size=8)


def structured(inner):
    """Fields of other dtypes, some of them arrays, aligned or packed."""
    field = st.tuples(FIELD_NAMES, inner, numpy_st.array_shapes(min_dims=0, max_dims=2, max_side=3))
    fields = st.lists(field, min_size=1, max_size=4, unique_by=lambda each: each[0])
    return st.builds(np.dtype, fields, align=st.booleans())


DTYPES = st.one_of(
    st.recursive(SIMPLE, structured, max_leaves=4), st.just(np.dtype(ml_dtypes.bfloat16))
)
SHAPES = numpy_st.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6) | st.just((40_000,))


def half_of(extent):
    """Of an axis that is twice as long."""
    return st.sampled_from([slice(extent), slice(None, None, 2), slice(None, None, -2)])


@st.composite
def arrays(draw):
    """In any order of bytes in memory: contiguous either way, with gaps, backwards, repeated."""
    shape = draw(SHAPES)
    whole = filled(draw(DTYPES), tuple(2 * extent for extent in shape), draw(st.integers(0, 99)))
    array = whole[tuple(draw(half_of(extent)) for extent in shape)]
    match draw(st.sampled_from(["as it is", "C", "Fortran", "transposed", "broadcast"])):
        case "C":
            return np.ascontiguousarray(array).reshape(shape)
        case "Fortran":
            return np.asfortranarray(array).reshape(shape, order="F")
        case "transposed":
            return array.T
        case "broadcast":
            return np.broadcast_to(array, (3, *shape))
    return array


KEYS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60
)


@pytest.fixture
def peers():
    """By provider: to servers that send back what they get. Making the dicts is what takes time, so
    each goes through all of them."""
    with contextlib.ExitStack() as stack:
        pairs = {
            provider: stack.enter_context(contextlib.closing(Pair(provider)))
            for provider in providers()
        }
        for pair in pairs.values():
            stack.enter_context(Echo(pair.server))
        yield {provider: pair.peer for provider, pair in pairs.items()}


@hypothesis.settings(
    max_examples=int(os.environ.get("HAULTEST_DICTS", "200")),
    deadline=None,
    derandomize=True,  # the same dicts in every run
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(sent=st.dictionaries(KEYS, arrays()))
def test_dicts_arrive(peers, sent):
    for provider, peer in peers.items():
        reply = peer.call(sent, timeout=WAIT)
        assert list(reply) == list(sent), provider
        for key, array in sent.items():
            assert_same(reply[key], array)
