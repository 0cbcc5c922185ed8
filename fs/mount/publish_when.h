/* SPDX-License-Identifier: Apache-2.0
 *
 * When a FLUSH publishes. Pure.
 *
 * The kernel sends a FLUSH for each close of each copy of a descriptor. Shells close a copy before
 * anything was written, `{ cat a; cat b; } > f` closes one behind each cat: publishing at each of
 * them would show half files. What was opened is whole when the process that opened it closes it
 * and nobody else who wrote through it still runs.
 */
#ifndef QUORUMFS_PUBLISH_WHEN_H
#define QUORUMFS_PUBLISH_WHEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known about one FLUSH of one open file. */
struct publish_question {
    bool written;         /* the open file has unpublished writes; the O_TRUNC of its open alone is
                             none */
    int32_t flusher;      /* tgid; 0: unknown (another pid namespace) */
    int32_t opener;       /* tgid; 0: unknown */
    bool opener_gone;     /* has exited */
    bool flusher_wrote;   /* the flusher is among the writers */
    size_t writers_alive; /* processes other than the flusher that wrote and still run */
};

/* True: publish now, within the FLUSH. False: at RELEASE at the latest. */
bool publish_at_flush(const struct publish_question *question);

#endif
