# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# In the guest: memory that a receive has given back while reads into it were under way. The device repeats its
# requests when the wire works again; what they bring must not reach memory that is the program's again.
export HAUL_PROVIDER=ofi:verbs
readonly BYTES=4000000 ROUNDS=3 REPEATS_S=4 # (rxe repeats within 2 s)

# ask LINE: sets $answer to what the guard says.
ask() {
    asked=$((asked + 1))
    echo "$1" >&3
    wait_for has_lines . guard.out $((asked + 1))
    answer=$(sed -n "$((asked + 1))p" guard.out)
}

# expect LINE ANSWER
expect() {
    ask "$1"
    [ "$answer" = "$2" ] || fail "the guard answers $1 with $answer"
}

mkfifo guard.in
HAUL_LOG=info HAUL_NIC=b /haul/tests/failure_program_guard "$B:0" $BYTES <guard.in >guard.out 2>guard.err &
guard=$!
exec 3>guard.in
asked=0
wait_for grep -q listening guard.out
start_client 1 "$(sed -n 's/^listening //p' guard.out)" a 100000 $BYTES 3>&-
client=$started
expect "receive 60000" "received 0"
for _ in $(seq $ROUNDS); do
    silence_rdma va vb
    ask "receive 1000"
    while [ "$answer" != "time is up" ]; do ask "receive 1000"; done # (those had come before)
    expect guard guarded
    end_silence va vb
    expect "take 6" "taken 6"
    sleep $REPEATS_S # nothing announces what does not come
    expect check untouched
done
kill -KILL "$client"
exec 3>&-
wait "$guard" || fail "the guard did not end well"
grep -q "their endpoint was closed" guard.err || fail "no receive ended in the middle of a read"
! grep -q ": warning: " guard.err || fail "the guard complained"
