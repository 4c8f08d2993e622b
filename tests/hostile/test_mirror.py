#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that sends a client's greeting back: the client must not take its own memory for the other side's."""
import pathlib
import socket
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from support import LIMIT_S, FailureTest


class Mirror(threading.Thread):
    def __init__(self):
        super().__init__()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT_S)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]

    def run(self):
        with self.listener, self.listener.accept()[0] as client:
            greeting = client.recv(1 << 16)
            client.sendall(bytes([attacks.WELCOME]) + greeting[1:])
            while client.recv(1 << 16):
                pass


class Mirrored(FailureTest):
    def test_own_memory(self):
        mirror = Mirror()
        mirror.start()
        self.addCleanup(mirror.join)
        client = self.start("caller", mirror.address, 1, 1000 * LIMIT_S)
        self.assertRegex(client.line(0, "answer"), "^HAUL_PROVIDER .*its address is the one that we sent to it")
        self.assert_ends(client)


if __name__ == "__main__":
    unittest.main()
