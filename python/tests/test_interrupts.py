# SPDX-License-Identifier: Apache-2.0
"""Signals: Ctrl-C ends every wait at once, other signals none."""

import pathlib
import signal
import subprocess
import sys

import pytest

from conftest import WAIT, run_python, wait_until

WAITS = [
    "server.recv()",
    "peer.recv()",
    "server.recv_into({'x': np.zeros(3)})",
    "for message in server: pass",
    "for message in peer: pass",
    "peer.send(large)",
    "peer.call({'x': 1})",
    "peer.send_async(large).result()",
    "peer.call_async({'x': 1}).result()",
    "peer.send_async(); server.recv().peer.send(large)",
    "haul.Batch({'x': ((3,), 'f8')}, 2).fill(server)",
    "haul.connect('127.0.0.1:1', timeout=None)",
    "asyncio.run(server.arecv())",
    "asyncio.run(peer.asend(large))",
    "asyncio.run(peer.acall({'x': 1}))",
    "asyncio.run(iterate(server))",
]

# What follows the wait works: a message is sent and received.
PROGRAM = """
import asyncio, haul, numpy as np, sys

async def iterate(source):
    async for message in source:
        pass

server = haul.listen("127.0.0.1:0")
peer = haul.connect(server.address)
large = {"large": np.zeros(10_000_000)}  # more than is sent unasked
wait = compile(sys.argv[1], "wait", "exec")
print("ready", flush=True)
try:
    exec(wait)
except KeyboardInterrupt:
    print("interrupted")
op = peer.send_async({"y": np.zeros(3)})
while "y" not in server.recv(60):
    pass
op.result(60)
"""


def is_asleep(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c(wait):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, wait],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "ready\n"
    wait_until(lambda: is_asleep(program.pid))
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=WAIT)
    assert (output, errors, program.returncode) == ("interrupted\n", "", 0)


def test_other_signals_do_not_end_waits():
    code = """
        import haul, os, signal, threading, time
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        server = haul.listen("127.0.0.1:0")
        def send_signals():
            while len(seen) < 4:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.02)  # those that come before it was handled are one
            haul.connect(server.address).send({"x": 1})
        threading.Thread(target=send_signals).start()
        print(int(server.recv(60)["x"]), bool(seen))
        """
    run = run_python(code)
    assert run.stdout == "1 True\n", run.stderr
