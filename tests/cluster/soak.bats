# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Short runs of soak.sh, by a new seed each time. For minutes: make soak SECONDS=300

# soak SECONDS: what it said is shown if it fails.
soak()
{
    run timeout -k 20 100 "$BATS_TEST_DIRNAME/soak.sh" "$1"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *" 0 rounds"* ]] && return 1
    return 0
}

@test "all kinds of faults at random over three replicas" {
    soak 15
}

@test "all kinds of faults at random over five replicas" {
    SOAK_REPLICAS=5 soak 12
}
