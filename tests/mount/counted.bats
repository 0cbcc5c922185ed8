# shellcheck shell=bash disable=SC2034,SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# What is cached costs no request at all: counted by the line `requests` of the mount's own status.

load ../lib/ensemble
load ../lib/clock

setup()
{
    ensemble_setup
    write_configs 3
    # The clock of the replicas is an hour behind, so that files just made are older than a minute:
    # such small files are read through the page cache of the kernel.
    PREFIX=with_clock
    for i in 1 2 3; do
        jump "$i" -3600
    done
    start_replicas
    for i in $(seq 1 100); do
        echo "content $i"
    done >"$T/lines"
    ctl 1 create --dir /d >&8
    while read -r word number; do
        ctl 1 create "/d/f$number" "$word" >&8
    done <"$T/lines"
    mount_tree b 2 3 1
    B=$T/b
}

teardown() { ensemble_teardown; }

requests() { awk '$1 == "requests" { print $2 }' "$B/.quorumfs/status"; }

# cost CODE: requests of the kernel that this Python code causes, without those of reading the count
# itself. A RELEASE may come later.
cost()
{
    local first before
    first=$(requests)
    sleep 0.1
    before=$(requests)
    sleep 0.1
    # open() of Python would ask for a terminal by ioctl.
    /usr/bin/python3 -I -c "import os
os.chdir('$B')
def content(path):
    fd = os.open(path, os.O_RDONLY)
    text = os.read(fd, 100) + os.read(fd, 100)
    os.close(fd)
    return text
$1"
    sleep 0.1
    echo $(($(requests) - before - (before - first)))
}

# costs N CODE. Others on this host may look at the mount meanwhile: so it is tried a few times, and
# never costs less.
costs()
{
    local try found
    for try in 1 2 3 4 5; do
        found=$(cost "$2")
        [ "$found" -ge "$1" ] || break
        [ "$found" -ne "$1" ] || return 0
    done
    echo "$2: $found requests at try $try, not $1"
    return 1
}

@test "stat, lookups in vain, listings and reads of what is known cost nothing" {
    ls -l "$B/d" >/dev/null
    costs 0 "pass"
    costs 0 "for i in range(1000): os.stat('d/f%d' % (i % 100 + 1))"
    cost "os.path.exists('d/none') or os.path.exists('none')"
    costs 0 "for i in range(1000): assert not os.path.exists('d/none') and not os.path.exists('none')"
    cost "os.listdir('d')"
    costs 0 "for i in range(50): assert len(os.listdir('d')) == 100"
    costs 0 "for i in range(50): assert len([e for e in os.scandir('d') if e.is_file()]) == 100"
    cost "content('d/f1')"
    # Each open is one OPEN and one RELEASE: no FLUSH, no READ, no GETATTR.
    costs 200 "for i in range(100): assert content('d/f1') == b'content'"
    costs 2 "fd = os.open('d/f1', os.O_RDONLY)
for i in range(100): assert os.pread(fd, 100, 0) == b'content' and os.fstat(fd).st_size == 7"
}

@test "a change elsewhere costs what has changed, and then nothing again" {
    ls -l "$B/d" >/dev/null
    cost "content('d/f1')"
    ctl 1 set /d/f1 other >&8
    sync "$B"
    [ "$(cost "assert content('d/f1') == b'other'")" -le 6 ]
    cost "os.stat('d/f1')"
    costs 0 "for i in range(100): assert os.stat('d/f1').st_size == 5"
    costs 0 "for i in range(100): os.stat('d/f2')"
}
