# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# The order of answers: who has got a lock sees all that was done under it before, though both kernels
# cache what they can. TURNS=20000 for the long form.

load ../lib/ensemble

: "${TURNS:=2000}"

setup()
{
    ensemble_setup
    start_ensemble 3
    mount_tree a 1 2 3
    mount_tree b 2 3 1
    echo 0 >"$T/a/state"
    sync "$T/b"
}

teardown() { ensemble_teardown; }

turns() { "$QUORUMFS_TESTS/mount/turns" "$1" "$TURNS" "$T/a" "$T/b" >&8; }

@test "two mounts take turns under a mkdir lock and replace a file by rename: no stale read" {
    turns rename
    sync "$T/a"
    [ "$(cat "$T/a/state")" = "$TURNS" ]
    [ "$(ls "$T/a")" = state ]
}

@test "two mounts take turns under a mkdir lock and rewrite a file in place: no stale read" {
    turns rewrite
    sync "$T/b"
    [ "$(cat "$T/b/state")" = "$TURNS" ]
}
