#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Records the machines in recorded/: boots a guest of each shape and keeps what hwloc's lstopo writes in it.
#
#   record.sh [-b BUILD] [NAME...]
#
# BUILD is a build folder of haul, as for tests/guest/run.sh. It takes lstopo-no-graphics (Debian: hwloc-nox), which no
# test needs: recorded machines are kept in the repository.
set -euo pipefail

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
build=$here/../../build/check/gcc
if [[ ${1:-} == -b ]]; then
    build=$2
    shift 2
fi
wanted=" $* "

# nodes COUNT CPUS: that many NUMA nodes with so many CPUs each.
nodes() {
    local node
    for ((node = 0; node < $1; node++)); do
        memory "$node"
        machine+=" -numa node,nodeid=$node,memdev=memory$node,cpus=$((node * $2))-$((node * $2 + $2 - 1))"
    done
}

memory() { # NODE
    machine+=" -object memory-backend-ram,id=memory$1,size=256M"
}

# bridge NODE: a PCI bridge that is near it.
bridge() {
    machine+=" -device pxb-pcie,id=bridge$1,bus_nr=$((32 + $1 * 24)),numa_node=$1,bus=pcie.0"
}

# nic NUMBER [NODE]: a NIC behind the node's bridge, or at the machine's own bus.
nic() {
    local bus=pcie.0
    machine+=" -netdev hubport,id=net$1,hubid=$1"
    if [[ -n ${2:-} ]]; then
        bus=port$1
        machine+=" -device pcie-root-port,id=$bus,bus=bridge$2,chassis=$((1 + $1)),slot=$1"
    fi
    machine+=" -device virtio-net-pci,netdev=net$1,bus=$bus,romfile="
}

# record NAME MIB: boots $machine and keeps what it is.
record() {
    if [[ $wanted == "  " || $wanted == *" $1 "* ]]; then
        echo "$1"
        "$here/../guest/run.sh" -M "$machine" -b "$build" -m "$2" "$scratch/script" "$(type -P lstopo-no-graphics)" \
            >"$scratch/output"
        tr -d '\r' <"$scratch/output" | sed -n '/^<?xml/,/^<\/topology>/p' >"$scratch/xml"
        grep -q '</topology>' "$scratch/xml" || { cat "$scratch/output"; exit 1; }
        mv "$scratch/xml" "$here/recorded/$1.xml"
    fi
    machine=
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# (What differs between two recordings of one shape is left out.)
echo '/test/lstopo-no-graphics --no-caches --of xml | grep -v -E "name=.(HostName|ProcessName|OSVersion|Address)."' \
    >"$scratch/script"
mkdir -p "$here/recorded"
machine=

machine="-smp 2"
nic 0
record one_node 512

machine="-smp 4,sockets=2,cores=2"
nodes 2 2
bridge 0 && bridge 1
nic 0 0 && nic 1 1
record nic_on_each_node 512

machine="-smp 4,sockets=2,cores=2"
nodes 2 2
bridge 1
nic 0 1
record nic_on_second_node 512

machine="-smp 4,sockets=2,cores=2"
nodes 2 2
nic 0
record nic_at_no_node 512

machine="-smp 8,sockets=2,cores=4"
nodes 4 2
bridge 1 && bridge 3
nic 0 1 && nic 1 3
record two_sockets_of_two_nodes 1024

machine="-smp 8,sockets=2,cores=2,threads=2"
nodes 2 4
bridge 0
nic 0 0 && nic 1 0
record threads_and_two_nics 512

machine="-smp 8,sockets=8"
nodes 8 1
for node in 0 1 2 3 4 5 6 7; do bridge $node && nic $node $node; done
record nic_on_each_of_eight 2048

machine="-smp 2,sockets=2"
nodes 2 1
memory 2
machine+=" -numa node,nodeid=2,memdev=memory2"
bridge 0
nic 0 0
record memory_without_cpus 768
