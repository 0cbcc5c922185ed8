# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2016,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# quorumctl watch: streams of changes from any replica, and the reloader on top of them.

load ../lib/ensemble
load ../lib/load

setup() { ensemble_setup; }
teardown() { ensemble_teardown; }

# watch NAME I ARGUMENT...: a watcher through replica I first; its lines are in $T/NAME.lines, what it
# complains of in $T/NAME.err, its number in $WATCHER.
watch()
{
    local name=$1 i=$2
    shift 2
    in_background "$QUORUMFS_BIN/quorumctl" --server "$(servers "$i")" watch "$@" \
        >"$T/$name.lines" 2>"$T/$name.err"
    WATCHER=$!
}

# has_lines NAME N
has_lines() { [ "$(wc -l <"$T/$1.lines")" -ge "$2" ]; }

# events NAME: the lines without zxids.
events() { cut -d ' ' -f 2- "$T/$1.lines"; }

# The state of replica 1, to begin a watch behind.
now() { ctl 1 sync; }

# Ends the newest watcher politely and gives its status.
end_watch()
{
    kill "$WATCHER"
    wait "$WATCHER"
}

@test "a recursive watch prints every change below in order, a plain one those of the children" {
    start_ensemble 1
    local since
    ctl 1 create --dir /w
    ctl 1 create --dir /out
    since=$(now)
    watch all 1 -r --since "$since" /w
    watch plain 1 --since "$since" /w
    ctl 1 create /w/a 1
    ctl 1 set /w/a 2
    ctl 1 create --dir /w/d
    ctl 1 create "/w/d/a name" 1
    ctl 1 create /wx 1
    ctl 1 mv /w/d "/w/e"
    ctl 1 mv "/w/e/a name" /out/b
    ctl 1 mv /out/b /w/b
    ctl 1 mv /out /w/out
    ctl 1 mv /w /v
    ctl 1 rm /v/a
    ctl 1 mv /v /w
    ctl 1 rm -r /w
    ctl 1 create /end 1
    wait_for 5 has_lines all 14
    # The children of a directory are removed in no order that anybody promises.
    diff <(events all | sed -n 1,10p; events all | sed 1,10d | sort) - <<'END'
created /w/a 0
data /w/a 1
created /w/d 0
created /w/d/a\x20name 0
renamed /w/d 0 /w/e
renamed /w/e/a\x20name 0 /out/b
renamed /out/b 0 /w/b
renamed /out 0 /w/out
renamed /w 0 /v
renamed /v 0 /w
removed /w 0
removed /w/b 0
removed /w/e 0
removed /w/out 0
END
    [ "$(events all | tail -n 1)" = "removed /w 0" ]
    diff <(events plain) <(events all | grep -v 'a.x20name')
    # The zxids grow.
    sort -c -n -k 1,1 "$T/all.lines"
    end_watch
    [ ! -s "$T/all.err" ]
}

@test "a stream from a zxid is the end of the one before it, also as JSON" {
    start_ensemble 1
    local since middle i
    since=$(now)
    for i in 1 2 3 4 5 6; do
        ctl 1 create "/n$i" "$i"
    done
    watch all 1 --since "$since" /
    wait_for 5 has_lines all 6
    middle=$(sed -n 3p "$T/all.lines" | cut -d ' ' -f 1)
    watch half 1 --since "$middle" /
    wait_for 5 has_lines half 3
    diff <(sed 1,3d "$T/all.lines") "$T/half.lines"
    watch json 1 --json --since "$middle" /
    wait_for 5 has_lines json 3
    python3 - "$T/json.lines" <<'PYTHON'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert [line['path'] for line in lines] == ['/n4', '/n5', '/n6'], lines
assert all(line['event'] == 'created' and line['kind'] == 'file' for line in lines), lines
PYTHON
    run ctl 1 watch --since "$since" --once /
    [ "$status" -eq 0 ]
    [ "$output" = "$(head -n 1 "$T/all.lines")" ]
}

@test "a replica that was started again tells a gap for what was before, and then what comes" {
    start_ensemble 1
    local since
    since=$(now)
    ctl 1 create /before 1
    stop_replica 1
    start_replica 1
    wait_for 10 serves 1
    watch late 1 --since "$since" /
    wait_for 5 has_lines late 1
    ctl 1 create /after 1
    wait_for 5 has_lines late 2
    head -n 1 "$T/late.lines" | grep -E "^[0-9]+ gap $((since + 1))-[0-9]+$"
    [ "$(events late | tail -n 1)" = "created /after 0" ]
    # Who was there all the time misses nothing: it asks from where it stands.
    since=$(now)
    watch early 1 --since "$since" /
    ctl 1 create /one 1
    wait_for 5 has_lines early 1
    stop_replica 1
    start_replica 1
    wait_for 10 serves 1
    ctl 1 create /two 1
    wait_for 10 has_lines early 2
    [ "$(events early | tail -n 1)" = "created /two 0" ]
}

