# SPDX-License-Identifier: Apache-2.0
"""haul doctor: recorded machines, this machine, and ways to servers."""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import unittest

from support import ENVIRONMENT, FAILED, LIMIT_S, OK, USAGE, CommandTest, Gate

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
IB = "/sys/class/infiniband/mlx5_0"
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {files}                1048576              files
Max locked memory         {memlock}              unlimited            bytes
"""
# What a user of this machine may have set, and what these tests set themselves.
CLEAN = {name: "" for name in ENVIRONMENT if name.startswith(("FI_", "RDMAV_"))}
CLEAN["FI_MR_CACHE_MONITOR"] = "disabled"


def status(capabilities=0):
    return f"Name:\thaul\nCapEff:\t{capabilities:016x}\n"


def machine(**changes):
    """The files of a machine on which all is well, with a NIC for RoCE."""
    files = {
        "/proc/self/limits": LIMITS.format(files=65536, memlock="unlimited"),
        "/proc/self/status": status(),
        "/proc/self/cgroup": "0::/job\n",
        "/proc/sys/kernel/yama/ptrace_scope": "0\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/fs/cgroup/job/memory.max": "max\n",
        "/sys/class/net/lo/operstate": "unknown\n",
        "/sys/class/net/eth2/operstate": "up\n",
        "/sys/class/net/eth2/speed": "100000\n",
        "/sys/class/infiniband_verbs/uverbs0/ibdev": "mlx5_0\n",
        "/dev/infiniband/uverbs0": "",
        "/dev/infiniband/rdma_cm": "",
        **port(1),
        **gid(1, 0, "IB/RoCE v1", "fe80:0000:0000:0000:0202:c9ff:fe00:0001"),
        **gid(1, 1, "RoCE v2", "fe80:0000:0000:0000:0202:c9ff:fe00:0001"),
        **gid(1, 2, "IB/RoCE v1", "0000:0000:0000:0000:0000:ffff:0a00:0001"),
        **gid(1, 3, "RoCE v2", "0000:0000:0000:0000:0000:ffff:0a00:0001")}
    files.update(changes.get("files", {}))
    return {path: text for path, text in files.items()
            if not path.startswith(changes.get("without", "-"))}


def port(number, state="4: ACTIVE", physical="5: LinkUp", layer="Ethernet"):
    folder = f"{IB}/ports/{number}"
    return {folder + "/state": state + "\n", folder + "/phys_state": physical + "\n",
            folder + "/link_layer": layer + "\n", folder + "/rate": "100 Gb/sec (4X EDR)\n"}


def gid(number, index, kind, address):
    folder = f"{IB}/ports/{number}"
    return {f"{folder}/gids/{index}": address + "\n",
            f"{folder}/gid_attrs/types/{index}": kind + "\n",
            f"{folder}/gid_attrs/ndevs/{index}": "eth2\n"}


class DoctorTest(CommandTest):
    def doctor(self, *arguments, environment=None, **options):
        """Runs it; the process has .report, whose parts belong together."""
        process = self.run_haul("doctor", "--json", *arguments,
                                environment={**CLEAN, **(environment or {})}, **options)
        process.report = json.loads(process.out)
        bad = [f for f in process.report["findings"] if f["state"] in ("warning", "broken")]
        self.assertEqual(process.code, FAILED if bad else OK, process.out + process.err)
        self.assertEqual(process.report["well"], not bad)
        for finding in process.report["findings"]:
            self.assertTrue(finding["found"])
            if finding["state"] in ("warning", "broken"):
                self.assertTrue(finding["advice"], finding)
        return process

    def findings(self, process, area, state=None):
        return [f for f in process.report["findings"]
                if f["area"] == area and state in (None, f["state"])]

    def assert_found(self, process, area, state, found, advice=""):
        """There is such a finding, and it says this and what to do."""
        findings = self.findings(process, area, state)
        self.assertTrue(any(found in f["found"] and advice in (f["advice"] or "")
                            for f in findings), self.findings(process, area))


class Recorded(DoctorTest):
    """Machines that are files below a folder."""

    def look_at(self, files, **options):
        root = os.path.join(self.folder, "machine")
        for path, text in files.items():
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            with open(root + path, "w", encoding="ascii") as file:
                file.write(text)
        process = self.doctor("--sysroot", root, **options)
        subprocess.run(["rm", "-r", root], check=True)
        return process

    def test_all_is_well(self):
        process = self.look_at(machine())
        self.assertEqual([f for f in process.report["findings"] if f["state"] != "ok"], [])
        self.assertEqual(process.code, OK)
        self.assertIsNone(process.report["path"])
        self.assert_found(process, "rdma", "ok", "mlx5_0 port 1 is active: Ethernet, 100 Gb/sec")
        self.assert_found(process, "interface", "ok", "eth2 is up, 100 Gbit/s")

    def test_no_device(self):
        process = self.look_at(machine(without=("/sys/class/infiniband", "/dev")))
        self.assertEqual(process.code, OK)
        self.assert_found(process, "rdma", "note", "no RDMA device", "load its driver")

    def test_an_empty_machine(self):
        """Nothing can be read, as in a sandbox: that is told, and no reason to fail."""
        process = self.look_at({"/nothing": ""})
        self.assertEqual(process.code, OK)
        for area in ("memlock", "files"):
            self.assert_found(process, area, "note", "/proc/self/limits", "mount /proc")

    def test_port_down(self):
        down = machine(files=port(1, "1: DOWN", "3: Disabled"))
        process = self.look_at(down)
        self.assert_found(process, "rdma", "warning",
                          "mlx5_0 port 1 is not active: DOWN (Disabled)", "ip link set eth2 up")

    def test_one_of_two_ports_down(self):
        process = self.look_at(machine(files=port(2, "1: DOWN", "3: Disabled")))
        self.assertEqual(process.code, OK)
        self.assert_found(process, "rdma", "note", "port 2 is not active", "ip link set")

    def test_infiniband(self):
        for state, words in (("2: INIT", "opensm"), ("1: DOWN", "cable")):
            process = self.look_at(machine(files=port(1, state, "5: LinkUp", "InfiniBand")))
            self.assert_found(process, "rdma", "warning", "port 1 is not active", words)
        process = self.look_at(machine(files=port(1, layer="InfiniBand"),
                                       without=(IB + "/ports/1/gid",)))
        self.assertEqual(self.findings(process, "rdma", "warning"), [])

    def test_gids(self):
        """Neither RoCE v1 with an IPv4 address nor RoCE v2 without one will do."""
        process = self.look_at(machine(without=(IB + "/ports/1/gids/3",)))
        self.assert_found(process, "rdma", "warning",
                          "mlx5_0 port 1 has no GID of RoCE v2 with an IPv4 address",
                          "ip address add ADDRESS/BITS dev eth2")

    def test_chosen_gid(self):
        process = self.look_at(machine(), environment={"FI_VERBS_GID_IDX": "3"})
        self.assertNotIn("FI_VERBS_GID_IDX", process.out)
        for index in ("1", "2", "77"):
            process = self.look_at(machine(), environment={"FI_VERBS_GID_IDX": index})
            self.assert_found(process, "rdma", "note", "FI_VERBS_GID_IDX=" + index, "unset")

    def test_device_files(self):
        for path in ("/dev", "/dev/infiniband/rdma_cm", "/sys/class/infiniband_verbs"):
            process = self.look_at(machine(without=(path,)))
            self.assert_found(process, "rdma", "warning", "/dev/infiniband/uverbs*", "modprobe")

    def test_memlock(self):
        ipc_lock = 1 << 14
        small = LIMITS.format(files=65536, memlock=64 * KIB)
        cases = ((small, 0, "warning", "64.00 KiB"), (small, ipc_lock, "ok", "CAP_IPC_LOCK"),
                 (small, ~ipc_lock & (1 << 41) - 1, "warning", "64.00 KiB"),
                 (LIMITS.format(files=65536, memlock=GIB), 0, "ok", "1.00 GiB"),
                 (LIMITS.format(files=65536, memlock=GIB - 1), 0, "warning", "1024.00 MiB"))
        for limits, capabilities, state, words in cases:
            files = {"/proc/self/limits": limits, "/proc/self/status": status(capabilities)}
            process = self.look_at(machine(files=files),
                                   environment={"HAUL_POOL_MAX": str(512 * MIB)})
            self.assert_found(process, "memlock", state, words,
                              "* hard memlock unlimited" if state == "warning" else "")

    def test_open_files(self):
        for files, state in ((65536, "ok"), (1024, "note"), (64, "warning"), ("unlimited", "ok")):
            limits = LIMITS.format(files=files, memlock="unlimited")
            process = self.look_at(machine(files={"/proc/self/limits": limits}))
            self.assert_found(process, "files", state, "" if files == "unlimited" else str(files),
                              "" if state == "ok" else "ulimit -n")

    def test_huge_pages(self):
        file = "/sys/kernel/mm/transparent_hugepage/enabled"
        for text, state in (("[always] madvise never\n", "ok"),
                            ("always [madvise] never\n", "ok"),
                            ("always madvise [never]\n", "note")):
            process = self.look_at(machine(files={file: text}))
            self.assert_found(process, "hugepages", state, "huge pages",
                              "" if state == "ok" else "echo madvise > " + file)
        process = self.look_at(machine(without=(file,)))
        self.assert_found(process, "hugepages", "note", "no huge pages", "kernel")

    def test_reserved_huge_pages(self):
        file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
        require = {"HAUL_HUGEPAGES": "require"}
        for files in ({}, {file: "0\n"}):
            process = self.look_at(machine(files=files), environment=require)
            self.assert_found(process, "hugepages", "broken", "no reserved huge page", "vm.nr_hugepages")
        process = self.look_at(machine(files={file: "128\n"}), environment=require)
        self.assert_found(process, "hugepages", "ok", "128")

    def test_ptrace(self):
        for scope, words in ((1, "own children"), (2, "only root"), (3, "no process")):
            process = self.look_at(
                machine(files={"/proc/sys/kernel/yama/ptrace_scope": f"{scope}\n"}))
            self.assertEqual(process.code, OK)
            self.assert_found(process, "ptrace", "note", words, "sysctl kernel.yama.ptrace_scope=0")
        process = self.look_at(machine(without=("/proc/sys/kernel/yama",)))
        self.assert_found(process, "ptrace", "ok", "process_vm_readv")

    def test_cgroup(self):
        for limit, state in ((512 * MIB, "warning"), (1536 * MIB, "note"), (4 * GIB, "ok")):
            process = self.look_at(machine(files={"/sys/fs/cgroup/job/memory.max": f"{limit}\n"}),
                                   environment={"HAUL_POOL_MAX": str(GIB)})
            self.assert_found(process, "cgroup", state, "1.00 GiB",
                              "" if state == "ok" else "HAUL_POOL_MAX")
        v1 = machine(files={"/proc/self/cgroup": "4:memory:/job\n",
                            "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{512 * MIB}\n"})
        process = self.look_at(v1, environment={"HAUL_POOL_MAX": str(GIB)})
        self.assert_found(process, "cgroup", "warning", "512.00 MiB")
        v1["/sys/fs/cgroup/memory/job/memory.limit_in_bytes"] = "9223372036854771712\n"
        self.assert_found(self.look_at(v1), "cgroup", "ok", "no cgroup limits")

    def test_interfaces(self):
        files = {"/sys/class/net/eth1/operstate": "down\n", "/sys/class/net/eth1/device/vendor": "",
                 "/sys/class/net/ifb0/operstate": "down\n"}
        process = self.look_at(machine(files=files))
        self.assertEqual(process.code, OK)
        self.assert_found(process, "interface", "note", "eth1 is down", "ip link set eth1 up")
        self.assertNotIn("ifb0", process.out)

    def test_chosen_nic(self):
        if "ofi" not in self.run_haul("info").out:
            self.skipTest("no provider ofi, whose setting it is")
        down = {"/sys/class/net/eth1/operstate": "down\n"}
        for nic, words in (("eth7", "neither an interface nor"), ("eth1", "eth1 is down")):
            process = self.look_at(machine(files=down), environment={"HAUL_NIC": nic})
            self.assert_found(process, "interface", "broken", words, "HAUL_NIC" if nic == "eth7"
                              else "ip link set eth1 up")
        process = self.look_at(machine(files=down), environment={"HAUL_NIC": "mlx5_0,eth1,eth7"})
        self.assert_found(process, "interface", "broken", "eth7 is neither", "HAUL_NIC")
        self.assertIn("eth1 is down, and HAUL_NIC names it", process.out)
        for nic in ("eth2", "mlx5_0", "eth2,mlx5_0"):
            process = self.look_at(machine(), environment={"HAUL_NIC": nic})
            self.assertEqual(process.code, OK)

    def test_variables(self):
        hurt = {"FI_PROVIDER": "tcp", "FI_MR_CACHE_MONITOR": "memhooks", "FI_VERBS_USE_ODP": "1",
                "FI_LOG_LEVEL": "debug", "FI_OFI_RXM_USE_RNDV_WRITE": "yes"}
        process = self.look_at(machine(), environment=hurt)
        for name, value in hurt.items():
            findings = [f for f in self.findings(process, "environment")
                        if f["found"].startswith(f"{name}={value}: ") and f["advice"]]
            self.assertEqual(len(findings), 1, name)
        harmless = {"FI_VERBS_USE_ODP": "0", "FI_LOG_LEVEL": "warn"}
        process = self.look_at(machine(), environment=harmless)
        self.assert_found(process, "environment", "ok", "in the way")

    def test_registration_cache(self):
        """It is on by default, and nothing to tell of where there is no NIC."""
        default = {"FI_MR_CACHE_MONITOR": ""}
        process = self.look_at(machine(), environment=default)
        self.assert_found(process, "environment", "note", "registration cache",
                          "FI_MR_CACHE_MONITOR=disabled")
        for files, environment in ((machine(), {**default, "FI_MR_CACHE_MAX_COUNT": "0"}),
                                   (machine(without=("/sys/class/infiniband",)), default)):
            process = self.look_at(files, environment=environment)
            self.assert_found(process, "environment", "ok", "in the way")

    def test_variable_that_is_no_text(self):
        process = self.look_at(machine(), environment={"FI_PROVIDER": os.fsdecode(b"t\xff\x1bcp")})
        self.assert_found(process, "environment", "note", "FI_PROVIDER=t??cp: ")


class ThisMachine(DoctorTest):
    def test_report(self):
        process = self.doctor("--provider", "tcp")
        report = process.report
        self.assertRegex(report["version"], r"^\d+\.\d+\.\d+$")
        self.assertEqual((report["address"], report["path"], report["why"]), (None, "tcp", ""))
        self.assert_found(process, "provider", "ok", "tcp: ")
        for area in ("rdma", "memlock", "hugepages", "files", "cgroup", "ptrace", "path"):
            self.assertTrue(self.findings(process, area), area)

    def test_text(self):
        report = self.doctor("--provider", "tcp").report
        text = self.run_haul("doctor", "--provider", "tcp", environment=CLEAN)
        quiet = self.run_haul("doctor", "--provider", "tcp", "--quiet", environment=CLEAN)
        self.assertEqual(text.code, quiet.code)
        for finding in report["findings"]:
            bad = finding["state"] in ("warning", "broken")
            for part in (finding["found"], finding["advice"]):
                if part:
                    self.assertIn(part, text.out)
                    self.assertEqual(part in quiet.out, bad)
        self.assertRegex(text.out, r"\n\d+ broken, \d+ to look at \(warnings\), \d+ to know")

    def test_memlock(self):
        """A real limit of 64 KiB, which holds for a process without CAP_IPC_LOCK."""
        prefix = ["prlimit", f"--memlock={64 * KIB}:{64 * KIB}"]
        if os.geteuid() == 0:
            prefix += ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]
        process = self.doctor("--provider", "tcp", prefix=prefix)
        state = "warning" if os.path.isdir("/sys/class/infiniband") else "note"
        self.assert_found(process, "memlock", state, "only 64.00 KiB of memory may be locked",
                          "* hard memlock unlimited")

    def test_libfabric(self):
        process = self.doctor("--provider", "tcp")
        if not any(f["found"].startswith("ofi: ") for f in self.findings(process, "provider")):
            self.skipTest("no provider ofi")
        found = [f["found"] for f in self.findings(process, "ofi")]
        self.assertRegex(found[0], r"^libfabric \d+\.\d+")
        for kind in ("tcp", "shm"):
            self.assertTrue(any(re.match(kind + r"\b", text) for text in found), found)
        only = self.doctor("--provider", "tcp", environment={"FI_PROVIDER": "shm"})
        self.assertFalse(any(f["found"].startswith("tcp") for f in self.findings(only, "ofi")))

    def test_unsound_tcp_of_libfabric(self):
        process = self.doctor("--provider", "tcp")
        found = [f["found"] for f in self.findings(process, "ofi")]
        if not found or tuple(map(int, re.match(r"libfabric (\d+)\.(\d+)", found[0]).groups())) >= (1, 18):
            return
        self.assert_found(process, "ofi", "note", "tcp is not used: it crashes", "")
        process = self.doctor("--provider", "ofi:tcp")
        self.assert_found(process, "path", "broken", "usable from 1.18 on: use ")

    def test_plugin_that_does_not_load(self):
        with open(self.path("haul_broken.so"), "w", encoding="ascii") as file:
            file.write("no plugin")
        process = self.doctor(environment={"HAUL_PROVIDER_PATH": self.folder})
        self.assert_found(process, "provider", "warning", "broken cannot be used", "install")

    def test_settings(self):
        process = self.doctor("--provider", "nowhere")
        self.assert_found(process, "path", "broken", 'there is no provider "nowhere"', "auto")
        self.assertIsNone(process.report["path"])
        process = self.doctor("--provider", "tcp", environment={"HAUL_POOLMAX": "1"})
        self.assert_found(process, "path", "warning", "did you mean HAUL_POOL_MAX?")
        process = self.run_haul("doctor", environment={"HAUL_CREDITS": "many"})
        self.assert_code(process, USAGE, "HAUL_CREDITS")

    def test_kind_that_does_not_exist(self):
        if "ofi" not in self.run_haul("info").out:
            self.skipTest("no provider ofi, whose setting it is")
        process = self.doctor("--provider", "auto", environment={"HAUL_OFI_AUTO": "net,nett"})
        self.assert_found(process, "path", "broken", 'HAUL_OFI_AUTO names "nett"', "")
        process = self.run_haul("recv", "127.0.0.1:0", "--out", self.out,
                                environment={"HAUL_OFI_AUTO": ","})
        self.assert_code(process, USAGE, 'HAUL_OFI_AUTO names ""')


class OtherAddresses(Gate):
    """On the way the addresses of the first so many kinds of path that the client offers become ones
    that `replace` makes of their head: version (2), rails (1), bytes, libfabric's version."""

    def __init__(self, address, version, kinds, replace):
        self.libfabric = version[0] << 16 | version[1]
        self.kinds_left = kinds
        self.replace = replace
        super().__init__(address, 1 << 60)

    def change(self, data):
        if self.kinds_left == 0:
            return data
        head = re.compile(rb"\x02\x01(..)" + re.escape(struct.pack("<I", self.libfabric)), re.DOTALL)
        changed, count = head.subn(lambda match: self.replace(match[1]), data, self.kinds_left)
        self.kinds_left -= count
        return changed


