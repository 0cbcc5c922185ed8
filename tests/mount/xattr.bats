# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Extended attributes: user.znode.* tells what the tree knows of a node, other user.* are stored.

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

# value FILE NAME: of one attribute.
value() { getfattr --absolute-names --only-values -n "$2" "$1"; }

# names FILE: of all that are listed.
names() { getfattr --absolute-names -m - "$1" | grep -v '^#' | grep . || true; }

@test "user.znode tells versions, zxids, kind, owner, children and holder, and is not listed" {
    mkdir "$A/d"
    echo one >"$A/d/f"
    echo two >"$A/d/f"
    ln -s f "$A/d/l"
    sync "$B"
    for host in "$A" "$B"; do
        [ "$(value "$host/d/f" user.znode.version)" = 2 ]
        [ "$(value "$host/d/f" user.znode.kind)" = file ]
        [ "$(value "$host/d" user.znode.kind)" = dir ]
        [ "$(value "$host/d" user.znode.children)" = 2 ]
        [ "$(value "$host/d" user.znode.cversion)" = 2 ]
        [ "$(value "$host/d" user.znode.aversion)" = 0 ]
        [ "$(value "$host/d" user.znode.owner)" = 0 ]
        [ "$(value "$host/d" user.znode.lifetime)" = persistent ]
        [[ $(value "$host/d" user.znode.holder) == "$(uname -n) "*" mkdir" ]]
        [ "$(value "$host/d" user.znode.fence)" = "$(value "$host/d" user.znode.czxid)" ]
        [ "$(value "$host/d/f" user.znode.mzxid)" -gt "$(value "$host/d/f" user.znode.czxid)" ]
        [ "$(value "$host/d" user.znode.pzxid)" -gt "$(value "$host/d" user.znode.czxid)" ]
        [ -z "$(names "$host/d")$(names "$host/d/f")" ]
    done
    value "$B/d" user.znode >"$T/all"
    for word in kind version cversion aversion czxid mzxid pzxid children owner lifetime fence holder; do
        grep -q "^$word " "$T/all"
    done
    chmod 700 "$A/d"
    sync "$B"
    [ "$(value "$B/d" user.znode.aversion)" = 1 ]
}

