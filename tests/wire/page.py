# SPDX-License-Identifier: Apache-2.0
"""The client in docs/WIRE.md, and golden frames."""
import pathlib
import re
import sys

try:
    import numpy  # noqa: F401: the client's
    import zmq  # noqa: F401
except ImportError as missing:
    print(f"cannot run: {missing}")
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent


def load_client():
    """The names of the program on the page."""
    page = (HERE / "../../docs/WIRE.md").read_text(encoding="utf-8")
    names = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)
    return names


def golden(name):
    return (HERE / "golden" / f"{name}.bin").read_bytes()
