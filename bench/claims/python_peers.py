# SPDX-License-Identifier: Apache-2.0
"""Runs the baselines in Python and haul's package beside them, all in one environment, which holds
this repository's package and, from PyPI, what it is compared with."""
import json
import os
import subprocess
import sys

from claim import ROOT, SKIP, skip

ENVIRONMENT = os.path.join(ROOT, "build", "claims")
PYTHON = os.path.join(ENVIRONMENT, "bin", "python")
RL_FRAMES = "foo:u8[1024,64,64,3],bar:f32[1024,1024],baz:f32[1024]"


def install():
    """Returns the command haul of the package: of the same build as the extension."""
    for command in ([sys.executable, "-m", "venv", ENVIRONMENT],
                    [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                     os.path.join(ROOT, "python"), "pyzmq", "portal"]):
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            skip(f"{' '.join(command)}: {run.stdout[-500:]}")
    return os.path.join(ENVIRONMENT, "bin", "haul")


def run(peer, *arguments, duration, **settings):
    """One run: what the baseline prints, as a dict."""
    program = os.path.join(ROOT, "bench", "peers", f"{peer}.py")
    command = [PYTHON, "-B", program, *arguments, "--duration", str(duration), "--warmup", "1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, **settings))
    if done.returncode == SKIP:
        skip(json.loads(done.stdout)["reason"])
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return json.loads(done.stdout)


def rates(claim, peers, clients, provider="tcp"):
    """GiB/s of rl-frames by peer, in alternating runs."""
    measured = {peer: [] for peer in peers}
    for _ in range(claim.options.rounds):
        for peer in peers:
            result = run(peer, "--workload", RL_FRAMES, "--clients", str(clients),
                         duration=claim.options.duration, HAUL_PROVIDER=provider)
            measured[peer].append(result["gib_per_s"])
    return measured
