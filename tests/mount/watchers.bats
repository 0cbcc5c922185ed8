# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Programs of Debian that wait for inotify, on one mount, are woken by changes made on another. None
# but tail polls: it does so on every FUSE mount, whatever that can.

load ../lib/ensemble

setup()
{
    ensemble_setup
    start_ensemble 3
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    A=$T/a
    B=$T/b
    mkdir "$A/d"
    echo "line 0" >"$A/d/f"
    sync "$B"
}

teardown() { ensemble_teardown; }

# has_watch PID: the process or a child of it holds an inotify watch.
has_watch()
{
    local pid
    for pid in "$1" $(cat "/proc/$1/task/$1/children"); do
        cat "/proc/$pid/fdinfo/"* 2>/dev/null | grep -q '^inotify wd:' && return 0
    done
    return 1
}

has_ended() { ! kill -0 "$1"; }
has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }

@test "tail -F follows appends, a truncation, a new file by rename, and a removed one that comes again" {
    local i
    in_background tail -n +1 -s 0.1 -F "$B/d/f" >"$T/out" 2>"$T/err"
    for i in 1 2 3 4 5; do
        echo "line $i" >>"$A/d/f"
        wait_for 5 has_lines "$T/out" $((i + 1))
    done
    # A log that is rotated.
    mv "$A/d/f" "$A/d/f.1"
    echo "line 6" >"$A/d/f"
    wait_for 5 has_lines "$T/out" 7
    echo "line 7" >>"$A/d/f"
    wait_for 5 has_lines "$T/out" 8
    # One that is replaced.
    echo "line 8" >"$A/d/new"
    mv "$A/d/new" "$A/d/f"
    wait_for 5 has_lines "$T/out" 9
    rm "$A/d/f"
    wait_for 5 grep -q "has become inaccessible" "$T/err"
    echo "line 9" >"$A/d/f"
    wait_for 5 has_lines "$T/out" 10
    : >"$A/d/f"
    wait_for 5 grep -q "file truncated" "$T/err"
    echo "line 10" >>"$A/d/f"
    wait_for 5 has_lines "$T/out" 11
    diff "$T/out" <(seq -f 'line %g' 0 10)
}

@test "entr runs its command for each change of a file, by > and by rename, and for a new file with -d" {
    local i
    echo "$B/d/f" >"$T/list"
    in_background sh -c 'exec entr -n sh -c "cat \"$1\" >>\"$2\"" <"$3"' - "$B/d/f" "$T/out" "$T/list"
    wait_for 5 has_lines "$T/out" 1
    for i in 1 2 3 4 5 6; do
        # It misses what comes while it begins to watch the file of the new name, on a tmpfs too.
        sleep 0.5
        if [ $((i % 2)) -eq 0 ]; then
            echo "line $i" >"$A/d/f"
        else
            echo "line $i" >"$A/d/f.new"
            mv "$A/d/f.new" "$A/d/f"
        fi
        wait_for 5 has_lines "$T/out" $((i + 1))
    done
    diff "$T/out" <(seq -f 'line %g' 0 6)
    # Ends, with 2, when a file has come to the directory of one it watches.
    in_background sh -c 'exec entr -n -d echo watching <"$1" >"$2"' - "$T/list" "$T/end"
    wait_for 5 grep -q watching "$T/end"
    sleep 0.5
    echo 1 >"$A/d/another"
    wait_for 5 has_ended $!
    wait $! || status=$?
    [ "$status" -eq 2 ]
}

@test "a shell loop around inotifywait sees each of 50 values in turn, and none twice" {
    local i
    cat >"$T/loop.sh" <<'SCRIPT'
inotifywait -q -m -e close_write,moved_to --format %f "$1" | while read -r name; do
    [ "$name" != f ] || cat "$1/f" >>"$2"
done
SCRIPT
    in_background sh "$T/loop.sh" "$B/d" "$T/out"
    wait_for 5 has_watch $!
    : >>"$T/out"
    for i in $(seq 50); do
        echo "line $i" >"$A/d/f"
        wait_for 5 has_lines "$T/out" "$i"
    done
    diff "$T/out" <(seq -f 'line %g' 50)
}

@test "a watcher of a path as in systemd's path units is woken when a path comes to be, part by part" {
    # As systemd does it (PathExists, PathChanged): each directory on the way is watched for what may
    # bring the rest; the last part for a close after writing.
    cat >"$T/path.py" <<'PYTHON'
import ctypes, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE_SELF, MOVE_SELF = 4, 8, 0x40, 0x80, 0x100, 0x400, 0x800
path = sys.argv[1]
parts = path.split('/')
fd = libc.inotify_init1(os.O_CLOEXEC)
before = None
while True:
    watches = []
    for i in range(2, len(parts) + 1):
        mask = DELETE_SELF | MOVE_SELF | ATTRIB
        mask |= CLOSE_WRITE if i == len(parts) else CREATE | MOVED_TO | MOVED_FROM
        wd = libc.inotify_add_watch(fd, '/'.join(parts[:i]).encode(), mask)
        if wd < 0:
            break
        watches.append(wd)
    try:
        now = open(path).read()
    except (FileNotFoundError, NotADirectoryError):
        now = 'missing\n'
    if now != before:
        sys.stdout.write(now)
        sys.stdout.flush()
        before = now
    if not select.select([fd], [], [], 20)[0]:
        sys.exit('not woken')
    os.read(fd, 65536)
    for wd in watches:
        libc.inotify_rm_watch(fd, wd)
    while select.select([fd], [], [], 0)[0]:
        os.read(fd, 65536)
PYTHON
    in_background python3 "$T/path.py" "$B/x/y/state" >"$T/out"
    wait_for 5 has_lines "$T/out" 1
    mkdir "$A/x"
    mkdir "$A/x/y"
    echo first >"$A/x/y/state"
    wait_for 5 grep -q first "$T/out"
    echo second >"$A/x/y/state"
    wait_for 5 grep -q second "$T/out"
    mv "$A/x/y" "$A/x/z"
    wait_for 5 has_lines "$T/out" 4
    mv "$A/x/z" "$A/x/y"
    wait_for 5 has_lines "$T/out" 5
    rm -r "$A/x"
    wait_for 5 has_lines "$T/out" 6
    [ -z "$(grep -v -e missing -e first -e second "$T/out")" ]
    [ "$(tail -n 1 "$T/out")" = missing ]
}
