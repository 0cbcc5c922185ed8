# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Members that come and go, and replicas that need a snapshot: real processes, real disks
# (CONSENSUS 0, 12, 14, 15).

bats_require_minimum_version 1.5.0
load ../lib/ensemble
load ../lib/load

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

# The role of member J as replica I lists it; nothing if it is none.
role() { ctl "$1" members | awk -v id="$2" '$1 == id { print $2 }'; }
has_role() { [ "$(role "$1" "$2")" = "$3" ]; }

# new_member I: waits to be added; its address is in PEER_PORTS.
new_member()
{
    local i=$1 ports
    read -ra ports <<<"$(free_ports 2)"
    PEER_PORTS[i]=${ports[1]}
    mkdir -p "$T/$i"
    sed -e "s|^id = .*|id = $i|" -e "s|^data = .*|data = $T/$i/data|" \
        -e "s|^socket = .*|socket = $T/$i/sock|" \
        -e "s|^listen = .*|listen = 127.0.0.1:${ports[0]}|" "$T/1/conf" >"$T/$i/conf"
    echo "$i = 127.0.0.1:${PEER_PORTS[i]}" >>"$T/$i/conf"
    "$QUORUMFS_BIN/quorumd" --join --config "$T/$i/conf" >>"$T/$i/log" 2>&1 </dev/null 3>&- 8>&- &
    PIDS[i]=$!
}

