# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# What replicas must agree on: the state that the log makes (CONSENSUS 32), and the level of features
# (CONSENSUS 33).

bats_require_minimum_version 1.5.0
load ../lib/ensemble
load ../lib/load

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

# level I: of the ensemble, as replica I has it.
level() { ctl "$1" status | awk '/^feature level/ { print $3 }'; }
has_level() { [ "$(level "$1")" = "$2" ]; }
# The highest that this program knows.
newest() { ctl "$1" status | sed -n 's/^feature level .*knows \([0-9]*\)).*/\1/p'; }

@test "a replica whose state is another one stops and says so, the others go on" {
    start_ensemble 3
    start_load x 1 2
    wait_for 10 has_level 1 "$(newest 1)"
    stop_replica 3
    "$QUORUMFS_TESTS/cluster/diverge" "$T/3/data/store"
    start_replica 3
    has_ended() { ! kill -0 "${PIDS[3]}"; }
    wait_for 30 has_ended
    local status=0
    wait "${PIDS[3]}" || status=$?
    unset "PIDS[3]"
    [ $status -eq 1 ]
    grep "event=state_diverged" "$T/3/log"
    goes_on x 500
    end_load x
    check_load 2 x
    ! grep "event=state_diverged" "$T/1/log" "$T/2/log"
    # Without its folder it is as good as new.
    rm -rf "$T/3/data"
    start_replica 3
    wait_for 20 serves 3
    check_load 3 x
}

@test "the level of features rises when all know it, and who does not know it does not start" {
    write_configs 3
    sed -i '1i feature_level = 1' "$T/2/conf"
    local i
    start_replicas
    ctl 1 create /a x
    sleep 2.5 # the level is looked at once a second
    [ "$(level 1)" = 1 ]
    [ "$(level 2)" = 1 ]
    # Upgraded: now all know it.
    stop_replica 2
    sed -i '/^feature_level/d' "$T/2/conf"
    start_replica 2
    for i in 1 2 3; do
        wait_for 20 has_level "$i" "$(newest "$i")"
    done
    ctl 2 set /a y
    local newest
    newest=$(newest 1)
    # And back: it would not understand what it is to apply.
    stop_replica 2
    sed -i '1i feature_level = 1' "$T/2/conf"
    : >"$T/2/log"
    start_replica 2
    local status=0
    wait "${PIDS[2]}" || status=$?
    unset "PIDS[2]"
    [ $status -eq 1 ]
    grep "event=feature_level_unknown level=$newest known=1" "$T/2/log"
    ctl 1 set /a z
    [ "$(ctl 3 get /a)" = z ]
}
