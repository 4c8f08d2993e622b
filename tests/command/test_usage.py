# SPDX-License-Identifier: Apache-2.0
"""Arguments, help, haul info, and what is printed where."""
import json
import os
import pty
import subprocess
import threading
import unittest

import numpy

from support import FILE, HAUL, LIMIT_S, OK, USAGE, CommandTest, Gate

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMANDS = ("send", "recv", "bench", "info", "doctor")


class Arguments(CommandTest):
    def test_version(self):
        for argument in ("--version", "version", "-V"):
            process = self.run_haul(argument)
            self.assert_code(process, OK)
            self.assertRegex(process.out, r"^haul \d+\.\d+\.\d+\n$")

    def test_help(self):
        for arguments in (["help"], ["--help"], ["-h"], ["help", "help"]):
            process = self.run_haul(*arguments)
            self.assert_code(process, OK)
            self.assertEqual(process.err, "")
            for command in COMMANDS:
                self.assertIn(command, process.out)
            self.assertIn("Exit codes:", process.out)

    def test_help_of_commands(self):
        for command in COMMANDS:
            for arguments in (["help", command], [command, "--help"]):
                process = self.run_haul(*arguments)
                self.assert_code(process, OK)
                self.assertIn("Usage: haul " + command, process.out)
                for part in ("Examples:", "Exit codes:"):
                    self.assertIn(part, process.out)
                self.assertLess(max(map(len, process.out.splitlines())), 81)

    def test_unknown_command(self):
        for wrong, right in (("snd", "send"), ("revc", "recv"), ("infos", "info"),
                             ("hepl", "help")):
            self.assert_code(self.run_haul(wrong), USAGE, wrong, "did you mean", '"%s"' % right)
        self.assert_code(self.run_haul("fly"), USAGE, '"fly"', "haul help")
        self.assert_code(self.run_haul("help", "x" * 1000), USAGE, "haul help")

    def test_wrong_arguments(self):
        wrong = (
            [], ["send"], ["send", "127.0.0.1:1"], ["send", "127.0.0.1:1", "a", "--count", "0"],
            ["send", "127.0.0.1:1", "a", "--timeout", "soon"], ["send", "--fly", ":1", "a"],
            ["send", "127.0.0.1:1", "a", "--timeout", "-1"], ["recv", "127.0.0.1:0"],
            ["recv", "--out", self.out], ["recv", ":0", ":0", "--out", self.out],
            ["recv", ":0", "--out", self.out, "--count", "-1"], ["info", "--markdown"],
            ["info", "extra"], ["doctor", ":1", ":2"], ["doctor", "--sysroot", "/", ":1"],
            ["doctor", "--sysroot", self.path("nowhere")], ["doctor", "--timeout", "soon"])
        for arguments in wrong:
            with self.subTest(arguments):
                process = self.run_haul(*arguments)
                self.assertEqual(process.code, USAGE, process.err)
                self.assertEqual(process.out, "")
                self.assertIn("haul", process.err)
        self.assertFalse(os.path.exists(self.out))

    def test_result_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([HAUL, "info"], stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=LIMIT_S, check=False)
        self.assertEqual(done.returncode, FILE)
        self.assertIn("No space left", done.stderr)


class Info(CommandTest):
    def info(self, *arguments, **options):
        process = self.run_haul("info", "--json", *arguments, **options)
        self.assert_code(process, OK)
        return json.loads(process.out)

    def test_providers(self):
        providers = {p["name"]: p for p in self.info()["providers"]}
        self.assertTrue(providers["tcp"]["usable"])
        self.assertTrue(providers["tcp"]["channel"])
        for provider in providers.values():
            self.assertEqual(provider["usable"], provider["reason"] is None)
            self.assertTrue(provider["file"])

    def test_plugin_that_does_not_load(self):
        with open(self.path("haul_broken.so"), "w", encoding="ascii") as file:
            file.write("no plugin")
        environment = {"HAUL_PROVIDER_PATH": self.folder}
        providers = {p["name"]: p for p in self.info(environment=environment)["providers"]}
        self.assertFalse(providers["broken"]["usable"])
        self.assertTrue(providers["broken"]["reason"])
        text = self.run_haul("info", environment=environment)
        self.assert_code(text, OK)
        self.assertIn("haul_broken.so", text.out)

    def test_origins(self):
        config = self.info("--config", environment={"HAUL_CREDITS": "7"})
        self.assertNotIn("providers", config)
        settings = {s["name"]: s for s in config["config"]}
        self.assertEqual(settings["credits"]["value"], "7")
        self.assertEqual(settings["credits"]["origin"], "environment")
        self.assertEqual(settings["heartbeat"]["origin"], "default")
        text = self.run_haul("info", "--config", environment={"HAUL_CREDITS": "7"}).out
        self.assertRegex(text, r"HAUL_CREDITS +7 +environment")

    def test_reference_is_up_to_date(self):
        process = self.run_haul("info", "--config", "--markdown")
        with open(os.path.join(REPOSITORY, "docs", "CONFIG.md"), encoding="utf-8") as file:
            self.assertEqual(process.out, file.read(),
                             "run: haul info --config --markdown > docs/CONFIG.md")


