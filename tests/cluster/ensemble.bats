# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Three replicas: what one answered all have; kill -9 of one, two and all; a wiped one; the demo.

load ../lib/ensemble

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

# write_loop NAME I...: creates /NAME-1, /NAME-2, ... through one session and notes what was answered
# in $T/NAME.acked, until $T/stop exists.
write_loop()
{
    local name=$1 i=0
    shift
    while [ ! -e "$T/stop" ]; do
        i=$((i + 1))
        if "$QUORUMFS_BIN/quorumctl" --server "$(servers "$@")" create "/$name-$i" "$i" \
            >/dev/null 2>>"$T/$name.err"; then
            echo "$i" >>"$T/$name.acked"
        fi
    done
}

# Every acknowledged node is there with its content, as replica I tells.
check_acked()
{
    local name=$1 i=$2 number
    ctl "$i" ls / >"$T/listing"
    while read -r number; do
        grep -qxF "$name-$number" "$T/listing" || {
            echo "lost: /$name-$number"
            return 1
        }
    done <"$T/$name.acked"
    number=$(tail -n 1 "$T/$name.acked")
    [ "$(ctl "$i" get "/$name-$number")" = "$number" ]
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

@test "the leader is killed while two write: nothing answered is lost, it comes back and catches up" {
    start_ensemble 3
    local old
    old=$(leader)
    write_loop x 1 3>&- 8>&- &
    local x=$!
    write_loop y 2 3>&- 8>&- &
    local y=$!
    wait_for 10 test -s "$T/x.acked"
    wait_for 10 test -s "$T/y.acked"
    kill_replica "$old"
    wait_for 10 has_leader_but "$old"
    local seen
    seen=$(wc -l <"$T/x.acked")
    more() { [ "$(wc -l <"$T/x.acked")" -gt $((seen + 20)) ]; }
    wait_for 10 more
    start_replica "$old"
    wait_for 10 serves "$old"
    touch "$T/stop"
    wait "$x" "$y"
    for i in 1 2 3; do
        ctl "$i" sync
        check_acked x "$i"
        check_acked y "$i"
    done
}

@test "all three are killed at once and started again: nothing answered is lost" {
    start_ensemble 3
    write_loop x 1 3>&- 8>&- &
    local x=$!
    enough() { [ "$(wc -l <"$T/x.acked")" -ge 50 ]; }
    wait_for 20 enough
    kill -9 "${PIDS[@]}"
    touch "$T/stop"
    wait "$x"
    for i in 1 2 3; do
        wait "${PIDS[i]}" 2>/dev/null || true
        start_replica "$i"
    done
    for i in 1 2 3; do
        wait_for 20 serves "$i"
        ctl "$i" sync
        check_acked x "$i"
    done
}

@test "two of three down: reads are answered, writes are refused within their time; one back: writes work" {
    start_ensemble 3
    ctl 3 create /a before
    ctl 3 sync
    kill_replica 1
    kill_replica 2
    [ "$(ctl 3 get /a)" = before ]
    local begin=$SECONDS
    run ctl 3 --timeout 2 set /a lost
    echo "$output"
    [ "$status" -ne 0 ]
    [ $((SECONDS - begin)) -le 5 ]
    start_replica 1
    set_after() { ctl 3 --timeout 5 set /a after; }
    wait_for 20 set_after
    [ "$(ctl 3 get /a)" = after ]
}

@test "a replica whose folder was wiped stays without a vote and says why" {
    start_ensemble 3
    ctl_any create /a x
    local wiped=3
    kill_replica $wiped
    rm -rf "$T/$wiped/data"
    start_replica $wiped
    said() { grep -h "wiped" "$T/1/log" "$T/2/log"; }
    wait_for 10 said
    run serves $wiped
    [ "$status" -ne 0 ]
    ctl 1 set /a y
    # With one more gone there is no majority: the wiped one must not make it up.
    kill_replica 1
    run ctl 2 --timeout 2 set /a z
    [ "$status" -ne 0 ]
    [ "$(ctl 2 get /a)" = y ]
    start_replica 1
    set_z() { ctl 2 --timeout 5 set /a z; }
    wait_for 20 set_z
}

@test "a leader that is asked to end hands over: the next write is answered at once" {
    start_ensemble 3
    ctl_any create /a x
    local old
    old=$(leader)
    stop_replica "$old"
    begin=$(date +%s%N)
    ctl_any set /a y
    took=$((($(date +%s%N) - begin) / 1000000))
    echo "answered after $took ms"
    [ -n "${QUORUMFS_SAN:-}" ] || [ "$took" -lt 1000 ]
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

@test "make up starts three replicas and two mounts, says when they run, make down ends them all" {
    [ -z "${QUORUMFS_SAN:-}" ] || skip "sanitizers are slow"
    local ports port
    read -ra ports <<<"$(free_ports 1)"
    port=$((ports[0] > 60000 ? ports[0] - 5000 : ports[0]))
    export RUN="$T/with blank" PORT=$port
    run "$BATS_TEST_DIRNAME/../../packaging/demo/up.sh" 3>&- 8>&-
    echo "$output"
    [ "$status" -eq 0 ]
    echo v1 >"$RUN/a/conf"
    [ "$(cat "$RUN/b/conf")" = v1 ]
    run "$BATS_TEST_DIRNAME/../../packaging/demo/up.sh" 3>&- 8>&-
    [ "$status" -eq 0 ]
    [[ $output == *"runs already"* ]]
    kill -9 "$(cat "$RUN/1/pid")"
    echo v2 >"$RUN/a/conf"
    [ "$(cat "$RUN/b/conf")" = v2 ]
    local pids
    pids=$(cat "$RUN"/[23]/pid "$RUN"/[ab].pid)
    run "$BATS_TEST_DIRNAME/../../packaging/demo/down.sh"
    echo "$output"
    [ "$status" -eq 0 ]
    for pid in $pids; do
        run kill -0 "$pid"
        [ "$status" -ne 0 ] || [ "$(sed 's/.*) //' "/proc/$pid/stat" | cut -c 1)" = Z ]
    done
    run grep -F "$T" /proc/mounts
    [ "$status" -ne 0 ]
}
