# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# In the guest: the work of README, scaled down, with every byte checked, over the wire; and what it costs the server.
readonly WORK="foo:u8[64,96,64,3],bar:f32[256,1024],baz:f32[64]" # (arrays of 1 MiB and more are read by rma)

# run NAME CLIENTS OPTION...: the server on host B, the clients on A.
run() {
    name=$1 clients=$2
    shift 2
    HAUL_NIC=b haul bench --peers=none -p ofi:verbs -n "$clients" -d 5 --warmup 4 --verify -w "$WORK" "$@" \
        --listen "$B:5555" --json "$name.json" >/dev/null 2>"$name.server.err" &
    server=$!
    HAUL_NIC=a haul bench --peers=none -p ofi:verbs -n "$clients" -d 5 --warmup 4 --verify -w "$WORK" "$@" \
        --connect "$B:5555" --json /dev/null >/dev/null 2>"$name.clients.err" || fail "$name: the clients"
    wait $server || fail "$name: the server"
    say "$name: $(grep -E '"(path|messages|verified|gib_per_s|mallocs|minor_faults|registrations|user_copies_per_byte)"' \
        "$name.json" | tr -d '\n ')"
}

# check NAME FIELD LIMIT: its value is below.
check() {
    value=$(sed -n "s/.*\"$2\": \([0-9.e-]*\),*/\1/p" "$1.json" | head -n 1)
    echo "${value:-none} $3" | awk '{ exit !($1 != "none" && $1 < $2) }' || fail "$1: $2 is $value, not below $3"
}

before=$(packets a)
run user 8
check user user_copies_per_byte 0.01
run batch 8 --into batch
check batch user_copies_per_byte 0.01
run pool 8 --memory pool
check pool user_copies_per_byte 0.01
check pool registrations 0.01
check pool minor_faults 0.05
check_packets a "$before" 100000000
