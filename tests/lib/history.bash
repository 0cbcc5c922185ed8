# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Clients whose history is checked when they end, for the bats files: `load ../lib/history` behind
# ../lib/ensemble. See tests/cluster/history.c.
#
#   start_history 8 --clients 6;  kill_replica 2;  end_history;  [ "$(value gap_ms)" -lt 1000 ]

# start_history SECONDS OPTION...: six clients that begin with all replicas in turn (HISTORY_SERVERS:
# with these), in the background, which have begun when this returns; in $T/history what they said.
start_history()
{
    local seconds=$1
    shift
    in_background "$QUORUMFS_TESTS/cluster/history" --server "${HISTORY_SERVERS:-$(servers)}" \
        --seconds "$seconds" "$@" >"$T/history" 2>&1
    HISTORY_PID=$!
    wait_for 20 grep -q began "$T/history"
    HISTORY_END=$(($(date +%s%3N) + seconds * 1000))
}

# The clients go on for some time: so many milliseconds at least.
history_lasts() { [ $(($(date +%s%3N) + ${1:-0})) -lt "$HISTORY_END" ]; }

# What must hold whatever was done to the replicas: linearizable, nothing lost, nothing doubled, no
# session expired that was alive. A history of nothing would prove nothing.
end_history()
{
    local status=0
    wait "$HISTORY_PID" || status=$?
    cat "$T/history"
    [ $status -eq 0 ] && [ "$(value lost)" -eq 0 ] &&
        [ "$(value ops)" -gt "${HISTORY_OPS_MIN:-500}" ] &&
        [ "$(value appends)" -gt $((${HISTORY_OPS_MIN:-500} / 50)) ]
}

# A figure of the history that has ended.
value() { tr ' ' '\n' <"$T/history" | sed -n "s/^$1=//p"; }

# no_gap MS: some client got a write answered at least so often. Time limits say nothing where
# sanitizers slow all down.
no_gap()
{
    echo "longest gap $(value gap_ms) ms of $1"
    [ -n "${QUORUMFS_SAN:-}" ] || [ "$(value gap_ms)" -le "$1" ]
}
