# SPDX-License-Identifier: Apache-2.0
"""Machines that we do not have, as XML files that hwloc 2 loads: models.py DIR writes them all, and copies those that
were recorded in guests (record.sh).

Each is built from a short description, after what its vendor or site says of it in public. Where a
thing hangs follows what hwloc itself does: a device goes to the highest object that has the CPUs
near it, so on a machine of one package to the very top. hwloc records no speed, and of interfaces
no state: those stand in infos of haul's own, HaulMbits and HaulState."""
import itertools
import os
import shutil
import sys
import xml.etree.ElementTree as xml

GIB = 1 << 30
ALL = -1  # of a set: whatever there is
TOP = "top"  # where a device hangs whose place nobody knows, or that is near to everything

# Class and numbers of PCI devices, as lspci -n shows them.
CONNECTX6 = "0207 [15b3:101b]"
CONNECTX7 = "0207 [15b3:1021]"
CONNECTX7_ETHERNET = "0200 [15b3:1021]"
CASSINI = "0200 [17db:0501]"
EFA = "0200 [1d0f:efa1]"
VIRTIO = "0200 [1af4:1041]"
GIGABIT = "0200 [8086:1533]"
LAPTOP_ETHERNET = "0200 [8086:15fb]"
LAPTOP_WLAN = "0280 [8086:a0f0]"


def mask(*ranges):
    """The set of numbers in ranges of (first, last)."""
    return sum((1 << last + 1) - (1 << first) for first, last in ranges)


def cpus_of(cores):
    return sum(1 << cpu for core in cores for cpu in core)


