#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a change on one mount costs until it is an event on another, how many changes a second are
# replayed, and what a storm of changes costs who reads beside. Part of `make bench`.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
# The descriptor that bats has, which the functions close in their children.
exec 3>/dev/null
: "${QUORUMFS_TESTS:?}" "${STORM_SECONDS:=5}"

ensemble_setup
trap 'BATS_TEST_COMPLETED=1; ensemble_teardown' EXIT
start_ensemble 3
mount_tree a 1 2 3
mount_tree b 2 3 1
mkdir "$T/a/d" "$T/local" "$T/a/quiet"
echo text >"$T/a/quiet/f"

# latency FROM TO: from close() in one directory to the event in the other.
latency()
{
    python3 - "$1" "$2" <<'PYTHON'
import ctypes, os, select, sys, time
source, target = sys.argv[1:]
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(os.O_NONBLOCK)
open(source + '/f', 'w').close()
os.stat(target)
time.sleep(0.5)
libc.inotify_add_watch(fd, target.encode(), 8)  # IN_CLOSE_WRITE
times = []
for i in range(1000):
    with open(source + '/f', 'w') as f:
        f.write('value %d\n' % i)
    begin = time.perf_counter()
    if not select.select([fd], [], [], 10)[0]:
        sys.exit('no event')
    times.append(time.perf_counter() - begin)
    os.read(fd, 4096)
    time.sleep(0.002)
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass
times.sort()
print('%.2f %.2f' % (times[500] * 1e3, times[990] * 1e3))
PYTHON
}

# reader FILE SECONDS: open, read, close by one process; per second, median and 99th of 100 in us.
reader()
{
    python3 - "$1" "$2" <<'PYTHON'
import os, sys, time
times = []
end = time.perf_counter() + float(sys.argv[2])
begin = time.perf_counter()
while begin < end:
    fd = os.open(sys.argv[1], os.O_RDONLY)
    os.read(fd, 4096)
    os.close(fd)
    now = time.perf_counter()
    times.append(now - begin)
    begin = now
count = len(times)
times.sort()
print(round(count / float(sys.argv[2])), round(times[count // 2] * 1e6, 1), round(times[count * 99 // 100] * 1e6, 1))
PYTHON
}

figure() { awk -v name="$1" '$1 == name { print $2 }' "$T/b/.quorumfs/status"; }

is_replayed() { [ "$(figure replay_waiting)" -eq 0 ]; }

read -r local_p50 local_p99 < <(latency "$T/local" "$T/local")
read -r p50 p99 < <(latency "$T/a/d" "$T/b/d")
echo "from close() to the event of another mount: p50 $p50 ms, p99 $p99 ms" \
    "(on the disk of this machine itself: $local_p50 and $local_p99 ms)"

# A burst of changes of nodes that the other mount holds.
for i in $(seq 200); do echo "$i" >"$T/a/d/n$i"; done
sync "$T/b"
ls -l "$T/b/d" >"$T/list"
wait_for 20 is_replayed
before=$(figure replayed)
begin=$(date +%s%N)
for i in $(seq 5); do chmod "60$i" "$T/a/d"/n*; done
sync "$T/b"
wait_for 60 is_replayed
end=$(date +%s%N)
echo "replays: $(awk -v n="$(($(figure replayed) - before))" -v ns="$((end - begin))" \
    'BEGIN { printf "%d of 1000 changes, %.0f", n, n / ns * 1e9 }') a second, with the changes themselves"

# The storm: sets at full speed of nodes that the other mount holds.
"$QUORUMFS_TESTS/bench/bench_native" set --server "$(servers 1)" --folder /storm --outstanding 64 \
    --nodes 100 --ops 200 >"$T/load.out"
sync "$T/b"
storm=$(dirname "$(find "$T/b/storm" -type f | head -n 1)")
echo text >"$storm/still"
find "$T/b/storm" -ls >"$T/list"
sleep 61 # what has not changed for a minute is cached as a whole
for file in "$T/b/quiet/f" "$storm/still"; do
    where=$([ "$file" = "$storm/still" ] && echo "the same directory" || echo "another directory")
    read -r calm_rate calm_p50 calm_p99 < <(reader "$file" "$STORM_SECONDS")
    # Of the processors alone, with a storm in a tree that the mount does not hold.
    for folder in /elsewhere /storm; do
        in_background "$QUORUMFS_TESTS/bench/bench_native" set --server "$(servers 1)" --folder $folder \
            --outstanding 64 --nodes 100 --seconds $((STORM_SECONDS + 2)) >"$T/load.out"
        load=$!
        sleep 1
        read -r rate median high < <(reader "$file" "$STORM_SECONDS")
        wait "$load"
        changes=$(sed -n 's/.*ops_per_s=\([0-9]*\).*/\1/p' "$T/load.out" | tail -n 1)
        echo "a reader in $where, storm of $changes changes/s in $folder: $rate reads/s, p50 $median us, p99 $high us" \
            "(without: $calm_rate, $calm_p50, $calm_p99)"
    done
done
echo "replays: done $(figure replayed), events nobody was told of $(figure replay_dropped)"
