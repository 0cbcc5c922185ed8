# SPDX-License-Identifier: Apache-2.0
#
# bad_bytes.py CLIENT UNIX PEER LOG: sends what no client or replica would send; each connection must
# be closed, with exactly one more line in the log.
import os
import socket
import struct
import sys
import time

client, unix, peer, log = sys.argv[1:]


def connect(address):
    if address.startswith('/'):
        s = socket.socket(socket.AF_UNIX)
        s.connect(address)
    else:
        host, port = address.rsplit(':', 1)
        s = socket.create_connection((host, int(port)))
    s.settimeout(10)
    return s


def drain(s):
    """Reads to the end; the time limit of the socket is the failure."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass


def lines():
    with open(log, encoding='utf-8') as f:
        return sum(1 for line in f if 'event=client_refused' in line or 'event=peer_refused' in line)


def frame(message, raw=b'', length=None):
    header = b'\xd1QF\x01' + struct.pack('>III', len(message) if length is None else length,
                                         len(raw), 0)
    try:
        import xxhash
        checksum = xxhash.xxh3_64_digest(header + message + raw)
    except ImportError:
        checksum = b'\0' * 8  # then it is a wrong checksum, which is refused as well
    return header + checksum + message + raw


CASES = {
    'random bytes': (os.urandom(5000), False),
    'half a frame': (frame(b'x' * 100)[:50], True),
    'a length of 2 GiB': (frame(b'', length=0x80000000), False),
    'a message that is none': (frame(b'\xff' * 40), False),
    'an unknown message': (frame(b'\xfa\x3f\x02ab'), False),
    'HTTP': (b'GET / HTTP/1.1\r\n\r\n', False),
}

for address in (client, unix, peer):
    for name, (data, end) in CASES.items():
        before = lines()
        s = connect(address)
        try:
            s.sendall(data)
            if end:
                s.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        drain(s)
        s.close()
        deadline = time.time() + 5
        while lines() == before and time.time() < deadline:
            time.sleep(0.01)
        if lines() != before + 1:
            sys.exit(f'{address}: {name}: {lines() - before} log lines')
print('all closed')