@test "what is unknown, virtual or of another namespace is refused with the usual errors" {
    touch "$A/f"
    python3 - "$A/f" "$A" <<'PYTHON'
import errno, os, sys
file, root = sys.argv[1:]
def fails(number, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        assert error.errno == number, (function, arguments, error)
    else:
        raise AssertionError((function, arguments))
fails(errno.ENODATA, os.getxattr, file, 'user.none')
fails(errno.ENODATA, os.getxattr, file, 'user.znode.none')
fails(errno.ENODATA, os.getxattr, file, 'user.znode.holder')
fails(errno.EPERM, os.setxattr, file, 'user.znode.version', b'1')
fails(errno.EPERM, os.removexattr, file, 'user.znode.version')
fails(errno.ENOTSUP, os.setxattr, file, 'security.x', b'1')
fails(errno.ENOTSUP, os.setxattr, file, 'trusted.x', b'1')
fails(errno.ENOTSUP, os.getxattr, file, 'trusted.x')
fails(errno.ENODATA, os.removexattr, file, 'user.none')
fails(errno.ENODATA, os.setxattr, file, 'user.x', b'1', os.XATTR_REPLACE)
os.setxattr(file, 'user.x', b'1', os.XATTR_CREATE)
fails(errno.EEXIST, os.setxattr, file, 'user.x', b'2', os.XATTR_CREATE)
os.setxattr(file, 'user.x', b'22', os.XATTR_REPLACE)
assert os.getxattr(file, 'user.x') == b'22'
os.setxattr(file, 'user.empty', b'')
assert os.getxattr(file, 'user.empty') == b''
# 64 KiB a node, names counted.
os.setxattr(file, 'user.large', b'x' * 60000)
fails(errno.ENOSPC, os.setxattr, file, 'user.more', b'x' * 6000)
assert sorted(os.listxattr(file)) == ['user.empty', 'user.large', 'user.x']
for name in os.listxattr(file):
    os.removexattr(file, name)
assert os.listxattr(file) == []
assert os.listxattr(root + '/.quorumfs') == []
PYTHON
}

@test "stored attributes reach the other mount, survive a restart and go with their node" {
    touch "$A/f"
    [ -z "$(names "$B/f")" ]
    setfattr -n user.color -v blue "$A/f"
    setfattr -n user.binary -v 0x0001ff00 "$A/f"
    sync "$B"
    [ "$(value "$B/f" user.color)" = blue ]
    [ "$(names "$B/f")" = "$(printf 'user.binary\nuser.color')" ]
    [ "$(getfattr --absolute-names --only-values -n user.binary "$B/f" | od -An -tx1)" = " 00 01 ff 00" ]
    before=$(stat -c %Z "$B/f")
    sleep 1
    setfattr -x user.color "$B/f"
    [ "$(stat -c %Z "$B/f")" -gt "$before" ]
    sync "$A"
    [ "$(names "$A/f")" = user.binary ]
    for i in 1 2 3; do
        kill_replica "$i"
    done
    start_replicas
    wait_for 10 mkdir "$A/awake"
    sync "$B"
    [ "$(names "$B/f")" = user.binary ]
    mv "$A/f" "$A/g"
    [ "$(names "$A/g")" = user.binary ]
    rm "$A/g"
    touch "$A/g"
    [ -z "$(names "$A/g")" ]
}

@test "cp -a, rsync -X and tar --xattrs keep stored attributes and leave virtual ones alone" {
    mkdir "$A/t"
    echo x >"$A/t/f"
    setfattr -n user.a -v 1 "$A/t"
    setfattr -n user.b -v 2 "$A/t/f"
    cp -a "$A/t" "$B/copy"
    rsync -aX "$A/t/" "$A/synced"
    tar -C "$A" --xattrs -cf "$T/t.tar" t
    mkdir "$A/back"
    tar -C "$A/back" --xattrs -xf "$T/t.tar"
    sync "$A"
    for copy in copy synced back/t; do
        [ "$(value "$A/$copy" user.a)" = 1 ]
        [ "$(value "$A/$copy/f" user.b)" = 2 ]
        [ "$(names "$A/$copy/f")" = user.b ]
    done
    [ -z "$(rsync -aXi "$A/t/" "$A/synced")" ]
}

@test "if-version: a publish happens only on the version that was looked at" {
    echo one >"$A/f"
    sync "$B"
    version=$(value "$A/f" user.znode.version)
    setfattr -n user.znode.if-version -v "$version" "$A/f"
    echo two >"$A/f"
    sync "$B"
    [ "$(cat "$B/f")" = two ]
    run setfattr -n user.znode.if-version -v "$version" "$A/f" # is another already
    [[ $output == *"Stale file handle"* ]]
    # Somebody else is faster between the look and the write.
    setfattr -n user.znode.if-version -v $((version + 1)) "$A/f"
    echo other >"$B/f"
    run python3 - "$A/f" <<'PYTHON'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
os.write(fd, b'lost\n')
try:
    os.close(fd)
except OSError as error:
    assert error.errno == errno.ESTALE, error
else:
    raise AssertionError('published')
PYTHON
    [ "$status" -eq 0 ]
    [ "$(cat "$A/f")" = other ]
    echo three >"$A/f" # the condition is used up
    sync "$B"
    [ "$(cat "$B/f")" = three ]
    setfattr -n user.znode.if-version -v "$(value "$A/f" user.znode.version)" "$A/f"
    setfattr -x user.znode.if-version "$A/f"
    run setfattr -n user.znode.if-version -v x "$A/f"
    [[ $output == *"Invalid argument"* ]]
}

@test "100 increments from each of two hosts by if-version lose none" {
    echo 0 >"$A/n"
    sync "$B"
    increment()
    {
        python3 - "$1" <<'PYTHON'
import errno, os, sys
path, done = sys.argv[1], 0
while done < 100:
    try:
        barrier = os.open(path, os.O_RDONLY)
        os.fsync(barrier)
        os.close(barrier)
        version = os.getxattr(path, 'user.znode.version')
        with open(path) as file:
            number = int(file.read())
        os.setxattr(path, 'user.znode.if-version', version)
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b'%d\n' % (number + 1))
        os.close(fd)
        done += 1
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
PYTHON
    }
    increment "$A/n" 3>&- 8>&- &
    other=$!
    increment "$B/n"
    wait "$other"
    sync "$A"
    [ "$(cat "$A/n")" = 200 ]
}
