# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command share: running it, within a time, and leaving nothing behind."""
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

import numpy

HAUL = os.environ["HAULTEST_COMMAND"]
PROGRAMS = os.path.join(os.path.dirname(os.path.dirname(HAUL)), "tests")

OK, FAILED, USAGE, TIMEOUT, FILE = range(5)
TIED = ("setpriv", "--pdeathsig", "KILL")  # it ends with the test, however that ends
LIMIT_S = 120  # no step takes that long; it bounds a hang
# What only tests know is no setting: haul would warn of it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in
               ("HAULTEST_COMMAND", "HAULTEST_PYTHON", "HAULTEST_SANITIZE", "HAULTEST_LARGE")}
LARGE = bool(os.environ.get("HAULTEST_LARGE"))  # also with 1 GiB


class Process:
    """A haul that runs beside the test. Its standard output is read line by line."""

    def __init__(self, arguments, prefix=(), environment=None, **options):
        self.process = subprocess.Popen(
            [*TIED, *prefix, HAUL, *map(str, arguments)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=options.pop("stderr", subprocess.PIPE), text=True,
            env={**ENVIRONMENT, **(environment or {})}, **options)
        self.timer = threading.Timer(LIMIT_S, self.process.kill)
        self.timer.start()

    def line(self):
        """The next line of JSON; the timer ends a wait for one that does not come."""
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("no line: " + (self.process.stderr.read() or "no error either"))
        return json.loads(line)

    def finish(self):
        """Waits for the end: the exit code and the rest of both outputs."""
        self.out, self.err = self.process.communicate()
        self.timer.cancel()
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.timer.cancel()


class CommandTest(unittest.TestCase):
    """A test with a folder of its own. After it no process is left and no litter in `out`."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="haul-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.out = os.path.join(self.folder, "out")
        self.addCleanup(self.check_no_litter)
        self.processes = []
        self.addCleanup(self.end_processes)

    def end_processes(self):
        for process in self.processes:
            if process.process.poll() is None:
                process.kill()
            process.timer.cancel()
            process.process.stdout.close()
            if process.process.stderr:
                process.process.stderr.close()

    def check_no_litter(self):
        self.assertEqual([name for name in self.files() if ".haul-recv-" in name], [])

    def path(self, name):
        return os.path.join(self.folder, name)

    def files(self):
        """Everything below `out`, by relative name."""
        found = []
        for folder, folders, files in os.walk(self.out):
            for name in folders + files:
                found.append(os.path.relpath(os.path.join(folder, name), self.out))
        return sorted(found)

    def start(self, *arguments, **options):
        process = Process(arguments, **options)
        self.processes.append(process)
        return process

    def run_haul(self, *arguments, **options):
        """Runs haul to its end; the process has .code, .out and .err."""
        process = self.start(*arguments, **options)
        process.code = process.finish()
        return process

    def receive(self, *arguments, address="127.0.0.1:0", **options):
        """Starts `haul recv` into `out` and waits until it listens."""
        receiver = self.start("recv", address, "--out", self.out, "--json", *arguments, **options)
        receiver.address = receiver.line()["listening"]
        return receiver

    def send(self, address, *arguments, **options):
        return self.run_haul("send", address, "--timeout", LIMIT_S, *arguments, **options)

    def save(self, name, array):
        path = self.path(name)
        numpy.save(path, array, allow_pickle=True)
        return path

    def strange_send(self, address, *arguments):
        """What `haul send` never sends: the answer to it."""
        program = os.path.join(PROGRAMS, "strange_sender")
        done = subprocess.run([*TIED, program, address, *arguments], timeout=LIMIT_S, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              env=ENVIRONMENT)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def assert_code(self, process, code, *words):
        """The process ended with this code and an error that has these words."""
        self.assertEqual(process.code, code, process.err)
        for word in words:
            self.assertIn(word, process.err)
        if code not in (OK, -signal.SIGKILL):
            self.assertIn("haul", process.err)
            self.assertNotIn("Assertion", process.err)

    def assert_finishes(self, process, code, *words):
        process.code = process.finish()
        self.assert_code(process, code, *words)

    def assert_same(self, name, array):
        """The file in `out` is, for NumPy, this array."""
        loaded = numpy.load(os.path.join(self.out, name))
        self.assertEqual(loaded.dtype, array.dtype)
        self.assertEqual(loaded.shape, array.shape)
        self.assertEqual(loaded.flags.f_contiguous, array.flags.f_contiguous)
        self.assertEqual(loaded.tobytes(), array.tobytes())


class Gate:
    """A TCP proxy that lets so many bytes of the sender through, then holds the rest until it is
    opened: both ends are caught in the middle, however fast the machine is."""

    def __init__(self, address, bytes_through):
        host, port = address.rsplit(":", 1)
        self.target = (host, int(port))
        self.left = bytes_through
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.reached = threading.Event()  # the bytes are through
        self.opened = threading.Event()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            self.listener.settimeout(LIMIT_S)
            client = self.listener.accept()[0]
            server = socket.create_connection(self.target)
            with client, server:
                self.pump(client, server)
        except OSError:
            pass  # an end is gone, which is what some tests want
        finally:
            self.reached.set()

    def pump(self, client, server):
        other = {client: server, server: client}
        while not self.ended.is_set():
            held = self.left <= 0 and not self.opened.is_set()
            ready = select.select([server] if held else [client, server], [], [], 0.05)[0]
            if held and self.client_gone(client):
                return
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                other[source].sendall(self.change(data) if source is client else data)
                if source is client:
                    self.left -= len(data)
                    if self.left <= 0:
                        self.reached.set()

    def change(self, data):
        """What the server gets of the client's bytes."""
        return data

    @staticmethod
    def client_gone(client):
        poll = select.poll()
        poll.register(client, select.POLLRDHUP)
        return any(events & (select.POLLHUP | select.POLLRDHUP) for _, events in poll.poll(0))

    def close(self):
        self.ended.set()
        self.listener.close()
        self.thread.join()
