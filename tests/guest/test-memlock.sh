# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# In the guest: an ordinary user who may lock 64 KiB of memory, which is what NICs need locked.
ordinary() {
    # shellcheck disable=SC3045 # (dash has it)
    (ulimit -l 64 && exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all "$@")
}
readonly WORK="x:f32[512,1024]"

ordinary haul bench --peers=none -p ofi:verbs -n 1 -d 1 --warmup 0 -w "$WORK" --json verbs.out 2>verbs.err
cat verbs.err
ordinary haul bench --peers=none -p auto -n 1 -d 1 --warmup 0 -w "$WORK" --json auto.out 2>auto.err
cat auto.err
grep -E '"(path|why|reason|messages)"' auto.out verbs.out