class Output(CommandTest):
    def test_json(self):
        path = self.save("a.npy", numpy.asfortranarray(numpy.ones((2, 3), "f4")))
        receiver = self.receive()
        sender = self.send(receiver.address, "--json", path)
        self.assert_code(sender, OK)
        sent = json.loads(sender.out)
        self.assertEqual((sent["messages"], sent["arrays"], sent["bytes"]), (1, 1, 24))
        message = receiver.line()
        self.assertEqual(message["message"], 1)
        self.assertIsNone(message["error"])
        self.assertEqual(message["arrays"], [
            {"key": "a", "dtype": "f32", "shape": [2, 3], "fortran": True, "bytes": 24,
             "file": os.path.join(self.out, "a.npy")}])
        self.assert_finishes(receiver, OK)

    def test_text(self):
        receiver = self.start("recv", "unix:" + self.path("socket"), "--out", self.out)
        paths = [self.save(name, numpy.ones(1)) for name in ("a.npy", "b.npy")]
        sender = self.send("unix:" + self.path("socket"), *paths)
        self.assert_code(sender, OK)
        self.assertRegex(sender.out, r"^2 arrays, 16 bytes sent to .* in .* s, .* GiB/s \(.*\)\n$")
        self.assert_finishes(receiver, OK, "listening on unix:", "2 arrays, 16 bytes from")
        self.assertEqual(receiver.out.splitlines(),
                         [os.path.join(self.out, name) for name in ("a.npy", "b.npy")])

    def test_quiet(self):
        receiver = self.start("recv", "unix:" + self.path("socket"), "--out", self.out, "-q")
        sender = self.send("unix:" + self.path("socket"), "-q", self.save("a.npy", numpy.ones(1)))
        self.assert_code(sender, OK)
        self.assert_finishes(receiver, OK)
        self.assertEqual(sender.out + sender.err + receiver.out + receiver.err, "")

    def test_refusal_as_json(self):
        receiver = self.receive()
        self.strange_send(receiver.address, "../x")
        message = receiver.line()
        self.assertIn("../x", message["error"])
        self.assertEqual(message["arrays"], [])
        self.assert_finishes(receiver, 1)

    def test_closed_descriptors(self):
        """What is printed goes nowhere, and not into the socket that would have got the number."""
        address, path = "unix:" + self.path("socket"), self.save("a.npy", numpy.ones(1))
        closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
        receiver = self.start("recv", address, "--out", self.out, "--count", 0, prefix=closed)
        sender = self.send(address, path, prefix=closed)
        self.assertEqual(sender.code, FILE)  # its result could not be written
        for number in range(3):
            self.assertEqual(os.readlink("/proc/%d/fd/%d" % (receiver.process.pid, number)),
                             "/dev/null")
        receiver.process.terminate()
        receiver.finish()
        self.assert_same("000001/a.npy", numpy.ones(1))

    def test_paths_that_are_no_text(self):
        """JSON is UTF-8, paths are bytes."""
        out, address = os.path.join(self.folder, "o\udcff"), "unix:" + self.path("s\udcfe")
        path = self.save("a.npy", numpy.ones(1))
        receiver = self.start("recv", address, "--out", out, "--json", "--quiet")
        self.assertEqual(receiver.line()["listening"], "unix:" + self.path("s?"))
        sender = self.send(address, "--json", path)
        self.assertEqual(json.loads(sender.out)["address"], "unix:" + self.path("s?"))
        self.assertEqual(receiver.line()["arrays"][0]["file"], self.path("o?/a.npy"))
        self.assert_finishes(receiver, OK)

    def test_no_reply(self):
        receiver = self.receive()
        path = self.save("a.npy", numpy.ones(1))
        self.assert_code(self.send(receiver.address, "--no-reply", path), OK)
        self.assert_finishes(receiver, OK)
        self.assert_same("a.npy", numpy.ones(1))

    def test_progress_on_a_terminal(self):
        """A gate holds the message until the bar has been drawn."""
        receiver = self.receive("--provider", "tcp")
        gate = Gate(receiver.address, 1 << 20)
        self.addCleanup(gate.close)
        path = self.save("a.npy", numpy.ones(1 << 21))
        terminal, its_end = pty.openpty()
        self.addCleanup(os.close, terminal)
        sender = self.start("send", gate.address, "--provider", "tcp", path, stderr=its_end)
        os.close(its_end)
        watchdog = threading.Timer(LIMIT_S, sender.process.kill)
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        shown = ""
        while "GiB/s" not in shown:
            shown += os.read(terminal, 4096).decode()
        self.assertRegex(shown, r"\d+% \[#* *\] .* of 16.00 MiB  \d+\.\d\d GiB/s")
        gate.opened.set()
        self.assert_finishes(sender, OK)
        self.assert_finishes(receiver, OK)


if __name__ == "__main__":
    unittest.main()
