# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Replicas whose wall clock can be made to jump, for the bats files: `load ../lib/clock` behind
# ../lib/ensemble. By Debian's faketime; the monotonic clock stays true, as in a real jump.
#
#   PREFIX=with_clock;  jump 1 +0;  start_replica 1;  jump 1 -3600

FAKETIME_LIBRARY=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)

# Not with a sanitizer, whose library must be the first one.
can_jump() { [ -e "$FAKETIME_LIBRARY" ] && [ -z "${QUORUMFS_SAN:-}" ]; }

# What start_replica puts before the daemon.
with_clock()
{
    # Without the last one faketime spoils waiting on conditions by the monotonic clock: each wait
    # would take a tenth of a second.
    echo "env LD_PRELOAD=$FAKETIME_LIBRARY FAKETIME_TIMESTAMP_FILE=$T/$1/clock FAKETIME_NO_CACHE=1" \
        "FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_FORCE_MONOTONIC_FIX=0"
}

# jump I OFFSET: from now on the wall clock of replica I is off by +SECONDS or -SECONDS.
jump()
{
    echo "$2" >"$T/clock"
    mv "$T/clock" "$T/$1/clock"
}
