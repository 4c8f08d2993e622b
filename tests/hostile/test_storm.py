#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that are killed and replaced, and attackers at the same port: nobody else loses anything.

HAULTEST_MESSAGES: how many messages to verify (default 2000). HAULTEST_SEED: repeats a run.
"""
import collections
import os
import pathlib
import random
import re
import socket
import statistics
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from support import LIMIT_S, PROVIDER, FailureTest, Worker, resident_mib

MESSAGES = int(os.environ.get("HAULTEST_MESSAGES", "2000"))
SEED = int(os.environ.get("HAULTEST_SEED", random.randrange(1 << 32)))
CLIENTS = 8
NOTICED_S = 10  # wanted: 1 s; the bound is for machines that do something else
# What a program has to say itself. (One that is killed while sanitizers look at its end leaves a word of
# theirs, or of the symbolizer that they start.)
COMPLAINTS = re.compile(r"^haul|Sanitizer: |runtime error: ", re.MULTILINE)


class Ledger:
    """What the server says that it received; it has checked every byte."""

    def __init__(self):
        self.changed = threading.Condition()
        self.total = 0
        self.received = collections.defaultdict(list)  # client -> numbers of its messages
        self.lost = {}  # client -> when the server noticed
        self.strangers = 0  # an attacker's messages may be well-formed

    def observe(self, line):
        words = line.split() or [""]
        with self.changed:
            if words[0] == "message":
                self.received[int(words[1])].append(int(words[2]))
                self.total += 1
            elif words[0] == "lost":
                self.lost[int(words[1])] = int(words[2])
            elif words[0] == "stranger":
                self.strangers += 1
            self.changed.notify_all()

    def wake(self, _):
        """Something has happened that a wait may be about."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, ready, what, seconds=LIMIT_S):
        with self.changed:
            if not self.changed.wait_for(ready, seconds):
                raise AssertionError(f"no {what}")


class Attacker(Worker):
    """Sends everything of attacks.py, in random order, whole and cut at random places."""

    def __init__(self, address, seed):
        super().__init__(seed)
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.count = 0

    def work(self):
        while not self.stopping.is_set():
            self.attack(self.random.choice(self.kinds()))
            self.count += 1

    def kinds(self):
        return [self.strange, self.broken, self.harmless, self.garbage]

    def strange(self):
        return self.random.choice(list(attacks.STRANGERS.values()))

    def broken(self):
        return attacks.GREETING + self.random.choice(list(attacks.BROKEN.values()))

    def harmless(self):
        return attacks.GREETING + self.random.choice(list(attacks.HARMLESS.values()))

    def garbage(self):
        """Behind a greeting: random bytes, or frames with some bits turned."""
        if self.random.randrange(2):
            return attacks.GREETING + self.random.randbytes(self.random.randrange(1, 5000))
        data = bytearray(self.harmless() + self.random.choice(list(attacks.BROKEN.values())))
        for _ in range(self.random.randrange(1, 20)):
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(data)

    def attack(self, kind):
        data = kind()
        cut = self.random.randrange(2)
        if cut:
            data = data[:self.random.randrange(1, len(data) + 1)]
        with socket.create_connection(self.address, LIMIT_S) as connection:
            try:
                connection.sendall(data)
                if cut and self.random.randrange(2):  # a reset instead of an end
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
            except (ConnectionError, OSError):
                pass  # cut by the server, as it should


class FrameAttacker(Attacker):
    """The same through ZeroMQ's own framing: what arrives are whole parts, but not what is in them."""

    def attack(self, kind):
        import zmq  # pylint: disable=import-outside-toplevel
        with zmq.Context.instance().socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect("tcp://%s:%d" % self.address)
            if self.random.randrange(4):
                dealer.send(attacks.GREETING)
            data = kind()
            if data.startswith(attacks.GREETING):
                data = data[len(attacks.GREETING):]
            dealer.send_multipart(self.parts(data))
            dealer.poll(self.random.randrange(1, 50))

    def parts(self, data):
        """Cut where the header ends, or anywhere."""
        if len(data) >= 16 and self.random.randrange(2):
            places = [16 + int.from_bytes(data[4:8], "little")]
        else:
            places = sorted(self.random.randrange(len(data) + 1)
                            for _ in range(self.random.randrange(5)))
        bounds = [0, *[min(place, len(data)) for place in places], len(data)]
        return [data[start:end] for start, end in zip(bounds, bounds[1:])]


