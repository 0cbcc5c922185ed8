#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The checks of the house: format, heads, layers, sizes, symbols, banned functions, scripts, lint.
# Writes TAP, one test a check. A check that looked at no file fails: it would be green for ever.
#
# Started by make, which exports BUILD (whose objects are looked at) and TIDY_FLAGS. The results of
# clang-tidy are kept in build/tidy by the content of the file, its headers and the configuration.
#
#   tests/tidy.sh [check...]      only these checks
set -u
cd "$(dirname "$0")/.." || exit 1

: "${BUILD:=build/release}"
: "${TIDY_FLAGS:=-std=gnu11 -I. -isystem $BUILD/gen -D_GNU_SOURCE -I/usr/include/fuse3}"
export TIDY_FLAGS
cache=build/tidy

LINES_MAX_C=800
LINES_MAX_H=300
NESTING_MAX=4 # blocks within a function body

# Our C, without what is generated.
sources()
{
    find common fs server tests -name '*.[ch]' | sort
}

# The C without comments, as `file:line: text`.
without_comments()
{
    while read -r file; do
        gcc -fpreprocessed -dD -E "$file" 2>/dev/null | awk -v file="$file" '
            /^# [0-9]+ "/ { line = $2 - 1; next }
            { line++; print file ":" line ": " $0 }'
    done
}

# clang-format changes nothing.
check_format()
{
    sources >"$files"
    # A configuration that is not found would mean the default style.
    if [ ! -f .clang-format ]; then
        echo ".clang-format is missing"
    fi
    xargs -r clang-format --dry-run -Werror <"$files" 2>&1 |
        sed -n 's/^\([^ ]*\.[ch]:[0-9]*\):[0-9]*: error: .*/\1/p' |
        awk -F : '!seen[$1]++ { print $0 ": not formatted; run make format" }'
    # Whether clang-format itself came to its end.
    xargs -r clang-format <"$files" >/dev/null || echo "clang-format failed"
}

# Every file says whose it is in its first line, and a C file for what it is there.
check_heads()
{
    { sources; scripts; } >"$files"
    while read -r file; do
        case $file in
        *.[ch]) pattern='^/\* SPDX-License-Identifier: Apache-2\.0$' line=1 ;;
        *) pattern='^# SPDX-License-Identifier: Apache-2\.0$' line=2 ;;
        esac
        if ! sed -n "${line}p" "$file" | grep -q "$pattern"; then
            echo "$file:$line: no SPDX line"
        fi
        case $file in
        *.[ch])
            if ! sed -n 3p "$file" | grep -q '^ \* [A-Za-z"`]'; then
                echo "$file:3: no head comment"
            fi
            ;;
        esac
    done <"$files"
}

