# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest: the work of README, scaled down, with every byte checked, over the wire; and what it costs the server.
readonly WORK="foo:u8[64,96,64,3],bar:f32[256,1024],baz:f32[64]" # (arrays of 1 MiB and more are read by rma)

# bench SIDE NAME OPTION...: one half of a run.
bench() {
    side=$1 name=$2
    shift 2
    haul bench --peers=none -p ofi:verbs -d 5 --warmup 4 --verify -w "$WORK" "$@" \
        --json "$name-$side.json" >"$name-$side.out" 2>"$name-$side.err"
}

# run NAME OPTION...: the server on host B, the clients on A.
run() {
    (export HAUL_NIC=b ${pool_max:+HAUL_POOL_MAX="$pool_max"} && bench server "$@" --listen "$B:5555") &
    server=$!
    (HAUL_NIC=a && export HAUL_NIC && bench clients "$@" --connect "$B:5555") || fail "$1: the clients"
    wait $server || fail "$1: the server"
    grep -q '"path": "tcp+ofi:verbs"' "$1-server.json" || fail "$1: not over verbs"
    say "$1: $(grep -E '"(messages|verified|gib_per_s|mallocs|minor_faults|registrations|user_copies_per_byte)"' \
        "$1-server.json" | tr -d '\n ')"
}

# check NAME FIELD RELATION LIMIT
check() {
    value=$(sed -n "s/.*\"$2\": \([0-9.e-]*\),*/\1/p" "$1-server.json" | head -n 1)
    [ -n "$value" ] || fail "$1: no $2"
    awk "BEGIN { exit !($value $3 $4) }" || fail "$1: $2 is $value, and not $3 $4"
}

pool_max= # of the server
before=$(packets a)
run user -n 8
run batch -n 8 --into batch
# (With room for one message and for the small arrays: so the second message can need no further slab.)
pool_max=6MiB
run pool -n 1 --memory pool
for name in user batch pool; do
    check $name verified '>' 0
    check $name user_copies_per_byte '<' 0.01
done
check pool registrations '<' 0.01
check pool minor_faults '<' 0.05
check_packets a "$before" 40000000
