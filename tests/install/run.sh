#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs a build into a prefix, moves the prefix, and uses it there as a stranger would: through
# pkg-config and CMake, from C and C++, with nothing of the build in the environment.
# Usage: tests/install/run.sh BUILD_FOLDER
set -euo pipefail

build=$(realpath "$1")
consumer=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
source_root=$(realpath "$consumer/../..")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

clean() {
    env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$scratch" TMPDIR="$scratch" LC_ALL=C.UTF-8 "$@"
}

run_consumer() {
    local program=$1 plugin provider
    echo "- $program"
    clean "$program"
    # Plugins are found from where the library is.
    for plugin in "$libdir"/haul/haul_*.so; do
        provider=$(basename "$plugin" .so)
        echo "- $program with HAUL_PROVIDER=${provider#haul_}"
        clean HAUL_PROVIDER="${provider#haul_}" "$program"
    done
}

echo "== install, and move the prefix"
cmake --install "$build" --prefix "$scratch/installed" --strip >"$scratch/install.log"
prefix=$scratch/moved
mv "$scratch/installed" "$prefix"
libdir=$(dirname "$(find "$prefix" -name libhaul.so.0)")

echo "== no path of this source or build tree in what was installed"
if grep -rlF -e "$source_root" -e "$build" -e "$scratch/installed" "$prefix"; then
    echo "these files name it" >&2
    exit 1
fi

echo "== the command"
clean "$prefix/bin/haul" --version
clean "$prefix/bin/haul" info

echo "== pkg-config"
# Tools of a newer user-wide installation may come first in the caller's PATH; here it is the system's.
export PKG_CONFIG_PATH=$libdir/pkgconfig
read -ra flags < <(pkg-config --cflags --libs haul)
clean cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$consumer/consumer.c" -o "$scratch/pc_c" \
    "${flags[@]}" "-Wl,-rpath,$libdir"
clean c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror "$consumer/consumer_cxx.cpp" \
    -o "$scratch/pc_cxx" "${flags[@]}" "-Wl,-rpath,$libdir"
run_consumer "$scratch/pc_c"
run_consumer "$scratch/pc_cxx"

echo "== find_package"
clean cmake -S "$consumer" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$scratch/cmake.log" ||
    { cat "$scratch/cmake.log"; exit 1; }
clean cmake --build "$scratch/cmake" >"$scratch/cmake.log" || { cat "$scratch/cmake.log"; exit 1; }
run_consumer "$scratch/cmake/consumer_c"
run_consumer "$scratch/cmake/consumer_cxx"
