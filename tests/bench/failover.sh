#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `tests/bench/failover.sh [ROUNDS]`: the longest time without an answered write when the leader is
# killed, when it is frozen, when a follower is killed, and when nothing happens (what the machine
# itself does). Part of `make bench`.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
exec 3>/dev/null
: "${QUORUMFS_TESTS:?}"

ensemble_setup
trap 'BATS_TEST_COMPLETED=1; ensemble_teardown' EXIT
start_ensemble 3

# gap FAULT: one round; prints the gap in ms.
gap()
{
    local clients leader follower out=$T/gap
    leader=$(leader)
    follower=$((leader % 3 + 1))
    "$QUORUMFS_TESTS/cluster/history" --server "$(servers $((follower % 3 + 1)))" --clients 1 \
        --registers 1 --seconds 2 >"$out" &
    clients=$!
    sleep 0.7
    case $1 in
    "leader killed") kill_replica "$leader" ;;
    "leader frozen") kill -STOP "${PIDS[leader]}" ;;
    "follower killed") kill_replica "$follower" ;;
    esac
    wait "$clients"
    case $1 in
    "leader killed") start_replica "$leader" ;;
    "leader frozen") kill -CONT "${PIDS[leader]}" ;;
    "follower killed") start_replica "$follower" ;;
    esac
    for i in 1 2 3; do
        wait_for 20 serves "$i"
    done
    tr ' ' '\n' <"$out" | sed -n 's/^gap_ms=//p'
}

printf '%-16s %8s %8s %8s   (longest ms without an answered write, %s rounds)\n' \
    fault least median most "${1:-20}"
for fault in "nothing" "follower killed" "leader killed" "leader frozen"; do
    : >"$T/raw"
    for _ in $(seq "${1:-20}"); do
        gap "$fault" >>"$T/raw" # no pipe: the replicas must stay children of this shell
    done
    sort -n "$T/raw" >"$T/gaps"
    printf '%-16s %8s %8s %8s\n' "$fault" "$(head -n 1 "$T/gaps")" \
        "$(sed -n "$(((${1:-20} + 1) / 2))p" "$T/gaps")" "$(tail -n 1 "$T/gaps")"
done
