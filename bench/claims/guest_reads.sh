# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Run in the Soft-RoCE guest by the claim ofi_guest: one client on host A, the server on host B, with haul and with
# libfabric alone in turn, and perftest's ib_read_bw. A line for each run: how, bytes of the array, the result.
#
# $A, $B, fail and wait_for are the guest's (tests/guest).
readonly ROUNDS=5 SIZES="1048576 4194304 16777216"
readonly WARMUP=4 DURATION=3 # seconds; the first transfers after a connection are slow

haul_reads() {
    HAUL_NIC=b haul bench --provider ofi:verbs --clients 1 --memory pool --workload "x:u8[$1]" \
        --warmup $WARMUP --duration $DURATION --listen "$B:5555" --json haul.json >/dev/null 2>server.err &
    server=$!
    HAUL_NIC=a haul bench --provider ofi:verbs --clients 1 --memory pool --workload "x:u8[$1]" \
        --warmup $WARMUP --duration $DURATION --connect "$B:5555" --json /dev/null >/dev/null 2>client.err ||
        fail "the client of haul"
    wait $server || fail "the server of haul"
    echo "haul $1 $(tr -d '\n' <haul.json)"
}

direct_reads() {
    echo "direct $1 $(/haul/lib/haul/bench/fabric --kind verbs --nic b --client-nic a --arrays "$1" \
        --warmup $WARMUP --duration $DURATION)"
}

# Its last line of figures: bytes, reads, MiB/s at best and in the mean.
perftest_reads() {
    ib_read_bw -d a -x 1 -F -s "$1" -n 20 >perftest.server.out 2>&1 &
    server=$!
    wait_for is_listening 18515
    ib_read_bw -d b -x 1 -F -s "$1" -n 20 "$A" >perftest.out 2>&1 || fail "ib_read_bw"
    wait $server || fail "the other side of ib_read_bw"
    echo "perftest $1 $(awk -v bytes="$1" '$1 == bytes { print $4 }' perftest.out)"
}

is_listening() { # PORT, as the kernel lists it: in hexadecimal, state 0A
    grep -qi ":$(printf %04X "$1") [0-9A-F:]* 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

for size in $SIZES; do
    for round in $(seq $ROUNDS); do
        echo "round $round"
        haul_reads "$size"
        direct_reads "$size"
    done
    perftest_reads "$size"
done
