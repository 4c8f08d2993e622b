#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The library exports exactly the functions that public headers declare with HAUL_API, all versioned.
# Usage: test_symbols.sh LIBRARY
set -euo pipefail
include=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../../include

# HAUL_API stands before each declaration: mark it, and the name is what comes before the next "(".
declared=$(printf '#include <haul/%s>\n' haul.h provider.h |
    cc -std=c11 -D_GNU_SOURCE -I"$include" -E -P - | tr '\n' ' ' |
    grep -oE '__attribute__\(\(visibility\("default"\)\)\)[^(;]*\(' |
    sed -E 's/.*[^a-z0-9_](haul_[a-z0-9_]+)\($/\1@@HAUL_0.1/' | sort -u)
exported=$(nm --dynamic --defined-only "$1" | awk '$2 != "A" { print $3 }' | sort -u)

if ! diff <(printf '%s\n' "$declared") <(printf '%s\n' "$exported"); then
    echo "declared with HAUL_API (<) and exported (>) differ" >&2
    exit 1
fi
echo "$(wc -l <<<"$exported") functions declared and exported"
