/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of fs/client share: client.c (life, timer, turn), attach.c (connection, session,
 * pings, lease), probe.c (search for a leader), call.c and giveup.c (requests), events.c (events,
 * forgets, reclaims), watch.c (streams of changes), link.c (bytes), servers.c (addresses). Nobody else includes this, but for the
 * tests.
 */
#ifndef QUORUMFS_CLIENT_INTERNAL_H
#define QUORUMFS_CLIENT_INTERNAL_H

#include "common/buffer.h"
#include "common/limits.h"
#include "fs/client/client.h"
#include "fs/client/link.h"
#include "fs/client/servers.h"

#define PROTOCOL_VERSION   1u
#define ENSEMBLE_ID_BYTES  16u
#define CALLS_MAX          16384u      /* calls that have not ended; above: ERR_LIMIT */
#define CALLS_BYTES_MAX    (64u * MIB) /* and the bytes of their requests */
#define CALL_BUCKETS       4096u       /* of the table by call number */
#define FORGETS_MAX        65536u      /* unsent forgets; above they are dropped (a leak there) */
#define NODES_PER_MESSAGE  1024u       /* nodes in one Forget or Reclaim */
#define RECLAIMS_IN_FLIGHT 4u          /* unanswered Reclaim messages */
#define PING_TIMES         64u         /* remembered send times of pings */

/* All waits of a client, in milliseconds. */
struct client_timers {
    uint32_t connect_ms;         /* from connect to Welcome */
    uint32_t open_ms;            /* from OpenSession to Opened, while a leader is known */
    uint32_t ping_ms;            /* between pings; also at most a sixth of the timeout */
    uint32_t ping_busy_ms;       /* while calls are unanswered: a frozen replica is seen sooner */
    uint32_t ping_leaderless_ms; /* while no leader is known: it tells when there is one */
    uint32_t pong_limit_ms;      /* silence after a ping: the replica is left (CONSENSUS 28) */
    uint32_t backoff_min_ms;     /* between two attempts, after each server had its turn */
    uint32_t backoff_max_ms;
    uint32_t probe_after_ms; /* without a leader for so long: ask the others */
    uint32_t probe_ms;       /* between two of these questions */
    uint32_t cancel_ms;      /* for the outcome of a cancel */
    uint32_t close_ms;       /* for the close of the session */
};

enum call_state {
    CALL_WAITING, /* unsent, no sequence; in waiting_reads or waiting_writes */
    CALL_SENT,    /* in sent_reads or sent_writes, and in the table */
    CALL_ENDING,  /* in `ending`, end_err is set; done is called in the next turn */
};

enum give_up {
    GIVE_UP_NOT,
    GIVE_UP_DEADLINE,
    GIVE_UP_CANCEL,
};

/* One request. */
struct call {
    struct call *prev; /* in exactly one list of the client */
    struct call *next;
    struct call *bucket_next;
    uint64_t id;
    uint64_t sequence;    /* writes: from the first send on */
    uint64_t deadline_ms; /* of the loop's clock; UINT64_MAX: none */
    enum call_state state;
    enum give_up give_up; /* sent writes: `cancel` follows or has been answered */
    struct call *cancel;  /* of a write that is given up */
    struct call *target;  /* of a cancel: its write */
    enum err end_err;
    bool write;
    struct buffer frame;    /* the ToReplica as it was or will be sent */
    client_answer_fn *done; /* NULL: a cancel, or its caller was told, but its sequence lives */
    void *arg;
};

/* How far the connection is.
 *
 *      +------> IDLE ---> CONNECTING ---> WELCOMED ---> OPENING ---> OPENED
 *      |         ^            |            | ^             |            |
 *      |         +------------+------------+ +-------------+            |
 *      +----------------------------------------------------------------+
 *
 * IDLE: no link; the next attempt is at retry_ms. CONNECTING: the link is being made or the hello
 * is unanswered, until deadline_ms. WELCOMED: reads can be sent; the last phase without a session,
 * and with one while no leader is known. OPENING: OpenSession is sent; back to WELCOMED when the
 * session has expired. OPENED: attached. Each phase falls back to IDLE when the link ends. */
enum phase {
    PHASE_IDLE,
    PHASE_CONNECTING,
    PHASE_WELCOMED,
    PHASE_OPENING,
    PHASE_OPENED,
};

/* Promises that are being reclaimed. */
struct reclaim {
    struct client_promise *promises; /* owned */
    size_t count;
    size_t sent;
    size_t unanswered; /* messages */
    bool active;
    void (*done)(void *arg, enum err err);
    void *arg;
};

/* Invariants:
 *   1. sent_writes is ordered by sequence, without gaps up to next_sequence except for what was
 *      answered; so its head gives answered_below.
 *   2. next_sequence <= answered_below + SESSION_WINDOW: the slot of a new write is free. No more
 *      than WRITES_IN_FLIGHT_MAX of them are no cancels, so a cancel can always be sent.
 *   3. A sequence is given out at the first send only, so that a held write that fails leaves no
 *      gap; it ends with an answer only, even if its caller was told ERR_TIMEOUT long before.
 *   4. lease_until_ms grows only while it lies in the future, except by an attach (CONSENSUS 25).
 */
struct client {
    uv_loop_t *loop;
    struct client_options options; /* servers: NULL; program: owned */
    struct servers servers;
    struct client_timers timers;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;    /* active while `ending` waits for the next turn */
    uint64_t timer_ms; /* when the timer fires; UINT64_MAX: stopped */
    size_t handles;    /* handles and links not yet closed */
    enum client_state state;

