# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest with two NUMA nodes: two NICs of a host, one at each node, carry parts of every array, and are named as
# rails. A wire that falls silent in the middle of a message loses nothing: the other rail reads its part. Either side
# may have more rails than the other; with two progress threads each is on the node of its NIC.
export HAUL_PROVIDER=ofi:verbs
readonly BYTES=16000000 COUNT=10

# tell WORD PATTERN: to the server; waits for its answer.
tell() {
    echo "$1" >server.in
    wait_for grep -q "$2" server.out
}

# start_rails NICS ADDRESS
start_rails() {
    start_server server "$2:0" "$1"
    server=$started
}

# end_server [PATTERN]: its complaints must be those.
end_server() {
    stop_server server "$server" "$@"
    rm -f server.in server.out server.err client-*.out client-*.err
}

# check_shares LEAST NIC...: each of the server's rails has brought that many percent of all bytes.
check_shares() {
    least=$1
    shift
    tell rails "^rails $#"
    for nic in "$@"; do
        grep -q "^rail $nic " server.out || fail "$nic is no rail"
    done
    awk -v least="$least" '
        $1 == "rail" { bytes[$2] = $3; sum += $3 }
        END {
            for (nic in bytes) printf "%s %.0f %%  ", nic, 100 * bytes[nic] / sum
            for (nic in bytes) if (100 * bytes[nic] < least * sum) exit 1
        }' server.out >shares || fail "$(cat shares)"
    say "shares: $(cat shares)"
}

# serve NICS: a client with these, until all its messages are here.
serve() {
    start_client 1 "$(cat server.address)" "$1" $COUNT $BYTES
    check_client 1 "$started" $COUNT server
}

# Both carry much of it, in whatever order either side has them.
for nics in a0,a1 a1,a0; do
    start_rails b0,b1 10.10.0.2
    serve $nics
    check_shares 30 b0 b1
    end_server
done

# Different numbers: two read from one (over the wire that both have), one from two.
start_rails b0,b1 10.10.1.2
serve a1
tell rails "^rails 2"
[ "$(awk '$2 == "b0" { print $3 }' server.out)" -eq 0 ] || fail "b0 has read from a1, which is on the other wire"
end_server
start_rails b1 10.10.1.2
serve a0,a1
check_shares 100 b1
end_server

# Each progress thread is on the node of its NIC.
HAUL_PROGRESS_THREADS=2 start_rails b0,b1 10.10.0.2
serve a0,a1
check_shares 30 b0 b1
for cpus in 0-1 2-3; do
    found=
    for task in /proc/"$server"/task/*; do
        is=$(awk '$1 == "Cpus_allowed_list:" { print $2 }' "$task/status")
        case $(cat "$task/comm") in haul*) [ "$is" = $cpus ] && found=$task ;; esac
    done
    [ -n "$found" ] || fail "no thread of haul is on CPUs $cpus: $(grep -h -e Name -e Cpus_allowed_list \
        /proc/"$server"/task/*/status | tr '\n' ' ')"
done
say "two progress threads, one at each NIC's node"
end_server

# A wire is cut while messages are read over both, and comes back: first with one thread, then with two.
export HAUL_LOG=info
for threads in 1 2; do
    export HAUL_PROGRESS_THREADS=$threads
    start_rails b0,b1 10.10.0.2
    start_client 1 "$(cat server.address)" a0,a1 100000 $BYTES
    client=$started
    wait_for has_lines "^message 1 " server.out 3
    silence_rdma va1 vb1
    began=$(now)
    wait_for grep -q "NIC b1 .*read over the other NICs" server.err
    say "wire 1 silent: noticed after $(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }') s"
    still_served 1 server
    end_silence va1 vb1
    began=$(now)
    wait_for grep -q "NIC b1 works again" server.err
    say "wire 1 back: used again after $(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }') s"
    still_served 1 server
    ! grep "over tcp" server.err || fail "arrays came over the channel"
    end_client 1 "$client" server
    end_server ': info: \|: warning: ofi:verbs: NIC b1 '
done
