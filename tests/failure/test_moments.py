#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A process that is killed at any of its system calls, from the first one of a connection to the last:
in the handshake, while its memory is told of, looked at and copied, and at the end. Whoever is left
serves on, and keeps nothing of it.

HAULTEST_STRIDE: at one in so many calls (default 3, with sanitizers 12; 1: at each).
"""
import contextlib
import os
import pathlib
import subprocess
import unittest

from support import BUILD, SANITIZED, FailureTest

STRIDE = int(os.environ.get("HAULTEST_STRIDE", "12" if SANITIZED else "3"))
BYTES = 1 << 20
POOL = "16M"  # less than what a test gives in all
DOOMED = 9
WHOLE = 3  # so often nothing happens to what is done before the end: it goes on for long enough
DOOM = BUILD / "tests" / "failure_program_doomed"
# Leaks cannot be looked for in a process that is traced.
TRACED = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def held(program):
    """Sockets that it has open, and memory files of others that it has mapped."""
    folder = pathlib.Path(f"/proc/{program.process.pid}")
    sockets = 0
    for link in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            sockets += os.readlink(link).startswith("socket:")
    maps = (folder / "maps").read_text(encoding="utf-8").splitlines()
    return sockets, sum(" r--s " in line and "/memfd:haul" in line for line in maps)


@unittest.skipUnless(subprocess.run([DOOM, "connect", "0", "true"], stderr=subprocess.DEVNULL,
                                    check=False).returncode == 0, "nothing can be traced here")
class Moments(FailureTest):
    def start_doomed(self, since, number, name, *arguments):
        return self.start(name, *arguments, prefix=(DOOM, since, str(number)), **TRACED)

    def start_giver(self, address, client):
        giver = self.start("giver", address, client, BYTES, HAUL_POOL_MAX=POOL)
        self.assertEqual(giver.line(0), "connected")
        return giver

    def assert_keeps_nothing(self, program, before):
        self.wait_until(lambda: all(now <= then for now, then in zip(held(program), before)),
                        "sockets or memory of the killed are kept")

    def assert_serves(self, server, client):
        giver = self.start_giver(server.address, client)
        self.assertEqual(giver.ask("give 3"), "given 3")
        self.assertEqual(giver.ask("send 3"), "sent 3")
        server.line_with(f"message {client} 5")
        self.assertIn(" path tcp+shm ", giver.ask("stats"))
        self.assert_ends(giver)
        server.line_with(f"lost {client} ")

    def lives_to_its_end(self, address, number):
        """A client that is killed at call `number`, if it makes as many."""
        giver = self.start_doomed("connect", number, "giver", address, 2, BYTES)
        with contextlib.suppress(BrokenPipeError):
            for line in ("give 2", "send 2", "leave"):
                giver.tell(line)
        code = giver.end()
        self.assertIn(code, (0, DOOMED), giver.error_text)
        self.assertEqual(giver.error_text, "")
        return code == 0

    def test_client_killed(self):
        server = self.start_server()
        before = held(server)
        self.assert_serves(server, 1)
        number = 0
        while not self.lives_to_its_end(server.address, number):
            number += STRIDE
        print(f"killed at {number // STRIDE} of {number} calls", flush=True)
        self.assert_serves(server, 3)
        self.assert_keeps_nothing(server, before)
        self.assert_ends(server)

    def test_server_killed(self):
        server = self.start_server()
        giver = self.start_giver(server.address, 1)
        stats = giver.ask("stats")
        self.assertEqual(giver.ask("give 2"), "given 2")
        self.assertEqual(giver.ask("send 2"), "sent 2")
        before, address, answers = held(giver), server.address, len(giver.lines)
        server.kill()
        number, whole = 0, 0
        while whole < WHOLE:
            doomed = self.start_doomed("accept", number, "server", address)
            giver.tell("give 1")
            giver.tell("send 1")
            answers += 2
            doomed.wait(lambda: doomed.ended, "end")  # pylint: disable=W0640
            self.assertEqual((doomed.end(), doomed.error_text), (DOOMED, ""))
            whole += len(giver.lines) == answers
            number += STRIDE
        print(f"killed at {number // STRIDE} of {number} calls", flush=True)
        server = self.start_server(address)
        giver.line(answers - 1, "answer to what the killed were sent")
        self.assertEqual(giver.ask("give 2"), "given 2")
        self.assertEqual(giver.ask("send 2"), "sent 2")
        server.line_with(f"message 1 {2 * number // STRIDE + 7}")
        self.assert_keeps_nothing(giver, before)
        self.wait_until(lambda: giver.ask("stats") == stats, "it does not get its memory back")
        self.assertIn(" path tcp+shm ", stats)
        self.assert_ends(giver)
        self.assert_ends(server)

    def tearDown(self):
        self.assert_no_files()


if __name__ == "__main__":
    unittest.main()
