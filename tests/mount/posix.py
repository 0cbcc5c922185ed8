# SPDX-License-Identifier: Apache-2.0
#
# posix.py DIRECTORY: does what POSIX says something about, below DIRECTORY, as root and as two users,
# and prints one line for each: `who/case: result`. The result is `ok` with what can be compared, or
# the name of the errno. Nothing in it depends on time or on the numbers of inodes, so that the lines
# of two file systems can be compared with diff(1).
import ctypes
import errno
import os
import socket
import stat
import sys
import time

ROOT, ALICE, BOB = 0, 65533, 65532
NAMES = {ROOT: 'root', ALICE: 'alice', BOB: 'bob'}
base = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
who = 'root'


def show(case, result):
    print(f'{who}/{case}: {result}')


def attempt(function, *arguments, **keywords):
    try:
        result = function(*arguments, **keywords)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return 'ok' if result is None else f'ok {result}'


def case(name, function, *arguments, **keywords):
    show(name, attempt(function, *arguments, **keywords))


def look(path, *more, follow=False):
    """Kind, mode, owner, size and links of what is there."""
    try:
        found = os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        return errno.errorcode[error.errno]
    kind = stat.filemode(found.st_mode)
    size = '-' if stat.S_ISDIR(found.st_mode) else found.st_size
    return f'{kind} {oct(stat.S_IMODE(found.st_mode))} {found.st_uid}:{found.st_gid} {size} {found.st_nlink}'


def moved(paths, function, *arguments):
    """Which times of which paths a call changes."""
    past = 1000000000 * 10**9
    for path in paths:
        if os.path.lexists(path):
            os.utime(path, ns=(past, past), follow_symlinks=False)
    before = {p: os.lstat(p) for p in paths if os.path.lexists(p)}
    time.sleep(0.012)
    result = attempt(function, *arguments)
    words = []
    for path in paths:
        if path not in before or not os.path.lexists(path):
            words.append(f'{os.path.basename(path)}:{"new" if os.path.lexists(path) else "gone"}')
            continue
        now, was = os.lstat(path), before[path]
        times = ''.join(letter for letter, field in (('m', 'st_mtime_ns'), ('c', 'st_ctime_ns'))
                        if getattr(now, field) != getattr(was, field))
        words.append(f'{os.path.basename(path)}:{times or "-"}')
    return f'{result.split()[0]} {" ".join(words)}'


def make(path, data=b'', mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(fd, data)
    os.close(fd)


def opened(path, flags, mode=0o644):
    fd = os.open(path, flags, mode)
    os.close(fd)


def with_fd(path, flags, function, *arguments):
    fd = os.open(path, flags)
    try:
        return function(fd, *arguments)
    finally:
        os.close(fd)


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), 'renameat2')


NOREPLACE, EXCHANGE = 1, 2
LONG = 'n' * 255
TOO_LONG = 'n' * 256


# ---- groups of cases, each in a directory of its own ----

