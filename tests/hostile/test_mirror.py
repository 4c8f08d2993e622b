#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that sends a client's greeting back: the client must not take itself, or its memory, for the other
side."""
import pathlib
import socket
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from support import LIMIT_S, PROVIDER, FailureTest

NONCE = 16 + 8  # where it is in a greeting: after the prefix, magic and version


class Mirror(threading.Thread):
    def __init__(self, bend):
        super().__init__()
        self.bend = bend  # what it changes in the greeting
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT_S)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]

    def run(self):
        with self.listener, self.listener.accept()[0] as client:
            greeting = bytearray(client.recv(1 << 16))
            greeting[0] = attacks.WELCOME
            self.bend(greeting)
            client.sendall(greeting)
            while client.recv(1 << 16):
                pass


class Mirrored(FailureTest):
    def answer(self, bend):
        mirror = Mirror(bend)
        mirror.start()
        self.addCleanup(mirror.join)
        client = self.start("caller", mirror.address, 1, 1000 * LIMIT_S)
        answer = client.line(0, "answer")
        self.assert_ends(client)
        return answer

    def test_own_greeting(self):
        self.assertRegex(self.answer(lambda greeting: None), "^HAUL_PROTOCOL .*the greeting is our own")

    def test_no_nonce(self):
        """It is what memory reads as that was given up: it would prove anything that holds zeros."""
        def no_nonce(greeting):
            greeting[NONCE:NONCE + 8] = bytes(8)
        self.assertRegex(self.answer(no_nonce), "^HAUL_PROTOCOL .*the nonce 0")

    def test_own_memory(self):
        """With another number it is the server's; but what it says of memory is proven by reading it."""
        def another_nonce(greeting):
            greeting[NONCE] ^= 1
        self.assertRegex(self.answer(another_nonce),
                         "^ok" if PROVIDER == "tcp" else "^HAUL_PROVIDER .*no common path with provider")


if __name__ == "__main__":
    unittest.main()
