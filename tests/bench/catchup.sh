#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `tests/bench/catchup.sh [ENTRIES]`: a replica that was away for so many entries (1,000,000), or
# that lost its disk, is back while clients write at full speed: how long it takes, how fast the
# others go on beside, and what memory the leader needs. Once from the log (log_keep_mib = 256, the
# default), once by a snapshot (16). Part of `make bench`.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck source=tests/lib/ensemble.bash
. tests/lib/ensemble.bash
exec 3>/dev/null
: "${QUORUMFS_TESTS:?}"
ENTRIES=${1:-1000000}

ensemble_setup
trap 'BATS_TEST_COMPLETED=1; ensemble_teardown' EXIT

# memory FIELD I: MiB of replica I.
memory()
{
    awk -v field="$1:" '$1 == field { printf "%d", $2 / 1024 }' "/proc/${PIDS[$2]}/status"
}

now_ms() { date +%s%3N; }

start_writers()
{
    in_background "$QUORUMFS_TESTS/bench/bench_native" set --server "$(servers 1 2)" \
        --outstanding 256 --seconds 3600 --folder /set --nodes 1000 >/dev/null 2>&1
    WRITERS=$!
}

# At most 1,000 entries behind another one.
is_near() { [ "$(applied 3)" -gt 0 ] && [ $(($(applied 3) + 1000)) -ge "$(applied "$1")" ]; }

# measure NAME FAULT: one round.
measure()
{
    local name=$1 fault=$2 leader=1 target begin away_begin away before_mib after_mib took
    stop_replica 3
    leader=$(leader)
    away_begin=$(now_ms)
    begin=$(applied 1)
    target=$((begin + ENTRIES))
    wait_for 600 has_applied 1 "$target"
    away=$((($(applied 1) - begin) * 1000 / ($(now_ms) - away_begin)))
    before_mib=$(memory VmRSS "$leader")
    [ "$fault" = "away" ] || rm -rf "$T/3/data"
    begin=$(applied "$leader")
    away_begin=$(now_ms)
    start_replica 3
    wait_for 600 is_near "$leader"
    took=$(($(now_ms) - away_begin))
    after_mib=$(memory VmHWM "$leader")
    printf '%-26s %9s %8s %10s %10s %8s %8s\n' "$name" "$took" \
        "$(grep -c event=snapshot_installed "$T/3/log" || true)" "$away" \
        "$((($(applied "$leader") - begin) * 1000 / took))" "$before_mib" "$after_mib"
    : >"$T/3/log"
}

printf '%-26s %9s %8s %10s %10s %8s %8s   (%s entries)\n' "" "back ms" snapshot "before /s" \
    "beside /s" "RSS MiB" "HWM MiB" "$ENTRIES"
for keep in 256 16; do
    write_configs 3
    sed -i "1i log_keep_mib = $keep" "$T"/*/conf
    start_replicas
    start_writers
    measure "away, log_keep_mib = $keep" away
    measure "wiped, log_keep_mib = $keep" wiped
    end_process "$WRITERS"
    for i in 1 2 3; do
        stop_replica "$i"
        rm -rf "${T:?}/$i"
    done
done
