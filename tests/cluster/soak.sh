#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `tests/cluster/soak.sh [SECONDS [SEED]]`: clients write and read for so long (300) while all kinds
# of faults come over three replicas (SOAK_REPLICAS), one or two at a time: kill -9 of one or all,
# restarts, processes that stand still, partitions of all kinds, loss, delay, full disks, clocks
# that jump, lost disks, a new leader. At the end the history must be linearizable, nothing be lost
# or doubled, no session have expired, and all replicas hold the same.
#
# The order of faults comes from the seed, which is printed; when they come does not. Prints a line
# for each fault. Part of `make soak`; a short run is a test (soak.bats).
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
# shellcheck source=tests/lib/netns.bash
. tests/lib/netns.bash
# shellcheck source=tests/lib/load.bash
. tests/lib/load.bash
# shellcheck source=tests/lib/history.bash
. tests/lib/history.bash
# shellcheck source=tests/lib/clock.bash
. tests/lib/clock.bash
: "${QUORUMFS_TESTS:?run by make soak}"
exec 3>/dev/null

LENGTH=${1:-300}
SEED=${2:-$((RANDOM * 32768 + RANDOM))}
REPLICAS=${SOAK_REPLICAS:-3}
BACK_SECONDS=60 # after a fault all replicas must be back within this
DISK_MIB=512    # of the one small disk

quit()
{
    local status=$?
    [ $status -ne 0 ] || BATS_TEST_COMPLETED=1
    if [ $status -ne 0 ]; then
        echo "soak: failed; again with: tests/cluster/soak.sh $LENGTH $SEED"
    fi
    umount -l "$T/disk" 2>/dev/null || true
    ensemble_teardown
    netns_teardown
    exit $status
}

# say TEXT...: with the second it is said in.
say() { printf '%4d s  %s\n' $((($(date +%s%3N) - BEGIN) / 1000)) "$*"; }

# draw N: a number below N in DRAWN. Not by $(...): that would draw from a copy.
draw()
{
    DRAWN=$((RANDOM % $1))
}

# A replica in ONE, the leader as often as not; another in TWO.
draw_replicas()
{
    draw "$REPLICAS"
    ONE=$((DRAWN + 1))
    draw $((REPLICAS - 1))
    TWO=$(((ONE + DRAWN) % REPLICAS + 1))
    draw 2
    if [ "$DRAWN" -eq 0 ]; then
        ONE=$(leader || echo "$ONE")
        [ "$TWO" -ne "$ONE" ] || TWO=$((ONE % REPLICAS + 1))
    fi
}

# Up to two seconds.
pause()
{
    draw 20
    sleep "$((DRAWN / 10)).$((DRAWN % 10))"
}

in_netns_with_clock()
{
    in_netns "$1"
    if can_jump; then
        with_clock "$1"
    fi
}

begin()
{
    local i
    ensemble_setup
    trap quit EXIT
    SLOW_NET=1 netns_configs "$REPLICAS"
    for ((i = 1; i <= REPLICAS; i++)); do
        jump "$i" +0
        # Compaction and snapshots belong to it.
        sed -i '1i log_keep_mib = 16' "$T/$i/conf"
    done
    mkdir "$T/disk"
    truncate -s ${DISK_MIB}M "$T/image"
    HAS_DISK=
    if mkfs.ext4 -q -m 0 "$T/image" && mount -o loop "$T/image" "$T/disk"; then
        HAS_DISK=1
        sed -i "s|^data = .*|data = $T/disk/data|" "$T/1/conf"
    fi
    PREFIX=in_netns_with_clock
    start_netns_replicas
}

# ---- faults ----

data_of() { sed -n 's/^data = //p' "$T/$1/conf"; }

is_voter() { ctl_any members | grep -q "^$1 *voter"; }

fill_disk()
{
    dd if=/dev/zero of="$T/disk/filler" bs=256K conv=fsync status=none 2>/dev/null || true
}

# A fault that is over when it returns.
short_fault()
{
    local i
    draw_replicas
    draw 6
    case $DRAWN in
    0)
        say "kill -9 of $ONE"
        kill_replica "$ONE"
        pause
        start_replica "$ONE"
        ;;
    1)
        say "kill -9 of all"
        kill -9 "${PIDS[@]}"
        for ((i = 1; i <= REPLICAS; i++)); do
            wait "${PIDS[i]}" || true
            start_replica "$i"
        done 2>/dev/null # bash says who was killed
        ;;
    2)
        say "restart of $ONE"
        stop_replica "$ONE"
        start_replica "$ONE"
        ;;
    3)
        say "$ONE stands still"
        kill -STOP "${PIDS[ONE]}"
        pause
        kill -CONT "${PIDS[ONE]}"
        ;;
    4)
        say "$ONE and $TWO stand still"
        kill -STOP "${PIDS[ONE]}" "${PIDS[TWO]}"
        pause
        kill -CONT "${PIDS[ONE]}" "${PIDS[TWO]}"
        ;;
    5)
        say "$TWO is to lead"
        ctl_any --timeout 3 members transfer "$TWO" >/dev/null 2>&1 || true
        ;;
    esac
}

