#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each attack of attacks.py by itself: the answer to it, and that nobody else notices. On tcp."""
import contextlib
import pathlib
import selectors
import socket
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from support import LIMIT_S, FailureTest

LONG_MS = 300000
QUIET_S = 1


def frames(data):
    """[(type, body)] of what a server answered; none of it has payload."""
    found = []
    while len(data) >= 16:
        kind, _, _, body_bytes, _ = struct.unpack_from("<BBHIQ", data)
        found.append((kind, data[16:16 + body_bytes]))
        data = data[16 + body_bytes:]
    return found


def goodbye(answer):
    """(error, sentence) of the BYE in an answer."""
    kind, body = frames(answer)[-1]
    if kind != attacks.BYE:
        raise AssertionError(f"the last frame is of type {kind}, no BYE")
    err, = struct.unpack_from("<i", body)
    size, = struct.unpack_from("<I", body, 12)
    return err, body[16:16 + size].decode()


class SlowSenders(contextlib.ExitStack):
    """Connections that announce messages and do not send what they are asked for, or byte by byte."""

    def __init__(self, address, connections, messages, dribble, nbytes):
        super().__init__()
        self.selector = self.enter_context(selectors.DefaultSelector())
        self.heard = {}
        self.sending = set()
        self.dribble = dribble
        offered = attacks.array("x", attacks.U8, 1, (nbytes,), attacks.OFFERED)
        announcements = b"".join(attacks.message(number, [offered], flags=attacks.WANTS_ACK)
                                 for number in range(1, messages + 1))
        for _ in range(connections):
            connection = self.enter_context(socket.create_connection(address, LIMIT_S))
            connection.sendall(attacks.GREETING + announcements)
            self.selector.register(connection, selectors.EVENT_READ)
            self.heard[connection] = b""

    def fetches(self, connection):
        return [body for kind, body in frames(self.heard[connection]) if kind == attacks.FETCH]

    @property
    def asked(self):
        return sum(len(self.fetches(connection)) for connection in self.heard)

    def go_on(self):
        """For a moment: the pace of the attack."""
        for key, _ in self.selector.select(0.05):
            self.heard[key.fileobj] += key.fileobj.recv(65536)
            if self.dribble and key.fileobj not in self.sending and self.fetches(key.fileobj):
                self.begin(key.fileobj)
        for connection in self.sending:
            connection.send(b"x")

    def begin(self, connection):
        seq, offset, transfer, _, nbytes = struct.unpack("<QQIIQ", self.fetches(connection)[0][:32])
        answer = struct.pack("<QQII", seq, offset, transfer, 0)
        connection.sendall(attacks.frame(attacks.DATA, answer, nbytes))
        self.sending.add(connection)


class Served(FailureTest):
    """A server that a bystander uses beside the attacks."""
    ENVIRONMENT = {}

    def setUp(self):
        self.server = self.start_server(HAUL_LOG="info", **self.ENVIRONMENT)
        host, port = self.server.address.rsplit(":", 1)
        self.address = (host, int(port))
        self.bystander = self.start("caller", self.server.address, 1, LONG_MS)
        self.calls = 0

    def assert_bystander_is_served(self):
        self.calls += 1
        self.bystander.tell(f"call 100000 {LONG_MS}")
        self.assertEqual(self.bystander.line(self.calls, "answer to the bystander"), "ok")

    def serve_bystander_beside(self, connections, messages, dribble, nbytes=100000):
        with contextlib.ExitStack() as stack:
            attack = stack.enter_context(
                SlowSenders(self.address, connections, messages, dribble, nbytes))
            asked, changed = 0, time.monotonic()
            while time.monotonic() < changed + QUIET_S:  # until all turns that there are are taken
                attack.go_on()
                if attack.asked > asked:
                    asked, changed = attack.asked, time.monotonic()
            self.assertGreater(asked, 0)
            self.bystander.line(0, "connection of the bystander")
            self.bystander.tell(f"call 30000000 {LONG_MS}")
            while len(self.bystander.lines) < 2:
                attack.go_on()
            self.assertEqual(self.bystander.line(1, "answer to the bystander"), "ok")


class FullPool(Served):
    ENVIRONMENT = {"HAUL_POOL_MAX": "64M", "HAUL_HEARTBEAT": "0"}  # nothing else wakes it

    def test_stalled_senders(self):
        """What they are to send takes all memory, and they never send it."""
        self.serve_bystander_beside(connections=2, messages=1, dribble=False, nbytes=60000000)

    def test_data_for_a_turn_that_was_taken(self):
        """What it was asked for has no memory any more, also if it bears the number that the next FETCH
        would have. The others never send either: its next turn is far away."""
        with SlowSenders(self.address, 20, 1, dribble=False, nbytes=60000000) as attack:
            while not attack.asked:
                attack.go_on()
            late = next(connection for connection in attack.heard if attack.fetches(connection))
            seq, offset, transfer, _, nbytes = struct.unpack("<QQIIQ", attack.fetches(late)[0][:32])
            taken = "%s:%d: hardly anything has come" % late.getsockname()
            self.server.wait(lambda: taken in self.server.error_text, taken)
            answer = struct.pack("<QQII", seq, offset, transfer + 1, 0)
            late.sendall(attacks.frame(attacks.DATA, answer, nbytes) + bytes(100))
            while chunk := late.recv(65536):
                attack.heard[late] += chunk
            self.assertEqual(goodbye(attack.heard[late])[0], attacks.PROTOCOL)
        self.assert_bystander_is_served()
        self.assert_ends(self.bystander)
        self.assertEqual(self.server.end(), 0)


