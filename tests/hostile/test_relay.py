#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A relay between clients and their server that lies to both: it forges, repeats, drops, swaps and alters
frames of connections that are sound otherwise. None of the programs breaks, and a client that is connected
to the server itself notices nothing.

HAULTEST_LIES: how many lies are told in all (default 300). HAULTEST_SEED: other ones (default 1).
"""
import os
import pathlib
import random
import re
import select
import socket
import struct
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "failure"))
# pylint: disable=wrong-import-position
import attacks
from attacks import ACK, BYE, CANCEL, CREDIT, DATA, FETCH, MESSAGE, PING, control
from golden import RELEASE
from support import LIMIT_S, FailureTest, Worker

LIES = int(os.environ.get("HAULTEST_LIES", "300"))
SEED = int(os.environ.get("HAULTEST_SEED", "1"))
ROUNDS = 3
CLIENTS = 3  # at once
LETTERS = 60  # of each
LONG_MS = 300000
QUIET_S = 0.1  # a connection on which nothing happens gets the next lie: the pace of the attack
CHUNK = 1 << 18
QUEUE_BYTES = 1 << 22
PREFIX = struct.Struct("<BBHIQ")
NUMBERED = (MESSAGE, FETCH, DATA, ACK, CANCEL, RELEASE)
ERRORS = [-5, -20, -21, -22, -23, -63, -1000, -2**31]
ENDS = (0, 1, 255)  # of a client: it has sent all, it noticed itself what is wrong, or haul did
COMPLAINTS = re.compile(r"Sanitizer: |runtime error: ")


class Stream:
    """What flows one way, frame by frame, and the lies in it."""

    def __init__(self, source, link):
        self.source = source
        self.link = link
        self.random = link.random
        self.other = None  # what flows the other way
        self.pending = b""  # has come and is no whole frame yet
        self.payload_left = 0  # of the frame that is passed on
        self.greeted = False
        self.seqs = [1]
        self.fetch = (1, 0, 1, 0, 64)  # the last one: seq, offset, transfer, zero, bytes
        self.held = b""  # frames that others overtake
        self.out = b""  # passed on, and not sent yet

    def feed(self, data):
        self.pending += data
        while self.payload_left and self.pending or self.frame_bytes() <= len(self.pending):
            if self.payload_left:
                payload = self.take(min(self.payload_left, len(self.pending)))
                self.payload_left -= len(payload)
                self.out += payload
            else:
                self.pass_on(self.take(self.frame_bytes()))

    def frame_bytes(self):
        """Of the prefix and body that are next."""
        if len(self.pending) < PREFIX.size:
            return PREFIX.size
        return PREFIX.size + PREFIX.unpack_from(self.pending)[3]

    def take(self, size):
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def pass_on(self, frame):
        kind, _, _, _, self.payload_left = PREFIX.unpack_from(frame)
        self.note(kind, frame[PREFIX.size:])
        if kind > BYE and self.link.wants_lie():
            frame = self.lie(kind, frame)
        self.out += frame
        if not self.payload_left:
            self.let_go()

    def let_go(self):
        """What was held is late enough now, unless it was held just now."""
        if self.random.randrange(2):
            self.out += self.held
            self.held = b""

    def note(self, kind, body):
        self.greeted = True
        if kind in NUMBERED:
            self.seqs = [*self.seqs[-7:], struct.unpack_from("<Q", body)[0]]
        if kind == FETCH:
            self.fetch = struct.unpack_from("<QQIIQ", body)

    def lie(self, kind, frame):
        """What is sent in place of that frame (without its payload)."""
        lies = [self.forge_before, self.forge_before]
        if not self.payload_left:
            lies += [self.repeat, self.drop, self.hold]
        if kind != MESSAGE or not self.payload_left:
            lies.append(self.alter)
        return self.random.choice(lies)(frame)

    def forge_before(self, frame):
        return self.forge() + frame

    def repeat(self, frame):
        return frame + frame

    def drop(self, _):
        return b""

    def hold(self, frame):
        self.held += frame
        return b""

    def alter(self, frame):
        """One number of the body is another one."""
        altered = bytearray(frame)
        at = PREFIX.size + 8 * self.random.randrange((len(frame) - PREFIX.size) // 8)
        value, = struct.unpack_from("<Q", altered, at)
        value += self.random.choice([1, -1, 64, 1 << 31, 1 << 62])
        struct.pack_into("<Q", altered, at, value % (1 << 64))
        return bytes(altered)

    def forge(self):
        """A frame that is none of this side's. Well-formed; most name a message that there is."""
        return self.random.choice([self.ack, self.bad_ack, self.numbered, self.numbered, self.ask,
                                   self.credit, self.data])()

    def seq(self):
        """Of a message of either side, or nearly so."""
        seq = self.random.choice(self.seqs + self.other.seqs)
        return max(1, (seq + self.random.choice([0, 0, 0, 0, 1, -1, 1 << 62])) % (1 << 64))

    def ack(self):
        return control(ACK, self.seq(), 0, 0, form="<QiI")

    def bad_ack(self):
        return control(ACK, self.seq(), self.random.choice(ERRORS), 0, form="<QiI")

    def numbered(self):
        return control(self.random.choice([CANCEL, RELEASE, PING]), self.seq())

    def ask(self):
        _, offset, transfer, _, nbytes = self.fetch
        starts = [0, offset, (offset + nbytes // 2) % (1 << 64), self.random.randrange(1 << 20)]
        transfers = [transfer, (transfer + 1) % (1 << 32), 0, (1 << 32) - 1]
        sizes = [1, nbytes, self.random.randrange(1, 1 << 22)]
        return control(FETCH, self.seq(), self.random.choice(starts), self.random.choice(transfers), 0,
                       self.random.choice(sizes), form="<QQIIQ")

    def credit(self):
        return control(CREDIT, self.random.choice([0, 1 << 63, (1 << 64) - 1, 100]),
                       self.random.choice([0, 1 << 20, (1 << 64) - 1]), form="<QQ")

    def data(self):
        """For what the other side asked for last, or nearly so."""
        seq, offset, transfer, _, nbytes = self.other.fetch
        size = min(self.random.choice([1, 64, 4096]), nbytes)
        head = struct.pack("<QQII", self.random.choice([seq, self.seq()]),
                           self.random.choice([0, offset, (offset + nbytes - size) % (1 << 64)]),
                           (transfer + self.random.choice([0, 0, 1, -1])) % (1 << 32), 0)
        return attacks.frame(DATA, head, size) + bytes(size)


class Link(Worker):
    """A connection of a client, and the one to its server. Ends with either, or when it has lied enough."""

    def __init__(self, relay, client, seed):
        super().__init__(seed)
        self.relay = relay
        self.rate = self.random.choice([0.01, 0.05, 0.2])
        self.lies_left = self.random.randrange(1, 12)
        self.client = client

    def work(self):
        with self.client, socket.create_connection(self.relay.target, LIMIT_S) as server:
            up, down = Stream(self.client, self), Stream(server, self)
            up.other, down.other = down, up
            for connection in (self.client, server):
                connection.setblocking(False)
            try:
                while self.lies_left > 0 and not self.relay.stopping.is_set():
                    self.carry([up, down])
            except ConnectionError:
                pass  # one of the two is gone
            if self.random.randrange(3) == 0:  # a reset instead of an end
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def carry(self, streams):
        """What can be read and sent now."""
        readable, writable, _ = select.select(
            [stream.source for stream in streams if len(stream.out) < QUEUE_BYTES],
            [stream.other.source for stream in streams if stream.out], [], QUIET_S)
        for stream in streams:
            if stream.source in readable:
                stream.feed(self.receive(stream.source))
            if stream.other.source in writable:
                stream.out = stream.out[stream.other.source.send(stream.out):]
        if not readable and not writable and all(stream.greeted for stream in streams):
            self.stir(self.random.choice(streams))

    @staticmethod
    def receive(source):
        data = source.recv(CHUNK)
        if not data:
            raise ConnectionResetError
        return data

    def stir(self, stream):
        """Nothing happens any more, perhaps because of what is missing: one more lie, where one can be."""
        self.count_lie()
        if not stream.payload_left:
            stream.out += stream.forge()

    def wants_lie(self):
        if self.random.random() >= self.rate:
            return False
        self.count_lie()
        return True

    def count_lie(self):
        self.lies_left -= 1
        self.relay.count_lie()


class Relay(threading.Thread):
    """Accepts clients, and connects each to the server at that address by a Link."""

    def __init__(self, target, seed):
        super().__init__()
        host, port = target.rsplit(":", 1)
        self.target = host, int(port)
        self.seed = seed
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.lies = 0
        self.links = []

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # stopped
            self.links.append(Link(self, client, self.seed * 1000 + len(self.links)))
            self.links[-1].start()

    def count_lie(self):
        with self.lock:
            self.lies += 1

    def stop(self):
        self.stopping.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()
        for link in self.links:
            link.join()


class Honest(Worker):
    """Keeps a client busy that is connected to the server itself."""

    def __init__(self, caller, seed):
        super().__init__(seed)
        self.caller = caller
        self.count = 0

    def work(self):
        while not self.stopping.is_set():
            self.exchange(self.random.choice(["call", "send"]))

    def exchange(self, what):
        size = self.random.choice([100, 70000, 300000, 3000000])
        answer = self.caller.ask(f"{what} {size} {LONG_MS}")
        if answer != "ok":
            raise AssertionError(f"{what} of {size} bytes, number {self.count}: {answer}")
        self.count += 1


class Relayed(FailureTest):
    HONEST = 1  # the client that the server believes

    def serve(self, seed, **settings):
        """A server, and who uses it beside the relay."""
        print(f"seed {SEED} (HAULTEST_SEED), {LIES} lies (HAULTEST_LIES), {settings}", flush=True)
        self.random = random.Random(seed)
        self.settings = {"HAUL_HEARTBEAT": "2", **settings}
        self.changed = threading.Condition()
        self.clients = []
        self.started = self.HONEST
        self.server = self.start("server", "127.0.0.1:0", self.HONEST, **self.settings)
        self.server.address = self.server.line_with("listening").split()[1]
        self.relay = Relay(self.server.address, seed)
        self.addCleanup(self.relay.stop)
        self.relay.start()
        self.honest = Honest(self.start("caller", self.server.address, self.HONEST, LONG_MS, **self.settings),
                             seed)
        self.assertEqual(self.honest.caller.line(0, "connection"), "ok")
        self.honest.start()

    def wake(self, _):
        with self.changed:
            self.changed.notify_all()

    def start_client(self):
        self.started += 1
        most = self.random.choice([100, 70000, 300000, 3000000])
        how = self.random.choice([[], ["gives"], ["single"]])
        self.clients.append(self.start("client", self.relay.address, self.started, LETTERS, 0, most, *how,
                                       observe=self.wake, **self.settings))

    def finish(self, client):
        """It may have failed, as it was lied to; but it ended by itself."""
        self.clients.remove(client)
        self.assertIn(client.end(), ENDS, client.error_text)
        self.assertNotRegex(client.error_text, COMPLAINTS)

    def lie(self):
        """To one client after another, until enough lies were told."""
        while self.relay.lies < LIES // ROUNDS:
            while len(self.clients) < CLIENTS:
                self.start_client()
            with self.changed:
                ended = lambda: [client for client in self.clients if client.ended]
                self.assertTrue(self.changed.wait_for(ended, LIMIT_S), "clients that do not end")
            for client in ended():
                self.finish(client)
        for client in self.clients[:]:
            self.finish(client)

    def check(self):
        """The honest client has lost nothing, and the server nothing to complain about but its peers."""
        self.honest.exchange("call")  # it is served still, and all before this was received
        self.assert_ends(self.honest.caller)
        self.assertEqual(self.server.end(), 0, self.server.error_text)
        self.assertNotRegex(self.server.error_text, COMPLAINTS)
        self.assertEqual([link.failure for link in self.relay.links if link.failure], [])
        received = [line for line in self.server.lines if line.startswith("message")]
        self.assertEqual(received, [f"message {self.HONEST} {number}" for number in range(self.honest.count)])
        print(f"{self.relay.lies} lies to {self.started - self.HONEST} clients on {len(self.relay.links)} "
              f"connections; {self.honest.count} honest messages verified", flush=True)

    def lie_beside_honest(self, seed, **settings):
        self.serve(seed, **settings)
        try:
            self.lie()
        finally:
            self.honest.stop()
        self.assertIsNone(self.honest.failure)
        self.relay.stopping.set()
        self.check()

    def test_small_pool(self):
        self.lie_beside_honest(SEED * ROUNDS, HAUL_POOL_MAX="8M", HAUL_CREDITS="16", HAUL_PREPAID_MAX="0")

    def test_few_credits(self):
        self.lie_beside_honest(SEED * ROUNDS + 1, HAUL_POOL_MAX="32M", HAUL_CREDITS="2",
                               HAUL_PREPAID_MAX="64K")

    def test_prepaid(self):
        self.lie_beside_honest(SEED * ROUNDS + 2, HAUL_POOL_MAX="512M", HAUL_CREDITS="16",
                               HAUL_PREPAID_MAX="4M")


if __name__ == "__main__":
    unittest.main()
