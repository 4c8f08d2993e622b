#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A peer that says another one's memory were its own, with keys that are wrong. Reads of it fail, and with
each libfabric ends its connection to the other one, with all reads that are under way. On an rma provider of
libfabric."""
import pathlib
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from support import LIMIT_S, FailureTest

ENDLESS = 1 << 40
MIB = 1 << 20
ATTACKS = 10
RMA_RECORD = 2
HELLO_BYTES = 56  # of its fixed part


class Relay(threading.Thread):
    """Stands between a client and its server, and notes the client's greeting."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard = b""

    def run(self):
        with self.listener, self.listener.accept()[0] as client, \
                socket.create_connection(self.address, LIMIT_S) as server:
            answers = threading.Thread(target=self.carry, args=(server, client, lambda data: None))
            answers.start()
            self.carry(client, server, self.note)
            answers.join()

    def note(self, data):
        if len(self.heard) < 16 + HELLO_BYTES:
            self.heard += data

    @staticmethod
    def carry(source, target, note):
        try:
            while data := source.recv(1 << 16):
                note(data)
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


def claim(greeting):
    """A HELLO that offers the memory of the one who greeted so, under a key that nobody has."""
    name, probe, address = rma_record(greeting)
    start, key, size = struct.unpack("<QQQ", probe)
    probe = struct.pack("<QQQ", start, key ^ 0x5a5a, size)
    data = struct.pack("<BBH", len(name), len(probe), len(address)) + name + probe + address
    return attacks.frame(attacks.HELLO,
                         attacks.GREETING[16:16 + HELLO_BYTES] + attacks.record(RMA_RECORD, data))


class Exporter(FailureTest):
    def test_another_ones_memory(self):
        server = self.start_server(HAUL_LOG="info")
        host, port = server.address.rsplit(":", 1)
        address = host, int(port)
        relay = Relay(address)
        relay.start()
        client = self.start("client", f"127.0.0.1:{relay.port}", 1, ENDLESS, 32 * MIB, 32 * MIB)
        server.line_with("message 1 ")
        hostile = claim(relay.heard)
        for _ in range(ATTACKS):
            with socket.create_connection(address, LIMIT_S) as connection:
                connection.sendall(hostile)
                connection.recv(1 << 16)  # (the proof has ended: it does without, or is told why)
            count = len(server.lines)
            server.wait(lambda count=count: any(line.startswith("message 1 ")
                                                for line in server.lines[count:]), "message")
        client.kill()
        relay.join()
        self.assertEqual(server.end(), 0, server.error_text)
        self.assertIn("a read failed", server.error_text)
        self.assertNotIn(": warning: ", server.error_text)


if __name__ == "__main__":
    unittest.main()
