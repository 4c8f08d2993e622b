# SPDX-License-Identifier: Apache-2.0
"""asyncio: descriptors in the event loop, nothing polled, nothing left."""

import asyncio
import gc
import selectors
import threading

import numpy as np
import pytest

import haul
from haul import _aio
from conftest import WAIT


def run(coroutine):
    async def main():
        try:
            return await coroutine
        finally:
            assert not _aio._messages.get(asyncio.get_running_loop())  # nothing is watched any more
            assert not any(ops.waiting or ops.loops for ops in _aio._ops.values())

    return asyncio.run(asyncio.wait_for(main(), WAIT))


async def turn():
    """One turn of the loop: tasks that were made before have begun to wait."""
    await asyncio.sleep(0)  # no pause: asyncio's way to let the others run once


async def echo(server, count):
    async for message in server:
        await message.areply(message)
        count -= 1
        if count == 0:
            return


def test_calls(pair):
    async def main():
        task = asyncio.create_task(echo(pair.server, 20))
        replies = await asyncio.gather(
            *(pair.peer.acall({"i": i, "x": np.full(100_000, i)}, timeout=WAIT) for i in range(20))
        )
        assert [int(reply["i"]) for reply in replies] == list(range(20))
        assert all((reply["x"] == i).all() for i, reply in enumerate(replies))
        await task

    run(main())


def test_sends_and_pushes(pair):
    async def main():
        send = asyncio.create_task(pair.peer.asend({"x": np.zeros(1_000_000)}))
        message = await pair.server.arecv(WAIT)
        await send
        pushes = [asyncio.create_task(message.peer.asend({"y": y})) for y in range(3)]
        assert (await pair.peer.arecv(WAIT))["y"] == 0
        async for pushed in pair.peer:
            if pushed["y"] == 2:
                break
        await asyncio.gather(*pushes)
        op = pair.peer.call_async({"x": 1})
        (await pair.server.arecv(WAIT)).reply({"z": 3})
        assert (await op)["z"] == 3

    run(main())


def test_timeouts(pair):
    async def main():
        for wait in (
            pair.server.arecv(0.05),
            pair.peer.arecv(0.05),
            pair.peer.acall({"x": 1}, timeout=0.05),
        ):
            with pytest.raises(haul.Timeout):
                await wait

    run(main())


def test_cancelled_waits_lose_nothing(pair):
    async def main():
        for _ in range(5):
            task = asyncio.create_task(pair.server.arecv())
            await turn()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        first, second = (asyncio.create_task(pair.server.arecv()) for _ in range(2))
        await turn()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await pair.peer.asend({"x": 5})
        assert (await second)["x"] == 5

    run(main())


def test_close_ends_waits(pair):
    async def main():
        async def iterate():
            async for _ in pair.server:
                pass
            return "ended"

        task = asyncio.create_task(iterate())
        call = asyncio.create_task(pair.peer.acall({"x": 1}))
        push = asyncio.create_task(pair.peer.arecv())
        await turn()
        threading.Thread(target=pair.server.close).start()
        assert await task == "ended"
        with pytest.raises(haul.Error):
            await call
        pair.client_context.close()
        with pytest.raises(haul.Closed):
            await push

    run(main())


def test_unwanted_messages_do_not_keep_the_loop_awake(pair, monkeypatch):
    """A reply is awaited while messages wait that nobody wants: no turn of the loop finds anything."""
    looks = []
    ready = _aio._Ops.ready
    monkeypatch.setattr(_aio._Ops, "ready", lambda ops: (looks.append(ops), ready(ops)))

    async def main():
        op = pair.peer.call_async({"x": 1})
        message = await pair.server.arecv(WAIT)
        for i in range(5):
            await message.peer.asend({"unwanted": i})
        finished = pair.peer.send_async({"y": 2})  # finished, and its result is not asked for
        await pair.server.arecv(WAIT)
        waiting = asyncio.ensure_future(op)
        await turn()
        looks.clear()
        for _ in range(100):
            await turn()
        assert len(looks) <= 1  # the end of `finished` may be news
        message.reply({"z": 1})
        assert (await waiting)["z"] == 1
        assert finished.done()

    run(main())


def test_errors(pair):
    async def main():
        call = asyncio.create_task(pair.peer.acall({"x": 1}))
        (await pair.server.arecv(WAIT)).release()
        with pytest.raises(haul.NoReply):
            await call
        with pytest.raises(TypeError):
            await pair.peer.acall({"x": object()})

    run(main())


def test_two_tasks_await_one_op(pair):
    async def main():
        op = pair.peer.send_async({"x": np.zeros(1_000_000)})
        tasks = [asyncio.create_task(_aio.wait_op(op, WAIT)) for _ in range(2)]
        await turn()
        await pair.server.arecv(WAIT)
        assert await asyncio.gather(*tasks) == [None, None]

    run(main())


def test_an_end_that_another_one_saw(pair):
    async def main():
        op = pair.peer.send_async({"x": np.zeros(1_000_000)})
        tasks = [asyncio.create_task(_aio.wait_op(op, WAIT)) for _ in range(2)]
        await turn()
        with pair.server.recv(WAIT):
            op.result(WAIT)  # the loop's descriptor does not tell of this end any more
        assert await asyncio.gather(*tasks) == [None, None]

    run(main())


def test_a_loop_that_is_closed_with_awaits_disturbs_no_other(pair):
    closed = asyncio.new_event_loop()
    pending = closed.create_task(pair.peer.acall({"x": 1}))
    pending._log_destroy_pending = False
    closed.run_until_complete(turn())
    first = pair.server.recv(WAIT)
    closed.close()

    async def main():
        call = asyncio.create_task(pair.peer.acall({"y": 1}, timeout=WAIT))
        await turn()
        second = await pair.server.arecv(WAIT)
        first.reply({"a": 1})
        second.reply({"b": 2})
        assert list(await call) == ["b"]

    asyncio.run(asyncio.wait_for(main(), WAIT))
    del pending, closed
    gc.collect()
    assert not any(ops.waiting or ops.loops for ops in _aio._ops.values())


def test_a_cancelled_receive_leaves_the_message_to_the_next(pair):
    async def main():
        loop = asyncio.get_running_loop()
        receiving = asyncio.create_task(pair.server.arecv())
        await turn()
        call = pair.peer.call_async({"x": 1})
        with selectors.DefaultSelector() as selector:  # the message is there, the loop has not looked
            selector.register(pair.server._fd(), selectors.EVENT_READ)
            assert selector.select(WAIT)
        loop.call_later(0, receiving.cancel)  # in the turn that wakes it
        with pytest.raises(asyncio.CancelledError):
            await receiving
        message = await pair.server.arecv(WAIT)
        await message.areply({})
        await _aio.wait_op(call, WAIT)

    run(main())


def test_loops_of_two_threads(pair):
    """Each loop hears of the ends of its own calls, whichever thread has seen them."""
    failures = []

    async def call_often(number):
        for i in range(50):
            replies = await asyncio.gather(
                *(pair.peer.acall({"i": (number, i, j)}, timeout=WAIT) for j in range(4))
            )
            assert [list(reply["i"]) for reply in replies] == [[number, i, j] for j in range(4)]

    def client(number):
        try:
            asyncio.run(asyncio.wait_for(call_often(number), WAIT))
        except BaseException as failure:
            failures.append(failure)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(2)]
    for thread in clients:
        thread.start()
    try:
        for _ in range(2 * 50 * 4):
            message = pair.server.recv(WAIT)
            message.reply(message)
    finally:
        for thread in clients:
            thread.join()
        assert failures == []
