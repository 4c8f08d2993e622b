# shellcheck shell=sh disable=SC1091
# SPDX-License-Identifier: Apache-2.0
# In the guest with two NUMA nodes: haul's thread runs on the CPUs of the NIC's node and its memory lies there, wherever
# the process was started; and not when it is told to leave both alone.
. /test/place.sh

haul info >info.out || fail "haul info"
for nic in va0 vb0 va1 vb1; do
    grep -q "$nic" info.out || fail "haul info does not know $nic"
done

# The NIC's node, whether the process was started there or not: never on the CPUs that it was bound to.
place ofi:verbs 0 b1 a1 10.10.1.2 auto 2-3 1
place ofi:verbs 1 b0 a0 10.10.0.2 auto 0-1 0
# (All CPUs of the node are those that the process is bound to: then these.)
place ofi:verbs 1 b1 a1 10.10.1.2 auto 2-3 1
# Told otherwise, and told to leave all alone.
place ofi:verbs 0 b0 a0 10.10.0.2 numa:1 2-3 1
place ofi:verbs 0 b1 a1 10.10.1.2 none 0-1 0