@test "a reader that sleeps is told what it missed and costs no memory" {
    start_ensemble 1
    local long="" i since
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
        long="$long/$(printf '%0250d' "$i")"
    done
    ctl 1 create -p --dir "$long/bench"
    since=$(now)
    mkfifo "$T/fifo"
    in_background bash -c "exec '$QUORUMFS_BIN/quorumctl' --server '$(servers 1)' watch -r --since $since / >'$T/fifo'"
    WATCHER=$!
    # Opens the pipe and reads when it is told to.
    in_background bash -c "exec <'$T/fifo'; until [ -e '$T/awake' ]; do sleep 0.05; done; cat >'$T/slow.lines'"
    # About 12,000 changes of 3.6 KiB: more than the replica remembers.
    "$QUORUMFS_TESTS/bench/bench_native" set --server "$(servers 1)" --folder "$long/bench" --sessions 4 \
        --outstanding 64 --nodes 10 --ops 12000 --bytes 10 >"$T/bench.out"
    ctl 1 create /end 1
    grep VmHWM "/proc/$WATCHER/status" "/proc/${PIDS[1]}/status"
    # Sanitizers need memory of their own.
    [ -n "${QUORUMFS_SAN:-}" ] || [ "$(awk '/^VmHWM/ { print $2 }' "/proc/$WATCHER/status")" -lt 24576 ]
    [ -n "${QUORUMFS_SAN:-}" ] || [ "$(awk '/^VmHWM/ { print $2 }' "/proc/${PIDS[1]}/status")" -lt 262144 ]
    touch "$T/awake"
    wait_for 10 grep -q "created /end 0" "$T/slow.lines"
    # One gap, behind what came before it and before what came after; nothing else is missing.
    python3 - "$T/slow.lines" "$since" <<'PYTHON'
import sys
told, gaps, changes = int(sys.argv[2]), 0, 0
for line in open(sys.argv[1]):
    words = line.split()
    if words[1] == 'gap':
        begin, end = map(int, words[2].split('-'))
        assert begin == told + 1 or begin > told, line
        assert end >= begin, line
        told, gaps = end - 1, gaps + 1
    else:
        changes += 1
        assert int(words[0]) > told, line[:20]
        told = int(words[0])
assert gaps == 1, gaps
assert 5000 < changes < 11500, changes
PYTHON
    end_watch
}

# names NAME: the nodes that a watcher saw come, each by its sequential number.
names() { awk '$2 == "created" { print $3 }' "$T/$1.lines"; }

@test "the replica in use is killed again and again while 2,000 changes happen: none is missed or repeated" {
    start_ensemble 3
    local since i
    ctl 1 create --dir /load
    since=$(now)
    watch calm 3 -r --since "$since" /
    watch stormy 1 -r --since "$since" /
    start_load x 3 2 1
    goes_on x 300
    for i in 1 2 1 2; do
        kill_replica "$i"
        goes_on x 400
        start_replica "$i"
        wait_for 20 serves "$i"
        catches_up "$i" 3
    done
    goes_on x 200
    end_load x
    ctl 3 create /load-end 1
    wait_for 20 grep -q "created /load-end 0" "$T/calm.lines"
    wait_for 20 grep -q "created /load-end 0" "$T/stormy.lines"
    check_load 3 x
    echo "$(wc -l <"$T/calm.lines") changes"
    [ "$(wc -l <"$T/calm.lines")" -gt 2000 ]
    [ "$(cat "$T/calm.lines" "$T/stormy.lines" | grep -c ' gap ')" -eq 0 ]
    cmp "$T/calm.lines" "$T/stormy.lines"
    # And they are what the writer made, each once.
    diff <(names stormy | grep /load/ | sort) <(cut -d ' ' -f 1 "$T/x.acked" | sed 's,^,/load/,' | sort)
}

