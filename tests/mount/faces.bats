# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# A node has two faces: its children as a directory, its data as a file. The data of a directory is
# the file .znode-data in it. And the mount's own files in .quorumfs.

load ../lib/ensemble

setup()
{
    ensemble_setup
    start_ensemble 3
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    A=$T/a
    B=$T/b
}

teardown() { ensemble_teardown; }

@test "the data of a directory is .znode-data in it, there exactly while it is not empty" {
    mkdir "$A/d"
    sync "$B"
    for host in "$A" "$B"; do
        [ -z "$(ls -A "$host/d")" ]
        run cat "$host/d/.znode-data"
        [[ $output == *"No such file"* ]]
    done
    echo text >"$A/d/.znode-data"
    [ "$(ls -A "$A/d")" = .znode-data ]
    sync "$B"
    [ "$(ls -A "$B/d")" = .znode-data ]
    [ "$(cat "$B/d/.znode-data")" = text ]
    [ "$(stat -c '%F %s %a %h' "$B/d/.znode-data")" = "regular file 5 644 1" ]
    [ "$(stat -c '%F %a' "$B/d")" = "directory 755" ]
    echo more >>"$B/d/.znode-data"
    sync "$A"
    [ "$(cat "$A/d/.znode-data")" = "$(printf 'text\nmore')" ]
    [ "$(ctl 3 get /d)" = "$(printf 'text\nmore')" ]
    : >"$B/d/.znode-data" # what is empty is not there
    [ -z "$(ls -A "$B/d")" ]
    sync "$A"
    [ -z "$(ls -A "$A/d")" ]
    run rm "$A/d/.znode-data"
    [[ $output == *"No such file"* ]]
    rmdir "$A/d"
}

