# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Mounts while replicas die: nothing acknowledged is lost, nothing is done twice, nothing hangs.

load ../lib/ensemble

setup()
{
    ensemble_setup
    start_ensemble 3
    A=$T/a
    B=$T/b
}

teardown() { ensemble_teardown; }

# One round: 50 processes on both mounts want $A/lock; prints how many got it.
race()
{
    local i m pids=""
    : >"$T/won"
    for i in $(seq 1 50); do
        m=$A
        [ $((i % 2)) -eq 0 ] && m=$B
        (mkdir "$m/lock" 2>/dev/null && echo "$i" >>"$T/won") 3>&- 8>&- &
        pids="$pids $!"
    done
    # shellcheck disable=SC2086
    wait $pids || true
    wc -l <"$T/won"
}

@test "mkdir by 50 processes on both mounts: exactly one succeeds, 200 rounds" {
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    for round in $(seq 1 200); do
        winners=$(race)
        echo "round $round: $winners"
        [ "$winners" -eq 1 ]
        rmdir "$B/lock"
    done
}

@test "mkdir by 50 processes while the leader is killed: exactly one succeeds" {
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    for round in $(seq 1 12); do
        old=$(leader)
        (
            sleep "0.0$((round % 9))"
            kill -9 "${PIDS[$old]}"
        ) 3>&- 8>&- &
        killer=$!
        winners=$(race)
        wait "$killer"
        echo "round $round, leader $old killed: $winners"
        [ "$winners" -eq 1 ]
        [ -d "$A/lock" ]
        rmdir "$B/lock"
        wait "${PIDS[$old]}" 2>/dev/null || true
        start_replica "$old"
        wait_for 20 serves "$old"
    done
}

# count_up MOUNT N: adds N to the number in the file `state`, each time holding the lock.
count_up()
{
    local m=$1 i number
    for ((i = 0; i < $2; i++)); do
        until mkdir "$m/lock" 2>/dev/null; do
            :
        done
        read -r number <"$m/state"
        echo "$((number + 1))" >"$T/next-$BASHPID"
        cp "$T/next-$BASHPID" "$m/state"
        rmdir "$m/lock"
    done
}

@test "a number counted up under a mkdir lock on both mounts loses nothing, also when leaders die" {
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    echo 0 >"$A/state"
    local pids="" m old
    for m in "$A" "$B" "$A" "$B"; do
        count_up "$m" 60 3>&- 8>&- &
        pids="$pids $!"
    done
    for round in 1 2; do
        sleep 0.7
        old=$(leader)
        kill_replica "$old"
        wait_for 10 has_leader_but "$old"
        sleep 0.3
        start_replica "$old"
        wait_for 20 serves "$old"
    done
    # shellcheck disable=SC2086
    wait $pids
    sync "$A"
    sync "$B"
    [ "$(cat "$A/state")" -eq 240 ]
    [ "$(cat "$B/state")" -eq 240 ]
}

# write_loop NAME MOUNT: files and lines of a log; notes each acknowledged one and its time in ms.
write_loop()
{
    local name=$1 m=$2 i=0 begin
    while [ ! -e "$T/stop" ]; do
        i=$((i + 1))
        begin=$(date +%s%N)
        # cp tells errors of the close, which a redirection does not.
        echo "$name-$i" >"$T/$name.line"
        if cp "$T/$name.line" "$m/$name-$i" 2>>"$T/$name.err" &&
            dd if="$T/$name.line" of="$m/$name.log" oflag=append conv=notrunc,fsync \
                status=none 2>>"$T/$name.err"; then
            echo "$i $((($(date +%s%N) - begin) / 1000000))" >>"$T/$name.acked"
        fi
    done
}

check_acked()
{
    local name=$1 m=$2
    [ "$(sort "$m/$name.log" | uniq -d | wc -l)" -eq 0 ]
    while read -r i _; do
        [ "$(cat "$m/$name-$i")" = "$name-$i" ]
        grep -qx "$name-$i" "$m/$name.log"
    done <"$T/$name.acked"
}

@test "the leader is killed in a write loop on both mounts: nothing lost, nothing twice, next write within 1 s" {
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    touch "$A/x.log" "$A/y.log"
    write_loop x "$A" 3>&- 8>&- &
    local x=$! y old
    write_loop y "$B" 3>&- 8>&- &
    y=$!
    for round in 1 2 3; do
        sleep 0.5
        old=$(leader)
        kill_replica "$old"
        wait_for 10 has_leader_but "$old"
        sleep 0.5
        start_replica "$old"
        wait_for 20 serves "$old"
    done
    touch "$T/stop"
    wait "$x" "$y"
    echo "slowest: $(sort -n -k 2 "$T/x.acked" | tail -n 1), $(sort -n -k 2 "$T/y.acked" | tail -n 1)"
    [ "$(awk '$2 > 1000' "$T/x.acked" "$T/y.acked" | wc -l)" -eq 0 ]
    [ ! -s "$T/x.err" ]
    [ ! -s "$T/y.err" ]
    sync "$A"
    sync "$B"
    check_acked x "$B"
    check_acked y "$A"
    ctl "$old" sync
    ctl "$old" get /x-1
}