def names():
    calls = {
        'open': lambda p: opened(p, os.O_RDONLY), 'create': lambda p: opened(p, os.O_CREAT | os.O_WRONLY),
        'mkdir': os.mkdir, 'rmdir': os.rmdir, 'unlink': os.unlink, 'mkfifo': os.mkfifo,
        'chmod': lambda p: os.chmod(p, 0o600), 'chown': lambda p: os.chown(p, -1, -1),
        'truncate': lambda p: os.truncate(p, 1), 'utime': os.utime, 'readlink': os.readlink,
        'symlink': lambda p: os.symlink('x', p), 'rename from': lambda p: os.rename(p, 'other'),
        'rename to': lambda p: os.rename('file', p), 'stat': lambda p: look(p) and os.stat(p) and None,
        'link': lambda p: os.link('file', p), 'access': lambda p: os.access(p, os.F_OK),
        'mknod': lambda p: os.mknod(p, stat.S_IFREG | 0o600), 'statvfs': lambda p: os.statvfs(p) and None,
        'listxattr': lambda p: os.listxattr(p), 'chdir': lambda p: with_fd('.', os.O_RDONLY, lambda fd: (os.chdir(p), os.fchdir(fd)) and None),
    }
    os.mkdir('dir')
    os.symlink('loop2', 'loop1')
    os.symlink('loop1', 'loop2')
    os.symlink('missing', 'dangling')
    os.symlink('dir', 'todir')
    places = {
        'missing': 'missing', 'missing/x': 'missing', 'file/x': 'file', 'too long': TOO_LONG,
        'dir/too long': 'dir/' + TOO_LONG, 'path too long': 'dir/' + '/./' * 1400 + 'x',
        'loop': 'loop1/x', 'empty': '', 'file with slash': 'file/', 'dir with slash': 'dir/',
        'missing with slash': 'missing/', 'link to dir with slash': 'todir/', 'dot': 'dir/.', 'dots': 'dir/..',
        'dangling with slash': 'dangling/', 'root of it': '.',
    }
    for place, path in places.items():
        if place == 'missing/x':
            path = 'missing/x'
        elif place == 'file/x':
            path = 'file/x'
        for call, function in calls.items():
            if place in ('dots', 'root of it') and call not in ('rmdir', 'unlink', 'rename from', 'rename to', 'mkdir', 'create'):
                continue
            for leftover in ('missing', 'missing/', LONG):
                if os.path.lexists(leftover):
                    (os.rmdir if os.path.isdir(leftover) else os.unlink)(leftover.rstrip('/'))
            for dir in 'dir', 'other':
                if dir == 'other' and os.path.lexists('other'):
                    os.rename('other', 'dir') if os.path.isdir('other') else os.rename('other', 'file')
            if not os.path.isdir('dir'):
                os.mkdir('dir')
            if not os.path.lexists('file'):
                make('file', b'1')
            if not os.path.lexists('dangling'):
                os.symlink('missing', 'dangling')
            result = attempt(function, path)
            show(f'names/{call} {place}', result)
    make(LONG)
    show('names/255 bytes', look(LONG))
    case('names/255 bytes rename', os.rename, LONG, 'm' * 255)
    case('names/255 bytes unlink', os.unlink, 'm' * 255)
    for flags, text in ((os.O_RDONLY | os.O_NOFOLLOW, 'nofollow'), (os.O_RDONLY, 'read'), (os.O_RDONLY | os.O_DIRECTORY, 'directory'),
                        (os.O_WRONLY, 'write'), (os.O_RDWR | os.O_CREAT, 'create'), (os.O_CREAT | os.O_EXCL | os.O_WRONLY, 'excl')):
        for target in 'loop1', 'dangling', 'todir', 'file', 'dir':
            case(f'names/open {target} {text}', opened, target, flags)
            if os.path.lexists('missing'):
                os.unlink('missing')
    odd = [bytes([i]) for i in range(1, 256) if i not in (ord('/'), ord('.'))]
    odd += [b'\xff\xfe', b'a\nb', b'...', b'..a', 'ä'.encode(), b'*?[']
    os.mkdir('odd')
    for name in odd:
        make(os.fsencode('odd/') + name, name)
    found = sorted(os.listdir(b'odd'))
    show('names/any byte', found == sorted(odd) and all(open(b'odd/' + n, 'rb').read() == n for n in odd))


