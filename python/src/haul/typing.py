# SPDX-License-Identifier: Apache-2.0
"""Types for annotations of what haul takes and gives."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "Array",
    "Arrays",
    "Info",
    "ProviderInfo",
    "RailStats",
    "RowSpec",
    "Setting",
    "SettingInfo",
    "Value",
]


class SupportsDLPack(Protocol):
    """Arrays of other libraries in this machine's memory."""

    def __dlpack__(self) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Value: TypeAlias = ArrayLike | SupportsDLPack  # what can be sent as one array
Arrays: TypeAlias = Mapping[str, Value]  # what can be sent as a message
RowSpec: TypeAlias = Mapping[str, tuple[tuple[int, ...], DTypeLike]]  # of a batch: shape and dtype
Setting: TypeAlias = str | int | float | bool  # of a context, as docs/CONFIG.md has them


class ProviderInfo(TypedDict):
    """A provider that was found. `reason` says why it cannot be used, or is None."""

    name: str
    file: str | None
    description: str | None
    reason: str | None
    channel: bool
    rma: bool


class SettingInfo(TypedDict):
    """A setting, and where its value comes from."""

    value: str
    origin: str
    help: str


class RailStats(TypedDict):
    """A NIC that arrays are read over, see Context.rails()."""

    name: str
    bytes_read: int
    usable: bool


class Info(TypedDict):
    """What haul.info() returns."""

    version: str
    providers: list[ProviderInfo]
    settings: dict[str, SettingInfo]
