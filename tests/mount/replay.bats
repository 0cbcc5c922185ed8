# shellcheck shell=bash disable=SC2016,SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Replay under stress: thousands of changes at full speed, programs of this host in between, processes
# that are killed, and somebody who puts links and other file systems in the way. COUNT=2000 for the
# long form.

load ../lib/ensemble

: "${COUNT:=500}"

setup()
{
    ensemble_setup
    start_ensemble 3
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    A=$T/a
    B=$T/b
}

teardown()
{
    umount "$T/b/d" 2>/dev/null || true
    ensemble_teardown
}

figure() { awk -v name="$1" '$1 == name { print $2 }' "$B/.quorumfs/status"; }
is_idle() { [ "$(figure replay_waiting)" -eq 0 ]; }

# events KIND: how many lines of this kind, and how many different ones.
events() { grep -c "^$1 " "$T/events"; }

watch()
{
    (cd "$B" && exec inotifywait -m --format '%e %w%f' "$@" >"$T/events" 2>"$T/watch.err") 3>&- 8>&- &
    WATCHER=$!
    OTHERS+=("$WATCHER")
    wait_for 10 grep -q 'Watches established' "$T/watch.err"
}

@test "of many changes of each kind at full speed no event is lost, and none comes twice" {
    mkdir "$A/d" "$A/e"
    sync "$B"
    watch d e
    python3 - "$A" "$COUNT" <<'PYTHON'
import os, sys
os.chdir(sys.argv[1])
count = range(int(sys.argv[2]))
for i in count: os.close(os.open('d/f%d' % i, os.O_CREAT | os.O_WRONLY))
for i in count: os.mkdir('d/d%d' % i)
for i in count: os.symlink('x', 'd/l%d' % i)
for i in count: os.mkfifo('d/p%d' % i)
for i in count: os.rename('d/f%d' % i, 'd/g%d' % i)
for i in count: os.rename('d/g%d' % i, 'e/f%d' % i)
for i in count: os.chmod('e/f%d' % i, 0o600)
for i in count: open('e/f%d' % i, 'w').write('text')
for i in count: os.unlink('e/f%d' % i)
for i in count: os.unlink('d/l%d' % i)
for i in count: os.unlink('d/p%d' % i)
for i in count: os.rmdir('d/d%d' % i)
PYTHON
    sync "$B"
    wait_for 20 is_idle
    sleep 0.3
    [ "$(figure replay_dropped)" -eq 0 ]
    [ -z "$(ls -A "$B/d")$(ls -A "$B/e")" ]
    for kind in "CREATE d/f" "CREATE,ISDIR d/d" "CREATE d/l" "CREATE d/p" "MOVED_FROM d/f" "MOVED_TO d/g" "MOVED_FROM d/g" "MOVED_TO e/f" \
        "ATTRIB e/f" "CLOSE_WRITE,CLOSE e/f" "DELETE e/f" "DELETE d/l" "DELETE d/p" "DELETE,ISDIR d/d"; do
        [ "$(grep -c "^$kind" "$T/events")" -eq "$COUNT" ] || { echo "$kind: $(grep -c "^$kind" "$T/events")"; return 1; }
        [ "$(grep "^$kind" "$T/events" | sort -u | wc -l)" -eq "$COUNT" ]
    done
}

@test "programs of this host that use the same names meanwhile see no error" {
    mkdir "$A/d"
    sync "$B"
    watch d
    cat >"$T/local.py" <<'PYTHON'
import errno, os, random, sys
dir, done, seed = sys.argv[1:]
random.seed(seed)
expected = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR}
count = 0
while not os.path.exists(done):
    name = '%s/n%d' % (dir, random.randrange(20))
    try:
        what = random.randrange(7)
        if what == 0: os.stat(name)
        elif what == 1: open(name).read()
        elif what == 2: os.listdir(dir)
        elif what == 3: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        elif what == 4: os.unlink(name)
        elif what == 5: os.rename(name, '%s/n%d' % (dir, random.randrange(20)))
        else: [e.stat(follow_symlinks=False) for e in os.scandir(dir)]
        count += 1
    except OSError as error:
        if error.errno not in expected:
            sys.exit('%s: %s' % (name, error))
print(count, 'operations')
PYTHON
    for seed in 1 2 3; do
        python3 "$T/local.py" "$B/d" "$T/done" "$seed" >"$T/local.$seed" 2>&1 3>&- 8>&- &
        local_pids[seed]=$!
    done
    python3 - "$A/d" "$COUNT" <<'PYTHON'