    /* Connection. */
    enum phase phase;
    struct link *link;
    size_t server; /* of the link, or the next one to try */
    size_t failures;
    uint64_t retry_ms;
    uint64_t deadline_ms;
    struct link *probe; /* asks another server for a leader while our replica knows none */
    size_t probe_server;
    uint64_t probe_next_ms;
    uint64_t leaderless_ms; /* since when; 0: a leader is known */
    uint64_t replica;
    uint64_t leader;
    uint64_t replica_zxid;
    uint64_t file_bytes_max;
    uint8_t
        ensemble[ENSEMBLE_ID_BYTES]; /* of the first replica; another one is never attached to */
    bool has_ensemble;
    bool stranger_told; /* a replica of another one was met, and that was logged */
    uint64_t reconnects;
    uint64_t stale_since_ms;
    bool trusted;

    /* Pings of this link. */
    uint64_t last_ping;
    uint64_t confirmed_ping;
    uint64_t ping_last_ms;
    uint64_t silent_since_ms; /* a ping is unanswered, and nothing came since; 0: none is */
    uint64_t ping_boot_ms[PING_TIMES];

    /* Session. */
    uint64_t session;
    uint64_t epoch;
    uint32_t timeout_ms;
    uint8_t password[PASSWORD_BYTES];
    uint64_t open_boot_ms; /* send time of OpenSession */
    uint64_t lease_until_ms;
    uint64_t zxid_seen;

    /* Calls. */
    struct call *waiting_reads;
    struct call *waiting_writes;
    struct call *sent_reads;
    struct call *sent_writes;
    struct call *ending;
    struct call *bucket[CALL_BUCKETS];
    uint64_t last_call;
    uint64_t next_sequence;
    uint64_t calls_wake_ms; /* not later than the earliest deadline */
    size_t call_count;
    size_t call_bytes;
    bool no_leader_failed; /* a write has failed with ERR_NO_LEADER; cleared by a leader */

    /* Events. */
    Wire__Forget__One *forgets;
    size_t forget_count;
    size_t forget_capacity;
    uint64_t last_batch;
    struct reclaim reclaim;

    /* Watches. */
    struct client_watch *watches;
    uint64_t last_watch;
    bool watches_known; /* to the replica of this link */

    /* The end. */
    bool closing;
    bool torn_down;
    uint64_t close_call; /* waits for the answer to SessionCloseOp; 0: for nothing */
    uint64_t close_ms;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- client.c ---- */

/* Replaces the waits; for tests, before the loop runs. */
void client_set_timers(struct client *client, const struct client_timers *timers);

/* Closes all handles; frees the client when they are closed. Called again for each. */
void client_tear_down(struct client *client);

/* Tells the owner. The owner may call anything of client.h. */
void client_tell_state(struct client *client, enum client_state state);

/* ---- attach.c ---- */
extern const struct link_events attach_link_events;

/* Does what is due. */
void attach_tick(struct client *client, uint64_t now_ms);
/* When attach_tick is due next. */
uint64_t attach_due_ms(const struct client *client);
/* This process stood still: silence in that time was ours. */
void attach_shift(struct client *client, uint64_t gap_ms);
/* Leaves the replica; goes to the next server, or tries the same one again. */
void attach_lost(struct client *client, const char *reason, bool same_server);
/* The ensemble says that the session is gone. */
void attach_expired(struct client *client);
void attach_stop(struct client *client);
/* Whether the replica that sent it is one of ours; the first one's ensemble is. */
bool attach_is_ours(struct client *client, size_t server, const Wire__Welcome *welcome);
/* Moves to a link on which `welcome` has just come. */
void attach_adopt(struct client *client, struct link *link, size_t server,
                  const Wire__Welcome *welcome);

/* ---- probe.c ---- */
bool probe_is_wanted(const struct client *client);
void probe_message(struct client *client, const Wire__ToClient *message);
void probe_tick(struct client *client, uint64_t now_ms);
void probe_close(struct client *client);

/* ---- call.c ---- */
bool calls_reads_flow(const struct client *client);
bool calls_writes_flow(const struct client *client);
void calls_answer(struct client *client, Wire__Answer *answer);
/* Sends what waits, as far as it may be sent. */
void calls_pump(struct client *client);
/* The session is attached: unanswered writes go out again, in order, with their numbers. */
void calls_resend(struct client *client);
/* The link is gone: sent reads wait again. */
void calls_detached(struct client *client);
/* Ends all writes with ERR_SESSION_EXPIRED; numbering starts anew. */
void calls_expired(struct client *client);
void calls_end_all(struct client *client, enum err err);
/* Calls done for what was in `ending` at the start. */
void calls_drain(struct client *client);

/* ---- giveup.c ---- */

/* Looks at all deadlines. */
void calls_expire(struct client *client, uint64_t now_ms);

/* ---- events.c ---- */
void events_event(struct client *client, const Wire__Event *event);
void events_reclaimed(struct client *client, const Wire__Reclaimed *reclaimed);
void events_detached(struct client *client);
/* Sends forgets and the next part of a reclaim. */
void events_pump(struct client *client);
void events_done(struct client *client);

/* ---- watch.c ---- */
void watches_changes(struct client *client, const Wire__WatchChanges *message);
/* The link is gone. */
void watches_detached(struct client *client);
/* Sends what the replica of this link has not been asked. */
void watches_pump(struct client *client);

#endif
