# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Floods: clients that send at full speed and never read, a replica that takes nothing. What the
# replicas remember for them is bounded by common/limits.h; the figures are shown as comments.

load ../lib/ensemble
load ../lib/load

setup()
{
    [ -z "${QUORUMFS_SAN:-}" ] || skip "sanitizers need memory of their own"
    ensemble_setup
}

teardown() { [ -z "${T:-}" ] || ensemble_teardown; }

# For longer ones by hand: FLOOD_SECONDS=30 bats tests/cluster/flood.bats
FLOOD_SECONDS=${FLOOD_SECONDS:-5}

# A maximum of common/limits.h, in MiB.
limit_mib()
{
    sed -n "s/^#define $1  *(\([0-9]*\)u \* MIB).*/\1/p" "$BATS_TEST_DIRNAME/../../common/limits.h"
}

# What a replica may need for its own work: for the core, the overlay (one in use, one being
# written), two peers; as much again for RocksDB and for what malloc keeps.
own_mib()
{
    echo $((2 * ($(limit_mib UNCOMMITTED_BYTES_MAX) + $(limit_mib RAFT_TAIL_BYTES_MAX) + \
        2 * $(limit_mib OVERLAY_BYTES_MAX) + \
        2 * ($(limit_mib INFLIGHT_BYTES_MAX) + $(limit_mib SEND_QUEUE_BYTES_MAX)))))
}

# Peak of memory of replica I, in MiB.
peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/${PIDS[$1]}/status"; }

# The replicas, but those that were killed, stay below so many MiB. peaks_below MIB WHAT
peaks_below()
{
    local i
    for i in "${!PIDS[@]}"; do
        echo "# $2: replica $i needed at most $(peak_mib "$i") MiB, limit $1" >&3
    done
    for i in "${!PIDS[@]}"; do
        [ "$(peak_mib "$i")" -le "$1" ]
    done
}

flood() { "$QUORUMFS_TESTS/cluster/flood" "unix:$T/$1/sock" "${@:2}" "$FLOOD_SECONDS"; }

answers_soon()
{
    local i
    for i in 1 2 3; do
        ctl "$i" --timeout 5 stat /node >/dev/null
        kill -0 "${PIDS[i]}"
    done
}

make_node()
{
    ctl 1 create /node
    head -c "$1" /dev/zero | ctl 1 set /node -
}

@test "a hundred clients that ask for large nodes and never read" {
    start_ensemble 3
    make_node 1048576
    flood 1 read /node 0 50 &
    flood 2 read /node 0 50
    wait $!
    # Each has some answers that it does not take.
    peaks_below $(($(own_mib) + 50 * 2)) "never read"
    answers_soon
    ctl_any set /node x
}

@test "a hundred clients that write small nodes at full speed and never read" {
    start_ensemble 3
    make_node 1
    flood 1 write /node 100 50 &
    flood 2 write /node 100 50
    wait $!
    peaks_below "$(own_mib)" "small writes"
    answers_soon
    # All of them are behind what was admitted.
    ctl_any --timeout 40 set /node x
}

@test "a follower that takes nothing for a while under full load, then catches up" {
    start_ensemble 3
    local leader frozen other before
    leader=$(leader)
    frozen=$((leader % 3 + 1))
    other=$((frozen % 3 + 1))
    ctl "$other" create --dir /set
    in_background "$QUORUMFS_TESTS/bench/bench_native" set --server "$(servers "$other")" --folder /set \
        --nodes 100 --bytes 16384 --outstanding 128 --seconds $((FLOOD_SECONDS + 1)) >"$T/bench.log" 2>&1
    local bench=$!
    sleep 1
    kill -STOP "${PIDS[frozen]}"
    before=$(applied "$leader")
    wait "$bench"
    cat "$T/bench.log"
    echo "# $(($(applied "$leader") - before)) entries of 16 KiB behind" >&3
    kill -CONT "${PIDS[frozen]}"
    catches_up "$frozen" "$leader"
    peaks_below "$(own_mib)" "frozen follower"
}

@test "clients that write large nodes at full speed and never read" {
    start_ensemble 3
    make_node 1
    flood 1 write /node 1048576 2 &
    flood 2 write /node 1048576 2
    wait $!
    peaks_below $(($(own_mib) + 2 * $(limit_mib SEND_QUEUE_BYTES_MAX))) "large writes"
    answers_soon
    ctl_any --timeout 40 set /node x
}
