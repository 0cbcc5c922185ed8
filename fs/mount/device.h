/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection with the kernel: /dev/fuse on the loop, and what libfuse 3.14 does not know.
 */
#ifndef QUORUMFS_DEVICE_H
#define QUORUMFS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "fs/mount/mount.h"

struct device;
struct fuse_session;

/* Makes the session and mounts it; requests are served when the loop runs. `error` gets a
 * sentence. */
enum err device_open(struct mount *mount, struct device **out, struct buffer *error);

/* Asks the kernel to unmount; mount->ended tells when it has. Fails quietly while programs use the
 * mount, unless `force`: then all that they have open is cut off. Does not wait. */
void device_detach(struct device *device, bool force);

/* Takes no requests any more, as if the kernel had unmounted: mount->ended is called. */
void device_cut(struct device *device);

/* Ends the session, unmounts if that has not happened; `closed` comes from the loop. */
void device_close(struct device *device, void (*closed)(void *arg), void *arg);

struct fuse_session *device_session(struct device *device);

/* Sends FUSE_NOTIFY_INC_EPOCH. */
void device_epoch(struct device *device);

/* The file that is opened by the request handled just now is a stream: reading and writing have no
 * place in it, so that one may wait beside the other. */
void device_mark_stream(struct device *device);

/* Of the request that is handled just now: the kernel asks to clear suid and sgid. */
bool device_kills_privilege(const struct device *device);

#endif
