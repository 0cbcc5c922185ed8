#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Ends what up.sh started, and nothing else, for `make down`. Environment: RUN (run).
set -eu

: "${RUN:=run}"
here=$(dirname "$0")
# shellcheck source=packaging/demo/demo.sh
. "$here/demo.sh"

if [ ! -d "$RUN" ]; then
    echo "nothing runs: $RUN does not exist"
    exit 0
fi
enter_run
ended=0
for mount in a b; do
    if is_mounted "$mount"; then
        umount "$RUN/$mount" 2>/dev/null || umount -l "$RUN/$mount"
        ended=1
    fi
done
status=0
for part in a b 1 2 3; do
    if is_running "$part"; then
        ended=1
        stop "$part" || {
            status=1
            continue
        }
    fi
    rm -f "$(file_of "$part" pid)" "$(file_of "$part" started)"
done
if [ "$ended" -eq 1 ]; then
    echo "ended; the data stays in $RUN"
else
    echo "nothing runs in $RUN"
fi
exit "$status"