@test "a replica whose folder was wiped is taken for another one, catches up and votes again" {
    start_ensemble 3
    ctl_any create /a x
    kill_replica 3
    rm -rf "$T/3/data"
    start_replica 3
    wait_for 20 serves 3
    wait_for 20 has_role 3 3 voter
    grep -h "event=member_wiped peer=3" "$T"/*/log
    [ "$(ctl 3 get /a)" = x ]
    # It counts: with one of the others gone there is a majority.
    kill_replica 1
    set_y() { ctl 2 --timeout 5 set /a y; }
    wait_for 20 set_y
    [ "$(ctl 3 get /a)" = y ]
}

@test "while a wiped replica waits for a leader it does not make up a majority" {
    start_ensemble 3
    ctl_any create /a x
    stop_replica 1
    kill_replica 3
    rm -rf "$T/3/data"
    start_replica 3
    sleep 2 # several elections
    run ctl 2 --timeout 1 set /a lost
    [ "$status" -eq 1 ]
    [ "$(ctl 2 get /a)" = x ]
    start_replica 1
    wait_for 20 has_role 2 3 voter
    set_y() { ctl 2 --timeout 5 set /a y; }
    wait_for 20 set_y
    [ "$(ctl 3 get /a)" = y ]
}

@test "a replica is added, promoted, demoted, removed; a number is never used again" {
    start_ensemble 3
    ctl_any create /a x
    new_member 4
    ctl 2 members add 4 "127.0.0.1:${PEER_PORTS[4]}"
    [ "$(role 1 4)" = voter ]
    wait_for 10 serves 4
    [ "$(ctl 4 get /a)" = x ]
    ctl 4 set /a y
    ctl 4 members demote 4
    [ "$(role 1 4)" = learner ]
    ctl 4 set /a z # an observer serves writes too
    [ "$(ctl 1 get /a)" = z ]
    ctl 1 members promote 4
    [ "$(role 4 4)" = voter ]
    ctl 1 members transfer 4
    [ "$(leader_by 2)" = 4 ]
    ctl 1 members remove 4
    [ -z "$(role 1 4)" ]
    gone() { grep "event=removed" "$T/4/log" && ! serves 4; }
    wait_for 10 gone
    run -1 --separate-stderr ctl 1 members add 4 "127.0.0.1:${PEER_PORTS[4]}"
    [[ $stderr == *MEMBER_USED* ]]
    ctl 1 set /a end
    [ "$(ctl 3 get /a)" = end ]
}

@test "wishes that cannot be are refused in one line" {
    start_ensemble 3
    refused()
    {
        local what=$1
        shift
        run -1 --separate-stderr ctl 1 members "$@"
        echo "$stderr"
        [[ $stderr == *"$what"* ]]
        [ "${#stderr_lines[@]}" -eq 1 ]
    }
    refused MEMBER_NONE remove 9
    refused MEMBER_NONE promote 9
    refused MEMBER_USED add 2 127.0.0.1:9
    refused "--wait" add --wait 1 7 127.0.0.1:9 # nobody is there
    ctl 1 members remove 7
    ctl 1 members demote 3
    ctl 2 members demote 1
    refused LAST_VOTER remove 2
    refused LAST_VOTER demote 2
    run -2 ctl 1 members add 8
    run -2 ctl 1 members add 8 nowhere
    run -2 ctl 1 members add x 127.0.0.1:9
    run -2 ctl 1 members become 3
    as_nobody() { setpriv --reuid 65534 --clear-groups "$QUORUMFS_BIN/quorumctl" --server "127.0.0.1:${CLIENT_PORTS[1]}" "$@"; }
    run -1 --separate-stderr as_nobody members remove 3
    [[ $stderr == *ACCESS* ]]
}

@test "all three replicas are replaced one by one while clients write" {
    start_ensemble 3
    start_load x 1 2 3
    local old new
    for old in 1 2; do
        new=$((old + 3))
        new_member $new
        ctl 3 members add $new "127.0.0.1:${PEER_PORTS[new]}"
        ctl 3 members remove $old
        stop_replica $old
        goes_on x 500
    done
    [ "$(ctl 3 members | awk '$2 == "voter" { print $1 }' | tr '\n' ' ')" = "3 4 5 " ]
    end_load x
    check_load 4 x
    new_member 6
    ctl 4 members add 6 "127.0.0.1:${PEER_PORTS[6]}"
    ctl 4 members remove 3
    stop_replica 3
    [ "$(ctl 6 members | awk '$2 == "voter" { print $1 }' | tr '\n' ' ')" = "4 5 6 " ]
    ctl 5 set /load end
    [ "$(ctl 6 get /load)" = end ]
}

@test "a replica that was away for longer than the log reaches takes a snapshot while clients write" {
    write_configs 3
    sed -i '1i log_keep_mib = 16' "$T"/*/conf
    local i
    start_replicas
    start_load x 1 2
    kill_replica 3
    ctl 1 create /big
    for i in $(seq 40); do # more than the log keeps
        head -c 1000000 /dev/urandom | ctl 1 set /big - >/dev/null
    done
    compacted() { grep "event=log_compacted" "$T/1/log" && grep "event=log_compacted" "$T/2/log"; }
    wait_for 60 compacted
    # Neither has old entries in memory any more.
    for i in 1 2; do
        stop_replica $i
        start_replica $i
        wait_for 20 serves $i
        goes_on x 1000
    done
    start_replica 3
    wait_for 20 serves 3
    catches_up 3 1
    grep "event=snapshot_installed" "$T/3/log"
    end_load x
    check_load 3 x
    # Nothing is left of it, and a start from it works.
    [ ! -e "$T/3/data/incoming" ]
    [ ! -e "$T/3/data/incoming.complete" ]
    [ ! -e "$T/3/data/store.old" ]
    kill_replica 3
    start_replica 3
    wait_for 20 serves 3
    check_load 3 x
    # Wiped, and killed again and again while it takes and installs the snapshot.
    kill_replica 3
    rm -rf "$T/3/data"
    for i in 0.02 0.3 0.33 0.36 0.4 0.45 0.5 0.2 0.1 0.05; do
        start_replica 3
        sleep $i
        kill_replica 3
    done
    start_replica 3
    wait_for 20 serves 3
    wait_for 20 has_role 1 3 voter
    check_load 3 x
    [ ! -e "$T/3/data/incoming" ]
}
