#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A sender that ends with an offer on its way: its server learns of the offer when there is nothing to read
any more. That says nothing against reading from others."""
import socket
import threading
import unittest

from support import LIMIT_S, FailureTest

BYTES = 3 << 20
LONG_MS = 1000 * LIMIT_S


class Gate(threading.Thread):
    """Stands between a client and its server. While it is shut, what the client sends waits there; that the
    client has closed the connection is passed on when the gate is left."""

    def __init__(self, address):
        super().__init__()
        host, port = address.rsplit(":", 1)
        self.server = host, int(port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.is_open = threading.Event()
        self.is_open.set()
        self.holds = threading.Event()
        self.left = threading.Event()

    def run(self):
        with self.listener, self.listener.accept()[0] as client, \
                socket.create_connection(self.server, LIMIT_S) as server:
            answers = threading.Thread(target=self.carry, args=(server, client))
            answers.start()
            self.carry(client, server, self.pass_gate)
            self.left.wait(LIMIT_S)
            server.shutdown(socket.SHUT_RDWR)
            answers.join()

    @staticmethod
    def carry(source, target, before=lambda: None):
        try:
            while data := source.recv(1 << 16):
                before()
                target.sendall(data)
        except OSError:
            pass  # one of them is gone

    def pass_gate(self):
        if not self.is_open.is_set():
            self.holds.set()
        self.is_open.wait(LIMIT_S)

    def leave(self):
        self.is_open.set()
        self.left.set()
        self.join()


class Ended(FailureTest):
    def test_killed_with_an_offer_on_its_way(self):
        server = self.start_server(HAUL_LOG="info", HAUL_HEARTBEAT="0")
        gate = Gate(server.address)
        gate.start()
        self.addCleanup(gate.leave)
        client = self.start("caller", gate.address, 1, LONG_MS, HAUL_HEARTBEAT="0")
        self.assertEqual(client.line(0, "connection"), "ok")
        self.assertEqual(client.ask(f"send {BYTES} {LONG_MS}"), "ok")
        gate.is_open.clear()
        client.tell(f"send {BYTES} {LONG_MS}")
        self.assertTrue(gate.holds.wait(LIMIT_S))
        client.kill()
        gate.is_open.set()
        server.wait(lambda: "reading by shm failed" in server.error_text, "word of the read")
        gate.leave()
        server.line_with("lost 1 ")
        self.assertEqual(server.end(), 0, server.error_text)
        self.assertNotIn(": warning: ", server.error_text)


if __name__ == "__main__":
    unittest.main()
