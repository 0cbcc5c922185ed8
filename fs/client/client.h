/* SPDX-License-Identifier: Apache-2.0
 *
 * The session of a program with the ensemble: finds a replica, opens a session (or none, for pure
 * reads), numbers writes, resends them after a reconnect with the same numbers, keeps deadlines,
 * renews the lease, delivers events in commit order.
 *
 * A client belongs to the ensemble of the first replica that it meets; those of another one are
 * passed over, and logged once.
 *
 * Everything on the thread of the loop given to client_new. Callbacks come from the loop, never
 * from within client_call.
 */
#ifndef QUORUMFS_CLIENT_H
#define QUORUMFS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "common/wire.h"

struct client;
struct call;

enum client_state {
    CLIENT_CONNECTING, /* no replica: trying them in turn */
    CLIENT_READY,      /* a replica answers; the session (if wanted) is attached */
    CLIENT_LOST,       /* the session has expired (CONSENSUS 27); a new one is being opened, then
                          CLIENT_READY with another session id */
};

struct client_options {
    const char *servers; /* "unix:/path,host:port,..." tried in this order, then again */
    const char *program; /* for the replica's status */
    bool session;        /* false: reads only */
    bool promises;       /* a mount: changes are pushed */
    uint32_t timeout_ms; /* of the session; 0: default */
    /* All may be NULL. `event`: a change, in commit order; valid during the callback. `state`: a
     * change of enum client_state or of the replica (after a reconnect the mount must reclaim its
     * promises: client_reclaim). */
    void (*event)(void *arg, const Wire__Event *event);
    void (*state)(void *arg, enum client_state state);
    void *arg;
};

/* ERR_INVALID (servers: `error` gets a sentence), ERR_MEMORY. Connecting starts when the loop
 * runs. */
enum err client_new(uv_loop_t *loop, const struct client_options *options, struct client **out,
                    struct buffer *error);

/* Closes the session politely (close entry, waits at most 1 s), ends all calls with ERR_CLOSED,
 * then calls `done` and frees. */
void client_close(struct client *client, void (*done)(void *arg), void *arg);

/* The one answer of a call. err: ERR_OK or the precise cause, from the replica or from here:
 *   ERR_NO_LEADER  no leader for the whole deadline and surely not applied (never sent, or the
 *                  cancel that followed it was applied first)
 *   ERR_TIMEOUT    the outcome is unknown (the session itself could not be asked)
 *   ERR_CANCELED   client_cancel, surely not applied
 *   ERR_SESSION_EXPIRED, ERR_CLOSED
 * answer: NULL unless err came with an answer; valid during the callback. */
typedef void client_answer_fn(void *arg, enum err err, const Wire__Answer *answer);

struct call_options {
    uint32_t timeout_ms; /* 0: wait for ever */
    client_answer_fn *done;
    void *arg;
};

/* Sends a request; `call`, `sequence`, `answered_below` and `zxid_seen` are filled in here (packed
 * at once: the caller's pointers are not kept). Writes need a session. Returns a handle that is
 * valid until `done`, or NULL (ERR_MEMORY, ERR_LIMIT in *out_err; done is not called).
 *
 * A write waits in order while there is no replica or the window is full; reads too. Once a write
 * has failed with ERR_NO_LEADER, further writes fail at once until a leader is seen (Pong,
 * Welcome), except those with timeout_ms 0. */
struct call *client_call(struct client *client, Wire__Request *request,
                         const struct call_options *options, enum err *out_err);

/* Gives up: unsent = done(ERR_CANCELED) on the next turn; sent write = a cancel command follows and
 * the call ends with its outcome (ERR_CANCELED or the stored answer); sent read = ERR_CANCELED. */
void client_cancel(struct client *client, struct call *call);

/* Tells the replica that the kernel dropped nodes. Batched: sent at the end of the loop turn. */
void client_forget(struct client *client, uint64_t ino, uint64_t grant);

/* Reclaims promises after a reconnect: (ino, newest zxid known) pairs; `done` when the replica has
 * answered all (its RESYNC events came before). err ERR_CLOSED: the connection broke again; the
 * state callback will tell, reclaim anew then. */
struct client_promise {
    uint64_t ino;
    uint64_t zxid;
};
enum err client_reclaim(struct client *client, const struct client_promise *promises, size_t count,
                        void (*done)(void *arg, enum err err), void *arg);

struct client_status {
    enum client_state state;
    uint64_t session;
    uint64_t epoch;
    uint64_t replica;
    uint64_t leader;       /* 0: the replica knows none */
    uint64_t zxid_seen;    /* newest state that was answered or pushed */
    uint64_t replica_zxid; /* what the replica has applied, from its last Pong */
    uint64_t reconnects;
    uint64_t file_bytes_max;
    bool lease_valid;        /* CONSENSUS 25, checked now */
    uint64_t stale_since_ms; /* CLOCK_BOOTTIME; 0: connected and a leader is known */
    const char *server;      /* the address in use, "" if none; valid until the next turn */
    bool trusted;
};
void client_status(const struct client *client, struct client_status *out);

#endif
