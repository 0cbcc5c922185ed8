# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Changes made on one mount are inotify events on another, the same that the same operations give on a
# tmpfs.

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

# The operations that are compared, each in an empty directory that has what `prepare` makes.
prepare()
{
    mkdir -p d/sub e other/deep
    echo one >f
    echo two >g
    echo three >d/h
    mkfifo p
    ln -s f l
    chmod 755 g
}

# As rm -r, in an order that does not depend on the file system.
remove() { find "$1" -depth | sort -r | xargs -d '\n' rm -d; }

operations='
echo more >f
echo more >>f
: >f
printf "" >>f
truncate -s 100 f
truncate -s 0 f
dd if=/dev/zero of=f bs=1 seek=50 count=1 conv=notrunc status=none
cp g f
echo new >n
cat f >n2
mkdir m
mkdir m/m2
echo in >m/x
ln -s x l2
mkfifo p2
mknod s p
chmod 600 f
chmod 700 d
chown 1:1 f
touch f
touch -d 2001-01-01 d/h
touch -h l
mv f f2
mv f2 d/f
mv d/f g
mv d e/d
mv e/d .
mv -n n n3
mv n3 d/sub
mv d/sub other/deep/sub
mv other/deep/sub d
python3 -c "import ctypes; ctypes.CDLL(None).renameat2(-100, b\"n2\", -100, b\"d/h\", 2)"
python3 -c "import ctypes; ctypes.CDLL(None).renameat2(-100, b\"d\", -100, b\"e\", 2)"
python3 -c "import ctypes; ctypes.CDLL(None).renameat2(-100, b\"n2\", -100, b\"n4\", 1)"
rm n4
rm l l2
rm p p2 s
rmdir d
remove e
remove m
sed -i s/two/2/ g
cp -r other copy
rm g
mkdir -p a/b/c
mv a z
remove z
setfattr -n user.x -v 1 other
printf whole >installed; chmod 640 installed
rm installed
remove other
remove copy
'

# What counts: not what is only opened or read; a CLOSE_WRITE only behind a MODIFY of the same file;
# what follows itself counts once.
normalize()
{
    awk '
        { event = $1; $1 = ""; path = $0; sub(/sed[A-Za-z0-9]+$/, "sed-temporary", path) }
        event ~ /^(OPEN|ACCESS|CLOSE_NOWRITE)/ { next }
        event ~ /^CLOSE_WRITE/ { if (!modified[path]) next; modified[path] = 0 }
        event ~ /^MODIFY/ { modified[path] = 1 }
        { line = event path; if (line != last) print line; last = line }'
}

# watch DIR OUT ARGS...: until the watches stand.
watch()
{
    local dir=$1 out=$2
    shift 2
    (cd "$dir" && exec inotifywait -m --format '%e %w%f' "$@" . >"$out" 2>"$out.err") 3>&- 8>&- &
    WATCHER=$!
    OTHERS+=("$WATCHER")
    wait_for 10 grep -q 'Watches established' "$out.err"
}

# does DIR WATCHED: all operations in DIR, one after the other; those who watch have time to see each.
does()
{
    local line
    while read -r line; do
        [ -n "$line" ] || continue
        (cd "$1" && eval "$line")
        sync "$2"
        sleep 0.06
    done <<<"$operations"
    sleep 0.3
}

@test "50 operations give the events that they give on a tmpfs, in a watched tree" {
    mkdir "$T/tmpfs" "$A/w"
    mount -t tmpfs none "$T/tmpfs"
    (cd "$T/tmpfs" && prepare)
    (cd "$A/w" && prepare)
    sync "$B"
    watch "$T/tmpfs" "$T/expected" -r
    local first=$WATCHER
    does "$T/tmpfs" "$T/tmpfs"
    watch "$B/w" "$T/found" -r
    does "$A/w" "$B"
    kill "$first" "$WATCHER"
    umount "$T/tmpfs" || umount -l "$T/tmpfs"
    # A recursive watcher is told late of what is made in a new directory, if at all.
    for side in expected found; do
        normalize <"$T/$side" | grep -vE '/(m|a|copy|z)/' >"$T/$side.lines"
    done
    [ "$(wc -l <"$T/expected.lines")" -gt 60 ]
    diff "$T/expected.lines" "$T/found.lines"
    [ "$(awk '$1 == "replay_dropped" { print $2 }' "$B/.quorumfs/status")" -eq 0 ]
}

