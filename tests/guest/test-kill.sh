# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest: a sender that is killed while it is read from, and a receiver that is killed while it reads. It is
# noticed at once, others are served throughout, and what they get is right.
export HAUL_PROVIDER=ofi:verbs
readonly BYTES=2000000 NOTICED_MS=10000 # wanted: 1 s; the bound is for emulators

# report_noticed WHO KILLED NOTICED: times in seconds.
report_noticed() {
    ms=$(echo "$2 $3" | awk '{ printf "%d", ($2 - $1) * 1000 }')
    say "$1: noticed after $ms ms"
    [ "$ms" -lt $NOTICED_MS ] || fail "$1: noticed after $ms ms"
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

killed_sender() {
    start_server one "$B:0" b
    server=$started
    before=$(packets a)
    start_client 1 "$(cat one.address)" a 100000 $BYTES
    bystander=$started
    for victim in 2 3 4; do
        start_client $victim "$(cat one.address)" a 100000 $BYTES
        process=$started
        wait_for has_lines "^message $victim " one.out $victim
        killed=$(now)
        kill -KILL "$process"
        wait_for grep -q "^lost $victim " one.out
        report_noticed "sender $victim" "$killed" \
            "$(sed -n "s/^lost $victim //p" one.out | awk '{ printf "%.3f", $1 / 1e9 }')"
        still_served 1 one
    done
    end_client 1 "$bystander" one
    check_packets a "$before" $((10 * BYTES))
    stop_server one "$server"
}

killed_receiver() {
    start_server two "$B:0" b
    other=$started
    start_client 11 "$(cat two.address)" a 100000 $BYTES
    bystander=$started
    for victim in 12 13; do
        start_server "victim-$victim" "$B:0" b
        server=$started
        start_client $victim "$(cat "victim-$victim.address")" a 100000 $BYTES
        client=$started
        wait_for has_lines "^message $victim " "victim-$victim.out" 3
        killed=$(now)
        kill -KILL "$server"
        wait_for is_gone "$client"
        report_noticed "receiver of client $victim" "$killed" "$(now)"
        still_served 11 two
        grep -q HAUL_PEER_LOST "client-$victim.err" || fail "client $victim does not say what happened"
        kill "$(cat "victim-$victim.holder")"
        # Who comes later to the same place is served.
        start_server "after-$victim" "$(cat "victim-$victim.address")" b
        server=$started
        start_client "1$victim" "$(cat "after-$victim.address")" a 5 $BYTES
        check_client "1$victim" "$started" 5 "after-$victim"
        stop_server "after-$victim" "$server"
    done
    end_client 11 "$bystander" two
    stop_server two "$other"
}

killed_sender
killed_receiver
