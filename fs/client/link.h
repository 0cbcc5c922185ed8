/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection to one replica: frames in and out. Knows nothing of sessions and calls. Thread of
 * the loop.
 */
#ifndef QUORUMFS_CLIENT_LINK_H
#define QUORUMFS_CLIENT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "common/wire.h"
#include "fs/client/servers.h"

struct link;

/* All come from the loop, never from within a function of this header but link_flush. */
struct link_events {
    void (*connected)(void *arg, struct link *link);
    /* The message is freed afterwards. The callback may call link_close. */
    void (*message)(void *arg, struct link *link, Wire__ToClient *message);
    /* The connection failed or broke; nothing else comes. The owner calls link_close. `reason` is
     * a word for the log. */
    void (*broken)(void *arg, struct link *link, const char *reason);
    /* After link_close: the memory is free by now. */
    void (*released)(void *arg);
};

/* Begins to connect. `attempt` chooses among the addresses of a host name. NULL: no memory (then
 * `released` does not come). `server` and `events` outlive the link. */
struct link *link_open(uv_loop_t *loop, const struct server *server, size_t attempt,
                       const struct link_events *events, void *arg);

/* Puts a message, or whole frames, behind what is unsent. Leaves at link_flush. Without memory the
 * link breaks at the next link_flush. */
void link_send(struct link *link, const Wire__ToReplica *message);
void link_append(struct link *link, const void *frames, size_t len);

/* More than enough is unsent: hold further calls back. */
bool link_is_full(const struct link *link);

/* Writes what is unsent; at the end of each turn. */
void link_flush(struct link *link);

/* No event comes any more but `released`. NULL is fine. */
void link_close(struct link *link);

#endif
