# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# In the guest: runs the tests that came with it, one after another, each in a folder and a session of its own. Writes
# "PASSED NAME" or "FAILED NAME" for each: conformance-... are the programs of the suite, the others test-*.sh. The
# guest with two NUMA nodes runs the latter alone.

# The processes of a session, which a test that has failed may leave behind.
processes_of() { # SESSION
    for process in /proc/[0-9]*; do
        sed 's/.*) //' "$process/stat" 2>/dev/null | awk -v session="$1" -v process="${process#/proc/}" \
            '$4 == session { print process }'
    done
}

# run NAME COMMAND: a test; COMMAND is for the shell.
run() {
    name=$1 began=$(now)
    mkdir -p "/tmp/$name"
    # (By its path: busybox takes itself for "sh".)
    (cd "/tmp/$name" && exec setsid /bin/sh -c "$2") &
    session=$!
    wait $session
    status=$?
    left=$(processes_of $session)
    if [ -n "$left" ]; then
        # shellcheck disable=SC2086 # (several words)
        kill -KILL $left
        [ $status -ne 0 ] || echo "$name has left processes behind: $left"
        status=1
    fi
    rm -rf "/tmp/$name"
    for end in /sys/class/net/v[ab]*; do tc qdisc replace dev "${end##*/}" root pfifo limit 20000; done
    verdict=FAILED
    [ $status -ne 0 ] || verdict=PASSED
    echo "$verdict $name ($(echo "$began $(now)" | awk '{ printf "%.1f", $2 - $1 }') s)"
    [ $verdict = PASSED ] || failures=$((failures + 1))
}

failures=0
for program in /haul/tests/conformance_*; do
    [ -e /sys/class/net/va ] || break
    run "$(basename "$program" | tr _ -)" "HAUL_PROVIDER=ofi:verbs exec $program 2>&1"
done
for test in /test/test-*.sh; do
    run "$(basename "$test" .sh)" "set -u; . /etc/lib.sh; . $test"
done
if dmesg | grep -E 'BUG:|Oops|segfault|Out of memory'; then
    echo "FAILED the-guest: the kernel complains"
    failures=$((failures + 1))
fi
exit $failures
