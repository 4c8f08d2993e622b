#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packs the guest's file system: a small Debian with kernel modules, tools of RDMA, and a built tree of haul.
#
#   pack.sh KERNEL BUILD OUT    KERNEL: kernel.sh's folder; BUILD: a build folder of haul; OUT: the archive
#
# In the guest BUILD's bin, lib, providers and test programs are in /haul.
set -euo pipefail

# shellcheck disable=SC1091 # (files.sh is checked by itself)
source "$(dirname "${BASH_SOURCE[0]}")/files.sh"
here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
kernel=$(realpath "$1") build=$(realpath "$2") out=$3
PATH=$PATH:/usr/sbin:/sbin

# What tests may use, beside busybox.
readonly tools=(ip tc rdma setpriv ibv_devices ibv_devinfo ib_read_bw ib_read_lat ib_write_bw rping fi_info)
readonly modules=(virtio_pci virtio_net rdma_rxe rdma_ucm ib_uverbs veth sch_netem sch_prio cls_u32 crc32_generic)
readonly libraries=/usr/lib/x86_64-linux-gnu

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root" # ordinary users of the guest pass through it

add_program() {
    add_file "$root" "$(readlink -f "$(type -P "$1")")" "/usr/bin/$1"
}

# (dash, because busybox's shell would run its own ip and tc.)
add_shell() {
    local name
    mkdir -p "$root/bin"
    cp "$(type -P busybox)" "$root/bin/busybox"
    while read -r name; do ln -s busybox "$root/bin/$name"; done < <(busybox --list | grep -vx busybox)
    rm -f "$root"/bin/{sh,ash,ip,tc,setpriv}
    add_file "$root" "$(type -P dash)" /bin/sh
}

add_rdma() {
    local file
    for file in "$libraries"/libibverbs/librxe-rdmav*.so; do add_file "$root" "$file"; done
    mkdir -p "$root/etc/libibverbs.d"
    cp /etc/libibverbs.d/rxe.driver "$root/etc/libibverbs.d/"
    # What tc reads its distributions from, and what glibc loads by name when a thread ends.
    add_file "$root" /lib/x86_64-linux-gnu/libgcc_s.so.1
}

# Without these verbs looks for "localhost" in vain, and tells of no endpoint.
add_names() {
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
    printf '%s: files\n' hosts services protocols passwd group >"$root/etc/nsswitch.conf"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
}

# In the order in which they must be loaded; what is built into the kernel has no file.
add_modules() {
    local version name file
    version=$(basename "$kernel"/lib/modules/*)
    mkdir "$root/modules"
    for name in "${modules[@]}"; do
        modprobe -d "$kernel" -S "$version" --show-depends "$name" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r file; do
        cp "$file" "$root/modules/"
        echo "/modules/$(basename "$file")" >>"$root/modules/list"
    done
}

add_haul() {
    local file
    while read -r file; do
        add_file "$root" "$build/$file" "/haul/$file"
    done < <(cd "$build" && find bin lib providers tests/conformance_* tests/failure_program_* \
        -type f ! -path '*/CMakeFiles/*' ! -name '*.a')
    ln -s "$(basename "$root"/haul/lib/libhaul.so.*)" "$root/haul/lib/libhaul.so.0"
}

mkdir -p "$root"/{dev,etc,proc,root,run,sbin,sys,tmp}
add_shell
for tool in "${tools[@]}"; do add_program "$tool"; done
add_rdma
add_names
add_modules
add_haul
install -m 755 "$here/inside/init" "$root/init"
cp "$here"/inside/*.sh "$root/etc/"
archive "$root" >"$out.new"
mv "$out.new" "$out"
