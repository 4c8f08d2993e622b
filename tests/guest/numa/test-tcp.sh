# shellcheck shell=sh disable=SC1091,SC2034
# SPDX-License-Identifier: Apache-2.0
# In the guest with two NUMA nodes: without rma the first connection says which NIC it is. A connection within the host
# would not, so host A's interfaces go to a network namespace of their own, without their RDMA devices. (They come back
# with its end, without their addresses: this test is the last.)
. /test/place.sh

is_apart() { [ "$(readlink /proc/$apart/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }

unshare -n sleep 100000 &
apart=$!
wait_for is_apart
for node in 0 1; do
    ip link set va$node netns $apart || fail "va$node cannot move"
    nsenter -t $apart -n ip addr add 10.10.$node.1/24 dev va$node
    nsenter -t $apart -n ip link set va$node mtu 4400 up
done
CLIENT_IN="nsenter -t $apart -n"

place tcp 0 "" "" 10.10.1.2 auto 2-3 1
place tcp 1 "" "" 10.10.0.2 auto 0-1 0
place tcp 0 "" "" 10.10.1.2 none 0-1 0

kill $apart
