# SPDX-License-Identifier: Apache-2.0
"""The examples run, and end with Ctrl-C without a trace or a process left."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from conftest import WAIT, wait_until

pytestmark = pytest.mark.plain
EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
PROGRAMS = ["frames.py", "frames_pyzmq.py", "actor_learner.py", "asyncio_server.py"]


def start(*command, provider="tcp"):
    """In a group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, EXAMPLES / command[0], *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HAUL_PROVIDER": provider, "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )


def finish(program):
    """What it printed. It has ended well, and so have its children."""
    output, errors = program.communicate(timeout=WAIT)
    assert (program.returncode, errors) == (0, "")
    wait_until(lambda: not is_alive(program.pid))  # (Python's own helper processes end after it)
    return output


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


FRAMES = ("--clients", "3", "--frames", "8", "--seconds", "0.2")


RATES = r" +\d+\.\d k fps +\d+\.\d\d GB/s\n"


def test_frames(process_provider):
    output = finish(start("frames.py", *FRAMES, provider=process_provider))
    assert re.fullmatch(f"({RATES})+mean{RATES}", output), output


def test_frames_pyzmq():
    output = finish(start("frames_pyzmq.py", *FRAMES))
    assert re.fullmatch(f"({RATES})+mean{RATES}", output), output


def test_actor_learner(process_provider):
    output = finish(
        start("actor_learner.py", "--actors", "2", "--updates", "3", provider=process_provider)
    )
    assert re.fullmatch(r"(update \d: mean reward 0\.\d+, age 0\.0\n){3}", output), output


def test_asyncio_server(process_provider):
    command = ("asyncio_server.py", "--clients", "5", "--requests", "3")
    assert finish(start(*command, provider=process_provider)) == "15 answers to 5 clients\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(program):
    assert "usage:" in finish(start(program, "--help"))


@pytest.mark.parametrize(
    "command", [("frames.py", *FRAMES[:4]), ("frames_pyzmq.py", *FRAMES[:4]), ("actor_learner.py",)]
)
def test_ctrl_c(command):
    program = start(*command)
    assert program.stdout.readline()  # it is at work
    os.killpg(program.pid, signal.SIGINT)
    finish(program)
