# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Ways to mount: mount(8) and fstab, parts of the tree, read only, what is shown, a mount that died.

load ../lib/ensemble

setup()
{
    ensemble_setup
    start_ensemble 3
    mkdir "$T/m"
}

teardown()
{
    umount -l "$T/m" 2>/dev/null || true
    ensemble_teardown
}

# In a namespace of mounts in which quorumfs is installed as /sbin/mount.quorumfs.
installed()
{
    mkdir -p "$T/upper" "$T/work"
    ln -sf "$QUORUMFS_BIN/quorumfs" "$T/upper/mount.quorumfs"
    unshare -m --propagation private sh -ec '
        mount -t tmpfs none "$0/work"
        mkdir "$0/work/upper" "$0/work/work"
        cp -P "$0/upper/mount.quorumfs" "$0/work/upper"
        mount -t overlay overlay -o "lowerdir=/usr/sbin,upperdir=$0/work/upper,workdir=$0/work/work" /usr/sbin
        eval "$1"' "$T" "$1"
}

@test "mount -t quorumfs and a line of fstab mount, df tells a size, umount ends the process" {
    servers=$(servers 1 2)
    cat >"$T/fstab" <<FSTAB
$servers $T/m quorumfs _netdev,nofail,x-systemd.automount,timeo=5,name=web1 0 0
FSTAB
    installed "
        mount -t quorumfs -o subtree=/ '$servers' '$T/m'
        mkdir '$T/m/d'
        df '$T/m' | grep -q '$T/m'
        umount '$T/m'
        mount -T '$T/fstab' '$T/m'
        grep -q ' $T/m fuse.quorumfs rw' /proc/mounts
        mkdir '$T/m/e'
        getfattr --only-values --absolute-names -n user.znode.holder '$T/m/e' >'$T/holder'
        umount '$T/m'"
    [[ $(cat "$T/holder") == "web1 "* ]]
    [ "$(ctl 1 ls / | sort | tr '\n' ' ')" = "d e " ]
}

@test "a part of the tree is mounted as a root of its own" {
    ctl 1 create --dir /app >&8
    ctl 1 create --dir /app/conf >&8
    ctl 1 create /app/conf/x text >&8
    OPTIONS="-o subtree=/app/conf" mount_tree part 1
    [ "$(cat "$T/part/x")" = text ]
    [ "$(ls -A "$T/part")" = x ]
    [ "$(stat -c %i "$T/part")" -eq 1 ]
    echo new >"$T/part/y"
    [ "$(ctl 2 get /app/conf/y)" = new ]
    (cd "$T/part/.." && [ "$(pwd -P)" = "$(realpath "$T")" ])
    ctl 1 rm -r /app >&8
    gone() { ! ls "$T/part/x" 2>/dev/null; }
    wait_for 5 gone
    run "$QUORUMFS_BIN/quorumfs" -f -o subtree=/none "$(servers 1)" "$T/m"
    [ "$status" -eq 1 ]
    [[ $output == *"'/none'"* ]]
}

@test "read only: nothing can be changed, and what others change is seen" {
    ctl 1 create --dir /d >&8
    ctl 1 create /d/f one >&8
    for inotify in full off; do
        OPTIONS="-o ro,inotify=$inotify" mount_tree "ro-$inotify" 1
        R=$T/ro-$inotify
        for command in "touch $R/d/g" "mkdir $R/d/e" "rm $R/d/f" "mv $R/d/f $R/d/g" "rmdir $R/d" "chmod 600 $R/d/f" \
            "truncate -s 0 $R/d/f" "ln -s x $R/l" "mkfifo $R/p" "setfattr -n user.x -v 1 $R/d/f" "touch $R/d/.znode-data"; do
            run $command
            [ "$status" -ne 0 ]
            [[ $output == *"Read-only file system"* ]]
        done
        [ "$(cat "$R/d/f")" = one ]
    done
    ctl 1 set /d/f two >&8
    for inotify in full off; do
        is_two() { [ "$(cat "$T/ro-$inotify/d/f")" = two ]; }
        wait_for 5 is_two
    done
}

@test "uid, gid and umask are shown of all; what is stored stays" {
    OPTIONS="-o uid=7,gid=8,umask=027" mount_tree shown 1
    mkdir "$T/shown/d"
    echo x >"$T/shown/f"
    [ "$(stat -c '%u %g %a' "$T/shown/d")" = "7 8 750" ]
    [ "$(stat -c '%u %g %a' "$T/shown/f")" = "7 8 750" ]
    mount_tree real 2
    sync "$T/real"
    [ "$(stat -c '%u %g %a' "$T/real/d")" = "0 0 755" ]
    [ "$(stat -c '%u %g %a' "$T/real/f")" = "0 0 644" ]
}

@test "a mount whose process was killed is replaced by mounting again" {
    mount_tree m 1
    echo x >"$T/m/f"
    exec 9<"$T/m/f"
    kill -9 "${MOUNT_PIDS[m]}"
    wait "${MOUNT_PIDS[m]}" || true
    run cat "$T/m/f"
    [[ $output == *"Transport endpoint is not connected"* ]]
    mount_tree m 2
    is_there() { [ "$(cat "$T/m/f")" = x ]; }
    wait_for 10 is_there
    exec 9<&-
    echo "$(servers 1) $T/m quorumfs nofail 0 0" >"$T/fstab"
    kill -9 "${MOUNT_PIDS[m]}"
    wait "${MOUNT_PIDS[m]}" || true
    installed "mount -T '$T/fstab' '$T/m'; cat '$T/m/f' >'$T/text'; umount '$T/m'"
    [ "$(cat "$T/text")" = x ]
}

@test "the daemon tells systemd and its parent when programs may come, and not before" {
    python3 - "$T/notify" "$T/m" "$(servers 1)" "$QUORUMFS_BIN/quorumfs" <<'PYTHON'
import os, socket, subprocess, sys
path, mountpoint, servers, program = sys.argv[1:]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.bind(path)
    notify.settimeout(20)
    process = subprocess.Popen([program, '-f', servers, mountpoint], env={'NOTIFY_SOCKET': path})
    assert notify.recv(100) == b'READY=1'
    assert os.path.ismount(mountpoint)
    os.mkdir(mountpoint + '/d')
    subprocess.check_call(['umount', mountpoint])
    assert process.wait(10) == 0
subprocess.check_call([program, servers, mountpoint])  # in the background
assert os.listdir(mountpoint) == ['d']
subprocess.check_call(['umount', mountpoint])
PYTHON
}

@test "without a replica there is no mount but one clear line, and no process is left" {
    run timeout 20 "$QUORUMFS_BIN/quorumfs" "unix:$T/none" "$T/m"
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *"unix:$T/none"* ]]
    [ -z "$(pgrep -f "unix:$T/none")" ]
}
