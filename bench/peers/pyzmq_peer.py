# SPDX-License-Identifier: Apache-2.0
"""What user_way.py and best_pyzmq.py share: a ROUTER server and DEALER clients.

A baseline names two functions: how a client turns arrays into frames (and whether pyzmq copies
them), and how the server turns frames into arrays."""
import pickle

import python_peer

zmq = python_peer.need("zmq", "python3-zmq and python3-numpy")
OVER = b"over"


def describe(arrays):
    return pickle.dumps({key: (array.dtype.str, array.shape) for key, array in arrays.items()})


def open_socket(kind, options, io_threads=1):
    socket = zmq.Context(io_threads=io_threads).socket(kind)
    if options.mode == "stream":
        socket.hwm = 4  # by default 1000 messages queue up on either side, whatever their size
    return socket


class Client(python_peer.Client):
    def __init__(self, address, options, to_frames):
        self.to_frames = to_frames
        self.frames = []
        self.socket = open_socket(zmq.DEALER, options)
        self.socket.connect(address)

    def send(self, arrays):
        # (Kept until the next ones are made: freed before, their pages would be faulted in anew.)
        self.frames, copy = self.to_frames(arrays)
        self.socket.send_multipart(self.frames, copy=copy)

    def answer(self, wait):
        if not wait and not self.socket.poll(0):
            return None
        answer = self.socket.recv()
        return self.OVER if answer == OVER else answer

    def close(self):
        self.socket.close(0)


class Server(python_peer.Server):
    def __init__(self, options, from_frames):
        self.from_frames = from_frames
        self.answers = options.mode != "stream"
        self.socket = open_socket(zmq.ROUTER, options, options.io_threads)
        self.socket.bind("tcp://127.0.0.1:*")
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.path = (f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}, "
                     f"{options.io_threads} io thread" + "s" * (options.io_threads > 1))

    def run(self, meter):
        while meter.goes_on():
            if not self.socket.poll(10):
                continue
            client, arrays = self.from_frames(self.socket)
            if meter.note(client, arrays):
                self.socket.send_multipart([client, OVER])
            elif self.answers:
                self.socket.send_multipart([client, b"done"])


def main(name, to_frames, from_frames):
    python_peer.main(name, lambda address, options: Client(address, options, to_frames),
                     lambda options: Server(options, from_frames))
