# SPDX-License-Identifier: Apache-2.0
"""Batches: arrays of rows that messages fill on arrival."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from . import _haul
from .typing import Array, Arrays, RowSpec


class Batch(Mapping[str, Array]):
    """Batch({"foo": ((64, 64), np.uint8), "bar": ((), "f4")}, rows=32)

    For each key an array of shape (rows, *shape). Each message that arrives fills one row of all of them,
    and must hold exactly these keys with these dtypes and shapes; others are refused to their senders.

        batch.fill(server)                      # waits until all rows are filled
        train(batch["foo"], batch["bar"])
        for row in range(batch.filled):
            batch.reply(row, {"ok": 1})

    The arrays are views of the batch's memory, which the next filling writes anew. To fill one batch
    while another is worked on: post() both, wait() for one."""

    def __init__(self, spec: RowSpec, rows: int):
        # Of a row only the type counts: one element stands for all.
        self._types: dict[str, Array] = {
            key: np.broadcast_to(np.empty((), dtype), shape) for key, (shape, dtype) in spec.items()
        }
        if rows < 1:
            raise ValueError("a batch has at least one row")
        self.rows = rows
        self.filled = 0  # rows that are whole; known after wait()
        self._batch: _haul.Batch | None = None  # of the server's context: made by the first post()

    def post(self, server: _haul.Server) -> None:
        """Lets the server fill it. The rows of an earlier filling end: who waits for a reply gets
        none."""
        if self._batch is None:
            self._batch = _haul.Batch(server._context, self._types, self.rows)
        self.filled = 0
        self._batch.post(server)

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all rows are filled. Returns their number: fewer when the time has run out."""
        batch = self._posted()
        try:
            batch.wait(timeout)
        finally:
            self.filled = batch.filled  # also when Ctrl-C has ended it
        return self.filled

    def fill(self, server: _haul.Server, timeout: float | None = None) -> int:
        """post() and wait()."""
        self.post(server)
        return self.wait(timeout)

    def peer(self, row: int) -> _haul.Peer:
        """Who filled a row."""
        return self._posted().peer(row)

    def reply(
        self, row: int, arrays: Arrays = {}, *, timeout: float | None = None, give: bool = False
    ) -> None:
        """Answers the call that filled a row, once."""
        self._posted().reply(row, arrays, timeout=timeout, give=give)

    def __del__(self) -> None:
        # Arrays may keep its memory: messages must not go there any more.
        batch = getattr(self, "_batch", None)
        if batch is not None and batch.is_posted:
            with contextlib.suppress(_haul.Error):  # (closed, or another process's: they do not)
                batch.wait(0)

    def _posted(self) -> _haul.Batch:
        if self._batch is None:
            raise ValueError("the batch was not posted to a server yet")
        return self._batch

    def __getitem__(self, key: str) -> Array:
        return self._posted().array(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        return f"<haul.Batch of {list(self._types)}, {self.filled} of {self.rows} rows filled>"
