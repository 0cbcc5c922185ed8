#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests of the kinds given as arguments (none: all) and closes with the line
# `N passed, N failed`. Started by make, which exports BUILD, QUORUMFS_BIN, QUORUMFS_TESTS and
# QUORUMFS_SAN.
#
# Every test file is one program that writes TAP. A file that ends with an error although all its
# tests passed, that runs fewer tests than it planned, or that needs more than its time counts as
# one failure more. Tests that skip themselves are listed and counted as neither.
#
#   ONLY=word make check      only files whose path contains the word
set -u
cd "$(dirname "$0")/.." || exit 1

: "${BUILD:=build/release}"
kinds=${*:-unit raft sim tidy mount cluster}
skip_line='^(not )?ok .*# *skip'
jobs=$(nproc)

# Seconds that a file may take.
limit_of()
{
    case $1 in
    *.bats) echo 900 ;;
    *tidy.sh) echo 900 ;;
    *) echo 300 ;;
    esac
}

# Runs one file into $results; called for itself by xargs.
run_file()
{
    name=$(printf '%s' "$1" | tr '/' '-')
    begin=$(date +%s)
    case $1 in
    *.bats) timeout -k 10 "$(limit_of "$1")" bats --tap "$1" ;;
    */sim/sim) timeout -k 10 "$(limit_of "$1")" "$1" "${SEEDS:-600}" "${FIRST:-1}" ;;
    *) CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 10 "$(limit_of "$1")" "$1" ;;
    esac >"$results/$name.tap" 2>"$results/$name.err" </dev/null
    status=$?
    printf '%s\n%s\n%s\n' "$1" "$status" "$(($(date +%s) - begin))" >"$results/$name.file"
    judge "$name" "$1" "$status"
}

# One line a file; all its output when something failed. Writes the counts into $name.count.
judge()
{
    tap=$results/$1.tap
    seconds=$(sed -n 3p "$results/$1.file")
    # cmocka writes `not ok N # SKIP`, bats `ok N name # skip`.
    skipped=$(grep -ciE "$skip_line" "$tap")
    passed=$(grep -iEv "$skip_line" "$tap" | grep -c '^ok ')
    failed=$(grep -iEv "$skip_line" "$tap" | grep -c '^not ok ')
    planned=$(awk -F '[.][.]' '/^1[.][.][0-9]+/ { sum += $2 } END { print sum + 0 }' "$tap")
    why=
    if [ "$3" -ge 124 ] && [ "$seconds" -ge "$(limit_of "$2")" ]; then
        why="stopped after $(limit_of "$2") s"
    elif [ $((passed + failed + skipped)) -eq 0 ]; then
        why="ran no test (status $3)"
    elif [ $((passed + failed + skipped)) -ne "$planned" ]; then
        why="planned $planned tests, ran $((passed + failed + skipped)) (status $3)"
    elif [ "$3" -ne 0 ] && [ "$failed" -eq 0 ]; then
        why="ended with status $3 although no test failed"
    fi
    if [ -n "$why" ]; then
        failed=$((failed + 1))
    fi
    printf '%s %s %s\n' "$passed" "$failed" "$skipped" >"$results/$1.count"
    printf '%-40s %3d passed %3d failed' "${2#"$BUILD"/}" "$passed" "$failed"
    if [ "$skipped" -ne 0 ]; then
        printf ' %3d skipped' "$skipped"
    fi
    printf '  %s s\n' "$seconds"
    if [ "$failed" -ne 0 ]; then
        sed 's/^/    /' "$tap" "$results/$1.err"
        if [ -n "$why" ]; then
            printf '    %s: %s\n' "$2" "$why"
        fi
    elif [ "$skipped" -ne 0 ]; then
        grep -iE "$skip_line" "$tap" | sed 's/^/    /'
    fi
}

# The files of one kind, one a line.
files_of()
{
    case $1 in
    unit | raft)
        for source in tests/"$1"/test_*.c; do
            [ -e "$source" ] && echo "$BUILD/${source%.c}"
        done
        ;;
    sim)
        for source in tests/sim/test_*.c; do
            [ -e "$source" ] && echo "$BUILD/${source%.c}"
        done
        [ -e tests/sim/sim_main.c ] && echo "$BUILD/tests/sim/sim"
        ;;
    cluster) ls tests/*.bats tests/cluster/*.bats 2>/dev/null ;;
    # A sanitizer slows the mount so much that its time limits say nothing.
    mount) [ -n "${QUORUMFS_SAN:-}" ] || ls tests/mount/*.bats 2>/dev/null ;;
    tidy) [ -n "${QUORUMFS_SAN:-}" ] || echo tests/tidy.sh ;;
    *) echo "run.sh: no such kind of test: $1" >&2 ;;
    esac
}

if [ "${1:-}" = --file ]; then
    results=$2
    run_file "$3" >"$results/$$.shown"
    cat "$results/$$.shown" # at once, so that files running side by side do not mix
    exit 0
fi

results=$(mktemp -d "${TMPDIR:-/tmp}/quorumfs-check.XXXXXX") || exit 1
trap 'rm -rf "$results"' EXIT
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# run KINDS: so many files at once as there are processors. Most of those that start
# programs wait more than they compute.
run()
{
    for kind in $1; do
        files_of "$kind"
    done | grep -F -e "${ONLY:-}" | tee -a "$results/files" | tr '\n' '\0' |
        xargs -0 -r -n 1 -P "$jobs" "$0" --file "$results"
}

programs=
for kind in $kinds; do
    case $kind in
    unit | raft | sim) run "$kind" ;;
    *) programs="$programs $kind" ;;
    esac
done
run "$programs"

# A file without a count (no space for its output, say) has failed too.
lost=$(($(wc -l <"$results/files") - $(find "$results" -name '*.count' | wc -l)))
counts=$(cat "$results"/*.count 2>/dev/null | awk -v failed="$lost" '
    { passed += $1; failed += $2; skipped += $3 }
    END {
        if (passed + failed == 0) {
            print "no test found" > "/dev/stderr"
            failed = 1
        }
        if (skipped) {
            print skipped " skipped"
        }
        print passed + 0 " passed, " failed + 0 " failed"
    }')
echo "$counts"
case $counts in
*", 0 failed") exit 0 ;;
*) exit 1 ;;
esac
