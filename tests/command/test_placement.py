# SPDX-License-Identifier: Apache-2.0
"""Where haul's thread and memory are, read back from the kernel, on this machine and where it may bind nothing."""
import os
import unittest

from support import OK, PROGRAMS, USAGE, CommandTest

WORK = ("bench", "--provider", "tcp", "--clients", "2", "--peers=none", "--verify", "--duration", "0.3",
        "--workload", "x:u8[3000000]")


class Placement(CommandTest):
    def threads(self, receiver):
        """The CPUs that haul's threads of a process may run on."""
        found = []
        tasks = f"/proc/{receiver.process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/status", encoding="ascii") as status:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
            if fields["Name"] == "haul" and int(task) != receiver.process.pid:
                found.append(fields["Cpus_allowed_list"])
        return found

    def test_threads_are_bound_to_cores(self):
        cpu = str(max(os.sched_getaffinity(0)))
        receiver = self.receive(environment={"HAUL_BIND": f"cores:{cpu}"})
        self.assertIn(cpu, self.threads(receiver))  # (a sanitizer's thread has the program's name too)

    def test_threads_are_left_alone(self):
        before = self.threads(self.receive(environment={"HAUL_BIND": "none"}))
        self.assertEqual(before, self.threads(self.receive()))  # (one node, or no connection yet)

    def test_what_cannot_be_is_said_once(self):
        for bind, words in (("numa:4000", "NUMA nodes 4000 are not there"),
                            ("cores:4095", "CPUs 4095 are not there"),
                            ("pci:ffff:ff:1f.7", "no NIC is at PCI address ffff:ff:1f.7")):
            process = self.run_haul(*WORK, environment={"HAUL_BIND": bind})
            self.assertEqual(process.code, OK)
            self.assertIn(words, process.err)

    def test_rails_that_nobody_has(self):
        for setting in ("HAUL_RAILS", "HAUL_PROGRESS_THREADS"):
            for value, said in (("1", False), ("2", True)):
                process = self.run_haul(*WORK, environment={setting: value})
                self.assertEqual(process.code, OK)
                self.assertEqual("do nothing here" in process.err, said, process.err)

    def test_bad_settings(self):
        for name, value, words in (("HAUL_BIND", "numa:", "it takes auto, none, numa:NODES"),
                                   ("HAUL_NIC", "a,,b", "separated by commas"),
                                   ("HAUL_RAILS", "many", "auto or 1 to 8"),
                                   ("HAUL_PROGRESS_THREADS", "9", "from 1 to 8"),
                                   ("HAUL_HUGEPAGES", "yes", "auto, never or require")):
            process = self.run_haul("recv", "127.0.0.1:0", "--out", self.out, environment={name: value})
            self.assertEqual(process.code, USAGE)
            self.assertIn(name, process.err)
            self.assertIn(words, process.err)

    def test_where_nothing_may_be_bound(self):
        confined = os.path.join(PROGRAMS, "confined")
        process = self.run_haul(*WORK, prefix=(confined,), environment={"HAUL_BIND": "numa:0"})
        if process.code == 77:
            self.skipTest("the kernel has no filters")
        self.assertEqual(process.code, OK)
        self.assertIn("threads cannot be bound", process.err)
        self.assertIn("memory cannot be bound", process.err)
        process = self.run_haul(*WORK, prefix=(confined,), environment={"HAUL_BIND": "numa:0", "HAUL_LOG": "info"})
        self.assertIn("memory on nodes any, threads on CPUs any", process.err)

    def test_small_and_reserved_pages(self):
        process = self.run_haul(*WORK, environment={"HAUL_HUGEPAGES": "never"})
        self.assertEqual(process.code, OK)
        process = self.run_haul(*WORK, environment={"HAUL_HUGEPAGES": "require"})
        if process.code != OK:  # (an administrator may have reserved enough)
            self.assertIn("reserved huge pages", process.out + process.err)


if __name__ == "__main__":
    unittest.main()
