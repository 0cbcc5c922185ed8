# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Programs that others wrote run on the mount as on a local disk; what one mount does the other sees.
# STRESS_SECONDS=60 for the long form.

load ../lib/ensemble

: "${STRESS_SECONDS:=10}"

setup()
{
    ensemble_setup
    write_configs 3
    for i in 1 2 3; do
        sed -i 's/^\[members\]/file_bytes_max = 64M\n&/' "$T/$i/conf"
    done
    start_replicas
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    A=$T/a
    B=$T/b
    export HOME=$T GIT_CONFIG_NOSYSTEM=1
    git config --global user.name test
    git config --global user.email test@example.org
    git config --global safe.directory '*'
    git config --global init.defaultBranch main
}

teardown() { ensemble_teardown; }

# What tar, rsync -a and cp -a keep, of each file below the working directory.
attributes() { find . ! -type d -printf '%P|%y|%m|%U:%G|%T@|%l\n' -o -printf '%P|%y|%m|%U:%G\n' | sort; }

same_attributes() { diff <(cd "$1" && attributes) <(cd "$2" && attributes); }

# A tree with what file systems have: modes, owners, links, fifos, times, odd names.
make_tree()
{
    mkdir -p "$1"/{bin,etc/deep/er,empty}
    cp /bin/ls /bin/cat "$1/bin"
    cp /etc/passwd /etc/group /etc/services "$1/etc"
    ln -s ../bin/ls "$1/etc/link"
    ln -s nowhere "$1/etc/dangling"
    mkfifo "$1/etc/fifo"
    printf 'x' >"$1/etc/deep/er/"$'odd\n \xff name'
    : >"$1/etc/nothing"
    chmod 640 "$1/etc/group"
    chmod 4755 "$1/bin/ls"
    chmod 1777 "$1/empty"
    chown 1:2 "$1/etc/passwd"
    chown -h 3:4 "$1/etc/dangling"
    find "$1" -exec touch -h -d '2010-10-10 10:10:10.123456789' {} +
    touch -d '2001-02-03 04:05:06.789012345' "$1/etc/services"
    touch -h -d '1999-01-01 00:00:00.000000001' "$1/etc/link"
}