@test "a watch on the file itself sees writes, attributes, renames and its end" {
    for dir in "$T/local" "$A/w"; do
        mkdir "$dir"
        echo x >"$dir/f"
        mkdir "$dir/d"
    done
    sync "$B"
    acts()
    {
        for line in 'echo y >f' 'echo z >>f' 'chmod 600 f' 'mv f f2' 'mv f2 d/f' 'chmod 700 d' 'rm d/f' 'rmdir d'; do
            (cd "$1" && eval "$line")
            sync "$2"
            sleep 0.06
        done
        sleep 0.3
    }
    (cd "$T/local" && exec inotifywait -m --format '%e %w' f d >"$T/expected" 2>"$T/e1") 3>&- 8>&- &
    OTHERS+=($!)
    (cd "$B/w" && exec inotifywait -m --format '%e %w' f d >"$T/found" 2>"$T/e2") 3>&- 8>&- &
    OTHERS+=($!)
    wait_for 10 grep -q established "$T/e1"
    wait_for 10 grep -q established "$T/e2"
    acts "$T/local" "$T/local"
    acts "$A/w" "$B"
    normalize <"$T/expected" >"$T/expected.lines"
    normalize <"$T/found" >"$T/found.lines"
    diff "$T/expected.lines" "$T/found.lines"
}

@test "an event comes when the new state can be read, and never on the mount that made the change" {
    echo 0 >"$A/f"
    sync "$B"
    watch "$A" "$T/own" -e modify -e create -e delete -e move -e attrib
    python3 - "$A/f" "$B" <<'PYTHON'
import os, subprocess, sys
path, dir = sys.argv[1:]
watcher = subprocess.Popen(['inotifywait', '-m', '-q', '-e', 'close_write', '--format', '%e', dir], stdout=subprocess.PIPE, text=True)
import time
time.sleep(0.5)
for i in range(1, 200):
    with open(path, 'w') as file:
        file.write('%d\n' % i)
    assert 'CLOSE_WRITE' in watcher.stdout.readline()
    with open(dir + '/f') as file:
        text = file.read()
    assert int(text) >= i, (text, i)
watcher.kill()
PYTHON
    for i in $(seq 1 20); do
        echo x >"$A/new$i"
        sync "$B"
    done
    # What A did itself it was told once.
    [ "$(grep -c '^CREATE ./new' "$T/own")" -eq 20 ]
}

@test "inotify=off: nobody is told, and all is seen" {
    OPTIONS="-o inotify=off" mount_tree quiet 2
    mkdir "$A/w"
    sync "$T/quiet"
    watch "$T/quiet/w" "$T/events" -r
    echo x >"$A/w/f"
    sync "$T/quiet"
    sleep 0.5
    [ "$(cat "$T/quiet/w/f")" = x ]
    [ "$(normalize <"$T/events" | wc -l)" -eq 0 ]
}

@test "what changed while no replica could be asked is told afterwards" {
    mkdir "$A/w" "$A/w/d" "$A/w/e" "$A/outside"
    for name in written chmodded removed renamed moved d/inner ../outside/comes; do
        echo one >"$A/w/$name"
    done
    mkdir "$A/w/emptied"
    mkdir "$T/c"
    "$QUORUMFS_BIN/quorumfs" -f "unix:$T/2/sock" "$T/c" >>"$T/c.log" 2>&1 </dev/null 3>&- 8>&- &
    MOUNT_PIDS[c]=$!
    MOUNTS+=(c)
    wait_for 10 is_mounted c
    ls -lR "$T/c" >/dev/null
    watch "$T/c/w" "$T/events" -r
    kill_replica 2
    no_replica() { grep -q '^state no replica' "$T/c/.quorumfs/status"; }
    wait_for 10 no_replica
    echo two >"$A/w/written"
    chmod 600 "$A/w/chmodded"
    rm "$A/w/removed"
    mv "$A/w/renamed" "$A/w/renamed2"
    mv "$A/w/moved" "$A/w/d/moved2"
    mv "$A/outside/comes" "$A/w/came"
    mv "$A/w/d/inner" "$A/outside/inner"
    rmdir "$A/w/emptied"
    echo new >"$A/w/new"
    mkdir "$A/w/e/newdir"
    ln -s x "$A/w/newlink"
    start_replica 2
    is_ok() { grep -q '^state ok' "$T/c/.quorumfs/status"; }
    wait_for 20 is_ok
    told()
    {
        local line
        while read -r line; do
            grep -qxF "$line" "$T/events" || { echo "not told: $line"; return 1; }
        done <<LINES
MODIFY ./written
CLOSE_WRITE,CLOSE ./written
ATTRIB ./chmodded
DELETE ./removed
MOVED_FROM ./renamed
MOVED_TO ./renamed2
MOVED_FROM ./moved
MOVED_TO ./d/moved2
MOVED_TO ./came
DELETE,ISDIR ./emptied
CREATE ./new
MODIFY ./new
CREATE,ISDIR ./e/newdir
CREATE ./newlink
LINES
    }
    wait_for 5 told || { told || cat "$T/events"; return 1; }
    diff -r --no-dereference "$A/w" "$T/c/w"
    [ "$(grep -c '^MODIFY ./written' "$T/events")" -le 2 ]
}
