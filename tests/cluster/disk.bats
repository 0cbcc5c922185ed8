# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Disks without space: data folders on small file systems of their own (ext4 in an image), filled to
# the last block while clients write, and emptied again. No replica ends and none needs a restart
# (CONSENSUS 31).

bats_require_minimum_version 1.5.0
load ../lib/ensemble
load ../lib/load
load ../lib/history

DISK_MIB=192

setup() { ensemble_setup; }

teardown()
{
    local i
    # Lazily: the replicas end in a moment, and with them the use of the disk.
    for i in 1 2 3; do
        fsfreeze --unfreeze "$T/disk$i" 2>/dev/null || true
        umount -l "$T/disk$i" 2>/dev/null || true
    done
    ensemble_teardown
}

# Three replicas; the data of those given lies on a small disk at $T/diskI each.
start_on_small_disks()
{
    local i
    write_configs 3
    for i in "$@"; do
        mkdir "$T/disk$i"
        truncate -s ${DISK_MIB}M "$T/image$i"
        mkfs.ext4 -q -m 0 "$T/image$i"
        mount -o loop "$T/image$i" "$T/disk$i" || skip "no loop device can be mounted here"
        sed -i "s|^data = .*|data = $T/disk$i/data|" "$T/$i/conf"
    done
    start_replicas
}

# Not one block is left.
fill() { dd if=/dev/zero of="$T/disk$1/filler" bs=64K conv=fsync status=none 2>/dev/null || true; }

make_room() { rm "$T/disk$1/filler"; }

said() { grep "event=$2 " "$T/$1/log"; }

make_leader()
{
    leads() { ctl_any members transfer "$1" && [ "$(leader_by "$1")" = "$1" ]; }
    wait_for 10 leads "$1"
}

@test "the disk of a follower is full: the others go on; with space it comes back by itself" {
    start_on_small_disks 2
    make_leader 1
    local pid=${PIDS[2]}
    start_load x 1
    start_load y 2
    start_history 12
    fill 2
    wait_for 10 said 2 disk_low
    goes_on x 500
    goes_on y 500 # its clients are served, here or elsewhere
    [ "$(leader_by 1)" = 1 ]
    make_room 2
    wait_for 10 said 2 disk_has_space
    catches_up 2 1
    end_load x
    end_load y
    end_history
    no_gap 1000
    for i in 1 2 3; do
        check_load "$i" x y
    done
    kill -0 "$pid"
    # It can lead and write again.
    make_leader 2
    ctl 2 create /after
}

@test "the disk of the leader is full: another one leads; with space it comes back by itself" {
    start_on_small_disks 1
    make_leader 1
    local pid=${PIDS[1]}
    start_load x 1
    start_load y 2
    start_history 12
    fill 1
    wait_for 10 has_leader_but 1
    said 1 disk_low
    goes_on x 500
    goes_on y 500
    make_room 1
    wait_for 10 said 1 disk_has_space
    catches_up 1 2
    end_load x
    end_load y
    end_history
    no_gap 2000
    for i in 1 2 3; do
        check_load "$i" x y
    done
    kill -0 "$pid"
    make_leader 1
    ctl 1 create /after
}

@test "a full disk does not keep a replica from starting, and it comes back with space" {
    start_on_small_disks 2
    make_leader 1
    ctl 1 create /a x
    start_load x 1
    fill 2
    wait_for 10 said 2 disk_low
    kill_replica 2
    goes_on x 200
    start_replica 2
    sleep 2
    kill -0 "${PIDS[2]}"
    make_room 2
    wait_for 20 serves 2
    catches_up 2 1
    end_load x
    check_load 2 x
}

@test "all disks are full: what grows is refused in one clear line, deletes work, reads too; then room" {
    start_on_small_disks 1 2 3
    local i who # i is a name that `run` uses, too
    ctl 1 create --dir /d
    for i in 1 2 3 4 5; do
        ctl 1 create "/d/$i" "$(head -c 1000 /dev/zero | tr '\0' x)"
    done
    for i in 1 2 3; do
        fill "$i"
    done
    refused()
    {
        run -1 --separate-stderr ctl "$1" --timeout 2 create /grows x
        [[ $stderr == *DISK_LOW* ]]
    }
    for who in 1 2 3; do
        wait_for 15 refused "$who"
        refused "$who"
        echo "$stderr"
        [ "${#stderr_lines[@]}" -eq 1 ]
        ctl "$who" --timeout 2 rm "/d/$who"
        [ "$(ctl "$who" get /d/5 | wc -c)" -eq 1000 ]
    done
    ctl 2 sync
    [ "$(ctl 2 ls /d | xargs)" = "4 5" ]
    for i in 1 2 3; do
        make_room "$i"
    done
    grows() { ctl "$1" --timeout 2 create "/grows$1" x; }
    for i in 1 2 3; do
        wait_for 15 grows "$i"
        kill -0 "${PIDS[i]}"
    done
}

@test "the disk of the leader stands still: another one leads, and clients wait for a moment only" {
    start_on_small_disks 1
    make_leader 1
    start_load x 2 # not at the one whose disk stands still: it answers what it has applied
    goes_on x 200
    start_history 6
    fsfreeze --freeze "$T/disk1"
    wait_for 5 has_leader_but 1
    said 1 disk_slow
    goes_on x 500
    sleep 1
    fsfreeze --unfreeze "$T/disk1"
    catches_up 1 2
    end_load x
    end_history
    no_gap 2000
    check_load 1 x
}
