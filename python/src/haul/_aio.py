# SPDX-License-Identifier: Apache-2.0
"""asyncio: haul's descriptors in the event loop. No thread, no polling.

A loop watches a context's descriptor for ops as long as one is awaited, and a server's or peer's for
messages as long as somebody awaits one: what nobody collects would keep it awake."""

import asyncio
import collections
import contextlib
import weakref
from asyncio import AbstractEventLoop, Future
from collections.abc import Awaitable
from typing import Any, TypeAlias, TypeVar

from . import _haul
from .typing import Arrays

Op: TypeAlias = _haul.Op[Any]
Source: TypeAlias = _haul.Server | _haul.Peer  # of messages
T = TypeVar("T")

_ops: weakref.WeakKeyDictionary[_haul.Context, "_Ops"] = weakref.WeakKeyDictionary()
_messages: weakref.WeakKeyDictionary[AbstractEventLoop, dict[Source, "_Messages"]] = (
    weakref.WeakKeyDictionary()
)


class _Ops:
    """The ops of a context that are awaited. An end is seen by one of the loops, whichever awaits it."""

    def __init__(self, context: _haul.Context):
        self.context = weakref.ref(context)
        self.fd = context._ops_fd()
        self.waiting: dict[Future[None], tuple[AbstractEventLoop, Op]] = {}
        self.loops: collections.Counter[AbstractEventLoop] = collections.Counter()

    def add(self, op: Op) -> Future[None]:
        loop = asyncio.get_running_loop()
        future: Future[None] = loop.create_future()
        op._set_awaited(True)
        self.waiting[future] = loop, op
        self.loops[loop] += 1
        if self.loops[loop] == 1:
            loop.add_reader(self.fd, self.ready)
        if op.done():  # before anybody could see that it is awaited
            _wake(future)
        return future

    def ready(self) -> None:
        context = self.context()
        assert context  # the ops that are awaited keep it
        context._collect()
        here = asyncio.get_running_loop()
        for future, (loop, op) in list(self.waiting.items()):
            if loop.is_closed():  # with awaits that nobody will resume
                if self.remove(future):
                    op.cancel()
            elif op.done() and loop is here:
                _wake(future)
            elif op.done():
                loop.call_soon_threadsafe(_wake, future)

    def remove(self, future: Future[None]) -> bool:
        """Returns whether nobody else awaits the op."""
        if future not in self.waiting:  # its loop was closed
            return False
        loop, op = self.waiting.pop(future)
        last = all(other is not op for _, other in list(self.waiting.values()))
        if last:
            op._set_awaited(False)
        self.loops[loop] -= 1
        if not self.loops[loop]:
            del self.loops[loop]
            if not loop.is_closed():
                loop.remove_reader(self.fd)
        return last


    def wake(self, op: Op) -> None:
        """All who await it, in whichever loops."""
        for future, (loop, other) in list(self.waiting.items()):
            if other is op:
                with contextlib.suppress(RuntimeError):  # its loop was closed
                    loop.call_soon_threadsafe(_wake, future)


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def ended(op: Op) -> None:
    """Called when somebody has asked an op that is awaited, and has seen its end: the loops that wait for
    it will not, because the descriptor tells of ends that nobody has seen."""
    ops = _ops.get(op._context)
    if ops:
        ops.wake(op)


class _Messages:
    """Who awaits the next message of a server or peer. The first of them is woken and takes it: one that
    is cancelled meanwhile leaves it to the next."""

    def __init__(self, loop: AbstractEventLoop, source: Source):
        self.loop, self.source = loop, source
        self.fd = source._fd()
        self.waiting: collections.deque[Future[None]] = collections.deque()

    def add(self) -> Future[None]:
        future: Future[None] = self.loop.create_future()
        if not self.waiting:
            self.loop.add_reader(self.fd, self.ready)
        self.waiting.append(future)
        return future

    def ready(self) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
                return

    def discard(self, future: Future[None]) -> None:
        self.waiting.remove(future)
        if not self.waiting:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.fd)
            _messages.get(self.loop, {}).pop(self.source, None)  # (a dropped loop has no entry)


async def _within(future: Awaitable[T], timeout: float | None) -> T:
    """Awaits a future; haul.Timeout when the time runs out."""
    try:
        return await asyncio.wait_for(future, timeout)
    except asyncio.TimeoutError:
        raise _haul.Timeout("the time ran out") from None


async def wait_op(op: _haul.Op[T], timeout: float | None = None) -> T:
    """The op's result. Cancelling the wait, or the end of its time, cancels the op."""
    if not op.done():
        ops = _ops.get(op._context) or _ops.setdefault(op._context, _Ops(op._context))
        future = ops.add(op)
        try:
            await _within(future, timeout)
        finally:
            if ops.remove(future) and not op.done():
                op.cancel()
    return op.result(0)


async def send(
    peer: _haul.Peer, arrays: Arrays = {}, *, timeout: float | None = None, give: bool = False
) -> None:
    await wait_op(peer.send_async(arrays, give=give), timeout)


async def call(
    peer: _haul.Peer, arrays: Arrays = {}, *, timeout: float | None = None, give: bool = False
) -> _haul.Message:
    return await wait_op(peer.call_async(arrays, give=give), timeout)


async def reply(
    message: _haul.Message, arrays: Arrays = {}, *, timeout: float | None = None, give: bool = False
) -> None:
    await wait_op(message.reply_async(arrays, give=give), timeout)


async def recv(source: Source, timeout: float | None = None) -> _haul.Message:
    """The next message of a server or peer."""
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    while True:
        try:
            return source.recv(0)
        except _haul.Timeout:
            pass
        sources = _messages.setdefault(loop, {})
        messages = sources.get(source) or sources.setdefault(source, _Messages(loop, source))
        future = messages.add()
        try:
            await _within(future, None if end is None else end - loop.time())
        finally:
            messages.discard(future)


async def next_message(source: Source) -> _haul.Message:
    """What `async for` asks for."""
    try:
        return await recv(source)
    except _haul.Closed:
        raise StopAsyncIteration from None