@test ".znode-data is made, removed and refused like any file" {
    mkdir "$A/d" "$A/e"
    python3 - "$A/d/.znode-data" "$A/e/.znode-data" "$A/f" <<'PYTHON'
import errno, os, sys
data, other, file = sys.argv[1:]
def fails(number, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        assert error.errno == number, (function, arguments, error)
    else:
        raise AssertionError((function, arguments))
fails(errno.ENOENT, os.open, data, os.O_RDONLY)
fd = os.open(data, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
os.write(fd, b'first')
assert os.stat(data).st_size == 5
os.close(fd)
fails(errno.EEXIST, os.open, data, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
fails(errno.ENOTEMPTY, os.rmdir, os.path.dirname(data))
fails(errno.EXDEV, os.rename, data, file)
open(file, 'w').close()
fails(errno.EXDEV, os.rename, file, data)
fails(errno.EXDEV, os.rename, file, other)
fails(errno.EINVAL, os.mkdir, other)
fails(errno.EINVAL, os.mkfifo, other)
fails(errno.EINVAL, os.symlink, 'x', other)
fails(errno.ENOTDIR, os.rmdir, data)
fails(errno.ENOTDIR, os.rename, os.path.dirname(other), file)
os.truncate(data, 2)
assert open(data).read() == 'fi'
before = os.stat(os.path.dirname(data)).st_mode
os.chmod(data, 0o600)  # accepted, and without effect
os.chown(data, 1, 1)
assert os.stat(os.path.dirname(data)).st_mode == before
assert os.stat(data).st_uid == 0
os.unlink(data)
fails(errno.ENOENT, os.stat, data)
os.rmdir(os.path.dirname(data))
PYTHON
}

@test "a name that was looked for in vain, or listed without it, shows the data that comes from elsewhere" {
    mkdir "$A/d"
    sync "$B"
    for i in $(seq 1 30); do
        [ ! -e "$B/d/.znode-data" ]
        [ -z "$(ls -A "$B/d")" ]
        echo "$i" >"$A/d/.znode-data"
        sync "$B"
        [ "$(cat "$B/d/.znode-data")" = "$i" ]
        [ "$(ls -A "$B/d")" = .znode-data ]
        rm "$A/d/.znode-data"
        sync "$B"
    done
}

# What cp -a and tar keep, of each file below the working directory.
attributes() { find . -printf '%P|%y|%m|%U:%G|%T@|%l\n' | sort; }

@test "cp -a, mv, tar, rsync and rm -r take the data of directories with them" {
    mkdir -p "$A/t/x/y"
    echo one >"$A/t/.znode-data"
    echo two >"$A/t/x/y/.znode-data"
    echo file >"$A/t/x/f"
    cp -r "$A/t" "$A/copy"
    diff -r "$A/t" "$A/copy"
    tar -C "$A" -cf "$T/t.tar" t
    mkdir "$A/back"
    tar -C "$A/back" -xpf "$T/t.tar"
    diff -r "$A/t" "$A/back/t"
    rsync -a "$A/t/" "$A/synced"
    diff -r "$A/t" "$A/synced"
    [ -z "$(rsync -ai --delete "$A/t/" "$A/synced")" ]
    mv "$A/t/.znode-data" "$A/plain"
    [ "$(cat "$A/plain")" = one ]
    mv "$A/plain" "$A/t/.znode-data"
    [ "$(cat "$A/t/.znode-data")" = one ]
    cp -a "$A/t" "$T/local"
    (cd "$A/t" && attributes) >"$T/expected"
    (cd "$T/local" && attributes) >"$T/found"
    diff "$T/expected" "$T/found"
    rm -r "$A/t" "$A/copy" "$A/back" "$A/synced"
    [ -z "$(ls -A "$A")" ]
}

@test "a node made by ZooKeeper's rules is a directory with children or without data, else a file" {
    ctl 1 create --plain /p hello
    sync "$A" "$B"
    for host in "$A" "$B"; do
        [ "$(stat -c %F "$host/p")" = "regular file" ]
        [ "$(cat "$host/p")" = hello ]
    done
    ctl 1 create --plain /p/child
    sync "$A" "$B"
    for host in "$A" "$B"; do
        [ "$(stat -c %F "$host/p")" = directory ]
        [ "$(ls -A "$host/p")" = "$(printf '.znode-data\nchild')" ]
        [ "$(cat "$host/p/.znode-data")" = hello ]
        [ "$(stat -c %F "$host/p/child")" = directory ]
    done
    echo data >"$A/p/child/.znode-data"
    sync "$B"
    [ "$(stat -c %F "$B/p/child")" = "regular file" ]
    rm "$B/p/child"
    sync "$A"
    [ "$(stat -c %F "$A/p")" = "regular file" ]
    [ "$(find "$A" -name p -printf %y)" = f ]
    : >"$A/p"
    sync "$B"
    [ "$(stat -c %F "$B/p")" = directory ]
    rmdir "$B/p"
    sync "$A"
    [ ! -e "$A/p" ]
}

@test "an open file goes on while its node becomes a directory, and its number stays" {
    ctl 1 create --plain /p hello
    sync "$A"
    exec 9<"$A/p"
    before=$(stat -c %i "$A/p")
    ctl 1 create --plain /p/child
    sync "$A"
    [ "$(cat <&9)" = hello ]
    exec 9<&-
    [ "$(stat -c %i "$A/p/.znode-data")" = "$before" ]
    [ "$(stat -c %i "$A/p")" != "$before" ]
}

@test ".quorumfs is hidden from ls, tells the state of the mount and the members, and stays as it is" {
    [ -z "$(ls -A "$A")" ]
    [ "$(ls "$A/.quorumfs")" = "$(printf 'ctl\nevents\nmembers\nstatus')" ]
    [ "$(awk '$1 == "state" { print $2 }' "$A/.quorumfs/status")" = ok ]
    for word in session replica server leader zxid lag stale_ms lost_closes unpublished; do
        grep -q "^$word " "$A/.quorumfs/status"
    done
    [ "$(grep -c ' voter connected$' "$A/.quorumfs/members")" -ge 2 ]
    [ "$(wc -l <"$A/.quorumfs/members")" -eq 3 ]
    for command in "rm $A/.quorumfs/status" "rmdir $A/.quorumfs" "mkdir $A/.quorumfs/x" \
        "mv $A/.quorumfs $A/x" "touch $A/.quorumfs/x" "chmod 777 $A/.quorumfs/status"; do
        run $command
        [ "$status" -ne 0 ]
    done
    run mkdir "$A/d" && run mkdir "$A/d/.quorumfs"
    [[ $output == *"Invalid argument"* ]]
    [ -z "$(cd "$A" && find . -name status)" ]
}

@test ".quorumfs/events is a stream of lines, from now on or from a zxid, that poll waits for" {
    mkdir "$A/d"
    cat "$A/.quorumfs/events" >"$T/events" 3>&- 8>&- &
    OTHERS+=($!)
    sleep 0.3
    echo x >"$B/d/f"
    mv "$B/d/f" "$B/g h"
    rm "$B/g h"
    ends() { grep -q ' removed ' "$T/events"; }
    wait_for 5 ends
    cut -d ' ' -f 2- "$T/events" >"$T/lines"
    printf 'created /d/f 0\ndata /d/f 1\nrenamed /d/f 1 /g\\x20h\nremoved /g\\x20h 1\n' | diff - "$T/lines"
    since=$(sed -n 's/ data .*//p' "$T/events")
    (timeout 1 cat "$A/.quorumfs/events?since=$since" || true) | cut -d ' ' -f 2 >"$T/lines"
    [ "$(tr '\n' ' ' <"$T/lines")" = "renamed removed " ]
    python3 - "$A" "$B" "$since" <<'PYTHON'
import errno, os, select, sys, threading
a, b, since = sys.argv[1:]
fd = os.open(a + '/.quorumfs/events', os.O_RDONLY | os.O_NONBLOCK)
poll = select.poll()
poll.register(fd, select.POLLIN)
assert poll.poll(200) == []
try:
    os.read(fd, 100)
except BlockingIOError:
    pass
threading.Timer(0.2, os.mkdir, [b + '/made']).start()
assert poll.poll(5000) == [(fd, select.POLLIN)]
assert b' created /made 0\n' in os.read(fd, 1000)
# Where to begin, by the first write.
fd = os.open(a + '/.quorumfs/events', os.O_RDWR)
os.write(fd, b'since %s\n' % since.encode())
assert b' renamed ' in os.read(fd, 10000)
for text in b'since x', b'more', b'since 1' * 20:
    try:
        os.write(os.open(a + '/.quorumfs/events', os.O_WRONLY), text)
    except OSError as error:
        assert error.errno == errno.EINVAL
    else:
        raise AssertionError(text)
# A reader that waits can be killed.
if os.fork() == 0:
    fd = os.open(a + '/.quorumfs/events', os.O_RDONLY)
    import signal
    signal.alarm(1)
    os.read(fd, 10)
assert os.wait()[1] == 14
PYTHON
    mount_tree again 1
    timeout 1 cat "$T/again/.quorumfs/events?since=1" >"$T/events" || true
    grep -q ' created /d/f ' "$T/events"
}

@test "the status tells of a lost leader and of no replica, and is readable then" {
    state() { awk '$1 == "state" { $1 = ""; print substr($0, 2) }' "$A/.quorumfs/status"; }
    is_state() { [ "$(state)" = "$1" ]; }
    is_state ok
    kill_replica 2
    kill_replica 3
    wait_for 10 is_state "no leader"
    kill_replica 1
    wait_for 10 is_state "no replica"
    [ "$(awk '$1 == "stale_ms" { print $2 }' "$A/.quorumfs/status")" -gt 0 ]
    start_replicas
    wait_for 20 is_state ok
}
