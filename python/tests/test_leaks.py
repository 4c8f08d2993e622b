# SPDX-License-Identifier: Apache-2.0
"""Nothing grows over many messages: neither Python's objects, nor the process, nor haul's counts."""

import asyncio
import gc
import os
import sys

import numpy as np
import pytest

import haul
from conftest import WAIT, Echo

pytestmark = pytest.mark.plain
BURST = 10  # messages under way at once: fewer than a peer's credits
ROUND = 100
NOW = ("messages_unreleased", "ops_under_way", "pool_used_bytes", "peers")


def small(number):
    return {"x": np.full(16, number, np.float32), "text": "some", "n": number}


def calls(pair):
    with_text = small(1)
    for number in range(ROUND):
        assert pair.peer.call(small(number), timeout=WAIT)["n"] == number
    assert str(pair.peer.call(with_text, timeout=WAIT)["text"]) == "some"


def into_arrays(pair):
    arrays = {"x": np.zeros(16, np.float32)}
    for _ in range(ROUND // BURST):
        ops = [pair.peer.send_async({"x": np.full(16, i, np.float32)}) for i in range(BURST)]
        for i in range(BURST):
            pair.server.recv_into(arrays, WAIT)
            assert arrays["x"][15] == i
        for op in ops:
            op.result(WAIT)


def into_batches(pair):
    batch = haul.Batch({"x": ((16,), np.float32)}, rows=BURST)
    for _ in range(ROUND // BURST):
        ops = [pair.peer.call_async({"x": np.full(16, i, np.float32)}) for i in range(BURST)]
        assert batch.fill(pair.server, WAIT) == BURST
        for row in range(BURST):
            batch.reply(row, {"row": row})
        assert [int(op.result(WAIT)["row"]) for op in ops] == batch["x"][:, 0].tolist()


def coroutines(pair):
    async def answer():
        for _ in range(ROUND):
            message = await pair.server.arecv(WAIT)
            await message.areply(message)

    async def ask():
        answering = asyncio.create_task(answer())
        for _ in range(ROUND // BURST):
            asked = [pair.peer.acall(small(i), timeout=WAIT) for i in range(BURST)]
            assert [int(reply["n"]) for reply in await asyncio.gather(*asked)] == [*range(BURST)]
        await answering

    asyncio.run(ask())


def sizes(pair):
    gc.collect()
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    counts = [
        {name: context.stats()[name] for name in NOW}
        for context in (pair.server_context, pair.client_context)
    ]
    return sys.getallocatedblocks(), resident, counts


def exchange_many(pair, exchange):
    """100,000 messages over tcp in the four ways; over the others a tenth of it."""
    for _ in range(2):  # so that what is made once is there: caches, pools
        exchange(pair)
    blocks, resident, counts = sizes(pair)
    for _ in range(250 if pair.peer.path == "tcp" else 25):
        exchange(pair)
    blocks_after, resident_after, counts_after = sizes(pair)
    assert counts_after == counts
    assert blocks_after - blocks < 2000  # fewer than messages; the interpreter's own lists grow
    assert resident_after - resident < 1 << 20


@pytest.mark.parametrize("exchange", [into_arrays, into_batches, coroutines])
def test_no_leak(pair, exchange):
    exchange_many(pair, exchange)


def test_calls_do_not_leak(pair):
    with Echo(pair.server):
        exchange_many(pair, calls)
