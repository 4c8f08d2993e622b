# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest: a wire that loses packets, and one that brings some twice. Everything arrives, and is right.
export HAUL_PROVIDER=ofi:verbs
readonly BYTES=2000000 COUNT=8

# On both ends of the wire.
weather() {
    for end in va vb; do tc qdisc replace dev $end root netem limit 100000 "$@"; done
    say "the wire: $*"
}

send_some() { # NUMBER
    before=$(packets a)
    start_client "$1" "$(cat server.address)" a $COUNT $BYTES
    check_client "$1" "$started" $COUNT server
    check_packets a "$before" $((COUNT * BYTES))
}

start_server server "$B:0" b
server=$started
weather loss 0.1%
send_some 1
weather duplicate 1%
send_some 2
weather loss 0.1% duplicate 1%
send_some 3
weather loss 0%
send_some 4
stop_server server "$server"
grep -s . /sys/class/infiniband/b/ports/1/hw_counters/completer_retry_err \
    /sys/class/infiniband/a/ports/1/hw_counters/duplicate_request
