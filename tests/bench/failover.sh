#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `tests/bench/failover.sh [ROUNDS]`: the longest time without an answered write when the leader is
# killed, when it is frozen, when a follower is killed (for a client of another one), and when
# nothing happens: what the machine itself does. The faults take turns, so that all see the same
# machine. The median must be within the limit; status 1 if one is not. Part of `make bench`.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
# shellcheck source=tests/lib/history.bash
. tests/lib/history.bash
exec 3>/dev/null
: "${QUORUMFS_TESTS:?}"
ROUNDS=${1:-20}

ensemble_setup
trap 'BATS_TEST_COMPLETED=1; ensemble_teardown' EXIT
start_ensemble 3

# gap FAULT: one round; the gap in ms stands behind the others in $T/FAULT.
gap()
{
    local leader follower i
    leader=$(leader)
    follower=$((leader % 3 + 1))
    HISTORY_SERVERS=$(servers $((follower % 3 + 1))) start_history 2 --clients 1 --registers 1
    sleep 0.5
    case $1 in
    leader_killed) kill_replica "$leader" ;;
    leader_frozen) kill -STOP "${PIDS[leader]}" ;;
    follower_killed) kill_replica "$follower" ;;
    esac
    wait "$HISTORY_PID"
    case $1 in
    leader_killed) start_replica "$leader" ;;
    leader_frozen) kill -CONT "${PIDS[leader]}" ;;
    follower_killed) start_replica "$follower" ;;
    esac
    value gap_ms >>"$T/$1"
    for i in 1 2 3; do
        wait_for 20 serves "$i"
        wait_for 20 leader_by "$i"
        catches_up "$i" $((i % 3 + 1))
    done
}

# show FAULT LIMIT
show()
{
    local median verdict=ok
    sort -n "$T/$1" >"$T/sorted"
    median=$(sed -n "$(((ROUNDS + 1) / 2))p" "$T/sorted")
    if [ "$2" != - ] && [ "$median" -gt "$2" ]; then
        verdict=over
        STATUS=1
    fi
    printf '%-16s %8s %8s %8s %8s  %s\n' "${1/_/ }" "$(head -n 1 "$T/sorted")" "$median" \
        "$(tail -n 1 "$T/sorted")" "$2" "$verdict"
}

for _ in $(seq "$ROUNDS"); do
    for fault in nothing follower_killed leader_killed leader_frozen; do
        gap $fault
    done
done
STATUS=0
printf '%-16s %8s %8s %8s %8s   (longest ms without an answered write, %s rounds)\n' \
    fault least median most limit "$ROUNDS"
show nothing -
show follower_killed 50
show leader_killed 300
show leader_frozen 1000
exit $STATUS
