# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Directories of any size: listed in pages, renamed in one entry. ENTRIES=1000000 for the long form.

load ../lib/ensemble

: "${ENTRIES:=100000}"

setup()
{
    ensemble_setup
    start_ensemble 3
    mount_tree a 1 2 3
    A=$T/a
}

teardown() { ensemble_teardown; }

children() { ctl 1 --json stat "$1" | sed -n 's/.*"children": *\([0-9]*\).*/\1/p'; }
has_children() { [ "$(children "$1")" -ge "$2" ]; }

# kilobytes PID FIELD: of memory.
kilobytes() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"; }

@test "a directory of very many entries is listed whole in bounded memory, and renamed at once" {
    mkdir "$A/d"
    # shellcheck disable=SC2086
    "$QUORUMFS_TESTS/cluster/write_load" "$(servers)" /d n 256 >"$T/made" 2>"$T/errors" 3>&- 8>&- &
    load=$!
    OTHERS+=("$load")
    wait_for $((ENTRIES / 500)) has_children /d "$ENTRIES"
    kill "$load"
    wait "$load"
    entries=$(children /d)
    [ "$(wc -l <"$T/made")" -eq "$entries" ]
    before=$(kilobytes "${MOUNT_PIDS[a]}" VmHWM)
    ls -f "$A/d" >"$T/listed"
    [ "$(sort -u "$T/listed" | wc -l)" -eq $((entries + 2)) ]
    after=$(kilobytes "${MOUNT_PIDS[a]}" VmHWM)
    [ $((after - before)) -lt 65536 ] # not the directory: some pages of it
    cut -d ' ' -f 1 "$T/made" | sort >"$T/expected"
    grep -v '^\.\.*$' "$T/listed" | sort | diff -q "$T/expected" - >/dev/null
    mkdir "$A/e"
    begin=$(date +%s%N)
    mv "$A/d" "$A/e/f"
    [ $((($(date +%s%N) - begin) / 1000000)) -lt 1000 ]
    [ "$(find "$A/e/f" -maxdepth 1 -name 'n-77-*' | wc -l)" -eq 1 ]
    echo "entries $entries, mount: $before kB before the listing, $after kB after it" >&8
}
