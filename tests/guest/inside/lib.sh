# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced before a test script: where things are.
export PATH=/haul/bin:$PATH LD_LIBRARY_PATH=/haul/lib HAUL_PROVIDER_PATH=/haul/providers

# The two ends of the wire (network.sh), and their devices for HAUL_NIC.
export A=10.10.0.1 B=10.10.0.2

now() { cut -d' ' -f1 /proc/uptime; } # seconds since boot, as CLOCK_MONOTONIC counts
say() { echo "[$(now)] $*"; }
