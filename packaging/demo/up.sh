#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Starts three replicas and two mounts on this machine, for `make up`. Environment: QUORUMFS_BIN
# (folder of the programs), RUN (run), PORT (2181, the first client port; the replicas use
# PORT+707 and the two behind it among themselves).
set -eu

: "${QUORUMFS_BIN:?}" "${RUN:=run}" "${PORT:=2181}"
here=$(dirname "$0")
# shellcheck source=packaging/demo/demo.sh
. "$here/demo.sh"

case $PORT in
'' | 0* | *[!0-9]*) fail "PORT=$PORT: not a number" ;;
esac
if [ "$PORT" -lt 1 ] || [ "$PORT" -gt 64000 ]; then
    fail "PORT=$PORT: must be from 1 to 64000"
fi
mkdir -p "$RUN" || fail "RUN=$RUN: cannot be made"
enter_run
case $RUN in
# What parts servers in a list, and what begins a comment in a configuration.
*[,\;]*) fail "RUN=$RUN: must hold no comma and no semicolon" ;;
esac
if [ "$(printf '%s' "$RUN" | wc -c)" -gt 100 ]; then
    fail "RUN=$RUN: must be at most 100 bytes, as a unix socket below it has no more room"
fi

found=0
for part in 1 2 3 a b; do
    if is_running "$part"; then
        found=$((found + 1))
    fi
done
if [ "$found" -eq 5 ]; then
    echo "quorumfs runs already: $RUN/a and $RUN/b (make down ends it)"
    exit 0
fi

# Parts that were killed are started again. When nothing ran before, nothing stays after a failure.
clean_up()
{
    if [ "$1" -ne 0 ] && [ "$found" -eq 0 ]; then
        flock -u 9
        "$here/down.sh" >/dev/null
    fi
    exit "$1"
}
trap 'clean_up $?' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

servers()
{
    printf 'unix:%s/%s/sock,unix:%s/%s/sock,unix:%s/%s/sock' "$RUN" "$1" "$RUN" "$2" "$RUN" "$3"
}

if [ ! -e "$RUN/key" ]; then
    (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RUN/key")
fi
for id in 1 2 3; do
    mkdir -p "$RUN/$id"
    cat >"$RUN/$id/quorumd.conf" <<CONF
id = $id
data = $RUN/$id/data
listen = 127.0.0.1:$((PORT + id - 1))
socket = $RUN/$id/sock
key_file = $RUN/key

[members]
1 = 127.0.0.1:$((PORT + 707))
2 = 127.0.0.1:$((PORT + 708))
3 = 127.0.0.1:$((PORT + 709))
CONF
    is_running "$id" || start "$id" "$QUORUMFS_BIN/quorumd" --config "$RUN/$id/quorumd.conf"
done
for id in 1 2 3; do
    wait_until "$id" "$QUORUMFS_BIN/quorumctl" --timeout 1 \
        --server "unix:$RUN/$id/sock" status
done

for mount in a b; do
    if is_mounted "$mount" && ! is_running "$mount"; then
        umount -l "$RUN/$mount" # its program was killed
    fi
    mkdir -p "$RUN/$mount"
done
is_running a || start a "$QUORUMFS_BIN/quorumfs" -f "$(servers 1 2 3)" "$RUN/a"
is_running b || start b "$QUORUMFS_BIN/quorumfs" -f "$(servers 2 3 1)" "$RUN/b"
wait_until a is_mounted a
wait_until b is_mounted b

# A word as a shell takes it.
quoted()
{
    case $1 in
    *[!A-Za-z0-9_./-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
    esac
}

shown=$RUN
case $RUN in
"$PWD"/*) shown=${RUN#"$PWD"/} ;;
esac
shown=$(quoted "$shown")
QUORUMCTL=$(quoted "$QUORUMFS_BIN/quorumctl")
cat <<TEXT
Three replicas (client ports $PORT, $((PORT + 1)), $((PORT + 2))) and two mounts of one tree are ready. Try:

    echo v1 > $shown/a/conf; cat $shown/b/conf
    mkdir $shown/a/lock && mkdir $shown/b/lock          # only the first one gets it
    $QUORUMCTL --server 127.0.0.1:$PORT members
    $QUORUMCTL --mount $shown/a ls /
    kill -9 "\$(cat $shown/1/pid)"; echo v2 > $shown/a/conf; cat $shown/b/conf

Logs are in $shown/*/log. make down ends all of it and keeps the data.
TEXT