@test "git: init, add, commit, gc and fsck; the other mount sees a clean tree" {
    mkdir "$A/repo"
    cd "$A/repo"
    git init -q
    for i in $(seq 1 200); do
        mkdir -p "d$((i % 10))"
        seq "$i" $((i + 200)) >"d$((i % 10))/f$i"
    done
    git add .
    git commit -qm one
    sed -i 's/^1/2/' d1/*
    git rm -qr d2
    git commit -qam two
    git gc -q --aggressive --prune=now
    git fsck --strict
    [ -z "$(git status --porcelain)" ]
    sync "$B"
    cd "$B/repo"
    [ -z "$(git status --porcelain)" ]
    git fsck --strict
    git checkout -q HEAD~1
    [ "$(git ls-files | wc -l)" -eq 200 ]
    cd "$T"
}

@test "git clone of this project, and a build in it" {
    local source=$BATS_TEST_DIRNAME/../..
    if [ ! -e "$source/.git" ]; then
        mkdir "$T/source"
        (cd "$source" && tar -cf - --exclude=./build --exclude=./run .) | tar -C "$T/source" -xf -
        (cd "$T/source" && git init -q && git add . && git commit -qm all)
        source=$T/source
    fi
    git clone -q --no-hardlinks "$source" "$A/clone"
    cd "$A/clone"
    [ -z "$(git status --porcelain)" ]
    make -j2 build/release/libctl.a build/release/libcommon.a build/release/libfsclient.a \
        build/release/bin/quorumctl >"$T/make.out" 2>&1
    sync "$B"
    [ "$("$B/clone/build/release/bin/quorumctl" --version)" = "$("$QUORUMFS_BIN/quorumctl" --version)" ]
    make build/release/bin/quorumctl >"$T/make.out" 2>&1
    # All is there, and no file is younger than it should be.
    [ "$(grep -cE '^ +(CC|LD) ' "$T/make.out")" -eq 0 ]
    cd "$T"
}

@test "rsync -aHX --delete: the second time there is nothing to do" {
    make_tree "$T/tree"
    setfattr -n user.note -v text "$T/tree/etc/passwd"
    rsync -aHX --delete "$T/tree/" "$A/copy"
    [ -z "$(rsync -aHXi --delete "$T/tree/" "$A/copy")" ]
    sync "$B"
    [ -z "$(rsync -aHXi --delete "$T/tree/" "$B/copy")" ]
    same_attributes "$T/tree" "$B/copy"
    rm -r "$T/tree/etc/deep"
    echo more >>"$T/tree/etc/group"
    rsync -aHX --delete "$T/tree/" "$B/copy"
    sync "$A"
    [ -z "$(rsync -aHXi --delete "$T/tree/" "$A/copy")" ]
    rsync -aHX "$A/copy/" "$T/back"
    same_attributes "$T/tree" "$T/back"
}

@test "tar and cp -a there and back keep all; find, du and diff agree" {
    make_tree "$T/tree"
    mkdir "$A/there" "$T/back"
    tar -C "$T/tree" --format=posix -cf - . | tar -C "$A/there" -xpf -
    sync "$B"
    tar -C "$B/there" --format=posix -cf - . | tar -C "$T/back" -xpf -
    same_attributes "$T/tree" "$T/back"
    cp -a "$T/tree" "$A/copied"
    cp -a "$A/copied" "$B/again"
    sync "$A"
    same_attributes "$T/tree" "$A/again"
    diff -r --no-dereference "$T/tree/bin" "$A/again/bin"
    [ "$(du --apparent-size -bs --exclude=empty "$A/again/etc/services" | cut -f 1)" -eq "$(stat -c %s /etc/services)" ]
    [ "$(find "$A/again" -type f -newermt 2001-02-03 ! -newermt 2001-02-04 | wc -l)" -eq 1 ]
    [ "$(find "$A" -xdev | wc -l)" -eq "$(find "$B" -xdev | wc -l)" ]
}

# saves COMMAND: while COMMAND N saves the file again and again, a reader on B sees it whole, always.
saves()
{
    head -c 30000 /dev/zero | tr '\0' a >"$A/f"
    sync "$B"
    python3 - "$B/f" "$T/done" 3>&- 8>&- <<'PYTHON' &
import os, sys
path, done = sys.argv[1:]
seen = set()
open(done + '.ready', 'w').close()
while not os.path.exists(done):
    data = open(path, 'rb').read()
    assert len(data) == 30000 and len(set(data)) == 1, (len(data), set(data))
    seen.add(data[0])
assert len(seen) > 3, seen
PYTHON
    local reader=$! letter previous=a
    wait_for 10 test -e "$T/done.ready"
    for letter in b c d e f g h i j k l m b c d e f g h i j k l m; do
        "$1" "$previous" "$letter"
        previous=$letter
        sleep 0.02
    done
    touch "$T/done"
    wait "$reader"
    rm "$T/done" "$T/done.ready"
}

save_by_sed() { sed -i "s/$1/$2/g" "$A/f"; }
save_by_rename()
{
    tr "$1" "$2" <"$A/f" >"$A/.f.swp"
    cp -p "$A/f" "$A/f~"
    mv "$A/.f.swp" "$A/f"
}

@test "sed -i and saves by rename are never seen half" {
    saves save_by_sed
    saves save_by_rename
}

@test "vim saves with a backup" {
    seq 100 >"$A/f"
    vim.tiny -es -u NONE -c "set backup backupskip= backupdir=$A" -c '%s/^1/one/' -c wq "$A/f"
    sync "$B"
    [ "$(head -n 1 "$B/f")" = one ]
    [ "$(cat "$B/f~")" = "$(seq 100)" ]
}

@test "sqlite3: a journal on the mount; a writer that is killed leaves a whole database" {
    sqlite3 "$A/db" 'PRAGMA locking_mode=EXCLUSIVE; CREATE TABLE t(i INTEGER PRIMARY KEY, x TEXT);'
    for i in $(seq 1 20); do
        sqlite3 "$A/db" "INSERT INTO t(x) VALUES(hex(randomblob(2000)));"
    done
    sync "$B"
    [ "$(sqlite3 "$B/db" 'SELECT count(*) FROM t')" -eq 20 ]
    for i in $(seq 1 2000); do
        echo "INSERT INTO t(x) VALUES(hex(randomblob(20000)));"
    done >"$T/inserts"
    sqlite3 "$A/db" <"$T/inserts" 3>&- 8>&- &
    local writer=$!
    sleep 1
    kill -9 "$writer"
    wait "$writer" || true
    [ "$(sqlite3 "$A/db" 'PRAGMA integrity_check')" = ok ]
    sync "$B"
    [ "$(sqlite3 "$B/db" 'PRAGMA integrity_check')" = ok ]
    [ "$(sqlite3 "$B/db" 'SELECT count(*) FROM t')" -gt 20 ]
}

@test "dpkg-deb and unzip of an archive give what they give on a local disk" {
    mkdir -p "$T/package/DEBIAN" "$T/package/usr/share"
    printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n' \
        >"$T/package/DEBIAN/control"
    find /usr/include -type f | head -n 600 | tar -cf - -T - 2>/dev/null | tar -C "$T/package/usr/share" -xf -
    dpkg-deb -b "$T/package" "$T/x.deb" >/dev/null
    cp "$T/x.deb" "$A/x.deb"
    dpkg-deb -x "$A/x.deb" "$A/out"
    dpkg-deb -x "$T/x.deb" "$T/out"
    sync "$B"
    diff -r "$T/out" "$B/out"
    (cd "$T/out" && zip -qr "$T/x.zip" .)
    unzip -q "$T/x.zip" -d "$A/unzipped"
    sync "$B"
    diff -r "$T/out" "$B/unzipped"
    rm -r "$B/out" "$B/unzipped"
}

@test "fio: what is written at random, in order and by mapping is read back right" {
    for job in "--rw=randwrite" "--rw=write" "--rw=randwrite --ioengine=mmap" "--rw=randrw"; do
        # shellcheck disable=SC2086 # words are wanted
        (cd "$A" && fio --output="$T/fio.out" --name=j --size=700k --bs=4k --numjobs=3 --verify=crc32c \
            --verify_fatal=1 --do_verify=1 --fallocate=none --ioengine=psync $job) ||
            { cat "$T/fio.out"; return 1; }
        rm -f "$A"/j.*
    done
    (cd "$A" && fio --output="$T/fio.out" --name=j --size=12m --bs=64k --numjobs=1 --rw=randwrite \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --fallocate=none --ioengine=psync)
}

@test "stress-ng finds no error and no wrong byte" {
    mkdir "$A/stress"
    local each=$((STRESS_SECONDS / 5 > 0 ? STRESS_SECONDS / 5 : 1))
    for set in "--hdd 2 --hdd-bytes 3m" "--dir 1 --dir-dirs 64 --rename 1 --symlink 1" \
        "--touch 2 --touch-opts all --utime 1" "--chmod 1 --chown 1 --fstat 1" \
        "--seek 1 --seek-size 4m --readahead 1 --readahead-bytes 4m --open 1"; do
        # shellcheck disable=SC2086
        stress-ng --temp-path "$A/stress" --timeout "$each" --verify --metrics-brief $set \
            >"$T/stress.out" 2>&1 || { cat "$T/stress.out"; return 1; }
        if grep -iE 'fail|error' "$T/stress.out" | grep -v 'passed: .* failed: 0'; then
            return 1
        fi
    done
}
