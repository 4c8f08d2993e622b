# SPDX-License-Identifier: Apache-2.0
"""haul info's picture of a machine: of a recorded one with a NIC on each of two nodes, and of this one."""
import itertools
import json
import os
import re
import unittest
import xml.etree.ElementTree as xml

from support import FILE, OK, USAGE, CommandTest

COLUMNS = 80
GIB = 1 << 30


class Recorded:
    """An XML file as hwloc 2 writes it: node n is package n and has CPUs 2n and 2n+1, near it are
    the PCI device 0000:n1:00.0 and what it is for: the interface ibn and the fabric's device
    mlx5_n, with the speeds given. What hwloc does not record stands in infos of haul's."""

    def __init__(self, mbits=(100_000, 100_000), allowed_nodes=3):
        self.numbers = itertools.count(1)
        self.tree = xml.Element("topology", version="2.0")
        self.top = self.add(self.tree, "Machine", 15, 3, os_index="0", allowed_cpuset=hex(15),
                            allowed_nodeset=hex(allowed_nodes))
        self.tell(self.top, Backend="Linux")
        for node, speed in enumerate(mbits):
            self.add_node(node, speed)

    def add(self, parent, what, cpus=0, nodes=0, **attributes):
        if cpus:
            attributes.update(cpuset=hex(cpus), complete_cpuset=hex(cpus), nodeset=hex(nodes),
                              complete_nodeset=hex(nodes))
        return xml.SubElement(parent, "object", type=what, gp_index=str(next(self.numbers)), **attributes)

    @staticmethod
    def tell(thing, **infos):
        for name, value in infos.items():
            xml.SubElement(thing, "info", name=name, value=str(value))

    def add_node(self, node, mbits):
        cpus, bit = 3 << 2 * node, 1 << node
        package = self.add(self.top, "Package", cpus, bit, os_index=str(node))
        self.add(package, "NUMANode", cpus, bit, os_index=str(node), local_memory=str(64 * GIB))
        for cpu in (2 * node, 2 * node + 1):
            self.add(package, "PU", 1 << cpu, bit, os_index=str(cpu))
        bridge = self.add(package, "Bridge", bridge_type="0-1", depth="0",
                          bridge_pci=f"0000:[{node}1-{node}1]")
        device = self.add(bridge, "PCIDev", pci_busid=f"0000:{node}1:00.0",
                          pci_type="0207 [15b3:101b] [15b3:101b] 00", pci_link_speed="0.000000")
        interface = self.add(device, "OSDev", name=f"ib{node}", osdev_type="2")
        self.tell(interface, HaulMbits=mbits, HaulState="down")
        fabric = self.add(device, "OSDev", name=f"mlx5_{node}", osdev_type="3")
        self.tell(fabric, HaulMbits=mbits, HaulState="up")

    def write(self, path):
        xml.ElementTree(self.tree).write(path, encoding="UTF-8", xml_declaration=True)


class MachineTest(CommandTest):
    def show(self, *arguments, **environment):
        """What haul info prints, with these settings."""
        settings = {"HAUL_" + name: value for name, value in environment.items()}
        process = self.run_haul("info", *arguments, environment=settings)
        self.assert_code(process, OK)
        return process.out

    def machine(self, *arguments, **environment):
        return json.loads(self.show(*arguments, "--json", **environment))

    def assert_marked(self, text, *names):
        """The NICs and nodes whose row has a mark, and no others."""
        rows = [row.strip(" |") for row in text.splitlines()]
        matches = [re.match(r"(node \d+) +\* .*\* CPUs|\* (\w+)  +(network|fabric) ", row) for row in rows]
        self.assertEqual(sorted(match[1] or match[2] for match in matches if match), sorted(names), text)


