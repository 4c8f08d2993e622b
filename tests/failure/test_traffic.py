#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Messages of all sizes to a server whose threads release them out of order, and many peers at once.
Every byte is checked when a message comes, and again when it is released.

HAULTEST_MESSAGES: how many (default 2000, with sanitizers 400).
"""
import os
import resource
import unittest

from support import PROVIDER, SANITIZED, FailureTest

MESSAGES = int(os.environ.get("HAULTEST_MESSAGES", "400" if SANITIZED else "2000"))
MIB = 1 << 20
THREADS = 3
PEERS, PROCESSES = 256, 8
PATH = f"tcp+{PROVIDER}"


class Traffic(FailureTest):
    def start_bag(self):
        bag = self.start("bag", "127.0.0.1:0", THREADS)
        bag.address = bag.line_with("listening").split()[1]
        return bag

    def test_released_out_of_order_by_several_threads(self):
        bag = self.start_bag()
        ways = ((), ("gives",), (), ("gives",))
        clients = [self.start("client", bag.address, number, MESSAGES // len(ways), 0, MIB, *gives)
                   for number, gives in enumerate(ways)]
        count = MESSAGES // len(ways) * len(ways)
        self.assertEqual(bag.ask(str(count)), f"received {count}, {len(ways)} peers by {PATH}")
        for client in clients:
            self.assert_ends(client)
        self.assert_ends(bag)
        self.assertEqual(len(bag.lines), 2)  # all by that path, and no message more

    def test_many_peers(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # three descriptors for each
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        bag = self.start_bag()
        each = PEERS // PROCESSES
        crowds = [self.start("crowd", bag.address, number * each, each, MIB)
                  for number in range(PROCESSES)]
        self.assertEqual(bag.ask(str(2 * PEERS)), f"received {2 * PEERS}, {PEERS} peers by {PATH}")
        for crowd in crowds:
            self.assert_ends(crowd)
        self.assert_ends(bag)
        self.assertEqual(len(bag.lines), 2)


if __name__ == "__main__":
    unittest.main()