# Who includes what, by tests/layers.txt.
check_layers()
{
    sources >"$files"
    # shellcheck disable=SC2016 # the dollars are awk's
    xargs -r awk '
    function pattern_of(text) {
        gsub(/[.]/, "[.]", text)
        gsub(/[*]/, "[^/]*", text)
        return text
    }
    function folder_of(file) {
        sub(/\/[^\/]*$/, "", file)
        return file
    }
    # Whether one word of the right side allows the header.
    function allows(word, header) {
        if (word ~ /\/>$/) {
            return index(header, substr(word, 1, length(word) - 1)) == 1
        }
        return word == header || (header !~ /^</ && word !~ /^</ && folder_of(header) == word)
    }
    # The words of the rows for the room of a file and for the file itself.
    function words_for(file,    i, folder, found, words) {
        folder = file ~ /^tests\// ? "tests" : folder_of(file)
        for (i = 1; i <= rows; i++) {
            if (room[i] == folder) {
                found = 1
                words = words " " right[i]
            } else if (room[i] ~ /[.]/ && file ~ ("^" pattern_of(room[i]) "$")) {
                words = words " " right[i]
            }
        }
        return found ? "common " words : "none"
    }
    FILENAME == "tests/layers.txt" {
        sub(/^#.*/, "")
        if (split($0, halves, / +: */) < 2) {
            next
        }
        if (halves[1] == "libraries") {
            libraries = libraries " " halves[2]
        } else if (halves[1] != "symbols") {
            rows++
            room[rows] = halves[1]
            right[rows] = halves[2]
        }
        next
    }
    FNR == 1 {
        own = folder_of(FILENAME)
        allowed = words_for(FILENAME)
        if (allowed == "none") {
            print FILENAME ": its room stands not in tests/layers.txt"
        }
    }
    /^[ \t]*#[ \t]*include/ {
        header = $0
        sub(/^[ \t]*#[ \t]*include[ \t]*/, "", header)
        sub(/[ \t]*(\/[*].*)?$/, "", header)
        is_ours = header ~ /^"/
        if (is_ours) {
            gsub(/"/, "", header)
        }
        verdict = 0
        if (is_ours && header != "common/wire.pb-c.h" && folder_of(header) == own) {
            verdict = 1
        }
        if (!is_ours) {
            verdict = 1
            count = split(libraries, words, " ")
            for (i = 1; i <= count; i++) {
                if (allows(words[i], header)) {
                    verdict = 0
                }
            }
        }
        count = split(allowed, words, " ")
        for (i = 1; i <= count && !verdict; i++) {
            # The generated header lies in no folder of ours: only its full name allows it.
            verdict = words[i] == header
            if (header != "common/wire.pb-c.h" && allows(words[i], header)) {
                verdict = 1
            }
        }
        if (!verdict) {
            print FILENAME ":" FNR ": may not include " header " (tests/layers.txt)"
        }
    }' tests/layers.txt <"$files"
}

# Lengths of files and depths of blocks; clang-tidy knows the lengths of functions.
check_sizes()
{
    sources >"$files"
    # A line that begins with a brace in column 1 ends all blocks, whatever #if has done to us.
    without_comments <"$files" | sed 's/"[^"]*"//g' | awk -v max="$NESTING_MAX" '
        $2 == "}" { depth = 0; next }
        {
            text = $0
            depth += gsub(/{/, "{", text) - gsub(/}/, "}", text)
            if (depth > max + 1 && text ~ /{ *$/) {
                print $1 " more than " max " blocks deep"
            }
        }'
    xargs -r wc -l <"$files" | awk -v c="$LINES_MAX_C" -v h="$LINES_MAX_H" '
        $2 ~ /[.]c$/ && $1 > c || $2 ~ /[.]h$/ && $1 > h { print $2 ": " $1 " lines" }'
}

# The pure rooms ask nothing of the world but what layers.txt allows.
check_symbols()
{
    allowed=$(sed -n 's/^symbols *: *//p' tests/layers.txt | tr -s ' \n' '|')
    for room in raft tree; do
        objects=$(find "$BUILD/obj/server/$room" -name '*.o' 2>/dev/null | sort)
        if [ -z "$objects" ]; then
            echo "no objects of server/$room in $BUILD"
            continue
        fi
        echo "$objects" >>"$files"
        # Names that another object of the room defines are its own.
        echo "$objects" | xargs nm --defined-only -A | awk '{ print $NF }' | sort -u >"$work/own"
        echo "$objects" | xargs nm --undefined-only -A | sed 's/^\([^:]*\):.* \([^ ]*\)$/\2 \1/' |
            sort -u | awk 'NR == FNR { own[$1]; next } !($1 in own)' "$work/own" - |
            grep -v -E "^(${allowed%|}) " | sed 's/^\(.*\) \(.*\)$/\2: may not use \1/'
    done
}

# Functions and words that have no place here.
check_banned()
{
    sources >"$files"
    without_comments <"$files" >"$work/code"
    functions='strcpy|strcat|strncpy|strncat|stpcpy|sprintf|vsprintf|gets|atoi|atol|atoll|atof'
    functions="$functions|strtok|strtok_r|strtol|strtoll|alloca|system|popen|tmpnam|mktemp|gmtime"
    functions="$functions|localtime|ctime|asctime|rand|srand|usleep"
    sed -E 's/"([^"\\]|\\.)*"/""/g' "$work/code" |
        grep -o -E "^[^ ]+ .*\b($functions)[[:space:]]*\(" |
        sed -E "s/^([^ ]+) .*\b($functions)[[:space:]]*\($/\1 banned function \2/"
    # A name for a function type is fine, one that hides a struct or a number is not.
    grep -E '^[^ ]+ +typedef [^(]*$' "$work/code" | sed -E 's/^([^ ]+) .*/\1 typedef/'
    # The word is cut in two so that this file does not contain it.
    xargs -r grep -n -w -E "TO""DO|FIX""ME|X""XX|HA""CK" <"$files" | sed 's/$/ (unfinished)/'
}

# Our shell scripts.
scripts()
{
    {
        find tests packaging -name '*.sh'
        find .ci tests packaging -type f ! -name '*.*' -print0 |
            xargs -0 -r grep -l -E '^#!/bin/(ba)?sh'
    } | sort -u
}

check_scripts()
{
    scripts >"$files"
    if ! command -v shellcheck >/dev/null; then
        echo "shellcheck is missing"
        return
    fi
    xargs -r shellcheck --severity=style --external-sources <"$files"
    while read -r file; do
        if [ ! -x "$file" ] && head -n 1 "$file" | grep -q '^#!'; then
            echo "$file: has a first line of a script but is not executable"
        fi
    done <"$files"
}

# One file through clang-tidy, unless the same content was without a finding before.
lint_file()
{
    # The words of TIDY_FLAGS and of the list of headers are wanted.
    # shellcheck disable=SC2086
    headers=$(clang $TIDY_FLAGS -MM "$1" 2>/dev/null | tr -d '\\\n' | sed 's/^[^:]*://')
    # shellcheck disable=SC2086
    key=$({ echo "$TIDY_FLAGS"; cat .clang-tidy "$0" common/wire.proto "$1" $headers; } |
        sha256sum | cut -d ' ' -f 1)
    if [ -e "$cache/$key" ]; then
        return
    fi
    # shellcheck disable=SC2086
    if clang-tidy --quiet "$1" -- $TIDY_FLAGS >"$cache/$key.out" 2>&1; then
        mv "$cache/$key.out" "$cache/$key"
        return
    fi
    # Only the findings: the path to one is shown by clang-tidy FILE -- FLAGS.
    findings=$(grep -E '(error|warning): ' "$cache/$key.out" |
        sed "s|^$PWD/||; s|^[.]/||" | sort -u)
    echo "${findings:-$1: clang-tidy failed: $(tail -n 1 "$cache/$key.out")}"
    rm -f "$cache/$key.out"
}

# clang-tidy, two at once. The time of results that nobody needs any more is limited.
check_lint()
{
    mkdir -p "$cache"
    find "$cache" -type f -mtime +14 -delete
    sources | grep '\.c$' >"$files"
    if [ ! -e "$BUILD/gen/common/wire.pb-c.h" ]; then
        echo "$BUILD/gen/common/wire.pb-c.h is missing; run make tidy"
    fi
    xargs -r -n 1 -P "$(nproc)" "$0" --lint-file <"$files"
}

if [ "${1:-}" = --lint-file ]; then
    lint_file "$2"
    exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/quorumfs-tidy.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
files=$work/files

if [ $# -eq 0 ]; then
    set -- format heads layers sizes symbols banned scripts lint
fi
status=0
number=0
echo "1..$#"
for check in "$@"; do
    number=$((number + 1))
    : >"$files"
    case $check in
    format) check_format ;;
    heads) check_heads ;;
    layers) check_layers ;;
    sizes) check_sizes ;;
    symbols) check_symbols ;;
    banned) check_banned ;;
    scripts) check_scripts ;;
    lint) check_lint ;;
    *) echo "no such check: $check" ;;
    esac >"$work/findings" 2>&1
    looked_at=$(wc -l <"$files")
    if [ "$looked_at" -eq 0 ]; then
        echo "looked at no file" >>"$work/findings"
    fi
    if [ -s "$work/findings" ]; then
        echo "not ok $number - tidy: $check"
        sed 's/^/# /' "$work/findings"
        status=1
    else
        echo "ok $number - tidy: $check ($looked_at files)"
    fi
done
exit "$status"
