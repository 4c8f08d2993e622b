#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks who includes whom (docs/ARCHITECTURE.md): lower layers of core never include higher ones,
# public headers stand alone, providers see the plugin ABI only, and core names no provider.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shopt -s nullglob

# Core's layers from bottom to top. A file of no other layer belongs to the engine.
layers=(base memory wire engine public)
declare -A members=(
    [base]="error level log config limits number thread util utf8 set"
    [memory]="memory slab pool topology devices interface wish locality nics"
    [wire]="wire frame keys dtype manifest control"
    [public]="context machine block dict peer server message batch op"
)
public_system_headers=" stdbool.h stddef.h stdint.h sys/uio.h "

findings=0
finding() {
    printf '%s\n' "$*"
    findings=$((findings + 1))
}

# Prints "line:header" for each include of a file; a header in quotes keeps its first quote.
includes_of() {
    sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*(<([^>]+)>|("[^"]+)").*/\2\3/;t found;b;:found;=;p' \
        "$1" | paste -d: - -
}

layer_of() {
    local number name
    for number in "${!layers[@]}"; do
        for name in ${members[${layers[number]}]:-}; do
            if [[ $name == "$1" ]]; then
                echo "$number"
                return
            fi
        done
    done
    echo 3
}

check_core_file() {
    local file=$1 own line header layer
    own=$(layer_of "$(basename "${file%.*}")")
    while IFS=: read -r line header; do
        [[ $header == '"'* ]] || continue
        header=${header#'"'}
        if [[ ! -e core/$header ]]; then
            finding "$file:$line: includes \"$header\", which is not in core"
            continue
        fi
        layer=$(layer_of "${header%.h}")
        if ((layer > own)); then
            finding "$file:$line: ${layers[own]} includes \"$header\" of ${layers[layer]}"
        fi
    done < <(includes_of "$file")
}

# Comments and help texts may speak of providers, code may not: one is chosen by its tables alone.
check_core_names_no_provider() {
    local file=$1 names hit
    [[ $file == core/plugin.c ]] && return # has the table of those built in
    names='tcp|zmq|loop|ofi|shm'
    while read -r hit; do
        finding "$file: names a provider: $hit"
    done < <(gcc -fpreprocessed -dD -E -P "$file" 2>/dev/null |
        grep -oE "\"($names)(:[a-z]*)?\"|\bhaul_($names)_[a-z_]+" || true)
}

check_public_header() {
    local file=$1 line header
    while IFS=: read -r line header; do
        [[ $header == haul/* && -e include/$header ]] && continue
        [[ $public_system_headers == *" $header "* ]] && continue
        finding "$file:$line: includes $header; public headers include <haul/...> and the standard's"
    done < <(includes_of "$file")
}

check_provider_file() {
    local file=$1 folder line header
    folder=$(dirname "$file")
    while IFS=: read -r line header; do
        case $header in
        haul/provider.h) ;;
        haul/*) finding "$file:$line: includes <$header>; a provider includes <haul/provider.h> only" ;;
        '"'*)
            header=${header#'"'}
            if [[ $header == */* || ! -e $folder/$header ]]; then
                finding "$file:$line: includes \"$header\", which is not its own"
            fi
            ;;
        esac
    done < <(includes_of "$file")
}

count=0
for file in core/*.[ch]; do
    check_core_file "$file"
    check_core_names_no_provider "$file"
    count=$((count + 1))
done
for file in include/haul/*.h; do
    check_public_header "$file"
    check_core_names_no_provider "$file"
    count=$((count + 1))
done
for file in providers/*/*.[ch]; do
    check_provider_file "$file"
    count=$((count + 1))
done

printf 'check-includes: %d files, %d findings\n' "$count" "$findings"
((count > 0 && findings == 0))
