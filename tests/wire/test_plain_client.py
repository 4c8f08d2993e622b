#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The client in docs/WIRE.md talks to a server of haul: no code of haul's is on its side."""
import os
import pathlib
import subprocess
import sys
import threading
import unittest

from page import load_client

import numpy
import zmq
from zmq.utils.monitor import recv_monitor_message

LIMIT_S = 120  # no step takes that long; it bounds a hang
MESSAGE_MAX = 1 << 26
BUILD = pathlib.Path(os.environ["HAULTEST_COMMAND"]).parent.parent
PLAIN = load_client()


class Server:
    """programs/echo_server.c."""

    def __init__(self):
        self.process = subprocess.Popen(
            [BUILD / "tests" / "echo_server"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, "HAUL_PROVIDER": "zmq", "HAUL_MESSAGE_MAX": str(MESSAGE_MAX)})
        self.timer = threading.Timer(LIMIT_S, self.process.kill)
        self.timer.start()
        self.address = "tcp://" + self.process.stdout.readline().strip()

    def finish(self):
        out, err = self.process.communicate()
        self.timer.cancel()
        return self.process.returncode, out + err

    def kill(self):
        self.process.kill()
        self.finish()


class PlainClientTest(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.kill)
        self.client = self.connect()

    def connect(self):
        client = PLAIN["Client"](self.server.address)
        client.socket.linger = 0
        client.socket.rcvtimeo = LIMIT_S * 1000
        self.addCleanup(client.close)
        return client

    def assert_echoes(self, client, arrays):
        reply = client.call(arrays)
        self.assertEqual(list(reply), list(arrays))
        for key, sent in arrays.items():
            self.assertEqual(reply[key].dtype, numpy.asarray(sent).dtype, key)
            numpy.testing.assert_array_equal(reply[key], sent, key)
        return reply

    def stop(self):
        """The server ends by itself, and has nothing to complain about."""
        self.client.call({"stop": numpy.zeros(1)})
        self.assertEqual(self.server.finish(), (0, ""))

    def test_all_kinds_of_arrays(self):
        random = numpy.random.default_rng(1)
        reply = self.assert_echoes(self.client, {
            "foo": random.integers(0, 256, (1024, 64, 64, 3), "u1"),
            "bar": random.random((1024, 1024), "f4"),
            "scalar": numpy.int64(-4), "empty": numpy.zeros((0, 3)), "bool": numpy.array([True]),
            "Fortran": numpy.asfortranarray(random.random((3, 5))), "complex": numpy.array([1j]),
            "Zeit": numpy.array(["2024-02-29"], "M8[D]"), "text": numpy.array(["ä", "longer"]),
            "records": numpy.array([(1.5, 2)], [("a", "<f4"), ("b", "<i8")]),
        })
        self.assertTrue(reply["Fortran"].flags.f_contiguous)
        self.assert_echoes(self.client, {})
        self.stop()

    def test_many_messages(self):
        """Some without an answer between calls; several calls under way at once."""
        for number in range(100):
            self.client.send({"unanswered": numpy.arange(number)})
        for number in range(1, 101):
            self.client.socket.send_multipart(
                PLAIN["encode"]({"n": numpy.arange(number)}, number, PLAIN["WANTS_REPLY"]))
        for number in range(1, 101):
            seq, arrays = PLAIN["decode"](self.client.socket.recv_multipart())
            self.assertEqual(seq, number)
            numpy.testing.assert_array_equal(arrays["n"], numpy.arange(number))
        self.stop()

    def test_refusals(self):
        with self.assertRaisesRegex(RuntimeError, "error -23: .*without a reply"):
            self.client.call({"silence": numpy.zeros(1)})
        with self.assertRaisesRegex(RuntimeError, f"error -21: .*at most {MESSAGE_MAX}"):
            self.client.call({"large": numpy.zeros(MESSAGE_MAX + 1, "u1")})
        self.client.send({"large": numpy.zeros(MESSAGE_MAX + 1, "u1")})  # not even refused
        self.assert_echoes(self.client, {"x": numpy.arange(3)})
        self.stop()

    def test_broken_frame(self):
        """It costs its sender the connection, and nobody else anything."""
        broken = self.connect()
        self.assert_echoes(broken, {"x": numpy.arange(3)})
        events = broken.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        events.rcvtimeo = LIMIT_S * 1000
        header, *payload = PLAIN["encode"]({"x": numpy.arange(3)}, 7, PLAIN["WANTS_REPLY"])
        wrong_nbytes = header[:48] + b"\1" + header[49:]
        broken.socket.send_multipart([wrong_nbytes, *payload])
        self.assertEqual(recv_monitor_message(events)["event"], zmq.EVENT_DISCONNECTED)
        broken.socket.disable_monitor()
        self.assert_echoes(self.client, {"x": numpy.arange(3)})
        self.assert_echoes(broken, {"x": numpy.arange(3)})  # libzmq connected again
        self.stop()

    def test_req_socket(self):
        socket = zmq.Context.instance().socket(zmq.REQ)
        self.addCleanup(socket.close, 0)
        socket.rcvtimeo = LIMIT_S * 1000
        socket.connect(self.server.address)
        socket.send_multipart(PLAIN["encode"]({"x": numpy.arange(3)}, 9, PLAIN["WANTS_REPLY"]))
        seq, arrays = PLAIN["decode"](socket.recv_multipart())
        self.assertEqual(seq, 9)
        numpy.testing.assert_array_equal(arrays["x"], numpy.arange(3))
        self.stop()


if __name__ == "__main__":
    if not (pathlib.Path(os.environ["HAUL_PROVIDER_PATH"]) / "haul_zmq.so").exists():
        print("cannot run: the provider zmq was not built")
        sys.exit(77)
    unittest.main()
