# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by pack.sh and run.sh: puts files into the folder that becomes the guest's file system.

# add_file ROOT FILE [PLACE]: a file at its own path, or at PLACE, and the libraries that it needs. Those of
# the build tree are left out: they are all in the guest's /haul/lib.
add_file() {
    local root=$1 file=$2 place=${3:-$2} library
    mkdir -p "$root$(dirname "$place")"
    cp -L "$file" "$root$place"
    while read -r library; do
        if [[ ! -e $root$library && $library != "${build:-}"/* ]]; then
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        fi
    done < <(ldd "$file" 2>/dev/null | grep -oE '/[^ )]+' || true)
}

# archive ROOT: the folder as an archive that the kernel unpacks; several may follow each other.
archive() {
    (cd "$1" && find . | cpio --create --format newc --owner 0:0 --quiet) | gzip -1
}
