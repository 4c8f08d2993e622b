#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Boots the Soft-RoCE guest, runs a script in it, and gives back its output and exit status.
#
#   run.sh [-N | -M MACHINE] [-b BUILD] [-t SECONDS] [-m MIB] [-l LOG] SCRIPT [FILE...]
#
#   -N          two NUMA nodes with two CPUs each, and a wire at each (inside/network-numa.sh)
#   -M MACHINE  QEMU's options for CPUs, nodes and further devices (default: -smp 2)
#   -b BUILD    the build folder of haul that goes into the guest (default: build/check/gcc)
#   -t SECONDS  longest run (default 600); QEMU itself is ended a minute later
#   -m MIB      memory of the guest (default 1536)
#   -l LOG      keeps what the guest's kernel said in this file
#
# SCRIPT is run by the guest's /bin/sh (dash) as root, after inside/lib.sh, with inside/network.sh's two "hosts" (or inside/network-numa.sh's):
# A=10.10.0.1 with the RDMA device a, B=10.10.0.2 with b. haul is in PATH, its test programs are in /haul/tests.
# Beside it are busybox, ip, tc, rdma, setpriv, ibv_devinfo, perftest's ib_read_bw, ib_read_lat and ib_write_bw,
# rping and fi_info. Each FILE is in /test, with the libraries that it needs.
#
# Kernel and archive are kept in BUILD/guest; the archive is packed anew where the build is newer. The machine is
# emulated also where there is KVM, so that it is the same everywhere; its timings say nothing about hardware.
#
# Exit: the script's status; 124: the time was over; 125: the guest died; 77: it cannot run here, and why.
set -euo pipefail

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
# shellcheck disable=SC1091 # (files.sh is checked by itself)
source "$here/files.sh"

build=$here/../../build/check/gcc limit=600 memory=1536 network=network log=
machine=(-smp 2)
while getopts NM:b:t:m:l: option; do
    case $option in
    M) read -ra machine <<<"$OPTARG" ;;
    N) network="network-numa" ;;
    b) build=$OPTARG ;;
    t) limit=$OPTARG ;;
    m) memory=$OPTARG ;;
    l) log=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
build=$(realpath "$build")
guest=$build/guest
PATH=$PATH:/usr/sbin:/sbin

for tool in qemu-system-x86_64 busybox cpio modprobe dash ip tc rdma setpriv ibv_devinfo ib_read_bw rping fi_info; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: $tool is not installed (scripts/install-deps.sh test)"
        exit 77
    fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

is_packed() {
    [[ -e $guest/archive ]] &&
        [[ -z $(find "$here" "$build"/{bin,lib,providers,tests} -newer "$guest/archive" -type f -print -quit) ]]
}

# The script and its files, as a second archive behind the one that is kept.
add_test() {
    local file
    mkdir -p "$scratch/root/test"
    cp "$1" "$scratch/root/test/script"
    shift
    for file in "$@"; do add_file "$scratch/root" "$file" "/test/$(basename "$file")"; done
    { cat "$guest/archive" && archive "$scratch/root"; } >"$scratch/initrd"
}

# A NIC of QEMU's, whose wire is a pair of Unix sockets: add_nic NUMBER NODE END OTHER-END
add_nic() {
    local name=$3$2 other=$4$2
    machine+=(-netdev "dgram,id=$name,local.type=unix,local.path=$scratch/$name,remote.type=unix,remote.path=$scratch/$other"
        -device "pcie-root-port,id=port-$name,bus=bridge$2,chassis=$((1 + $1)),slot=$1"
        -device "virtio-net-pci,netdev=$name,mac=52:54:00:00:0$2:0$3,bus=port-$name,romfile=")
}

# Each node has its half of the memory and CPUs, and a bridge that says that it is near it.
two_nodes() {
    local node
    machine=(-smp 4)
    for node in 0 1; do
        machine+=(-object "memory-backend-ram,id=memory$node,size=$((memory / 2))M"
            -numa "node,nodeid=$node,memdev=memory$node,cpus=$((node * 2))-$((node * 2 + 1))"
            -device "pxb-pcie,id=bridge$node,bus_nr=$((64 + node * 64)),numa_node=$node,bus=pcie.0")
        add_nic $((node * 2)) $node a b
        add_nic $((node * 2 + 1)) $node b a
    done
}

[[ $network == network ]] || two_nodes

# Becomes the emulator. (Without AVX, as on Nehalem, it is about twice as fast.)
boot() {
    exec timeout --kill-after 5 $((limit + 60)) qemu-system-x86_64 -machine q35,hpet=off -cpu Nehalem \
        -accel tcg,thread=multi "${machine[@]}" -m "$memory" -display none -nodefaults -no-reboot \
        -kernel "$(echo "$guest"/kernel/boot/vmlinuz-*)" -initrd "$scratch/initrd" \
        -append "console=ttyS0 loglevel=5 panic=-1 tsc=reliable mitigations=off random.trust_cpu=on guest.limit=$limit guest.network=$network" \
        -serial "file:$scratch/kernel" -serial "file:$scratch/output" -serial "file:$scratch/status" \
        >"$scratch/qemu" 2>&1
}

mkdir -p "$guest"
"$here/kernel.sh" "$guest/kernel"
is_packed || "$here/pack.sh" "$guest/kernel" "$build" "$guest/archive"
add_test "$@"
boot &
emulator=$!
trap 'kill "$emulator" 2>/dev/null || true; rm -rf "$scratch"' EXIT
wait "$emulator" || true

cat "$scratch/output"
cat "$scratch/qemu" >&2
[[ -z $log ]] || cp "$scratch/kernel" "$log"
status=$(tr -dc 0-9 <"$scratch/status")
if [[ -z $status ]]; then
    echo "the guest died; its kernel's last words:"
    tail -n 20 "$scratch/kernel"
    status=125
fi
exit "$status"
