# SPDX-License-Identifier: Apache-2.0
"""The types that the package ships are those that it has."""

import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.plain
TESTS = pathlib.Path(__file__).parent
EXAMPLES = sorted((TESTS.parent / "examples").glob("*.py"))
CONFIGURATION = TESTS.parent / "pyproject.toml"


def run_module(*command):
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=TESTS / "typing", text=True, capture_output=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "what",
    [["--package", "haul"], ["program.py"], EXAMPLES],
    ids=["package", "program", "examples"],
)
def test_mypy(what, tmp_path):
    """The package itself, a user's program and the examples, at mypy's strictest."""
    run_module("mypy", "--config-file", CONFIGURATION, "--cache-dir", tmp_path, *what)


def test_stubs(tmp_path):
    """The stub says what the extension has: every name, parameter and default."""
    allowed = tmp_path / "allowed"
    allowed.write_text(r"haul\._dtype\..*")  # no stub, and mypy does not see through lru_cache
    run_module(
        "mypy.stubtest",
        "--mypy-config-file",
        CONFIGURATION,
        "--concise",
        "--allowlist",
        allowed,
        "haul",
    )
