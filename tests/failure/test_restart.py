#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that dies under its clients and comes back: what was under way fails with the reason, what
comes next succeeds."""
import unittest

from support import FailureTest

CLIENTS = 32
ROUNDS = 3
CONNECT_MS = 300000  # generous: nothing here is about speed
CALL_MS = 300000


class Restart(FailureTest):
    def hold_a_call_of_each(self, server, callers):
        """Every client has a call under way that the server has received and does not answer."""
        server.tell("keep")
        server.line_with("keeping")
        for caller in callers:
            caller.tell(f"call 100000 {CALL_MS}")
        server.line_with(f"kept {len(callers)}")

    def test_server_killed_and_restarted(self):
        server = self.start_server()
        callers = [self.start("caller", server.address, number, CONNECT_MS)
                   for number in range(CLIENTS)]
        for caller in callers:
            self.assertEqual(caller.line(0), "ok")
        for number in range(ROUNDS):
            before = 1 + 2 * number
            self.hold_a_call_of_each(server, callers)
            server.kill()
            for caller in callers:
                failed = caller.line(before, "end of the call under way")
                self.assertRegex(failed, "^HAUL_PEER_LOST .*" + server.address)
            server = self.start_server(server.address)
            for caller in callers:
                caller.tell(f"call 100000 {CALL_MS}")
            for caller in callers:
                self.assertEqual(caller.line(before + 1, "next call"), "ok")
        for caller in callers:
            self.assert_ends(caller)
        self.assert_ends(server)


if __name__ == "__main__":
    unittest.main()
