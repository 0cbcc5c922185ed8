# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Two mounts of one tree through two replicas: what one does the other sees, whole and at once.

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

# What `cp -a` keeps, of each file below the working directory.
attributes()
{
    find . -printf '%P|%y|%m|%U:%G|%T@|%l\n' | sort
}

@test "cp -a of /etc on one mount is the same tree on the other" {
    cp -a /etc "$A/etc"
    sync "$B"
    diff -r --no-dereference /etc "$B/etc"
    (cd /etc && attributes) >"$T/expected"
    (cd "$B/etc" && attributes) >"$T/found"
    diff "$T/expected" "$T/found"
}

@test "a change is there behind a barrier on the other mount, and without one a moment later" {
    for i in $(seq 1 100); do
        echo "v$i" >"$A/conf"
        sync "$B"
        [ "$(cat "$B/conf")" = "v$i" ]
        [ "$(stat -c %s "$B/conf")" -eq $((${#i} + 2)) ]
        mv "$B/conf" "$B/conf-$i"
        sync "$A"
        [ ! -e "$A/conf" ]
        [ -e "$A/conf-$i" ]
    done
    rm "$A"/conf-*
    is_empty() { [ -z "$(ls -A "$B")" ]; }
    wait_for 2 is_empty
}

# rewrite SIZE SIZE COMMAND: COMMAND gets $1 = 0 or 1, the content to write into $A/f.
rewrite()
{
    head -c "$1" /dev/zero | tr '\0' a >"$T/content0"
    head -c "$2" /dev/zero | tr '\0' b >"$T/content1"
    cp "$T/content0" "$A/f"
    python3 "$BATS_TEST_DIRNAME/versions.py" "$B/f" "$T/done" "$T/content0" "$T/content1" \
        3>&- 8>&- &
    local reader=$! i
    for i in $(seq 1 "$3"); do
        "$4" $((i % 2))
    done
    touch "$T/done"
    wait "$reader"
    rm "$T/done"
}

by_redirection() { cat "$T/content$1" >"$A/f"; }
by_cp() { cp "$T/content$1" "$A/f"; }
by_group()
{
    {
        head -c 40 "$T/content$1"
        tail -c +41 "$T/content$1"
    } >"$A/f"
}
by_python()
{
    python3 -c 'import sys; open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read())' \
        "$T/content$1" "$A/f"
}

@test "rewriting a small file through > and cp and a group and python is never seen half" {
    rewrite 100 3000 120 by_redirection
    rewrite 100 3000 120 by_cp
    rewrite 100 3000 120 by_group
    rewrite 100 3000 50 by_python
}

@test "rewriting a large file through > and cp and a group and python is never seen half" {
    rewrite 307200 204800 60 by_redirection
    rewrite 307200 204800 60 by_cp
    rewrite 307200 204800 60 by_group
    rewrite 307200 204800 30 by_python
}

@test "20 shells append lines through both mounts: every line is there, whole, once" {
    local pids="" shell m
    for shell in $(seq 1 20); do
        m=$A
        [ $((shell % 2)) -eq 0 ] && m=$B
        (
            for i in $(seq 1 40); do
                echo "shell $shell line $i of a text that is a little longer" >>"$m/log"
            done
        ) 3>&- 8>&- &
        pids="$pids $!"
    done
    # shellcheck disable=SC2086
    wait $pids
    for shell in $(seq 1 20); do
        for i in $(seq 1 40); do
            echo "shell $shell line $i of a text that is a little longer"
        done
    done | sort >"$T/expected"
    sync "$A"
    sync "$B"
    sort "$A/log" | diff "$T/expected" -
    sort "$B/log" | diff "$T/expected" -
}

@test "20,000 files of 100 bytes, made and listed" {
    python3 - "$A/many" <<'PYTHON'
import os, sys
os.mkdir(sys.argv[1])
for i in range(20000):
    with open(f'{sys.argv[1]}/file-{i}', 'w') as f:
        f.write(f'{i:0100d}')
PYTHON
    sync "$B"
    [ "$(find "$B/many" -type f -size -2 | wc -l)" -eq 20000 ]
    # shellcheck disable=SC2012
    [ "$(ls "$A/many" | wc -l)" -eq 20000 ]
    # shellcheck disable=SC2012
    [ "$(ls -l "$B/many" | awk '$5 == 100' | wc -l)" -eq 20000 ]
    [ "$(cat "$B/many/file-19999")" = "$(printf %0100d 19999)" ]
    rm -r "$B/many"
    sync "$A"
    [ ! -e "$A/many" ]
}

@test "who looks at a file while it is made does not keep what it saw" {
    mkdir "$A/d"
    python3 - "$B/d" 600 3>&- 8>&- <<'PYTHON' &
import os, sys
for i in range(int(sys.argv[2])):
    while True:
        try:
            os.stat(f'{sys.argv[1]}/f{i}')
            break
        except FileNotFoundError:
            pass
PYTHON
    local looker=$!
    python3 - "$A/d" 600 <<'PYTHON'
import sys
for i in range(int(sys.argv[2])):
    with open(f'{sys.argv[1]}/f{i}', 'w') as f:
        f.write('x' * 100)
PYTHON
    wait "$looker"
    sync "$B"
    [ "$(stat -c %s "$B"/d/f* | sort | uniq -c | tr -s ' ')" = " 600 100" ]
}

@test "what a listing has shown is kept up to date" {
    mkdir "$A/d"
    change() {
        python3 - "$A/d" "$1" <<'PYTHON'
import sys
for i in range(700):
    with open(f'{sys.argv[1]}/a-file-of-a-listing-of-several-pages-{i}', 'a') as f:
        f.write(sys.argv[2])
PYTHON
    }
    look() { (cd "$1" && find . -type f -printf '%P %s %T@\n' | sort); }
    change x
    sync "$B"
    # Attributes between the names: the kernel then asks for both at once.
    python3 -c 'import os, sys
for entry in os.scandir(sys.argv[1]): entry.stat()' "$B/d"
    ls -l "$B/d" >/dev/null
    change more
    sync "$B"
    [ "$(find "$B/d" -type f -size 5c | wc -l)" -eq 700 ]
    diff <(look "$A/d") <(look "$B/d")
}

@test "mappings, synchronous writes and files without a name work as on a disk" {
    python3 - "$A" "$B" <<'PYTHON'
import mmap, os, sys
a, b = sys.argv[1:]
def other(name):
    with open(f'{b}/{name}', 'rb') as f:
        return f.read()
def barrier():
    fd = os.open(b, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
# A writable shared mapping is published at msync.
with open(f'{a}/map', 'w+b') as f:
    f.write(b'-' * 10000)
    f.flush()
    with mmap.mmap(f.fileno(), 10000) as m:
        m[5000:5004] = b'here'
        m.flush()
        os.fsync(f.fileno())
        barrier()
        assert other('map')[4990:5010] == b'-' * 10 + b'here' + b'-' * 6
# With O_SYNC each write is there when it returns.
fd = os.open(f'{a}/sync', os.O_WRONLY | os.O_CREAT | os.O_SYNC)
for i in range(5):
    os.write(fd, b'%d' % i)
    barrier()
    assert other('sync') == b'01234'[:i + 1]
# An open file outlives its name.
os.unlink(f'{a}/sync')
os.write(fd, b'5')
assert os.fstat(fd).st_nlink == 0
os.close(fd)
with open(f'{a}/gone', 'w+b') as f:
    os.unlink(f'{a}/gone')
    f.write(b'still here')
    f.seek(0)
    assert f.read() == b'still here'
# A reader keeps its version to the end, then goes on with the newest.
with open(f'{a}/log', 'wb') as f:
    f.write(b'1' * 200000)
barrier()
with open(f'{b}/log', 'rb', buffering=0) as reader:
    assert reader.read(100000) == b'1' * 100000
    with open(f'{a}/log', 'wb') as f:
        f.write(b'2' * 300000)
    barrier()
    assert reader.read(150000) == b'1' * 100000
    assert reader.read(100000) == b''
    assert reader.read(100000) == b'2' * 100000
PYTHON
}

@test "names, links, modes, owners, times, sizes come across; errors are the usual ones" {
    local place
    for place in "$A" "$T/local"; do
        mkdir -p "$place"
        mkdir -m 2750 "$place/d"
        echo text >"$place/d/f"
        ln -s d/f "$place/link"
        chmod 4711 "$place/d/f"
        chown 12:34 "$place/d/f"
        truncate -s 70000 "$place/d/f"
        touch -d @1234567890.123456789 "$place/d/f"
    done
    sync "$B"
    for place in "$A" "$B"; do
        for name in d d/f link; do
            [ "$(stat -c '%F %a %u:%g %h' "$place/$name")" = \
                "$(stat -c '%F %a %u:%g %h' "$T/local/$name")" ]
        done
        [ "$(stat -c '%s %.Y' "$place/d/f")" = "70000 1234567890.123456789" ]
        [ "$(readlink "$place/link")" = d/f ]
    done
    [ "$(head -n 1 "$B/link" | tr -d '\0')" = text ]
    run mkdir "$B/d"
    [[ $output == *"File exists"* ]]
    run rmdir "$B/d"
    [[ $output == *"Directory not empty"* ]]
    run cat "$B/none"
    [[ $output == *"No such file"* ]]
    run ln "$B/d/f" "$B/hard"
    [[ $output == *"Operation not permitted"* ]]
    run mkdir "$B/$(printf 'n%.0s' $(seq 1 256))"
    [[ $output == *"File name too long"* ]]
    run sh -c "head -c 2000000 /dev/zero > '$B/big'"
    [[ $output == *"File too large"* ]]
    mv -T "$A/d" "$A/e"
    sync "$B"
    [ "$(stat -c %a "$B/e")" = 2750 ]
    [ ! -e "$B/d" ]
    df "$A" >/dev/null
}

@test "a mount point that is in use, not empty or not there is one clear line" {
    expect() {
        run timeout 10 "$QUORUMFS_BIN/quorumfs" "${@:3}"
        printf 'status %s: %s\n' "$status" "$output"
        [ "$status" -eq "$1" ] && [ "${#lines[@]}" -eq 1 ] && [[ $output == *"$2"* ]]
    }
    expect 1 "already" "unix:$T/1/sock" "$A"
    mkdir "$T/full"
    touch "$T/full/file"
    expect 1 "not an empty directory" "unix:$T/1/sock" "$T/full"
    expect 1 "No such file" "unix:$T/1/sock" "$T/none"
    run "$QUORUMFS_BIN/quorumfs" -o nonsense "unix:$T/1/sock" "$T/full"
    [ "$status" -eq 2 ]
    run "$QUORUMFS_BIN/quorumfs"
    [ "$status" -eq 2 ]
}