@test "who is not trusted is told of changes where he may read" {
    start_ensemble 1
    local since
    ctl 1 create --dir -m 700 /secret
    ctl 1 create --dir -m 755 /open
    ctl 1 create --dir -m 755 /secret/inner
    since=$(now)
    in_background "$QUORUMFS_BIN/quorumctl" --server "127.0.0.1:${CLIENT_PORTS[1]}" watch -r --since "$since" / \
        >"$T/anyone.lines" 2>"$T/anyone.err"
    ctl 1 create /secret/a 1
    ctl 1 create /secret/inner/b 1
    ctl 1 create /open/c 1
    ctl 1 mv /secret/a /open/a
    ctl 1 mv /open/c /secret/c
    ctl 1 mv /secret/c /secret/d
    ctl 1 create /end 1
    wait_for 5 grep -q " created /end 0" "$T/anyone.lines"
    diff <(events anyone) - <<'END'
created /open/c 0
created /open/a 0
removed /open/c 0
created /end 0
END
}

# The reloader of the tests below: appends what it was given to $T/loaded.
LOADER='{ echo "$QUORUMFS_PATH $QUORUMFS_VERSION $QUORUMFS_ZXID"; cat "$QUORUMFS_FILE"; echo; stat -c %a "$QUORUMFS_FILE"; } >>"$LOADED"'

loaded() { grep -qxF "$1" "$T/loaded"; }

@test "--exec runs at the start and after changes, with the data in a private file" {
    start_ensemble 1
    export LOADED=$T/loaded TMPDIR=$T/tmp
    mkdir "$T/tmp"
    ctl 1 create /conf "first"
    watch exec 1 --exec "$LOADER" --debounce 20 /conf
    wait_for 5 loaded first
    ctl 1 set /conf second
    wait_for 5 loaded second
    [ "$(grep -c '^600$' "$T/loaded")" -eq 2 ]
    [ "$(awk '$1 == "/conf" && $2 == 1 { print $3 }' "$T/loaded")" -ge \
        "$(ctl 1 stat /conf | awk '$1 == "mzxid" { print $2 }')" ]
    # Gone and there again, through another name.
    ctl 1 rm /conf
    wait_for 5 grep -q "no such node" "$T/exec.err"
    ctl 1 create /new third
    ctl 1 mv /new /conf
    wait_for 5 loaded third
    end_watch
    [ -z "$(ls -A "$T/tmp")" ]
}

@test "what the check refuses is not run, not checked twice, and said" {
    start_ensemble 1
    export LOADED=$T/loaded CHECKED=$T/checked
    ctl 1 create /conf "good 1"
    watch exec 1 --exec "$LOADER" --debounce 20 --check 'echo x >>"$CHECKED"; grep -q good "$QUORUMFS_FILE"' /conf
    wait_for 5 loaded "good 1"
    ctl 1 set /conf "bad 2"
    wait_for 5 grep -q "version 1 .*the check ended with 1; the state before stays" "$T/exec.err"
    # Another change of the node, but the same data.
    mount_tree a 1
    chmod 600 "$T/a/conf"
    ctl 1 set /conf "good 3"
    wait_for 5 loaded "good 3"
    [ "$(grep -c bad "$T/loaded")" -eq 0 ]
    [ "$(wc -l <"$CHECKED")" -eq 3 ]
    kill "$WATCHER"
    wait "$WATCHER"
}

@test "commands run one at a time; changes meanwhile, and a steady stream of them, lead to fewer runs" {
    start_ensemble 1
    export LOADED=$T/loaded
    local i
    ctl 1 create /conf 0
    watch exec 1 --debounce 50 /conf \
        --exec 'echo begin >>"$LOADED"; sleep 0.3; cat "$QUORUMFS_FILE" >>"$LOADED"; echo >>"$LOADED"; echo end >>"$LOADED"'
    wait_for 5 loaded end
    for i in $(seq 1 100); do
        ctl 1 set /conf "$i"
        sleep 0.01
    done
    # It was not starved by changes that never paused for 50 ms ...
    [ "$(grep -c begin "$T/loaded")" -ge 2 ]
    wait_for 5 loaded 100
    # ... and not run for each of them; the newest counts.
    end_watch
    [ "$(grep -c begin "$T/loaded")" -lt 30 ]
    [ "$(grep -c end "$T/loaded")" -eq "$(grep -c begin "$T/loaded")" ]
    # One after the other.
    awk '$1 == "begin" { if (open) exit 1; open = 1 } $1 == "end" { if (!open) exit 1; open = 0 }' "$T/loaded"
}

