#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building (level "build") or checking (level "test") haul needs.
set -euo pipefail

build_packages=(build-essential cmake ninja-build pkg-config libzmq3-dev libfabric-dev libhwloc-dev
    libjansson-dev libcmocka-dev python3 python3-numpy python3-zmq)
test_packages=(clang-14 clang-format-14 libclang-rt-14-dev llvm-14 shellcheck git python3-venv
    python3-dev openmpi-bin libopenmpi-dev ucx-utils libnng-dev
    qemu-system-x86 busybox-static cpio kmod iproute2 rdma-core ibverbs-providers ibverbs-utils rdmacm-utils
    perftest libfabric-bin)

usage() {
    cat <<END
Usage: scripts/install-deps.sh build|test
  build  what building and measuring haul needs: ${build_packages[*]}
  test   that, and what ./check needs: ${test_packages[*]}
Installs with apt-get what is missing, as root or through sudo. What is there is left alone.
END
}

say() {
    printf 'install-deps: %s\n' "$*"
}

installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo --non-interactive "$@"
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

case ${1:-} in
build) wanted=("${build_packages[@]}") ;;
test) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "this is no Debian system; install by hand what these packages hold: ${wanted[*]}" >&2
    exit 1
fi

missing=()
for package in "${wanted[@]}"; do
    installed "$package" || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
    say "nothing to do: all ${#wanted[@]} packages are installed"
    exit 0
fi

if [[ $EUID -ne 0 ]] && ! command -v sudo >/dev/null; then
    say "not root and no sudo; ask an administrator to run: apt-get install ${missing[*]}" >&2
    exit 1
fi
say "installing ${missing[*]}"
# Package lists may be absent or so old that their files are gone; only then are they fetched anew.
if ! apt_install "${missing[@]}"; then
    say "that failed; trying again with fresh package lists"
    as_root apt-get update
    apt_install "${missing[@]}"
fi
