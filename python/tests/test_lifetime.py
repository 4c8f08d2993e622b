# SPDX-License-Identifier: Apache-2.0
"""Who owns memory, and for how long."""

import collections.abc
import gc
import sys
import weakref

import numpy as np
import pytest

import haul
from conftest import WAIT, Pair, wait_until


def test_arrays_outlive_everything(provider):
    pair = Pair(provider)
    sent = np.arange(500_000)
    foo = pair.carry({"foo": sent})["foo"]
    view = foo[10:20]
    pair.close()
    del pair, foo
    gc.collect()
    assert view.tolist() == list(range(10, 20))


def test_a_message_outlives_its_server_and_context(provider):
    pair = Pair(provider)
    op = pair.peer.call_async({"foo": np.arange(1000), "large": np.ones(1_000_000)})
    message = pair.server.recv(WAIT)
    pair.close()
    del pair, op
    gc.collect()
    assert message["foo"].sum() == 499_500 and message["large"].all() and len(message) == 2
    with pytest.raises((haul.PeerLost, haul.Closed)):
        message.reply({"x": 1})
    assert not message.peer.connected
    message.release()


def test_named_arrays_stay_with_their_message(pair):
    arrays = {"x": np.zeros(100_000)}
    op = pair.peer.send_async({"x": np.ones(100_000)})
    message = pair.server.recv_into(arrays, timeout=WAIT)
    op.result(WAIT)
    arrays["x"] = np.zeros(3)
    arrays["more"] = np.zeros(3)
    gc.collect()
    assert list(message) == ["x"] and message["x"].all() and message.copy()["x"].all()


