# SPDX-License-Identifier: Apache-2.0
"""What a user's program looks like to a type checker. Checked by test_typing.py, never run."""

from typing import assert_type

import numpy as np

import haul
from haul.typing import Array, Arrays


def serve(address: str) -> None:
    with haul.listen(address, provider="tcp", pool_max="1G", writable=True) as server:
        assert_type(server, haul.Server)
        assert_type(server.peers, list[haul.Peer])
        for message in server:
            assert_type(message, haul.Message)
            assert_type(message["foo"], Array)
            assert_type(message.get("foo"), Array | None)
            assert_type(message.get("foo", 3), Array | int)
            assert_type(message.copy(), dict[str, Array])
            assert_type(message.peer.stats(), dict[str, int])
            for key, value in message.items():
                assert_type(key, str)
                assert_type(value, Array)
            message.reply({"ok": np.array(1)}, timeout=1.5)


def answer(server: haul.Server) -> haul.Message:
    into = {"x": np.zeros(3)}
    return server.recv_into(into, timeout=1)


def sent() -> Arrays:
    return {"int": 1, "text": "a", "bytes": b"b", "list": [[1.0]], "array": np.zeros(3, np.uint8)}


def call(peer: haul.Peer) -> None:
    assert_type(peer.call(sent()), haul.Message)
    forwarded: haul.Op[None] = peer.send_async(peer.recv(0), give=True)
    assert_type(peer.call_async().result(timeout=None), haul.Message)
    forwarded.cancel()
    try:
        forwarded.result(3)
    except haul.Timeout as error:
        assert_type(error.code, str)
        also: TimeoutError = error
        raise also


def learn(server: haul.Server) -> None:
    batch = haul.Batch({"foo": ((64, 64), np.uint8), "bar": ((), "f4")}, rows=32)
    assert_type(batch.fill(server, timeout=1), int)
    assert_type(batch["foo"], Array)
    batch.reply(0, {"ok": True})
    assert_type(batch.peer(0).address, str)


async def coroutines(server: haul.Server, peer: haul.Peer) -> None:
    async for message in server:
        await message.areply(message)
    assert_type(await peer.acall({"x": 1}, timeout=2), haul.Message)
    assert_type(await peer.call_async(), haul.Message)
    await peer.asend()
    assert_type(await server.arecv(), haul.Message)


def facts() -> None:
    assert_type(haul.empty((3, 4), np.float32), Array)
    assert_type(haul.stats()["messages_sent"], int)
    assert_type(haul.info()["providers"][0]["reason"], str | None)
    assert_type(haul.__version__, str)
    with haul.Context(provider="tcp", credits=4) as context:
        assert_type(context.connect("host:1", timeout=None), haul.Peer)


def mistakes(peer: haul.Peer) -> None:
    peer.send({1: 2})  # type: ignore[dict-item]
    peer.send({"x": object()})  # type: ignore[dict-item]
    peer.recv("soon")  # type: ignore[arg-type]
    peer.path = "tcp"  # type: ignore[misc]
