# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# The wall clock of a replica jumps by an hour, forward and back, while clients write. Nothing but
# the times in entries comes from it, and those never go back (CONSENSUS 19, 22).

load ../lib/ensemble
load ../lib/load
load ../lib/history
load ../lib/clock

setup()
{
    [ -z "${QUORUMFS_SAN:-}" ] || skip "faketime and sanitizers do not go together"
    can_jump
    ensemble_setup
}

teardown() { [ -z "${T:-}" ] || ensemble_teardown; }

start_clocked_ensemble()
{
    local i
    write_configs 3
    for i in 1 2 3; do
        jump "$i" +0
    done
    # shellcheck disable=SC2034 # start_replica uses it
    PREFIX=with_clock
    start_replicas
}

# hours_ahead PATH: of the true clock, as the time at which the node was made says.
hours_ahead()
{
    local born
    born=$(ctl_any stat --json "$1" | sed -n 's/.*"birth_ns": \([0-9]*\),.*/\1/p')
    echo $(((born / 1000000000 - $(date +%s) + 1800) / 3600))
}

# In the order of their entries, the times of all nodes of the load never go back. The number of
# times that are an hour ahead of the one before is printed.
times_never_go_back()
{
    ctl "$1" ls --json -l /load >"$T/listing"
    python3 - "$T/listing" <<'PYTHON'
import json, sys
nodes = sorted(json.load(open(sys.argv[1])), key=lambda node: node['czxid'])
times = [node['birth_ns'] for node in nodes]
assert len(times) > 200, len(times)
for before, after in zip(times, times[1:]):
    assert before <= after, f'{before} was followed by {after}'
print(sum(after - before > 3e12 for before, after in zip(times, times[1:])))
PYTHON
}

@test "the clock of the leader jumps an hour forward, an hour back, of a follower too: nobody notices" {
    start_clocked_ensemble
    local leader follower before i
    leader=$(leader)
    follower=$((leader % 3 + 1))
    before=$(leaderships)
    LOAD_IN_FLIGHT=4 start_load x "$follower"
    # Short sessions: an hour would end them at once.
    start_history 9 --timeout 2000
    jump "$follower" +3600
    goes_on x 50
    ctl_any create /follower
    [ "$(hours_ahead /follower)" -eq 0 ]
    jump "$follower" -3600
    goes_on x 50
    jump "$leader" +3600
    sleep 1
    goes_on x 50
    ctl_any create /ahead
    [ "$(hours_ahead /ahead)" -eq 1 ]
    jump "$leader" -3600
    sleep 1
    goes_on x 50
    ctl_any create /back
    [ "$(hours_ahead /back)" -eq 1 ]
    # Also under another leader, whose clock is true.
    ctl_any members transfer "$follower"
    jump "$follower" +0
    wait_for 10 has_leader_but "$leader"
    goes_on x 50
    ctl_any create /other
    [ "$(hours_ahead /other)" -eq 1 ]
    end_load x
    end_history
    no_gap 1000
    for i in 1 2 3; do
        check_load "$i" x
        [ "$(times_never_go_back "$i")" -eq 1 ]
    done
    # No jump made another leader: that did the transfer alone.
    [ "$(leaderships)" -le $((before + 1)) ]
}
