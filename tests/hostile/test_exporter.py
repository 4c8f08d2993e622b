#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peers that lie about where their memory is. Of those that name another one's, with keys that are wrong, reads
fail, and with each libfabric ends its connection to the other one, with all reads that are under way."""
import os
import pathlib
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from support import LIMIT_S, PROVIDER, FailureTest

ENDLESS = 1 << 40
MIB = 1 << 20
ATTACKS = 10
RMA_RECORD = 2
HELLO_BYTES = 56  # of its fixed part
HEAD_BYTES = 20  # of an address of ofi, before libfabric's own


class Relay(threading.Thread):
    """Stands between a client and its server, and notes the client's greeting, or changes it."""

    def __init__(self, address, change=lambda greeting: greeting):
        super().__init__()
        self.address = address
        self.change = change
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard = b""

    def run(self):
        with self.listener, self.listener.accept()[0] as client, \
                socket.create_connection(self.address, LIMIT_S) as server:
            answers = threading.Thread(target=self.carry, args=(server, client))
            answers.start()
            self.heard = client.recv(1 << 16)
            server.sendall(self.change(self.heard))
            self.carry(client, server)
            answers.join()

    @staticmethod
    def carry(source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of them is gone


def rma_record(greeting):
    """(name, probe, address) of the first RMA record of a HELLO."""
    at = 16 + HELLO_BYTES
    kind, _, _ = struct.unpack_from("<HHI", greeting, at)
    assert kind == RMA_RECORD
    name, probe, address = struct.unpack_from("<BBH", greeting, at + 8)
    at += 12
    ends = at + name, at + name + probe, at + name + probe + address
    return greeting[at:ends[0]], greeting[ends[0]:ends[1]], greeting[ends[1]:ends[2]]


def claim(name, probe, address):
    """A HELLO with that RMA record."""
    data = struct.pack("<BBH", len(name), len(probe), len(address)) + name + probe + address
    return attacks.frame(attacks.HELLO,
                         attacks.GREETING[16:16 + HELLO_BYTES] + attacks.record(RMA_RECORD, data))


def with_size(head, size):
    return head[:2] + struct.pack("<H", size) + head[4:]


def with_count(head, count):
    return head[:1] + bytes([count]) + head[2:]


def addresses(address):
    """Addresses that are none, made of a true one: what the server says of each."""
    text = PROVIDER == "ofi:shm"
    rails = address[1]
    (size,) = struct.unpack_from("<H", address, 2)
    name = address[HEAD_BYTES:HEAD_BYTES + size]
    assert address[HEAD_BYTES:] != b"" and len(address) == HEAD_BYTES + rails * size
    head = with_count(address[:HEAD_BYTES], 1)
    length = "does not end where it says" if text else "of another length"
    yield b"", "its address is not understood"
    yield address[:10], "its address is not understood"
    yield b"\1" + address[1:], "its address is not understood"
    yield address + b"\0", "its address is not understood"
    yield with_count(head, 0), "its address is not understood"
    yield with_count(head, 9) + 9 * name, "its address is not understood"
    yield with_count(head, 2) + name, "its address is not understood"
    yield with_count(head, rails) + rails * name + name, "its address is not understood"
    yield with_size(with_count(head, 255), 0), "its address is not understood"
    yield with_size(head, 0), length
    yield with_size(head, len(name) + 1) + name + b"\0", length
    yield with_size(head, len(name) - 1) + name[:-1], length
    yield head[:8] + bytes(4) + head[12:] + name, "of another kind"
    if text:
        gone = name.rsplit(b":", 1)[0] + b":9\0"
        yield with_size(head, len(gone)) + gone, "the peer's memory is not in /dev/shm"
    else:
        yield head + b"\x0a" + name[1:], "of another family"
        yield with_count(head, 2) + name + b"\x0a" + name[1:], "of another family"
        yield head[:4] + bytes(4) + head[8:] + name, "and 0.0 there"


class Exporter(FailureTest):
    def setUp(self):
        self.server = self.start_server(HAUL_LOG="info")
        host, port = self.server.address.rsplit(":", 1)
        self.address = host, int(port)

    def start_client(self, count):
        """A client and its RMA record."""
        relay = Relay(self.address)
        relay.start()
        self.addCleanup(relay.join)
        client = self.start("client", f"127.0.0.1:{relay.port}", 1, count, 32 * MIB, 32 * MIB)
        self.server.line_with("message 1 ")
        return client, rma_record(relay.heard)

    def greet(self, *record):
        """What the server answers; the proof has ended then."""
        with socket.create_connection(self.address, LIMIT_S) as connection:
            connection.sendall(claim(*record))
            return connection.recv(1 << 16)

    def assert_more_come(self):
        count = len(self.server.lines)
        self.server.wait(lambda: any(line.startswith("message 1 ")
                                     for line in self.server.lines[count:]), "message")

    @unittest.skipIf(PROVIDER == "ofi:shm", "killed, it would leave files in /dev/shm")
    def test_another_ones_memory(self):
        client, (name, probe, address) = self.start_client(ENDLESS)
        start, size, *keys = struct.unpack(f"<{len(probe) // 8}Q", probe)
        probe = struct.pack(f"<{len(probe) // 8}Q", start, size, *(key ^ 0x5a5a for key in keys))
        for _ in range(ATTACKS):
            self.greet(name, probe, address)
            self.assert_more_come()
        client.kill()
        self.assertEqual(self.server.end(), 0, self.server.error_text)
        self.assertIn("a read failed", self.server.error_text)
        self.assertNotIn(": warning: ", self.server.error_text)

    @unittest.skipIf(PROVIDER == "ofi:shm", "killed, it would leave files in /dev/shm")
    def test_ways(self):
        """Ways that are not as long as the peer's number of rails says."""
        client, (name, probe, address) = self.start_client(ENDLESS)
        for wrong in (probe[:-8], probe + bytes(8), probe[:-1], probe + b"\0", probe[:8], b"\0"):
            answer = self.greet(name, wrong, address).decode(errors="replace")
            self.assertIn("the peer's way has", answer)
        client.kill()
        self.assertEqual(self.server.end(), 0, self.server.error_text)
        self.assertNotIn(": warning: ", self.server.error_text)

    @unittest.skipIf(PROVIDER == "ofi:shm", "killed, it would leave files in /dev/shm")
    def test_message_before_the_welcome(self):
        """While the server still reads the proof of the other one's memory."""
        client, record = self.start_client(ENDLESS)
        with socket.create_connection(self.address, LIMIT_S) as connection:
            connection.sendall(claim(*record) + attacks.manifest())
            answer = connection.recv(1 << 16)
        self.assertIn(b"a frame before the handshake", answer)
        self.assert_more_come()
        client.kill()
        self.assertEqual(self.server.end(), 0, self.server.error_text)

    def test_addresses(self):
        client, (name, probe, address) = self.start_client(1)
        for wrong, sentence in addresses(address):
            self.assertIn(sentence, self.greet(name, probe, wrong).decode(errors="replace"))
        self.assertEqual(client.end(), 0, client.error_text)
        self.assertEqual(self.server.end(), 0, self.server.error_text)
        self.assertNotIn(": warning: ", self.server.error_text)


@unittest.skipUnless("HAUL_RAILS" in os.environ, "there is one rail")
class Rail(FailureTest):
    """A peer of several rails, of which one leads nowhere: the others carry its part, and all arrives."""
    COUNT = 20

    def lead_second_to(self, port):
        def change(greeting):
            address = rma_record(greeting)[2]
            (size,) = struct.unpack_from("<H", address, 2)
            first = greeting.index(address) + HEAD_BYTES
            second = first + size + 2  # (a sockaddr_in: family, port)
            return greeting[:second] + struct.pack(">H", port) + greeting[second + 2:]

        server = self.start_server(HAUL_LOG="info")
        host, own = server.address.rsplit(":", 1)
        relay = Relay((host, int(own)), change)
        relay.start()
        self.addCleanup(relay.join)
        client = self.start("client", f"127.0.0.1:{relay.port}", 1, ENDLESS, 32 * MIB, 32 * MIB)
        server.wait(lambda: "read over the other NICs" in server.error_text, "a warning")
        count = len(server.lines)
        server.wait(lambda: len(server.lines) >= count + self.COUNT, "messages")
        client.kill()
        self.assertEqual(server.end(), 0, server.error_text)
        self.assertIn("NIC net-1 ", server.error_text)
        self.assertNotIn("over tcp", server.error_text)

    def test_nobody_there(self):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.lead_second_to(bound.getsockname()[1])

    def test_somebody_silent(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.lead_second_to(silent.getsockname()[1])


if __name__ == "__main__":
    unittest.main()
