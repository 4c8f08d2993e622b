# SPDX-License-Identifier: Apache-2.0
"""NumPy dtypes that are not haul's own: their descriptions, written and read.

A description comes from a peer, so it is never evaluated: it is read by the small grammar below,
which knows text, whole numbers, lists and tuples, and what it says is given to NumPy as data."""

import functools
import re
from typing import Any, NoReturn, TypeAlias

import numpy as np

DType: TypeAlias = np.dtype[Any]
BF16, OTHER = 11, 16  # enum haul_dtype
_DEPTH_MAX = 16
_BASIC = re.compile(r"[<>|][?bBiufcmMSUV]\d*(\[\w+\])?")
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<number>\d+)|(?P<sign>[][(),]))"""
)
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}


def _bfloat16() -> DType | None:
    """The dtype, or None where the package ml_dtypes is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    dtype: DType = np.dtype(ml_dtypes.bfloat16)
    return dtype


# ---- Writing -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _describe(dtype: DType) -> tuple[int, str | None, DType]:
    if dtype.hasobject:
        raise TypeError("objects cannot be sent; use an array of numbers, strings or fields")
    if dtype.name == "bfloat16" and dtype.itemsize == 2:
        return BF16, None, dtype
    if dtype.char not in "gGMmSUV":
        raise TypeError(f"{dtype} is a dtype that only this process knows; convert it first")
    if dtype.itemsize == 0:
        raise TypeError(f"{dtype} has elements of 0 bytes")
    sent = dtype if dtype.isnative and dtype.fields is None else dtype.newbyteorder("<")
    descr = np.lib.format.dtype_to_descr(sent)
    description = descr if isinstance(descr, str) else repr(descr)
    _check_description(sent, description)
    return OTHER, description, sent


def _check_description(dtype: DType, description: str) -> None:
    """A description must give the dtype back at the receiver."""
    try:
        parsed = parse(OTHER, description, dtype.itemsize)
    except ValueError:
        raise TypeError(
            f"{str(dtype)[:200]} has fields that cannot be described: nested too deep, or with signs in "
            "their names that Python does not print"
        ) from None
    if parsed != dtype:
        raise TypeError(f"{str(dtype)[:200]} has fields that overlap or are out of order")


def describe(key: str, dtype: DType) -> tuple[int, str | None, DType]:
    """(haul's dtype, the description or None, the dtype in the byte order that is sent)"""
    try:
        return _describe(dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{key}: {error}") from None


# ---- Reading -------------------------------------------------------------------------------------


class _Reader:
    """Reads text, numbers, lists and tuples as Python writes them; nothing else."""

    def __init__(self, text: str):
        self.text, self.at = text, 0

    def fail(self) -> NoReturn:
        raise ValueError(f"{self.text[:100]!r} is no description of a dtype")

    def token(self, kind: str) -> re.Match[str] | None:
        match = _TOKEN.match(self.text, self.at)
        if not match or match.lastgroup != kind:
            return None
        return match

    def take(self, sign: str) -> bool:
        match = self.token("sign")
        if not match or match["sign"] != sign:
            return False
        self.at = match.end()
        return True

    def unescape(self, text: str) -> str:
        def one(match: re.Match[str]) -> str:
            return chr(int(match[2], 16)) if match[2] else _ESCAPES.get(match[1]) or self.fail()

        return re.sub(r"\\(x([0-9a-f]{2})|.)", one, text)

    def value(self, depth: int = 0) -> Any:
        if depth > _DEPTH_MAX:
            self.fail()
        for kind in ("text", "number"):
            match = self.token(kind)
            if match:
                self.at = match.end()
                return int(match[kind]) if kind == "number" else self.unescape(match["text"][1:-1])
        if self.take("["):
            return self.items("]", depth)
        if self.take("("):
            return tuple(self.items(")", depth))
        return self.fail()

    def items(self, end: str, depth: int) -> list[Any]:
        items, comma = [], True
        while not self.take(end):
            if not comma:
                self.fail()
            items.append(self.value(depth + 1))
            comma = self.take(",")
        if end == ")" and len(items) == 1 and not comma:
            self.fail()  # "(3)" is no tuple
        return items

    def whole(self) -> Any:
        value = self.value()
        if self.text[self.at :].strip():
            self.fail()
        return value


def _check_type(descr: Any) -> None:
    """The shapes that numpy.lib.format writes: "<f4", or a list of (name, type[, shape])."""
    if isinstance(descr, str):
        if not _BASIC.fullmatch(descr):
            raise ValueError(f"{descr[:100]!r} is no description of a dtype")
        return
    if not isinstance(descr, list):
        raise ValueError(f"{str(descr)[:100]!r} is no description of a dtype")
    for field in descr:
        well_formed = (
            isinstance(field, tuple)
            and len(field) in (2, 3)
            and _is_name(field[0])
            and (
                len(field) == 2
                or isinstance(field[2], tuple)
                and all(isinstance(extent, int) for extent in field[2])
            )
        )
        if not well_formed:
            raise ValueError(f"{str(field)[:100]!r} is no description of a field")
        _check_type(field[1])


def _is_name(name: Any) -> bool:
    return isinstance(name, str) or (
        isinstance(name, tuple) and len(name) == 2 and all(isinstance(part, str) for part in name)
    )


@functools.lru_cache(maxsize=1024)
def parse(number: int, description: str, itemsize: int) -> DType:
    """The dtype of a received description. Raises ValueError."""
    if number == BF16:
        return _bfloat16() or np.dtype("V2")
    descr: Any = _Reader(description).whole() if description[:1] == "[" else description
    _check_type(descr)
    try:
        dtype = np.lib.format.descr_to_dtype(descr)
    except (TypeError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"{description[:100]!r} is no description of a dtype: {error}") from None
    if dtype.hasobject or dtype.itemsize != itemsize:
        raise ValueError(f"{description[:100]!r} describes no elements of {itemsize} bytes")
    return dtype
