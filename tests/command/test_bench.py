# SPDX-License-Identifier: Apache-2.0
"""The halves of a run on two hosts; the baseline that reads with libfabric alone."""
import json
import os
import subprocess
import unittest

from support import ENVIRONMENT, HAUL, LIMIT_S, OK, TIED, USAGE, CommandTest

BASELINE = os.path.join(os.path.dirname(os.path.dirname(HAUL)), "lib", "haul", "bench", "fabric")


def bench(*arguments, **settings):
    return subprocess.run([*TIED, HAUL, "bench", "--json", "-", "--duration", "0.2", "--warmup", "0.1",
                           *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT_S, env={**ENVIRONMENT, **settings}, check=False)


class Halves(CommandTest):
    def test_each_counts_and_names_the_path(self):
        work = ("--provider", "tcp", "--clients", 2, "--workload", "x:u8[4096]", "--duration", 0.2, "--warmup", 0.1,
                "--json", "-")
        address = "unix:" + self.path("bench.sock")
        for half in [self.start("bench", half, address, *work) for half in ("--listen", "--connect")]:
            self.assertEqual(half.finish(), OK, half.err)
            (result,) = json.loads(half.out)["results"]
            self.assertEqual(result["path"], "tcp")
            self.assertGreater(result["messages"], 0)


@unittest.skipUnless(os.access(BASELINE, os.X_OK), "built without libfabric")
class Fabric(unittest.TestCase):
    def rows(self, *arguments):
        run = bench("--peers=fabric", *arguments)
        self.assertEqual(run.returncode, OK, run.stderr)
        report = json.loads(run.stdout)
        self.err = run.stderr
        self.assertEqual({row["provider"] for row in report["peers"]}, {"libfabric"})
        return report["peers"]

    def test_reads_beside_each_kind(self):
        rows = self.rows("--provider", "ofi:net,ofi:shm", "--clients", "3", "--workload",
                         "x:u8[9000001],y:f64[0],z:u8[3]")
        for row in rows:
            self.assertNotIn("reason", row, self.err)
        self.assertEqual([row["path"].split(";")[0] for row in rows], ["net", "shm"])
        for row in rows:
            self.assertGreater(row["messages"], 0)
            self.assertGreater(row["latency_us"]["p50"], 0)

    def test_rails(self):
        run = bench("--peers=none", "--provider", "ofi:net,tcp", "--clients", "2", "--workload", "x:u8[9000001]",
                    HAUL_RAILS="2")
        self.assertEqual(run.returncode, OK, run.stderr)
        by_ofi, by_tcp = json.loads(run.stdout)["results"]
        self.assertEqual([rail["usable"] for rail in by_ofi["rails"]], [True, True])
        for rail in by_ofi["rails"]:
            self.assertGreater(rail["bytes"], 0)
        self.assertGreaterEqual(sum(rail["bytes"] for rail in by_ofi["rails"]), by_ofi["bytes"])
        self.assertEqual(by_tcp["rails"], [])

    def test_without_a_kind(self):
        (row,) = self.rows("--provider", "tcp", "--clients", "1", "--workload", "x:u8[4096]")
        self.assertIn("ofi:<kind>", row["reason"])

    def test_unknown_baseline(self):
        run = bench("--peers=fabrics")
        self.assertEqual(run.returncode, USAGE)
        self.assertIn("fabric and none", run.stderr)


if __name__ == "__main__":
    unittest.main()
