/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder that is mounted on, and what the kernel knows of it.
 */
#ifndef QUORUMFS_MOUNTPOINT_H
#define QUORUMFS_MOUNTPOINT_H

#include <stdbool.h>

#include "common/buffer.h"
#include "common/err.h"

/* The absolute path of an empty directory that is no mount point yet, in *out (malloc). A dead
 * mount of ours there is detached first. ERR_INVALID: `error` has one sentence. */
enum err mountpoint_prepare(const char *path, char **out, struct buffer *error);

/* Unmounts; with `force` also while it is used: what is open then is cut off. */
void mountpoint_detach(const char *path, bool force);

/* Ends the kernel's connection behind the mount on this path, so that nobody waits for it any
 * more. `minor` from mountpoint_minor, called right behind the mount; 0: unknown, does nothing. */
unsigned mountpoint_minor(const char *path);
void mountpoint_abort(unsigned minor);

#endif
