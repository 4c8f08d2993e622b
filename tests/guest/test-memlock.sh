# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest: an ordinary user who may lock 64 KiB of memory, which is what a NIC needs locked. Who asks for verbs
# hears of the limit and what to do; who asks for the best path gets plain tcp, and hears why. Then: a device with
# small queues, and a connection over another NIC than the one that is open.
readonly SENTENCE='may lock 64 KiB (ulimit -l).*ulimit -l unlimited.*/etc/security/limits.conf'

ordinary() {
    # shellcheck disable=SC3045 # (dash has it)
    (ulimit -l 64 && exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all "$@")
}

# call_once NAME PROVIDER: a call of 3 MB to the server, which takes any path.
call_once() {
    echo "call 3000000 60000" | HAUL_LOG=info HAUL_PROVIDER=$2 ordinary /haul/tests/failure_program_caller \
        "$(cat server.address)" 1 60000 >"$1.out" 2>"$1.err"
}

# (All are on one host, and some of one user: auto would look no further than shm.)
export HAUL_SHM=off
HAUL_PROVIDER=auto start_server server "$B:0" b
server=$started

call_once verbs ofi:verbs && fail "verbs was opened with 64 KiB of locked memory"
grep -q "HAUL_NO_MEMORY.*" verbs.err || fail "no error that says so"
grep "$SENTENCE" verbs.err || fail "no sentence with the limit and what to do"

call_once auto auto || fail "the client of auto did not end well"
has_lines '^ok$' auto.out 2 || fail "the call of auto did not succeed"
grep "path tcp, because ofi:verbs: .*$SENTENCE" auto.err || fail "auto does not say why it is tcp"

# As root there is no limit, and auto takes verbs.
before=$(packets a)
start_client 2 "$(cat server.address)" a 5 2000000
check_client 2 "$started" 5 server
check_packets a "$before" 10000000
stop_server server "$server"

echo | FI_UNIVERSE_SIZE=1024 HAUL_PROVIDER=ofi:verbs /haul/tests/failure_program_server "$B:0" 2>queue.err &&
    fail "a queue that is too large was opened"
grep "FI_UNIVERSE_SIZE=64" queue.err || fail "no sentence about small queues"

HAUL_PROVIDER=ofi:verbs start_server other "$B:0" ""
server=$started
HAUL_PROVIDER=ofi:verbs start_client 3 "$(cat other.address)" "" 1 1000
wait "$started" && fail "a NIC was used that the connection did not come over"
grep "set HAUL_NIC=" client-3.err || grep "set HAUL_NIC=" other.err || fail "no sentence about the NIC"
kill "$(cat other.holder)"
wait "$server"
