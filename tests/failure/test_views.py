#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processes that die, or are stopped, while one looks at memory of the other's; the one who is left
goes on, keeps what it looks at, and gets back what was looked at."""
import contextlib
import os
import pathlib
import resource
import signal
import time
import unittest

from support import FailureTest

MIB = 1 << 20
BYTES = 3 * MIB
HELD = 3
MORE = 10  # that takes the next slab
POOL_MIB = 96  # more than credits let out, and less than all that is held in the course of a test
MOMENTS_MS = range(0, 60, 2)  # of a life that a process is killed at: the test's input


def sockets(program):
    """How many it has open."""
    folder = pathlib.Path(f"/proc/{program.process.pid}/fd")
    count = 0
    for link in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            count += os.readlink(link).startswith("socket:")
    return count


def files(pid):
    """The descriptors that it has open."""
    return set(os.listdir(f"/proc/{pid}/fd"))


class Views(FailureTest):
    def start_giver(self, address, client, **options):
        giver = self.start("giver", address, client, BYTES, HAUL_POOL_MAX=f"{POOL_MIB}M", **options)
        self.assertEqual(giver.line(0), "connected")
        return giver

    def hold(self, server, giver):
        """The server looks at HELD messages of the giver's, and does not release them."""
        server.tell("keep")
        server.line_with("keeping")
        self.assertEqual(giver.ask(f"give {HELD}"), f"given {HELD}")
        server.line_with(f"kept {HELD}")

    def assert_serves(self, server, client):
        """As on the first day."""
        server.tell("take")
        giver = self.start_giver(server.address, client)
        self.assertEqual(giver.ask("give 20"), "given 20")
        server.line_with(f"message {client} 19")
        self.assertTrue(" path tcp+shm " in giver.ask("stats"))
        self.assert_ends(giver)

    def test_sender_killed_while_its_memory_is_looked_at(self):
        server = self.start_server()
        giver = self.start_giver(server.address, 1)
        self.hold(server, giver)
        giver.kill()
        server.line_with("lost 1 ")
        self.assertEqual(server.ask("check"), f"right {HELD}")
        self.assert_serves(server, 2)
        self.assert_ends(server)

    def test_receiver_killed_while_it_looks(self):
        server = self.start_server()
        giver = self.start_giver(server.address, 1)
        before = giver.ask("stats")
        for _ in range(2 * POOL_MIB * MIB // (HELD * BYTES)):
            self.hold(server, giver)
            server.kill()
            server = self.start_server(server.address)
        server.tell("take")
        self.assertEqual(giver.ask("give 20"), "given 20")
        self.wait_until(lambda: giver.ask("stats") == before, "the giver does not get its memory back")
        self.assert_ends(giver)
        self.assert_ends(server)

    def test_server_killed_while_its_replies_are_looked_at(self):
        server = self.start_server()
        self.assertEqual(server.ask("return"), "returning")
        giver = self.start_giver(server.address, 1)
        self.assertEqual(giver.ask(f"ask {HELD}"), f"asked {HELD}")
        server.kill()
        self.assertEqual(giver.ask("check"), f"right {HELD}")
        server = self.start_server(server.address)
        self.assertEqual(giver.ask("give 20"), "given 20")
        self.assertEqual(giver.ask("check"), f"right {HELD}")
        self.assert_ends(giver)
        self.assert_ends(server)

    def test_client_killed_while_it_looks_at_replies(self):
        server = self.start_server(HAUL_POOL_MAX=f"{POOL_MIB}M")
        self.assertEqual(server.ask("return"), "returning")
        before = self.pool_used(server)
        for client in range(1, 2 + POOL_MIB * MIB // (HELD * BYTES)):
            giver = self.start_giver(server.address, client)
            self.assertEqual(giver.ask(f"ask {HELD}"), f"asked {HELD}")
            giver.kill()
            server.line_with(f"lost {client} ")
        self.wait_until(lambda: self.pool_used(server) == before, "the server does not get its memory back")
        self.assertEqual(server.ask("keep"), "keeping")  # else it returns what is not asked for
        self.assert_serves(server, 1000)
        self.assert_ends(server)

    def pool_used(self, server):
        return int(server.ask("stats").split("pool_used_bytes ")[1])

    def test_receiver_stopped_while_it_looks(self):
        """What its sender takes back meanwhile is not used for anything else."""
        server = self.start_server()
        giver = self.start_giver(server.address, 1)
        self.hold(server, giver)
        server.process.send_signal(signal.SIGSTOP)
        self.assertEqual(giver.ask("leave"), "left")
        self.assertTrue(giver.ask("overwrite").startswith("overwritten "))
        self.assertGreaterEqual(int(giver.ask("stats").split()[1]), HELD * BYTES)
        server.process.send_signal(signal.SIGCONT)
        server.line_with("lost 1 ")
        self.assertEqual(server.ask("check"), f"right {HELD}")
        server.tell("take")
        self.wait_until(lambda: int(giver.ask("stats").split()[1]) < BYTES, "it does not get its memory back")
        self.assert_ends(giver)
        self.assert_serves(server, 2)
        self.assert_ends(server)

    def test_receiver_without_descriptors_while_it_looks(self):
        """It cannot take the file of the next slab and copies what is in it. It looks on, and its sender
        knows."""
        server = self.start_server()
        giver = self.start_giver(server.address, 1)
        self.hold(server, giver)
        pid = server.process.pid
        taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        free = min(set(range(len(taken) + 1)) - taken)
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
        self.assertEqual(giver.ask(f"give {MORE}"), f"given {MORE}")
        server.line_with(f"kept {HELD + MORE}")
        self.assertIn("cannot be looked at, and is copied: no descriptor", server.error_text)
        self.assertIn(" path tcp+shm ", giver.ask("stats"))
        self.assertEqual(giver.ask("leave"), "left")
        self.assertTrue(giver.ask("overwrite").startswith("overwritten "))
        self.assertEqual(server.ask("check"), f"right {HELD + MORE}")
        server.tell("take")
        self.wait_until(lambda: int(giver.ask("stats").split()[1]) < BYTES, "it does not get its memory back")
        self.assert_ends(giver)
        self.assertEqual(server.end(), 0)

    def test_sender_without_descriptors(self):
        """Its new slabs are private: they are read in its process, or come by the channel."""
        for hidden in ([], ["hidden"]):
            server = self.start_server()
            giver = self.start("giver", server.address, 1, BYTES, *hidden, HAUL_POOL_MAX=f"{POOL_MIB}M")
            self.assertEqual(giver.line(0), "connected")
            pid = giver.process.pid
            before = files(pid)
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (2 * len(before), hard))
            self.assertEqual(giver.ask("give 5"), "given 5")
            self.assertEqual(giver.ask("send 5"), "sent 5")
            server.line_with("message 1 9")
            self.assertIn(" path tcp+shm ", giver.ask("stats"))
            self.assertEqual(files(pid), before)
            self.assert_ends(giver)
            self.assert_ends(server)

    def test_clients_killed_in_the_handshake(self):
        server = self.start_server()
        self.assert_serves(server, 1)
        server.line_with("lost 1 ")
        before = sockets(server)
        for moment_ms in MOMENTS_MS:
            giver = self.start("giver", server.address, 2, BYTES)
            time.sleep(moment_ms / 1000)  # the test's input: asserted is what holds at any
            giver.kill()
        self.assert_serves(server, 3)
        self.wait_until(lambda: sockets(server) <= before, "sockets of killed clients stay open")
        self.assert_ends(server)

    def test_servers_killed_in_the_handshake(self):
        server = self.start_server()
        giver = self.start_giver(server.address, 1)
        self.assertEqual(giver.ask("give 20"), "given 20")
        before = sockets(giver)
        for moment_ms in MOMENTS_MS:
            server.kill()
            server = self.start_server(server.address)
            time.sleep(moment_ms / 1000)  # the test's input, as above
        self.assertEqual(giver.ask("give 20"), "given 20")
        server.line_with("message 1 39")
        self.wait_until(lambda: sockets(giver) <= before, "sockets of killed servers stay open")
        self.assert_ends(giver)
        self.assert_ends(server)

    def tearDown(self):
        self.assert_no_files()


if __name__ == "__main__":
    unittest.main()
