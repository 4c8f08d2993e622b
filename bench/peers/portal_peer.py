#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The workload of `haul bench` over portal, a package for Python that sends dicts of arrays."""
import importlib.metadata
import time

import python_peer

portal = python_peer.need("portal", "portal, from PyPI")


class Client(python_peer.Client):
    def __init__(self, address, options):
        self.client = portal.Client(address, logging=False)
        self.future = None

    def send(self, arrays):
        self.future = self.client.work(arrays)

    def answer(self, wait):
        return self.OVER if self.future.result() else "done"

    def close(self):
        self.client.close()


class Server(python_peer.Server):
    def __init__(self, options):
        port = portal.free_port()
        self.server = portal.Server(port, host="127.0.0.1", logging=False)
        self.address = f"127.0.0.1:{port}"
        self.path = f"portal {importlib.metadata.version('portal')}"

    def run(self, meter):
        self.server.bind("work", meter.note, addr=True)
        with self.server:
            while meter.goes_on():
                time.sleep(0.01)  # its own threads do the work; a run's end is a time, and no event


if __name__ == "__main__":
    python_peer.main("portal", Client, Server, modes=("request", "latency"))
