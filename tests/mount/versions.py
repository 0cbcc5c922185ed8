# SPDX-License-Identifier: Apache-2.0
#
# versions.py FILE DONE CONTENT...: reads FILE again and again until DONE exists; each time it must
# be one of the CONTENT files, whole. Says how often it was read and changed; status 1 if it was ever
# anything else, or never seen to change.
import os
import sys

path, done = sys.argv[1:3]
versions = []
for name in sys.argv[3:]:
    with open(name, 'rb') as f:
        versions.append(f.read())
reads = changes = 0
last = None
while True:
    last_round = os.path.exists(done)
    with open(path, 'rb') as f:
        data = f.read()
    reads += 1
    if data not in versions:
        sys.exit(f'{path}: {len(data)} bytes that nobody wrote, after {reads} reads: '
                 f'{data[:20]!r} ... {data[-20:]!r}')
    if data != last:
        changes += 1
        last = data
    if last_round:
        break
print(f'{reads} reads, {changes} changes')
sys.exit(0 if changes > 10 else 'hardly any change was seen')
