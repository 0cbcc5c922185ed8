/* SPDX-License-Identifier: Apache-2.0
 *
 * The processes that do again what other hosts have done, so that the kernel tells the watchers of
 * this host (FILESYSTEM.md, "inotify: replay"). A zygote is forked before the mount and forks the
 * workers: none of them ever holds the FUSE device, and a thread of the daemon would hang for ever
 * in its own mount when the daemon is killed. They live as long as the daemon.
 */
#ifndef QUORUMFS_REPLAYER_H
#define QUORUMFS_REPLAYER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/limits.h"

enum replay_kind {
    REPLAY_NONE,
    REPLAY_WRITE,  /* MODIFY; with an open and a close where that is possible */
    REPLAY_ATTR,   /* ATTRIB */
    REPLAY_CREATE, /* a regular file */
    REPLAY_NODE,   /* fifo, socket, device */
    REPLAY_DIR,
    REPLAY_SYMLINK,
    REPLAY_UNLINK,
    REPLAY_RMDIR,
    REPLAY_RENAME,
    REPLAY_EXCHANGE,
};

/* A place: a directory below the mount point, without a slash at either end, and a name in it. */
struct replay_place {
    uint64_t nodeid; /* of the directory: what is found there must be this */
    char path[PATH_MAX];
    char name[NAME_BYTES_MAX + 1];
};

/* One operation to be done, as it goes to a worker. */
struct replay_order {
    enum replay_kind kind;
    dev_t device;    /* of the mount: what is found must lie on it */
    uint64_t nodeid; /* of the node */
    uint64_t size;
    int64_t mtime_ns;
    int64_t atime_ns;
    mode_t mode; /* with its type */
    dev_t rdev;
    bool truncated; /* WRITE: the length was set before */
    struct replay_place at;
    struct replay_place to; /* RENAME, EXCHANGE */
};

/* What comes back from a worker. */
struct replay_result {
    int error; /* an errno, or 0 */
};

/* What the zygote says. */
struct replay_news {
    enum {
        REPLAY_STARTED, /* in answer to a request; pid 0: it could not */
        REPLAY_EXITED,
    } what;
    pid_t pid;
};

/* Forks the zygote, which will work on this absolute mount point. Before there are threads and
 * before the mount. The control descriptor, or -1. `map_root`: the daemon is not root and the kernel
 * checks modes: workers act as root of a namespace of their own that knows only the daemon's user. */
int replayer_start(const char *mountpoint, bool map_root);

/* Sends the zygote one end of a socket of whole messages: it forks a worker that takes orders there
 * (replay_order, answered by replay_result) and tells its pid by the control descriptor. False: the
 * zygote is gone. */
bool replayer_request(int control, int worker_end);

#endif