def files():
    make('f', b'12345')
    case('files/excl on existing', opened, 'f', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    case('files/create existing', opened, 'f', os.O_CREAT | os.O_WRONLY)
    show('files/unchanged', look('f'))
    case('files/truncating', opened, 'f', os.O_WRONLY | os.O_TRUNC)
    show('files/truncated', look('f'))
    case('files/write on read only', with_fd, 'f', os.O_RDONLY, os.write, b'x')
    case('files/read on write only', with_fd, 'f', os.O_WRONLY, os.read, 1)
    case('files/ftruncate on read only', with_fd, 'f', os.O_RDONLY, os.ftruncate, 1)
    case('files/ftruncate negative', with_fd, 'f', os.O_RDWR, os.ftruncate, -1)
    case('files/truncate negative', os.truncate, 'f', -1)
    case('files/truncate longer', os.truncate, 'f', 10)
    show('files/zeros', open('f', 'rb').read())
    case('files/truncate directory', os.truncate, '.', 0)
    os.mkdir('d')
    for flags, text in ((os.O_RDONLY, 'read'), (os.O_WRONLY, 'write'), (os.O_RDWR, 'both'), (os.O_RDONLY | os.O_CREAT, 'create'),
                        (os.O_RDONLY | os.O_TRUNC, 'trunc'), (os.O_RDONLY | os.O_DIRECTORY, 'directory')):
        case(f'files/open directory {text}', opened, 'd', flags)
    case('files/read directory', with_fd, 'd', os.O_RDONLY, os.read, 10)
    case('files/directory flag on file', opened, 'f', os.O_RDONLY | os.O_DIRECTORY)
    case('files/append', with_fd, 'f', os.O_WRONLY | os.O_APPEND, lambda fd: (os.lseek(fd, 0, 0), os.write(fd, b'end'))[1])
    show('files/appended', open('f', 'rb').read())
    case('files/sparse', with_fd, 'f', os.O_WRONLY, lambda fd: os.pwrite(fd, b'x', 5000))
    data = open('f', 'rb').read()
    show('files/hole', (len(data), data.count(0)))
    case('files/seek end', with_fd, 'f', os.O_RDONLY, lambda fd: os.lseek(fd, 0, 2))
    case('files/seek negative', with_fd, 'f', os.O_RDONLY, lambda fd: os.lseek(fd, -1, 0))
    case('files/read at end', with_fd, 'f', os.O_RDONLY, lambda fd: os.pread(fd, 10, 100000))

    def unlinked():
        fd = os.open('gone', os.O_RDWR | os.O_CREAT)
        os.write(fd, b'before')
        os.unlink('gone')
        os.pwrite(fd, b'after', 6)
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 8)
        os.utime(fd, ns=(10**18, 10**18))
        found = os.fstat(fd)
        text = os.pread(fd, 100, 0)
        os.close(fd)
        return found.st_nlink, found.st_size, oct(found.st_mode), found.st_mtime_ns, text, os.path.exists('gone')
    case('files/unlinked and open', unlinked)

    def replaced():
        make('old', b'old')
        make('new', b'new')
        fd = os.open('old', os.O_RDONLY)
        os.rename('new', 'old')
        text = os.read(fd, 10), os.fstat(fd).st_nlink, open('old', 'rb').read()
        os.close(fd)
        return text
    case('files/replaced and open', replaced)
    case('files/dup and close', with_fd, 'f', os.O_WRONLY | os.O_TRUNC, lambda fd: (os.close(os.dup(fd)), os.write(fd, b'dup'))[1])
    show('files/dup', open('f', 'rb').read())
    case('files/o_tmpfile', opened, '.', os.O_TMPFILE | os.O_RDWR)


