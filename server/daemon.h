/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica as a process: opens data folder, log, store and sockets, runs the loop, leaves in
 * order. Thread: the main thread.
 */
#ifndef QUORUMFS_SERVER_DAEMON_H
#define QUORUMFS_SERVER_DAEMON_H

#include "server/config.h"

/* Runs until SIGTERM or SIGINT (returns 0; a leader hands over first) or until it must not go on
 * (returns 1). Errors before it serves are one line "quorumd: ..." on stderr. */
int daemon_run(const struct config *config);

#endif
