# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# A rolling restart, as for an upgrade: each replica is asked to end and started again in turn. The
# clients notice a pause at most; any error of theirs is a failure.

load ../lib/ensemble
load ../lib/load
load ../lib/history

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

# Two loads of writes, clients with a history, and meanwhile each replica ends and starts again, the
# leader last or when its turn comes. restart_all_of COUNT SECONDS
restart_all_of()
{
    local i old restarts=0
    start_ensemble "$1"
    start_load x 1
    start_load y 2
    start_history "$2"
    old=$(leader)
    while history_lasts 3000; do
        for i in $(seq "$1") "$old"; do
            stop_replica "$i"
            start_replica "$i"
            wait_for 20 serves "$i"
            catches_up "$i" "$((i % $1 + 1))"
            restarts=$((restarts + 1))
            history_lasts || break
        done
        old=$(leader)
    done
    echo "$restarts restarts"
    [ "$restarts" -ge "$1" ]
    goes_on x 100
    goes_on y 100
    end_load x
    end_load y
    end_history
    [ "$(value unknown)" -eq 0 ]
    [ "$(value failed)" -eq 0 ]
    [ "$(value unread)" -eq 0 ]
    for i in $(seq "$1"); do
        check_load "$i" x y
    done
    no_gap 1000
}

@test "three replicas end and start again in turn while clients write: no operation fails" {
    restart_all_of 3 15
}

@test "five replicas end and start again in turn while clients write: no operation fails" {
    restart_all_of 5 12
}
