# SPDX-License-Identifier: Apache-2.0
"""What a message costs a server that receives into batches over tcp: counted, not timed."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import haul
from conftest import WAIT

pytestmark = pytest.mark.plain
COUNTER = pathlib.Path(haul.__file__).parent / "lib/haul/bench/libhaul_count.so"
ROWS, BATCHES, WARM_UP = 8, 120, 20

# One batch is filled while the other is answered.
SERVER = """
import ctypes, haul, numpy as np, sys

class Counts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("mallocs", "large_mallocs", "copied_bytes")]

def counts():
    made = Counts()
    ctypes.CDLL(None).haul_count_read(ctypes.byref(made))
    return made

rows, count, warm_up = map(int, sys.argv[1:])
spec = {"foo": ((64, 64, 64, 3), np.uint8), "bar": ((64, 1024), np.float32), "baz": ((64,), "f4")}
batches = [haul.Batch(spec, rows) for _ in range(2)]
server = haul.listen("127.0.0.1:0", provider="tcp")
print(server.address, flush=True)

batches[0].post(server)
for number in range(count):
    if number == warm_up:
        before = counts()
    filling, other = batches[number % 2], batches[1 - number % 2]
    if number + 1 < count:
        other.post(server)
    filling.wait(60)
    for row in range(rows):
        filling.reply(row)
after = counts()
messages = (count - warm_up) * rows
row_bytes = sum(array[0].nbytes for array in batches[0].values())
print((after.large_mallocs - before.large_mallocs) / messages)
print((after.copied_bytes - before.copied_bytes) / (messages * row_bytes))
"""


def send_rows(address):
    row = {
        "foo": np.ones((64, 64, 64, 3), np.uint8),
        "bar": np.ones((64, 1024), np.float32),
        "baz": np.ones(64, np.float32),
    }
    with haul.connect(address, provider="tcp", timeout=WAIT) as peer:
        for _ in range(BATCHES // 2):
            for op in [peer.call_async(row) for _ in range(2 * ROWS)]:
                op.result(WAIT)


def test_batches_are_filled_without_copies_or_allocations():
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *map(str, (ROWS, BATCHES, WARM_UP))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LD_PRELOAD": str(COUNTER)},
    ) as server:
        send_rows(server.stdout.readline().strip())
        large_allocations, copies = map(float, server.stdout.read().split())
        assert (server.wait(WAIT), server.stderr.read()) == (0, "")
    assert large_allocations < 0.01  # of more than 4 KiB, per message
    assert copies < 0.01  # per byte
