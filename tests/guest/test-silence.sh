# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest: a wire that goes silent while arrays are read over it. On rxe no completion and no event ever tells:
# haul's own deadlines must. First the whole wire, so that the peer is lost; then RDMA's packets alone, so that
# the arrays come by the channel. Another peer, that is reached another way, is served throughout.
export HAUL_PROVIDER=ofi:verbs HAUL_HEARTBEAT=2
readonly BYTES=2000000 STALL_S=10 # (HAUL_READ_STALL_S)

silence_all() {
    for end in va vb; do tc qdisc replace dev $end root netem loss 100% limit 100000; done
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

# The server is on all addresses; who comes to 127.0.0.1 is read from without the wire.
start_server server 0.0.0.0:0 b
server=$started
port=$(sed 's/.*://' server.address)
start_client 1 "127.0.0.1:$port" b 100000 $BYTES
bystander=$started

# The whole wire.
start_client 2 "$B:$port" a 100000 $BYTES
client=$started
wait_for has_lines "^message 2 " server.out 3
silence_all
began=$(now)
wait_for grep -q "^lost 2 " server.out
say "whole wire silent: the server noticed after $(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }') s"
wait_for is_gone "$client"
say "whole wire silent: the client noticed after $(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }') s"
grep HAUL_PEER_LOST client-2.err || fail "client 2 does not say what happened"
still_served 1 server
end_silence va vb
start_client 3 "$B:$port" a 5 $BYTES
check_client 3 "$started" 5 server

# RDMA alone: TCP, and so the connection, goes on.
start_client 4 "$B:$port" a 200 $BYTES
client=$started
wait_for has_lines "^message 4 " server.out 3
silence_rdma va vb
began=$(now)
check_client 4 "$client" 200 server
say "RDMA silent: all had come, by the channel, after $(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }') s (stall: $STALL_S s)"
still_served 1 server
end_silence va vb
before=$(packets a)
start_client 5 "$B:$port" a 5 $BYTES
check_client 5 "$started" 5 server
check_packets a "$before" $((5 * BYTES))

end_client 1 "$bystander" server
grep "reads by ofi:verbs have not moved for $STALL_S s" server.err || fail "the server does not say that reads stalled"
stop_server server "$server" ': warning: .* by ofi:verbs '
