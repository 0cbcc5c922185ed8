# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# `.quorumfs/ctl`: sequential nodes, compare-and-set and transactions from a plain shell.

load ../lib/ensemble

setup()
{
    ensemble_setup
    chmod 755 "$T"
    start_ensemble 3
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    A=$T/a
    B=$T/b
    mkdir "$A/q"
    exec 7<>"$A/.quorumfs/ctl"
}

teardown()
{
    exec 7>&-
    ensemble_teardown
}

# ask LINE: writes it, prints the answer; fails as the write does.
ask()
{
    local status=0 answer
    echo "$1" >&7 || status=1
    read -r -u 7 answer
    echo "$answer"
    return "$status"
}

# refused LINE ANSWER: the line fails, with this answer.
refused()
{
    local answer
    if answer=$(ask "$1" 2>"$T/error"); then
        echo "$1 was not refused: $answer" >&2
        return 1
    fi
    [ "$answer" = "$2" ] || { echo "$1: $answer" >&2 && return 1; }
}

@test "one line in, one answer out" {
    [ "$(ask "create -s /q/job- some data")" = "ok /q/job-0000000000" ]
    [ "$(ask "create -s /q/job-")" = "ok /q/job-0000000001" ]
    [ "$(ask "create -d /q/dir")" = "ok /q/dir" ]
    [ "$(ask "create /q/a\\x20b line\\nback\\\\slash\\xff")" = "ok /q/a\\x20b" ]
    sync "$B"
    [ "$(cat "$B/q/job-0000000000")" = "some data" ]
    [ -f "$B/q/job-0000000001" ] && [ ! -s "$B/q/job-0000000001" ]
    [ -d "$B/q/dir" ]
    [ "$(stat -c %a "$B/q/job-0000000000") $(stat -c %a "$B/q/dir")" = "644 755" ]
    cmp "$B/q/a b" <(printf 'line\nback\\slash\xff')
    [ "$(ask "set -v 0 /q/job-0000000000 new")" = "ok 1" ]
    [ "$(ask "set /q/job-0000000000 newer")" = "ok 2" ]
    [ "$(ask "check -v 2 /q/job-0000000000")" = "ok 2" ]
    [[ $(ask sync) =~ ^ok\ [0-9]+$ ]]
    [ "$(ask "delete -v 2 /q/job-0000000000")" = ok ]
    sync "$B"
    [ ! -e "$B/q/job-0000000000" ]
}

@test "the host that asked sees what it did, with its inotify events" {
    in_background inotifywait -q -m -o "$T/events" "$A/q"
    wait_for 10 grep -q inotify /proc/$!/fdinfo/3
    ls "$A/q" && [ ! -e "$A/q/x" ]
    echo "create /q/x one" >"$A/.quorumfs/ctl"
    [ "$(cat "$A/q/x")" = one ]
    echo "set /q/x two" >"$A/.quorumfs/ctl"
    [ "$(cat "$A/q/x")" = two ]
    [ "$(ls "$A/q")" = x ]
    echo "delete /q/x" >"$A/.quorumfs/ctl"
    [ ! -e "$A/q/x" ]
    [ -z "$(ls "$A/q")" ]
    wait_for 10 grep -q DELETE "$T/events"
    grep -q "CREATE x" "$T/events"
    grep -q "CLOSE_WRITE,CLOSE x" "$T/events"
}