def kinds():
    case('kinds/mkfifo', os.mkfifo, 'fifo', 0o640)
    show('kinds/fifo', look('fifo'))
    case('kinds/mkfifo existing', os.mkfifo, 'fifo')
    case('kinds/fifo write nonblock', opened, 'fifo', os.O_WRONLY | os.O_NONBLOCK)
    case('kinds/fifo read nonblock', opened, 'fifo', os.O_RDONLY | os.O_NONBLOCK)

    def through():
        reader = os.open('fifo', os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open('fifo', os.O_WRONLY)
        os.write(writer, b'through')
        text = os.read(reader, 10)
        os.close(reader)
        os.close(writer)
        return text
    case('kinds/fifo through', through)
    for name, mode in (('char', stat.S_IFCHR), ('block', stat.S_IFBLK), ('socket', stat.S_IFSOCK), ('file', stat.S_IFREG), ('fifo2', stat.S_IFIFO)):
        case(f'kinds/mknod {name}', os.mknod, name, mode | 0o604, os.makedev(1, 3))
        show(f'kinds/{name}', look(name))
        if os.path.lexists(name):
            show(f'kinds/{name} rdev', os.lstat(name).st_rdev if name in ('char', 'block') else '-')
            case(f'kinds/unlink {name}', os.unlink, name)
    case('kinds/mknod directory', os.mknod, 'dir', stat.S_IFDIR | 0o755)

    def bound():
        with socket.socket(socket.AF_UNIX) as s:
            s.bind('sock')
            s.listen()
            with socket.socket(socket.AF_UNIX) as c:
                c.connect('sock')
        return look('sock')
    case('kinds/socket', bound)
    case('kinds/open socket', opened, 'sock', os.O_RDONLY)
    case('kinds/symlink', os.symlink, 'a/b', 'link')
    show('kinds/link', (look('link'), os.readlink('link')))
    case('kinds/symlink existing', os.symlink, 'x', 'link')
    case('kinds/symlink long', os.symlink, 'x' * 1000, 'long')
    show('kinds/readlink long', len(os.readlink('long')) if os.path.lexists('long') else '-')
    case('kinds/symlink too long', os.symlink, 'x' * 4096, 'longer')
    case('kinds/symlink empty', os.symlink, '', 'nothing')
    case('kinds/readlink file', os.readlink, 'fifo')
    case('kinds/chmod link', os.chmod, 'link', 0o600)
    case('kinds/hard link', os.link, 'fifo', 'fifo3')
    case('kinds/hard link directory', os.link, '.', 'dir3')


def directories():
    os.makedirs('a/b/c')
    make('a/f')
    for call, *arguments in (('rmdir', 'a'), ('rmdir', 'a/f'), ('unlink', 'a/b'), ('rmdir', 'a/b/c/.'), ('rmdir', 'a/b/c/..'), ('mkdir', 'a'),
                             ('mkdir', 'a/f'), ('rename', 'a', 'a/b/x'), ('rename', 'a', 'a'), ('rename', 'a/f', 'a/b'), ('rename', 'a/b', 'a/f'),
                             ('rename', 'a/b', 'a/b/c'), ('rename', 'missing', 'x'), ('rename', 'a/f', 'a/f'), ('rename', 'a/.', 'x'), ('rename', '.', 'x')):
        case(f'directories/{call} {" ".join(arguments)}', getattr(os, call), *arguments)
    os.makedirs('full/x')
    os.makedirs('empty')
    case('directories/rename over full', os.rename, 'a', 'full')
    case('directories/rename over empty', os.rename, 'a', 'empty')
    show('directories/renamed', sorted(os.listdir('empty')))
    show('directories/links', (look('empty'), look('empty/b')))
    make('f1', b'1')
    make('f2', b'22')
    case('directories/noreplace existing', renameat2, 'f1', 'f2', NOREPLACE)
    case('directories/noreplace new', renameat2, 'f1', 'f3', NOREPLACE)
    case('directories/exchange', renameat2, 'f3', 'f2', EXCHANGE)
    show('directories/exchanged', (look('f2'), look('f3')))
    case('directories/exchange file and directory', renameat2, 'f2', 'empty', EXCHANGE)
    show('directories/exchanged kinds', (look('f2'), look('empty')))
    case('directories/exchange missing', renameat2, 'f2', 'missing', EXCHANGE)
    case('directories/both flags', renameat2, 'f2', 'f3', NOREPLACE | EXCHANGE)
    case('directories/exchange into own', renameat2, 'f2', 'f2/b', EXCHANGE)
    case('directories/removed and listed', lambda: (os.mkdir('r'), with_fd('r', os.O_RDONLY, lambda fd: (os.rmdir('r'), os.listdir(fd))[1]))[1])
    case('directories/create in removed', lambda: (os.mkdir('r'), with_fd('r', os.O_RDONLY, lambda fd: (os.rmdir('r'), os.mkdir('x', dir_fd=fd))))[1])
    for mask in 0o000, 0o022, 0o077, 0o777:
        old = os.umask(mask)
        opened(f'u{mask:o}', os.O_CREAT | os.O_WRONLY, 0o777)
        os.mkdir(f'd{mask:o}', 0o777)
        os.mkfifo(f'p{mask:o}', 0o777)
        os.umask(old)
        show(f'directories/umask {mask:o}', (look(f'u{mask:o}'), look(f'd{mask:o}'), look(f'p{mask:o}')))
    os.mkdir('many')
    for i in range(300):
        make(f'many/{i}')
    seen = []
    for entry in os.scandir('many'):
        seen.append(entry.name)
        os.unlink(entry.path)
    show('directories/listed while emptied', (len(seen) == len(set(seen)), len(os.listdir('many')) + len(seen) >= 300, len(os.listdir('many'))))


def times():
    make('f', b'data')
    os.mkdir('d')
    os.symlink('f', 'l')
    case('times/utime', os.utime, 'f', ns=(1234567890123456789, 987654321098765432))
    found = os.stat('f')
    show('times/set', (found.st_atime_ns, found.st_mtime_ns))
    case('times/before 1970', os.utime, 'f', ns=(-1500000000, -1))
    found = os.stat('f')
    show('times/old', (found.st_atime_ns, found.st_mtime_ns))
    case('times/link itself', os.utime, 'l', ns=(1, 2), follow_symlinks=False)
    show('times/of link', (os.lstat('l').st_mtime_ns, os.stat('f').st_mtime_ns))
    case('times/directory', os.utime, 'd', ns=(5, 6))
    show('times/of directory', os.stat('d').st_mtime_ns)
    show('times/utime now', moved(['f', '.'], os.utime, 'f'))
    show('times/utime now of link', moved(['l'], lambda: os.utime('l', follow_symlinks=False)))
    show('times/utime now of directory', moved(['d'], os.utime, 'd'))
    show('times/chmod', moved(['f', '.'], os.chmod, 'f', 0o600))
    show('times/chown', moved(['f', '.'], os.chown, 'f', os.getuid(), os.getgid()))
    show('times/write', moved(['f', '.'], with_fd, 'f', os.O_WRONLY, os.write, b'x'))
    show('times/write nothing', moved(['f'], with_fd, 'f', os.O_WRONLY, os.write, b''))
    show('times/truncate', moved(['f', '.'], os.truncate, 'f', 2))
    show('times/truncate same', moved(['f', '.'], os.truncate, 'f', 2))
    show('times/ftruncate same', moved(['f', '.'], with_fd, 'f', os.O_WRONLY, os.ftruncate, 2))
    show('times/open truncating empty', moved(['f'], lambda: (opened('f', os.O_WRONLY | os.O_TRUNC), opened('f', os.O_WRONLY | os.O_TRUNC)) and None))
    show('times/create', moved(['new', '.'], make, 'new'))
    show('times/unlink', moved(['new', '.'], os.unlink, 'new'))
    show('times/mkdir', moved(['e', '.', 'd'], os.mkdir, 'e'))
    show('times/rename', moved(['f', 'g', '.', 'd'], os.rename, 'f', 'g'))
    show('times/rename into', moved(['g', '.', 'd'], os.rename, 'g', 'd/g'))
    show('times/rename directory', moved(['e', '.', 'd', 'd/e'], os.rename, 'e', 'd/e'))
    show('times/rmdir', moved(['d/e', '.', 'd'], os.rmdir, 'd/e'))
    show('times/symlink', moved(['s', '.'], os.symlink, 'x', 's'))
    show('times/read', moved(['d/g'], lambda: open('d/g').read() and None))
    show('times/setxattr', moved(['d/g'], os.setxattr, 'd/g', 'user.x', b'1'))
    show('times/failed create', moved(['d', '.'], opened, 'd', os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def privileges():
    """As root: what takes the bits of set-user-ID and set-group-ID away."""
    for mode in 0o6755, 0o6745, 0o4711, 0o2755, 0o2745, 0o1644:
        make('f', b'12345')
        os.chown('f', ALICE, BOB)
        os.chmod('f', mode)
        text = [look('f')]
        with_fd('f', os.O_WRONLY, os.write, b'x')
        text.append(look('f'))
        os.chmod('f', mode)
        os.chown('f', BOB, -1)
        text.append(look('f'))
        os.chmod('f', mode)
        os.chown('f', -1, -1)
        text.append(look('f'))
        os.chmod('f', mode)
        os.truncate('f', 2)
        text.append(look('f'))
        show(f'privileges/root {mode:o}', text)
        for kind, function in (('write', lambda: with_fd('f', os.O_WRONLY, os.write, b'y')), ('append', lambda: with_fd('f', os.O_WRONLY | os.O_APPEND, os.write, b'y')),
                               ('truncate', lambda: os.truncate('f', 1)), ('open truncating', lambda: opened('f', os.O_WRONLY | os.O_TRUNC)),
                               ('write nothing', lambda: with_fd('f', os.O_WRONLY, os.write, b'')), ('chown to own group', lambda: os.chown('f', -1, ALICE)),
                               ('utime', lambda: os.utime('f'))):
            os.chown('f', ALICE, BOB)
            os.chmod('f', mode | 0o222)
            show(f'privileges/user {kind} {mode:o}', (as_user(ALICE, function), look('f')))
        os.unlink('f')
    os.mkdir('g')
    os.chown('g', ALICE, BOB)
    os.chmod('g', 0o2777)
    make('g/f')
    os.mkdir('g/d')
    os.mkfifo('g/p')
    show('privileges/setgid directory', (look('g/f'), look('g/d'), look('g/p')))
    show('privileges/setgid directory of user', (as_user(ALICE, lambda: (make('g/f2'), os.mkdir('g/d2')) and None), look('g/f2'), look('g/d2')))
    show('privileges/setgid chmod by user', (as_user(ALICE, lambda: (make('g/f3'), os.chmod('g/f3', 0o2755)) and None), look('g/f3')))


def as_user(uid, function):
    """The result of a call by this user, in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.write(writer, attempt(function).encode())
        os._exit(0)
    os.close(writer)
    result = os.read(reader, 10000).decode()
    os.close(reader)
    os.waitpid(pid, 0)
    return result


def access():
    """As root: what two users may do with what is theirs, each other's and in a sticky directory."""
    os.chmod('.', 0o755)
    os.mkdir('sticky')
    os.chmod('sticky', 0o1777)
    os.mkdir('open')
    os.chmod('open', 0o777)
    for dir in 'sticky', 'open':
        for call, function in {
            'unlink': lambda: os.unlink(f'{dir}/f'), 'rename': lambda: os.rename(f'{dir}/f', f'{dir}/g'),
            'rename over': lambda: (make(f'{dir}/mine'), os.rename(f'{dir}/mine', f'{dir}/f')) and None,
            'rmdir': lambda: os.rmdir(f'{dir}/d'), 'exchange': lambda: renameat2(f'{dir}/f', f'{dir}/d', EXCHANGE),
            'chmod': lambda: os.chmod(f'{dir}/f', 0o777), 'chown': lambda: os.chown(f'{dir}/f', BOB, -1),
            'chgrp': lambda: os.chown(f'{dir}/f', -1, BOB), 'utime': lambda: os.utime(f'{dir}/f', ns=(1, 1)),
            'touch': lambda: os.utime(f'{dir}/f'), 'truncate': lambda: os.truncate(f'{dir}/f', 0),
            'read': lambda: opened(f'{dir}/f', os.O_RDONLY), 'write': lambda: opened(f'{dir}/f', os.O_WRONLY),
            'append': lambda: opened(f'{dir}/f', os.O_WRONLY | os.O_APPEND), 'excl': lambda: opened(f'{dir}/f', os.O_CREAT | os.O_EXCL | os.O_WRONLY),
            'setxattr': lambda: os.setxattr(f'{dir}/f', 'user.x', b'1'), 'getxattr': lambda: os.listxattr(f'{dir}/f') and None,
            'link': lambda: os.symlink('x', f'{dir}/l'), 'mkdir in': lambda: os.mkdir(f'{dir}/d/x'), 'list': lambda: len(os.listdir(f'{dir}/d')),
            'enter': lambda: look(f'{dir}/d/inner'), 'create in': lambda: make(f'{dir}/d/y'),
        }.items():
            for owner in ALICE, BOB, ROOT:
                for mode in 0o600, 0o644, 0o666, 0o000, 0o711:
                    make(f'{dir}/f', b'1')
                    os.mkdir(f'{dir}/d')
                    if call in ('enter', 'list'):
                        make(f'{dir}/d/inner')
                    for name in f'{dir}/f', f'{dir}/d':
                        os.chown(name, owner, owner)
                        os.chmod(name, mode)
                    show(f'access/{dir} {call} of {NAMES[owner]} {mode:o}', as_user(ALICE, function))
                    clear(dir)
    os.mkdir('closed')
    os.chmod('closed', 0o700)
    make('closed/f')
    for call, function in (('stat', lambda: os.stat('closed/f') and None), ('create', lambda: make('closed/g')), ('list', lambda: os.listdir('closed')),
                           ('chdir', lambda: os.chdir('closed')), ('rename', lambda: os.rename('closed/f', 'open/f')), ('access', lambda: os.access('closed/f', os.R_OK))):
        show(f'access/closed {call}', as_user(ALICE, function))
    os.chmod('closed', 0o711)
    show('access/search only', (as_user(ALICE, lambda: os.stat('closed/f').st_size), as_user(ALICE, lambda: os.listdir('closed'))))
    os.chmod('closed', 0o744)
    show('access/read only', (as_user(ALICE, lambda: os.listdir('closed')), as_user(ALICE, lambda: os.stat('closed/f').st_size)))
    os.mkdir('moves')
    os.chown('moves', ALICE, ALICE)
    os.mkdir('moves/theirs')
    show('access/move directory of others', as_user(ALICE, lambda: os.rename('moves/theirs', 'open/theirs')))
    show('access/mknod', as_user(ALICE, lambda: os.mknod('open/dev', stat.S_IFCHR | 0o600, os.makedev(1, 3))))
    show('access/chroot owner', as_user(ALICE, lambda: (make('open/mine'), os.chown('open/mine', BOB, -1)) and None))


def clear(dir):
    for root, dirs, files in os.walk(dir, topdown=False):
        for name in files + dirs:
            path = os.path.join(root, name)
            (os.rmdir if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)


def run(group, uid):
    global who
    who = NAMES[uid]
    place = os.path.join(base, f'{group.__name__}-{who}')
    os.mkdir(place, 0o755)
    os.chown(place, uid, uid)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        if uid != ROOT:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        os.chdir(place)
        os.umask(0o022)
        group()
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        print(f'{who}/{group.__name__}: ended with {status}')


for each in names, files, kinds, directories, times:
    for user in ROOT, ALICE:
        run(each, user)
run(privileges, ROOT)
run(access, ROOT)
