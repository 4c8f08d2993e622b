#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The workload of `haul bench` between Python processes that use the package haul. The provider is
chosen by HAUL_PROVIDER."""
import python_peer

haul = python_peer.need("haul", "the package: pip install ./python")
OVER, DONE = {"over": True}, {"done": b"done"}


class Client(python_peer.Client):
    def __init__(self, address, options):
        self.peer = haul.connect(address)
        self.reply = None

    def send(self, arrays):
        self.reply = self.peer.call(arrays)

    def answer(self, wait):
        return self.OVER if "over" in self.reply else self.reply

    def close(self):
        self.peer.close()


class Server(python_peer.Server):
    def __init__(self, options):
        self.server = haul.listen("127.0.0.1:0")
        self.address = self.server.address
        self.path = f"haul {haul.__version__} in Python"

    def run(self, meter):
        while meter.goes_on():
            try:
                message = self.server.recv(0.1)
            except haul.Timeout:
                continue
            message.reply(OVER if meter.note(message.peer.id, message) else DONE)


if __name__ == "__main__":
    python_peer.main("haul_python", Client, Server, modes=("request", "latency"))