# A fault that lasts until all_is_well.
long_fault()
{
    local i
    draw_replicas
    draw 9
    case $DRAWN in
    0)
        say "$ONE is cut off"
        isolate "$ONE"
        ;;
    1)
        say "$ONE does not hear $TWO"
        part_from "$ONE" "$TWO"
        ;;
    2)
        say "$ONE hears nobody"
        for ((i = 1; i <= REPLICAS; i++)); do
            [ "$i" -eq "$ONE" ] || part_from "$ONE" "$i"
        done
        ;;
    3)
        say "nobody hears $ONE"
        for ((i = 1; i <= REPLICAS; i++)); do
            [ "$i" -eq "$ONE" ] || part_from "$i" "$ONE"
        done
        ;;
    4)
        say "nothing between $ONE and $TWO"
        cut_between "$ONE" "$TWO"
        ;;
    5)
        say "a tenth is lost between $ONE and $TWO"
        lose_from "$ONE" "$TWO" 10
        lose_from "$TWO" "$ONE" 10
        ;;
    6)
        draw 40
        say "delay of $DRAWN ms and more"
        delay "$DRAWN" 20
        ;;
    7)
        draw 2
        say "clock of $ONE jumps $((DRAWN * 7200 - 3600)) s"
        jump "$ONE" "$(printf '%+d' $((DRAWN * 7200 - 3600)))"
        ;;
    8)
        say "the disk of 1 is full"
        [ -z "$HAS_DISK" ] || fill_disk
        ;;
    esac
}

lose_disk()
{
    say "$ONE loses its disk"
    kill_replica "$ONE"
    rm -rf "$(data_of "$ONE")"
    start_replica "$ONE"
    wait_for "$BACK_SECONDS" is_voter "$ONE"
}

# Without one free block RocksDB cannot be opened: a replica that is started then ends, and whoever
# supervises it starts it again.
start_again_1()
{
    if ! kill -0 "${PIDS[1]}" 2>/dev/null; then
        tail -n 1 "$T/1/log" | grep "No space left on device"
        wait "${PIDS[1]}" || true
        start_replica 1
    fi
}

all_is_well()
{
    local i
    heal
    delay 0 0
    rm -f "$T/disk/filler"
    start_again_1
    for ((i = 1; i <= REPLICAS; i++)); do
        jump "$i" +0
        wait_for "$BACK_SECONDS" serves "$i"
        wait_for "$BACK_SECONDS" leader_by "$i"
        wait_for "$BACK_SECONDS" is_voter "$i"
    done
}

round()
{
    draw 12
    case $DRAWN in
    0 | 1 | 2 | 3) short_fault ;;
    4 | 5 | 6) long_fault ;;
    7 | 8) # both: the short one within the long one
        long_fault
        short_fault
        ;;
    9 | 10)
        long_fault
        long_fault
        ;;
    11)
        all_is_well
        draw_replicas
        lose_disk
        ;;
    esac
    pause
    all_is_well
    ROUNDS=$((ROUNDS + 1))
}

# ---- the end ----

# What the tree of replica I is like, in one line.
summary()
{
    ctl "$1" --timeout 5 status | grep -E '^(applied index|nodes|data bytes|sessions) ' | xargs
}

all_hold_the_same()
{
    local i first
    first=$(summary 1)
    for ((i = 2; i <= REPLICAS; i++)); do
        [ "$(summary "$i")" = "$first" ] || return 1
    done
}

finish()
{
    local i
    end_load x
    HISTORY_OPS_MIN=100 end_history
    wait_for 30 all_hold_the_same
    for ((i = 1; i <= REPLICAS; i++)); do
        check_load "$i" x
        echo "replica $i: $(summary "$i"), $(awk '/^VmHWM/ { print int($2 / 1024) }' \
            "/proc/${PIDS[i]}/status") MiB at most"
    done
}

BEGIN=$(date +%s%3N)
ROUNDS=0
echo "SEED=$SEED"
begin
LOAD_IN_FLIGHT=2 start_load x 1
start_history "$LENGTH" --clients 6 --seed "$((SEED + 1))"
RANDOM=$SEED
while history_lasts 2000; do
    round
done
say "$ROUNDS rounds"
finish
