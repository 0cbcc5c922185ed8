#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `make bench`: three replicas and a mount on this machine, each figure beside its peer or limit of
# the same run. For README's numbers.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
# The descriptor that bats has, which the functions close in their children.
exec 3>/dev/null
: "${QUORUMFS_TESTS:?}"

ensemble_setup
trap 'BATS_TEST_COMPLETED=1; ensemble_teardown' EXIT

# value KEY: from the lines of key=value on stdin.
value()
{
    tr ' ' '\n' | sed -n "s/^$1=//p"
}

ratio()
{
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", a / b }'
}

# How long one fdatasync of 4 KiB takes here: the limit of one write at a time.
sync_us()
{
    python3 - "$T" <<'PYTHON'
import os, sys, time
fd = os.open(sys.argv[1] + '/sync', os.O_WRONLY | os.O_CREAT)
os.write(fd, b'\0' * 4096 * 600)
os.fdatasync(fd)
begin = time.time()
for i in range(500):
    os.pwrite(fd, b'x' * 4096, 4096 * i)
    os.fdatasync(fd)
print(round((time.time() - begin) / 500 * 1e6, 1))
PYTHON
}

start_ensemble 3
limit=$(sync_us)
echo "one fdatasync of 4 KiB on this disk: $limit us"
echo
echo "native protocol, three replicas, nodes of 100 bytes"
printf '%-8s %12s %12s %12s %12s\n' what "in flight" "per second" "p50 us" "p99 us"
for what in set get create; do
    nodes=1000
    [ $what = create ] && nodes=20000
    for outstanding in 1 64 256; do
        line=$("$QUORUMFS_TESTS/bench/bench_native" $what --server "$(servers 1)" \
            --outstanding $outstanding --seconds 3 --folder "/$what-$outstanding" \
            --nodes "$nodes" | tail -n 1)
        printf '%-8s %12s %12s %12s %12s\n' "$what" "$outstanding" "$(value ops_per_s <<<"$line")" \
            "$(value p50_us <<<"$line")" "$(value p99_us <<<"$line")"
        if [ $what$outstanding = set1 ]; then
            one=$(value p50_us <<<"$line")
        fi
    done
done
echo "one set at a time is $(ratio "$one" "$limit") times an fdatasync"
echo

echo
BATS_TEST_COMPLETED=1 ensemble_teardown
trap - EXIT
tests/bench/mount.sh
echo
tests/bench/inotify.sh
echo
tests/bench/failover.sh
echo
tests/bench/catchup.sh
