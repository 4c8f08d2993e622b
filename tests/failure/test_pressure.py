#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Receivers that are slow, stopped or hoard: memory stays bounded, nothing is lost, and everybody is
told why.

HAULTEST_PAUSE_S: for how long nothing is received (default 3).
"""
import os
import time
import unittest

from support import PROVIDER, SANITIZED, FailureTest, resident_mib

PAUSE_S = float(os.environ.get("HAULTEST_PAUSE_S", "3"))
CLIENTS = 32
EACH = 3
POOL_MIB = 128
MARGIN_MIB = 64
MIB = 1 << 20
LONG_MS = 300000  # generous
LOG_S = 30  # wanted: 5 s


class Pressure(FailureTest):
    def watch_memory(self, server, seconds):
        """Its largest resident size while time goes by."""
        peak, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            peak = max(peak, resident_mib(server.process))
            time.sleep(0.02)  # a sampling interval: nothing announces that memory has grown
        return peak

    def test_receiver_that_takes_nothing(self):
        server = self.start_server(HAUL_POOL_MAX=f"{POOL_MIB}M")
        first = self.start("client", server.address, 1000, 1, 100, 200)
        self.assert_ends(first)  # so that the server has received, and may fetch
        server.tell("pause")
        server.line_with("paused")
        clients = [self.start("client", server.address, number, EACH, MIB, 16 * MIB)
                   for number in range(CLIENTS)]
        peak = self.watch_memory(server, PAUSE_S)
        server.tell("take")
        for client in clients:
            self.assert_ends(client)
        peak = max(peak, resident_mib(server.process, "VmHWM"))
        print(f"peak of the server: {peak:.0f} MiB, with a pool of {POOL_MIB} MiB", flush=True)
        # (libzmq holds what has arrived outside the pool.)
        if PROVIDER == "tcp" and not SANITIZED:
            self.assertLess(peak, POOL_MIB + MARGIN_MIB)
        server.line_with("message 1000 0")
        for number in range(CLIENTS):
            expected = [f"message {number} {i}" for i in range(EACH)]
            server.line_with(expected[-1])
            received = [line for line in server.lines if line.startswith(f"message {number} ")]
            self.assertEqual(received, expected)
        self.assertEqual(server.end(), 0)
        for _, line in server.errors:  # at most this, when the pause was long
            self.assertIn("not released", line)

    def test_consumer_that_keeps_everything(self):
        """It has a log line soon, and its senders know what they wait for."""
        server = self.start_server(HAUL_POOL_MAX="32M", HAUL_PREPAID_MAX="0")
        server.tell("keep")
        server.line_with("keeping")
        callers = [self.start("caller", server.address, number, LONG_MS) for number in range(4)]
        for caller in callers:
            caller.tell(f"send {12 * MIB} 10000")
        server.line_with("kept 2")
        began = time.monotonic()
        said = lambda: [when for when, line in server.errors
                        if "receive memory is exhausted" in line and "not released" in line]
        server.wait(said, "log line")
        print(f"log line after {said()[0] - began:.1f} s: {server.error_text.strip()}", flush=True)
        self.assertLess(said()[0] - began, LOG_S)
        ends = sorted(caller.line(1, "end of the send") for caller in callers)
        for end in ends[:2]:
            self.assertRegex(end, "^HAUL_TIMEOUT .*receive memory is exhausted")
        self.assertEqual(ends[2:], ["ok", "ok"])
        server.tell("take")
        for caller in callers:
            caller.tell(f"send {12 * MIB} {LONG_MS}")
            self.assertEqual(caller.line(2, "send after the release"), "ok")
            self.assert_ends(caller)
        self.assertEqual(server.end(), 0)

    def test_consumer_that_keeps_its_credits(self):
        """Small messages: the sender's credits are used up before the memory."""
        server = self.start_server(HAUL_CREDITS="4")
        server.tell("keep")
        server.line_with("keeping")
        caller = self.start("caller", server.address, 1, LONG_MS)
        for number in range(4):
            caller.tell(f"send 100 {LONG_MS}")
            self.assertEqual(caller.line(1 + number, "send"), "ok")
        caller.tell("send 100 200")
        self.assertRegex(caller.line(5, "send without credit"),
                         "^HAUL_TIMEOUT .*keeps all 4 messages .*has not released")
        server.wait(lambda: [line for _, line in server.errors
                             if "4 messages from it are not released" in line], "log line")
        server.tell("take")
        caller.tell(f"send 100 {LONG_MS}")
        self.assertEqual(caller.line(6, "send after the release"), "ok")
        self.assert_ends(caller)
        self.assertEqual(server.end(), 0)

    def test_message_larger_than_the_pool(self):
        server = self.start_server(HAUL_POOL_MAX="16M")
        caller = self.start("caller", server.address, 1, LONG_MS)
        caller.tell(f"send {17 * MIB} {LONG_MS}")
        self.assertRegex(caller.line(1, "refusal"),
                         f"^HAUL_TOO_LARGE .*{17 * MIB + 32} bytes .*{16 * MIB}.*HAUL_POOL_MAX")
        caller.tell(f"send {MIB} {LONG_MS}")
        self.assertEqual(caller.line(2, "send"), "ok")
        self.assert_ends(caller)
        self.assert_ends(server)


if __name__ == "__main__":
    unittest.main()
