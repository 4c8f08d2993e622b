# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of placement: a server that was started somewhere, and where its thread and memory are. Read back
# from the kernel.
readonly BYTES=4000000 COUNT=12

# start_on NODE NIC ADDRESS [BIND]: a server on that NIC, started on the CPUs of a node.
start_on() {
    mkfifo server.in
    HAUL_LOG=info HAUL_BIND=${4:-auto} HAUL_NIC=$2 \
        taskset -c "$(cat /sys/devices/system/node/node"$1"/cpulist)" \
        /haul/tests/failure_program_server "$3:0" <server.in >server.out 2>server.err &
    server=$!
    exec 3>server.in
    wait_for grep -q listening server.out
    echo take >&3
}

# serve CLIENT-NIC: letters of a client, until all are here. The server goes on.
serve() {
    start_client 1 "$(sed -n 's/^listening //p' server.out)" "$1" $COUNT $BYTES 3>&-
    check_client 1 "$started" $COUNT server
}

stop() {
    exec 3>&-
    wait "$server" || fail "the server did not end well"
    rm -f server.in
}

# check_thread CPUS: those that the progress thread may run on.
check_thread() {
    count=0
    for task in /proc/"$server"/task/*; do
        [ "$(cat "$task/comm")" = haul ] || continue
        count=$((count + 1))
        cpus=$(awk '$1 == "Cpus_allowed_list:" { print $2 }' "$task/status")
        [ "$cpus" = "$1" ] || fail "a thread of haul may run on CPUs $cpus, not on $1"
    done
    [ $count -ge 1 ] || fail "there is no thread of haul"
}

# check_pages NODE: 99 % of the pages of its slabs are there. They are what begins at a multiple of 2 MiB, and is as
# many of them; libfabric's own buffers, which are more, are not.
check_pages() {
    awk -v node="$1" '
        $1 ~ /[02468ace]00000$/ {
            here = all = 0
            size = 4
            for (i = 3; i <= NF; i++) {
                split($i, part, "=")
                if (part[1] ~ /^N[0-9]+$/) all += part[2]
                if (part[1] == "N" node) here += part[2]
                if (part[1] == "kernelpagesize_kB") size = part[2]
            }
            if (all > 0 && all * size % 2048 == 0) { sum += all; near += here }
        }
        END {
            printf "%d of %d pages are on node %d\n", near, sum, node
            exit !(sum * 4 >= 4096 && near >= 0.99 * sum)
        }' /proc/"$server"/numa_maps >pages || fail "$(cat pages)"
    say "$(cat pages)"
}

# place PROVIDER START-NODE NIC CLIENT-NIC ADDRESS BIND CPUS NODE
place() {
    export HAUL_PROVIDER="$1"
    start_on "$2" "$3" "$5" "$6"
    serve "$4"
    check_thread "$7"
    check_pages "$8"
    stop
    say "$1, started on node $2, NIC ${3:-of the connection}, HAUL_BIND=$6: threads on CPUs $7, memory on node $8"
}
