# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Clients write and read while replicas are killed, frozen and parted. Their history must be
# linearizable, each acknowledged append there once, and no session may have expired that was alive.

load ../lib/ensemble
load ../lib/netns
load ../lib/history

setup() { ensemble_setup; }

teardown()
{
    ensemble_teardown
    netns_teardown
}

# history_with SECONDS COMMAND: runs the clients, and COMMAND again and again meanwhile.
history_with()
{
    start_history "$1"
    while history_lasts; do
        "$2"
    done
    end_history
    # Without faults it would prove nothing.
    [ "$(cat "$T"/*/log | grep -c role=candidate)" -gt 1 ]
}

random_replica() { echo $((RANDOM % COUNT + 1)); }

pause() { sleep "$((RANDOM % 2)).$((RANDOM % 10))"; }

kill_or_freeze()
{
    local i
    pause
    case $((RANDOM % 4)) in
    0) i=$(leader || random_replica) ;;
    3) i=all ;;
    *) i=$(random_replica) ;;
    esac
    if [ "$i" = all ]; then
        kill -9 "${PIDS[@]}"
        for i in $(seq "$COUNT"); do
            wait "${PIDS[i]}" 2>/dev/null || true
            start_replica "$i"
        done
    elif [ $((RANDOM % 2)) -eq 0 ]; then
        kill_replica "$i"
        pause
        start_replica "$i"
    else
        kill -STOP "${PIDS[i]}"
        pause
        kill -CONT "${PIDS[i]}"
    fi
    for i in $(seq "$COUNT"); do
        wait_for 20 serves "$i"
    done
}

@test "kill -9 and SIGSTOP of one, the leader, all: the history is linearizable" {
    start_ensemble 3
    history_with 14 kill_or_freeze
}

part()
{
    local i j
    pause
    i=$(random_replica)
    j=$((i % COUNT + 1))
    case $((RANDOM % 4)) in
    0) isolate "$i" ;;
    1) part_from "$i" "$j" ;;
    2)
        i=$(leader || random_replica)
        for j in $(seq "$COUNT"); do
            [ "$j" -eq "$i" ] || part_from "$i" "$j" # it speaks and does not hear
        done
        ;;
    3)
        lose_from "$i" "$j" 20
        lose_from "$j" "$i" 20
        ;;
    esac
    pause
    heal
}

@test "partitions of all kinds, one-way ones too, and lost packets: the history is linearizable" {
    start_netns_ensemble 3
    history_with 14 part
}

part_and_kill()
{
    local i
    i=$(random_replica)
    isolate "$i"
    pause
    i=$(random_replica)
    kill_replica "$i"
    pause
    heal
    start_replica "$i"
    wait_for 20 serves "$i"
}

@test "five replicas and two observers, parted and killed at once: the history is linearizable" {
    start_netns_ensemble 7
    ctl 1 members demote 6
    ctl 1 members demote 7
    history_with 14 part_and_kill
    [ "$(ctl_any members | grep -c ' voter ')" -eq 5 ]
    [ "$(ctl_any members | grep -c ' learner ')" -eq 2 ]
}
