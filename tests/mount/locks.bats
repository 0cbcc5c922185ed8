#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# flock and fcntl on two mounts through two replicas: locks of the whole ensemble.

load ../lib/ensemble

setup()
{
    ensemble_setup
    start_ensemble 3
    mount_tree a 1
    mount_tree b 2
    A=$T/a
    B=$T/b
    : >"$A/file"
    wait_for 5 test -e "$B/file"
}

teardown() { ensemble_teardown; }

# Whether a lock of another process of a host can be had now.
is_locked() { ! flock -n "$@" true; }

# hold FILE [FLOCK'S OPTIONS]: a process that holds the lock until it is killed; $! is its id.
hold()
{
    local file=$1
    shift
    rm -f "$T/held"
    in_background bash -c 'exec 9<>"$1"; shift; flock "${@:2}" 9; : >"$1"; exec sleep 1000' \
        hold "$file" "$T/held" "$@"
    wait_for 10 test -e "$T/held"
}

@test "flock: one writer or many readers among all hosts" {
    hold "$A/file"
    is_locked "$B/file"
    is_locked -s "$B/file"
    is_locked "$A/file"
    kill -9 $!
    wait_for 1 flock -n "$B/file" true
    hold "$A/file" -s
    flock -n -s "$B/file" true
    is_locked "$B/file"
    kill -9 $!
    wait_for 1 flock -n "$B/file" true
}

@test "flock: who waits gets the lock in order when the holder is killed, and may give up" {
    hold "$A/file"
    local holder=$! waiters=() i
    for i in 1 2 3; do
        in_background flock "$(eval echo "\$$([ $((i % 2)) = 0 ] && echo A || echo B)")/file" \
            sh -c "echo $i >>$T/order"
        waiters+=($!)
        sleep 0.3
    done
    # A signal ends a wait.
    in_background timeout -s INT 1 flock "$B/file" true
    local status=0
    wait $! || status=$?
    [ "$status" -eq 124 ]
    [ ! -e "$T/order" ]
    kill -9 "$holder"
    wait "${waiters[@]}"
    [ "$(tr '\n' ' ' <"$T/order")" = "1 2 3 " ]
    flock -n "$A/file" true
}

@test "flock: a wait outlives the replica and the leader" {
    hold "$A/file"
    local holder=$! waiter
    in_background flock "$B/file" sh -c "echo mine >$T/got"
    waiter=$!
    sleep 0.5
    kill_replica 2
    sleep 1
    start_replica 2
    wait_for 10 serves 2
    [ ! -e "$T/got" ]
    kill -9 "$holder"
    wait "$waiter"
    [ "$(cat "$T/got")" = mine ]
}

@test "fcntl: ranges, who is in the way, deadlocks, all of a process at its first close" {
    python3 - "$A/file" "$B/file" <<'PYTHON'
import errno, fcntl, os, struct, sys, time

def refused(*numbers):
    class Refused:
        def __enter__(self):
            return self
        def __exit__(self, kind, error, trace):
            assert kind is OSError or issubclass(kind, OSError), kind
            assert error.errno in numbers, error
            return True
    return Refused()

class Other:
    """A process that does what it is told, one thing at a time."""
    def __init__(self, path):
        ask, self.ask = os.pipe()
        self.answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.ask)
            os.close(self.answer)
            file = os.open(path, os.O_RDWR)
            for line in os.fdopen(ask):
                try:
                    eval(line, globals(), {'f': file, 'path': path})
                    os.write(answer, b'0\n')
                except OSError as error:
                    os.write(answer, b'%d\n' % error.errno)
            os._exit(0)
        self.answers = os.fdopen(self.answer)
    def tell(self, line):
        os.write(self.ask, line.encode() + b'\n')
    def told(self):
        return int(self.answers.readline())
    def do(self, line):
        self.tell(line)
        return self.told()

EX, SH, UN, NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN, fcntl.LOCK_NB
a = Other(sys.argv[1])
b = Other(sys.argv[2])
assert a.do('fcntl.lockf(f, EX | NB, 10, 0)') == 0
assert b.do('fcntl.lockf(f, EX | NB, 10, 10)') == 0
assert b.do('fcntl.lockf(f, SH | NB, 1, 9)') == errno.EAGAIN
assert a.do('fcntl.lockf(f, UN, 2, 4)') == 0
assert b.do('fcntl.lockf(f, SH | NB, 2, 4)') == 0
assert a.do('fcntl.lockf(f, SH | NB, 6, 4)') == 0
assert b.do('fcntl.lockf(f, EX | NB, 2, 4)') == errno.EAGAIN

# F_GETLK names the lock in the way; a process of another mount has no number here.
file = os.open(sys.argv[1], os.O_RDWR)
flock = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
kind, whence, start, length, pid = struct.unpack('hhqqi4x', fcntl.fcntl(file, fcntl.F_GETLK, flock))
assert (kind, start, length, pid) == (fcntl.F_WRLCK, 0, 4, a.pid), (kind, start, length, pid, a.pid)
flock = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 15, 1, 0)
kind, whence, start, length, pid = struct.unpack('hhqqi4x', fcntl.fcntl(file, fcntl.F_GETLK, flock))
assert (kind, start, length, pid) == (fcntl.F_WRLCK, 10, 10, 0), (kind, start, length, pid)

# Each waits for the other: the second is told.
a.tell('fcntl.lockf(f, EX, 1, 15)')
time.sleep(0.5)
assert b.do('fcntl.lockf(f, EX, 1, 0)') == errno.EDEADLK
assert b.do('fcntl.lockf(f, UN, 10, 10)') == 0
assert a.told() == 0

