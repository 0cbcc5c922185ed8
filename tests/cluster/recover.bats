# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# A majority is lost for good, and one survivor goes on alone (CONSENSUS 15).

bats_require_minimum_version 1.5.0
load ../lib/ensemble
load ../lib/load

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

recover()
{
    local i=$1
    shift
    "$QUORUMFS_BIN/quorumd" --config "$T/$i/conf" --recover-alone "$@" 3>&- 8>&-
}

# kill_all: at once, as a fire would.
kill_all()
{
    local i
    for i in "${!PIDS[@]}"; do
        kill_replica "$i"
    done
}

# start_recovered I: it comes up by itself.
start_recovered()
{
    recover "$1" --yes
    start_replica "$1"
    wait_for 20 serves "$1"
}

ensemble_of() { ctl "$1" status | awk '$1 == "ensemble" { print $2 }'; }
has_value() { [ "$(ctl "$1" get "$2")" = "$3" ]; }
voters() { ctl "$1" members | awk '$2 == "voter" { print $1 }' | xargs; }

# new_member I J: replica I, which knows J, waits to be added.
new_member()
{
    local i=$1 knows=$2 ports
    read -ra ports <<<"$(free_ports 2)"
    PEER_PORTS[i]=${ports[1]}
    mkdir -p "$T/$i"
    printf 'id = %d\ndata = %s/%d/data\nlisten = 127.0.0.1:%d\nsocket = %s/%d/sock\nkey_file = %s/key\n' \
        "$i" "$T" "$i" "${ports[0]}" "$T" "$i" "$T" >"$T/$i/conf"
    printf '[members]\n%d = 127.0.0.1:%d\n%d = 127.0.0.1:%d\n' "$knows" "${PEER_PORTS[knows]}" \
        "$i" "${PEER_PORTS[i]}" >>"$T/$i/conf"
    "$QUORUMFS_BIN/quorumd" --join --config "$T/$i/conf" >>"$T/$i/log" 2>&1 </dev/null 3>&- 8>&- &
    PIDS[i]=$!
}

@test "a survivor goes on alone with all it had, and grows again" {
    start_ensemble 3
    ctl 1 create /a x
    local before
    before=$(ensemble_of 1)
    catches_up 3 1
    kill_all
    start_recovered 3
    [ "$(ctl 3 get /a)" = x ]
    [ "$(voters 3)" = 3 ]
    [ "$(ensemble_of 3)" != "$before" ]
    ctl 3 set /a y
    # One of the old ensemble is a stranger, and alone it is no majority of the old one either.
    start_replica 1
    refused() { grep -h "event=stranger_refused" "$T/3/log" "$T/1/log"; }
    wait_for 20 refused
    run -1 ctl 1 --timeout 2 status
    ctl 3 set /a z
    stop_replica 1
    # Numbers that were used stay used; new ones make it whole again.
    run -1 --separate-stderr ctl 3 members add 1 "127.0.0.1:${PEER_PORTS[1]}"
    [[ $stderr == *MEMBER_USED* ]]
    local i
    for i in 4 5; do
        new_member $i 3
        ctl 3 members add $i "127.0.0.1:${PEER_PORTS[i]}"
    done
    [ "$(voters 3)" = "3 4 5" ]
    kill_replica 3
    set_w() { ctl 4 --timeout 5 set /a w; }
    wait_for 20 set_w
    wait_for 20 has_value 5 /a w
}

@test "without --yes it tells what would be lost and changes nothing" {
    start_ensemble 3
    ctl 1 create /a x
    run -1 --separate-stderr recover 1 --yes
    [[ $stderr == *"in use"* ]]
    [ "${#stderr_lines[@]}" -eq 1 ]
    stop_replica 1
    run -2 --separate-stderr recover 1
    echo "$output"
    [[ $stderr == *"nothing was changed"*"--yes"* ]]
    [ "$(grep -c dropped <<<"$output")" -eq 2 ]
    grep -E "^  member 1 +voter +stays" <<<"$output"
    grep -E "^applied index +[0-9]+$" <<<"$output"
    grep -E "^last in log +[0-9]+, term [0-9]+$" <<<"$output"
    start_replica 1
    wait_for 20 serves 1
    ctl 1 set /a y
    wait_for 20 has_value 2 /a y
}

