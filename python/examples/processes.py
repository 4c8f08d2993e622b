# SPDX-License-Identifier: Apache-2.0
"""Processes of the examples: they run as long as a block does."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def run(work: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its children
    work(*arguments)


@contextlib.contextmanager
def running(work: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> Iterator[None]:
    """For each tuple of arguments a process that runs work(*arguments)."""
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=run, args=(work, *each)) for each in arguments]
    try:
        for child in children:
            child.start()
        yield
    finally:
        for child in children:
            if child.pid is not None:
                child.kill()
                child.join()
