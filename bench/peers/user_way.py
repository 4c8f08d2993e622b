#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A baseline of `haul bench`: arrays over pyzmq as most programs send them: tobytes() and pickle."""
import pickle

import pyzmq_peer
from python_peer import numpy


def to_frames(arrays):
    return [pyzmq_peer.describe(arrays), *(array.tobytes() for array in arrays.values())], True


def from_frames(socket):
    client, description, *frames = socket.recv_multipart()
    arrays = {key: numpy.frombuffer(frame, dtype).reshape(shape)
              for (key, (dtype, shape)), frame in zip(pickle.loads(description).items(), frames)}
    return client, arrays


if __name__ == "__main__":
    pyzmq_peer.main("user_way", to_frames, from_frames)
