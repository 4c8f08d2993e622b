#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server and its clients in asyncio: requests of many clients are worked on at the same time, in
one thread."""

import argparse
import asyncio
import contextlib

import numpy as np

import haul


async def answer(message: haul.Message) -> None:
    total = await asyncio.to_thread(message["x"].sum)  # what takes long; others are served meanwhile
    await message.areply({"sum": total})


async def serve(server: haul.Server) -> None:
    """Until the server is closed."""
    async with asyncio.TaskGroup() as tasks:
        async for message in server:
            tasks.create_task(answer(message))


async def ask(address: str, number: int, requests: int) -> int:
    """Returns how many answers came, all of them right."""
    peer = await asyncio.to_thread(haul.connect, address)  # connect() waits: not in the loop
    with peer:
        for request in range(requests):
            reply = await peer.acall({"x": np.full(1000, number + request)}, timeout=60)
            assert reply["sum"] == 1000 * (number + request)
    return requests


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100, help="clients (100)")
    parser.add_argument("--requests", type=int, default=10, help="requests of each (10)")
    options = parser.parse_args()
    with haul.listen("127.0.0.1:0") as server:
        serving = asyncio.create_task(serve(server))
        clients = (ask(server.address, i, options.requests) for i in range(options.clients))
        answers = await asyncio.gather(*clients)
    await serving
    print(f"{sum(answers)} answers to {options.clients} clients")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
