/* SPDX-License-Identifier: Apache-2.0
 * Memory and CPU limits, read from made-up cgroup trees. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "one_cpu.h"
#include "tree.h"

#define MIB (UINT64_C(1) << 20)

static char root[TREE_ROOT_BYTES];

static int make_root(void **state)
{
    (void)state;
    return tree_make(root);
}

static int remove_root(void **state)
{
    (void)state;
    return tree_remove(root);
}

static void put(const char *path, const char *line)
{
    tree_put(root, path, line);
}

static void nothing_limits_without_cgroups(void **state)
{
    (void)state;
    assert_int_equal(haul_cgroup_memory_bytes(root), UINT64_MAX);
    assert_int_equal(haul_cgroup_cpus(root), UINT64_MAX);
    put("proc/self/cgroup", "0::/");
    assert_int_equal(haul_cgroup_memory_bytes(root), UINT64_MAX);
    assert_int_equal(haul_cgroup_cpus(root), UINT64_MAX);
}

static void v2_takes_the_smallest_up_to_the_root(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/user.slice/job/step");
    put("sys/fs/cgroup/user.slice/job/step/memory.max", "max");
    put("sys/fs/cgroup/user.slice/job/memory.max", "67108864");
    put("sys/fs/cgroup/user.slice/memory.max", "134217728");
    put("sys/fs/cgroup/user.slice/job/step/cpu.max", "max 100000");
    put("sys/fs/cgroup/user.slice/job/cpu.max", "400000 100000");
    put("sys/fs/cgroup/user.slice/cpu.max", "250000 100000");
    assert_int_equal(haul_cgroup_memory_bytes(root), 64 * MIB);
    assert_int_equal(haul_cgroup_cpus(root), 3);
}

static void v2_in_a_container_has_limits_at_its_root(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/kubepods/pod1/container1");
    put("sys/fs/cgroup/memory.max", "33554432");
    put("sys/fs/cgroup/cpu.max", "20000 100000");
    assert_int_equal(haul_cgroup_memory_bytes(root), 32 * MIB);
    assert_int_equal(haul_cgroup_cpus(root), 1);
}

static void v2_may_be_beside_v1(void **state)
{
    (void)state;
    put("proc/self/cgroup", "1:name=systemd:/x\n0::/x");
    put("sys/fs/cgroup/unified/x/memory.max", "1048576");
    assert_int_equal(haul_cgroup_memory_bytes(root), MIB);
}

static void v1_takes_the_smallest_up_to_the_root(void **state)
{
    (void)state;
    put("proc/self/cgroup", "9:name=systemd:/\n"
                            "4:memory:/slurm/uid_1/job_2\n"
                            "3:cpuset:/elsewhere\n"
                            "2:cpu,cpuacct:/slurm/uid_1");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
    put("sys/fs/cgroup/memory/slurm/uid_1/memory.limit_in_bytes", "8388608");
    put("sys/fs/cgroup/memory/slurm/uid_1/job_2/memory.limit_in_bytes", "16777216");
    put("sys/fs/cgroup/cpu/slurm/uid_1/cpu.cfs_quota_us", "-1");
    put("sys/fs/cgroup/cpu/slurm/uid_1/cpu.cfs_period_us", "100000");
    put("sys/fs/cgroup/cpu/slurm/cpu.cfs_quota_us", "150000");
    put("sys/fs/cgroup/cpu/slurm/cpu.cfs_period_us", "100000");
    assert_int_equal(haul_cgroup_memory_bytes(root), 8 * MIB);
    assert_int_equal(haul_cgroup_cpus(root), 2);
}

static void v1_controllers_are_whole_words(void **state)
{
    (void)state;
    put("proc/self/cgroup", "3:cpuset,cpuacct:/x");
    put("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000");
    put("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000");
    assert_int_equal(haul_cgroup_cpus(root), UINT64_MAX);
    put("proc/self/cgroup", "3:cpuacct,cpu:/x");
    assert_int_equal(haul_cgroup_cpus(root), 1);
}

static void nonsense_does_not_limit(void **state)
{
    (void)state;
    put("proc/self/cgroup", "nonsense\n:\n::\n0:\n4:memory\n0::/a");
    put("sys/fs/cgroup/a/memory.max", "lots");
    put("sys/fs/cgroup/a/cpu.max", "100000 0");
    assert_int_equal(haul_cgroup_memory_bytes(root), UINT64_MAX);
    assert_int_equal(haul_cgroup_cpus(root), UINT64_MAX);
}

static void this_process_has_limits(void **state)
{
    (void)state;
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_in_range(haul_memory_limit_bytes(), 1, machine);
    assert_in_range(haul_cpu_limit(), 1, (unsigned long)sysconf(_SC_NPROCESSORS_CONF));
}

static void affinity_limits_cpus(void **state)
{
    (void)state;
    cpu_set_t before = use_one_cpu();
    unsigned limit = haul_cpu_limit();
    use_cpus(&before);
    assert_int_equal(limit, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_limits_without_cgroups, make_root, remove_root),
        cmocka_unit_test_setup_teardown(v2_takes_the_smallest_up_to_the_root, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(v2_in_a_container_has_limits_at_its_root, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(v2_may_be_beside_v1, make_root, remove_root),
        cmocka_unit_test_setup_teardown(v1_takes_the_smallest_up_to_the_root, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(v1_controllers_are_whole_words, make_root, remove_root),
        cmocka_unit_test_setup_teardown(nonsense_does_not_limit, make_root, remove_root),
        cmocka_unit_test(this_process_has_limits),
        cmocka_unit_test(affinity_limits_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
