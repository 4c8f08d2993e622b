#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Senders that are stopped in the middle of a message: they are given up, and nobody else notices. The
server checks every byte of what the others send, before and after."""
import itertools
import resource
import signal
import time
import unittest

from support import LIMIT_S, PROVIDER, SANITIZED, FailureTest

HEARTBEAT_S = 2  # a starved machine must not make the others seem silent
ENDING_S = 3  # reads that do not end are ended within (ofi: a second)
ROUNDS = 3  # at least; more until a stop has come in the middle of a read
ROUNDS_MAX = 20
RENEWED = "their endpoint was closed"  # what ofi says of reads that it had to end
NO_ENDPOINT = "until it has a new endpoint"
STALLED = "have not moved for 10 s"
# (A sender that is built with a sanitizer spends its time elsewhere: a stop seldom meets a read.)
MUST_MEET = PROVIDER.startswith("ofi") and not SANITIZED
# (ZeroMQ receives elsewhere, and the kernel copies from a process that is stopped.)
STOPS_IN_THE_MIDDLE = PROVIDER != "zmq" and PROVIDER != "shm"
OFFER_S = 0.3  # in which a client that has connected says what it sends
SERVED = range(3)
MIB = 1 << 20
ENDLESS = 1 << 40


class SilentTest(FailureTest):
    def count(self, server, client):
        return sum(line.startswith(f"message {client} ") for line in server.lines)

    def rounds(self, program, sign=RENEWED, least=ROUNDS):
        """A number for each, until the program's log has the sign."""
        for number in itertools.count():
            met = not MUST_MEET or sign in program.error_text
            if number >= least and met:
                return
            self.assertLess(number, ROUNDS_MAX, "no stop came in the middle of a read")
            yield number

    def assert_served(self, server):
        """Many more messages of each come: all that lay in a queue, and what was sent since."""
        for client in SERVED:
            wanted = self.count(server, client) + 20
            server.wait(lambda: self.count(server, client) >= wanted, f"messages of {client}")


