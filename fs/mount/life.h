/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of one mount, from the first connection to the last publish.
 */
#ifndef QUORUMFS_LIFE_H
#define QUORUMFS_LIFE_H

#include "fs/mount/mount_options.h"

/* How the start went, once: an empty text is success, the mount is being served; else one sentence
 * that says why there is no mount. */
typedef void life_told_fn(void *arg, const char *text);

/* Connects, mounts, serves until the mount is gone or a signal ends it. The mount point of the
 * options is absolute. `replay_fd`: of replayer_start, -1 for none. Returns the exit code. */
int life_run(const struct mount_options *options, int replay_fd, life_told_fn *told, void *arg);

#endif