@test "a signal waits for the command that runs; --once gives its status" {
    start_ensemble 1
    export LOADED=$T/loaded
    ctl 1 create /conf 0
    watch exec 1 --exec 'echo begin >>"$LOADED"; sleep 0.5; echo end >>"$LOADED"' --debounce 1 /conf
    wait_for 5 loaded begin
    end_watch
    loaded end
    watch once 1 --since "$(now)" --once --exec 'exit 7' --check 'true' --debounce 1 /conf
    ctl 1 set /conf 1
    wait "$WATCHER" || status=$?
    [ "${status:-0}" -eq 7 ]
    run ctl 1 watch --since "$(($(now) - 2))" --once --exec 'exit 7' --debounce 1 /conf
    [ "$status" -eq 7 ]
    run ctl 1 watch --since "$(($(now) - 2))" --once --exec 'exit 0' --check 'exit 3' --debounce 1 /conf
    [ "$status" -eq 1 ]
    [[ "$output" == *"the check ended with 3"* ]]
    run "$QUORUMFS_BIN/quorumctl" --server "unix:$T/nobody" --timeout 1 watch /conf
    [ "$status" -eq 1 ]
    [[ "$output" == *"no replica answers"* ]]
}

# nginx_config TEXT: one that answers every request with it.
nginx_config()
{
    cat <<END
daemon off;
user root;
pid $T/nginx/pid;
error_log $T/nginx/error.log notice;
worker_processes 1;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $T/nginx/body;
    proxy_temp_path $T/nginx/proxy;
    fastcgi_temp_path $T/nginx/fastcgi;
    uwsgi_temp_path $T/nginx/uwsgi;
    scgi_temp_path $T/nginx/scgi;
    server {
        listen 127.0.0.1:$PORT_NGINX;
        return 200 "$1";
    }
}
END
}

# serves_text TEXT
serves_text()
{
    [ "$(python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode())' \
        "http://127.0.0.1:$PORT_NGINX/")" = "$1" ]
}

@test "nginx behind --check and --exec never loads a bad or a half configuration" {
    start_ensemble 1
    mount_tree a 1
    local i whole
    PORT_NGINX=$(free_ports 1)
    mkdir "$T/nginx"
    nginx_config "good 0" >"$T/nginx/conf"
    ctl 1 create /conf - <"$T/nginx/conf"
    in_background /usr/sbin/nginx -p "$T/nginx" -e "$T/nginx/error.log" -c "$T/nginx/conf"
    wait_for 10 serves_text "good 0"
    # All that it ever answers.
    cat >"$T/poll.py" <<'PYTHON'
import os, sys, time, urllib.request
url, seen, stop = sys.argv[1:]
texts = set()
while not os.path.exists(stop):
    texts.add(urllib.request.urlopen(url, timeout=5).read().decode())
    time.sleep(0.005)
with open(seen + '.new', 'w') as f:
    f.writelines(text + '\n' for text in texts)
os.rename(seen + '.new', seen)
PYTHON
    in_background python3 "$T/poll.py" "http://127.0.0.1:$PORT_NGINX/" "$T/seen" "$T/stop"
    watch exec 1 --debounce 10 /conf \
        --check "/usr/sbin/nginx -q -t -p '$T/nginx' -e stderr -c \"\$QUORUMFS_FILE\"" \
        --exec "cp \"\$QUORUMFS_FILE\" '$T/nginx/conf.new' && mv '$T/nginx/conf.new' '$T/nginx/conf' &&
            kill -HUP \$(cat '$T/nginx/pid')"
    for i in $(seq 1 200); do
        case $((i % 4)) in
        1) nginx_config "bad $i" | sed 's/access_log off;/no_such_directive;/' ;;
        2) whole=$(nginx_config "bad $i") && printf %s "${whole:0:$((${#whole} / 2))}" ;;
        *) nginx_config "good $i" ;;
        esac >"$T/next"
        # Good and bad ones by both ways.
        if [ $((i / 4 % 2)) -eq 0 ]; then
            cat "$T/next" >"$T/a/conf"
        else
            cat "$T/next" >"$T/a/conf.new"
            mv "$T/a/conf.new" "$T/a/conf"
        fi
        [ $((i % 10)) -ne 0 ] || sleep 0.2
    done
    wait_for 10 serves_text "good 200"
    touch "$T/stop"
    wait_for 10 test -e "$T/seen"
    cat "$T/seen"
    [ "$(grep -cv '^good ' "$T/seen")" -eq 0 ]
    [ "$(wc -l <"$T/seen")" -ge 10 ]
    # The running one was never given what it could not load.
    [ "$(grep -cE '\[(emerg|alert)\]' "$T/nginx/error.log")" -eq 0 ]
    grep -q "the check ended with 1; the state before stays" "$T/exec.err"
    end_watch
}
