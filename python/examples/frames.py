#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""32 clients send batches of frames to one server, which prints how many arrive. HAUL_PROVIDER
chooses how the bytes travel. Beside it: frames_pyzmq.py, the same over pyzmq."""

import contextlib

import haul
from processes import running
from workload import Meter, make_arrays, parse_options


def client(address: str, frames: int) -> None:
    arrays = make_arrays(frames)
    with haul.connect(address) as peer:
        while True:
            peer.call(arrays, timeout=60)


def main() -> None:
    options = parse_options(__doc__)
    meter = Meter(options)
    with haul.listen("127.0.0.1:0") as server:
        with running(client, [(server.address, options.frames)] * options.clients):
            for message in server:
                foo = message["foo"]  # a view of received memory
                message.reply()
                if not meter.count(message.peer, len(foo), message.nbytes):
                    break


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
