# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by init in the guest with two NUMA nodes (run.sh -N): two "hosts" with a wire at each node. At node I host A
# is 10.10.I.1 on the interface vaI with the RDMA device aI, host B is 10.10.I.2 on vbI with bI. The interfaces are PCI
# devices behind a bridge of that node, and found by their MAC addresses, because their order is the kernel's.
# shellcheck disable=SC1091 # (it is checked by itself)
. /etc/wires.sh

name_interface() { # MAC NAME
    for place in /sys/class/net/*; do
        [ "$(cat "$place/address")" = "$1" ] && ip link set "${place##*/}" name "$2"
    done
}

begin_network
for node in 0 1; do
    name_interface 52:54:00:00:0$node:0a va$node
    name_interface 52:54:00:00:0$node:0b vb$node
    end_of_wire va$node 10.10.$node.1 a$node $((1 << node * 2))
    end_of_wire vb$node 10.10.$node.2 b$node $((2 << node * 2))
done
end_network
for node in 0 1; do
    over_the_wire va$node 10.10.$node.1 10.10.$node.2 10${node}1
    over_the_wire vb$node 10.10.$node.2 10.10.$node.1 10${node}2
done
