# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# `make up` and `make down`: what they start, say and end, and what they leave alone.

load ../lib/ensemble

setup()
{
    [ -z "${QUORUMFS_SAN:-}" ] || skip "sanitizers are slow"
    ensemble_setup
    local ports
    read -ra ports <<<"$(free_ports 1)"
    # There must be room above it, and away from where the kernel looks for free ports.
    export RUN="$T/with blank" PORT=$((12000 + ports[0] % 15000))
}

teardown()
{
    [ -z "${QUORUMFS_SAN:-}" ] || return 0
    down >/dev/null || true
    [ -z "${BATS_TEST_COMPLETED:-}" ] && tail -n 5 "$RUN"/*/log "$RUN"/*.log 2>/dev/null
    ensemble_teardown
}

up() { "$BATS_TEST_DIRNAME/../../packaging/demo/up.sh" 3>&- 8>&-; }
down() { "$BATS_TEST_DIRNAME/../../packaging/demo/down.sh" 3>&- 8>&-; }

# has_content FILE TEXT
has_content() { [ "$(cat "$1")" = "$2" ]; }

# runs PID: it has not ended, or nobody has asked for its status.
runs()
{
    local state
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c 1)
    [ -n "$state" ] && [ "$state" != Z ]
}

@test "make up starts three replicas and two mounts, says when they run; make down ends them, not the data" {
    run up
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"$PORT, $((PORT + 1)), $((PORT + 2))"* ]]
    for i in 0 1 2; do
        "$QUORUMFS_BIN/quorumctl" --server "127.0.0.1:$((PORT + i))" status
    done
    echo v1 >"$RUN/a/conf"
    wait_for 5 has_content "$RUN/b/conf" v1
    run up
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"runs already"* ]]
    kill -9 "$(cat "$RUN/1/pid")"
    echo v2 >"$RUN/a/conf"
    wait_for 5 has_content "$RUN/b/conf" v2
    # What was killed is started again, the rest is left as it is.
    local second pids pid
    second=$(cat "$RUN/2/pid")
    run up
    [ "$status" -eq 0 ]
    [[ $output != *"runs already"* ]]
    [ "$(cat "$RUN/2/pid")" = "$second" ]
    "$QUORUMFS_BIN/quorumctl" --server "127.0.0.1:$PORT" status
    pids=$(cat "$RUN"/[123]/pid "$RUN"/[ab].pid)
    run down
    echo "$output"
    [ "$status" -eq 0 ]
    for pid in $pids; do
        run runs "$pid"
        [ "$status" -ne 0 ]
    done
    run grep -F "$T" /proc/mounts
    [ "$status" -ne 0 ]
    run find "$RUN" -name '*pid' -o -name started
    [ -z "$output" ]
    run up
    [ "$status" -eq 0 ]
    [ "$(cat "$RUN/b/conf")" = v2 ]
}

@test "the commands that make up prints work as they stand" {
    run up
    [ "$status" -eq 0 ]
    sed -n 's/^    //p' <<<"$output" >"$T/commands"
    [ "$(wc -l <"$T/commands")" -ge 5 ]
    sync_after() { sync "$RUN/b" && sync "$RUN/a"; }
    local command
    while read -r command; do
        case $command in
        mkdir*) run sh -ec "$command" && [ "$status" -ne 0 ] ;; # the second has to fail
        *) wait_for 5 sh -ec "$command" ;; # another replica may apply it a moment later
        esac
        sync_after
    done <"$T/commands"
    [ "$(cat "$RUN/a/conf")" = v2 ]
    [ -d "$RUN/b/lock" ]
}

@test "two of them at once start one ensemble" {
    up >"$T/first" 2>&1 &
    local first=$!
    up >"$T/second" 2>&1
    wait "$first"
    cat "$T/first" "$T/second"
    [ "$(cat "$T/first" "$T/second" | grep -c "are ready")" -eq 1 ]
    [ "$(cat "$T/first" "$T/second" | grep -c "runs already")" -eq 1 ]
}

@test "make down leaves alone what has the number of a process that has ended" {
    sleep 1000 3>&- 8>&- &
    local sleeper=$!
    OTHERS+=("$sleeper")
    mkdir -p "$RUN/1"
    echo "$sleeper" >"$RUN/1/pid"
    echo 1 >"$RUN/1/started"
    run down
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"nothing runs"* ]]
    runs "$sleeper"
    [ ! -e "$RUN/1/pid" ]
    rm -r "$RUN"
    run down
    [ "$status" -eq 0 ]
}

@test "a start that fails says why and leaves nothing running" {
    in_background python3 -c "
import socket, time
s = socket.create_server(('127.0.0.1', $PORT + 1))
open('$T/taken', 'w').close()
time.sleep(1000)"
    wait_for 10 test -e "$T/taken"
    run up
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *"cannot listen on 127.0.0.1:$((PORT + 1))"* ]]
    [[ $output == *"replica 2 did not come up"* ]]
    run find "$RUN" -name '*pid'
    [ -z "$output" ]
    run grep -F "$T" /proc/mounts
    [ "$status" -ne 0 ]
    run pgrep -f "$RUN"
    [ "$status" -ne 0 ]
}

@test "a port or folder that cannot be is one line" {
    local wrong
    for wrong in 0 70000 abc 08 -1; do
        PORT=$wrong run up
        echo "$output"
        [ "$status" -eq 1 ]
        [ "${#lines[@]}" -eq 1 ]
    done
    RUN="$T/a,b" run up
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    RUN="$T/$(printf 'x%.0s' $(seq 1 100))" run up
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    echo file >"$T/file"
    RUN="$T/file" run up
    echo "$output"
    [ "$status" -eq 1 ]
}
