# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Three replicas: what one answered all have; kill -9 of one, two and all; a stopped one, a damaged
# one, a wiped one.

load ../lib/ensemble

setup() { ensemble_setup; }
teardown()
{
    umount -l "$T/small" 2>/dev/null || true
    ensemble_teardown
}

# start_load NAME I...: begins to create nodes below /load, many at a time, in one session through
# these replicas first; what was answered stands in $T/NAME.acked. Ended and checked by end_load.
start_load()
{
    local name=$1
    shift
    ctl "$1" create --dir /load >/dev/null 2>&1 || ctl "$1" stat /load >/dev/null
    in_background "$QUORUMFS_TESTS/cluster/write_load" "$(servers "$@")" /load "$name" 16 \
        >"$T/$name.acked" 2>"$T/$name.err"
    LOAD_PIDS[$name]=$!
    wait_for 10 test -s "$T/$name.acked"
}

declare -gA LOAD_PIDS

# Every write of the load was answered and none failed.
end_load()
{
    local status=0
    kill "${LOAD_PIDS[$1]}" || true
    wait "${LOAD_PIDS[$1]}" || status=$?
    head -n 5 "$T/$1.err"
    [ $status -eq 0 ] && [ ! -s "$T/$1.err" ]
}

answers() { wc -l <"$T/$1.acked"; }

# has_answers NAME N
has_answers() { [ "$(answers "$1")" -ge "$2" ]; }

# The load goes on: so many more answers than now.
goes_on()
{
    wait_for 20 has_answers "$1" $(($(answers "$1") + $2))
}

# check_load I NAME...: as replica I tells, nothing that was answered is lost, nothing was done
# twice, and nothing failed that was counted.
check_load()
{
    local i=$1
    shift
    ctl "$i" sync >/dev/null
    ctl "$i" ls /load >"$T/listing"
    python3 - "$T" "$@" <<'PYTHON'
import sys
folder, names = sys.argv[1], sys.argv[2:]
there = open(f'{folder}/listing').read().split()
acked = [line.split()[0] for name in names for line in open(f'{folder}/{name}.acked')]
lost = set(acked) - set(there)
assert not lost, f'lost: {sorted(lost)[:5]} of {len(acked)}'
writes = ['-'.join(name.split('-')[:2]) for name in there]
assert len(set(writes)) == len(writes), 'some write was done twice'
numbers = sorted(int(name.split('-')[2]) for name in there)
assert numbers == list(range(len(there))), 'some sequential number was left out or given twice'
assert len(there) == len(acked), f'{len(there)} nodes, {len(acked)} answers'
print(f'{len(acked)} writes, the slowest answered after',
      max(int(line.split()[1]) for name in names for line in open(f'{folder}/{name}.acked')), 'ms')
PYTHON
}

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

@test "a replica whose disk is full ends and says so, the others go on; with room it comes back" {
    write_configs 3
    mkdir "$T/small"
    mount -t tmpfs -o size=200m none "$T/small"
    sed -i "s|^data = .*|data = $T/small/data|" "$T/1/conf"
    local i
    for i in 1 2 3; do
        start_replica "$i"
    done
    for i in 1 2 3; do
        wait_for 20 serves "$i"
    done
    start_load x 1
    dd if=/dev/zero of="$T/small/filler" bs=1M status=none 2>/dev/null || true
    has_ended() { ! kill -0 "${PIDS[1]}"; }
    wait_for 20 has_ended
    local status=0
    wait "${PIDS[1]}" || status=$?
    [ $status -eq 1 ]
    grep "level=error .*No space left on device" "$T/1/log"
    goes_on x 100
    rm "$T/small/filler"
    start_replica 1
    wait_for 20 serves 1
    catches_up 1 2
    end_load x
    check_load 1 x
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
