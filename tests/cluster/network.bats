# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Bad networks between the replicas, one kind a test, while clients write through all of them: the
# history is linearizable, no session expires, and writes go on all the time (CONSENSUS 3).

load ../lib/ensemble
load ../lib/netns
load ../lib/history

setup() { ensemble_setup; }

teardown()
{
    ensemble_teardown
    netns_teardown
}

# Waits until the replicas but I follow another leader than I. replaced I
others_follow_another()
{
    local i seen
    for i in $(seq "$COUNT"); do
        if [ "$i" -ne "$1" ]; then
            seen=$(leader_by "$i") && [ "$seen" -ne "$1" ] || return 1
        fi
    done
}

@test "20 ms of delay and as much of jitter each way: nobody becomes leader in place of the leader" {
    SLOW_NET=1 start_netns_ensemble 3
    delay 20 20
    local before
    before=$(leaderships)
    start_history 5
    HISTORY_OPS_MIN=100 end_history
    [ "$(leaderships)" -le "$before" ]
    # There was a delay: a write takes two ways at least.
    begin=$(date +%s%3N)
    ctl 1 create /a x
    [ $(($(date +%s%3N) - begin)) -ge 40 ]
    no_gap 1000
}

@test "a twentieth of all packets is lost: writes go on" {
    start_netns_ensemble 3
    local i j
    start_history 6
    for i in 1 2 3; do
        for j in 1 2 3; do
            [ "$i" -eq "$j" ] || lose_from "$i" "$j" 5
        done
    done
    HISTORY_OPS_MIN=100 end_history
    no_gap 4000
}

@test "a leader that hears nobody, then one that nobody hears, is replaced" {
    start_netns_ensemble 3
    local old i
    start_history 7
    old=$(leader)
    for i in 1 2 3; do
        [ "$i" -eq "$old" ] || part_from "$old" "$i"
    done
    wait_for 5 others_follow_another "$old"
    sleep 1
    heal
    wait_for 10 leader_by "$old"
    old=$(leader)
    for i in 1 2 3; do
        [ "$i" -eq "$old" ] || part_from "$i" "$old"
    done
    wait_for 5 others_follow_another "$old"
    sleep 1
    heal
    end_history
    no_gap 3000
}

@test "a follower that hears nobody, then one that nobody hears, disturbs no one" {
    start_netns_ensemble 3
    local leader follower i before
    leader=$(leader)
    follower=$((leader % 3 + 1))
    start_history 6
    before=$(leaderships)
    for i in 1 2 3; do
        [ "$i" -eq "$follower" ] || part_from "$follower" "$i"
    done
    sleep 2
    heal
    wait_for 10 leader_by "$follower"
    for i in 1 2 3; do
        [ "$i" -eq "$follower" ] || part_from "$i" "$follower"
    done
    sleep 2
    heal
    end_history
    [ "$(leaderships)" -le "$before" ]
    no_gap 1500
}

@test "a leader that is cut off is replaced, and its clients move" {
    start_netns_ensemble 3
    local old
    old=$(leader)
    start_history 5
    isolate "$old"
    wait_for 5 others_follow_another "$old"
    sleep 2
    heal
    wait_for 10 leader_by "$old"
    end_history
    no_gap 2500
}

@test "a link between two is cut, both see the third: one leader, writes go on" {
    start_netns_ensemble 3
    local leader a b before
    leader=$(leader)
    a=$((leader % 3 + 1))
    b=$((a % 3 + 1))
    start_history 7
    # Between the followers: nobody may even notice.
    before=$(leaderships)
    cut_between "$a" "$b"
    sleep 2
    [ "$(leaderships)" -le "$before" ]
    heal
    # Between the leader and one of them: it may be replaced, but not again and again.
    cut_between "$leader" "$a"
    sleep 3
    [ $(($(leaderships) - before)) -le 2 ]
    heal
    end_history
    no_gap 2500
}