class RecordedMachine(MachineTest):
    def setUp(self):
        super().setUp()
        self.file = self.record(Recorded())
        process = self.run_haul("info", "--topology", self.file)
        if "built without hwloc" in process.err:
            self.skipTest("haul was built without hwloc")

    def record(self, recorded):
        path = self.path("node.xml")
        recorded.write(path)
        return path

    def draw(self, **environment):
        return self.show("--topology", self.file, **environment)

    def test_picture(self):
        title, text = self.draw().split("\n", 1)
        self.assertEqual(title, "Machine recorded in " + self.file)
        self.assertIn("NIC mlx5_0; memory on node 0; threads on CPUs 0-1", text)
        self.assertRegex(text, r"\n  why: \S.*\n")
        self.assertNotIn("not possible", text)
        for node in (0, 1):
            self.assertIn(f"+- package {node} ---", text)
            self.assertRegex(text, rf"\| node {node} .* 64\.0 GiB .* CPUs {2 * node}-{2 * node + 1} +\|")
            self.assertRegex(text, rf"ib{node} +network +0000:{node}1:00\.0  100 Gbit/s +down")
            self.assertRegex(text, rf"mlx5_{node} +fabric +0000:{node}1:00\.0  100 Gbit/s +up")
        self.assertLess(text.index("node 0 "), text.index("ib0"))
        self.assertLess(text.index("* mlx5_0"), text.index("node 1 "))
        self.assert_marked(text, "node 0", "mlx5_0")
        self.assertRegex(text, r"\n  \* +what haul would use")
        self.assertNotIn("Providers", text)
        self.assertNotIn("Configuration", text)
        self.assertLessEqual(max(len(row) for row in text.splitlines()), COLUMNS)

    def test_speeds(self):
        for mbits, text in ((0, "-"), (100, "100 Mbit/s"), (1000, "1 Gbit/s"), (2500, "2.5 Gbit/s")):
            self.record(Recorded(mbits=(mbits, mbits)))
            self.assertRegex(self.draw(), rf"mlx5_0 .*00\.0  {re.escape(text)} +up")

    def test_bind(self):
        self.assert_marked(self.draw(BIND="numa:1"), "node 1", "mlx5_1")
        self.assert_marked(self.draw(BIND="pci:11:00.0"), "node 1", "mlx5_1")
        text = self.draw(BIND="cores:2")
        self.assertIn("threads on CPU 2", text)
        self.assert_marked(text, "node 1", "mlx5_1")

    def test_nothing_bound(self):
        text = self.draw(BIND="none")
        self.assertIn("NIC mlx5_0; nothing is bound\n  why: HAUL_BIND=none\n", text)
        self.assert_marked(text, "mlx5_0")

    def test_nic(self):
        self.assert_marked(self.draw(NIC="ib1"), "node 1", "ib1")

    def test_what_is_not_possible(self):
        text = self.draw(BIND="numa:7")
        self.assertRegex(text, r"\n  not possible: .*7")
        self.assertIn("nothing is bound", text)
        self.assertRegex(self.draw(NIC="mlx5_9"), r"\n  not possible: mlx5_9 ")

    def test_memory_that_is_not_allowed(self):
        self.record(Recorded(allowed_nodes=2))
        text = self.draw()
        self.assertRegex(text, r"node 0 .*\[not allowed\]")
        self.assertRegex(text, r"\n  \[not allowed\] +memory that")
        self.assertNotRegex(text, r"node 1 .*\[not allowed\]")

    def test_json(self):
        machine = self.machine("--topology", self.file, BIND="numa:1")
        self.assertEqual((machine["origin"], machine["unknown"]), (self.file, ""))
        self.assertEqual((machine["cpus"], machine["own_cpus"]), ("0-3", "0-3"))
        self.assertEqual(machine["nodes"], [
            {"number": node, "package": node, "bytes": 64 * GIB, "cpus": f"{2 * node}-{2 * node + 1}",
             "memory_allowed": True, "special": False} for node in (0, 1)])
        self.assertEqual([nic["name"] for nic in machine["nics"]], ["ib0", "mlx5_0", "ib1", "mlx5_1"])
        self.assertEqual(machine["nics"][3], {
            "name": "mlx5_1", "kind": "fabric", "pci": "0000:11:00.0", "carrier": "", "state": "up",
            "mbits": 100_000, "virtual": False, "nodes": "1"})
        place = machine["place"]
        self.assertTrue(place.pop("why"))
        self.assertEqual(place, {"nics": ["mlx5_1"], "nodes": "1", "cpus": "2-3", "unmet": ""})

    def test_names_that_are_no_text(self):
        """A file from somewhere else does not write to the terminal."""
        recorded = Recorded()
        for device in recorded.tree.iter("object"):
            if device.get("name") == "mlx5_0":
                device.set("name", "mlx\u009b5\x7f0")
        self.record(recorded)
        self.assertIn("* mlx??5?0 ", self.draw())
        self.assertEqual(self.machine("--topology", self.file)["place"]["nics"], ["mlx??5?0"])

    def test_rails(self):
        self.assert_marked(self.draw(RAILS="2"), "node 0", "node 1", "mlx5_0", "mlx5_1")
        self.assertIn("NICs mlx5_0, mlx5_1; memory on nodes 0-1", self.draw(RAILS="2"))
        self.assert_marked(self.draw(RAILS="1"), "node 0", "mlx5_0")
        self.assertIn("3 rails are wished, and 2 can be had", " ".join(self.draw(RAILS="3").split()))
        place = self.machine("--topology", self.file, RAILS="2")["place"]
        self.assertEqual((place["nics"], place["nodes"]), (["mlx5_0", "mlx5_1"], "0-1"))

    def test_absurd_numbers(self):
        for mbits in (-5, 10 ** 12):
            self.record(Recorded(mbits=(mbits, mbits)))
            self.assertRegex(self.draw(), r"mlx5_0 .*00\.0  - +up")
        recorded = Recorded()
        for node in recorded.tree.iter("object"):
            if node.get("type") == "NUMANode" and node.get("os_index") == "1":
                node.set("os_index", "4294967290")
        self.record(recorded)
        process = self.run_haul("info", "--topology", self.file)
        self.assertNotEqual(process.code, OK)
        self.assertEqual(process.out, "")

    def test_memory_of_unknown_size(self):
        recorded = Recorded()
        for node in recorded.tree.iter("object"):
            if node.get("type") == "NUMANode":
                node.set("local_memory", "0")
        self.record(recorded)
        self.assertRegex(self.draw(), r"node 0 .* unknown ")

    def test_files_that_cannot_be_read(self):
        os.mkfifo(self.path("fifo"))
        for path, words in ((self.path("fifo"), "no regular file"), (self.path("nowhere"), "No such file")):
            process = self.run_haul("info", "--topology", path)
            self.assert_code(process, FILE, path, words)

    def test_wrong_files(self):
        with open(self.path("garbage"), "w", encoding="ascii") as file:
            file.write("no machine")
        for path in (self.path("nowhere"), self.path("garbage"), self.folder):
            for more in ((), ("--json",)):
                process = self.run_haul("info", "--topology", path, *more)
                self.assert_code(process, FILE, path)
                self.assertEqual(process.out, "")

    def test_wrong_arguments(self):
        for arguments in (["--topology"], ["--topology", self.file, "--config"]):
            process = self.run_haul("info", *arguments)
            self.assert_code(process, USAGE, "topology")
            self.assertEqual(process.out, "")

    def test_wrong_bind(self):
        for name, value in (("HAUL_BIND", "near"), ("HAUL_BIND", "numa:x"), ("HAUL_BIND", "pci:zz"),
                            ("HAUL_RAILS", "9"), ("HAUL_PROGRESS_THREADS", "0"), ("HAUL_HUGEPAGES", "yes")):
            process = self.run_haul("info", "--topology", self.file, environment={name: value})
            self.assert_code(process, USAGE, name, value)
            self.assertEqual(process.out, "")


