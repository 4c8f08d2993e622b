# SPDX-License-Identifier: Apache-2.0
"""The code of the user's guide does what the guide says."""

import ast
import asyncio
import contextlib
import inspect
import pathlib
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import haul
from conftest import WAIT, Echo, Pair

README = pathlib.Path(__file__).parent.parent / "README.md"


def code_blocks():
    """Each with its line numbers, for what it raises."""
    text = README.read_text()
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield "\n" * text.count("\n", 0, block.start(1)) + block[1]


def run_block(code, names):
    """Blocks may await, as in a notebook."""
    compiled = compile(code, README, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(compiled, names))
    else:
        exec(compiled, names)


def ask(peer):
    """Calls a server until its peer is closed."""
    while True:
        try:
            peer.call({"foo": np.ones((64, 64, 3), np.uint8), "bar": np.float32(1)})
        except haul.NoReply:
            pass  # the guide does not answer all
        except haul.Error:
            return


@contextlib.contextmanager
def asking(peer):
    """Clients of a server: so many that it can keep messages of some."""
    clients = [threading.Thread(target=ask, args=(peer,)) for _ in range(8)]
    for client in clients:
        client.start()
    yield
    peer.close()
    for client in clients:
        client.join(WAIT)
        assert not client.is_alive()


@pytest.fixture
def names():
    """What the guide says that there is."""
    with contextlib.ExitStack() as stack:
        asked, answering = (stack.enter_context(contextlib.closing(Pair("tcp"))) for _ in range(2))
        stack.enter_context(asking(asked.peer))
        stack.enter_context(Echo(answering.server))
        peer = stack.enter_context(haul.connect(answering.server.address, timeout=WAIT))
        frames = np.zeros((1024, 64, 64, 3), np.uint8)
        yield {"server": asked.server, "peer": peer, "haul": haul, "np": np, "frames": frames}


def test_server_and_client(tmp_path):
    """The first two blocks are programs."""
    server_code, client_code = (
        block.replace("127.0.0.1:5555", f"unix:{tmp_path}/haul") for block in [*code_blocks()][:2]
    )
    server = subprocess.Popen([sys.executable, "-c", server_code])
    try:
        run = subprocess.run(
            [sys.executable, "-c", client_code], capture_output=True, text=True, timeout=WAIT
        )
        assert (run.stdout, run.stderr) == ("1\n", "")
    finally:
        server.kill()
        server.wait()


def test_guide(names):
    for block in [*code_blocks()][2:]:
        run_block(block, names)