class Servers(DoctorTest):
    def need(self, provider):
        known = re.findall(r"^  (\S+) ", self.run_haul("info").out, re.MULTILINE)
        if provider.split(":")[0] not in ["auto", *known]:
            self.skipTest("no provider " + provider)

    def serve(self, provider):
        self.need(provider)
        return self.receive("--provider", provider, "--count", "0").address

    def ask(self, address, provider, timeout_s=LIMIT_S, **options):
        self.need(provider)
        return self.doctor(address, "--provider", provider, "--timeout", timeout_s, **options)

    def test_tcp(self):
        address = self.serve("tcp")
        process = self.ask(address, "tcp")
        self.assertEqual((process.report["address"], process.report["path"]), (address, "tcp"))
        self.assert_found(process, "path", "note", f"to {address}: tcp, ", "HAUL_PROVIDER=auto")

    def test_unix_socket(self):
        address = "unix:" + self.path("socket")
        receiver = self.start("recv", address, "--out", self.out, "--json", "--count", "0")
        receiver.line()
        self.assertEqual(self.ask(address, "tcp").report["path"], "tcp")

    def kind_over_sockets(self):
        """The one of libfabric's that is sound: net until 1.17, tcp since."""
        self.need("ofi")
        found = [f["found"] for f in self.findings(self.doctor("--provider", "tcp"), "ofi")]
        return "net" if any(re.match(r"net\b", text) for text in found) else "tcp"

    def test_ofi(self):
        kind = self.kind_over_sockets()
        process = self.ask(self.serve("ofi:" + kind), "ofi:" + kind)
        self.assertEqual(process.report["path"], "tcp+ofi:" + kind)
        self.assert_found(process, "path", "ok", "tcp+ofi:" + kind)

    def test_no_common_path(self):
        process = self.ask(self.serve("tcp"), "ofi:" + self.kind_over_sockets())
        self.assert_found(process, "path", "broken", "shares no rma provider", "HAUL_PROVIDER")
        self.assertIsNone(process.report["path"])

    def test_server_without_the_better_path(self):
        """With auto the connection is there, and the reason is told once."""
        process = self.ask(self.serve("tcp"), "auto",
                           environment={"HAUL_OFI_AUTO": self.kind_over_sockets()})
        self.assertEqual(process.report["path"], "tcp")
        self.assert_found(process, "path", "warning", "shares no rma provider", "haul doctor there")
        self.assertEqual(process.out.count("shares no rma provider"), 2)  # once more as "why"

    def ask_with(self, replace, kinds):
        """With auto, and two kinds of path of which the server gets so many with replaced heads."""
        both = {"HAUL_OFI_AUTO": self.kind_over_sockets() + ",shm", "HAUL_SHM": "off"}
        server = self.receive("--provider", "auto", "--count", "0", environment=both)
        gate = OtherAddresses(server.address, self.version(), kinds, replace)
        self.addCleanup(gate.close)
        try:
            process = self.ask(gate.address, "auto", environment=both)
        finally:
            server.process.terminate()  # (killed, libfabric's shm would leave its file behind)
            ended = server.finish()
        self.assertEqual(ended, 128 + signal.SIGTERM)
        self.assertEqual(gate.kinds_left, 0)
        return process

    def version(self):
        found = self.findings(self.doctor("--provider", "tcp"), "ofi")[0]["found"]
        return tuple(map(int, re.match(r"libfabric (\d+)\.(\d+)", found).groups()))

    def test_versions_of_libfabric(self):
        """Both are told, and whose is which. The kind is refused, and the next one taken."""
        other = lambda count: b"\2\1" + count + struct.pack("<I", 2 << 16 | 1)
        process = self.ask_with(other, 1)
        self.assertEqual(process.report["path"], "tcp+ofi:shm")
        self.assertEqual(process.report["why"],
                         "the server says: ofi:{0}: libfabric is {1}.{2} here and 2.1 there: {0} needs "
                         "the same version on both sides".format(self.kind_over_sockets(),
                                                                 *self.version()))
        self.assert_found(process, "path", "warning", process.report["why"], "doctor there, too")

    def test_all_reasons(self):
        strange = lambda count: b"\3\1" + count + bytes(4)
        process = self.ask_with(strange, 2)
        self.assertEqual(process.report["path"], "tcp")
        self.assert_found(process, "path", "warning", "the server says: ofi:%s: its address is not "
                          "understood; ofi:shm: its address is not understood"
                          % self.kind_over_sockets())

    def test_nobody_there(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # and does not listen
            address = "127.0.0.1:%d" % free.getsockname()[1]
            process = self.doctor(address, "--provider", "tcp", "--timeout", "5")
        self.assert_found(process, "path", "broken", "connection refused", "start the server")
        process = self.doctor("nowhere.invalid:1", "--provider", "tcp")
        self.assert_found(process, "path", "broken", "nowhere.invalid", "correct the address")

    def test_other_provider(self):
        for here, there in (("zmq", "tcp"), ("tcp", "zmq")):
            address = self.serve(there)
            process = self.ask(address, here, timeout_s=5)
            self.assert_found(process, "path", "broken", address,
                              "give both sides the same HAUL_PROVIDER")

    def test_zeromq_speaks_first(self):
        """libzmq greets unless it has read, and refused, what we say before: here it greets."""
        with socket.create_server(("127.0.0.1", 0)) as zeromq:
            process = self.start("doctor", "--json", "127.0.0.1:%d" % zeromq.getsockname()[1],
                                 "--provider", "tcp", "--timeout", LIMIT_S)
            zeromq.settimeout(LIMIT_S)
            with zeromq.accept()[0] as connection:
                connection.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f")
                self.assertEqual(process.finish(), FAILED)
        self.assertIn("looks like a ZeroMQ greeting", process.out)

    def test_interrupted(self):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            mute.settimeout(LIMIT_S)
            process = self.start("doctor", "127.0.0.1:%d" % mute.getsockname()[1], "--provider",
                                 "tcp", "--timeout", LIMIT_S - 10)
            mute.accept()[0].close()
            process.process.send_signal(signal.SIGINT)
            self.assertEqual(process.finish(), 128 + signal.SIGINT)
            self.assertEqual(process.out, "")


if __name__ == "__main__":
    unittest.main()