def text_of(bits):
    """A set as hwloc writes it: words of 32 bits, the highest first."""
    words = [f"0x{bits >> 32 * i & 0xffffffff:08x}" for i in range(max(1, -(-bits.bit_length() // 32)))]
    return ",".join(reversed(words))


def even(nodes, cores, threads=1):
    """The cores of each node, each as its CPUs. Linux counts first threads first, node by node."""
    total = nodes * cores
    return [[[node * cores + core + thread * total for thread in range(threads)]
             for core in range(cores)] for node in range(nodes)]


def hybrid(fast, slow):
    """One node: fast cores with two CPUs each come first, then slow ones with one."""
    return [[[2 * core, 2 * core + 1] for core in range(fast)] +
            [[2 * fast + core] for core in range(slow)]]


class Machine:
    """A tree of hwloc's objects, and the places in it where devices can hang: node numbers,
    "package0" and so on, and TOP."""

    def __init__(self, nodes, packages=1, memory=256 * GIB, special=None, allowed_cpus=ALL,
                 allowed_nodes=ALL, cxl=None, kinds=()):
        """nodes: cores of each; special: (bytes, subtype) of a second memory beside each; cxl: the same
        of a node near to no CPUs; kinds: (info, value, CPUs)."""
        self.numbers = itertools.count(1)
        self.bridges = {}
        self.places = {}
        self.cores = itertools.count()
        self.memory, self.special, self.node_count = memory, special, len(nodes)
        self.has_types = any(other and other[1] for other in (special, cxl))
        self.tree = xml.Element("topology", version="2.0")
        self.cpus = sum(map(cpus_of, nodes))
        self.nodes = mask((0, len(nodes) * (2 if special else 1) + (1 if cxl else 0) - 1))
        self.top = self.add_top(allowed_cpus & self.cpus, allowed_nodes & self.nodes)
        each = len(nodes) // packages
        for package in range(packages):
            first = package * each
            self.add_package(package, {node: nodes[node] for node in range(first, first + each)})
        if cxl:
            self.add_memory(self.top, self.nodes.bit_length() - 1, 0, *cxl)
        for name, value, members in kinds:
            kind = xml.SubElement(self.tree, "cpukind", cpuset=text_of(members))
            xml.SubElement(kind, "info", name=name, value=value)

    # ---- CPUs and memory

    def add(self, parent, what, cpus=None, nodes=None, **attributes):
        """An object; those of I/O have no sets."""
        sets = {} if cpus is None else {
            "cpuset": text_of(cpus), "complete_cpuset": text_of(cpus),
            "nodeset": text_of(nodes), "complete_nodeset": text_of(nodes)}
        return xml.SubElement(parent, "object", type=what, **sets, **attributes,
                              gp_index=str(next(self.numbers)))

    def add_top(self, allowed_cpus, allowed_nodes):
        top = self.add(self.tree, "Machine", self.cpus, self.nodes, os_index="0",
                       allowed_cpuset=text_of(allowed_cpus), allowed_nodeset=text_of(allowed_nodes))
        # What tells hwloc that the file is of Linux, where CPU and node numbers are the system's.
        xml.SubElement(top, "info", name="Backend", value="Linux")
        self.places[TOP] = top
        return top

    def node_bits(self, node):
        return 1 << node | (1 << self.node_count + node if self.special else 0)

    def add_package(self, number, nodes):
        cpus = sum(map(cpus_of, nodes.values()))
        bits = sum(map(self.node_bits, nodes))
        package = self.add(self.top, "Package", cpus, bits, os_index=str(number))
        self.places[f"package{number}"] = package
        for node, cores in nodes.items():
            self.add_node(package, node, cores, len(nodes) > 1)

    def add_node(self, package, node, cores, is_part):
        """is_part: of the package; then a group holds it, as with NPS4 and SNC."""
        cpus = cpus_of(cores)
        bits = self.node_bits(node)
        place = self.add(package, "Group", cpus, bits, kind="10", subkind="0") if is_part else package
        self.places[node] = place
        self.add_memory(place, node, cpus, self.memory, "DRAM" if self.has_types else "")
        if self.special:
            self.add_memory(place, self.node_count + node, cpus, *self.special)
        cache = self.add(place, "L3Cache", cpus, bits, cache_size=str(32 << 20), depth="3",
                         cache_linesize="64", cache_associativity="16", cache_type="0")
        for core in cores:
            parent = self.add(cache, "Core", cpus_of([core]), bits,
                              os_index=str(next(self.cores)))
            for cpu in core:
                self.add(parent, "PU", 1 << cpu, bits, os_index=str(cpu))

    def add_memory(self, parent, number, cpus, size, subtype):
        kind = {"subtype": subtype} if subtype else {}
        self.add(parent, "NUMANode", cpus, 1 << number, os_index=str(number), local_memory=str(size), **kind)

    # ---- Devices

    def bridge(self, near, bus):
        """The host bridge of a bus, e.g. "0000:41"."""
        if bus not in self.bridges:
            domain, number = bus.split(":")
            self.bridges[bus] = self.add(self.places[near], "Bridge", bridge_type="0-1", depth="0",
                                         bridge_pci=f"{domain}:[{number}-{number}]")
        return self.bridges[bus]

    def nic(self, pci, near, chip, net="", fabric="", mbits=0, state="", is_verbs=True):
        """A PCI device with its interface, its device of a fabric, or both. state: "" not known."""
        numbers = chip.split()[1]
        device = self.add(self.bridge(near, pci[:7]), "PCIDev", pci_busid=pci,
                          pci_type=f"{chip} {numbers} 00", pci_link_speed=f"{mbits / 8000:.6f}")
        if net:
            self.net(net, device, mbits, state)
        if fabric:
            self.fabric(fabric, device, mbits, state, is_verbs)
        return self

    def net(self, name, parent=None, mbits=0, state=""):
        """An interface; without a parent one that has no hardware, which hangs at the top."""
        number = next(self.numbers)
        device = self.add(self.top if parent is None else parent, "OSDev", name=name, osdev_type="2")
        self.tell(device, Address=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
                  HaulMbits=mbits, HaulState=state)
        return self

    def fabric(self, name, parent, mbits, state, is_verbs):
        number = next(self.numbers)
        device = self.add(parent, "OSDev", name=name, osdev_type="3")
        if is_verbs:
            port = {"up": "4", "down": "1", "": ""}[state]
            guid = f"0200:0000:0000:{number:04x}"
            self.tell(device, NodeGUID=guid, SysImageGUID=guid, Port1State=port, Port1LID=f"{number:#x}",
                      Port1LMC="0", HaulMbits=mbits)
        else:
            self.tell(device, HaulMbits=mbits, HaulState=state)

    @staticmethod
    def tell(device, **infos):
        for name, value in infos.items():
            if value:
                xml.SubElement(device, "info", name=name, value=str(value))

    def write(self, path):
        xml.indent(self.tree)
        with open(path, "wb") as file:
            file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n')
            xml.ElementTree(self.tree).write(file)
            file.write(b"\n")


MODELS = []


def model(function):
    MODELS.append(function)
    return function


# ---- Small machines ---------------------------------------------------------------------------------


@model
def laptop():
    """Intel Core i7-12800H: 6 fast cores with two CPUs each (0-11), 8 efficient ones (12-19); its
    cable is out, and Docker's bridge is there."""
    kinds = [("CoreType", "IntelAtom", mask((12, 19))), ("CoreType", "IntelCore", mask((0, 11)))]
    machine = Machine(hybrid(6, 8), memory=32 * GIB, kinds=kinds)
    machine.nic("0000:00:14.3", TOP, LAPTOP_WLAN, net="wlp0s20f3", state="up")
    machine.nic("0000:00:1f.6", TOP, LAPTOP_ETHERNET, net="enp0s31f6", mbits=1000, state="down")
    return machine.net("docker0", state="down")


@model
def arm_board():
    """Rockchip RK3588: four efficient Cortex-A55 (0-3) and four Cortex-A76 (4-7)."""
    kinds = [("LinuxCapacity", "530", mask((0, 3))), ("LinuxCapacity", "1024", mask((4, 7)))]
    machine = Machine(even(1, 8), memory=16 * GIB, kinds=kinds)
    return machine.nic("0004:41:00.0", TOP, "0200 [10ec:8125]", net="enP4p65s0", mbits=2500, state="up")


@model
def cloud_vm():
    """A small virtual machine of KVM: a virtio NIC, which tells no speed."""
    machine = Machine(even(1, 4, 2), memory=16 * GIB)
    return machine.nic("0000:00:05.0", TOP, VIRTIO, net="eth0", state="up")


@model
def vm_two_nodes():
    """A large virtual machine with two virtual nodes, whose NIC tells no node (numa_node is -1), so
    that hwloc hangs it at the top."""
    machine = Machine(even(2, 8), packages=2, memory=64 * GIB)
    return machine.nic("0000:00:05.0", TOP, VIRTIO, net="eth0", state="up")


@model
def container():
    """docker run --cpuset-cpus=2-5,18-19 on a server of two nodes (0-15 and 16-31): the memory of
    both is still allowed."""
    machine = Machine(even(2, 16), packages=2, allowed_cpus=mask((2, 5), (18, 19)))
    return machine.nic("0000:81:00.0", 1, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")


@model
def container_one_node():
    """The same with --cpuset-cpus=0-7 --cpuset-mems=0, away from the NIC."""
    machine = Machine(even(2, 16), packages=2, allowed_cpus=mask((0, 7)), allowed_nodes=1)
    return machine.nic("0000:81:00.0", 1, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")


@model
def pod():
    """A pod of Kubernetes with CPUs of its own, all of the second socket: the CPU manager allows it no
    others, while the memory of both sockets is allowed. An HCA on each."""
    machine = Machine(even(2, 16), packages=2, allowed_cpus=mask((24, 31)))
    machine.nic("0000:31:00.0", 0, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")
    return machine.nic("0000:b1:00.0", 1, CONNECTX6, "ib1", "mlx5_1", 200_000, "up")


@model
def no_io():
    """A server of two sockets whose hwloc was built without libpciaccess, or where /sys is hidden."""
    return Machine(even(2, 16), packages=2)


# ---- Servers ----------------------------------------------------------------------------------------


@model
def hca_on_node_1():
    """Dell PowerEdge R650: two Xeon Gold 6326 without hyperthreads, a ConnectX-6 in the riser of the
    second socket, and a NIC for management at the first."""
    machine = Machine(even(2, 16), packages=2)
    machine.nic("0000:04:00.0", 0, GIGABIT, net="eno1", mbits=1000, state="up")
    return machine.nic("0000:b1:00.0", 1, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")


@model
def favored_cores():
    """The same without management; a few cores of each socket (Intel's Speed Select) turn faster."""
    kinds = [("FrequencyMaxMHz", "3500", mask((4, 15), (20, 31))),
             ("FrequencyMaxMHz", "3800", mask((0, 3), (16, 19)))]
    machine = Machine(even(2, 16), packages=2, kinds=kinds)
    return machine.nic("0000:b1:00.0", 1, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")


@model
def hca_on_each():
    """Such a server with hyperthreads (0-15,32-47 and 16-31,48-63) and a ConnectX-6 at each socket."""
    machine = Machine(even(2, 16, 2), packages=2)
    machine.nic("0000:31:00.0", 0, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")
    return machine.nic("0000:b1:00.0", 1, CONNECTX6, "ib1", "mlx5_1", 200_000, "up")


@model
def epyc_nps1():
    """Two AMD EPYC 7763, one node for each socket: 0-63,128-191 and 64-127,192-255; the HCA of the
    second socket has twice the speed."""
    machine = Machine(even(2, 64, 2), packages=2)
    machine.nic("0000:21:00.0", 0, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")
    return machine.nic("0000:a1:00.0", 1, CONNECTX7, "ib1", "mlx5_1", 400_000, "up")


@model
def epyc_nps4():
    """Two AMD EPYC 7763 with four nodes for each socket and without SMT: node n has CPUs 16n to
    16n+15. HCAs on nodes 3 and 7."""
    machine = Machine(even(8, 16), packages=2, memory=64 * GIB)
    machine.nic("0000:01:00.0", 3, CONNECTX6, "ib0", "mlx5_0", 200_000, "up")
    return machine.nic("0000:81:00.0", 7, CONNECTX6, "ib1", "mlx5_1", 200_000, "up")


def build_xeon_max(subtype):
    machine = Machine(even(8, 14), packages=2, memory=64 * GIB, special=(16 * GIB, subtype))
    return machine.nic("0000:b8:00.0", 5, CONNECTX7, "ib0", "mlx5_0", 400_000, "up")


@model
def xeon_max():
    """Two Intel Xeon Max 9480 in SNC4 and flat mode: node n, 0 to 7, has CPUs 14n to 14n+13, and node
    8+n is the HBM beside it. An HCA on node 5."""
    return build_xeon_max("HBM")


@model
def xeon_max_untold():
    """The same from hwloc 2.9, which does not say which memory is of which kind."""
    return build_xeon_max("")


@model
def snc2():
    """Two Intel Xeon Platinum 8360Y in SNC2: two nodes for each socket (18n to 18n+17), while the
    firmware says of PCI only which socket it is at."""
    machine = Machine(even(4, 18), packages=2, memory=128 * GIB)
    return machine.nic("0000:b1:00.0", "package1", CONNECTX6, "ib0", "mlx5_0", 200_000, "up")


@model
def eight_sockets():
    """HPE Superdome Flex 280: eight Xeon Gold 6330H, node n with CPUs 24n to 24n+23; HCAs on two."""
    machine = Machine(even(8, 24), packages=8, memory=768 * GIB)
    machine.nic("0002:12:00.0", 2, CONNECTX6, "ib0", "mlx5_0", 100_000, "up")
    return machine.nic("0005:12:00.0", 5, CONNECTX6, "ib1", "mlx5_1", 100_000, "up")


@model
def dual_port():
    """A ConnectX-6 with two ports, which are two PCI functions; only the first has its cable."""
    machine = Machine(even(2, 16), packages=2)
    machine.nic("0000:b1:00.0", 1, CONNECTX6, "ib0", "mlx5_0", 100_000, "up")
    return machine.nic("0000:b1:00.1", 1, CONNECTX6, "ib1", "mlx5_1", 100_000, "down")


@model
def mixed_speeds():
    """A storage server with NICs of several generations, one of which does not tell its speed."""
    machine = Machine(even(2, 12), packages=2, memory=128 * GIB)
    machine.nic("0000:17:00.0", 0, GIGABIT, net="eth0", mbits=10_000, state="up")
    machine.nic("0000:18:00.0", 0, CONNECTX7_ETHERNET, net="eth1", mbits=25_000, state="up")
    machine.nic("0000:b1:00.0", 1, CONNECTX7_ETHERNET, net="eth2", mbits=50_000, state="up")
    return machine.nic("0000:b2:00.0", 1, CONNECTX7_ETHERNET, net="eth3", state="up")


@model
def untold_speeds():
    """A virtual machine with its NICs passed through: none tells its speed or its state."""
    machine = Machine(even(2, 12), packages=2, memory=128 * GIB)
    for number, (near, bus) in enumerate(((0, "17"), (1, "b1"), (1, "b2"))):
        machine.nic(f"0000:{bus}:00.0", near, CONNECTX7_ETHERNET, net=f"eth{number}")
    return machine


def build_cxl_memory(subtype):
    machine = Machine(even(2, 32), packages=2, cxl=(256 * GIB, subtype))
    machine.nic("0000:21:00.0", 0, CONNECTX7, "ib0", "mlx5_0", 400_000, "up")
    return machine.nic("0000:a1:00.0", 1, CONNECTX7, "ib1", "mlx5_1", 400_000, "up")


@model
def cxl_memory():
    """A server of two sockets, an HCA at each, with memory behind CXL: node 2, which has no CPUs. hwloc
    hangs it at the top, and so says that it is near to all CPUs, and to all devices."""
    return build_cxl_memory("CXL-DRAM")


@model
def cxl_memory_untold():
    """The same from hwloc 2.9, which does not say which memory is of which kind."""
    return build_cxl_memory("")


# ---- Supercomputers and clouds ------------------------------------------------------------------------


@model
def frontier():
    """A node of OLCF's Frontier, after its user guide: one EPYC 7A53 in NPS4 (node n: 16n to 16n+15 and
    64+16n to 64+16n+15) and four Slingshot NICs, whose numbers do not follow those of the nodes."""
    machine = Machine(even(4, 16, 2), memory=128 * GIB)
    for near, number, bus in ((0, 2, "d5"), (1, 1, "cd"), (2, 3, "dd"), (3, 0, "c5")):
        machine.nic(f"0000:{bus}:00.0", near, CASSINI, f"hsn{number}", f"cxi{number}", 200_000, "up", False)
    return machine


def build_ai_node(port_down=None):
    machine = Machine(even(2, 56, 2), packages=2, memory=1024 * GIB)
    machine.nic("0000:0b:00.0", 0, GIGABIT, net="eno3", mbits=1000, state="up")
    for number, bus in enumerate(("18", "40", "4f", "5e", "9a", "c0", "ce", "dc")):
        machine.nic(f"0000:{bus}:00.0", number // 4, CONNECTX7, f"ibp{int(bus, 16)}s0", f"mlx5_{number}",
                    400_000, "down" if number == port_down else "up")
    return machine


@model
def ai_node():
    """NVIDIA DGX H100, after its user guide: two Xeon 8480C (0-55,112-167 and 56-111,168-223), eight
    GPUs with a ConnectX-7 each, and a slow NIC for management."""
    return build_ai_node()


@model
def ai_node_port_down():
    """The same, one of whose ports lost its link."""
    return build_ai_node(2)


@model
def grace_grace():
    """NVIDIA Grace CPU Superchip: two nodes of 72 cores. Its PCI devices are in several domains."""
    machine = Machine(even(2, 72), packages=2, memory=240 * GIB)
    return machine.nic("0002:01:00.0", 0, CONNECTX7, "ib0", "mlx5_0", 400_000, "up")


def build_grace_hopper(near):
    machine = Machine(even(1, 72), memory=480 * GIB, special=(96 * GIB, "GPUMemory"))
    return machine.nic("0000:03:00.0", near, CONNECTX7, "ib0", "mlx5_0", 400_000, "up")


@model
def grace_hopper():
    """NVIDIA GH200: the CPU's memory is node 0 and the GPU's is node 1."""
    return build_grace_hopper("package0")


@model
def grace_hopper_at_top():
    """The same as hwloc records it: the NIC is near to all CPUs, and so hangs at the top."""
    return build_grace_hopper(TOP)


@model
def efa_p4d():
    """AWS p4d.24xlarge: two Xeon 8275CL (24 cores, two CPUs each) and four EFA devices, named after
    their bus and slot."""
    machine = Machine(even(2, 24, 2), packages=2, memory=576 * GIB)
    for near, bus in ((0, 16), (0, 32), (1, 144), (1, 160)):
        machine.nic(f"0000:{bus:02x}:1b.0", near, EFA, f"ens{bus}", f"rdmap{bus}s27", 100_000, "up")
    return machine


@model
def efa_p5():
    """AWS p5.48xlarge: two EPYC 7R13 (48 cores, two CPUs each) and 32 EFA devices, 16 at each; their
    bus numbers are made up."""
    machine = Machine(even(2, 48, 2), packages=2, memory=1024 * GIB)
    for number in range(32):
        bus = 64 + number
        machine.nic(f"0000:{bus:02x}:00.0", number // 16, EFA, fabric=f"rdmap{bus}s0", mbits=100_000,
                    state="up")
    return machine


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for function in MODELS:
        function().write(os.path.join(folder, function.__name__ + ".xml"))
    shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded"), folder, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
