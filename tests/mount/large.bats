# shellcheck shell=bash disable=SC2030,SC2031,SC2153,SC2317
# SPDX-License-Identifier: Apache-2.0
#
# Files above 1 MiB, where the ensemble allows them: published whole or not at all.

load ../lib/ensemble

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
    A=$T/a
    B=$T/b
}

teardown() { ensemble_teardown; }

# random MIB FILE
random() { head -c "$1"M /dev/urandom >"$2"; }

@test "files of up to 64 MiB come across whole; more is EFBIG and changes nothing" {
    for size in 2 17 64; do
        random "$size" "$T/f"
        cp "$T/f" "$A/f"
        sync "$B"
        cmp "$T/f" "$B/f"
        ctl 3 get /f | cmp - "$T/f"
    done
    python3 - "$A/f" <<'PYTHON'
import errno, os, sys
for size in (64 << 20) + 1, 1 << 40:
    try:
        os.truncate(sys.argv[1], size)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise AssertionError(size)
PYTHON
    cmp "$T/f" "$A/f"
}

@test "pieces changed in a large file, appended bytes and a shorter end come across" {
    random 20 "$T/f"
    cp "$T/f" "$A/f"
    for host in "$A" "$B" "$A"; do
        sync "$host"
        for file in "$T/f" "$host/f"; do
            python3 - "$file" <<'PYTHON'
import os, random, sys
random.seed(os.path.getsize(sys.argv[1]))
with open(sys.argv[1], 'r+b') as file:
    for _ in range(50):
        file.seek(random.randrange(0, 19 << 20))
        file.write(random.randbytes(random.randrange(1, 50000)))
    file.seek((20 << 20) - 5)
    file.write(random.randbytes(1000))
PYTHON
        done
        cmp "$T/f" "$host/f"
        random 3 "$T/more"
        cat "$T/more" >>"$T/f"
        cat "$T/more" >>"$host/f"
        truncate -s 21500000 "$T/f" "$host/f"
        truncate -s 22500000 "$T/f" "$host/f"
    done
    sync "$A" "$B"
    cmp "$T/f" "$A/f"
    cmp "$T/f" "$B/f"
}

@test "a large file that is rewritten is never seen half, while the leader dies" {
    head -c 6M /dev/zero | tr '\0' a >"$T/content0"
    head -c 9M /dev/zero | tr '\0' b >"$T/content1"
    cp "$T/content0" "$A/f"
    sync "$B"
    python3 "$BATS_TEST_DIRNAME/versions.py" "$B/f" "$T/done" "$T/content0" "$T/content1" 3>&- 8>&- &
    reader=$!
    for i in $(seq 1 30); do
        cp "$T/content$((i % 2))" "$A/f"
        if [ "$i" -eq 15 ]; then
            leader=$(leader)
            kill_replica "$leader"
            start_replica "$leader"
        fi
    done
    touch "$T/done"
    wait "$reader"
    sync "$B"
    cmp "$T/content0" "$B/f"
}

@test "mappings of a large file are published by msync, and a writer killed in between harms nothing" {
    random 8 "$T/f"
    cp "$T/f" "$A/f"
    python3 - "$A/f" "$T/f" <<'PYTHON'
import mmap, sys
for path in sys.argv[1:]:
    with open(path, 'r+b') as file:
        map = mmap.mmap(file.fileno(), 0)
        for offset in range(100, 8 << 20, 700000):
            map[offset:offset + 10] = b'0123456789'
        map.flush()
        map.close()
PYTHON
    sync "$B"
    cmp "$T/f" "$B/f"
    random 30 "$T/g"
    cp "$T/g" "$A/f" 3>&- 8>&- &
    writer=$!
    sleep 0.05
    kill -9 "$writer" || true
    wait "$writer" || true
    sync "$A" "$B"
    cmp "$A/f" "$B/f"
    cp "$T/f" "$B/f"
    sync "$A"
    cmp "$T/f" "$A/f"
}

@test "stages of a mount that died are removed, and memory stays bounded" {
    random 40 "$T/f"
    for i in 1 2 3 4; do
        cp "$T/f" "$A/f$i"
    done
    cp "$T/f" "$B/g" 3>&- 8>&- &
    writer=$!
    sleep 0.1
    kill -9 "${MOUNT_PIDS[b]}"
    wait "$writer" || true
    for i in 1 2 3 4; do
        cmp "$T/f" "$A/f$i"
    done
    for pid in "${PIDS[@]}" "${MOUNT_PIDS[a]}"; do
        awk -v pid="$pid" '/^VmHWM/ { print "pid", pid, $2, "kB"; exit $2 > 900000 }' "/proc/$pid/status" >&8
    done
}