@test "what cannot be done fails with its errno, at the write" {
    touch "$A/q/f"
    refused "create /q/f" "error EEXIST the node exists"
    grep -q "File exists" "$T/error"
    refused "set -v 7 /q/f x" "error ESTALE the version is another"
    refused "delete -v 7 /q/f" "error ESTALE the version is another"
    refused "delete /q/none" "error ENOENT no such node"
    refused "delete /q" "error ENOTEMPTY the directory is not empty"
    refused "check -v 7 /q/f" "error ESTALE the version is another"
    refused "create /none/x" "error ENOENT no such node"
    refused "create /q/f/x" "error ENOTDIR not a directory"
    refused "create /q/$(printf 'n%.0s' {1..256})" "error ENAMETOOLONG name or path too long"
    refused "jump /q" "error EINVAL unknown command: create set delete check multi commit abort sync"
    refused "create q" "error EINVAL a path is needed that begins with /, with \\xNN for what is not plain"
    refused "create /q/\\q" "error EINVAL a path is needed that begins with /, with \\xNN for what is not plain"
    refused "create /q/x \\q" "error EINVAL \\ may stand before \\, n and xNN only"
    refused "create -v 1 /q/x" "error EINVAL unknown option"
    refused "set -v one /q/f" "error EINVAL -v needs a version"
    refused "delete /q/f g" "error EINVAL too many words"
    refused "sync now" "error EINVAL too many words"
    refused commit "error EINVAL there is no transaction: begin one with multi"
    [ "$(ls "$A/q")" = f ]
    [ "$(value_of_version)" = 0 ]
}

value_of_version() { getfattr --absolute-names --only-values -n user.znode.version "$A/q/f"; }

@test "a transaction does all or nothing" {
    touch "$A/q/f"
    [ "$(ask multi)" = ok ]
    [ "$(ask "create -s /q/n-")" = "ok queued" ]
    [ "$(ask "set -v 0 /q/f text")" = "ok queued" ]
    [ "$(ask "create -d /q/d")" = "ok queued" ]
    [ "$(ask "create /q/d/x")" = "ok queued" ]
    [ "$(ask "delete /q/d/x")" = "ok queued" ]
    [ "$(ls "$A/q")" = f ]
    [ "$(ask commit)" = "ok /q/n-0000000001 1 /q/d /q/d/x -" ]
    [ "$(cat "$A/q/f")" = text ]
    ask multi
    ask "create /q/new"
    ask "delete /q/n-0000000001"
    ask "check -v 0 /q/f"
    ask "create /q/newer"
    refused commit "error ESTALE line 3: the version is another"
    [ ! -e "$A/q/new" ] && [ -e "$A/q/n-0000000001" ]
    # It is over: the next line stands for itself.
    [ "$(ask "create /q/new")" = "ok /q/new" ]
    ask multi
    ask "delete /q/new"
    [ "$(ask abort)" = ok ]
    [ -e "$A/q/new" ]
    ask multi
    ask "delete /q/new"
    refused multi "error EINVAL a transaction has begun already"
    refused commit "error EINVAL a line of the transaction was refused: nothing was done"
    [ -e "$A/q/new" ]
    ask multi
    [ "$(ask commit)" = ok ]
    # One that its descriptor did not commit has done nothing.
    printf 'multi\ndelete /q/new\n' >"$A/.quorumfs/ctl"
    sync "$A/q"
    [ -e "$A/q/new" ]
}

@test "a transfer between two files is never seen half done" {
    echo 500 >"$A/q/x"
    echo 500 >"$A/q/y"
    cat >"$T/transfer" <<'SHELL'
moved=0
exec 8<>"$1/.quorumfs/ctl"
while [ "$moved" -lt 50 ]; do
    # With the versions as they are now: who is too late tries again.
    vx=$(getfattr --only-values -n user.znode.version "$1/q/x" 2>/dev/null)
    vy=$(getfattr --only-values -n user.znode.version "$1/q/y" 2>/dev/null)
    x=$(cat "$1/q/x") y=$(cat "$1/q/y")
    printf 'multi\nset -v %s /q/x %s\nset -v %s /q/y %s\ncommit\n' \
        "$vx" $((x - 1)) "$vy" $((y + 1)) >"$2"
    if cat "$2" >&8; then moved=$((moved + 1)); fi
done 2>/dev/null
SHELL
    in_background bash "$T/transfer" "$A" "$T/lines.a"
    local first=$!
    in_background bash "$T/transfer" "$B" "$T/lines.b"
    local second=$!
    wait "$first" "$second"
    sync "$A/q"
    [ "$(cat "$A/q/x") $(cat "$A/q/y")" = "400 600" ]
}

