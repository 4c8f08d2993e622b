# SPDX-License-Identifier: Apache-2.0
"""Programs that a test runs, talks to and kills. None outlives its test."""
import os
import pathlib
import random
import subprocess
import threading
import time
import unittest

BUILD = pathlib.Path(os.environ["HAULTEST_COMMAND"]).parent.parent
PROVIDER = os.environ.get("HAUL_PROVIDER", "tcp")
SANITIZED = os.environ.get("HAULTEST_SANITIZE", "none") != "none"
LIMIT_S = 500  # no step takes that long; it bounds a hang
# What is for the tests and no setting of haul's, which would warn of it.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith("HAULTEST_")}


class Program:
    """A process whose lines are noted as they come. observe() gets each, and "" at the end. prefix: a
    command that runs it."""

    def __init__(self, name, *arguments, observe=None, prefix=(), **environment):
        self.name = name
        self.lines = []
        self.ended = False  # its output has
        self.changed = threading.Condition()
        self.observe = observe or (lambda line: None)
        self.process = subprocess.Popen(
            [*prefix, BUILD / "tests" / f"failure_program_{name}", *map(str, arguments)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **environment})
        self.errors = []
        self.threads = [threading.Thread(target=self.read_output),
                        threading.Thread(target=self.read_errors)]
        for thread in self.threads:
            thread.start()

    def read_output(self):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            self.observe(line)
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self.observe("")

    def read_errors(self):
        for line in self.process.stderr:
            with self.changed:
                self.errors.append((time.monotonic(), line))
                self.changed.notify_all()

    @property
    def error_text(self):
        return "".join(line for _, line in self.errors)

    def wait(self, found, what):
        """Waits until found() is true, or gives up when the program is gone."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended or found(), LIMIT_S)
            if not found():
                raise AssertionError(f"{self.name}: no {what}; {self.error_text or 'no error'}")

    def line(self, index, what="line"):
        """Its line of that index (from 0)."""
        self.wait(lambda: len(self.lines) > index, what)
        return self.lines[index]

    def line_with(self, start):
        """Its first line that starts so."""
        self.wait(lambda: any(line.startswith(start) for line in self.lines), start)
        return next(line for line in self.lines if line.startswith(start))

    def ask(self, text):
        """Writes a line; returns the next line that it writes."""
        count = len(self.lines)
        self.tell(text)
        return self.line(count, f"answer to {text}")

    def tell(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.end()

    def end(self):
        """Ends its input and waits for it. Returns its exit code."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "a hang"
            self.process.wait()
        for thread in self.threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


class Worker(threading.Thread):
    """A thread of a test, whose work() goes on until it is `stopping`, or has an end of its own. What it fails
    of is noted: the test's failure, to be looked at when it has ended."""

    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        try:
            self.work()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def work(self):
        raise NotImplementedError

    def stop(self):
        self.stopping.set()
        self.join()


class FailureTest(unittest.TestCase):
    def start(self, name, *arguments, **options):
        program = Program(name, *arguments, **options)
        self.addCleanup(self.clean_up, program)
        return program

    @staticmethod
    def clean_up(program):
        """Ends what a failed test has left, and shows what may explain the failure."""
        if not program.process.stdin.closed:
            program.kill()
            print(f"{program.name}: {program.process.returncode}\n{program.error_text}")

    def start_server(self, address="127.0.0.1:0", **options):
        server = self.start("server", address, **options)
        server.address = server.line_with("listening").split()[1]
        return server

    def wait_until(self, holds, what):
        """Nothing announces that memory or descriptors are free again."""
        end = time.monotonic() + LIMIT_S
        while not holds():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.01)  # between two looks

    def assert_no_files(self):
        """haul has no names in /dev/shm."""
        left = [path.name for path in pathlib.Path("/dev/shm").iterdir() if "haul" in path.name]
        self.assertEqual(left, [])

    def assert_ends(self, program):
        """It ends well: without an error, a leak or anything else to complain about."""
        code = program.end()
        self.assertEqual((code, program.error_text), (0, ""), program.name)


def resident_mib(process, field="VmRSS"):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.split(field + ":")[1].split()[0]) / 1024
