# shellcheck shell=bash disable=SC2030,SC2031,SC2153
# SPDX-License-Identifier: Apache-2.0
#
# One replica, and what a replica does with bad input of any kind.

load ../lib/ensemble

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

QUORUMD=$QUORUMFS_BIN/quorumd

# expect STATUS TEXT COMMAND...
expect()
{
    local wanted=$1 text=$2
    shift 2
    run timeout 10 "$@"
    printf 'status %s: %s\n' "$status" "$output"
    [ "$status" -eq "$wanted" ] && [ "${#lines[@]}" -eq 1 ] && [[ $output == *"$text"* ]]
}

@test "without a configuration it is a single replica in ./quorum-data" {
    cd "$T"
    # The default port may be in use by others: only the socket is tried then.
    "$QUORUMD" >log 2>&1 3>&- 8>&- &
    PIDS[1]=$!
    if ! wait_for 10 "$QUORUMFS_BIN/quorumctl" --timeout 1 --server "unix:$T/quorum-data/quorumd.sock" status; then
        grep -q "cannot listen on 127.0.0.1:2181" log
        skip "port 2181 is in use"
    fi
    run "$QUORUMFS_BIN/quorumctl" --server "unix:$T/quorum-data/quorumd.sock" create /a "some text"
    [ "$status" -eq 0 ]
    run "$QUORUMFS_BIN/quorumctl" --server "unix:$T/quorum-data/quorumd.sock" get /a
    [ "$output" = "some text" ]
    kill "${PIDS[1]}"
    wait "${PIDS[1]}"
}

@test "what was answered is there after kill -9, and a stop by SIGTERM ends with status 0" {
    start_ensemble 1
    ctl 1 create /a one
    ctl 1 set /a two
    kill_replica 1
    start_replica 1
    wait_for 10 serves 1
    [ "$(ctl 1 get /a)" = two ]
    stop_replica 1
    start_replica 1
    wait_for 10 serves 1
    [ "$(ctl 1 get /a)" = two ]
}

@test "a bad configuration is one clear line and status 2" {
    write_configs 1
    local conf=$T/1/conf
    "$QUORUMD" --config "$conf" --check
    sed 's/^id = .*/&\ncolour = blue/' "$conf" >"$T/bad"
    expect 2 "bad:2: colour = blue: unknown key" "$QUORUMD" --config "$T/bad"
    sed 's/^id = .*/id = one/' "$conf" >"$T/bad"
    expect 2 "id = one: must be a number" "$QUORUMD" --config "$T/bad"
    sed 's/^id = .*/id = 7/' "$conf" >"$T/bad"
    expect 2 "not among the [members]" "$QUORUMD" --config "$T/bad"
    sed 's/127.0.0.1/0.0.0.0/' "$conf" >"$T/bad"
    expect 2 "must be a loopback address" "$QUORUMD" --config "$T/bad"
    expect 2 "No such file" "$QUORUMD" --config "$T/nothing"
    chmod 644 "$T/key"
    expect 2 "open to others" "$QUORUMD" --config "$conf"
    for wrong in more --colour; do
        run "$QUORUMD" --config "$conf" $wrong
        [ "$status" -eq 2 ]
        [[ $output == *"quorumd --help"* ]]
    done
}

@test "a taken port, a folder in use, a folder that cannot be written: one line and status 1" {
    start_ensemble 1
    mkdir "$T/2" "$T/3"
    sed "s|/1/data|/2/data|; s|/1/sock|/2/sock|" "$T/1/conf" >"$T/taken"
    expect 1 "cannot listen on 127.0.0.1:${CLIENT_PORTS[1]}" "$QUORUMD" --config "$T/taken"
    local ports
    read -ra ports <<<"$(free_ports 2)"
    sed "s|:${CLIENT_PORTS[1]}|:${ports[0]}|; s|/1/sock|/x.sock|" "$T/1/conf" >"$T/used"
    expect 1 "in use by another replica" "$QUORUMD" --config "$T/used"
    sed "s|/1/data|/3/data|; s|/1/sock|/plain|; s|:${CLIENT_PORTS[1]}|:${ports[0]}|" \
        "$T/1/conf" >"$T/socket"
    echo file >"$T/plain"
    expect 1 "cannot listen on $T/plain: File exists" "$QUORUMD" --config "$T/socket"
    [ "$(cat "$T/plain")" = file ]
    sed "s|:${CLIENT_PORTS[1]}|:${ports[0]}|; s|/1/sock|/x.sock|; s|$T/1/data|$T/plain/data|" \
        "$T/1/conf" >"$T/unwritable"
    expect 1 "Not a directory" "$QUORUMD" --config "$T/unwritable"
    mkdir "$T/ro"
    mount -t tmpfs -o ro none "$T/ro"
    sed "s|:${CLIENT_PORTS[1]}|:${ports[0]}|; s|/1/sock|/x.sock|; s|$T/1/data|$T/ro/data|" \
        "$T/1/conf" >"$T/unwritable"
    expect 1 "Read-only file system" "$QUORUMD" --config "$T/unwritable" || {
        umount "$T/ro"
        false
    }
    umount "$T/ro"
    serves 1
}

