/* SPDX-License-Identifier: Apache-2.0
 *
 * The stream of changes at and below a path, in commit order, from whatever replica the client is
 * on. It goes on behind the last change that was handed over when the client moves to another
 * replica: none is missing, none comes twice. What no replica knows any more is told as a gap.
 *
 * Thread and callbacks as in client.h: callbacks come from the loop, never from within a function
 * of this header, and may call any of them, also client_watch_end of their own watch.
 */
#ifndef QUORUMFS_CLIENT_WATCH_H
#define QUORUMFS_CLIENT_WATCH_H

#include "fs/client/client.h"

struct client_watch;

struct client_watch_options {
    const char *path; /* absolute path of the tree (path_check), copied; need not be there */
    size_t path_len;
    bool recursive;      /* path itself and all below; false: path itself and its direct children */
    bool has_since;      /* false: from the moment on that `told` is called first */
    uint64_t since_zxid; /* all changes with a greater zxid */
    /* The next changes, at least one, in commit order. A rename comes if either of its paths does,
     * or if it gives the path itself another way from the root. Valid during the callback. After
     * it nothing comes but `told` and `failed` until client_watch_more. */
    void (*changes)(void *arg, Wire__Change *const *changes, size_t count);
    /* The replica does not know all changes of the entries from..to: it was started later, or we
     * were too slow. What it knows of `to` may follow. As after changes: call client_watch_more. */
    void (*gap)(void *arg, uint64_t from, uint64_t to);
    /* All changes up to `zxid` have been handed over: at the start, behind each batch, and about once
     * a second while others change things. A stream that begins here misses nothing. May be NULL. */
    void (*told)(void *arg, uint64_t zxid);
    /* The watch has ended; only client_watch_end may follow. ERR_LIMIT: too many on this
     * connection; ERR_UNSUPPORTED: an old replica; ERR_MEMORY. May be NULL. */
    void (*failed)(void *arg, enum err err);
    void *arg;
};

/* Begins a watch; without a replica it waits for one. ERR_BAD_NAME, ERR_NAME_TOO_LONG, ERR_MEMORY:
 * nothing has begun. */
enum err client_watch(struct client *client, const struct client_watch_options *options,
                      struct client_watch **out);

/* The owner is ready for the next batch (about WATCH_BYTES_MAX at most). Needed before the first
 * one too. More than one call before a batch count as one. */
void client_watch_more(struct client_watch *watch);

/* Ends and frees it; no callback follows. Each watch is ended by its owner, before the client is
 * freed: at the latest between client_close and its `done`, in which no callback comes. */
void client_watch_end(struct client_watch *watch);

/* Up to where all changes have been handed over; 0: not known yet. */
uint64_t client_watch_zxid(const struct client_watch *watch);

#endif