class ThisMachine(MachineTest):
    def test_picture(self):
        text = self.show()
        self.assertLess(text.index("\nProviders\n"), text.index("\nMachine\n"))
        self.assertLess(text.index("\nMachine\n"), text.index("\nConfiguration\n"))
        machine = self.machine()["machine"]
        if machine["unknown"]:
            self.assertIn(machine["unknown"], " ".join(text.split()))
        for node in machine["nodes"]:
            self.assertRegex(text, rf"\| node {node['number']} ")
        for nic in machine["nics"]:
            if not nic["virtual"]:
                self.assertIn(nic["name"], text)

    def test_json(self):
        machine = self.machine()["machine"]
        self.assertEqual(machine["origin"], "this machine")
        self.assertTrue(machine["nodes"] or machine["unknown"])
        self.assertTrue(machine["place"]["why"])
        self.assertEqual(self.machine(BIND="none")["machine"]["place"]["nodes"], "")

    def test_configuration_alone(self):
        self.assertNotIn("machine", self.machine("--config"))
        self.assertNotIn("Machine", self.show("--config"))

    def test_wrong_bind(self):
        for arguments in ((), ("--json",)):
            process = self.run_haul("info", *arguments, environment={"HAUL_BIND": "near"})
            self.assert_code(process, USAGE, "HAUL_BIND", "near")
            self.assertEqual(process.out, "")


if __name__ == "__main__":
    unittest.main()
