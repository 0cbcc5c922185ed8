# SPDX-License-Identifier: Apache-2.0
#
# bad_bytes.py MAKE_FRAME CLIENT UNIX PEER LOG: sends what no client or replica would send; each
# connection must be closed, with exactly one more line in the log. MAKE_FRAME gives frames a right
# checksum, so that what lies within is looked at.
import os
import socket
import subprocess
import sys
import time

make_frame, client, unix, peer, log = sys.argv[1:]
SILENT_S = 15  # a connection that says nothing is closed before this


# ---- protobuf by hand ----

def varint(number):
    out = b''
    while number > 0x7f:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """A number, or bytes (also a message within a message)."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(message, raw=None):
    arguments = [make_frame, message.hex()] + ([raw.hex()] if raw is not None else [])
    return bytes.fromhex(subprocess.check_output(arguments, text=True).strip())


def broken(at, value):
    """A frame that is right but for the bytes at `at`."""
    whole = bytearray(frame(field(1, field(1, 1))))
    whole[at:at + len(value)] = value
    return bytes(whole)


# ---- connections ----

def connect(address):
    if address.startswith('/'):
        s = socket.socket(socket.AF_UNIX)
        s.connect(address)
    else:
        host, port = address.rsplit(':', 1)
        s = socket.create_connection((host, int(port)))
    s.settimeout(SILENT_S)
    return s


def drain(s):
    """Reads to the end; the time limit of the socket is the failure."""
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    s.close()


def lines():
    with open(log, encoding='utf-8') as f:
        return sum(1 for line in f if 'event=client_refused' in line or 'event=peer_refused' in line)


def expect_lines(count, what):
    deadline = time.time() + 5
    while lines() < count and time.time() < deadline:
        time.sleep(0.01)
    if lines() != count:
        sys.exit(f'{what}: {lines() - count:+d} log lines')


# ---- what is sent ----

UNKNOWN = field(1000, b'ab')
HELLO = field(1, field(1, 1) + field(2, b'test'))
NONCE = os.urandom(32)
PEER_HELLO = field(1, field(1, 1) + field(2, 1) + field(3, 77) + field(5, NONCE))

ANY_PORT = {
    'random bytes': os.urandom(5000),
    'half a header': broken(0, b'')[:11],
    'half a frame': frame(field(1, b'x' * 100))[:50],
    'HTTP': b'GET / HTTP/1.1\r\n\r\n',
    'another frame format': broken(3, b'\2'),
    'a message of 2 GiB': broken(4, b'\x80\0\0\0'),
    'raw bytes of 2 GiB': broken(8, b'\x80\0\0\0'),
    'lengths of 4 GiB less one': broken(4, b'\xff' * 8),
    'a wrong checksum': broken(16, b'\0' * 8),
    'no message': frame(b''),
    'bytes that are no message': frame(b'\xff' * 40),
    'an unknown message': frame(UNKNOWN),
    'a length that leaves its message': frame(field(1, b'')[:1] + varint(2 ** 40)),
}
CLIENT_PORT = {
    'raw bytes behind a hello': frame(HELLO, b'raw'),
    'a request before the hello': frame(field(3, field(1, 1) + field(16, b''))),
    'two hellos': frame(HELLO) * 2,
    'an unknown message behind the hello': frame(HELLO) + frame(UNKNOWN),
    'a request without a body': frame(HELLO) + frame(field(3, field(1, 1))),
    'an unknown request': frame(HELLO) + frame(field(3, field(1, 1) + field(99, b''))),
    'a write without an operation': frame(HELLO) + frame(field(3, field(2, 1) + field(10, b''))),
    'a session made by a write': frame(HELLO) + frame(field(3, field(10, field(6, b'')))),
    'half a request behind the hello': frame(HELLO) + frame(field(3, b'x' * 100))[:50],
    'an answer': frame(field(3, field(1, 1)) + field(2, b'\x08\xff\xff')),
}
PEER_PORT = {
    'raw bytes behind a hello': frame(PEER_HELLO, b'raw'),
    'a hello without a nonce': frame(field(1, field(1, 1) + field(2, 1))),
    'two hellos': frame(PEER_HELLO) * 2,
    'a proof before the hello': frame(field(2, field(1, b'p' * 32))),
    'a wrong proof': frame(PEER_HELLO) + frame(field(2, field(1, b'p' * 32))),
    'a short proof': frame(PEER_HELLO) + frame(field(2, field(1, b'p'))),
    'an entry of the log': frame(field(4, field(1, 1)), b'raw'),
}
ENDS = ('half a ',)  # these are followed by the end of the stream

for address in (client, unix, peer):
    cases = {**ANY_PORT, **(PEER_PORT if address == peer else CLIENT_PORT)}
    for name, data in cases.items():
        before = lines()
        s = connect(address)
        try:
            s.sendall(data)
            if name.startswith(ENDS):
                s.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        try:
            drain(s)
        except TimeoutError:
            sys.exit(f'{address}: {name}: the connection stays open')
        expect_lines(before + 1, f'{address}: {name}')

# All at once: half a frame whose rest never comes.
before = lines()
silent = [connect(address) for address in (client, unix, peer)]
for s in silent:
    s.sendall(ANY_PORT['half a frame'])
for s in silent:
    try:
        drain(s)
    except TimeoutError:
        sys.exit('half a frame: the connection stays open')
expect_lines(before + len(silent), 'half a frame')
print('all closed')
