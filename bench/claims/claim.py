# SPDX-License-Identifier: Apache-2.0
"""What the claims share: running `haul bench`, comparing pairs of runs, and saying what came out.

A claim is a program in this folder. It prints a line per number, wanted and measured, and exits with
0 (all hold), 1 (one does not) or 77 (it cannot run here, and why)."""
import argparse
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SKIP = 77


def skip(reason):
    print(f"cannot run here: {reason}")
    sys.exit(SKIP)


def find_haul():
    """$HAUL, the newest build of this repository, or the installed command."""
    built = [path for pattern in ("build/bin/haul", "build/*/bin/haul", "build/haul", "build/*/haul")
             for path in glob.glob(os.path.join(ROOT, pattern)) if os.access(path, os.X_OK)
             and os.path.isfile(path)]
    found = os.environ.get("HAUL") or max(built, key=os.path.getmtime, default=None) \
        or shutil.which("haul")
    if not found or not os.path.isfile(found):
        skip("there is no command haul: build it, or name it in $HAUL")
    return found


def environment(haul, settings):
    """That of the command: plugins of a build tree are beside it, installed ones it finds itself."""
    env = dict(os.environ, **settings)
    plugins = os.path.join(os.path.dirname(os.path.dirname(haul)), "providers")
    if os.path.isdir(plugins):
        env.setdefault("HAUL_PROVIDER_PATH", plugins)
    return env


class Claim:
    def __init__(self, title, find_haul=find_haul):
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument("--rounds", type=int, default=5, help="alternating runs (5)")
        parser.add_argument("--duration", type=float, default=2, help="seconds of a run (2)")
        parser.add_argument("--markdown", action="store_true", help="print rows of a table")
        self.options = parser.parse_args()
        self.haul = find_haul()
        self.held = True

    def bench(self, *arguments, rounds=None, duration=None, warmup=1, **settings):
        """A run of `haul bench`; settings are environment variables."""
        command = [self.haul, "bench", "--json", "-", "--rounds", str(rounds or self.options.rounds),
                   "--duration", str(duration or self.options.duration), "--warmup", str(warmup),
                   *arguments]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=environment(self.haul, settings))
        if run.returncode != 0 and not run.stdout.startswith("{"):
            sys.exit(f"{' '.join(command)} failed:\n{run.stderr}")
        return Report(json.loads(run.stdout))

    def check(self, what, holds, wanted, measured):
        self.held &= holds
        if self.options.markdown:
            print(f"| {what} | {wanted} | {measured} | {'yes' if holds else '**no**'} |", flush=True)
        else:
            print(f"{'ok    ' if holds else 'FAILED'} {what}: wanted {wanted}, measured {measured}",
                  flush=True)

    def at_least(self, what, bound, ratios):
        """Median of the pairs' ratios >= bound."""
        middle = statistics.median(ratios)
        self.check(what, middle >= bound, f">= {bound}",
                   f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})")

    def at_most(self, what, bound, ratios):
        middle = statistics.median(ratios)
        self.check(what, middle <= bound, f"<= {bound}",
                   f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})")

    def below(self, what, bound, value):
        """A number that was counted; None: it could not be."""
        if value is None:
            skip(f"{what} is not counted (libhaul_count.so is missing)")
        self.check(what, value < bound, f"< {bound}", f"{value:.4g}")

    def show(self, what, measured):
        """A number that is not promised."""
        print(f"| {what} | shown | {measured} | |" if self.options.markdown else f"({what}: {measured})",
              flush=True)

    def end(self):
        sys.exit(0 if self.held else 1)


class Report:
    """What `haul bench --json -` printed."""

    def __init__(self, report):
        self.report = report

    def result(self, provider):
        for row in self.report["results"] + self.report["peers"]:
            if row["provider"] == provider:
                if "reason" in row:
                    self.give_up(row)
                return row
        raise KeyError(provider)

    def give_up(self, row):
        if any(row is peer for peer in self.report["peers"]):
            skip(f"{row['provider']}: {row['reason']}")
        sys.exit(f"{row['provider']} failed: {row['reason']}")

    def runs(self, provider):
        return self.result(provider)["runs"]

    def strategies(self):
        rows = [row for row in self.report["peers"] if row["provider"] == "sockets"]
        for row in rows:
            if "reason" in row:
                self.give_up(row)
        return rows

    def sockets(self):
        """The runs of the best strategy of plain sockets."""
        return max(self.strategies(), key=lambda row: row["gib_per_s"])["runs"]

    def socket_latencies(self, path):
        """The runs of the strategy whose path starts so."""
        return next(row["runs"] for row in self.strategies() if row["path"].startswith(path))


def ratios(ours, theirs):
    """Pairs of runs that followed each other."""
    return [a / b for a, b in zip(ours, theirs)]
