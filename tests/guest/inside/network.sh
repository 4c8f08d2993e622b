# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by init: two "hosts" with a wire between them. Host A is 10.10.0.1 on the interface va with the RDMA
# device a, host B is 10.10.0.2 on vb with b.
# shellcheck disable=SC1091 # (it is checked by itself)
. /etc/wires.sh

begin_network
ip link add va type veth peer name vb
end_of_wire va 10.10.0.1 a 1
end_of_wire vb 10.10.0.2 b 2
end_network
over_the_wire va 10.10.0.1 10.10.0.2 1001
over_the_wire vb 10.10.0.2 10.10.0.1 1002
