# SPDX-License-Identifier: Apache-2.0
"""What the tests share: a server and a peer of it over each provider, in this process."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import haul

WAIT = 60  # generous: no test fails because a machine is slow

# A shell starts what it runs in the background with Ctrl-C ignored, and programs inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(condition):
    """For what no event announces: memory that comes back, a thread or process that is gone."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # between two looks


def run_python(code, *args, timeout=WAIT, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )


def providers():
    """Those that can be used here; the environment may name one (HAULTEST_PROVIDERS="tcp,zmq")."""
    known = {p["name"]: p for p in haul.info()["providers"] if not p["reason"]}
    usable = [name for name, provider in known.items() if provider["channel"]]
    if "ofi" in known:
        # A kind that needs no hardware: the sound one of libfabric's two over sockets.
        version = re.match(r"libfabric (\d+)\.(\d+)", known["ofi"]["description"])
        old = tuple(map(int, version.groups())) < (1, 18)
        usable.append("ofi:net" if old else "ofi:tcp")
    named = os.environ.get("HAULTEST_PROVIDERS")
    return named.split(",") if named else usable


class Pair:
    """Two contexts, as if two processes."""

    def __init__(self, provider, **settings):
        self.server_context = haul.Context(provider=provider, **settings)
        self.client_context = haul.Context(provider=provider, **settings)
        self.server = self.server_context.listen("127.0.0.1:0")
        self.peer = self.client_context.connect(self.server.address, timeout=WAIT)

    def carry(self, arrays, **keywords):
        """Sends a dict and returns the message that it arrives as."""
        op = self.peer.send_async(arrays, **keywords)
        message = self.server.recv(WAIT)
        op.result(WAIT)
        return message

    def close(self):
        self.client_context.close()
        self.server_context.close()


@pytest.fixture(params=providers())
def provider(request):
    return request.param


@pytest.fixture(params=[name for name in providers() if name != "loop"])
def process_provider(request):
    """One that works between processes."""
    return request.param


@pytest.fixture
def pair(provider):
    made = Pair(provider)
    yield made
    made.close()


class Echo:
    """A thread that answers each message with its own arrays until the server closes."""

    def __init__(self, server):
        self.server = server
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            for message in self.server:
                if message.wants_reply:
                    message.reply(message)
        except haul.Closed:
            pass  # closed after the reply had come, before reply() saw that it had

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.close()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