class Silent(SilentTest):
    def test_stopped_while_sending(self):
        server = self.start_server(HAUL_HEARTBEAT=str(HEARTBEAT_S), HAUL_LOG="info")
        served = [self.start("client", server.address, number, ENDLESS, 1, 4 * MIB)
                  for number in SERVED]
        for number in self.rounds(server):
            number += 100
            stopped = self.start("client", server.address, number, ENDLESS, 32 * MIB, 32 * MIB)
            server.line_with(f"message {number} 1")
            stopped.process.send_signal(signal.SIGSTOP)
            server.line_with(f"lost {number} ")
            until = time.monotonic() + ENDING_S
            while time.monotonic() < until:
                self.assert_served(server)
            stopped.kill()
        for client in served:
            client.kill()
        self.assertEqual(server.end(), 0, server.error_text)
        self.assertNotIn(": warning: ", server.error_text)

    def test_stopped_together(self):
        """Two that were frozen for longer than silence is borne ask each other before they give up."""
        server = self.start_server(HAUL_HEARTBEAT=str(HEARTBEAT_S))
        client = self.start("caller", server.address, 1, 1000 * LIMIT_S, HAUL_HEARTBEAT=str(HEARTBEAT_S))
        self.assertEqual(client.line(0, "connection"), "ok")
        self.assertEqual(client.ask(f"call 100 {1000 * LIMIT_S}"), "ok")
        for number, pause_s in ((signal.SIGSTOP, 2 * HEARTBEAT_S + 0.5), (signal.SIGCONT, 0.5)):
            for program in (server, client):
                program.process.send_signal(number)
            time.sleep(pause_s)  # for so long they are stopped; then they have time to notice it
        self.assertEqual(client.ask(f"call 100 {1000 * LIMIT_S}"), "ok")
        self.assertFalse(any(line.startswith("lost") for line in server.lines), server.error_text)
        self.assert_ends(client)
        self.assert_ends(server)

    def test_stopped_before_its_turn(self):
        """The sender is stopped that has what is asked for first: the turn, the row of a receive without a
        deadline, or the memory of the pool goes to another one. (Where this side reads it needs no sender.)"""
        for receive, answer in ((f"receive {1000 * LIMIT_S}", "received 0"), ("take 1", "taken 1")):
            guard = self.start("guard", "127.0.0.1:0", 32 * MIB, HAUL_HEARTBEAT="0", HAUL_POOL_MAX="48M",
                               HAUL_LOG="debug")
            address = guard.line_with("listening").split()[1]
            stopped = self.start("client", address, 1, 1, 32 * MIB, 32 * MIB, "single", HAUL_HEARTBEAT="0")
            guard.wait(lambda: f"process {stopped.process.pid}," in guard.error_text, "connection")
            time.sleep(OFFER_S)  # nothing tells: where it is too short the other one has its turn first
            stopped.process.send_signal(signal.SIGSTOP)
            other = self.start("client", address, 2, 1, 32 * MIB, 32 * MIB, "single", HAUL_HEARTBEAT="0")
            self.assertEqual(guard.ask(receive), answer)
            if PROVIDER in ("tcp", "zmq"):
                self.assertEqual(other.line(0), "done 0")
            stopped.process.send_signal(signal.SIGCONT)
            self.assertEqual(guard.ask(receive), answer)
            for client in (stopped, other):
                self.assertEqual(client.line(0), "done 0")
                self.assertEqual(client.end(), 0, client.error_text)
            self.assertEqual(guard.end(), 0, guard.error_text)

    def test_memory_that_was_given_back(self):
        """A receive into memory of its caller runs into its deadline while its sender is stopped in the
        middle. What comes when that goes on must go elsewhere."""
        guard = self.start("guard", "127.0.0.1:0", 32 * MIB, HAUL_LOG="info")
        address = guard.line_with("listening").split()[1]
        client = self.start("client", address, 1, ENDLESS, 32 * MIB, 32 * MIB, "single")
        for _ in range(ROUNDS):
            answer = guard.ask(f"stop {client.process.pid}")
            if STOPS_IN_THE_MIDDLE:
                self.assertEqual(answer, "stopped")
            self.assertEqual(guard.ask("guard"), "guarded")
            client.process.send_signal(signal.SIGCONT)
            self.assertEqual(guard.ask("take 6"), "taken 6")
            self.assertEqual(guard.ask("check"), "untouched")
        client.kill()
        self.assertEqual(guard.end(), 0, guard.error_text)
        if PROVIDER.startswith("ofi"):
            self.assertIn(RENEWED, guard.error_text)
        warnings = [line for line in guard.error_text.splitlines() if ": warning: " in line]
        # A machine that is slow may need longer for a round than a read may stand still.
        self.assertEqual([line for line in warnings if STALLED not in line], [])


if PROVIDER.startswith("ofi"):
    class NoDescriptors(SilentTest):
        def limit_descriptors(self, program, most=None):
            """How many it may have; without a number, as many as before."""
            pid, kind = program.process.pid, resource.RLIMIT_NOFILE
            hard = resource.prlimit(pid, kind)[1]
            resource.prlimit(pid, kind, (most or hard, hard))

        def test_no_descriptors(self):
            """The endpoint that was closed under a silent peer cannot be made anew at first."""
            server = self.start_server(HAUL_HEARTBEAT=str(HEARTBEAT_S), HAUL_LOG="info")
            served = [self.start("client", server.address, number, ENDLESS, 1, 4 * MIB)
                      for number in SERVED]
            for number in self.rounds(server, NO_ENDPOINT, least=1):
                number += 100
                stopped = self.start("client", server.address, number, ENDLESS, 32 * MIB, 32 * MIB)
                server.line_with(f"message {number} 1")
                self.limit_descriptors(server, 3)
                stopped.process.send_signal(signal.SIGSTOP)
                server.line_with(f"lost {number} ")
                until = time.monotonic() + ENDING_S
                while time.monotonic() < until:
                    self.assert_served(server)
                self.limit_descriptors(server)
                stopped.kill()
            if NO_ENDPOINT in server.error_text:
                server.wait(lambda: "has an endpoint again" in server.error_text, "new endpoint")
            late = self.start("client", server.address, 99, ENDLESS, 32 * MIB, 32 * MIB)
            server.line_with("message 99 3")
            for client in [late, *served]:
                client.kill()
            self.assertEqual(server.end(), 0, server.error_text)


if __name__ == "__main__":
    unittest.main()