@test "several lines in one write are done up to the first that fails" {
    printf 'create /q/x1\n\ncreate /q/x2\ncreate /q/x1\ncreate /q/x3\n' >"$T/lines"
    if cat "$T/lines" >&7; then false; fi
    cat <&7 >"$T/answers"
    printf 'ok /q/x1\nok /q/x2\nerror EEXIST the node exists\n' | diff - "$T/answers"
    [ "$(ls "$A/q")" = $'x1\nx2' ]
    # What nobody read is gone.
    echo sync >&7
    echo "create /q/x4" >&7
    [ "$(cat <&7)" = "ok /q/x4" ]
    [ -z "$(cat <&7)" ]
}

@test "everybody does what he may do, and no more" {
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
    # shellcheck disable=SC2016
    run as_nobody bash -c 'echo "create /q/x" >"$1"' - "$A/.quorumfs/ctl"
    [ "$status" -ne 0 ]
    [[ $output == *"Permission denied"* ]]
    chmod 1777 "$A/q"
    touch "$A/q/root"
    # shellcheck disable=SC2016
    as_nobody bash -c 'echo "create /q/x mine" >"$1"' - "$A/.quorumfs/ctl"
    [ "$(stat -c %u:%g "$A/q/x")" = 65534:65534 ]
    # shellcheck disable=SC2016
    run as_nobody bash -c 'echo "delete /q/root" >"$1"' - "$A/.quorumfs/ctl"
    [ "$status" -ne 0 ]
    [[ $output == *"not permitted"* ]]
    mkdir -m 770 "$A/group"
    chgrp 12345 "$A/group"
    # shellcheck disable=SC2016
    setpriv --reuid=65534 --regid=65534 --groups 12345 \
        bash -c 'echo "create /group/x" >"$1"' - "$A/.quorumfs/ctl"
}

@test "paths are those of the mount, which may be a sub-tree or read-only" {
    OPTIONS="-o subtree=/q" mount_tree c 3
    exec 8<>"$T/c/.quorumfs/ctl"
    echo "create -s /n-" >&8
    [ "$(cat <&8)" = "ok /n-0000000000" ]
    echo "create -d /d" >&8
    echo "create /d/x" >&8
    [ "$(cat <&8)" = "ok /d/x" ]
    if echo "delete /" >&8; then false; fi
    exec 8>&-
    sync "$A/q"
    [ -e "$A/q/n-0000000000" ] && [ -e "$A/q/d/x" ]
    OPTIONS="-o ro" mount_tree r 1
    run bash -c 'echo "create /q/y" >"$1"' - "$T/r/.quorumfs/ctl"
    [[ $output == *"Read-only file system"* ]]
    echo sync >"$T/r/.quorumfs/ctl"
}

@test "an ephemeral node goes with the mount and says who made it" {
    mount_tree c 3
    exec 8<>"$T/c/.quorumfs/ctl"
    echo "create -e /q/e here" >&8
    sync "$A/q"
    [ "$(cat "$A/q/e")" = here ]
    [[ $(getfattr --absolute-names --only-values -n user.znode.holder "$A/q/e") == "$(uname -n) "* ]]
    [ "$(getfattr --absolute-names --only-values -n user.znode.owner "$A/q/e")" != 0 ]
    exec 8>&-
    umount "$T/c"
    wait_for 10 test ! -e "$A/q/e"
}

@test "without a majority a write ends in time, and a signal ends it at once" {
    OPTIONS="-o timeo=20" mount_tree c 3
    kill_replica 1
    kill_replica 2
    exec 8<>"$T/c/.quorumfs/ctl"
    local before=$SECONDS
    run timeout -s INT 1 sh -c 'echo "create /q/y" >&8'
    [ "$status" -ne 0 ]
    [ $((SECONDS - before)) -lt 10 ]
    exec 8>&-
    start_replica 1
    start_replica 2
    wait_for 20 sync "$A/q"
    # If it came to be, it is taken back by the cancel behind it.
    wait_for 10 test ! -e "$A/q/y"
}
