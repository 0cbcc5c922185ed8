# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What up.sh and down.sh share. A part is a replica (1 2 3: files in $RUN/1) or a mount (a b: files
# beside its folder). A part's pid file holds the pid and the start time of the process, so that a
# number that the system has used again is never taken for ours.

fail()
{
    echo "make up: $1" >&2
    exit 1
}

file_of()
{
    case $1 in
    [123]) printf '%s/%s/%s' "$RUN" "$1" "$2" ;;
    *) printf '%s/%s.%s' "$RUN" "$1" "$2" ;;
    esac
}

# The start time of a process in clock ticks; nothing if there is no such process, or if it has
# ended and nobody has asked for its status.
started()
{
    # The name, which may hold blanks, ends at the last parenthesis.
    sed -n 's/.*) \([^Z]\)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

is_running()
{
    pid_file=$(file_of "$1" pid)
    [ -s "$pid_file" ] || return 1
    pid=$(sed -n 1p "$pid_file")
    [ -n "$pid" ] && [ "$(started "$pid")" = "$(sed -n 1p "$(file_of "$1" started)")" ]
}

is_mounted()
{
    # Octal escapes as in /proc/mounts; looks at no file of the mount, which might hang.
    point=$(printf '%s/%s' "$RUN" "$1" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g')
    cut -d ' ' -f 2,3 /proc/mounts | grep -qxF "$point fuse.quorumfs"
}

# Takes RUN, which exists, as a whole path; waits for another `make up` or `make down` on it.
enter_run()
{
    RUN=$(cd "$RUN" && pwd)
    exec 9>"$RUN/lock"
    flock 9
}

# start PART COMMAND...: in the background, in a session of its own.
start()
{
    part=$1
    shift
    setsid "$@" >>"$(file_of "$part" log)" 2>&1 </dev/null 9>&- &
    echo $! >"$(file_of "$part" pid)"
    started $! >"$(file_of "$part" started)"
}

# wait_until PART COMMAND...: until the command succeeds, as long as that part and the replicas run.
wait_until()
{
    awaited=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        for needed in 1 2 3 "$awaited"; do
            is_running "$needed" || did_not_come_up "$needed"
        done
        [ "$tries" -lt 300 ] || did_not_come_up "$awaited"
        sleep 0.05
    done
}

did_not_come_up()
{
    tail -n 3 "$(file_of "$1" log)" >&2
    case $1 in
    [123]) fail "replica $1 did not come up; its log is $(file_of "$1" log)" ;;
    *) fail "the mount $RUN/$1 did not come up; its log is $(file_of "$1" log)" ;;
    esac
}

# Asks to end, insists after 5 s, and gives up after 10 s.
stop()
{
    pid=$(sed -n 1p "$(file_of "$1" pid)")
    kill "$pid" 2>/dev/null || return 0
    tries=0
    while is_running "$1"; do
        tries=$((tries + 1))
        if [ "$tries" -eq 100 ]; then
            kill -9 "$pid" 2>/dev/null || return 0
        elif [ "$tries" -eq 200 ]; then
            echo "process $pid does not end" >&2
            return 1
        fi
        sleep 0.05
    done
}
