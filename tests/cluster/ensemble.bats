# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Three replicas: what one answered all have; kill -9 of one, two and all; a stopped one, a damaged
# one.

load ../lib/ensemble
load ../lib/load

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

# Time limits say nothing where sanitizers slow all down. within MS BEGIN_NS
within()
{
    local took=$((($(date +%s%N) - $2) / 1000000))
    echo "took $took ms of $1"
    [ -n "${QUORUMFS_SAN:-}" ] || [ "$took" -le "$1" ]
}

@test "what one replica answered is read from each" {
    start_ensemble 3
    ctl 1 create /a one
    ctl 2 set /a two
    for i in 1 2 3; do
        ctl "$i" sync
        [ "$(ctl "$i" get /a)" = two ]
    done
    [ "$(ctl 2 members --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" -eq 3 ]
}

@test "each replica is killed in turn while two write: nothing is lost, nothing is done twice, it catches up" {
    start_ensemble 3
    start_load x 1
    start_load y 2
    local i begin old
    for i in 1 2 3 leader; do
        old=$(leader)
        [ $i = leader ] || old=$i
        kill_replica "$old"
        begin=$(date +%s%N)
        wait_for 10 has_leader_but "$old"
        goes_on x 100
        goes_on y 100
        echo "replica $old was killed"
        within 2000 "$begin"
        start_replica "$old"
        wait_for 20 serves "$old"
        catches_up "$old" "$(leader)"
    done
    end_load x
    end_load y
    for i in 1 2 3; do
        check_load "$i" x y
    done
}

@test "all three are killed at once and started again: nothing is lost, what was under way goes on" {
    start_ensemble 3
    start_load x 1
    start_load y 3
    local i
    for _ in 1 2; do
        goes_on x 100
        goes_on y 100
        kill -9 "${PIDS[@]}"
        for i in 1 2 3; do
            wait "${PIDS[i]}" 2>/dev/null || true
        done
        for i in 1 2 3; do
            start_replica "$i"
        done
    done
    goes_on x 100
    goes_on y 100
    end_load x
    end_load y
    for i in 1 2 3; do
        wait_for 20 serves "$i"
        check_load "$i" x y
    done
}

@test "a leader that is stopped for a while: the others go on, it follows them afterwards" {
    start_ensemble 3
    local old begin follower
    old=$(leader)
    follower=$((old % 3 + 1))
    start_load x "$follower"
    kill -STOP "${PIDS[old]}"
    begin=$(date +%s%N)
    goes_on x 200
    within 2000 "$begin"
    kill -CONT "${PIDS[old]}"
    follows() { [ "$(leader_by "$old")" = "$(leader_by "$follower")" ]; }
    wait_for 10 follows
    catches_up "$old" "$follower"
    end_load x
    check_load "$old" x
}

@test "two of three down: reads are answered at once, writes are refused in time; one back: writes work" {
    start_ensemble 3
    ctl 3 create /a before
    ctl 3 sync
    kill_replica 1
    kill_replica 2
    local begin
    begin=$(date +%s%N)
    [ "$(ctl 3 get /a)" = before ]
    [ "$(ctl 3 ls /)" = a ]
    within 500 "$begin"
    begin=$(date +%s%N)
    run ctl 3 --timeout 2 set /a lost
    echo "$output"
    [ "$status" -eq 1 ]
    within 4000 "$begin"
    [ "$(ctl 3 get /a)" = before ]
    start_replica 1
    set_after() { ctl 3 --timeout 5 set /a after; }
    wait_for 20 set_after
    [ "$(ctl 3 get /a)" = after ]
    [ "$(ctl 1 get /a)" = after ]
}

@test "a replica with a damaged log does not start, and the others go on" {
    start_ensemble 3
    local i log
    for i in 1 2 3 4 5 6; do
        ctl 1 create "/n$i" "text $i"
    done
    ctl 3 sync
    stop_replica 3
    log=$(echo "$T"/3/data/log/*.log)
    flip_bit "$log"
    run timeout 10 "$QUORUMFS_BIN/quorumd" --config "$T/3/conf"
    echo "$output"
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *"$log"* ]]
    ctl 1 set /n1 other
    [ "$(ctl 1 get /n1)" = other ]
    # Nor with the log taken away.
    rm "$log"
    run timeout 10 "$QUORUMFS_BIN/quorumd" --config "$T/3/conf"
    echo "$output"
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
}

@test "a leader that is asked to end hands over: the next write is answered at once" {
    start_ensemble 3
    ctl_any create /a x
    local old
    old=$(leader)
    stop_replica "$old"
    begin=$(date +%s%N)
    ctl_any set /a y
    within 1000 "$begin"
}

@test "a key that differs keeps a replica out" {
    write_configs 3
    (umask 077 && echo "another key, of a stranger" >"$T/key3")
    sed -i "s|$T/key\$|$T/key3|" "$T/3/conf"
    for i in 1 2 3; do
        start_replica "$i"
    done
    said() { grep "does not know the key" "$T/1/log"; }
    wait_for 10 said
    run serves 1
    [ "$status" -ne 0 ] # an ensemble forms only when all are there
}

@test "a follower whose last group was cut off comes back under the same leader" {
    start_ensemble 3
    local old follower log
    old=$(leader)
    follower=$((old % 3 + 1))
    for i in 1 2 3 4 5 6; do
        ctl "$old" create "/n$i" "text $i"
    done
    ctl "$follower" sync
    kill_replica "$follower"
    log=$(echo "$T/$follower"/data/log/*.log)
    truncate -s $(($(python3 -c 'import sys; print(len(open(sys.argv[1], "rb").read().rstrip(b"\0")))' "$log") - 5)) "$log"
    start_replica "$follower"
    wait_for 10 serves "$follower"
    [ "$(ctl "$follower" get /n6)" = "text 6" ]
    [ "$(leader)" = "$old" ]
}
