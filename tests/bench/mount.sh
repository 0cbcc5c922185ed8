#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What files cost, in one run: on a tmpfs, on the smallest file system that libfuse can serve with the
# same caching (floor_fs.c), and on a mount with three replicas. Part of `make bench`. AGE=65 seconds:
# files younger than a minute are read past the page cache.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
# The descriptor that bats has, which the functions close in their children.
exec 3>/dev/null
: "${QUORUMFS_TESTS:?}" "${AGE:=65}"

finish()
{
    umount "$T/floor" 2>/dev/null || true
    BATS_TEST_COMPLETED=1
    ensemble_teardown
}

ensemble_setup
trap finish EXIT

# value KEY: from the lines of key=value on stdin.
value() { tr ' ' '\n' | sed -n "s/^$1=//p"; }

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", a / b }'; }

start_ensemble 3
mount_tree a 1 2 3
mkdir "$T/floor"
in_background "$QUORUMFS_TESTS/bench/floor_fs" "$T/floor"
is_floor() { grep -q " $T/floor fuse" /proc/mounts; }
wait_for 10 is_floor

tmpfs=$("$QUORUMFS_TESTS/bench/bench_files" /dev/shm)
floor=$("$QUORUMFS_TESTS/bench/bench_files" "$T/floor")
mounted=$("$QUORUMFS_TESTS/bench/bench_files" "$T/a" "$AGE")
echo "files of 1 KiB, $AGE s old, us an operation"
printf '%-8s %10s %10s %10s %12s %12s\n' what tmpfs floor mount "times tmpfs" "times floor"
for what in stat enoent cat ls rewrite create cycle; do
    a=$(value ${what}_us <<<"$tmpfs")
    b=$(value ${what}_us <<<"$floor")
    c=$(value ${what}_us <<<"$mounted")
    printf '%-8s %10s %10s %10s %12s %12s\n' $what "$a" "$b" "$c" "$(ratio "$c" "$a")" "$(ratio "$c" "$b")"
done
echo "cat: open, read, read, close. cycle: create, write, close, unlink."
echo "memory of a replica: $(for i in 1 2 3; do awk '/^VmRSS/ { printf "%d ", $2 / 1024 }' "/proc/${PIDS[i]}/status"; done)MiB;" \
    "of the mount: $(awk '/^VmRSS/ { printf "%d", $2 / 1024 }' "/proc/${MOUNT_PIDS[a]}/status") MiB"