@test "bad bytes on every port close that connection with one log line and nothing else" {
    start_ensemble 3
    ctl 1 create /a x
    python3 "$BATS_TEST_DIRNAME/bad_bytes.py" "$QUORUMFS_TESTS/cluster/make_frame" \
        "127.0.0.1:${CLIENT_PORTS[2]}" "$T/2/sock" "127.0.0.1:${PEER_PORTS[2]}" "$T/2/log"
    kill -0 "${PIDS[2]}"
    [ "$(ctl 2 get /a)" = x ]
    ctl 2 set /a y
}

# What the tree of replica I is like, in one line.
summary()
{
    ctl "$1" --timeout 5 status | grep -E '^(applied index|nodes|data bytes|sessions) ' | xargs
}

agree()
{
    local first
    first=$(summary 1)
    [ "$(summary 2)" = "$first" ] && [ "$(summary 3)" = "$first" ]
}

@test "well-formed messages that no client sends end no replica, and the replicas go on agreeing" {
    start_ensemble 3
    local i seed=$RANDOM
    echo "seeds from $seed"
    for i in 1 2 3; do
        "$QUORUMFS_TESTS/cluster/strange_client" "unix:$T/$i/sock" $((seed + i)) 5000
        "$QUORUMFS_TESTS/cluster/strange_client" "127.0.0.1:${CLIENT_PORTS[i]}" \
            $((seed + 10 + i)) 2000
    done
    for i in 1 2 3; do
        kill -0 "${PIDS[i]}"
    done
    wait_for 20 agree
    summary 1
    [ "$(applied 1)" -gt 500 ]
    # Nor does any replica come to something else when it reads its log again.
    for i in 1 2 3; do
        kill_replica "$i"
        start_replica "$i"
    done
    for i in 1 2 3; do
        wait_for 20 serves "$i"
    done
    wait_for 20 agree
    summary 1
}

@test "a log cut anywhere in its last group recovers; a flipped bit before it refuses to vote" {
    start_ensemble 1
    # Each of these is at least one group, as each is answered before the next begins.
    for i in 1 2 3 4 5 6; do
        ctl 1 create "/n$i" "text $i"
    done
    kill_replica 1
    local log
    log=$(echo "$T"/1/data/log/*.log)
    cp -a "$T/1/data" "$T/whole"
    # The end of what was written: behind it there are zeros.
    local end
    end=$(python3 -c 'import sys; print(len(open(sys.argv[1], "rb").read().rstrip(b"\0")))' "$log")
    for cut in 1 2 5 9 17 30; do
        rm -rf "$T/1/data"
        cp -a "$T/whole" "$T/1/data"
        truncate -s $((end - cut)) "$log"
        start_replica 1
        wait_for 10 serves 1
        grep -q torn_group_dropped "$T/1/log"
        for i in 1 2 3 4 5; do
            [ "$(ctl 1 get "/n$i")" = "text $i" ]
        done
        ctl 1 create /after "cut $cut"
        kill_replica 1
        : >"$T/1/log"
    done
    rm -rf "$T/1/data"
    cp -a "$T/whole" "$T/1/data"
    flip_bit "$log"
    run timeout 10 "$QUORUMD" --config "$T/1/conf"
    echo "$output"
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *"$log"* ]]
    [[ $output == *offset* ]]
}

@test "an idle replica needs less than 64 MiB" {
    start_ensemble 3
    local i rss
    for i in 1 2 3; do
        rss=$(awk '/^VmRSS/ { print $2 }' "/proc/${PIDS[i]}/status")
        echo "replica $i: $rss KiB"
        [ -n "${QUORUMFS_SAN:-}" ] || [ "$rss" -lt 65536 ]
    done
}

@test "a replica with 200,000 nodes serves in less than a second after its start" {
    [ -z "${QUORUMFS_SAN:-}" ] || skip "sanitizers are slow"
    start_ensemble 1
    "$QUORUMFS_TESTS/bench/bench_native" fill --server "unix:$T/1/sock" --nodes 200000 \
        --outstanding 256
    for how in stop_replica kill_replica; do
        $how 1
        begin=$(date +%s%N)
        start_replica 1
        wait_for 10 serves 1
        took=$((($(date +%s%N) - begin) / 1000000))
        echo "$how: served after $took ms"
        [ "$took" -lt 1000 ]
        [ "$(ctl 1 get /fill/000199/000999 | wc -c)" -eq 100 ]
    done
    [ "$(ctl 1 status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["nodes"] >= 200000)')" = True ]
}