@pytest.mark.parametrize("copied", [False, True])
def test_released_while_it_is_read(pair, copied):
    """The dtype is parsed in Python, where others may run: one of them releases the message, and the
    next one to come would lie in its memory."""
    message = pair.carry({"s": np.zeros(50000, [("a", "<f4"), ("b", "<f4")])})
    haul._dtype.parse.cache_clear()
    read = lambda: (message.copy() if copied else message)["s"]

    def release(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.endswith("_dtype.py"):
            sys.setprofile(None)
            message.release()
            later.append(pair.carry({"s": np.ones(100000, "<f4")}))

    later = []
    sys.setprofile(release)
    try:
        array = read()
    finally:
        sys.setprofile(None)
    assert later and later[0]["s"].all()
    assert array.shape == (50000,) and array.tobytes() == bytes(array.nbytes)
    with pytest.raises(ValueError, match="released"):
        read()


def test_received_arrays_are_read_only(pair):
    array = pair.carry({"x": np.arange(10)})["x"]
    with pytest.raises(ValueError):
        array[0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True


def test_writable(provider):
    with haul.Context(provider=provider) as context:
        server = context.listen("127.0.0.1:0", writable=True)
        peer = context.connect(server.address, timeout=WAIT, writable=True)
        given = context.empty(200_000)
        given[:] = 7
        op = peer.call_async({"x": np.arange(10), "given": given}, give=True)
        message = server.recv(WAIT)
        for key in message:
            message[key][0] = 99  # private memory, or a copy
            assert message[key][0] == 99
        assert given[0] == 7
        message.reply({"y": [1, 2]})
        reply = op.result(WAIT)
        reply["y"][0] = 5
        assert reply["y"].tolist() == [5, 2]


def test_release(pair):
    message = pair.carry({"x": np.arange(1000)})
    array = message["x"]
    message.release()
    message.release()
    for use in (
        lambda: message["x"],
        lambda: len(message),
        lambda: list(message),
        lambda: "x" in message,
        message.copy,
        message.reply,
        lambda: message.peer,
        lambda: message.nbytes,
    ):
        with pytest.raises(ValueError, match="released"):
            use()
    assert array[999] == 999  # as long as it lives so does its memory
    assert "released" in repr(message)


def test_memory_goes_back_with_the_last_array(pair):
    before = pair.server_context.stats()["pool_used_bytes"]
    message = pair.carry({"x": np.zeros(4_000_000, np.uint8)})
    array = message["x"][5:6]
    del message
    gc.collect()
    assert pair.server_context.stats()["messages_unreleased"] == 1
    del array
    gc.collect()
    stats = pair.server_context.stats()
    assert stats["messages_unreleased"] == 0
    assert stats["pool_used_bytes"] <= before


def test_copy(pair):
    message = pair.carry({"x": np.arange(6).reshape(2, 3), "f": np.asfortranarray(np.eye(3))})
    copies = message.copy()
    message.release()
    copies["x"][0, 0] = 42
    assert copies["x"].tolist() == [[42, 1, 2], [3, 4, 5]]
    assert copies["f"].flags.f_contiguous and copies["f"].tolist() == np.eye(3).tolist()


def test_mapping(pair):
    message = pair.carry({"a": 1, "b": 2})
    assert isinstance(message, collections.abc.Mapping)
    assert set(message.keys()) == {"a", "b"} and len(message) == 2
    assert "a" in message and "c" not in message and 3 not in message
    assert {key: int(value) for key, value in message.items()} == {"a": 1, "b": 2}
    assert [int(value) for value in message.values()] == [1, 2]
    assert message.get("c") is None and message.get("c", 5) == 5 and message.get("b") == 2
    assert message.nbytes == 16
    with pytest.raises(KeyError, match="c"):
        message["c"]


class Watched(np.ndarray):
    """An array that can be weakly referenced."""


def watched(count):
    return np.zeros(count, np.uint8).view(Watched)


def test_what_is_sent_stays_alive(pair):
    """Nobody holds the op or the array, and the receiver takes its time."""
    array = watched(3_000_000)
    array[:] = 3
    gone = weakref.ref(array)
    pair.peer.send_async({"x": array})
    del array
    gc.collect()
    assert gone() is not None
    message = pair.server.recv(WAIT)
    assert (message["x"] == 3).all()
    pair.peer.call_async({"done": 1}).cancel()
    wait_until(lambda: pair.client_context._collect() or gone() is None)


def test_an_op_keeps_its_peer(pair):
    """Also when nobody else holds it, until the op has ended."""
    op = pair.client_context.connect(pair.server.address, timeout=WAIT).call_async({"x": 1})
    gc.collect()
    message = pair.server.recv(WAIT)
    message.reply({"y": 2})
    assert op.result(WAIT)["y"] == 2
    wait_until(lambda: not message.peer.connected)


def test_dropped_contexts_end_with_their_ops(provider):
    """What a dropped context has under way is still delivered; then it goes."""
    server = haul.Context(provider=provider).listen("127.0.0.1:0")
    gone = []
    for i in range(3):
        context = haul.Context(provider=provider)
        gone.append(weakref.ref(context))
        context.connect(server.address).send_async({"x": np.full(100_000, i)})
        del context
    gc.collect()
    got = {int(server.recv(WAIT)["x"][-1]) for _ in range(3)}
    assert got == {0, 1, 2}

    def all_gone():
        haul.Context(provider=provider)  # any call sees to it
        return all(context() is None for context in gone)

    wait_until(all_gone)


def test_op(pair):
    op = pair.peer.send_async({"x": np.zeros(2_000_000)})
    assert not op.done()
    with pytest.raises(haul.Timeout, match="not receiving"):
        op.result(0.05)
    message = pair.server.recv(WAIT)
    assert op.result(WAIT) is None and op.done()
    assert op.result() is None  # again
    message.release()
    call = pair.peer.call_async()
    pair.server.recv(WAIT).reply({"y": 2})
    reply = call.result(WAIT)
    assert reply["y"] == 2
    with pytest.raises(ValueError, match="taken"):
        call.result()


def test_an_op_under_way_does_not_blur_an_error(pair):
    """Each call looks at the ops of its context; what it raises is its own."""
    op = pair.peer.call_async()
    with pytest.raises(haul.Timeout, match="no message came in time"):
        pair.peer.recv(0)
    pair.server.recv(WAIT).reply()
    op.result(WAIT)


def test_cancel(pair):
    op = pair.peer.send_async({"x": np.zeros(2_000_000)})
    op.cancel()
    try:
        op.result(WAIT)
    except haul.Cancelled:
        pass
    op.cancel()


def test_dropped_call_gets_no_reply(pair):
    op = pair.peer.call_async({"x": 1})
    pair.server.recv(WAIT).release()
    with pytest.raises(haul.NoReply):
        op.result(WAIT)


def test_empty_and_give(pair):
    frames = pair.client_context.empty((4, 1000, 1000), np.uint8)
    assert frames.shape == (4, 1000, 1000) and frames.flags.writeable
    frames[:] = np.arange(4, dtype=np.uint8)[:, None, None]
    registered = pair.client_context.stats()["registrations"]
    for i in range(4):
        part = pair.carry({"x": frames[i]})["x"]
        assert (part == i).all()
    assert pair.client_context.stats()["registrations"] == registered
    message = pair.carry({"x": frames, "n": 3}, give=True)
    assert not frames.flags.writeable  # handed over
    assert (message["x"][2] == 2).all() and message["n"] == 3
    assert (frames[3] == 3).all()  # and still there for who looks


def test_empty_refuses(pair):
    for shape, dtype in (((2,), object), ((-1,), "f4"), ((1 << 62, 4), "f8")):
        with pytest.raises((ValueError, MemoryError)):
            pair.client_context.empty(shape, dtype)
    assert pair.client_context.empty(0).shape == (0,)
    assert pair.client_context.empty(()).shape == ()
