# SPDX-License-Identifier: Apache-2.0
"""An interpreter ends well whatever is under way: it neither hangs nor crashes, and says nothing."""

import textwrap

import pytest

from conftest import run_python

SETUP = """
import asyncio, haul, numpy as np, sys, threading
server = haul.listen("127.0.0.1:0")
peer = haul.connect(server.address)
large = {"large": np.zeros(5_000_000)}

def run(work, begun):
    begun.set()
    try:
        work()
    except haul.Error:
        pass  # it is closed at the end

def begin(*works):
    "In threads that Python does not wait for. Each has begun."
    for work in works:
        begun = threading.Event()
        threading.Thread(target=run, args=(work, begun), daemon=True).start()
        begun.wait()
"""

ENDINGS = {
    "ops under way": """
        ops = [peer.send_async(large) for _ in range(3)] + [peer.call_async({"y": 1})]
        haul.Context(provider="tcp")
        """,
    "dropped ops": """
        for _ in range(3):
            peer.send_async(large)
        peer.call_async({"y": 1})
        """,
    "a context of its own": """
        own = haul.Context()
        own_server = own.listen("127.0.0.1:0")
        other = own.connect(own_server.address)
        ops = [other.send_async(large) for _ in range(3)]
        """,
    "given memory": """
        array = haul.empty(5_000_000)
        op = peer.send_async({"x": array}, give=True)
        """,
    "messages held": """
        op = peer.call_async({"x": np.arange(1000)})
        message = server.recv()
        array = message["x"]
        """,
    "a posted batch": """
        batch = haul.Batch({"x": ((3,), "f8")}, 2)
        batch.post(server)
        array = batch["x"]
        peer.send({"x": np.zeros(3)})
        """,
    "threads that wait": """
        begin(lambda: list(server), server.recv, peer.recv, lambda: peer.send(large),
              lambda: peer.call({"x": 1}), lambda: peer.call_async().result(),
              lambda: server.recv_into({"z": np.zeros(3)}),
              lambda: haul.Batch({"x": ((3,), "f8")}, 2).fill(server))
        """,
    "threads at work": """
        def echo():
            for message in server:
                message.reply(message)
        def ask():
            while True:
                peer.call({"x": np.zeros(1000)})
        begin(echo, ask, ask)
        for _ in range(100):
            peer.call({"x": 1})
        """,
    "a loop left in the middle": """
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(work) for work in (server.arecv(), peer.acall(), peer.arecv())]
        loop.run_until_complete(asyncio.sleep(0))  # one turn: the tasks have begun to wait
        for task in tasks:
            task._log_destroy_pending = False
        """,
    "sys.exit()": """
        peer.send_async(large)
        sys.exit()
        """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_exit(ending, provider):
    code = SETUP + textwrap.dedent(ENDINGS[ending])
    run = run_python(code, HAUL_PROVIDER=provider)
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)
