#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Actors send rollouts to a learner, which receives each into a row of a batch, learns from the
whole batch and sends its new weights back to all actors."""

import argparse
import contextlib

import numpy as np

import haul
from haul.typing import Array, Arrays
from processes import running

STEPS = 64
ROLLOUT = {
    "frames": ((STEPS, 84, 84), np.uint8),
    "rewards": ((STEPS,), np.float32),
    "version": ((), np.int64),  # of the weights that it was played with
}


def play(weights: haul.Message, random: np.random.Generator) -> Arrays:
    """Stands for an environment and a policy."""
    return {
        "frames": random.integers(0, 256, (STEPS, 84, 84), np.uint8),
        "rewards": random.random(STEPS, np.float32),
        "version": weights["version"],
    }


def learn(weights: dict[str, Array], batch: haul.Batch) -> dict[str, Array]:
    """Stands for a step of training. The new weights are new arrays: the old ones may still be on
    their way to an actor."""
    gradient = np.float32(batch["frames"].mean() * batch["rewards"].mean())
    return {"policy": weights["policy"] + gradient, "version": weights["version"] + 1}


def newest(peer: haul.Peer) -> haul.Message:
    """Waits for weights, and passes over those that are old already."""
    weights = peer.recv()
    with contextlib.suppress(haul.Timeout):
        while True:
            weights = peer.recv(timeout=0)
    return weights


def run_actor(address: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    with haul.connect(address) as peer:
        peer.send({"hello": True})  # who has said so is sent the first weights
        while True:
            peer.send(play(newest(peer), random))


def run_learner(server: haul.Server, actors: int, updates: int) -> None:
    for _ in range(actors):
        server.recv()
    weights: dict[str, Array] = {"policy": np.zeros(100_000, np.float32), "version": np.array(0)}
    batch = haul.Batch(ROLLOUT, rows=actors)
    for update in range(updates):
        for actor in server.peers:
            actor.send_async(weights)
        batch.fill(server)
        age = weights["version"] - batch["version"].mean()
        print(f"update {update}: mean reward {batch['rewards'].mean():.3f}, age {age}", flush=True)
        weights = learn(weights, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actors", type=int, default=8, help="actor processes (8)")
    parser.add_argument("--updates", type=int, default=100, help="steps of training (100)")
    options = parser.parse_args()
    with haul.listen("127.0.0.1:0") as server:
        with running(run_actor, [(server.address, seed) for seed in range(options.actors)]):
            run_learner(server, options.actors, options.updates)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