import os, random, sys
os.chdir(sys.argv[1])
random.seed(4)
for i in range(int(sys.argv[2]) * 4):
    name, other = ('n%d' % random.randrange(20) for _ in range(2))
    try:
        what = random.randrange(6)
        if what == 0: open(name, 'w').write('text %d' % i)
        elif what == 1: os.unlink(name)
        elif what == 2: os.rename(name, other)
        elif what == 3: os.chmod(name, random.choice([0o600, 0o644]))
        elif what == 4: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        else: open(name, 'a').write('more')
    except FileNotFoundError:
        pass
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno != 116:
            raise
PYTHON
    touch "$T/done"
    for seed in 1 2 3; do
        wait "${local_pids[seed]}" || { cat "$T/local.$seed"; return 1; }
    done
    sync "$B"
    wait_for 20 is_idle
    ls "$A/d" >"$T/on-a"
    ls "$B/d" >"$T/on-b"
    diff "$T/on-a" "$T/on-b"
    while read -r name; do
        cmp "$A/d/$name" "$B/d/$name"
        [ "$(stat -c '%a %s' "$A/d/$name")" = "$(stat -c '%a %s' "$B/d/$name")" ]
    done <"$T/on-a"
}

# A process that hangs in the kernel and cannot be killed.
# shellcheck disable=SC2009 # the state is wanted
hangs() { ps -eo stat=,args= | grep -E '^D' | grep -q "$T"; }

@test "workers, their parent and the mount itself are killed while they replay: nothing hangs" {
    mkdir "$A/d"
    sync "$B"
    (while [ ! -e "$T/done" ]; do echo x >"$A/d/f"; mv "$A/d/f" "$A/d/g"; rm "$A/d/g"; done) 3>&- 8>&- &
    OTHERS+=($!)
    watch d
    for round in 1 2 3 4 5; do
        local zygote
        zygote=$(pgrep -P "${MOUNT_PIDS[b]}" | head -n 1)
        sleep 0.2
        for pid in $(pgrep -P "$zygote"); do
            kill -9 "$pid"
        done
        sleep 1.2 # others come within a second
        [ "$(pgrep -P "$zygote" | wc -l)" -eq 2 ]
        before=$(wc -l <"$T/events")
        more() { [ "$(wc -l <"$T/events")" -gt "$before" ]; }
        wait_for 5 more
        [ "$round" -lt 2 ] || break
    done
    for round in 1 2 3; do
        sleep 0.$((RANDOM % 9 + 1))
        kill -9 "${MOUNT_PIDS[b]}"
        wait "${MOUNT_PIDS[b]}" || true
        sleep 0.1
        ! hangs || return 1
        umount "$B" || umount -l "$B"
        mount_tree b 2 3 1
        ls "$B/d" >/dev/null
        (cd "$B" && exec inotifywait -q -m d >/dev/null 2>&1) 3>&- 8>&- &
        OTHERS+=($!)
    done
    touch "$T/done"
}

@test "a replay follows no link and enters no other file system" {
    mkdir "$A/d" "$T/victim" "$A/others"
    chmod 777 "$A/d" "$A/others"
    echo precious >"$T/victim/f"
    chmod 600 "$T/victim/f"
    touch -d 2001-01-01 "$T/victim/f" "$T/victim"
    sync "$B"
    watch d
    (while [ ! -e "$T/done" ]; do
        echo x >"$A/d/f"
        chmod 644 "$A/d/f"
        mkdir "$A/d/x"
        rmdir "$A/d/x"
        mv "$A/d/f" "$A/d/g"
        rm "$A/d/g"
    done) 2>/dev/null 3>&- 8>&- &
    OTHERS+=($!)
    for round in $(seq 1 60); do
        mv "$B/d" "$B/others/d" && ln -s "$T/victim" "$B/d"
        sleep 0.01
        rm "$B/d" && mv "$B/others/d" "$B/d"
    done
    mount -t tmpfs none "$B/d"
    sleep 0.5
    [ -z "$(ls -A "$B/d")" ]
    umount "$B/d"
    mount --bind "$T/victim" "$B/d"
    sleep 0.5
    umount "$B/d"
    touch "$T/done"
    [ "$(ls -A "$T/victim")" = f ]
    [ "$(cat "$T/victim/f")" = precious ]
    [ "$(stat -c '%a %Y' "$T/victim/f")" = "600 $(date -d 2001-01-01 +%s)" ]
    [ "$(stat -c '%Y' "$T/victim")" = "$(date -d 2001-01-01 +%s)" ]
}
