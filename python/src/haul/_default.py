# SPDX-License-Identifier: Apache-2.0
"""Contexts, the one that listen(), connect() and empty() share among them, and what happens to them at
exit, after fork() and when a cell of a notebook runs again."""

import atexit
import contextlib
import os
import sys
import threading
import weakref
from typing import Self

from numpy.typing import DTypeLike

from . import _haul, _log
from ._haul import Peer, Server
from .typing import Array, Setting

_contexts: "weakref.WeakSet[Context]" = weakref.WeakSet()
_servers: weakref.WeakValueDictionary[str, Server] = weakref.WeakValueDictionary()  # as addressed
_default: "Context | None" = None
_lock = threading.Lock()  # of _default


class Context(_haul.Context):
    __doc__ = _haul.Context.__doc__
    __slots__ = ()

    def __new__(cls, **settings: Setting) -> Self:
        _log.start()
        made = super().__new__(cls, **settings)
        _contexts.add(made)
        return made


def context() -> Context:
    """The context that listen(), connect() and empty() use when they are given no settings."""
    global _default
    with _lock:
        if _default is None:
            _default = Context()
        return _default


def _chosen(given: Context | None, settings: dict[str, Setting]) -> Context:
    if given is not None and settings:
        raise TypeError("settings are those of a context: give one of the two")
    return given or (Context(**settings) if settings else context())


def listen(
    address: str, *, writable: bool = False, context: Context | None = None, **settings: Setting
) -> Server:
    """A server at the address: "host:port", ":port" (all interfaces), "unix:/path"; port 0 is a free one.

    Received arrays are read-only, and with writable=True writable. Settings, as provider="zmq", give the
    server a context of its own."""
    if _is_interactive() and not address.endswith(":0"):
        previous = _servers.pop(address, None)
        if previous is not None:
            previous.close()  # the cell runs again
    server = _chosen(context, settings).listen(address, writable=writable)
    _servers[address] = server
    return server


def connect(
    address: str,
    *,
    timeout: float | None = 30,
    writable: bool = False,
    context: Context | None = None,
    **settings: Setting,
) -> Peer:
    """A peer: the server at the address, which may come up within the timeout."""
    return _chosen(context, settings).connect(address, timeout=timeout, writable=writable)


def empty(
    shape: int | tuple[int, ...], dtype: DTypeLike = float, *, context: Context | None = None
) -> Array:
    """An uninitialised array in pool memory: sent without a copy or registration, and with give=True
    handed over. It belongs to one context, by default that of listen() and connect()."""
    return _chosen(context, {}).empty(shape, dtype)


def stats() -> dict[str, int]:
    """Counters of the context of listen() and connect(), see Context.stats()."""
    return context().stats()


def _is_interactive() -> bool:
    if hasattr(sys, "ps1"):
        return True
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


@atexit.register
def _close_all() -> None:
    """Before the interpreter's end, so that what is being sent is not freed under it."""
    with contextlib.ExitStack() as contexts:  # all of them, also after Ctrl-C
        for made in list(_contexts):
            contexts.callback(made.close)


def _forget() -> None:
    """In a child of fork(): what the parent made stays its own."""
    global _default, _lock
    _default = None
    _lock = threading.Lock()
    _contexts.clear()
    _servers.clear()
    _log.forget()


os.register_at_fork(after_in_child=_forget)
