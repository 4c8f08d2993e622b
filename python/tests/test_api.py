# SPDX-License-Identifier: Apache-2.0
"""The module: the default context, errors, settings, logging, threads, notebooks."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import haul
from haul import _haul
from conftest import WAIT, Echo, Pair, run_python


def test_default_context():
    with haul.listen("127.0.0.1:0") as server:
        with haul.connect(server.address) as peer:
            assert peer.connected and peer.address == server.address
            op = peer.call_async({"x": 1})
            message = server.recv(WAIT)
            assert message.peer in server.peers and len(server.peers) == 1
            assert message.peer == server.peers[0] and hash(message.peer) == hash(server.peers[0])
            message.reply()
            assert len(op.result(WAIT)) == 0
            assert peer.path and peer.why == ""
            assert peer.stats()["messages_sent"] == 1
            assert haul.stats()["messages_sent"] >= 1
    with pytest.raises(haul.Closed):
        server.recv(0)


def test_rails(provider):
    has_rails = provider.startswith("ofi")
    pair = Pair(provider, rails=2 if has_rails else "auto")
    size = 9_000_001
    assert pair.carry({"x": np.ones(size, np.uint8)})["x"].sum() == size
    rails = pair.server_context.rails()
    assert len(rails) == (2 if has_rails else 0)
    assert all(rail["usable"] and rail["bytes_read"] > 0 for rail in rails)
    assert sum(rail["bytes_read"] for rail in rails) >= (size if has_rails else 0)
    pair.close()


def test_settings():
    with pytest.raises(haul.Config, match="pool_max"):
        haul.listen("127.0.0.1:0", pool_max="nonsense")
    with pytest.raises(haul.Config, match="no_such"):
        haul.connect("127.0.0.1:1", no_such=1)
    with pytest.raises(haul.Provider, match="there is no provider"):
        haul.listen("127.0.0.1:0", provider="carrier-pigeon")
    with pytest.raises(ValueError, match="NUL"):
        haul.Context(provider="tcp\0x")
    with pytest.raises(TypeError, match="one of the two"):
        haul.listen("127.0.0.1:0", context=haul.context(), provider="tcp")
    info = haul.info()
    assert info["version"] == haul.__version__
    assert "tcp" in [provider["name"] for provider in info["providers"]]
    assert info["settings"]["provider"]["origin"] in ("default", "environment")


def test_every_error_is_the_package_s_own():
    for name, value in vars(_haul).items():
        if isinstance(value, type) and issubclass(value, Exception):
            assert getattr(haul, name) is value and name in haul.__all__


def test_errors_are_of_both_kinds():
    assert issubclass(haul.Timeout, (haul.CallError)) and issubclass(haul.Timeout, TimeoutError)
    assert issubclass(haul.PeerLost, haul.PeerError) and issubclass(haul.PeerLost, ConnectionError)
    assert issubclass(haul.Invalid, ValueError) and issubclass(haul.Refused, haul.OpError)
    assert issubclass(haul.Config, haul.ContextError) and haul.Config.code == "HAUL_CONFIG"
    assert haul.Error.code == ""
    with pytest.raises(haul.Unreachable, match="Is a haul server listening there"):
        haul.connect("127.0.0.1:1", timeout=0.1)
    with pytest.raises(haul.Address):
        haul.connect("no such address")
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            haul.connect("127.0.0.1:1", timeout=timeout)
    with pytest.raises(TypeError):
        haul.connect("127.0.0.1:1", timeout="soon")


def test_peer_lost(provider):
    with (
        haul.Context(provider=provider) as server_context,
        haul.Context(provider=provider) as context,
    ):
        server = server_context.listen("127.0.0.1:0")
        peer = context.connect(server.address, timeout=WAIT)
        op = peer.call_async({"x": 1})
        server.recv(WAIT)
        server_context.close()
        with pytest.raises((haul.PeerLost, haul.NoReply)):
            op.result(WAIT)


def test_waits_release_the_gil(pair):
    ran = threading.Event()
    thread = threading.Thread(target=ran.set)
    started = time.monotonic()
    timer = threading.Timer(0.1, thread.start)
    timer.start()
    with pytest.raises(haul.Timeout):
        pair.server.recv(1)
    assert ran.is_set() and time.monotonic() - started < WAIT
    thread.join()


def test_many_threads(pair):
    results = []

    def work(number):
        for i in range(50):
            reply = pair.peer.call(
                {"n": number * 1000 + i, "x": np.full(1000, number)}, timeout=WAIT
            )
            results.append(int(reply["n"]) == number * 1000 + i and (reply["x"] == number).all())

    with Echo(pair.server), Echo(pair.server):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 400 and all(results)


def test_close_while_others_wait(pair):
    """However threads race with a close, they end with haul.Closed and nothing crashes."""
    ended = []

    def receive_until_closed():
        while True:
            try:
                pair.server.recv(0.0001)
            except haul.Timeout:
                continue
            except haul.Closed:
                break
        ended.append(1)

    threads = [threading.Thread(target=receive_until_closed) for _ in range(6)]
    for thread in threads:
        thread.start()
    pair.server.close()
    for thread in threads:
        thread.join(WAIT)
    assert len(ended) == 6


def test_logging():
    code = """
        import haul, logging, sys, threading
        seen = threading.Event()
        class Handler(logging.Handler):
            def emit(self, record):
                print(record.name, record.levelname, record.getMessage())
                seen.set()
        logging.getLogger("haul").addHandler(Handler())
        server = haul.Context().listen(":0")  # all interfaces: a warning
        assert seen.wait(60)
        """
    run = run_python(code)
    assert run.stdout.startswith("haul WARNING") and "all interfaces" in run.stdout, run.stderr
    assert run.stderr == ""


def test_cell_that_runs_again():
    code = """
        import sys
        sys.ps1 = ">>> "
        import haul, socket
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % probe.getsockname()[1]
        for _ in range(3):
            server = haul.listen(address)
        haul.connect(address).send_async({"x": 1})
        print(int(server.recv(60)["x"]))
        """
    run = run_python(code)
    assert run.stdout == "1\n", run.stderr
    with haul.listen("127.0.0.1:0") as server, pytest.raises(haul.Address, match="in use"):
        haul.listen(server.address)  # in a program it is an error


def test_command():
    run = subprocess.run(
        [sys.executable, "-m", "haul", "--version"], capture_output=True, text=True
    )
    assert run.returncode == 0 and haul.__version__ in run.stdout


def test_import_is_light():
    """No context, no thread, no provider before something asks for one."""
    run = run_python("""
        import haul, threading, sys
        print(threading.active_count(), "asyncio" in sys.modules)
        """)
    assert run.stdout == "1 False\n", run.stderr


def test_threads_share_the_default_context():
    done = run_python(
        """
        import haul, sys, threading
        sys.setswitchinterval(1e-6)
        start, found = threading.Barrier(8), set()
        def find():
            start.wait()
            found.add(haul.context())
        threads = [threading.Thread(target=find) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert len(found) == 1
        """,
        HAUL_PROVIDER="tcp",
    )
    assert done.returncode == 0, done.stderr
