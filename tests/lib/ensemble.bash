# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Replicas and mounts for the bats files: `load ../lib/ensemble`. Each test gets a folder of its own
# ($T), free ports, and an end of all that it started, also after a failure, by pid.
#
#   setup() { ensemble_setup; }
#   teardown() { ensemble_teardown; }
#   start_ensemble 3;  ctl 1 set /a x;  kill_replica 2;  start_replica 2
#   mount_tree a 1 2 3;  echo x > "$T/a/f"

: "${QUORUMFS_BIN:?run by make check}"

ensemble_setup()
{
    T=$(mktemp -d "${TMPDIR:-/tmp}/quorumfs-test.XXXXXX")
    PIDS=()   # pid of replica i at i
    MOUNTS=() # names of mounts
    OTHERS=() # pids of what in_background started
    declare -gA MOUNT_PIDS=()
    COUNT=0
    # What a failed test should show.
    exec 8>"$T/notes"
}

ensemble_teardown()
{
    local i name
    if [ -z "${BATS_TEST_COMPLETED:-}" ]; then
        tail -n 5 "$T"/*/log "$T"/*.log 2>/dev/null || true
    fi
    for name in "${MOUNTS[@]}"; do
        umount "$T/$name" 2>/dev/null || umount -l "$T/$name" 2>/dev/null || true
    done
    for i in "${OTHERS[@]}"; do
        end_process "$i"
    done
    for name in "${!MOUNT_PIDS[@]}"; do
        end_process "${MOUNT_PIDS[$name]}"
    done
    for i in "${!PIDS[@]}"; do
        end_process "${PIDS[$i]}"
    done
    exec 8>&-
    rm -rf --one-file-system "$T"
}

# Asks a child to end, insists after 5 s, takes its status.
end_process()
{
    local pid=$1 tries=0
    kill "$pid" 2>/dev/null || return 0
    kill -CONT "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 100 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# in_background COMMAND...: its number is in $! and it ends with the test.
in_background()
{
    "$@" </dev/null 3>&- 8>&- &
    OTHERS+=($!)
}

# Free ports, as many as asked for: the kernel names them.
free_ports()
{
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(('127.0.0.1', 0))
print(*[s.getsockname()[1] for s in sockets])
PYTHON
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for()
{
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge "$end" ]; then
            echo "waited in vain for: $*" >&2
            return 1
        fi
        sleep 0.02
    done
}

# ---- replicas ----

# write_configs N: $T/1/conf ... with ports in CLIENT_PORTS and PEER_PORTS (from 1).
write_configs()
{
    local n=$1 i ports
    COUNT=$n
    read -ra ports <<<"$(free_ports $((2 * n)))"
    CLIENT_PORTS=(0 "${ports[@]:0:n}")
    PEER_PORTS=(0 "${ports[@]:n:n}")
    (umask 077 && echo "the key of this test, $RANDOM" >"$T/key")
    for ((i = 1; i <= n; i++)); do
        mkdir -p "$T/$i"
        {
            printf 'id = %d\ndata = %s/%d/data\nlisten = 127.0.0.1:%d\nsocket = %s/%d/sock\n' \
                "$i" "$T" "$i" "${CLIENT_PORTS[i]}" "$T" "$i"
            printf 'key_file = %s/key\n[members]\n' "$T"
            for ((j = 1; j <= n; j++)); do
                printf '%d = 127.0.0.1:%d\n' "$j" "${PEER_PORTS[j]}"
            done
        } >"$T/$i/conf"
    done
}

start_replica()
{
    local i=$1
    # 3 is the descriptor that bats waits for. PREFIX: a function that says what runs the daemon.
    # shellcheck disable=SC2046
    $(${PREFIX:-true} "$i") "$QUORUMFS_BIN/quorumd" --config "$T/$i/conf" >>"$T/$i/log" 2>&1 </dev/null 3>&- 8>&- &
    PIDS[i]=$!
}

# start_replicas: all that are configured, until they serve.
start_replicas()
{
    local i
    for ((i = 1; i <= COUNT; i++)); do
        start_replica "$i"
    done
    for ((i = 1; i <= COUNT; i++)); do
        wait_for 20 serves "$i"
    done
}

# start_ensemble N: N replicas that serve.
start_ensemble()
{
    write_configs "$1"
    start_replicas
}

kill_replica()
{
    kill -9 "${PIDS[$1]}"
    wait "${PIDS[$1]}" 2>/dev/null || true
    unset "PIDS[$1]"
}

stop_replica()
{
    kill "${PIDS[$1]}"
    wait "${PIDS[$1]}"
    unset "PIDS[$1]"
}

# ctl I COMMAND...: quorumctl through replica I alone.
ctl()
{
    local i=$1
    shift
    "$QUORUMFS_BIN/quorumctl" --server "unix:$T/$i/sock" "$@"
}

serves()
{
    ctl "$1" --timeout 1 status
}

# The leader, as replica I sees it; fails while it sees none.
leader_by()
{
    local leader
    leader=$(ctl "$1" --timeout 1 status | awk '$1 == "leader" { print $2 }')
    [[ $leader =~ ^[1-9] ]] && echo "$leader"
}

# The leader, as some running replica sees it.
leader()
{
    local i
    for i in "${!PIDS[@]}"; do
        leader_by "$i" && return 0
    done
    return 1
}

# How often some replica became leader, but for the times when one handed over because its disk was
# slow: that is the matter of the machine.
leaderships()
{
    echo $(($(cat "$T"/*/log | grep -c "role=leader") - $(cat "$T"/*/log | grep -c "event=disk_slow ")))
}

# has_leader_but X: the running ones follow another leader than X.
has_leader_but()
{
    local now
    now=$(leader) && [ "$now" != "$1" ]
}

# All replicas, for --server, beginning with the ones given.
servers()
{
    local i list=""
    for i in "$@"; do
        list="$list,unix:$T/$i/sock"
    done
    for ((i = 1; i <= COUNT; i++)); do
        case " $* " in
        *" $i "*) ;;
        *) list="$list,unix:$T/$i/sock" ;;
        esac
    done
    echo "${list#,}"
}

# ctl_any COMMAND...: through whatever replica answers.
ctl_any()
{
    "$QUORUMFS_BIN/quorumctl" --server "$(servers)" "$@"
}

applied()
{
    ctl "$1" --timeout 1 status | awk '/^applied index / { print $3 }'
}

has_applied() { [ "$(applied "$1")" -ge "$2" ]; }

# catches_up I J: I comes to where J is now.
catches_up()
{
    wait_for 20 has_applied "$1" "$(applied "$2")"
}

# flip_bit FILE: in the middle of what is written, behind which there are zeros.
flip_bit()
{
    python3 - "$1" <<'PYTHON'
import sys
with open(sys.argv[1], 'r+b') as f:
    at = len(f.read().rstrip(b'\0')) // 2
    f.seek(at)
    byte = f.read(1)[0]
    f.seek(at)
    f.write(bytes([byte ^ 1]))
PYTHON
}

# ---- mounts ----

# mount_tree NAME I...: at $T/NAME, through these replicas first. OPTIONS: more for quorumfs.
mount_tree()
{
    local name=$1
    shift
    mkdir -p "$T/$name"
    # shellcheck disable=SC2086 # words are wanted
    "$QUORUMFS_BIN/quorumfs" -f ${OPTIONS:-} "$(servers "$@")" "$T/$name" \
        >>"$T/$name.log" 2>&1 </dev/null 3>&- 8>&- &
    MOUNT_PIDS[$name]=$!
    MOUNTS+=("$name")
    wait_for 20 is_mounted "$name"
}

is_mounted()
{
    cut -d ' ' -f 2,3 /proc/mounts | grep -qxF "$T/$1 fuse.quorumfs"
}
