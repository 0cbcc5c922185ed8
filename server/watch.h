/* SPDX-License-Identifier: Apache-2.0
 *
 * Promises (callbacks): which connection was told what about which node and is therefore sent
 * every change of it. A promise on a directory covers its names, missing ones too. Numbered
 * grants make a FORGET that crosses a newer answer harmless (CONSENSUS 29). Thread of the loop.
 */
#ifndef QUORUMFS_SERVER_WATCH_H
#define QUORUMFS_SERVER_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct watches;
struct promise;

/* The part of a connection that holds its promises; embedded by the owner, zeroed at first. */
struct watcher {
    struct promise *oldest; /* list by age of the grant */
    struct promise *newest;
    size_t count;
    uint64_t last_grant;
    uint64_t stamp; /* of the last watch_collect that met this watcher */
    void *owner;
};

struct watches *watches_new(void); /* NULL: no memory */
void watches_free(struct watches *watches);

/* Notes that `watcher` was told about `ino` under the number `grant` (never less than before).
 * At PROMISES_PER_SESSION_MAX the oldest promise is dropped and *out_revoked set to its node (the
 * caller tells the client), else to UINT64_MAX. ERR_MEMORY: nothing is promised. */
enum err watch_grant(struct watches *watches, struct watcher *watcher, uint64_t ino, uint64_t grant,
                     uint64_t *out_revoked);

/* Takes a promise back unless a newer grant than `grant` was given. */
void watch_forget(struct watches *watches, struct watcher *watcher, uint64_t ino, uint64_t grant);

/* Drops all promises of a watcher. */
void watch_drop(struct watches *watches, struct watcher *watcher);

/* Calls each() once for every watcher with a promise on any of the `count` nodes. */
void watch_each(struct watches *watches, const uint64_t *inos, size_t count,
                void (*each)(void *arg, struct watcher *watcher), void *arg);

size_t watches_count(const struct watches *watches);

#endif
