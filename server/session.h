/* SPDX-License-Identifier: Apache-2.0
 *
 * The sessions as one replica sees them beside the rows in the tree: which connection holds one
 * here, who was heard of lately, and (on the leader) when each expires. CONSENSUS 22-25. Thread of
 * the loop.
 */
#ifndef QUORUMFS_SERVER_SESSION_H
#define QUORUMFS_SERVER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "server/replica.h"

/* One session of the ensemble. Lives from its open entry to its close entry. */
struct session {
    uint64_t id;
    uint64_t epoch;
    uint32_t timeout_ms;
    uint64_t deadline_ms;    /* leader: expires then */
    uint64_t close_asked_ms; /* leader: its close was proposed then; 0: not */
    struct client *client;   /* attached here with this epoch, or NULL */
    uint64_t attachment;     /* number of that attachment: pings count from 1 in each */
    uint64_t ping;           /* newest ping of that client */
    bool touched;            /* heard of since the last batch */
};

struct sessions;

struct sessions *sessions_new(void); /* NULL: no memory */
void sessions_free(struct sessions *sessions);

/* A session was opened or attached to (apply, or found in the tree at start). ERR_MEMORY. The
 * deadline starts at now + timeout. */
enum err sessions_set(struct sessions *sessions, uint64_t id, uint64_t epoch, uint32_t timeout_ms,
                      uint64_t now_ms);

/* NULL: unknown. The pointer is valid until sessions_remove of this id. */
struct session *sessions_find(struct sessions *sessions, uint64_t id);
void sessions_remove(struct sessions *sessions, uint64_t id);
size_t sessions_count(const struct sessions *sessions);

/* The client of this session was heard of. */
void session_touch(struct sessions *sessions, struct session *session);

/* Takes the sessions touched since the last call as a new batch: copies up to `max` ids, returns
 * how many and the batch number in *out_batch; 0: none. The batch is remembered with the pings of
 * that moment until it is confirmed or 64 younger ones exist. */
size_t sessions_take_batch(struct sessions *sessions, uint64_t *ids, size_t max,
                           uint64_t *out_batch);

/* The leader has confirmed itself after that batch reached it: calls each() with every session of
 * the batch that is still attached here as it was then, and the ping that is confirmed. */
void sessions_confirm_batch(struct sessions *sessions, uint64_t number,
                            void (*each)(void *arg, struct session *session, uint64_t ping),
                            void *arg);

/* Leader: extends the deadline of a session. False: it is unknown or its close was proposed; its
 * client must not be told that the leader has heard of it. */
bool sessions_extend(struct sessions *sessions, uint64_t id, uint64_t now_ms);

/* Leader: every session gets its full timeout from now (CONSENSUS 23). */
void sessions_extend_all(struct sessions *sessions, uint64_t now_ms);

/* Leader: this process stood still; all deadlines move by the gap (CONSENSUS 22). */
void sessions_shift(struct sessions *sessions, uint64_t gap_ms);

/* Leader: calls each() for sessions whose deadline has passed and whose close was not asked for in
 * the last second; each() returns whether the close was proposed: they are marked. */
void sessions_expired(struct sessions *sessions, uint64_t now_ms,
                      bool (*each)(void *arg, struct session *session), void *arg);

#endif
