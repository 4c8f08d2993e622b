# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# Sourced before a test script: where things are, and how programs are run, watched and killed.
export PATH="/haul/bin:$PATH" LD_LIBRARY_PATH=/haul/lib HAUL_PROVIDER_PATH=/haul/providers

# The two ends of the wire (network.sh); their RDMA devices, for HAUL_NIC, are a and b.
export A=10.10.0.1 B=10.10.0.2

# rxm asks for a queue of 256 entries for each of so many peers, and rxe's queues have 32767 at most.
export FI_UNIVERSE_SIZE=64

readonly LIMIT=120 # seconds that no step takes

now() { cut -d' ' -f1 /proc/uptime; } # seconds since boot, as CLOCK_MONOTONIC counts
say() { echo "[$(now)] $*"; }

# fail SENTENCE: ends the test, and shows what its programs said.
fail() {
    say "FAILED: $*"
    for log in ./*.out ./*.err; do
        [ -s "$log" ] && echo "---- $log:" && tail -n 15 "$log"
    done
    exit 1
}

# wait_for COMMAND...: until it succeeds. (Nothing announces what files and counters will say.)
wait_for() {
    until_s=$(($(cut -d. -f1 /proc/uptime) + LIMIT))
    until "$@"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt $until_s ] || fail "waited $LIMIT s for: $*"
        sleep 0.02 # between two looks
    done
}

# count_lines PATTERN FILE
count_lines() { grep -c "$1" "$2"; }
has_lines() { [ "$(count_lines "$1" "$2")" -ge "$3" ]; } # PATTERN FILE COUNT

# start_server NAME ADDRESS NIC: a server that checks every byte (tests/failure). NAME.out has what it says, and
# NAME.address where it listens. Its process is $started.
start_server() {
    mkfifo "$1.in"
    HAUL_NIC=$3 /haul/tests/failure_program_server "$2" <"$1.in" >"$1.out" 2>"$1.err" &
    started=$!
    # (Who holds the pipe open keeps the server alive.)
    sleep 100000 >"$1.in" &
    echo $! >"$1.holder"
    wait_for grep -q listening "$1.out"
    sed -n 's/^listening //p' "$1.out" >"$1.address"
}

# stop_server NAME PROCESS [PATTERN]: lets it end, which it must do well, and with no other complaints than those.
stop_server() {
    kill "$(cat "$1.holder")"
    wait "$2" || fail "the server $1 did not end well"
    ! grep -qv "${3:-^$}" "$1.err" || fail "the server $1 complained"
}

# start_client NUMBER ADDRESS NIC COUNT BYTES: sends COUNT messages of BYTES, four at a time.
# client-NUMBER.out has a line for each that has ended well. Its process is $started. CLIENT_IN: a command that runs it
# somewhere else.
start_client() {
    # shellcheck disable=SC2086 # (several words, or none)
    HAUL_NIC=$3 ${CLIENT_IN:-} /haul/tests/failure_program_client "$2" "$1" "$4" "$5" "$5" >"client-$1.out" 2>"client-$1.err" &
    started=$!
}

# check_client NUMBER PROCESS COUNT SERVER: all of its messages have arrived, whole.
check_client() {
    wait "$2" || fail "the client $1 did not end well"
    wait_for has_lines "^message $1 " "$4.out" "$3" # (its lines are written a little later)
    got=$(count_lines "^message $1 " "$4.out")
    [ "$got" -eq "$3" ] || fail "of client $1 $got messages of $3 arrived"
}

# still_served NUMBER SERVER: more messages of a client arrive, from now on.
still_served() {
    wait_for has_lines "^message $1 " "$2.out" $(($(count_lines "^message $1 " "$2.out") + 3))
}

# end_client NUMBER PROCESS SERVER: ends one that would go on; what it sent has arrived whole and in order.
end_client() {
    kill -KILL "$2" || fail "the client $1 had ended"
    wait_for grep -q "^lost $1 " "$3.out"
    awk -v client="$1" '$1 == "message" && $2 == client && $3 != count++ { exit 1 }' "$3.out" ||
        fail "messages of client $1 are missing"
}

# silence_rdma INTERFACE...: they drop RDMA's packets (RoCE is UDP to port 4791), and nothing else.
silence_rdma() {
    for end in "$@"; do
        tc qdisc replace dev "$end" root handle 1: prio
        tc qdisc add dev "$end" parent 1:3 netem loss 100% limit 100000
        tc filter add dev "$end" parent 1: protocol ip u32 match ip protocol 17 0xff match ip dport 4791 0xffff flowid 1:3
    done
}

end_silence() { # INTERFACE...
    for end in "$@"; do
        tc qdisc del dev "$end" root
        tc qdisc replace dev "$end" root pfifo limit 20000
    done
}

# Packets that a device has sent: what tells that RDMA carried bytes.
packets() { cat "/sys/class/infiniband/$1/ports/1/hw_counters/sent_pkts"; }

# check_packets DEVICE BEFORE BYTES: that many bytes have left by it since.
check_packets() {
    sent=$(($(packets "$1") - $2))
    [ $sent -ge $(($3 / 4096)) ] || fail "$1 has sent $sent packets: $3 bytes went another way"
    say "$1 has sent $sent packets"
}
