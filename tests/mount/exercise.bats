# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Random operations against a model in memory, on one mount and on two. EXERCISE_SECONDS=60 and
# EXERCISE_SEED=N for other runs.

load ../lib/ensemble

: "${EXERCISE_SECONDS:=8}"
: "${EXERCISE_SEED:=$RANDOM}"

setup()
{
    ensemble_setup
    write_configs 3
    for i in 1 2 3; do
        sed -i 's/^\[members\]/file_bytes_max = 64M\n&/' "$T/$i/conf"
    done
    start_replicas
    mount_tree a 1 2 3
    mount_tree b 2 3 1
}

teardown() { ensemble_teardown; }

exerciser() { "$QUORUMFS_TESTS/mount/exerciser" "$@" >&8; }

@test "the exerciser agrees with a local disk, and finds what is damaged" {
    exerciser "$EXERCISE_SEED" 1 200000 "$T/f"
    CORRUPT_AFTER=300 run "$QUORUMFS_TESTS/mount/exerciser" "$EXERCISE_SEED" 2 200000 "$T/f"
    [ "$status" -eq 1 ]
}

@test "on one mount each read sees all that was done before" {
    exerciser "$EXERCISE_SEED" "$EXERCISE_SECONDS" 200000 "$T/a/f"
    exerciser $((EXERCISE_SEED + 1)) "$EXERCISE_SECONDS" 1000000 "$T/a/g"
}

@test "on two mounts that take turns behind a barrier, too" {
    exerciser "$EXERCISE_SEED" "$EXERCISE_SECONDS" 200000 "$T/a/f" "$T/b/f"
    exerciser $((EXERCISE_SEED + 1)) "$EXERCISE_SECONDS" 1000000 "$T/b/g" "$T/a/g"
}

@test "large files are no different" {
    exerciser "$EXERCISE_SEED" "$EXERCISE_SECONDS" 9000000 "$T/a/f" "$T/b/f"
}
