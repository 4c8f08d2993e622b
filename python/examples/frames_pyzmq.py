#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""32 clients send batches of frames to one server, which prints how many arrive: over pyzmq, as
most programs do it. Beside it: frames.py, the same with haul."""

import contextlib
import pickle

import numpy as np
import zmq

from processes import running
from workload import Meter, make_arrays, parse_options


def client(address: str, frames: int) -> None:
    arrays = make_arrays(frames)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    while True:
        description = {key: (array.dtype, array.shape) for key, array in arrays.items()}
        buffers = [array.tobytes() for array in arrays.values()]
        socket.send_multipart([pickle.dumps(description), *buffers])
        socket.recv()


def main() -> None:
    options = parse_options(__doc__)
    meter = Meter(options)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    with socket:
        address = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
        with running(client, [(address, options.frames)] * options.clients):
            while True:
                sender, description, *buffers = socket.recv_multipart()
                arrays = {
                    key: np.frombuffer(buffer, dtype).reshape(shape)
                    for (key, (dtype, shape)), buffer in zip(
                        pickle.loads(description).items(), buffers
                    )
                }
                socket.send_multipart([sender, b"done"])
                if not meter.count(sender, len(arrays["foo"]), sum(map(len, buffers))):
                    break


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
