# SPDX-License-Identifier: Apache-2.0
"""What goes wrong is told to both sides, leaves no part of a message and has its exit code."""
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import time
import unittest

import numpy

from support import (FAILED, FILE, HAUL, LIMIT_S, OK, TIMEOUT, USAGE, CommandTest, Gate)

NOBODY = 65534


def works(*command):
    try:
        return subprocess.run(command, timeout=LIMIT_S, check=False, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


class Keys(CommandTest):
    def test_keys_that_name_no_file_here(self):
        keys = ["../x", "a/b", "/etc/x", "..", ".", ".hidden", "n" * 255, "x\ny", "x\x1b[2J",
                "x\x7f", "x\u0085"]
        receiver = self.receive("--count", len(keys))
        for key in keys:
            answer = self.strange_send(receiver.address, key)
            self.assertRegex(answer, "^refused: the key .* cannot be a file name: it ")
            self.assertTrue(answer.isprintable(), repr(answer))
        self.assert_finishes(receiver, FAILED, "cannot be a file name")
        self.assertTrue(receiver.err.replace("\n", "").isprintable())
        self.assertEqual(self.files(), [])
        self.assertEqual(os.listdir(self.folder), ["out"])

    def test_longest_key(self):
        receiver = self.receive()
        self.assertEqual(self.strange_send(receiver.address, "n" * 251), "ok")
        self.assert_finishes(receiver, OK)
        self.assertEqual(self.files(), ["good.npy", "n" * 251 + ".npy"])

    def test_dtypes_that_no_file_holds(self):
        descriptions = ["__import__('os')", "|O", "{'names': ['a'], 'formats': ['<f4']}", "<f8",
                        "<f4', 'shape': (9,), 'x': '"]
        receiver = self.receive("--count", len(descriptions))
        for description in descriptions:
            answer = self.strange_send(receiver.address, "x", description, "4")
            self.assertRegex(answer, '^refused: the array "x" cannot be a .npy file: ')
        self.assert_finishes(receiver, FAILED)
        self.assertEqual(self.files(), [])


class Disk(CommandTest):
    """The receiver's folder. The sender gets exit code 1 and the receiver's sentence."""

    def check_refused(self, receiver, words):
        path = self.save("large.npy", numpy.ones(1 << 20, "f4"))
        small = self.save("small.npy", numpy.ones(1))
        self.assert_code(self.send(receiver.address, small, path), FAILED, "refused", *words)
        self.assert_finishes(receiver, FILE, *words)

    def test_full(self):
        """On a file system of 1 MiB, in a mount namespace that ends with the receiver."""
        namespace = ("unshare", "--mount", "--map-root-user")
        if not works(*namespace, "mount", "-t", "tmpfs", "none", "/mnt"):
            self.skipTest("no mount namespaces here")
        os.mkdir(self.out)
        script = ('mount -t tmpfs -o size=1m none "$0" && "$@"; code=$?; '
                  'test -z "$(ls -A "$0")" || exit 99; exit $code')
        prefix = (*namespace, "sh", "-c", script, self.out)
        self.check_refused(self.receive(prefix=prefix), ["large.npy", "No space left on device"])

    def test_file_size_limit(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        self.check_refused(self.receive(preexec_fn=limit), ["large.npy", "File too large"])
        self.assertEqual(self.files(), [])

    def test_folder_is_a_file(self):
        with open(self.out, "w", encoding="ascii"):
            pass
        self.assert_code(self.run_haul("recv", "127.0.0.1:0", "--out", self.out), FILE,
                         self.out, "Not a directory")

    def test_folder_cannot_be_made(self):
        out = self.path("missing/out")
        self.assert_code(self.run_haul("recv", "127.0.0.1:0", "--out", out), FILE, out,
                         "No such file or directory")

    def test_unwritable(self):
        os.mkdir(self.out)
        os.chmod(self.out, 0o555)
        prefix = ()
        if os.geteuid() == 0:
            os.chmod(self.folder, 0o755)
            prefix = ("setpriv", "--reuid", str(NOBODY), "--clear-groups")
            if not works(*prefix, HAUL, "version"):
                self.skipTest("other users cannot run the command from here")
        receiver = self.run_haul("recv", "127.0.0.1:0", "--out", self.out, prefix=prefix)
        self.assert_code(receiver, FILE, self.out, "Permission denied")

    def test_files_follow_umask(self):
        receiver = self.receive(preexec_fn=lambda: os.umask(0o027))
        path = self.save("a.npy", numpy.ones(1))
        self.assert_code(self.send(receiver.address, path), OK)
        self.assert_finishes(receiver, OK)
        mode = os.stat(os.path.join(self.out, "a.npy")).st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o640)


class Killed(CommandTest):
    """Ends in the middle of a message. A gate lets 1 MiB of 16 through."""

    def begin(self, *receiver_arguments):
        self.receiver = self.receive("--provider", "tcp", *receiver_arguments)
        self.gate = Gate(self.receiver.address, 1 << 20)
        self.addCleanup(self.gate.close)
        self.array = numpy.arange(1 << 22, dtype="i4")
        path = self.save("a.npy", self.array)
        self.sender = self.start("send", self.gate.address, "--provider", "tcp", path)
        self.assertTrue(self.gate.reached.wait(LIMIT_S))

    def test_sender_killed(self):
        self.begin()
        self.sender.kill()
        self.assertEqual(self.files(), [])
        path = self.save("b.npy", numpy.arange(3))
        self.assert_code(self.send(self.receiver.address, path), OK)
        self.assert_finishes(self.receiver, OK)
        self.assertEqual(self.files(), ["b.npy"])

    def test_sender_interrupted(self):
        for name, code in (("SIGINT", 130), ("SIGTERM", 143)):
            with self.subTest(name):
                self.begin()
                self.sender.process.send_signal(getattr(signal, name))
                self.assert_finishes(self.sender, code, "stopped")
                self.receiver.process.terminate()
                self.assert_finishes(self.receiver, 143)
                self.assertEqual(self.files(), [])

    def test_receiver_interrupted(self):
        for name, code in (("SIGINT", 130), ("SIGTERM", 143)):
            with self.subTest(name):
                self.begin()
                self.receiver.process.send_signal(getattr(signal, name))
                self.assert_finishes(self.receiver, code)
                self.assert_finishes(self.sender, FAILED)
                self.assertEqual(self.files(), [])

    def begin_endless(self, receiver_option, sender_option):
        """Small dicts, one after the other: no wait of either side is long."""
        address = "unix:" + self.path("socket")
        options = ("--provider", "tcp", "--quiet")
        self.receiver = self.start("recv", address, "--out", self.out, "--count", 0, "--flat",
                                   *options, receiver_option, stderr=subprocess.DEVNULL)
        self.sender = self.start("send", address, "--count", 1 << 40, *options, sender_option,
                                 self.save("a.npy", numpy.arange(10)))
        while self.receiver.process.poll() is None and "a.npy" not in self.files():
            time.sleep(0.01)

    def test_sender_interrupted_between_messages(self):
        self.begin_endless("--overwrite", "--quiet")
        self.sender.process.terminate()
        self.assert_finishes(self.sender, 143, "stopped")
        self.receiver.process.terminate()
        self.assertEqual(self.receiver.finish(), 143)

    def test_receiver_interrupted_between_messages(self):
        """All but the first dict are refused: the file exists."""
        self.begin_endless("--quiet", "--no-reply")
        self.receiver.process.terminate()
        self.assertEqual(self.receiver.finish(), 143)
        self.sender.kill()

    def test_receiver_killed(self):
        self.begin()
        self.receiver.kill()
        self.assert_finishes(self.sender, FAILED)
        self.assertEqual(self.files(), [])

    def test_held_up_and_going_on(self):
        self.begin()
        self.sender.process.send_signal(signal.SIGSTOP)
        self.sender.process.send_signal(signal.SIGCONT)
        self.gate.opened.set()
        self.assert_finishes(self.sender, OK)
        self.assert_finishes(self.receiver, OK)
        self.assert_same("a.npy", self.array)

    def test_litter_of_a_killed_receiver(self):
        litter = os.path.join(self.out, ".haul-recv-1-1")
        os.makedirs(litter)
        with open(os.path.join(litter, "a.npy"), "w", encoding="ascii"):
            pass
        first = self.receive()
        self.assertEqual(self.files(), [])
        os.makedirs(litter)  # now it could be of the receiver that runs
        second = self.receive()
        self.assertEqual(self.files(), [".haul-recv-1-1"])
        os.rmdir(litter)
        for receiver in (first, second):
            receiver.process.terminate()
            self.assert_finishes(receiver, 143)


class Time(CommandTest):
    def test_nobody_sends(self):
        receiver = self.receive("--timeout", 0.2)
        self.assert_finishes(receiver, TIMEOUT, "no message came")

    def test_receiver_takes_nothing(self):
        receiver = self.receive()
        gate = Gate(receiver.address, 1 << 20)
        self.addCleanup(gate.close)
        path = self.save("a.npy", numpy.arange(1 << 22))
        sender = self.run_haul("send", gate.address, "--timeout", 5, path,
                               environment={"HAUL_SHM": "off"})
        self.assert_code(sender, TIMEOUT, gate.address, "--timeout")
        receiver.process.terminate()
        self.assert_finishes(receiver, 143)
        self.assertEqual(self.files(), [])

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = "127.0.0.1:%d" % server.getsockname()[1]
        path = self.save("a.npy", numpy.ones(1))
        sender = self.run_haul("send", address, "--timeout", 0.2, path)
        self.assert_code(sender, FAILED, address)


class Addresses(CommandTest):
    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = "127.0.0.1:%d" % server.getsockname()[1]
            receiver = self.run_haul("recv", address, "--out", self.out)
        self.assert_code(receiver, FAILED, address, "in use")

    def test_host_not_found(self):
        path = self.save("a.npy", numpy.ones(1))
        sender = self.run_haul("send", "no-such-host.invalid:5555", path)
        self.assert_code(sender, FAILED, "no-such-host.invalid")

    def test_no_address(self):
        path = self.save("a.npy", numpy.ones(1))
        for address in ("localhost", "localhost:http:1", "[::1", "1.2.3.4:99999"):
            self.assert_code(self.run_haul("send", address, path), FAILED, address)

    def test_unknown_provider(self):
        path = self.save("a.npy", numpy.ones(1))
        sender = self.run_haul("send", "127.0.0.1:1", "--provider", "carrier-pigeon", path)
        self.assert_code(sender, USAGE, "carrier-pigeon")
        receiver = self.run_haul("recv", "127.0.0.1:0", "--out", self.out,
                                 environment={"HAUL_PROVIDER": "carrier-pigeon"})
        self.assert_code(receiver, USAGE, "carrier-pigeon")

    def test_wrong_setting(self):
        path = self.save("a.npy", numpy.ones(1))
        sender = self.run_haul("send", "127.0.0.1:1", path, environment={"HAUL_POOL_MAX": "much"})
        self.assert_code(sender, USAGE, "HAUL_POOL_MAX")


class Sources(CommandTest):
    """Files that cannot be sent. Nobody needs to listen for that."""

    def check(self, code, paths, *words):
        self.assert_code(self.run_haul("send", "127.0.0.1:1", *paths), code, *words)

    def test_missing(self):
        self.check(FILE, [self.path("no.npy")], "no.npy", "No such file")

    def test_folder(self):
        self.check(FILE, [self.folder], self.folder, "no regular file")

    def test_no_npy(self):
        path = self.path("text.npy")
        for content, words in ((b"", "it is empty"), (b"hello, world", "no .npy file")):
            with open(path, "wb") as file:
                file.write(content)
            self.check(FILE, [path], path, words)

    def test_objects(self):
        good = self.save("good.npy", numpy.ones(1))
        bad = self.save("bad.npy", numpy.array([None, {}], object))
        self.check(FILE, [good, bad], "bad.npy", "Python objects")

    def test_objects_in_fields(self):
        path = self.save("bad.npy", numpy.zeros(2, [("a", "f4"), ("b", object)]))
        self.check(FILE, [path], "bad.npy", "Python objects")

    def test_cut_off(self):
        path = self.save("a.npy", numpy.arange(1000))
        os.truncate(path, 4000)
        self.check(FILE, [path], path, "cut off")

    def test_bytes_left_over(self):
        path = self.save("a.npy", numpy.arange(10))
        with open(path, "ab") as file:
            file.write(b"more")
        self.check(FILE, [path], path, "4 bytes follow")

    def test_two_of_one_name(self):
        os.mkdir(self.path("sub"))
        paths = [self.save("a.npy", numpy.ones(1)), self.save("sub/a.npy", numpy.ones(1))]
        self.check(USAGE, paths, *paths, '"a"')

    def test_long_name(self):
        path = self.path("k" * 251 + ".npy")
        shutil.copy(self.save("a.npy", numpy.ones(1)), path)
        receiver = self.receive()
        self.assert_code(self.send(receiver.address, path), OK)
        self.assert_finishes(receiver, OK)


if __name__ == "__main__":
    unittest.main()
