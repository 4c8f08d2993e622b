#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Unpacks Debian's kernel and its modules for the guest; nothing is installed, no root is needed.
#
#   kernel.sh FOLDER    FOLDER/boot/vmlinuz-VERSION and FOLDER/lib/modules/VERSION; left alone if there
#
# Exit: 0, or 77 with a sentence when the package cannot be had (no network, no Debian).
set -euo pipefail

cannot() {
    echo "skipped: no kernel for the guest: $*"
    exit 77
}

folder=$1
if [[ -e $folder/complete ]]; then
    exit 0
fi
command -v apt-get >/dev/null || cannot "this is no Debian system"
package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" { print $2; exit }')
[[ -n $package ]] || cannot "apt knows no linux-image-amd64 (apt-get update)"

rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
# (Root's downloads are made by the user _apt, which has no access here; apt says so and goes on.)
download() {
    timeout 300 apt-get -qq download "$package" 2>download.log
}

# A list of packages may be so old that its files are gone; root can have a new one.
download || { [[ $EUID -eq 0 ]] && timeout 300 apt-get -qq update && download; } ||
    cannot "$package cannot be downloaded: $(tail -n 1 download.log)"
# Most of the package is drivers that a guest has no hardware for.
dpkg-deb --fsys-tarfile "$package"_*.deb |
    tar -x --exclude='*/kernel/sound' --exclude='*/drivers/gpu' --exclude='*/drivers/media' \
        --wildcards './boot/vmlinuz-*' './lib/modules'
rm -f "$package"_*.deb download.log
PATH=$PATH:/usr/sbin:/sbin depmod -b . "$(basename lib/modules/*)"
: >complete
