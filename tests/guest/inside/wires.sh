# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by init's networks: "hosts" of one machine with a wire between them. (All in one network namespace: rxe
# knows no other.) Routing rules come before the kernel's own table, so that what is sent to an address of this
# machine goes over the wire to it, from the other side's address.

end_of_wire() { # INTERFACE ADDRESS DEVICE CPUS
    # rxe answers a lost packet with seconds of waiting: long queues, and none that drops on purpose. It answers a
    # packet that comes before its turn in the same way, so all that come by an interface go through one CPU.
    ip link set "$1" mtu 4400 txqueuelen 20000 up
    tc qdisc replace dev "$1" root pfifo limit 20000
    echo "$4" >/sys/class/net/"$1"/queues/rx-0/rps_cpus
    ip addr add "$2/24" dev "$1"
    echo 0 >/proc/sys/net/ipv4/conf/"$1"/rp_filter
    echo 1 >/proc/sys/net/ipv4/conf/"$1"/accept_local
    rdma link add "$3" type rxe netdev "$1"
}

over_the_wire() { # INTERFACE FROM TO TABLE
    ip route add "${2%.*}.0/24" dev "$1" src "$2" table "$4"
    ip rule add pref 10 iif "$1" lookup local
    ip rule add pref 20 from "$2" to "$2" lookup local
    ip rule add pref 30 to "$3" lookup "$4"
}

# Before the first wire.
begin_network() {
    echo 100000 >/proc/sys/net/core/netdev_max_backlog
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
    ip link set lo up
}

# Behind the last: the kernel's own table comes after the wires.
end_network() {
    ip rule add pref 100 lookup local
    ip rule del pref 0 lookup local
}
