# SPDX-License-Identifier: Apache-2.0
"""Files that haul send sends are, for NumPy, the files that haul recv writes."""
import json
import os
import socket
import unittest

import numpy

from support import FILE, LARGE, LIMIT_S, OK, CommandTest


def sample(dtype, shape=(3, 4)):
    """An array of any dtype with bytes that are all different from zero."""
    dtype = numpy.dtype(dtype)
    count = int(numpy.prod(shape)) * dtype.itemsize
    if dtype == bool:
        return (numpy.arange(count) % 3 == 0).reshape(shape)
    if dtype.kind in "US":
        return numpy.array(["a", "bc", "def"] * 4, dtype).reshape(shape)
    data = (numpy.arange(count, dtype=numpy.uint8) % 100 + 1).tobytes()
    return numpy.frombuffer(data, dtype).reshape(shape)


STRUCTURED = numpy.dtype([("x", "<f4"), ("y", "<i2", (2, 3)), (("a title", "z"), [("é", "u1")])])

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", ">f4",
          ">i8", "longdouble", "U3", "S7", "V5", "M8[ns]", "m8[25s]", STRUCTURED,
          numpy.dtype([("a", "u1"), ("b", "f8")], align=True)]


def three_arrays(total_bytes):
    """One in C order, one in Fortran order, one structured."""
    rows = total_bytes // 3 // 1024
    numbers = numpy.random.default_rng(1)
    frames = numbers.integers(0, 255, (rows, 1024), numpy.uint8)
    weights = numpy.asfortranarray(numbers.random((rows, 128)))
    steps = numpy.zeros(total_bytes // 3 // STRUCTURED.itemsize, STRUCTURED)
    steps["x"] = numpy.arange(len(steps))
    return {"frames": frames, "weights": weights, "steps": steps}


class Files(CommandTest):
    def round_trip(self, arrays):
        paths = [self.save(key + ".npy", array) for key, array in arrays.items()]
        receiver = self.receive()
        self.assert_code(self.send(receiver.address, *paths), OK)
        self.assert_finishes(receiver, OK)
        self.assertEqual(self.files(), sorted(key + ".npy" for key in arrays))
        for key, array in arrays.items():
            self.assert_same(key + ".npy", array)

    def test_three_real_files(self):
        self.round_trip(three_arrays((1 << 30) if LARGE else 24 << 20))

    def test_every_dtype(self):
        self.round_trip({"a%d" % i: sample(dtype) for i, dtype in enumerate(DTYPES)})

    def test_shapes(self):
        self.round_trip({
            "scalar": numpy.array(4.5), "one": numpy.ones(1), "empty": numpy.zeros((0, 7)),
            "empty_inside": numpy.zeros((3, 0, 2), "u1"), "many_axes": numpy.ones((1,) * 32),
            "odd": numpy.arange(12345, dtype="u1"), "fortran": sample("f8").copy("F")})

    def test_many_files(self):
        self.round_trip({"a%04d" % i: numpy.arange(i) for i in range(500)})

    def test_names(self):
        self.round_trip({"ünï 日本": numpy.ones(2), "a.b": numpy.ones(3), "-n": numpy.ones(4)})

    def test_formats_of_other_writers(self):
        array = numpy.arange(5.0)
        for version in (1, 2, 3):
            with open(self.path("v%d.npy" % version), "wb") as file:
                numpy.lib.format.write_array(file, array, (version, 0))
        receiver = self.receive()
        sender = self.send(receiver.address, *[self.path("v%d.npy" % v) for v in (1, 2, 3)])
        self.assert_code(sender, OK)
        self.assert_finishes(receiver, OK)
        for version in (1, 2, 3):
            self.assert_same("v%d.npy" % version, array)

    def test_unix_socket(self):
        receiver = self.receive(address="unix:" + self.path("socket"))
        path = self.save("a.npy", numpy.ones(3))
        self.assert_code(self.send("unix:" + self.path("socket"), path), OK)
        self.assert_finishes(receiver, OK)
        self.assert_same("a.npy", numpy.ones(3))

    def test_zmq(self):
        arrays = three_arrays(3 << 20)
        paths = [self.save(key + ".npy", array) for key, array in arrays.items()]
        if any(not p["usable"] for p in self.providers() if p["name"] == "zmq"):
            self.skipTest("the zmq provider is not usable here")
        receiver = self.receive("--provider", "zmq")
        sender = self.send(receiver.address, "--provider", "zmq", "--json", *paths)
        self.assert_code(sender, OK)
        self.assertIn('"path": "zmq"', sender.out)
        self.assert_finishes(receiver, OK)
        for key, array in arrays.items():
            self.assert_same(key + ".npy", array)

    def providers(self):
        return json.loads(self.run_haul("info", "--json").out)["providers"]

    def test_empty_dict(self):
        receiver = self.receive()
        self.assertEqual(self.strange_send(receiver.address), "ok")
        self.assert_finishes(receiver, OK)
        self.assertEqual(self.files(), [])


class Messages(CommandTest):
    """Several dicts, several senders."""

    def test_count(self):
        path = self.save("a.npy", numpy.arange(10))
        receiver = self.receive("--count", 3)
        self.assert_code(self.send(receiver.address, "--count", 3, path), OK)
        self.assert_finishes(receiver, OK)
        for number in ("000001", "000002", "000003"):
            self.assert_same(os.path.join(number, "a.npy"), numpy.arange(10))

    def test_numbers_go_on(self):
        os.makedirs(os.path.join(self.out, "000007"))
        path = self.save("a.npy", numpy.arange(10))
        receiver = self.receive("--count", 2)
        self.assert_code(self.send(receiver.address, "--count", 2, path), OK)
        self.assert_finishes(receiver, OK)
        self.assertEqual(self.files(), ["000007", "000008", "000008/a.npy", "000009",
                                        "000009/a.npy"])

    def test_names_that_are_no_numbers(self):
        """strtoull() takes them for numbers, "-5" for one near 2^64."""
        for name in ("-5", "+7", " 8", "9x"):
            os.makedirs(os.path.join(self.out, name))
        receiver = self.receive("--count", 2)
        path = self.save("a.npy", numpy.arange(10))
        self.assert_code(self.send(receiver.address, "--count", 2, path), OK)
        self.assert_finishes(receiver, OK)
        self.assert_same("000002/a.npy", numpy.arange(10))

    def test_several_senders(self):
        senders = 8
        arrays = [numpy.full((64, 1000 + i), i, "i4") for i in range(senders)]
        paths = [self.save("a%d.npy" % i, array) for i, array in enumerate(arrays)]
        receiver = self.receive("--count", senders, "--flat")
        processes = [self.start("send", receiver.address, path) for path in paths]
        for process in processes:
            self.assert_finishes(process, OK)
        self.assert_finishes(receiver, OK)
        for i, array in enumerate(arrays):
            self.assert_same("a%d.npy" % i, array)

    def test_until_stopped(self):
        receiver = self.receive("--count", 0)
        for i in range(3):
            path = self.save("a.npy", numpy.arange(i))
            self.assert_code(self.send(receiver.address, path), OK)
        receiver.process.terminate()
        self.assert_finishes(receiver, 143)
        for i in range(3):
            self.assert_same("00000%d/a.npy" % (i + 1), numpy.arange(i))

    def test_overwrite(self):
        for array in (numpy.arange(5), numpy.arange(7.0)):
            path = self.save("a.npy", array)
            receiver = self.receive("--overwrite", "--fsync")
            self.assert_code(self.send(receiver.address, path), OK)
            self.assert_finishes(receiver, OK)
            self.assert_same("a.npy", array)

    def test_existing_file_stays(self):
        os.mkdir(self.out)
        numpy.save(os.path.join(self.out, "b.npy"), numpy.arange(3))
        paths = [self.save("a.npy", numpy.ones(2)), self.save("b.npy", numpy.ones(2))]
        receiver = self.receive()
        self.assert_code(self.send(receiver.address, *paths), 1, "b.npy exists already")
        self.assert_finishes(receiver, FILE, "b.npy exists already", "--overwrite")
        self.assertEqual(self.files(), ["b.npy"])
        self.assert_same("b.npy", numpy.arange(3))

    def test_receiver_comes_later(self):
        """The sender tries (here: and is hung up on) until somebody is there."""
        path = self.save("a.npy", numpy.arange(5))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(LIMIT_S)
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            sender = self.start("send", address, path)
            listener.accept()[0].close()
        receiver = self.receive(address=address)
        self.assert_finishes(sender, OK)
        self.assert_finishes(receiver, OK)
        self.assert_same("a.npy", numpy.arange(5))


if __name__ == "__main__":
    unittest.main()
