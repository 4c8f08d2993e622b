#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The golden files are what golden.py writes, no more and no less."""
import pathlib
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, here / "golden.py", folder], check=True)
    made, kept = contents(pathlib.Path(folder)), contents(here / "golden")
wrong = sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))
if not made:
    sys.exit("golden.py wrote no files")
if wrong:
    sys.exit(f"golden.py writes other files than golden/ has: {', '.join(wrong)}")
