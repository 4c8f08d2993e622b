# SPDX-License-Identifier: Apache-2.0
"""What frames.py and frames_pyzmq.py share: the options, the arrays and what is printed."""

import argparse
import time
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray


def parse_options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--clients", type=int, default=32, help="client processes (32)")
    parser.add_argument("--seconds", type=float, default=10, help="how long to measure (10)")
    parser.add_argument("--frames", type=int, default=1024, help="frames in a message (1024)")
    return parser.parse_args()


def make_arrays(frames: int) -> dict[str, NDArray[np.generic]]:
    return {
        "foo": np.ones((frames, 64, 64, 3), np.uint8),
        "bar": np.ones((frames, 1024), np.float32),
        "baz": np.ones(frames, np.float32),
    }


class Meter:
    """Prints what arrives in each second, and at the end the mean. Its time begins when all clients
    have sent something: starting them is not measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.clients = options.clients
        self.seconds = options.seconds
        self.seen: set[Hashable] = set()
        self.began = self.printed = 0.0
        self.frames = self.bytes = self.all_frames = self.all_bytes = 0

    def count(self, client: Hashable, frames: int, nbytes: int) -> bool:
        """Whether there is time left."""
        now = time.monotonic()
        if len(self.seen) < self.clients:
            self.seen.add(client)
            self.began = self.printed = now
            return True
        self.frames += frames
        self.bytes += nbytes
        is_over = now >= self.began + self.seconds
        if is_over or now >= self.printed + 1:
            self.print_second(now)
        if is_over:
            print_rates("mean", self.all_frames, self.all_bytes, now - self.began)
        return not is_over

    def print_second(self, now: float) -> None:
        print_rates("", self.frames, self.bytes, now - self.printed)
        self.all_frames += self.frames
        self.all_bytes += self.bytes
        self.frames = self.bytes = 0
        self.printed = now


def print_rates(what: str, frames: int, nbytes: int, seconds: float) -> None:
    k_fps, gb_per_s = frames / seconds / 1e3, nbytes / seconds / 1e9
    print(f"{what:4} {k_fps:8.1f} k fps {gb_per_s:8.2f} GB/s", flush=True)
