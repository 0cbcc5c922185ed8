/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of quorumfs, as NFS and fuse users know it. Pure.
 */
#ifndef QUORUMFS_MOUNT_OPTIONS_H
#define QUORUMFS_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"

struct mount_options {
    char *servers;    /* "unix:/path,host:port,..." for client_new; owned */
    char *subtree;    /* absolute path of the root of the mount, "/" for all; owned */
    char *mountpoint; /* as given; owned */
    char *fsname;     /* for /proc/mounts; owned */
    char *log;        /* log file, NULL: stderr; owned */
    bool foreground;
    bool debug;
    bool help;
    bool version;
    bool read_only;
    bool allow_other;
    bool default_permissions;
    bool hard;         /* wait for ever, interruptible */
    bool sync;         /* publish each write */
    bool linearizable; /* each open and lookup is a read barrier */
    bool read_pinned;  /* never the page cache */
    bool inotify_off;  /* changes made elsewhere are not replayed for watchers */
    bool nolock;       /* flock and fcntl answer ENOLCK */
    uint32_t timeo_ms;
    uint32_t session_timeout_ms; /* 0: default of the ensemble */
    uint64_t cache_bytes;        /* contents of closed files kept in memory */
    bool show_uid;               /* all nodes are shown with this owner, group, mode */
    bool show_gid;
    bool show_mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t mode;        /* 0777 without umask= */
    char *name;           /* of this host in user.znode.holder, NULL: its host name; owned */
    struct buffer kernel; /* options handed on to the kernel: ",nosuid,noexec" */
};

/* `root`: the defaults of a mount by root. ERR_INVALID: `error` has one sentence. With help or
 * version set, nothing else is checked. Free with mount_options_done in any case. */
enum err mount_options_parse(int argc, char *const *argv, bool root, struct mount_options *out,
                             struct buffer *error);
void mount_options_done(struct mount_options *options);

/* What --help prints: at most 80 columns. */
extern const char mount_options_help[];

#endif