# The first close of the file by a process gives back all that it has on it.
assert a.do('os.close(os.open(path, os.O_RDWR))') == 0
time.sleep(0.3)
assert b.do('fcntl.lockf(f, EX | NB)') == 0
os.kill(b.pid, 9)
os.waitpid(b.pid, 0)
until = time.monotonic() + 1
while a.do('fcntl.lockf(f, EX | NB)') != 0:
    assert time.monotonic() < until, 'the lock of a killed process'

# Open file descriptions: two of one process are two owners.
F_OFD_SETLK = 37
one = os.open(sys.argv[2], os.O_RDWR)
two = os.open(sys.argv[2], os.O_RDWR)
whole = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 100, 0, 0)
assert a.do('fcntl.lockf(f, UN)') == 0
fcntl.fcntl(one, F_OFD_SETLK, whole)
with refused(errno.EAGAIN):
    fcntl.fcntl(two, F_OFD_SETLK, whole)
os.close(one)
until = time.monotonic() + 1
while True:
    try:
        fcntl.fcntl(two, F_OFD_SETLK, whole)
        break
    except OSError:
        assert time.monotonic() < until, 'the lock of a closed description'
os.kill(a.pid, 9)
os.waitpid(a.pid, 0)
PYTHON
}

@test "the fence of a file is the zxid of its newest lock, and grows with each" {
    local first second
    run getfattr --only-values -n user.znode.fence "$A/file"
    [[ $output == *"No such attribute"* ]]
    hold "$A/file"
    first=$(getfattr --only-values -n user.znode.fence "$B/file" 2>/dev/null)
    kill -9 $!
    wait_for 1 flock -n "$B/file" true
    hold "$B/file"
    second=$(getfattr --only-values -n user.znode.fence "$A/file" 2>/dev/null)
    [ "$second" -gt "$first" ]
    [ "$second" -gt "$(getfattr --only-values -n user.znode.czxid "$A/file" 2>/dev/null)" ]
}

@test "a counter under flock by eight processes of two mounts, killed at random, is exact" {
    echo 0 >"$A/counter"
    wait_for 5 test -s "$B/counter"
    python3 - "$A" "$B" <<'PYTHON'
import fcntl, os, random, signal, sys, time

ROUNDS = 400

def work(folder, done):
    """Adds one under the lock, again and again; a line in `done` is what it has surely added."""
    while True:
        lock = os.open(folder + '/file', os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(folder + '/counter') as file:
            value = int(file.read())
        new = folder + '/new'
        with open(new, 'w') as file:
            file.write('%d\n' % (value + 1))
        os.rename(new, folder + '/counter')
        os.write(done, b'%d\n' % (value + 1))
        os.close(lock)

read, write = os.pipe()
children = {}
def start(i):
    pid = os.fork()
    if pid == 0:
        work(sys.argv[1 + i % 2], write)
    children[pid] = i
for i in range(8):
    start(i)
counted = os.fdopen(read)
seen = []
while len(seen) < ROUNDS:
    seen.append(int(counted.readline()))
    if len(seen) % 20 == 0:
        pid = random.choice(list(children))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        start(children.pop(pid))
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
# One that was killed between the rename and its line has counted too, so numbers may be missing; none
# comes twice, and none goes back.
assert all(a < b for a, b in zip(seen, seen[1:])), seen
assert len(set(seen)) == len(seen)
PYTHON
    flock -w 5 "$A/file" cat "$A/counter"
}

@test "nolock: ENOLCK, never a lock of this host alone" {
    OPTIONS="-o nolock" mount_tree c 3
    python3 - "$T/c/file" <<'PYTHON'
import errno, fcntl, sys
file = open(sys.argv[1], 'r+')
for lock in (fcntl.flock, fcntl.lockf):
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        assert error.errno == errno.ENOLCK, error
    else:
        raise AssertionError(lock)
PYTHON
}

@test "a paused host loses its lock: its descriptor answers EIO, what it writes then is nowhere" {
    OPTIONS="-o session_timeout=2" mount_tree c 3
    python3 - "$T/c/file" "$T/held" "$T/result" <<'PYTHON' 3>&- 8>&- &
import errno, fcntl, os, sys, time
path, held, result = sys.argv[1:]
file = os.open(path, os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
os.pwrite(file, b'before', 0)
os.fsync(file)
os.pwrite(file, b'unpublished', 0)
open(held, 'w').close()
while not os.path.exists(held + '.go'):
    time.sleep(0.05)
errors = []
for call in (lambda: os.pwrite(file, b'after', 0), lambda: os.pread(file, 1, 0),
             lambda: os.fsync(file), lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)):
    try:
        call()
        errors.append(0)
    except OSError as error:
        errors.append(error.errno)
open(result, 'w').write(repr(errors == [errno.EIO] * 4) + repr(errors))
PYTHON
    local holder=$!
    OTHERS+=("$holder")
    wait_for 10 test -e "$T/held"
    is_locked "$B/file"
    kill -STOP "${MOUNT_PIDS[c]}"
    # Session timeout and a second, at most.
    wait_for 4 flock -n "$B/file" sh -c "printf theirs >'$B/file'"
    kill -CONT "${MOUNT_PIDS[c]}"
    : >"$T/held.go"
    wait_for 20 test -s "$T/result"
    cat "$T/result"
    [[ $(cat "$T/result") == True* ]]
    wait "$holder" || true
    sleep 0.5
    [ "$(cat "$B/file")" = theirs ]
    grep -q "^lost_locks *[1-9]" "$T/c/.quorumfs/status"
    # Without a new mount: the next descriptor is as good as any.
    wait_for 10 flock -n "$T/c/file" true
}
