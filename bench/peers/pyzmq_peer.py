# SPDX-License-Identifier: Apache-2.0
"""What user_way.py and best_pyzmq.py share: a ROUTER server, DEALER client processes, one line of JSON.

A baseline names two functions: how a client turns arrays into frames, and how the server turns
frames into arrays."""
import argparse
import ctypes
import json
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

try:
    import numpy
    import zmq
except ImportError as missing:
    print(json.dumps({"provider": sys.argv[0].rsplit("/", 1)[-1].removesuffix(".py"),
                      "reason": f"{sys.executable}: {missing}; "
                                "install python3-zmq and python3-numpy"}))
    sys.exit(77)

GIB = 1 << 30
OVER = b"over"


def parse_workload(text):
    """{"foo": (dtype, shape), ...} from "foo:u8[4,4],bar:f32[2]"."""
    arrays = {}
    for key, kind, bits, shape in re.findall(r"([^,:]+):(bool|bf|[iufc])(\d*)\[([\d,]*)\]", text):
        # NumPy has no bfloat16; its bytes travel as well as 16-bit integers.
        code = "?" if kind == "bool" else "<u2" if kind == "bf" else f"<{kind}{int(bits) // 8}"
        arrays[key] = (numpy.dtype(code), tuple(int(n) for n in shape.split(",") if n))
    return arrays


def cpu_s(pid):
    """CPU time of another process: its clock, as clock_getcpuclockid(3) names it."""
    return time.clock_gettime((~pid << 3) | 2)


def touch(arrays):
    for array in arrays.values():
        octets = array.reshape(-1).view(numpy.uint8)
        octets[: len(octets) // 8 * 8].view(numpy.uint64).sum()


def describe(arrays):
    return pickle.dumps({key: (array.dtype.str, array.shape) for key, array in arrays.items()})


def open_socket(kind, options, io_threads=1):
    socket = zmq.Context(io_threads=io_threads).socket(kind)
    if options.mode == "stream":
        socket.hwm = 4  # by default 1000 messages queue up on either side, whatever their size
    return socket


def client(options, to_frames):
    """Sends until the server answers OVER; then prints [[end of call, seconds it took], ...]."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the server
    arrays = {key: numpy.ones(shape, dtype)
              for key, (dtype, shape) in parse_workload(options.workload).items()}
    socket = open_socket(zmq.DEALER, options)
    socket.connect(options.client)
    calls = []
    while True:
        begin = time.monotonic()
        frames, copy = to_frames(arrays)
        socket.send_multipart(frames, copy=copy)
        if options.mode == "stream" and not socket.poll(0):
            continue
        if socket.recv() == OVER:
            break
        calls.append((time.monotonic(), time.monotonic() - begin))
    print(json.dumps(calls))
    socket.close(0)  # drops what a stream still has under way


class Server:
    def __init__(self, options, from_frames):
        self.options = options
        self.from_frames = from_frames
        self.socket = open_socket(zmq.ROUTER, options, options.io_threads)
        self.messages = {}  # per client, in the measured time
        self.bytes = 0

    def serve(self, until):
        """Receives and answers; a client that is quiet for 30 s is an error."""
        while time.monotonic() < until:
            if not self.socket.poll(30000):
                sys.exit("the clients send nothing")
            client, arrays = self.from_frames(self.socket)
            if self.options.touch:
                touch(arrays)
            if self.options.mode != "stream":
                self.socket.send_multipart([client, b"done"])
            self.messages[client] = self.messages.get(client, 0) + 1
            self.bytes += sum(array.nbytes for array in arrays.values())

    def dismiss(self, children):
        """Answers the clients' last messages with OVER, until all have gone."""
        told = set()
        while any(child.poll() is None for child in children):
            if self.socket.poll(10):
                client = bytes(self.socket.recv_multipart()[0])
                if client not in told:
                    self.socket.send_multipart([client, OVER])
                    told.add(client)


def quantiles_us(latencies):
    if not latencies:
        return None
    cuts = numpy.quantile(latencies, [0.5, 0.99, 0.999, 1]) * 1e6
    return dict(zip(("p50", "p99", "p999", "max"), (round(float(cut), 2) for cut in cuts)))


def measure(options, name, from_frames):
    server = Server(options, from_frames)
    server.socket.bind("tcp://127.0.0.1:*")
    endpoint = server.socket.getsockopt_string(zmq.LAST_ENDPOINT)
    # What a client prints at its end may be more than a pipe holds.
    outputs = [tempfile.TemporaryFile("w+") for _ in range(options.clients)]
    children = [subprocess.Popen([sys.executable, sys.argv[0], *sys.argv[1:], "--client", endpoint],
                                 stdout=output) for output in outputs]
    while len(server.messages) < options.clients:
        server.serve(time.monotonic() + 0.1)
    server.serve(time.monotonic() + options.warmup)

    server.messages, server.bytes = dict.fromkeys(server.messages, 0), 0
    pids = [child.pid for child in children]
    usage, client_cpu = resource.getrusage(resource.RUSAGE_SELF), sum(map(cpu_s, pids))
    begin, own_cpu = time.monotonic(), time.process_time()
    server.serve(begin + options.duration)
    end, own_cpu = time.monotonic(), time.process_time() - own_cpu
    client_cpu = sum(map(cpu_s, pids)) - client_cpu
    usage_after = resource.getrusage(resource.RUSAGE_SELF)

    server.dismiss(children)
    calls = []
    for output in outputs:
        output.seek(0)
        calls += json.load(output)
    counts = list(server.messages.values())
    total = sum(counts)
    return {
        "provider": name,
        "path": f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}, {options.io_threads} io thread"
                + "s" * (options.io_threads > 1),
        "clients": options.clients,
        "mode": options.mode,
        "messages": total,
        "bytes": server.bytes,
        "seconds": end - begin,
        "gib_per_s": server.bytes / GIB / (end - begin),
        "rows_per_s": total * options.rows / (end - begin),
        "latency_us": quantiles_us([took for at, took in calls if begin <= at <= end]),
        "cpu_s_per_gib": {"server": own_cpu * GIB / server.bytes,
                          "client": client_cpu * GIB / server.bytes} if server.bytes else None,
        "minor_faults": (usage_after.ru_minflt - usage.ru_minflt) / max(total, 1),
        "peak_rss_mib": usage_after.ru_maxrss / 1024,
        "fairness": total ** 2 / (len(counts) * sum(n * n for n in counts)) if total else 0,
    }


def main(name, to_frames, from_frames):
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--workload", required=True, help="key:dtype[d0,d1,...],...")
    parser.add_argument("--rows", type=int, default=1, help="rows that a message counts for")
    parser.add_argument("--mode", choices=("request", "stream", "latency"), default="request")
    parser.add_argument("--touch", action="store_true")
    parser.add_argument("--duration", type=float, default=2)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--io-threads", type=int, default=1, help="of the server")
    parser.add_argument("--client", metavar="ENDPOINT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client(options, to_frames)
    else:
        print(json.dumps(measure(options, name, from_frames)))
