# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# A load of writes that is checked afterwards, for the bats files: `load ../lib/load` behind
# ../lib/ensemble. See tests/cluster/write_load.c.

declare -gA LOAD_PIDS

# start_load NAME I...: begins to create nodes below /load, many at a time, in one session through
# these replicas first; what was answered stands in $T/NAME.acked. Ended and checked by end_load.
start_load()
{
    local name=$1
    shift
    ctl "$1" create --dir /load >/dev/null 2>&1 || ctl "$1" stat /load >/dev/null
    in_background "$QUORUMFS_TESTS/cluster/write_load" "$(servers "$@")" /load "$name" 16 \
        >"$T/$name.acked" 2>"$T/$name.err"
    LOAD_PIDS[$name]=$!
    wait_for 10 test -s "$T/$name.acked"
}

# Every write of the load was answered and none failed.
end_load()
{
    local status=0
    kill "${LOAD_PIDS[$1]}" || true
    wait "${LOAD_PIDS[$1]}" || status=$?
    head -n 5 "$T/$1.err"
    [ $status -eq 0 ] && [ ! -s "$T/$1.err" ]
}

answers() { wc -l <"$T/$1.acked"; }

# has_answers NAME N
has_answers() { [ "$(answers "$1")" -ge "$2" ]; }

# The load goes on: so many more answers than now.
goes_on()
{
    wait_for 20 has_answers "$1" $(($(answers "$1") + $2))
}

# check_load I NAME...: as replica I tells, nothing that was answered is lost, nothing was done
# twice, and nothing failed that was counted.
check_load()
{
    local i=$1
    shift
    ctl "$i" sync >/dev/null
    ctl "$i" ls /load >"$T/listing"
    python3 - "$T" "$@" <<'PYTHON'
import sys
folder, names = sys.argv[1], sys.argv[2:]
there = open(f'{folder}/listing').read().split()
acked = [line.split()[0] for name in names for line in open(f'{folder}/{name}.acked')]
lost = set(acked) - set(there)
assert not lost, f'lost: {sorted(lost)[:5]} of {len(acked)}'
writes = ['-'.join(name.split('-')[:2]) for name in there]
assert len(set(writes)) == len(writes), 'some write was done twice'
numbers = sorted(int(name.split('-')[2]) for name in there)
assert numbers == list(range(len(there))), 'some sequential number was left out or given twice'
assert len(there) == len(acked), f'{len(there)} nodes, {len(acked)} answers'
print(f'{len(acked)} writes, the slowest answered after',
      max(int(line.split()[1]) for name in names for line in open(f'{folder}/{name}.acked')), 'ms')
PYTHON
}
