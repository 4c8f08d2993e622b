#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A baseline of `haul bench`: the best that a user of pyzmq can do: frames are never copied in Python."""
import pickle

import pyzmq_peer
from python_peer import numpy


def to_frames(arrays):
    return [pyzmq_peer.describe(arrays), *arrays.values()], False


def from_frames(socket):
    client, description, *frames = socket.recv_multipart(copy=False)
    arrays = {key: numpy.frombuffer(frame.buffer, dtype).reshape(shape)
              for (key, (dtype, shape)), frame
              in zip(pickle.loads(description.buffer).items(), frames)}
    return client.bytes, arrays


if __name__ == "__main__":
    pyzmq_peer.main("best_pyzmq", to_frames, from_frames)
