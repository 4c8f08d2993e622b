# SPDX-License-Identifier: Apache-2.0
"""Processes: fork, spawn and forkserver, and peers that are killed."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import weakref

import numpy as np
import pytest

import haul
from conftest import WAIT


def client(address, provider, number):
    peer = haul.connect(address, provider=provider, timeout=WAIT)
    reply = peer.call({"n": number, "x": np.full(200_000, number)}, timeout=WAIT)
    os._exit(0 if reply["n"] == number + 1 else 3)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_children_as_clients(process_provider, method):
    if process_provider.startswith("ofi") and method == "fork":
        with haul.Context(provider=process_provider):
            answer = in_child(lambda: haul.Context(provider=process_provider))
        assert answer.startswith("raised Unsupported: libfabric was used before fork()")
        return
    with haul.Context(provider=process_provider) as context:
        server = context.listen("127.0.0.1:0")
        processes = multiprocessing.get_context(method)
        children = [
            processes.Process(target=client, args=(server.address, process_provider, i))
            for i in range(3)
        ]
        for child in children:
            child.start()
        for _ in children:
            message = server.recv(WAIT)
            assert (message["x"] == message["n"]).all()
            message.reply({"n": message["n"] + 1})
        for child in children:
            child.join(WAIT)
            assert child.exitcode == 0


def in_child(work):
    """Runs it in a forked child; what it returns, or "raised ..."."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"raised {type(error).__name__}: {error}"
        os.write(write, answer.encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def test_fork_keeps_arrays_readable(pair):
    message = pair.carry({"x": np.arange(1_000_000)})
    array = message["x"]
    assert in_child(lambda: int(array.sum() + message["x"][1])) == str(
        int(np.arange(1_000_000).sum()) + 1
    )
    assert array[5] == 5


def test_inherited_handles_raise(pair):
    message = pair.carry({"x": 1})
    op = pair.peer.call_async({"x": 2})  # under way until it is answered
    for use in (
        lambda: pair.peer.send({"x": 1}),
        lambda: pair.server.recv(0),
        lambda: message.reply(),
        lambda: pair.client_context.empty(3),
        lambda: op.result(0),
        lambda: pair.client_context.connect(pair.server.address),
    ):
        assert in_child(use).startswith("raised Forked: it was made before fork()")
    pair.server.recv(WAIT).reply({"y": 3})
    assert op.result(WAIT)["y"] == 3


def test_child_connects_anew():
    with haul.listen("127.0.0.1:0") as server:
        haul.connect(server.address).send_async({"parent": 1})
        assert "parent" in server.recv(WAIT)

        def work():
            haul.connect(server.address, timeout=WAIT).send({"child": 1}, timeout=WAIT)
            return "sent"

        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, work().encode())
            finally:
                os._exit(0)
        assert "child" in server.recv(WAIT)
        assert os.read(read, 10) == b"sent"
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def endless(address, provider):
    peer = haul.connect(address, provider=provider, timeout=WAIT)
    while True:
        peer.send({"x": np.ones(300_000)})


def test_killed_client(process_provider):
    with haul.Context(provider=process_provider) as context:
        server = context.listen("127.0.0.1:0")
        child = multiprocessing.get_context("spawn").Process(
            target=endless, args=(server.address, process_provider)
        )
        child.start()
        for _ in range(10):
            assert (server.recv(WAIT)["x"] == 1).all()
        os.kill(child.pid, signal.SIGKILL)
        child.join(WAIT)
        try:
            while server.peers:
                assert (server.recv(0.1)["x"] == 1).all()
        except haul.Timeout:
            pass
        peer = context.connect(server.address, timeout=WAIT)
        op = peer.send_async({"y": 2})
        while "y" not in server.recv(WAIT):
            pass
        op.result(WAIT)


def keep_calls(pipe, provider, address):
    """A server that answers only what asks for it."""
    server = haul.listen(address, provider=provider)
    pipe.send(server.address)
    kept = []
    for message in server:
        if "answer" in message:
            message.reply()
        else:
            kept.append(message)
            pipe.send("kept")


@contextlib.contextmanager
def server_process(provider, address="127.0.0.1:0"):
    """(its address, a pipe that tells of calls that it keeps, the process)"""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    child = processes.Process(target=keep_calls, args=(theirs, provider, address))
    child.start()
    try:
        assert ours.poll(WAIT)
        yield ours.recv(), ours, child
    finally:
        child.kill()
        child.join(WAIT)


def test_killed_server(process_provider):
    """What was under way fails, in each way of waiting; a new server at the address is found."""
    with haul.Context(provider=process_provider) as context:
        with server_process(process_provider) as (address, pipe, child):
            peer = context.connect(address, timeout=WAIT)
            ops = [peer.call_async({"x": np.ones(1000)}) for _ in range(3)]
            large = peer.call_async({"x": np.ones(1_000_000)})
            for _ in range(4):
                assert pipe.poll(WAIT) and pipe.recv() == "kept"
            child.kill()
            with pytest.raises(haul.PeerLost):
                ops[0].result(WAIT)
            with pytest.raises(haul.PeerLost):
                asyncio.run(wait_for(ops[1]))
            with pytest.raises(haul.PeerLost):
                large.result(WAIT)
        with server_process(process_provider, address):
            peer.call({"answer": 1}, timeout=WAIT)


async def wait_for(op):
    await op


def listen_and_pause(addresses, provider):
    with haul.Context(provider=provider, prepaid_max="64M") as context:  # arrays are sent unasked
        server = context.listen("127.0.0.1:0")
        addresses.send(server.address)
        while True:
            signal.pause()


def test_closing_gets_arrays_back_from_a_stopped_peer(process_provider):
    """The library below may hold what it cannot send; closing waits until it lets go."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    child = processes.Process(target=listen_and_pause, args=(theirs, process_provider))
    child.start()
    try:
        assert ours.poll(WAIT)
        context = haul.Context(provider=process_provider)
        peer = context.connect(ours.recv(), timeout=WAIT)
        os.kill(child.pid, signal.SIGSTOP)
        array = np.ones(32 << 20, np.uint8)  # more than the sockets' buffers take
        lent = weakref.ref(array)
        op = peer.send_async({"x": array})
        del array
        context.close()
        with pytest.raises(haul.Closed):
            op.result(WAIT)
        del op
        gc.collect()
        assert lent() is None
    finally:
        child.kill()
        child.join(WAIT)
