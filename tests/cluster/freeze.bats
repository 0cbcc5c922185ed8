# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Processes that stand still for a while and go on (SIGSTOP): replicas and clients. Sessions of
# those who can say that they are alive live on; others are not hindered (CONSENSUS 22, 28).

load ../lib/ensemble
load ../lib/load
load ../lib/history

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

@test "a follower stands still for 5 s: its clients leave it and keep sessions of 3 s" {
    start_ensemble 3
    local leader follower before
    leader=$(leader)
    follower=$((leader % 3 + 1))
    # It begins with the one that will stand still.
    HISTORY_SERVERS=$(servers "$follower") start_history 8 --clients 1 --timeout 3000
    start_load x "$follower"
    before=$(leaderships)
    kill -STOP "${PIDS[follower]}"
    goes_on x 200 # its session has moved
    sleep 5
    kill -CONT "${PIDS[follower]}"
    wait_for 10 leader_by "$follower"
    catches_up "$follower" "$leader"
    end_load x
    end_history
    no_gap 1000
    # It led to no election, neither meanwhile nor when it went on.
    [ "$(leaderships)" -le "$before" ]
    check_load "$follower" x
}

@test "the leader stands still for longer than sessions live: no session expires, then or later" {
    start_ensemble 3
    local old
    start_history 9 --timeout 3000
    old=$(leader)
    kill -STOP "${PIDS[old]}"
    wait_for 5 has_leader_among_others
    sleep 4
    kill -CONT "${PIDS[old]}"
    wait_for 10 leader_by "$old"
    end_history
    no_gap 2500
}

# Those that do not stand still follow one that does not either.
has_leader_among_others()
{
    local i seen
    for i in 1 2 3; do
        if [ "$i" -ne "$old" ]; then
            seen=$(leader_by "$i") && [ "$seen" -ne "$old" ] || return 1
        fi
    done
}

@test "all replicas stand still for longer than sessions live: no session expires" {
    start_ensemble 3
    start_history 8 --timeout 3000
    kill -STOP "${PIDS[@]}"
    sleep 5
    kill -CONT "${PIDS[@]}"
    wait_for 10 leader
    HISTORY_OPS_MIN=100 end_history
}

@test "a client that stands still loses its own session alone, others are not hindered" {
    start_ensemble 3
    local frozen
    in_background "$QUORUMFS_BIN/quorumctl" --server "unix:$T/1/sock" create -e /frozen
    frozen=$!
    wait_for 10 ctl 1 stat /frozen
    # The default timeout of a session is 10 s.
    start_history 14
    kill -STOP "$frozen"
    sleep 4
    ctl 2 stat /frozen
    gone() { ! ctl 2 stat /frozen; }
    wait_for 14 gone
    kill -CONT "$frozen"
    end_history
    [ "$(value unknown)" -eq 0 ]
    [ "$(value failed)" -eq 0 ]
    [ "$(value unread)" -eq 0 ]
    no_gap 1000
}
