# SPDX-License-Identifier: Apache-2.0
"""What the baselines in Python share: client processes, one server, one line of JSON.

A baseline has a class for each side. Clients send dicts of arrays, the server answers each, until it
answers that the time is over."""
import argparse
import ctypes
import importlib
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

try:
    import numpy
except ImportError:
    numpy = None

GIB = 1 << 30
QUIET_S = 30
SKIP = 77


def need(module, package):
    """The module; without it, or without NumPy, the baseline says so and ends."""
    name = sys.argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    try:
        importlib.import_module("numpy")
        return importlib.import_module(module)
    except ImportError as missing:
        print(json.dumps({"provider": name,
                          "reason": f"{sys.executable}: {missing}; install {package}"}))
        sys.exit(SKIP)


def parse_workload(text):
    """{"foo": (dtype, shape), ...} from "foo:u8[4,4],bar:f32[2]"."""
    arrays = {}
    for key, kind, bits, shape in re.findall(r"([^,:]+):(bool|bf|[iufc])(\d*)\[([\d,]*)\]", text):
        # NumPy has no bfloat16; its bytes travel as well as 16-bit integers.
        code = "?" if kind == "bool" else "<u2" if kind == "bf" else f"<{kind}{int(bits) // 8}"
        arrays[key] = (numpy.dtype(code), tuple(int(n) for n in shape.split(",") if n))
    return arrays


def touch(arrays):
    for array in arrays.values():
        octets = array.reshape(-1).view(numpy.uint8)
        octets[: len(octets) // 8 * 8].view(numpy.uint64).sum()


# ---- Clients -------------------------------------------------------------------------------------

class Client:
    """Sends, and says how the server has answered."""

    OVER = "over"

    def __init__(self, address, options):
        raise NotImplementedError

    def send(self, arrays):
        raise NotImplementedError

    def answer(self, wait):
        """OVER, anything else that is not None, or None: there is no answer yet, and wait is false."""
        raise NotImplementedError

    def close(self):
        """Drops what is still under way."""


def run_client(options, make_client):
    """Sends until the time is over; then prints [[end of call, seconds it took], ...]."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the server
    arrays = {key: numpy.ones(shape, dtype)
              for key, (dtype, shape) in parse_workload(options.workload).items()}
    client = make_client(options.client, options)
    calls = []
    while True:
        begin = time.monotonic()
        client.send(arrays)
        answer = client.answer(options.mode != "stream")
        if answer == Client.OVER:
            break
        if answer is not None:
            calls.append((time.monotonic(), time.monotonic() - begin))
    print(json.dumps(calls))
    client.close()


# ---- The server ----------------------------------------------------------------------------------

def cpu_s(pid):
    """CPU time of another process: its clock, as clock_getcpuclockid(3) names it."""
    return time.clock_gettime((~pid << 3) | 2)


class Usage:
    """What was used until now."""

    def __init__(self, pids):
        self.at = time.monotonic()
        self.own_cpu = time.process_time()
        self.client_cpu = sum(map(cpu_s, pids))
        self.faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Meter:
    """Counts what comes within the measured time, which begins when each client has sent something
    and the warm-up is over."""

    def __init__(self, options, children):
        self.options, self.children = options, children
        self.pids = [child.pid for child in children]
        self.messages, self.bytes = {}, 0  # messages by client
        self.begin = self.end = None  # Usage
        self.due = None  # when the warm-up, or then the measured time, is over
        self.last = time.monotonic()
        self.told = set()

    def goes_on(self):
        """The server asks before each message. Clients that are quiet for long are an error."""
        if self.end:
            return any(child.poll() is None for child in self.children)
        if time.monotonic() > self.last + QUIET_S:
            sys.exit("the clients send nothing")
        return True

    def note(self, client, arrays):
        """Counts a message. Returns whether its client is to be told that the time is over."""
        if self.options.touch:
            touch(arrays)
        if self.end:
            is_news = client not in self.told
            self.told.add(client)
            return is_news
        self.messages[client] = self.messages.get(client, 0) + 1
        self.bytes += sum(array.nbytes for array in arrays.values())
        self.last = time.monotonic()
        if self.due is None:
            if len(self.messages) == self.options.clients:
                self.due = self.last + self.options.warmup
        elif self.last >= self.due:
            self.change()
        return False

    def change(self):
        if self.begin:
            self.end = Usage(self.pids)
            return
        self.messages, self.bytes = dict.fromkeys(self.messages, 0), 0
        self.begin = Usage(self.pids)
        self.due = self.begin.at + self.options.duration


class Server:
    """Has an `address` for clients and a `path`: what it is."""

    def __init__(self, options):
        raise NotImplementedError

    def run(self, meter):
        """Receives and answers while the meter goes on, and lets it note each message."""
        raise NotImplementedError


def quantiles_us(latencies):
    if not latencies:
        return None
    cuts = numpy.quantile(latencies, [0.5, 0.99, 0.999, 1]) * 1e6
    return dict(zip(("p50", "p99", "p999", "max"), (round(float(cut), 2) for cut in cuts)))


def measure(options, name, make_server):
    server = make_server(options)
    # What a client prints at its end may be more than a pipe holds.
    outputs = [tempfile.TemporaryFile("w+") for _ in range(options.clients)]
    command = [sys.executable, *sys.argv, "--client", server.address]
    meter = Meter(options, [subprocess.Popen(command, stdout=output) for output in outputs])
    server.run(meter)
    calls = []
    for output in outputs:
        output.seek(0)
        calls += json.load(output)
    return {"provider": name, "path": server.path, **report(options, meter, calls)}


def report(options, meter, calls):
    begin, end = meter.begin, meter.end
    counts = list(meter.messages.values())
    total, seconds = sum(counts), end.at - begin.at
    return {
        "clients": options.clients,
        "mode": options.mode,
        "messages": total,
        "bytes": meter.bytes,
        "seconds": seconds,
        "gib_per_s": meter.bytes / GIB / seconds,
        "rows_per_s": total * options.rows / seconds,
        "latency_us": quantiles_us([took for at, took in calls if begin.at <= at <= end.at]),
        "cpu_s_per_gib": {"server": (end.own_cpu - begin.own_cpu) * GIB / meter.bytes,
                          "client": (end.client_cpu - begin.client_cpu) * GIB / meter.bytes}
        if meter.bytes else None,
        "minor_faults": (end.faults - begin.faults) / max(total, 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "fairness": total ** 2 / (len(counts) * sum(n * n for n in counts)) if total else 0,
    }


def main(name, make_client, make_server, modes=("request", "stream", "latency")):
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--workload", required=True, help="key:dtype[d0,d1,...],...")
    parser.add_argument("--rows", type=int, default=1, help="rows that a message counts for")
    parser.add_argument("--mode", choices=modes, default="request")
    parser.add_argument("--touch", action="store_true")
    parser.add_argument("--duration", type=float, default=2)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--io-threads", type=int, default=1, help="of a pyzmq server")
    parser.add_argument("--client", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        run_client(options, make_client)
    else:
        print(json.dumps(measure(options, name, make_server)))
