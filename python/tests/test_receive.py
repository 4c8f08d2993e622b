# SPDX-License-Identifier: Apache-2.0
"""Receiving into memory that is named: arrays and batches."""

import collections.abc
import threading

import numpy as np
import pytest

import haul
from conftest import WAIT


def test_recv_into(pair):
    arrays = {
        "x": np.zeros((200, 1000)),
        "n": np.zeros((), np.int32),
        "f": np.zeros((3, 4), order="F"),
    }
    sent = {
        "x": np.random.rand(200, 1000),
        "n": np.int32(5),
        "f": np.asfortranarray(np.random.rand(3, 4)),
    }
    op = pair.peer.call_async(sent)
    message = pair.server.recv_into(arrays, WAIT)
    assert message["x"] is arrays["x"]
    for key in sent:
        np.testing.assert_array_equal(arrays[key], sent[key])
    message.reply({"ok": 1})
    assert op.result(WAIT)["ok"] == 1


class Made(collections.abc.Mapping):
    """Makes its array each time that it is asked for it."""

    def __getitem__(self, key):
        return np.zeros(3)

    def __iter__(self):
        return iter("x")

    def __len__(self):
        return 1


def test_recv_into_a_mapping_that_makes_its_arrays(pair):
    op = pair.peer.send_async({"x": np.arange(3.0)})
    message = pair.server.recv_into(Made(), WAIT)
    op.result(WAIT)
    assert message["x"].tolist() == message.copy()["x"].tolist() == [0, 1, 2]


def test_recv_into_refuses(pair):
    for bad in (np.zeros(3)[::2], np.broadcast_to(1.0, (3,)), [1, 2], np.zeros(3, ">f8")):
        with pytest.raises(ValueError, match="x"):
            pair.server.recv_into({"x": bad}, 0)
    op = pair.peer.send_async({"x": np.zeros(3, np.float64)})
    with pytest.raises(haul.Timeout):
        pair.server.recv_into({"x": np.zeros(3, np.float32)}, 0.2)
    with pytest.raises(haul.Refused, match=r"x: expected f32\[3\], got f64\[3\]"):
        op.result(WAIT)


def test_a_batch_that_was_not_waited_for_stays_posted(pair):
    batch = haul.Batch({"x": ((3,), "f8")}, rows=2)
    batch.post(pair.server)
    with pytest.raises(ValueError):
        batch.wait(-1)
    kept = batch["x"]
    del batch  # takes itself back: the next message is nobody's row
    pair.peer.send_async({"x": np.ones(3)})
    assert pair.server.recv(WAIT)["x"].tolist() == [1, 1, 1]
    assert kept.shape == (2, 3)


def test_batch(pair):
    batch = haul.Batch({"foo": ((100, 100), np.uint8), "n": ((), "i8")}, rows=5)
    with pytest.raises(ValueError, match="not posted"):
        batch["foo"]
    ops = [
        pair.peer.call_async({"foo": np.full((100, 100), i, np.uint8), "n": i}) for i in range(5)
    ]
    assert batch.fill(pair.server, WAIT) == 5
    assert batch["foo"].shape == (5, 100, 100) and batch["n"].tolist() == [0, 1, 2, 3, 4]
    assert set(batch) == {"foo", "n"} and len(batch) == 2
    for row in range(batch.filled):
        assert (batch["foo"][row] == row).all()
        assert batch.peer(row).connected
        batch.reply(row, {"row": row})
    assert [int(op.result(WAIT)["row"]) for op in ops] == [0, 1, 2, 3, 4]
    with pytest.raises(IndexError, match="not filled"):
        batch.reply(5)


def test_batch_timeout_hands_out_what_is_whole(pair):
    batch = haul.Batch({"x": ((3,), "f4")}, rows=4)
    op = pair.peer.send_async({"x": np.arange(3, dtype="f4")})
    batch.post(pair.server)
    op.result(WAIT)
    assert batch.wait(0.05) == 1
    assert batch["x"][0].tolist() == [0, 1, 2]
    assert batch.fill(pair.server, 0) == 0


def test_more_rows_than_credits(pair):
    """One peer fills a batch that is larger than what it may have under way."""
    batch = haul.Batch({"x": ((), "i4")}, rows=100)
    ops = [pair.peer.send_async({"x": np.int32(i)}) for i in range(100)]
    assert batch.fill(pair.server, WAIT) == 100
    assert batch["x"].tolist() == list(range(100))
    for op in ops:
        op.result(WAIT)


def test_batch_refuses_what_does_not_fit(pair):
    batch = haul.Batch({"x": ((2,), "f4")}, rows=1)
    batch.post(pair.server)
    bad = pair.peer.send_async({"x": np.zeros(3, "f4")})
    good = pair.peer.send_async({"x": np.ones(2, "f4")})
    assert batch.wait(WAIT) == 1
    good.result(WAIT)
    with pytest.raises(haul.Refused, match="x: expected"):
        bad.result(WAIT)


def test_dropped_batch_takes_no_messages(pair):
    batch = haul.Batch({"x": ((3,), "f8")}, rows=2)
    batch.post(pair.server)
    array = batch["x"]
    del batch
    assert pair.carry({"y": 1})["y"] == 1
    assert array.shape == (2, 3)


def test_batches_in_turn(pair):
    """One is filled while the other is read."""
    batches = [haul.Batch({"x": ((50_000,), "i4")}, rows=2) for _ in range(2)]

    def send():
        for i in range(12):
            pair.peer.send({"x": np.full(50_000, i, "i4")}, timeout=WAIT)

    sender = threading.Thread(target=send)
    sender.start()
    for batch in batches:
        batch.post(pair.server)
    seen = []
    for turn in range(6):
        batch = batches[turn % 2]
        assert batch.wait(WAIT) == 2
        seen += batch["x"][:, 7].tolist()
        if turn < 4:
            batch.post(pair.server)
    sender.join()
    assert seen == list(range(12))