class Storm(FailureTest):
    def setUp(self):
        print(f"seed {SEED} (HAULTEST_SEED), {MESSAGES} messages (HAULTEST_MESSAGES)", flush=True)
        self.random = random.Random(SEED)
        self.ledger = Ledger()
        self.server = self.start_server(observe=self.ledger.observe)
        self.clients = []  # that run now
        self.finished = []
        self.killed = {}  # client -> when
        self.killed_done = {}  # client -> how many ops ended well before
        self.started = 0

    def start_client(self):
        self.started += 1
        count = self.random.randrange(10, 100)
        most = self.random.choice([100, 70000, 300000, 3000000])
        client = self.start("client", self.server.address, self.started, count, 0, most,
                            observe=self.ledger.wake)
        client.number, client.count = self.started, count
        self.clients.append(client)
        return client

    def kill_client(self, client):
        self.killed[client.number] = time.monotonic_ns()
        client.kill()
        self.clients.remove(client)
        done = [int(line.split()[1]) for line in client.lines]
        self.assertEqual(done, list(range(len(done))), client.error_text)
        self.killed_done[client.number] = len(done)
        self.assertNotRegex(client.error_text, COMPLAINTS)

    def replace_finished(self):
        for client in [client for client in self.clients if client.ended]:
            self.clients.remove(client)
            self.finish(client)
        while len(self.clients) < CLIENTS:
            self.start_client()

    def finish(self, client):
        self.assert_ends(client)
        self.finished.append(client)

    def weather(self):
        """Kills, at random moments, until enough was received."""
        while self.ledger.total < MESSAGES:
            self.replace_finished()
            if self.random.randrange(4) == 0:  # one that has just begun
                victim = self.clients[-1]
                # The moment is the test's input: what comes of it is asserted at any.
                time.sleep(self.random.random() * 0.1)
            else:
                goal = self.ledger.total + self.random.randrange(1, 100)
                self.ledger.wait(lambda: self.ledger.total >= goal or  # pylint: disable=W0640
                                 any(program.ended for program in [self.server, *self.clients]),
                                 "message")
                victim = self.random.choice(self.clients)
            if not victim.ended:
                self.kill_client(victim)
        for client in self.clients:
            self.finish(client)

    def stats(self):
        """The server's, when it has received what there is."""
        lines = lambda: [line for line in self.server.lines if line.startswith("stats")]
        while True:
            count = len(lines())
            self.server.tell("stats")
            self.server.wait(lambda: len(lines()) > count, "stats")  # pylint: disable=W0640
            words = lines()[-1].split()
            stats = dict(zip(words[1::2], map(int, words[2::2])))
            received = self.ledger.total + self.ledger.strangers
            if stats["messages_received"] == received and stats["peers"] == 0:
                return stats
            time.sleep(0.01)  # between two questions: the server announces no change

    def report(self, attackers):
        noticed_ms = [(self.ledger.lost[client] - when) / 1e6
                      for client, when in self.killed.items() if client in self.ledger.received]
        print(f"{self.ledger.total} messages of {self.started} clients verified, "
              f"{len(self.killed)} of them killed; "
              f"{sum(attacker.count for attacker in attackers)} attacks; "
              f"peak of the server {resident_mib(self.server.process, 'VmHWM'):.0f} MiB")
        print(f"killed peers noticed after {statistics.median(noticed_ms):.1f} ms (median), "
              f"{max(noticed_ms):.1f} ms (longest)", flush=True)
        self.assertLess(max(noticed_ms), NOTICED_S * 1000)

    def check_received(self):
        """All of those that ended well; of the killed ones at least what they were told is received."""
        for client in self.finished:
            self.assertEqual(self.ledger.received[client.number], list(range(client.count)))
        for client, done in self.killed_done.items():
            received = self.ledger.received.get(client, [])
            self.assertEqual(received, sorted(set(received)), f"order of client {client}")
            self.assertEqual(received[:done], list(range(done)), f"client {client}")

    def test_storm(self):
        kinds = [Attacker] + ([FrameAttacker] if PROVIDER == "zmq" else [])
        attackers = [kind(self.server.address, SEED + i) for i, kind in enumerate(kinds)]
        for attacker in attackers:
            self.addCleanup(attacker.stop)
            attacker.start()
        self.weather()
        for attacker in attackers:
            attacker.stop()
            self.assertIsNone(attacker.failure)
        self.ledger.wait(lambda: all(client in self.ledger.lost for client in self.killed
                                     if client in self.ledger.received), "report of a killed client")
        stats = self.stats()
        self.check_received()
        self.assertEqual(stats["messages_unreleased"], 0)
        self.report(attackers)
        self.assert_ends(self.server)


if __name__ == "__main__":
    unittest.main()