@test "all three are killed at once and started again: nothing acknowledged is lost, the mount goes on" {
    mount_tree a 1 2 3
    touch "$A/x.log"
    write_loop x "$A" 3>&- 8>&- &
    local x=$!
    sleep 1
    kill -9 "${PIDS[@]}"
    for i in 1 2 3; do
        wait "${PIDS[i]}" 2>/dev/null || true
        start_replica "$i"
    done
    for i in 1 2 3; do
        wait_for 20 serves "$i"
    done
    sleep 0.5
    touch "$T/stop"
    wait "$x"
    [ "$(wc -l <"$T/x.acked")" -gt 20 ]
    check_acked x "$A"
    mount_tree b 3 1 2
    sync "$B"
    check_acked x "$B"
}

# ms COMMAND...: how long it took, in ms, in $took; its status.
ms()
{
    local begin status=0
    begin=$(date +%s%N)
    "$@" >"$T/out" 2>&1 || status=$?
    took=$((($(date +%s%N) - begin) / 1000000))
    echo "$* : status $status, $took ms"
    return $status
}

# Not `!`, which bats does not look at.
fails()
{
    if "$@"; then
        return 1
    fi
}

write_x() { sh -c "echo '$1' > '$A/f'"; }

@test "two of three down: reads at once, writes EROFS after timeo and then at once; one back: writes work" {
    OPTIONS="-o timeo=3" mount_tree a 3 1 2
    echo before >"$A/f"
    mkdir "$A/d"
    ls "$A" >/dev/null
    kill_replica 1
    kill_replica 2
    ms cat "$A/f"
    [ "$took" -lt 1000 ]
    [ "$(cat "$T/out")" = before ]
    run ms mkdir "$A/new"
    echo "$output"
    [ "$status" -ne 0 ]
    fails ms mkdir "$A/new"
    grep -q "Read-only file system" "$T/out"
    [ "$took" -lt 500 ]
    fails ms write_x lost
    [ "$took" -lt 500 ]
    ms ls -l "$A"
    [ "$took" -lt 1000 ]
    ms df "$A"
    [ "$took" -lt 1000 ]
    [ "$(cat "$A/f")" = before ]
    start_replica 1
    wait_for 20 write_x after
    [ "$(cat "$A/f")" = after ]
    [ ! -e "$A/new" ]
    kill_replica 1
    kill_replica 3
    ms df "$A"
    [ "$took" -lt 1000 ]
    # Without any replica: what is cached, else an error in time, never a hang.
    ms ls -l "$A" || true
    [ "$took" -lt 5000 ]
}

@test "no leader: fsync and close of what was written fail in time, signals end the waiting" {
    OPTIONS="-o timeo=2" mount_tree a 3 1 2
    echo before >"$A/f"
    kill_replica 1
    kill_replica 2
    python3 - "$A" <<'PYTHON'
import os, signal, subprocess, sys, time
def expect_failure(what, seconds):
    begin = time.monotonic()
    try:
        what()
    except OSError as error:
        print(error, time.monotonic() - begin)
        assert error.errno in (30, 110), error
    else:
        raise SystemExit('done without a leader')
    assert time.monotonic() - begin < seconds
fd = os.open(f'{sys.argv[1]}/f', os.O_WRONLY)
os.write(fd, b'lost')
# Ended by a signal while it waits, the mount goes on.
child = subprocess.Popen(['sync', f'{sys.argv[1]}/f'])
time.sleep(0.3)
child.send_signal(signal.SIGKILL)
begin = time.monotonic()
child.wait()
assert time.monotonic() - begin < 1, 'not ended by a signal'
expect_failure(lambda: os.fsync(fd), 6)
expect_failure(lambda: (os.write(fd, b'x'), os.close(fd)), 6)
with open(f'{sys.argv[1]}/f') as f:
    assert f.read() == 'before\n'
PYTHON
    kill -0 "${MOUNT_PIDS[a]}"
    start_replica 1
    write_g() { echo after >"$A/g" && [ "$(cat "$A/g")" = after ]; }
    wait_for 20 write_g
    # What timed out may have been done after all, but not by half.
    [ "$(cat "$A/f")" = before ] || [ "$(cat "$A/f")" = lostre ]
}

@test "hard: a write waits for a leader as long as it takes, unless a signal ends it" {
    OPTIONS="-o hard,timeo=1" mount_tree a 3 1 2
    echo before >"$A/f"
    kill_replica 1
    kill_replica 2
    mkdir "$A/waits" 3>&- 8>&- &
    local waits=$!
    fails timeout -s INT -k 5 0.5 mkdir "$A/given-up"
    sleep 2
    kill -0 "$waits"
    start_replica 1
    wait "$waits"
    [ -d "$A/waits" ]
    [ ! -e "$A/given-up" ]
}
