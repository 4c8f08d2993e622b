#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processes of one host that are kept apart, as containers are: they go on over the connection alone,
and say why. One whose memory may not be read copies what it sends."""
import os
import subprocess
import tempfile
import unittest

from support import BUILD, FailureTest

BYTES = 3 << 20
NOBODY = "65534"
ROOT = os.geteuid() == 0
# Without root other namespaces need a user namespace of their own; what is said is the other one.
UNSHARE = ("unshare",) if ROOT else ("unshare", "--user", "--map-current-user")


def works(*prefix):
    """Whether the programs can be run so: it may be permitted, and they be out of reach."""
    program = BUILD / "tests" / "failure_program_giver"
    return subprocess.run([*prefix, "test", "-x", program], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False).returncode == 0


class Apart(FailureTest):
    def socket_address(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return "unix:" + os.path.join(folder.name, "socket")

    def assert_apart(self, address, why, *prefix):
        """Over the connection alone, or not at all."""
        if not works(*prefix):
            self.skipTest(f"programs cannot be run with {' '.join(prefix)} here")
        server = self.start_server(address, HAUL_PROVIDER="auto")
        giver = self.start("giver", server.address, 1, BYTES, prefix=prefix, HAUL_PROVIDER="auto")
        self.assertEqual(giver.line(0), "connected")
        self.assertEqual(giver.ask("give 3"), "given 3")
        self.assertEqual(giver.ask("send 3"), "sent 3")
        server.line_with("message 1 5")
        path = giver.ask("stats").split(" path ")[1]
        self.assertRegex(path, f"^tcp because .*{why}")
        self.assert_ends(giver)
        insists = self.start("giver", server.address, 1, BYTES, prefix=prefix)
        insists.wait(lambda: insists.ended, "end")
        self.assertNotEqual(insists.end(), 0)
        self.assertRegex(insists.error_text, f"HAUL_PROVIDER.*{why}")
        self.assert_ends(server)

    def test_network(self):
        self.assert_apart(self.socket_address(), "another network namespace", *UNSHARE, "--net")

    def test_processes(self):
        self.assert_apart(self.socket_address(), "another PID namespace", *UNSHARE, "--pid",
                          "--fork", "--kill-child")

    def test_users(self):
        self.assert_apart(self.socket_address(), "another user namespace", "unshare", "--user",
                          "--map-current-user")

    @unittest.skipUnless(ROOT, "only root can run as another user")
    def test_user(self):
        self.assert_apart("127.0.0.1:0", "as another user", "setpriv", "--reuid", NOBODY, "--clear-groups")

    def test_unreadable(self):
        """Its memory may not be read: it copies, once, and that is looked at."""
        may_not = ("setpriv", "--bounding-set", "-sys_ptrace") if ROOT else ()
        server = self.start_server(prefix=may_not, HAUL_LOG="info")
        giver = self.start("giver", server.address, 1, BYTES, "hidden")
        self.assertEqual(giver.line(0), "connected")
        self.assertEqual(giver.ask("send 3"), "sent 3")
        self.assertEqual(giver.ask("give 3"), "given 3")
        server.line_with("message 1 5")
        self.assertIn(" path tcp+shm ", giver.ask("stats"))
        self.assertIn(f" bytes_mapped {6 * BYTES} ", server.ask("stats"))
        self.assert_ends(giver)
        self.assertEqual(server.end(), 0)
        self.assertIn("ptrace_scope", server.error_text)


if __name__ == "__main__":
    unittest.main()