@test "what only the log of the survivor holds counts; clients do not mix two ensembles" {
    start_ensemble 3
    local boss i
    boss=$(leader)
    start_load x "$boss"
    wait_for 10 has_answers x 100
    for i in 1 2 3; do
        [ "$i" = "$boss" ] || kill_replica "$i"
    done
    # Sixteen writes are on their way at any time: they stand in the log now, and are not answered.
    run ctl "$boss" --timeout 1 create /b
    [ "$status" -eq 1 ]
    kill_replica "$boss"
    start_recovered "$boss"
    ctl "$boss" ls /load | sort >"$T/there"
    awk '{ print $1 }' "$T/x.acked" | sort >"$T/acked"
    [ -z "$(comm -13 "$T/there" "$T/acked")" ] # nothing that was answered is lost
    [ -n "$(comm -23 "$T/there" "$T/acked")" ]
    # The load has a session and numbers of nodes from before.
    passed_over() { grep "event=another_ensemble" "$T/x.err"; }
    wait_for 20 passed_over
    kill -0 "${LOAD_PIDS[x]}"
    ctl "$boss" ls /load | sort | cmp - "$T/there"
}

@test "cut off in the middle it has left the old ensemble, serves nobody, and can be ended" {
    start_ensemble 3
    ctl 1 create /a x
    catches_up 2 1
    kill_all
    cp -a "$T/2/data" "$T/before"
    recover 2 --yes
    # Only the first step is on disk.
    cp "$T/2/data/identity" "$T/before/identity"
    rm -rf "$T/2/data"
    mv "$T/before" "$T/2/data"
    start_replica 2
    start_replica 1
    refused() { grep "event=stranger_refused" "$T/1/log" && grep "event=stranger_refused" "$T/2/log"; }
    wait_for 20 refused
    run -1 ctl 2 --timeout 2 status
    run -1 ctl 1 --timeout 2 status
    stop_replica 1
    stop_replica 2
    start_recovered 2
    [ "$(ctl 2 get /a)" = x ]
    # Asked once more there is nothing to do.
    stop_replica 2
    run -0 recover 2 --yes
    [[ $output == *"only voter"* ]]
    start_replica 2
    wait_for 20 serves 2
    [ "$(ctl 2 get /a)" = x ]
}

@test "a learner and a replica that was removed can be survivors too" {
    start_ensemble 3
    ctl 1 create /a x
    ctl 1 members demote 2
    ctl 1 members remove 3
    gone() { grep "event=removed" "$T/3/log"; }
    wait_for 10 gone
    ctl 1 set /a y
    wait_for 10 has_value 2 /a y
    kill_all
    run -0 recover 2 --yes
    [[ $output == *"was a learner"* ]]
    run -0 recover 3 --yes
    [[ $output == *"not a member any more"* ]]
    start_replica 2
    start_replica 3
    wait_for 20 serves 2
    wait_for 20 serves 3
    [ "$(ctl 2 get /a)" = y ]
    [ "$(ctl 3 get /a)" = x ]
    [ "$(voters 2)" = 2 ]
    [ "$(voters 3)" = 3 ]
}

@test "what cannot be recovered is refused in one line" {
    write_configs 3
    refused()
    {
        local status=$1 what=$2
        shift 2
        run "-$status" --separate-stderr "$@"
        echo "$stderr"
        [ -z "$output" ]
        [[ $stderr == *"$what"* ]]
    }
    refused 1 "holds no replica" recover 1 --yes
    [ ! -e "$T/1/data" ]
    start_replica 1
    wait_for 20 test -e "$T/1/data/identity"
    kill_replica 1
    refused 1 "never belonged" recover 1 --yes
    start_replica 1
    start_replica 2
    start_replica 3
    wait_for 20 serves 1
    stop_replica 1
    touch "$T/1/data/incoming.complete"
    refused 1 "snapshot waits" recover 1 --yes
    rm "$T/1/data/incoming.complete"
    sed -i "s|^data = .*|data = $T/1/data|" "$T/2/conf"
    refused 2 "belongs to replica 1" recover 2 --yes
    refused 2 "goes with" "$QUORUMFS_BIN/quorumd" --yes
    refused 2 "only one of" recover 1 --join
    refused 2 "only one of" recover 1 --check
}