class Attacks(Served):
    def test_stalled_senders(self):
        """They never send what they are asked for."""
        self.serve_bystander_beside(connections=5, messages=16, dribble=False)

    def test_dribbling_senders(self):
        """They send it byte by byte, so that something always moves."""
        self.serve_bystander_beside(connections=80, messages=1, dribble=True)

    def exchange(self, data, ends=True):
        """Sends it all and returns all that comes back; the server ends it, or else we do."""
        answer = b""
        with socket.create_connection(self.address, LIMIT_S) as connection:
            try:
                connection.sendall(data)
                if not ends:
                    connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionError:
                pass  # it has cut us without reading all
        return answer

    def finish(self):
        self.assert_bystander_is_served()
        self.assert_ends(self.bystander)
        self.assertEqual(self.server.end(), 0)
        for _, line in self.server.errors:
            self.assertIn("haul: info: ", line)

    def test_strangers(self):
        for name, data in attacks.STRANGERS.items():
            with self.subTest(name):
                answer = self.exchange(data, ends=False)
                self.assertNotIn(attacks.WELCOME, [kind for kind, _ in frames(answer)])
                self.assert_bystander_is_served()
        self.finish()
        for words in ("an HTTP request", "TLS", "SSH", "ZeroMQ"):
            self.assertIn(words, self.server.error_text)

    def test_a_stranger_that_waits(self):
        """ZeroMQ sends no more before it has an answer."""
        self.exchange(b"\xff" + bytes(8) + b"\x7f")
        self.finish()
        self.assertIn("ZeroMQ", self.server.error_text)

    def test_broken_frames(self):
        """A sentence for whoever wrote the sender, and the end of the connection."""
        for name, data in attacks.BROKEN.items():
            with self.subTest(name):
                answer = self.exchange(attacks.GREETING + data)
                self.assertEqual(frames(answer)[0][0], attacks.WELCOME)
                err, sentence = goodbye(answer)
                self.assertEqual(err, attacks.PROTOCOL, sentence)
                self.assertGreater(len(sentence), 10)
                self.assert_bystander_is_served()
        self.finish()

    def test_harmless_frames(self):
        for name, data in attacks.HARMLESS.items():
            with self.subTest(name):
                self.exchange(attacks.GREETING + data, ends=False)
                self.assert_bystander_is_served()
        self.finish()

    def test_duplicate_key_is_named(self):
        answer = self.exchange(attacks.GREETING + attacks.BROKEN["duplicate keys"])
        self.assertRegex(goodbye(answer)[1], "two arrays .*key 'x'")
        self.finish()

    def test_client_of_another_version(self):
        later = attacks.frame(attacks.HELLO, b"HAUL" + struct.pack("<HH", 2, 0) + bytes(48))
        err, sentence = goodbye(self.exchange(later))
        self.assertEqual(err, attacks.VERSION)
        self.assertRegex(sentence, r"\b2\b.*\b1\b|\b1\b.*\b2\b")
        self.finish()

    def test_many_half_open_connections(self):
        """Connections that never greet, or stop in the middle of a frame, hold up nobody."""
        beginnings = [b"", attacks.GREETING[:10], attacks.GREETING[:40], attacks.GREETING,
                      attacks.GREETING + attacks.message(1, [attacks.X], flags=attacks.WANTS_ACK)]
        open_ones = []
        for number in range(200):
            connection = socket.create_connection(self.address, LIMIT_S)
            self.addCleanup(connection.close)
            connection.sendall(beginnings[number % len(beginnings)])
            open_ones.append(connection)
        self.assert_bystander_is_served()
        for connection in open_ones:
            connection.close()
        self.finish()


class FakeServer(threading.Thread):
    """Accepts one connection and answers it with the same bytes, whatever it says."""

    def __init__(self, answer):
        super().__init__()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT_S)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.answer = answer
        self.heard = b""
        self.start()

    def run(self):
        with self.listener, self.listener.accept()[0] as connection:
            connection.settimeout(LIMIT_S)
            connection.sendall(self.answer)
            try:
                while chunk := connection.recv(65536):
                    self.heard += chunk
            except ConnectionError:
                pass


class FakeServers(FailureTest):
    def connect(self, answer):
        fake = FakeServer(answer)
        client = self.start("caller", fake.address, 1, LONG_MS)
        line = client.line(0, "end of the connection")
        client.end()
        fake.join()
        return line, fake.heard

    def test_server_of_another_version(self):
        """A client fails at once, however long it might have waited, and says both versions."""
        later = attacks.frame(attacks.WELCOME, b"HAUL" + struct.pack("<HH", 2, 0) + bytes(48))
        line, heard = self.connect(later)
        self.assertRegex(line, r"^HAUL_VERSION .*(\b2\b.*\b1\b|\b1\b.*\b2\b)")
        self.assertEqual(goodbye(heard)[0], attacks.VERSION)

    def test_server_that_says_goodbye_to_our_version(self):
        bye = attacks.frame(attacks.BYE, struct.pack("<iI", attacks.VERSION, 0) + attacks.record(
            3, b"this side speaks version 2, you speak version 1"))
        line, _ = self.connect(bye)
        self.assertRegex(line, "^HAUL_VERSION .*version 2.*version 1")


if __name__ == "__main__":
    unittest.main()
